//! Values that are refused, with words that say which and why.

use tests::text;

use super::rendered::Helm;

/// Values, and what is said of them.
const BAD: [(&str, &str); 39] = [
    (
        "replicas: two",
        "replicas: Invalid type. Expected: integer, given: string",
    ),
    ("replicas: 11", "replicas: Must be less than or equal to 10"),
    ("replcas: 2", "Additional property replcas is not allowed"),
    (
        "gateway: {on_: true}",
        "gateway: Additional property on_ is not allowed",
    ),
    (
        "existingSecret: ''",
        "existingSecret: String length must be greater than or equal to 1",
    ),
    (
        "existingSecret: A_b",
        "existingSecret: Does not match pattern",
    ),
    ("stack: My.Stack", "stack: Does not match pattern"),
    ("stack: -a", "stack: Does not match pattern"),
    ("user: 0", "user: Must be greater than or equal to 1"),
    (
        "reconcileInterval: 30",
        "reconcileInterval: Invalid type. Expected: string",
    ),
    (
        "reconcileInterval: soon",
        "reconcileInterval: Does not match pattern",
    ),
    (
        "terminationGracePeriodSeconds: 10",
        "Must be greater than or equal to 45",
    ),
    (
        "log: {level: loud}",
        "log.level: log.level must be one of the following: \"debug\"",
    ),
    (
        "images: {pullPolicy: Sometimes}",
        "images.pullPolicy must be one of",
    ),
    (
        "images: {bots: 'host/{language}'}",
        "images.bots: Does not match pattern",
    ),
    ("readiness: /ready", "readiness must be one of"),
    ("dataSize: lots", "dataSize: Does not match pattern"),
    (
        "bots: {namespace: My_Bots}",
        "bots.namespace: Does not match pattern",
    ),
    (
        "bots: {pod: {hostNetwork: true}}",
        "Additional property hostNetwork is not allowed",
    ),
    (
        "bots: {pod: {containers: []}}",
        "Additional property containers is not allowed",
    ),
    (
        "networkPolicies: {bots: {deny: [0.0.0.0/0]}}",
        "networkPolicies.bots.deny.0",
    ),
    (
        "networkPolicies: {bots: {allow: [10.0.0.1]}}",
        "networkPolicies.bots.allow.0",
    ),
    (
        "networkPolicies: {controller: {gatewayFrom: [{}]}}",
        "Must have at least 1 properties",
    ),
    (
        "env: {MINIO_SECRET_KEY: hush}",
        "env.MINIO_SECRET_KEY: it may hold a credential",
    ),
    (
        "env: {MONGO_URI: 'mongodb://me:hush@host'}",
        "put it into the Secret the0 (existingSecret)",
    ),
    (
        "extraEnv: [{name: MINIO_ACCESS_KEY, value: hush}]",
        "give it by valueFrom.secretKeyRef",
    ),
    (
        "env: {THE0_DATA: /elsewhere}",
        "THE0_DATA is set by the chart: use dataSize",
    ),
    (
        "extraEnv: [{name: THE0_STACK, value: s}]",
        "THE0_STACK is set by the chart: use stack",
    ),
    (
        "env: {A: b}\nextraEnv: [{name: A, value: c}]",
        "a variable is given twice",
    ),
    ("ca: {existingSecret: a, existingConfigMap: b}", "not both"),
    (
        "api: {enabled: true}",
        "name a Secret of tokens in api.tokens.existingSecret",
    ),
    (
        "bots: {createNamespace: true}",
        "name another namespace than the release's",
    ),
    (
        "bots: {quota: {pods: '5'}}",
        "would keep the controllers out of their own namespace",
    ),
    (
        "service: {type: LoadBalancer}",
        "service.type LoadBalancer: whoever reaches it could ask every bot",
    ),
    (
        "service: {type: NodePort}\ngateway: {enabled: false}",
        "it would lead to nothing: enable gateway or api",
    ),
    ("lingerSeconds: 30", "give it 40 s more than lingerSeconds"),
    (
        "metrics: {serviceMonitor: {enabled: true}}",
        "Prometheus reaches nothing",
    ),
    (
        "serviceAccount: {create: false}",
        "serviceAccount.name: name the ServiceAccount",
    ),
    (
        "networkPolicies: {bots: {store: [{ipBlock: {cidr: 169.254.169.254/32}}]}}",
        "networkPolicies.bots.store: at 169.254.169.254/32 clouds hand out credentials",
    ),
];

#[test]
fn values_that_cannot_be_used_are_named_with_what_can() {
    let Some(helm) = Helm::found("values_that_cannot_be_used_are_named_with_what_can") else {
        return;
    };
    for (values, wanted) in BAD {
        let output = helm.with(values);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "taken: {values}");
        assert!(said.contains(wanted), "{values}: {said}");
        assert!(
            output.stdout.is_empty() && !said.contains("hush"),
            "{values}: {said}"
        );
    }
}

#[test]
fn addresses_without_credentials_are_taken() {
    let Some(helm) = Helm::found("addresses_without_credentials_are_taken") else {
        return;
    };
    let output = helm.with(
        "env: {MONGO_URI: 'mongodb://mongo:27017/?w=majority', NATS_URL: 'nats://nats:4222'}",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("mongodb://mongo:27017/?w=majority"));
}
