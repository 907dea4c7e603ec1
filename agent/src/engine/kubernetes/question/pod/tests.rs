use super::*;
use crate::engine::kubernetes::pod::tests::{bot, keys, template, texts};
use contract::Secret as Hidden;
use proptest::prelude::*;
use serde_json::{Value, json};

const LEFT: Duration = Duration::from_millis(29_500);

fn question(params: &Value) -> Question {
    Question {
        bot: "abc".to_owned(),
        path: "/a-hidden-path".to_owned(),
        params: params.as_object().unwrap().clone().into(),
        timeout: Duration::from_secs(30),
    }
}

fn asked() -> Asked {
    Asked {
        name: "default-query-abc-00000000000000ff".to_owned(),
        key: "abc/7-00000000000000ff/result.json".parse().unwrap(),
        holder: "agent".to_owned(),
        until: 1_000,
    }
}

fn made(config: &Value, params: &Value) -> Pod {
    let (bot, question) = (bot(config, Some("query.py")), question(params));
    pod(&bot, &template(&[]), &question, &asked(), LEFT).unwrap()
}

#[test]
fn the_pod_is_the_one_promised() {
    let pod = made(
        &json!({"memory_limit": "128Mi", "cpu_request": "250m"}),
        &json!({}),
    );
    let mut shown = serde_json::to_value(pod).unwrap();
    shown["metadata"]["annotations"][names::MADE_BY] = "VERSION".into();
    let text = serde_json::to_string_pretty(&shown).unwrap() + "\n";
    let path = format!("{}/golden/pod-query.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn it_is_no_bots_pod_and_is_named_anew_each_time() {
    let template = template(&[]);
    let stack = &template.stack;
    let made = made(&json!({}), &json!({}));
    assert_eq!(names::bot_of(stack, &made.metadata), None);
    let labels = made.metadata.labels.unwrap();
    assert_eq!(labels[names::TYPE], "query");
    let bot = bot(&json!({}), Some("query.py"));
    let now = UNIX_EPOCH + Duration::from_secs(7);
    let new = || Asked::new(stack, &bot, "me", now, LEFT).unwrap();
    let (one, other) = (new(), new());
    assert_ne!((&one.name, &one.key), (&other.name, &other.key));
    assert!(one.key.as_str().starts_with("abc/7000000000-"), "{one:?}");
    let digits = one.name.strip_prefix("default-query-abc-").unwrap();
    assert!(digits.len() == 16, "{one:?}");
    assert_eq!(one.until, 37, "rounded up");
}

#[test]
fn a_question_that_no_variable_holds_is_refused_before_a_pod_is_made() {
    let large = json!({"x": "y".repeat(200_000)});
    let (bot, question) = (bot(&json!({}), Some("query.py")), question(&large));
    let refused = pod(&bot, &template(&[]), &question, &asked(), LEFT);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("QUERY_PARAM"), "{text}");
}

/// The entry with keys that a container has, whether it is told of the bot, and what it may write.
fn has(spec: &PodSpec, container: &Container) -> (Option<String>, bool, Vec<String>) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let secret = mounts.iter().find_map(|mount| {
        let volume = volumes.iter().find(|it| it.name == mount.name)?;
        let items = volume.secret.as_ref()?.items.as_ref()?;
        let keys = items.iter().find(|item| item.path == secret::KEYS)?;
        Some(keys.key.clone())
    });
    let told = container.env.iter().flatten();
    let is_told = told.clone().any(|variable| variable.value_from.is_some());
    let writes = mounts.iter().filter(|mount| mount.read_only != Some(true));
    (
        secret,
        is_told,
        writes.map(|mount| mount.mount_path.clone()).collect(),
    )
}

#[test]
fn who_runs_what_is_the_bots_has_no_keys_and_each_has_only_its_own() {
    let spec = made(&json!({}), &json!({})).spec.unwrap();
    let inits = spec.init_containers.iter().flatten();
    let all: Vec<_> = inits.chain(&spec.containers).collect();
    let told = all.iter().map(|it| (it.name.as_str(), has(&spec, it)));
    let folders = |of: &[&str]| of.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
    let entry = |name: &str| Some(name.to_owned());
    let expected = [
        (
            "fetch",
            (
                entry("read.json"),
                false,
                folders(&["/bot", "/state", "/var/the0"]),
            ),
        ),
        ("ask", (None, true, folders(&["/tmp", "/query"]))),
        ("send", (entry("send.json"), false, vec![])),
    ];
    assert!(told.eq(expected), "{spec:#?}");
    let store = |it: &&Container| {
        let mut told = it.env.iter().flatten();
        told.any(|variable| variable.name.starts_with("MINIO"))
    };
    let store: Vec<_> = all.iter().map(store).collect();
    assert_eq!(store, [true, false, true]);
}

proptest! {
    #[test]
    fn no_parameter_and_no_key_is_in_the_pod(
        secret in "[A-Za-z0-9]{12,40}", name in "[a-z_]{12}", asks in "[A-Za-z0-9]{12,40}",
    ) {
        let config = json!({"deep": [{"er": secret}], &name: secret});
        let params = json!({&name: asks, "n": [asks]});
        let mut found = Vec::new();
        texts(&serde_json::to_value(made(&config, &params)).unwrap(), &mut found);
        let keys = keys();
        let hidden = keys.values().map(Hidden::reveal);
        for hidden in hidden.chain([&*secret, &*name, &*asks, "a-hidden-path"]) {
            prop_assert!(found.iter().all(|text| !text.contains(hidden)), "{}", hidden);
        }
        let (bot, question) = (bot(&config, Some("query.py")), question(&params));
        let made = super::secret(&bot, &template(&[]), &question, &asked(), [&keys, &keys]);
        let entry = |name: &str| String::from_utf8(made.data.as_ref().unwrap()[name].0.clone()).unwrap();
        prop_assert_eq!(entry("config"), bot.config.reveal());
        prop_assert_eq!(entry("path"), "/a-hidden-path");
        prop_assert_eq!(entry("params"), question.params.to_body());
        prop_assert!(entry("send.json").contains("secret-key-of-a-test"));
    }
}
