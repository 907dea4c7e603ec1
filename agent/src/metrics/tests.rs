use super::*;
use crate::engine::docker;
use crate::events::Progress;
use crate::plan::Outcome;

fn full() -> Metrics {
    let mut metrics = Metrics::default();
    for name in ["docker", "listing", "mongodb", "nats", "store"] {
        metrics.dependency(name, 1);
        metrics.gate(
            name,
            Sight {
                state: State::Closed,
                failures: 0,
                wait: Duration::ZERO,
            },
        );
    }
    metrics.lease(1);
    metrics.view(&View {
        bots: BTreeMap::from([("running", 3)]),
        unsaved: 1,
        listed: Some(Instant::now()),
        events: Some(Progress::new(Instant::now())),
    });
    let sample = Sample {
        cpu: 1_500_000_000,
        memory: 4096,
        limit: None,
        at: Instant::now(),
    };
    metrics.used([("b1".parse().unwrap(), sample)]);
    metrics
}

/// Everything but the values.
fn names(text: &str) -> String {
    let mut names = String::new();
    for line in text.lines() {
        let kept = match line.strip_prefix('#') {
            Some(_) => line,
            None => line.rsplit_once(' ').unwrap().0,
        };
        names += kept.split("version=").next().unwrap();
        names.push('\n');
    }
    names
}

#[test]
fn names_helps_and_labels_are_a_promise() {
    let names = names(&full().render());
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/metrics.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &names).unwrap();
    }
    assert_eq!(names, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn a_question_is_counted_by_its_way_and_its_answer() {
    let mut metrics = full();
    let series = metrics.render().lines().count();
    let rows = [
        (
            Some(Kind::Live),
            Err(Refusal::Busy.into()),
            "answer=\"busy\",way=\"live\"",
        ),
        (
            None,
            Err(Refusal::NoPath.into()),
            "answer=\"refused\",way=\"none\"",
        ),
        (
            Some(Kind::Apart),
            Err(Refused::Bots("no".into(), serde_json::Map::new())),
            "answer=\"error\",way=\"apart\"",
        ),
    ];
    for (way, reply, labels) in rows {
        let asked = way.map(|way| ("b1".parse().unwrap(), way));
        metrics.asked(&Told { reply, asked }, Duration::from_millis(3));
        let text = metrics.render();
        let line = format!("the0_questions_total{{{labels}}} 1\n");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    let text = metrics.render();
    assert!(text.contains("the0_question_duration_seconds_bucket{le=\"0.005\"} 3\n"));
    assert_eq!(text.lines().count(), series);
}

#[test]
fn what_happens_is_counted_and_adds_no_series() {
    let mut metrics = full();
    let before = names(&metrics.render());
    let bot: contract::BotId = "b".parse().unwrap();
    for why in WHYS {
        metrics.stopped(why);
    }
    metrics.stopped(Why::Changed);
    let outcomes = [
        Outcome::Stopped,
        Outcome::Failed,
        Outcome::Refused,
        Outcome::Busy,
    ];
    for outcome in outcomes {
        let not = docker::NotStarted::new(outcome, "no");
        metrics.news(&News::Docker(docker::News::Started(bot.clone(), Err(not))));
    }
    let looked = Ok(docker::Examined::Gone);
    metrics.news(&News::Docker(docker::News::Looked(bot.clone(), looked)));
    metrics.news(&News::Docker(docker::News::Signalled(
        bot.clone(),
        Err("no".into()),
    )));
    metrics.news(&News::Docker(docker::News::Removed(bot.clone(), Ok(()))));
    metrics.news(&News::Docker(docker::News::Renewed(
        bot,
        String::new(),
        Ok(None),
    )));
    let text = metrics.render();
    assert_eq!(names(&text), before);
    for line in [
        "the0_bots{state=\"running\"} 3",
        "the0_stops_total{reason=\"changed\"} 2",
        "the0_starts_total{outcome=\"busy\"} 1",
        "the0_actions_total{action=\"start\",outcome=\"failed\"} 4",
        "the0_actions_total{action=\"inspect\",outcome=\"ok\"} 1",
        "the0_actions_total{action=\"signal\",outcome=\"failed\"} 1",
        "the0_dependency_up{dependency=\"mongodb\"} 1",
        "the0_unsaved_bots 1",
        "the0_event_lag_seconds 0",
        "the0_sync_age_seconds 0",
        "the0_bot_cpu_seconds_total{bot=\"b1\"} 1.5",
        "the0_bot_memory_bytes{bot=\"b1\"} 4096",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
}

#[test]
fn durations_fall_into_all_buckets_from_theirs_on() {
    let mut metrics = Metrics::default();
    metrics.reconciled(Duration::from_millis(3));
    metrics.reconciled(Duration::from_secs(60));
    let text = metrics.render();
    for line in [
        "the0_reconcile_duration_seconds_bucket{le=\"0.0025\"} 0",
        "the0_reconcile_duration_seconds_bucket{le=\"0.005\"} 1",
        "the0_reconcile_duration_seconds_bucket{le=\"5\"} 1",
        "the0_reconcile_duration_seconds_bucket{le=\"+Inf\"} 2",
        "the0_reconcile_duration_seconds_sum 60.003",
        "the0_reconcile_duration_seconds_count 2",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
}
