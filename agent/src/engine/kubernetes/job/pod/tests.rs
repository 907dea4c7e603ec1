use super::*;
use crate::engine::kubernetes::pod::tests::{bot, keys, template};
use serde_json::{Value, json};

const TERMS: Terms = Terms {
    time: Duration::from_hours(1),
    most: 1024,
};

fn job() -> Bot {
    let config = json!({"api_key": "hunter2", "memory_limit": "128Mi"});
    let mut job = bot(&config, None);
    job.definition.kind = contract::BotType::Scheduled;
    job
}

#[test]
fn the_pod_of_a_job_is_the_one_promised() {
    let made = pod(&job(), &template(&[]), TERMS, "a-secret").unwrap();
    let mut shown = serde_json::to_value(&made).unwrap();
    shown["metadata"]["annotations"][names::MADE_BY] = "VERSION".into();
    let text = serde_json::to_string_pretty(&shown).unwrap() + "\n";
    let path = format!("{}/golden/pod-of-a-job.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
    assert!(!text.contains("hunter2"));
    assert_eq!(
        names::whose_job(&template(&[]).stack, &made.metadata),
        Some(job().id)
    );
}

#[test]
fn its_secret_goes_with_it_and_what_it_is_told_is_there_alone() {
    let (job, template) = (job(), template(&[]));
    let mut made = pod(&job, &template, TERMS, "a-secret").unwrap();
    made.metadata.uid = Some("u1".into());
    let secret = secret(&job, &template, "a-secret", &keys(), &made);
    let owner = &secret.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.kind.as_str()), ("u1", "Pod"));
    let data = secret.data.unwrap();
    let entries: Vec<_> = data.keys().map(String::as_str).collect();
    assert_eq!(entries, [CA, CONFIG, KEYS]);
    assert_ne!(
        secret_name(&template.stack, &job.id),
        secret_name(&template.stack, &job.id)
    );
    let spec = serde_json::to_value(made.spec).unwrap();
    let told = |list: &str, index: usize| -> (bool, bool) {
        let container = &spec[list][index];
        let text = container["env"].to_string();
        let mounts = container["volumeMounts"].as_array().unwrap();
        let keys = mounts.iter().any(|mount: &Value| mount["name"] == "keys");
        (keys, text.contains("secretKeyRef"))
    };
    assert_eq!(told("initContainers", 0), (true, false));
    assert_eq!(told("initContainers", 1), (true, false));
    assert_eq!(told("containers", 0), (false, true));
}

#[test]
fn a_job_that_asks_for_more_than_there_is_is_refused() {
    let job = bot(&json!({"memory_limit": "2Gi"}), None);
    let refused = pod(&job, &template(&[("THE0_MAX_MEMORY", "1Gi")]), TERMS, "s");
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("config.memory_limit asks for 2Gi"), "{text}");
}
