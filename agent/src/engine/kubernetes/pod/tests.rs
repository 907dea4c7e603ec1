use super::super::template::Files;
use super::*;
use crate::history::cause::Cause;
use crate::schedule::ledger::Key;
use contract::Secret as Hidden;
use contract::launch::{Keys, Variables};
use proptest::prelude::*;
use serde_json::{Value, json};

fn given(pairs: &[(&str, &str)]) -> Variables {
    let pairs = pairs.iter();
    pairs.map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

pub fn template(settings: &[(&str, &str)]) -> Template {
    placed(settings, "tolerations: [{key: bots, operator: Exists}]")
}

fn placed(settings: &[(&str, &str)], place: &str) -> Template {
    let environment = given(&[("THE0_GRACE", "5s")]);
    let store = given(&[("MINIO_ENDPOINT", "gateway:9000")]);
    let files = Files {
        place: Some(place.to_owned()),
        ca: Some("AUTHORITY".to_owned()),
    };
    Template::parse(&given(settings), environment, store, files).unwrap()
}

pub fn bot(config: &Value, query: Option<&str>) -> Bot {
    let mut entrypoints = json!({"bot": "main.py"});
    if let Some(query) = query {
        entrypoints["query"] = query.into();
    }
    let document = json!({
        "id": "abc", "config": config,
        "custom": {"version": "1.0.0", "filePath": "u/b/1.0.0", "config": {
            "name": "b", "type": "realtime", "runtime": "python3.11", "version": "1.0.0",
            "entrypoints": entrypoints}}
    });
    Bot::from_document(&document).unwrap()
}

fn usual() -> Bot {
    let config = json!({"api_key": "hunter2", "customBotId": "my bot", "memory_limit": "128Mi", "cpu_request": "250m"});
    bot(&config, Some("query.py"))
}

fn start(tick: Option<Key>) -> Start {
    Start {
        cause: Cause::Crashed,
        because: Some("exit 1".into()),
        at: std::time::UNIX_EPOCH.into(),
        tick,
    }
}

pub fn keys() -> Keys {
    let pairs = [
        ("MINIO_ACCESS_KEY", "access-key-of-a-test"),
        ("MINIO_SECRET_KEY", "secret-key-of-a-test"),
    ];
    pairs.map(|(n, v)| (n.to_owned(), Hidden::new(v))).into()
}

fn check(golden: &str, pod: &Pod) {
    let mut shown = serde_json::to_value(pod).unwrap();
    shown["metadata"]["annotations"][names::MADE_BY] = "VERSION".into();
    is_as_promised(golden, &shown);
}

pub fn is_as_promised(golden: &str, shown: &Value) {
    let text = serde_json::to_string_pretty(shown).unwrap() + "\n";
    let path = format!("{}/golden/{golden}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn the_pod_is_the_one_promised() {
    let plain = bot(&json!({}), None);
    check(
        "pod.json",
        &pod(&plain, &template(&[]), &start(None)).unwrap(),
    );
    let asked = pod(&usual(), &template(&[]), &start(None)).unwrap();
    check("pod-with-query.json", &asked);
}

#[test]
fn a_pod_is_where_and_as_the_operator_says() {
    let place = json!({
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}]}},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["store"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.2"]},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "bots"},
        "priorityClassName": "bots",
        "runtimeClassName": "gvisor",
        "schedulerName": "mine",
        "serviceAccountName": "bots",
        "tolerations": [{"key": "bots", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    });
    let template = placed(&[], &place.to_string());
    let made = pod(&bot(&json!({}), None), &template, &start(None)).unwrap();
    let spec = serde_json::to_value(made.spec).unwrap();
    for (name, value) in place.as_object().unwrap() {
        assert_eq!(spec[name], *value, "{name}");
    }
}

#[test]
fn the_pod_of_a_tick_runs_once_and_waits_for_its_permit() {
    let mut bot = usual();
    bot.definition.kind = BotType::Scheduled;
    let tick = Key { at: 60, attempt: 2 };
    let made = pod(&bot, &template(&[]), &start(Some(tick))).unwrap();
    check("pod-of-a-tick.json", &made);
    let spec = made.spec.unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    assert_eq!(spec.scheduling_gates.unwrap()[0].name, names::PERMIT);
    let names: Vec<String> = spec
        .init_containers
        .unwrap()
        .into_iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(
        names,
        ["fetch", "sync"],
        "who runs at times is not asked while it does"
    );
}

#[test]
fn a_bot_that_asks_for_more_than_there_is_is_refused() {
    let more = bot(&json!({"memory_limit": "2Gi"}), None);
    let refused = pod(
        &more,
        &template(&[("THE0_MAX_MEMORY", "1Gi")]),
        &start(None),
    );
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("config.memory_limit asks for 2Gi"), "{text}");
}

#[test]
fn what_the_agent_finds_is_what_it_has_made() {
    let bot = usual();
    let start = start(None);
    let template = template(&[]);
    let made = pod(&bot, &template, &start).unwrap();
    let seen = super::super::seen::Seen::of(&template.stack, &made).unwrap();
    assert_eq!(
        (&seen.bot, seen.birth.start.clone()),
        (&bot.id, start.clone())
    );
    assert_eq!(seen.launch, launch::digest(&bot).as_str());
    assert_eq!(
        seen.secrets.unwrap(),
        secret::names(&bot, &template, &start)
    );
    assert_eq!(seen.code, Some(bot.code.clone()));
}

#[test]
fn another_start_has_other_secrets() {
    let (bot, template) = (usual(), template(&[]));
    let named = |bot: &Bot, start: &Start| secret::names(bot, &template, start);
    let first = named(&bot, &start(None));
    let mut changed = bot.clone();
    changed.config = Hidden::new("{}");
    assert_ne!(first, named(&changed, &start(None)));
    assert_ne!(first, named(&bot, &Start::now(Cause::Created, None)));
    assert_eq!(first, named(&bot, &start(None)));
}

/// All texts of a value, names of fields left out.
pub fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_parameter_and_no_key_is_in_a_pod(
        secret in "[A-Za-z0-9]{12,40}", name in "[a-z_]{12}", query: bool, at in 0..2_000_000_000_i64,
    ) {
        let mut config = json!({"deep": [{"er": secret}]});
        config[&name] = Value::from(secret.clone());
        let bot = bot(&config, query.then_some("query.py"));
        let start = start((at % 2 == 0).then_some(Key { at, attempt: 1 }));
        let template = template(&[]);
        let made = serde_json::to_value(pod(&bot, &template, &start).unwrap()).unwrap();
        let mut found = Vec::new();
        texts(&made, &mut found);
        let keys = keys();
        let hidden = keys.values().map(Hidden::reveal).chain([secret.as_str(), name.as_str(), "a-token"]);
        for hidden in hidden {
            prop_assert!(found.iter().all(|text| !text.contains(hidden)), "{}", hidden);
        }
        let token = Hidden::new("a-token");
        let [config, keys] = secret::secrets(&bot, &template, &start, &keys, Some(&token));
        let entries = |secret: &k8s_openapi::api::core::v1::Secret| {
            let data = secret.data.clone().unwrap();
            data.into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes.0).unwrap())).collect::<Vec<_>>()
        };
        let config = entries(&config);
        prop_assert_eq!(&config[0], &("config".to_owned(), bot.config.reveal().to_owned()));
        prop_assert_eq!(&config[1], &("token".to_owned(), "a-token".to_owned()));
        let keys = entries(&keys);
        prop_assert!(keys.iter().all(|(_, text)| !text.contains(&secret)));
        prop_assert!(keys.iter().any(|(name, text)| name == "keys.json" && text.contains("secret-key-of-a-test")));
    }
}

#[test]
fn who_has_keys_has_no_parameters_and_who_has_parameters_no_keys() {
    let made = pod(&usual(), &template(&[]), &start(None)).unwrap();
    let spec = made.spec.unwrap();
    let all = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    for container in all {
        let mounts = container.volume_mounts.iter().flatten();
        let keys = mounts.clone().any(|mount| mount.name == "keys");
        let from_secret = |env: &k8s_openapi::api::core::v1::EnvVar| env.value_from.is_some();
        let told = container.env.iter().flatten().any(from_secret);
        let has = (keys, told);
        let expected = match container.name.as_str() {
            "fetch" | "sync" => (true, false),
            _ => (false, true),
        };
        assert_eq!(has, expected, "{}", container.name);
        let store = container
            .env
            .iter()
            .flatten()
            .any(|env| env.name.starts_with("MINIO"));
        assert_eq!(store, keys, "{}", container.name);
    }
}
