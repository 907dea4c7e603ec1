use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::super::tests::{Request, SECOND, Stage, list, over, pod, running, stage, template};
use super::super::{Access, Husk, Link};
use super::*;
use crate::bots::Listing;
use crate::document::Bot;
use crate::engine::docker::tests::block_on;
use crate::plan::Phase;
use crate::schedule::book::Book;
use crate::schedule::ledger::{Key, Ledger};
use crate::schedule::{Order, Schedules};
use crate::show::tests::Screen;
use crate::show::{Colours, Console};

/// A row of a bot with these times.
fn row(schedule: &str) -> Arc<Listed> {
    let document = json!({
        "id": "b", "config": {"schedule": schedule},
        "custom": {"version": "1.0.0", "filePath": "u/b/1.0.0", "config": {
            "name": "b", "type": "scheduled", "runtime": "python3.11", "version": "1.0.0",
            "entrypoints": {"bot": "main.py"}}}
    });
    let bot = Bot::from_document(&document).unwrap();
    let bot = bot.at_times(&document).unwrap();
    let offer = Offer::Bot(Box::new(bot));
    Arc::new(Listed::new("b".into(), None, "s".into(), offer))
}

fn bot(row: &Listed) -> Bot {
    match &row.offer {
        Offer::Bot(bot) => (**bot).clone(),
        _ => panic!("no bot"),
    }
}

/// The bot's CronJob as the API server has it.
fn cronjob(row: &Listed, version: &str) -> Value {
    let bot = bot(row);
    let made = cronjob::cronjob(&bot, &template(), "*/5 * * * *").unwrap();
    let mut made = serde_json::to_value(made).unwrap();
    let meta = &mut made["metadata"];
    meta["uid"] = "c1".into();
    meta["resourceVersion"] = version.into();
    meta["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    made
}

/// The same, made and not switched on.
fn suspended(row: &Listed, version: &str) -> Value {
    let mut made = cronjob(row, version);
    made["spec"]["suspend"] = true.into();
    made
}

/// What the API server has, as it is seen.
fn there(has: &Value) -> (BotId, There) {
    let cron = serde_json::from_value(has.clone()).unwrap();
    There::of(&template(), &cron).unwrap()
}

/// An API server that takes what is to be, and removes what is as it was seen last, which is as of version 3.
fn taking(row: &Arc<Listed>) -> impl Fn(&Request) -> Option<(u16, Value)> + Send + Sync + use<> {
    let row = Arc::clone(row);
    move |request: &Request| match request.method.as_str() {
        "PATCH" if request.path.contains("/cronjobs/") => {
            let body = &request.body;
            if body["spec"]["suspend"] == true {
                return Some((200, suspended(&row, "1")));
            }
            let is_on = body["metadata"] == json!({"uid": "c1", "resourceVersion": "1"});
            Some(if is_on {
                (200, cronjob(&row, "2"))
            } else {
                (409, conflict())
            })
        }
        "PATCH" => Some((200, request.body.clone())),
        "DELETE" if request.path.contains("/cronjobs/") => {
            let is_last = request.body["preconditions"]["resourceVersion"] == "3";
            let gone = json!({"kind": "Status", "status": "Success"});
            Some(if is_last {
                (200, gone)
            } else {
                (409, conflict())
            })
        }
        "DELETE" => Some((200, json!({"kind": "Status", "status": "Success"}))),
        _ => None,
    }
}

fn conflict() -> Value {
    json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "it has changed"})
}

fn ready(row: &Arc<Listed>) -> Stage {
    let mut stage = stage(taking(row));
    stage.engine.access.clock = true;
    list(&mut stage.engine, &[], SECOND);
    assert_eq!(stage.engine.link, Link::Up);
    stage
}

/// Takes in the next word on CronJobs.
async fn word(stage: &mut Stage) {
    loop {
        let next = stage.news.recv().await.unwrap();
        if let News::Times(word) = next {
            return stage.engine.take_times(word, SECOND);
        }
    }
}

#[test]
fn nobody_starts_ticks_before_it_is_known_what_the_clusters_clock_has() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys);
        let refused = Word::Hidden("forbidden".into());
        stage.engine.take_times(refused, SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys);
        assert!(!stage.engine.is_live_known());
        stage.engine.take_times(Word::Listed(0, Vec::new()), SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Ours);
        assert!(stage.engine.is_live_known());
        assert!(stage.engine.live().is_empty());
    });
}

#[test]
fn a_schedule_is_handed_over_and_taken_back_only_as_it_was_seen_last() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        stage.engine.take_times(Word::Listed(0, Vec::new()), SECOND);
        assert!(stage.engine.can_hand(&id));
        stage.engine.hand_over(&row);
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys, "it is under way");
        let may_start = |engine: &Engine| engine.live().contains(&id);
        assert!(may_start(&stage.engine));
        assert!(!stage.engine.can_hand(&id));
        word(&mut stage).await;
        assert_eq!(stage.engine.whose(&id), Whose::Clusters(1_767_225_600));
        assert!(stage.engine.is_clocked_as(&row));
        let asked = stage.cluster.requests();
        let paths: Vec<&str> = asked
            .iter()
            .filter(|request| request.method == "PATCH")
            .map(|request| request.path.split('?').next().unwrap())
            .collect();
        assert!(
            paths
                .last()
                .unwrap()
                .ends_with("/cronjobs/schedule-default-b"),
            "{paths:?}"
        );
        assert_eq!(paths.len(), 4, "its Secrets come first: {paths:?}");
        let old = Word::Seen(id.clone(), Box::new(there(&suspended(&row, "1")).1));
        stage.engine.take_times(old, SECOND);
        assert_eq!(
            stage.engine.whose(&id),
            Whose::Clusters(1_767_225_600),
            "of what was before it is told late"
        );

        stage.engine.take_back(&id);
        word(&mut stage).await;
        assert_eq!(
            stage.engine.whose(&id),
            Whose::Clusters(1_767_225_600),
            "it has started something"
        );
        assert!(may_start(&stage.engine));
        let seen = Word::Seen(id.clone(), Box::new(there(&cronjob(&row, "3")).1));
        stage.engine.take_times(seen, SECOND);
        stage.engine.take_back(&id);
        word(&mut stage).await;
        assert_eq!(
            stage.engine.whose(&id),
            Whose::Nobodys,
            "what it started last may be unseen"
        );
        assert!(may_start(&stage.engine));
        let settled = Word::Settled(id.clone(), None);
        stage.engine.take_times(settled, SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Ours);
        assert!(!may_start(&stage.engine));
    });
}

#[test]
fn a_cronjob_whose_agent_lost_the_lease_as_it_was_made_is_not_switched_on() {
    let row = row("*/5 * * * *");
    block_on(async {
        let has = taking(&row);
        let late = move |request: &Request| {
            if request.path.contains("/cronjobs/") {
                std::thread::sleep(Duration::from_millis(400));
            }
            has(request)
        };
        let (mut access, cluster) = super::super::tests::access(late);
        access.lease = crate::lease::Lease::held_for(Duration::from_millis(300));
        let bot = bot(&row);
        let handed = cronjob_work::apply(&access, &bot, "*/5 * * * *", None);
        let not = Box::pin(handed).await.unwrap_err();
        assert!(not.why.contains("lost the lease"), "{}", not.why);
        let asked = cluster.requests().into_iter();
        let of = asked.filter(|request| request.path.contains("/cronjobs/"));
        let bodies: Vec<Value> = of.map(|request| request.body).collect();
        assert_eq!(bodies.len(), 1, "{bodies:#?}");
        assert_eq!(bodies[0]["spec"]["suspend"], true);
    });
}

#[test]
fn one_that_was_not_switched_on_is_nobodys_and_goes() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        let left = there(&suspended(&row, "3"));
        stage.engine.take_times(Word::Listed(0, vec![left]), SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys);
        assert!(stage.engine.can_hand(&id));
        let off: Vec<&BotId> = stage.engine.clocked_off().collect();
        assert_eq!(off, [&id]);
        stage.engine.take_back(&id);
        stage.engine.take_back(&id);
        word(&mut stage).await;
        let asked = stage.cluster.requests().into_iter();
        let removals = asked.filter(|request| request.method == "DELETE");
        assert_eq!(removals.count(), 1, "it is asked for once");
        assert_eq!(stage.engine.clocked_off().count(), 0);
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys);
        let settled = Word::Settled(id.clone(), None);
        stage.engine.take_times(settled, SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Ours);
    });
}

#[test]
fn one_that_the_cluster_is_slow_to_remove_starts_nothing_and_is_left_alone() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        let mut ending = cronjob(&row, "3");
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z".into();
        let seen = || there(&ending);
        stage
            .engine
            .take_times(Word::Listed(0, vec![seen()]), SECOND);
        let why = "what it has started last may be unseen";
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys, "{why}");
        let settled = Word::Settled(id.clone(), None);
        stage.engine.take_times(settled, SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Ours);
        assert!(!stage.engine.can_hand(&id));
        stage
            .engine
            .take_times(Word::Listed(1, vec![seen()]), SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Ours, "it is no news");
        let gone = Word::Gone(id.clone(), "c1".into());
        stage.engine.take_times(gone, SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys, "{why}");
    });
}

#[test]
fn a_schedule_is_looked_at_when_somebody_has_changed_its_cronjob_and_when_one_that_went_has_settled()
 {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        let listed = Word::Listed(0, vec![there(&cronjob(&row, "2"))]);
        stage.engine.take_times(listed, SECOND);
        assert!(stage.engine.moved().is_empty(), "that is how it begins");
        let mut take = |word: Word| {
            stage.engine.take_times(word, SECOND);
            stage.engine.moved().contains(&id)
        };
        let seen = |cron: &Value| Word::Seen(id.clone(), Box::new(there(cron).1));
        assert!(
            !take(seen(&cronjob(&row, "3"))),
            "it has run: its Pod tells"
        );
        assert!(take(seen(&suspended(&row, "4"))));
        assert!(take(seen(&cronjob(&row, "5"))));
        let mut edited = cronjob(&row, "6");
        edited["spec"]["schedule"] = "0 0 1 1 *".into();
        assert!(take(seen(&edited)));
        assert!(!take(Word::Gone(id.clone(), "c1".into())), "it settles");
        assert!(take(Word::Settled(id.clone(), None)));
        assert_eq!(stage.engine.whose(&id), Whose::Ours);
    });
}

#[test]
fn a_cronjob_whose_times_somebody_has_edited_is_not_as_it_would_be_made() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let mut edited = cronjob(&row, "3");
        edited["spec"]["schedule"] = "0 0 1 1 *".into();
        let listed = Word::Listed(0, vec![there(&edited)]);
        stage.engine.take_times(listed, SECOND);
        assert!(!stage.engine.is_clocked_as(&row));
        // It is removed before there is another.
        stage.engine.hand_over(&row);
        word(&mut stage).await;
        let asked = stage.cluster.requests().into_iter();
        let of = asked.filter(|request| request.path.contains("/cronjobs/"));
        let ways: Vec<String> = of.map(|request| request.method).collect();
        assert_eq!(ways, ["DELETE"]);
    });
}

#[test]
fn a_hand_over_that_is_refused_is_tried_again_soon_and_the_same_refusal_is_told_once() {
    let row = row("*/5 * * * *");
    let refusing = |request: &Request| {
        let refused = json!({"kind": "Status", "status": "Failure", "code": 403, "message": "over the quota"});
        (request.method == "PATCH").then_some((403, refused))
    };
    block_on(async {
        let screen = Screen::default();
        let mut stage = stage(refusing);
        stage.engine.access.clock = true;
        stage.engine.console = Console::open(screen.clone(), Colours::Off).unwrap();
        list(&mut stage.engine, &[], SECOND);
        stage.engine.take_times(Word::Listed(0, Vec::new()), SECOND);
        let id = bot(&row).id;
        let mut can_hand_at = Vec::new();
        for _ in 0..2 {
            stage.engine.hand_over(&row);
            word(&mut stage).await;
            let now = stage.engine.times.now;
            let pauses = [6, 61].map(Duration::from_secs);
            can_hand_at.push(pauses.map(|pause| {
                stage.engine.times.now = now + pause;
                stage.engine.can_hand(&id)
            }));
        }
        assert_eq!(can_hand_at, [[true, true], [false, true]]);
        stage.engine.console.flush();
        let text = screen.text();
        assert_eq!(text.matches("over the quota").count(), 1, "{text}");
    });
}

#[test]
fn what_the_clusters_clock_must_not_start_is_not_left_to_its_next_tick() {
    let row = row("*/5 * * * *");
    let ledger = Ledger {
        next: Some(i64::MAX / 2),
        ..Ledger::default()
    };
    let offer = Offer::Bot(Box::new(bot(&row)));
    let listed = Listed::new("b".into(), None, "s".into(), offer).with_ledger(Some(ledger));
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        // It has started something since it was seen, so it is not removed.
        let old = there(&cronjob(&row, "2"));
        stage.engine.take_times(Word::Listed(0, vec![old]), SECOND);
        let (news, _kept) = tokio::sync::mpsc::unbounded_channel();
        let console = Console::open(std::io::sink(), Colours::Off).unwrap();
        let book = Book::Folder(dir.path().to_owned());
        let mut schedules = Schedules::new(book, "me".into(), 3, news, console);
        let mut listing = Listing::default();
        listing.bots.insert(id.clone(), Arc::new(listed));
        schedules.listed(&listing, std::time::Instant::now());
        let Stage {
            engine,
            news: mut told,
            ..
        } = stage;
        let mut engine = crate::engine::Engine::Kubernetes(Box::new(engine));
        let orders = schedules.step(&engine, |_| false);
        assert!(
            matches!(&orders[..], [Order::TakeBack(of)] if *of == id),
            "{orders:?}"
        );
        let crate::engine::Engine::Kubernetes(cluster) = &mut engine else {
            unreachable!("it is one");
        };
        cluster.take_back(&id);
        let word = loop {
            if let News::Times(word) = told.recv().await.unwrap() {
                break word;
            }
        };
        assert!(matches!(word, Word::Removed(_, Err(_))), "{word:?}");
        cluster.take_times(word, SECOND);
        assert!(!cluster.can_hand(&id));
        for _ in 0..2 {
            assert!(schedules.step(&engine, |_| false).is_empty());
            assert_eq!(schedules.wanted().count(), 1, "it is looked at again");
        }
        let crate::engine::Engine::Kubernetes(cluster) = &mut engine else {
            unreachable!("it is one");
        };
        let new = Word::Seen(id.clone(), Box::new(there(&cronjob(&row, "3")).1));
        cluster.take_times(new, SECOND * 100);
        let orders = schedules.step(&engine, |_| false);
        assert!(matches!(&orders[..], [Order::TakeBack(_)]), "{orders:?}");
    });
}

#[test]
fn the_secrets_of_a_cronjob_are_gone_before_another_one_is_made() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        let had = there(&cronjob(&row, "3"));
        let secrets = had.1.secrets.clone();
        stage.engine.take_times(Word::Listed(0, vec![had]), SECOND);
        stage.engine.take_back(&id);
        word(&mut stage).await;
        let settled = Word::Settled(id.clone(), secrets);
        stage.engine.take_times(settled, SECOND);
        assert!(!stage.engine.can_hand(&id), "they are being removed");
        word(&mut stage).await;
        assert!(stage.engine.can_hand(&id));
        let asked = stage.cluster.requests().into_iter();
        let removed = asked.filter(|it| it.method == "DELETE" && it.path.contains("/secrets/"));
        assert_eq!(removed.count(), 2);
    });
}

#[test]
fn who_does_not_act_removes_no_secrets() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        let secrets = there(&cronjob(&row, "3")).1.secrets;
        stage.engine.take_times(Word::Listed(0, Vec::new()), SECOND);
        stage.engine.access.lease = crate::lease::Lease::held_for(Duration::ZERO);
        stage.engine.times.busy.insert(id.clone());
        let settled = Word::Settled(id.clone(), secrets);
        stage.engine.take_times(settled, SECOND);
        assert!(!stage.engine.times.busy.contains(&id));
        sleep(Duration::from_millis(50)).await;
        let asked = stage.cluster.requests();
        assert!(!asked.iter().any(|request| request.method == "DELETE"));
    });
}

#[test]
fn who_begins_to_act_starts_no_tick_before_it_has_looked_anew() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let id = bot(&row).id;
        stage.engine.take_times(Word::Listed(0, Vec::new()), SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Ours);
        stage.engine.look_anew();
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys);
        stage.engine.take_times(Word::Listed(0, Vec::new()), SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Nobodys, "that is older");
        let begun = stage.engine.times.again.clock.now();
        let kept = there(&cronjob(&row, "3"));
        stage
            .engine
            .take_times(Word::Listed(begun, vec![kept]), SECOND);
        assert_eq!(stage.engine.whose(&id), Whose::Clusters(1_767_225_600));
    });
}

#[test]
fn other_times_are_another_cronjob_after_the_old_one() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let there = there(&cronjob(&row, "3"));
        stage
            .engine
            .take_times(Word::Listed(0, vec![there]), SECOND);
        let edited = self::row("*/10 * * * *");
        assert!(!stage.engine.is_clocked_as(&edited));
        stage.engine.hand_over(&edited);
        word(&mut stage).await;
        let asked = stage.cluster.requests();
        assert!(asked.iter().any(|request| request.method == "DELETE"));
        assert!(!asked.iter().any(|request| request.method == "PATCH"));
    });
}

#[test]
fn what_ran_while_nobody_looked_is_told_in_its_order_and_one_after_another() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let bot = bot(&row);
        let of = |minute: i64, status: &Value| {
            let mut pod = pod(&bot, &format!("u{minute}"), None, status);
            let meta = &mut pod.metadata;
            meta.name = Some(format!("p{minute}"));
            meta.owner_references = Some(vec![OwnerReference {
                kind: "Job".into(),
                name: format!("schedule-default-b-{minute}"),
                controller: Some(true),
                ..OwnerReference::default()
            }]);
            let annotations = meta.annotations.as_mut().unwrap();
            annotations.remove(super::super::names::BEGAN);
            let made = format!("2026-01-01T00:0{minute}:00Z");
            meta.creation_timestamp = serde_json::from_value(json!(made)).unwrap();
            pod
        };
        let (one, two, three) = (of(1, &over(0)), of(2, &over(1)), of(3, &running()));
        list(&mut stage.engine, &[&three, &two, &one], SECOND);
        let tick = |stage: &Stage| {
            let instance = stage.engine.instance(&bot.id).unwrap();
            let phase = instance.actual.phase.clone();
            let tick = instance.birth.as_ref().unwrap().start.tick;
            (tick.unwrap(), matches!(phase, Phase::Ended(_)))
        };
        let key = |minute: i64| Key {
            at: minute * 60,
            attempt: Key::CLUSTERS,
        };
        assert_eq!(tick(&stage), (key(1), true));
        list(&mut stage.engine, &[&three, &two, &one], SECOND);
        assert_eq!(tick(&stage), (key(1), true), "its end is not written down");
        assert_eq!(stage.engine.husks.get("u1"), Some(&Husk::Kept));
        let is_noted = |_: &BotId, tick: Option<Key>| tick != Some(key(1));
        stage.engine.collect(|_| true, is_noted, SECOND);
        stage.cluster.request("PATCH", "/pods/p1").await;
        let asked = stage.cluster.requests();
        assert!(
            !asked
                .iter()
                .any(|request| request.path.contains("/secrets/")),
            "they are the others' too"
        );
        list(&mut stage.engine, &[&three, &two], SECOND);
        assert_eq!(tick(&stage), (key(2), true));
        list(&mut stage.engine, &[&three], SECOND);
        assert_eq!(tick(&stage), (key(3), false));
        // Its Job is removed when it is old, and the Pod with it: that does not make its end another one.
        let mut old = of(4, &over(112));
        old.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T01:00:00Z")).unwrap());
        list(&mut stage.engine, &[&old], SECOND);
        let instance = stage.engine.instance(&bot.id).unwrap();
        let Phase::Ended(ended) = &instance.actual.phase else {
            panic!("{:?}", instance.actual.phase);
        };
        assert_ne!(ended.outcome, crate::plan::Outcome::Stopped);
    });
}

#[test]
fn secrets_are_swept_only_where_it_is_known_what_cronjobs_use() {
    let row = row("*/5 * * * *");
    block_on(async {
        let mut stage = ready(&row);
        let there = there(&cronjob(&row, "3"));
        let used = there.1.secrets.clone().unwrap();
        stage.engine.collect(|_| true, |_, _| false, SECOND);
        sleep(Duration::from_millis(50)).await;
        let is_sweep = |request: &Request| request.path.contains("/secrets");
        assert!(!stage.cluster.requests().iter().any(is_sweep));
        stage
            .engine
            .take_times(Word::Listed(0, vec![there]), SECOND);
        let kept: Vec<String> = stage.engine.times.secrets().collect();
        assert_eq!(kept, [used.config, used.keys]);
        stage.engine.collect(|_| true, |_, _| false, SECOND);
        stage.cluster.request("GET", "/secrets").await;
    });
}

#[test]
fn the_job_of_a_pod_that_went_without_its_kubelets_word_goes_first() {
    let row = row("*/5 * * * *");
    block_on(async {
        let gone = json!({"kind": "Status", "status": "Success"});
        let cluster = super::super::tests::Cluster::default();
        let client = cluster.client(move |_| Some((200, gone.clone())));
        let Stage { engine, .. } = stage(|_| None);
        let access = Access {
            client,
            ..engine.access.clone()
        };
        for (status, removed) in [(over(0), None), (running(), Some("/jobs/j-1"))] {
            let mut pod = pod(&bot(&row), "u", None, &status);
            pod.metadata.owner_references = Some(vec![OwnerReference {
                kind: "Job".into(),
                name: "j-1".into(),
                controller: Some(true),
                ..OwnerReference::default()
            }]);
            let seen = Seen::of(&template().stack, &pod).unwrap();
            let before = cluster.requests().len();
            let _ = work::release(&access, &seen).await;
            let first = cluster.requests()[before].path.clone();
            assert_eq!(first.contains("/jobs/j-1"), removed.is_some(), "{first}");
        }
    });
}

#[test]
fn jobs_that_no_pod_came_of_go_with_their_cronjob_and_what_runs_stays() {
    let job = |name: &str, made: &str, status: Value| {
        json!({"metadata": {"name": name, "uid": name, "resourceVersion": "8",
            "creationTimestamp": made}, "status": status})
    };
    let old = "2026-01-01T00:00:00Z";
    let new = k8s_openapi::jiff::Timestamp::now().to_string();
    let all = json!({"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": [
        job("a-1", old, json!({"active": 1})), job("a-2", old, json!({})),
        job("b-1", old, json!({"succeeded": 1})), job("c-1", &new, json!({})),
    ]});
    let gone = json!({"kind": "Status", "status": "Success"});
    let script = move |request: &Request| {
        let is_list = request.method == "GET";
        Some((200, if is_list { all.clone() } else { gone.clone() }))
    };
    let deleted = |requests: Vec<Request>| {
        let deleted = requests.into_iter().filter(|it| it.method == "DELETE");
        let names = deleted.map(|it| {
            let body = &it.body;
            assert_eq!(body["propagationPolicy"], "Background", "{body}");
            assert_eq!(body["preconditions"]["resourceVersion"], "8", "{body}");
            let path = it.path.split('?').next().unwrap();
            path.rsplit('/').next().unwrap().to_owned()
        });
        names.collect::<Vec<String>>()
    };
    block_on(async {
        let (access, cluster) = super::super::tests::access(script.clone());
        let id: BotId = "b".parse().unwrap();
        cronjob_work::remove_jobs(&access, &id).await.unwrap();
        let asked = cluster.requests();
        assert!(asked[0].path.contains("bot-id%3Db"), "{}", asked[0].path);
        assert_eq!(deleted(asked), ["a-2", "b-1", "c-1"]);

        let (access, cluster) = super::super::tests::access(script);
        cronjob_work::sweep(access, BTreeSet::from(["b".to_owned()])).await;
        assert_eq!(deleted(cluster.requests()), ["a-2"]);
    });
}
