//! Whom bots hear and what they reach, by the rules that a network plugin would go by.

use std::net::IpAddr;

use serde_json::{Value, json};
use tests::text;

use super::rendered::{self, Helm, all, kind, list};

/// Where clouds hand out credentials of their machines.
const METADATA: [&str; 8] = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fe80::a9fe:a9fe",
    "fd00:ec2::254",
    "fd20:ce::254",
];

fn number(address: &str) -> (bool, u128) {
    match address.parse().expect("an address") {
        IpAddr::V4(v4) => (false, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) => (true, u128::from(v6)),
    }
}

fn contains(network: &str, address: &str) -> bool {
    let (base, length) = network.split_once('/').expect("a network");
    let ((is_v6, base), (is_v6_too, address)) = (number(base), number(address));
    let length: u32 = length.parse().expect("a length");
    let differing = (base ^ address).leading_zeros();
    is_v6 == is_v6_too && differing >= length
}

/// Whether one of these peers is a network with this address.
fn is_in(peers: &Value, address: &str) -> bool {
    let within = |cidr: &Value| cidr.as_str().is_some_and(|cidr| contains(cidr, address));
    list(peers).iter().any(|peer| {
        let block = &peer["ipBlock"];
        within(&block["cidr"]) && !list(&block["except"]).iter().any(within)
    })
}

/// Whether bots reach this address at every port.
fn reaches(policy: &Value, address: &str) -> bool {
    let rules = list(&policy["spec"]["egress"]);
    rules
        .iter()
        .any(|rule| rule["ports"].is_null() && is_in(&rule["to"], address))
}

/// The policies of bots and of controllers.
fn policies(made: &str) -> (Value, Value) {
    let made = all(made).into_iter();
    let mut found: Vec<Value> = made
        .filter(|object| kind(object) == "NetworkPolicy")
        .collect();
    assert_eq!(found.len(), 2);
    let controllers = found.remove(1);
    (found.remove(0), controllers)
}

fn with(helm: &Helm, values: &str) -> (Value, Value) {
    let output = helm.with(values);
    assert!(
        output.status.success(),
        "{values}: {}",
        text(&output.stderr)
    );
    policies(&text(&output.stdout))
}

#[test]
fn bots_reach_the_world_and_neither_the_cluster_nor_credentials_of_its_machines() {
    let Some(helm) =
        Helm::found("bots_reach_the_world_and_neither_the_cluster_nor_credentials_of_its_machines")
    else {
        return;
    };
    let (bots, _) = with(&helm, "");
    for there in ["1.1.1.1", "172.15.0.1", "172.32.0.1", "2001:db8::1"] {
        assert!(reaches(&bots, there), "{there}");
    }
    for not in [
        "10.96.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fd12::1",
    ] {
        assert!(!reaches(&bots, not), "{not}");
    }
    let wide = "networkPolicies: {bots: {deny: [], allow: [128.0.0.0/1, 100.64.0.0/10, 168.0.0.0/8, 'fd00:1::/48']}}";
    for values in ["", "networkPolicies: {bots: {deny: []}}", wide] {
        let (bots, _) = with(&helm, values);
        for address in METADATA {
            assert!(!reaches(&bots, address), "{values}: {address}");
        }
    }
    assert!(reaches(&with(&helm, wide).0, "100.64.0.1"));
    for bad in [
        "169.254.169.254/32",
        "169.254.0.0/17",
        "100.100.100.200/32",
        "fd00:ec2::/48",
        "fd00:0EC2::1/128",
        "fc00::/7",
        "fe80::1/128",
    ] {
        let output = helm.with(&format!("networkPolicies: {{bots: {{allow: ['{bad}']}}}}"));
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains("credentials"),
            "{bad}: {said}"
        );
    }
}

#[test]
fn bots_hear_the_controllers_alone() {
    let Some(helm) = Helm::found("bots_hear_the_controllers_alone") else {
        return;
    };
    let made = helm.set("everything");
    let (bots, _) = policies(&made);
    assert_eq!(bots["metadata"]["namespace"], "bots");
    let labels = json!({"the0.app/managed-by": "the0-agent", "the0.app/stack": "prod"});
    assert_eq!(bots["spec"]["podSelector"]["matchLabels"], labels);
    assert_eq!(bots["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    let objects = all(&made);
    let controller = &rendered::of_kind(&objects, "Deployment")["spec"]["selector"]["matchLabels"];
    let from = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "trading"}},
        "podSelector": {"matchLabels": controller},
    }]);
    let ingress = json!([{"from": from, "ports": [{"protocol": "TCP", "port": 9476}]}]);
    assert_eq!(bots["spec"]["ingress"], ingress);
}

#[test]
fn the_store_is_reached_at_its_port_where_it_is_named() {
    let Some(helm) = Helm::found("the_store_is_reached_at_its_port_where_it_is_named") else {
        return;
    };
    let minio = "{podSelector: {matchLabels: {app: minio}}}";
    let (bots, _) = with(
        &helm,
        &format!("networkPolicies: {{bots: {{store: [{minio}], storePort: 443}}}}"),
    );
    let rule = json!({
        "to": [{"podSelector": {"matchLabels": {"app": "minio"}}}],
        "ports": [{"protocol": "TCP", "port": 443}],
    });
    assert_eq!(list(&bots["spec"]["egress"])[1], rule);
}

#[test]
fn controllers_hear_whom_the_operator_names_and_nobody_else() {
    let Some(helm) = Helm::found("controllers_hear_whom_the_operator_names_and_nobody_else") else {
        return;
    };
    let (_, nobody) = with(&helm, "");
    assert_eq!(nobody["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(nobody["spec"]["ingress"], json!([]));
    let (_, named) = policies(&helm.set("everything"));
    let rules = list(&named["spec"]["ingress"]).iter();
    let ports: Vec<_> = rules
        .clone()
        .map(|rule| rule["ports"][0]["port"].clone())
        .collect();
    assert_eq!(ports, [json!(9477), json!(8080), json!(9478)]);
    assert!(rules.clone().all(|rule| !list(&rule["from"]).is_empty()));
}
