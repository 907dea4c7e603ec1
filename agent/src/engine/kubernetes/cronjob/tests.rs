use super::super::pod::tests::{bot, is_as_promised, keys, template};
use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

/// One that runs at times, with this policy.
fn at_times(policy: &Value) -> Bot {
    let config =
        json!({"api_key": "hunter2", "schedule": "*/5 * * * *", "schedule_policy": policy});
    let mut bot = bot(&config, None);
    bot.definition.kind = contract::BotType::Scheduled;
    let timetable = Timetable::read(config.as_object().unwrap());
    bot.timetable = Some(timetable.unwrap());
    bot
}

fn made(policy: &Value) -> CronJob {
    cronjob(&at_times(policy), &template(&[]), "*/5 * * * *").unwrap()
}

fn sum(cron: &CronJob) -> String {
    annotation(&cron.metadata, names::SUM)
}

#[test]
fn the_cronjob_is_the_one_promised() {
    let mut shown = serde_json::to_value(made(&json!({}))).unwrap();
    let inner = "/spec/jobTemplate/spec/template/metadata/annotations";
    for annotations in ["/metadata/annotations", inner] {
        let annotations = shown.pointer_mut(annotations).unwrap();
        annotations[names::MADE_BY] = "VERSION".into();
        let is_outer = annotations.get(names::SUM).is_some();
        assert_eq!(is_outer, annotations.to_string().contains("digest"));
    }
    shown["metadata"]["annotations"][names::SUM] = "SUM".into();
    assert!(!shown.to_string().contains("hunter2"));
    is_as_promised("cronjob.json", &shown);
}

#[test]
fn what_the_policy_asks_for_is_asked_of_the_cluster() {
    let spec = |policy| made(&policy).spec.unwrap();
    let usual = spec(json!({}));
    assert_eq!(usual.concurrency_policy.as_deref(), Some("Forbid"));
    assert_eq!(usual.starting_deadline_seconds, None);
    let other = spec(json!({"catch_up": "none", "time_limit": "10m"}));
    assert_eq!(other.starting_deadline_seconds, Some(60));
    let job = other.job_template.spec.unwrap();
    assert_eq!(job.active_deadline_seconds, Some(600 + SPARE));
    assert_eq!(job.backoff_limit, Some(0), "a tick runs once");
}

#[test]
fn a_cronjob_that_is_seen_is_the_one_that_was_made() {
    let mut cron = made(&json!({}));
    let meta = &mut cron.metadata;
    meta.uid = Some("1-2".into());
    meta.resource_version = Some("7".into());
    meta.creation_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let (bot, there) = There::of(&template(&[]), &cron).unwrap();
    assert_eq!((bot.as_str(), there.since), ("abc", 1_767_225_600));
    let digest = digest(&at_times(&json!({})), &template(&[]), "*/5 * * * *");
    assert_eq!(digest.unwrap(), there.digest);
    let granted = Granted {
        keys: keys(),
        renew_in: None,
        good_for: None,
    };
    let secrets = secrets(&at_times(&json!({})), &template(&[]), &granted);
    let named = there.secrets.unwrap();
    let made = secrets.map(|secret| secret.metadata.name.unwrap());
    assert_eq!(made, [named.config, named.keys]);
    cron.metadata.labels = None;
    assert!(
        There::of(&template(&[]), &cron).is_none(),
        "somebody else's"
    );
}

#[test]
fn other_times_policies_and_settings_are_another_cronjob() {
    let base = sum(&made(&json!({})));
    assert_eq!(base, sum(&made(&json!({}))));
    let others = [
        sum(&made(&json!({"time_limit": "10m"}))),
        sum(&cronjob(&at_times(&json!({})), &template(&[]), "0 * * * *").unwrap()),
        sum(&cronjob(
            &at_times(&json!({})),
            &template(&[("RUNTIME_IMAGE", "i:2")]),
            "*/5 * * * *",
        )
        .unwrap()),
    ];
    assert!(others.iter().all(|other| *other != base));
}

#[test]
fn the_tick_of_a_pod_is_in_the_name_of_its_job() {
    let owned = |kind: &str, name: &str| ObjectMeta {
        owner_references: Some(vec![OwnerReference {
            kind: kind.to_owned(),
            name: name.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    };
    let key = Key {
        at: 1_767_225_600,
        attempt: Key::CLUSTERS,
    };
    assert_eq!(
        tick(&owned("Job", "schedule-default-abc-29453760")),
        Some(key)
    );
    assert_eq!(tick(&owned("Job", "by-hand")), None);
    assert_eq!(tick(&owned("ReplicaSet", "a-29453760")), None);
    assert_eq!(tick(&ObjectMeta::default()), None);
}
