//! An engine on a cluster that a test plays: what happens is told to it, and the requests it makes are seen.

use std::path::Path;
use std::sync::Mutex;

use contract::last_words;
use contract::launch::Variables;
use contract::record::{Reason, RunRecord, Time};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::template::{Files, Template};
use super::*;
use crate::engine::docker::tests::{block_on, bot};
use crate::engine::keys::KeyMaker;
use crate::history::cause::Cause;
use crate::lease::Lease;
use crate::plan::Phase;
use crate::report::Saving;
use crate::show::Colours;
use crate::store::Address;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// An engine, and what is around it.
pub(super) struct Stage {
    pub(super) engine: Engine,
    pub(super) cluster: Cluster,
    pub(super) news: UnboundedReceiver<News>,
}

/// A request to the API server.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    pub(super) body: Value,
}

/// What an API server was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<Vec<Request>>>);

impl Cluster {
    pub(super) fn requests(&self) -> Vec<Request> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for a request of this kind to this path.
    pub(super) async fn request(&self, method: &str, path: &str) -> Request {
        loop {
            let mut requests = self.requests().into_iter();
            let is_it = |request: &Request| request.method == method && request.path.contains(path);
            if let Some(request) = requests.find(is_it) {
                return request;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A client of an API server that answers what `script` says, and else not at all.
    pub(super) fn client(
        &self,
        script: impl Fn(&Request) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Client {
        let (asked, script) = (Arc::clone(&self.0), Arc::new(script));
        let answer = move |request: hyper::Request<Body>| {
            let (asked, script) = (Arc::clone(&asked), Arc::clone(&script));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                if head.uri.to_string().contains("%21the0.app%2Fstack") {
                    // Another runner has nothing.
                    let none = Body::from(b"{\"metadata\":{},\"items\":[]}".to_vec());
                    return Ok(hyper::Response::new(none));
                }
                let request = Request {
                    method: head.method.to_string(),
                    path: head.uri.to_string(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                asked.lock().unwrap().push(request.clone());
                let Some((status, body)) = script(&request) else {
                    return std::future::pending().await;
                };
                let answer = hyper::Response::builder().status(status);
                let body = Body::from((body.to_string() + "\n").into_bytes());
                Ok::<_, kube::Error>(answer.body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(answer), "bots")
    }
}

/// Nobody listens there.
fn nowhere() -> Variables {
    let pairs = [
        ("MINIO_ENDPOINT", "127.0.0.1:1"),
        ("MINIO_ACCESS_KEY", "a"),
        ("MINIO_SECRET_KEY", "s"),
    ];
    pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into()
}

/// The way to a cluster whose API server answers what `script` says, and else not at all.
pub(super) fn access(
    script: impl Fn(&Request) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (Access, Cluster) {
    let cluster = Cluster::default();
    let client = cluster.client(script);
    let console = Console::open(std::io::sink(), Colours::Off).unwrap();
    let Ok(Address::S3(endpoint)) = Address::parse(&nowhere(), Path::new("/")) else {
        panic!("no object store");
    };
    let keys = KeyMaker::new(&endpoint, Duration::from_hours(1), console.clone()).unwrap();
    keys.makes_no_keys();
    let access = Access::new(client, "bots".into(), template(), keys, console);
    (access, cluster)
}

/// An engine on it.
pub(super) fn stage(
    script: impl Fn(&Request) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> Stage {
    let (access, cluster) = access(script);
    let (to, news) = unbounded_channel();
    let engine = Engine::new(access, to);
    Stage {
        engine,
        cluster,
        news,
    }
}

pub(super) fn template() -> Template {
    let (none, files) = (Variables::new(), Files::default());
    Template::parse(&none, none.clone(), nowhere(), files).unwrap()
}

/// The Pod of the bot as the API server has it, with this status.
pub(super) fn pod(bot: &Bot, uid: &str, tick: Option<Key>, status: &Value) -> Pod {
    let mut start = Start::now(Cause::Created, None);
    start.tick = tick;
    let mut pod = pod::pod(bot, &template(), &start).unwrap();
    pod.metadata.uid = Some(uid.to_owned());
    let spec = pod.spec.as_mut().unwrap();
    spec.scheduling_gates = None;
    spec.node_name = Some("n".to_owned());
    pod.status = Some(serde_json::from_value(status.clone()).unwrap());
    pod
}

fn seen(pod: &Pod) -> Seen {
    Seen::of(&template().stack, pod).unwrap()
}

/// The status of a Pod whose bot is in this state, after that many restarts.
fn status(phase: &str, state: &Value, restarts: u32) -> Value {
    let bot = json!({"name": "bot", "image": "i", "imageID": "", "ready": true, "restartCount": restarts, "state": state});
    json!({"phase": phase, "podIP": "10.0.0.9", "containerStatuses": [bot]})
}

pub(super) fn running() -> Value {
    status(
        "Running",
        &json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}}),
        0,
    )
}

fn ended(code: u8, reason: Reason) -> Value {
    let record = RunRecord {
        run: 1,
        code,
        signal: None,
        reason,
        started_at: Time::now(),
        ended_at: Time::now(),
        restarts: 0,
        message: None,
        result: None,
    };
    let words = serde_json::to_string(&record).unwrap();
    json!({"terminated": {"exitCode": code, "message": words}})
}

pub(super) fn over(code: u8) -> Value {
    let ended = ended(code, Reason::Exited);
    status(if code == 0 { "Succeeded" } else { "Failed" }, &ended, 0)
}

pub(super) fn list(engine: &mut Engine, pods: &[&Pod], now: Duration) {
    let begun = engine.clock.now();
    let pods = pods.iter().map(|pod| seen(pod)).collect();
    engine.take(
        News::Listed(Box::new(Snapshot {
            begun,
            version: 0,
            pods,
            others: Others::new(),
        })),
        now,
    );
}

/// Takes in that an end is written down.
async fn written(engine: &mut Engine, news: &mut UnboundedReceiver<News>) {
    loop {
        let next = news.recv().await.unwrap();
        if matches!(next, News::Noted(..)) {
            return engine.take(next, 2 * SECOND);
        }
    }
}

fn phase(engine: &Engine, bot: &Bot) -> Option<Phase> {
    Some(engine.instance(&bot.id)?.actual.phase.clone())
}

#[test]
fn a_pod_that_was_found_is_adopted_and_is_told_to_end_when_its_bot_is_stopped() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            ..
        } = stage(|request| (request.method == "PATCH").then(|| (404, json!({}))));
        let bot = bot("b");
        assert!(!engine.is_ready());
        list(&mut engine, &[&pod(&bot, "u1", None, &running())], SECOND);
        assert!(engine.is_ready());
        assert_eq!(phase(&engine, &bot), Some(Phase::Running));
        assert_eq!(
            engine.address(&bot.id),
            Some("10.0.0.9:9476".parse().unwrap())
        );
        engine.start(&bot, Start::now(Cause::Created, None), SECOND);
        assert!(!engine.is_starting(), "it runs");
        engine.stop(&bot.id, Why::Asked, SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Stopping));
        let asked = cluster.request("DELETE", "/pods/default-b").await;
        assert_eq!(
            asked.body["preconditions"]["uid"], "u1",
            "and no other of that name"
        );
    });
}

#[test]
fn who_ends_a_pod_whose_keys_end_before_it_renews_them_first() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            ..
        } = stage(|request| {
            let given = json!({"metadata": {}});
            (request.method == "PATCH").then_some((200, given))
        });
        let asked = |name: &str| {
            let asked = cluster.requests().into_iter();
            let of = |request: &Request| request.path.contains(name) && request.method != "GET";
            asked
                .filter(of)
                .map(|request| request.method)
                .collect::<Vec<_>>()
        };
        let (bot, other) = (bot("b"), bot("c"));
        let pods = [
            pod(&bot, "u1", None, &running()),
            pod(&other, "u2", None, &running()),
        ];
        list(&mut engine, &[&pods[0], &pods[1]], SECOND);
        engine.slots.get_mut(&other.id).unwrap().keys = keys::Good::Until(2 * template().grace());
        engine.stop(&bot.id, Why::Asked, SECOND);
        engine.stop(&other.id, Why::Asked, SECOND);
        cluster.request("DELETE", "/pods/default-c").await;
        assert_eq!(asked("default-c"), ["DELETE"]);
        cluster.request("DELETE", "/pods/default-b").await;
        assert_eq!(asked("default-b"), ["PATCH", "PATCH", "DELETE"]);
        let marked = cluster.request("PATCH", "/pods/default-b").await;
        assert!(marked.body["metadata"]["annotations"][names::RENEWED].is_string());
    });
}

#[test]
fn a_bot_whose_node_is_lost_is_not_started_elsewhere() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let mut lost = pod(&bot, "u1", None, &running());
        lost.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
            ));
        list(&mut engine, &[&lost], SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Stopping));
        engine.tick(SECOND);
        let trouble = engine.instance(&bot.id).unwrap().trouble.clone();
        assert!(
            trouble
                .unwrap()
                .contains("kubectl delete pod default-b --force")
        );
        engine.start(&bot, Start::now(Cause::Created, None), SECOND);
        assert!(!engine.is_starting());
        engine.take(News::Gone(bot.id.clone(), "another".into()), SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Stopping));
        engine.take(News::Gone(bot.id.clone(), "u1".into()), SECOND);
        assert!(matches!(phase(&engine, &bot), Some(Phase::Ended(_))));
    });
}

#[test]
fn an_end_is_told_once_and_the_name_is_free_when_the_pod_is_let_go() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            mut news,
        } = stage(|_| None);
        let bot = bot("b");
        let one = pod(&bot, "u1", None, &running());
        list(&mut engine, &[&one], SECOND);
        engine.stop(&bot.id, Why::Changed, SECOND);
        let mut ended = pod(&bot, "u1", None, &over(0));
        ended
            .metadata
            .annotations
            .clone_from(&one.metadata.annotations);
        for _ in 0..2 {
            engine.take(News::Seen(Box::new(seen(&ended))), 2 * SECOND);
        }
        let told = engine.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(matches!(&told[0], Told::Over { records, .. } if records.runs.len() == 1));
        assert_eq!(
            phase(&engine, &bot),
            Some(Phase::Stopping),
            "its Pod has the name yet"
        );
        assert!(
            engine.slots[&bot.id].release_at.is_some(),
            "nobody has written it down"
        );
        drop(told);
        written(&mut engine, &mut news).await;
        let freed = cluster.request("PATCH", "/pods/default-b").await;
        assert_eq!(
            freed.body["metadata"],
            json!({"uid": "u1", "finalizers": []})
        );
        engine.take(
            News::Released(bot.id.clone(), "u1".into(), Ok(())),
            3 * SECOND,
        );
        let Some(Phase::Ended(end)) = phase(&engine, &bot) else {
            panic!("it has not ended");
        };
        assert_eq!(end.outcome, Outcome::Stopped);
        engine.take(News::Gone(bot.id.clone(), "u1".into()), 3 * SECOND);
        assert!(engine.told().is_empty());
    });
}

#[test]
fn what_is_still_told_of_a_pod_that_was_let_go_is_no_news() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let ended = pod(&bot, "u1", None, &over(1));
        list(&mut engine, &[&ended], SECOND);
        assert_eq!(engine.told().len(), 1);
        engine.take(News::Released(bot.id.clone(), "u1".into(), Ok(())), SECOND);
        assert!(matches!(phase(&engine, &bot), Some(Phase::Ended(_))));
        engine.take(News::Seen(Box::new(seen(&ended))), SECOND);
        assert!(engine.told().is_empty());
        assert!(matches!(phase(&engine, &bot), Some(Phase::Ended(_))));
        engine.take(News::Gone(bot.id.clone(), "u1".into()), SECOND);
        assert!(engine.husks.is_empty() && engine.pods.is_empty());
    });
}

#[test]
fn an_older_word_on_a_pod_changes_nothing() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let mut new = pod(&bot, "u1", None, &running());
        let mut old = pod(&bot, "u1", None, &over(1));
        new.metadata.resource_version = Some("20".into());
        old.metadata.resource_version = Some("9".into());
        list(&mut engine, &[&new], SECOND);
        engine.take(News::Seen(Box::new(seen(&old))), SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Running));
    });
}

#[test]
fn a_pod_that_was_removed_by_force_is_over_when_its_kubelet_has_had_its_time() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            ..
        } = stage(|_| None);
        let bot = bot("b");
        let mut forced = pod(&bot, "u1", None, &running());
        let then = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
        let then = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(then);
        forced.metadata.deletion_timestamp = Some(then);
        forced.metadata.deletion_grace_period_seconds = Some(0);
        list(&mut engine, &[&forced], SECOND);
        engine.tick(60 * SECOND);
        assert!(engine.told().is_empty());
        engine.tick(61 * SECOND);
        assert_eq!(engine.told().len(), 1);
        engine.tick(71 * SECOND);
        cluster.request("PATCH", "/pods/default-b").await;
    });
}

#[test]
fn a_pod_that_went_while_nobody_watched_is_gone_also_where_it_was_touched_since_the_list_began() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let mut there = pod(&bot, "u1", None, &running());
        there.metadata.resource_version = Some("5".into());
        list(&mut engine, &[], SECOND);
        let begun = engine.clock.now();
        engine.take(News::Seen(Box::new(seen(&there))), SECOND);
        let listed = |version| {
            let pods = Vec::new();
            News::Listed(Box::new(Snapshot {
                begun,
                version,
                pods,
                others: Others::new(),
            }))
        };
        engine.take(listed(4), SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Running), "it is newer");
        engine.take(listed(6), SECOND);
        assert!(matches!(phase(&engine, &bot), Some(Phase::Ended(_))));
    });
}

#[test]
fn a_bot_that_another_runner_has_is_not_started_beside_it_and_not_handed_over() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            ..
        } = stage(|_| None);
        let bot = bot("b");
        let theirs = Others::from([(bot.id.clone(), "Pod b-7f".to_owned())]);
        list(&mut engine, &[], SECOND);
        engine.take(News::Others(theirs), SECOND);
        assert!(!engine.can_hand(&bot.id));
        engine.start(&bot, Start::now(Cause::Created, None), SECOND);
        assert!(!engine.is_starting());
        let instance = engine.instance(&bot.id).unwrap();
        let why = instance.reason.clone().unwrap();
        assert!(why.contains("Pod b-7f of another runner"), "{why}");
        assert!(cluster.requests().iter().all(|it| it.method == "GET"));
        engine.take(News::Others(Others::new()), SECOND);
        engine.start(&bot, Start::now(Cause::Created, None), SECOND);
        assert!(engine.is_starting());
    });
}

#[test]
fn a_pod_whose_end_is_not_known_to_be_saved_is_told_of_until_the_next_one() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        list(&mut engine, &[&pod(&bot, "u1", None, &over(1))], SECOND);
        assert_eq!(engine.went_unsaved(), std::slice::from_ref(&bot.id));
        assert_eq!(engine.lately_unsaved(SECOND), 1);
        let released = News::Released(bot.id.clone(), "u1".into(), Ok(()));
        engine.take(released, SECOND);
        list(&mut engine, &[], SECOND);
        let days = 100_000 * SECOND;
        engine.collect(|_| true, |_, _| false, days);
        assert_eq!(engine.went_unsaved(), std::slice::from_ref(&bot.id));
        assert_eq!(engine.lately_unsaved(days), 0, "an alert has an end");
        list(&mut engine, &[&pod(&bot, "u2", None, &running())], SECOND);
        assert!(engine.went_unsaved().is_empty());
    });
}

#[test]
fn a_bot_over_its_limit_of_disk_keeps_the_pod_that_has_what_it_could_not_save() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            ..
        } = stage(|_| None);
        let bot = bot("b");
        let full = status("Running", &ended(115, Reason::Disk), 0);
        list(&mut engine, &[&pod(&bot, "u1", None, &full)], SECOND);
        engine.tick(2 * SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Running));
        let instance = engine.instance(&bot.id).unwrap();
        let why = instance.trouble.clone().unwrap();
        assert!(why.starts_with("over its limit of disk"), "{why}");
        let runtimes = HashMap::from([(bot.id.clone(), bot.definition.runtime)]);
        assert!(engine.behind(&runtimes).is_empty(), "a roll leaves it");
        assert!(cluster.requests().iter().all(|it| it.method == "GET"));
    });
}

#[test]
fn a_sync_that_is_not_ready_for_a_while_does_not_save_and_that_is_told_once() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let with = |ready: bool| {
            let mut status = running();
            status["initContainerStatuses"] = json!([{
                "name": "sync", "image": "i", "imageID": "", "restartCount": 0, "started": true, "ready": ready,
                "state": {"running": {}},
            }]);
            let mut pod = serde_json::to_value(pod(&bot, "u1", None, &status)).unwrap();
            pod["spec"]["initContainers"] = json!([{"name": "sync", "readinessProbe": {}}]);
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        let saving = |engine: &Engine| engine.records(&bot.id).unwrap().saving.unwrap();
        list(&mut engine, &[&with(false)], SECOND);
        engine.tick(15 * SECOND);
        assert_eq!(saving(&engine), Saving::Untold, "it may have just begun");
        list(&mut engine, &[&with(true)], 16 * SECOND);
        assert_eq!(saving(&engine), Saving::Works);
        engine.told();
        list(&mut engine, &[&with(false)], 20 * SECOND);
        engine.tick(39 * SECOND);
        assert!(engine.told().is_empty());
        engine.tick(40 * SECOND);
        engine.tick(41 * SECOND);
        assert_eq!(engine.told().len(), 1);
        assert!(matches!(saving(&engine), Saving::Fails(_)));
        let trouble = engine.instance(&bot.id).unwrap().trouble.clone().unwrap();
        assert!(trouble.contains("not being saved"), "{trouble}");
        list(&mut engine, &[&with(true)], 50 * SECOND);
        assert_eq!(saving(&engine), Saving::Works);
        assert_eq!(engine.told().len(), 1);
        assert_eq!(engine.instance(&bot.id).unwrap().trouble, None);
    });
}

#[test]
fn restarts_are_those_in_a_row_and_not_all_that_the_kubelet_has_counted() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let now = SystemTime::now();
        let ago = |seconds| Time::from(now - Duration::from_secs(seconds));
        let run = |run, from, to| RunRecord {
            run,
            code: 1,
            signal: None,
            reason: Reason::Exited,
            started_at: ago(from),
            ended_at: ago(to),
            restarts: 0,
            message: None,
            result: None,
        };
        let since = |seconds| {
            let since = serde_json::to_value(ago(seconds)).unwrap();
            json!({"running": {"startedAt": since}})
        };
        list(
            &mut engine,
            &[&pod(&bot, "u1", None, &status("Running", &since(30), 9))],
            SECOND,
        );
        let slot = engine.slots.get_mut(&bot.id).unwrap();
        slot.runs = vec![
            run(6, 900, 890),
            run(7, 800, 500),
            run(8, 400, 390),
            run(9, 300, 290),
        ];
        let restarts = |engine: &Engine| engine.records(&bot.id).unwrap().status.unwrap().restarts;
        assert_eq!(restarts(&engine), 2, "since the stable one");
        list(
            &mut engine,
            &[&pod(&bot, "u1", None, &status("Running", &since(100), 9))],
            SECOND,
        );
        assert_eq!(restarts(&engine), 0, "it is stable");
    });
}

#[test]
fn what_could_not_be_let_go_is_tried_again() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        list(&mut engine, &[&pod(&bot, "u1", None, &over(1))], SECOND);
        engine.told();
        engine.take(
            News::Released(bot.id.clone(), "u1".into(), Err("away".into())),
            SECOND,
        );
        assert_eq!(engine.slots[&bot.id].release_at, Some(SECOND + AGAIN));
        engine.tick(SECOND + AGAIN);
        assert_eq!(engine.slots[&bot.id].release_at, None);
        assert!(engine.told().is_empty());
        engine.take(
            News::Released(bot.id.clone(), "u1".into(), Ok(())),
            9 * SECOND,
        );
        let Some(Phase::Ended(end)) = phase(&engine, &bot) else {
            panic!("it has not ended");
        };
        assert_eq!((end.outcome, end.failures), (Outcome::Failed, 1));
    });
}

#[test]
fn the_pod_of_a_tick_stays_until_its_end_is_written_down() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            ..
        } = stage(|_| None);
        let mut bot = bot("b");
        bot.definition.kind = contract::BotType::Scheduled;
        let tick = Some(Key { at: 60, attempt: 1 });
        list(&mut engine, &[&pod(&bot, "u1", tick, &over(0))], SECOND);
        let instance = engine.instance(&bot.id).unwrap();
        assert!(matches!(instance.actual.phase, Phase::Ended(_)));
        assert_eq!(instance.birth.as_ref().unwrap().start.tick, tick);
        assert_eq!(engine.told().len(), 1);
        list(&mut engine, &[&pod(&bot, "u1", tick, &over(0))], 2 * SECOND);
        assert!(engine.told().is_empty(), "once");
        engine.collect(|_| true, |_, _| true, 2 * SECOND);
        assert_eq!(engine.husks.get("u1"), Some(&Husk::Kept));
        engine.collect(|_| true, |_, _| false, 2 * SECOND);
        cluster.request("PATCH", "/pods/default-b-t60").await;
        assert_eq!(engine.husks.get("u1"), Some(&Husk::Going));
        let refused = News::Released(bot.id.clone(), "u1".into(), Err("no space".into()));
        engine.take(refused, 2 * SECOND);
        engine.collect(|_| true, |_, _| false, 2 * SECOND);
        let refused = Husk::Refused(2 * SECOND + AGAIN);
        assert_eq!(engine.husks.get("u1"), Some(&refused), "not at once");
        engine.collect(|_| true, |_, _| false, 2 * SECOND + AGAIN);
        assert_eq!(engine.husks.get("u1"), Some(&Husk::Going));
    });
}

#[test]
fn who_acts_from_now_on_ends_a_pod_whose_bot_was_fenced_while_it_watched() {
    block_on(async {
        let Stage {
            mut engine,
            cluster,
            ..
        } = stage(|_| None);
        let bot = bot("b");
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let mut fenced = status("Running", &waiting, 1);
        fenced["containerStatuses"][0]["lastState"] = ended(114, Reason::Fenced);
        let pod = pod(&bot, "u1", None, &fenced);
        let acts = std::mem::replace(&mut engine.access.lease, Lease::never());
        list(&mut engine, &[&pod], SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Running));
        engine.access.lease = acts;
        list(&mut engine, &[&pod], 2 * SECOND);
        cluster.request("DELETE", "/pods/default-b").await;
    });
}

#[test]
fn a_listing_that_is_older_than_a_start_says_nothing_about_it() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        list(&mut engine, &[], SECOND);
        let begun = engine.clock.now();
        engine.start(&bot, Start::now(Cause::Created, None), SECOND);
        assert!(engine.is_starting());
        let running = Running {
            seen: seen(&pod(&bot, "u1", None, &running())),
            keys: keys::Term {
                renew_in: Some(60 * SECOND),
                good_for: Some(120 * SECOND),
            },
            is_found: false,
        };
        engine.take(News::Started(bot.id.clone(), Box::new(Ok(running))), SECOND);
        let old = Snapshot {
            begun,
            version: 0,
            pods: Vec::new(),
            others: Others::new(),
        };
        engine.take(News::Listed(Box::new(old)), SECOND);
        assert_eq!(phase(&engine, &bot), Some(Phase::Running));
        assert_eq!(engine.slots[&bot.id].renew_at, Some(61 * SECOND));
        list(&mut engine, &[], 2 * SECOND);
        assert!(
            matches!(phase(&engine, &bot), Some(Phase::Ended(_))),
            "it is gone"
        );
    });
}

#[test]
fn a_run_that_ends_while_its_pod_goes_on_is_told_once() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let one = pod(&bot, "u1", None, &running());
        list(&mut engine, &[&one], SECOND);
        let mut crashed = one.clone();
        let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled",
            "startedAt": "2026-01-01T00:00:05Z", "finishedAt": "2026-01-01T00:00:09Z"}});
        crashed.status = Some(serde_json::from_value(status("Running", &ended, 0)).unwrap());
        for _ in 0..2 {
            engine.take(News::Seen(Box::new(seen(&crashed))), 2 * SECOND);
        }
        let told = engine.told();
        assert_eq!(told.len(), 1, "{told:?}");
        let Told::Ran { records, .. } = &told[0] else {
            panic!("{told:?}");
        };
        assert_eq!(records.runs[0].reason, Reason::Oom);
        assert_eq!(
            phase(&engine, &bot),
            Some(Phase::Running),
            "the kubelet starts it again"
        );
    });
}

#[test]
fn runs_that_nobody_saw_are_told_of_when_a_later_one_tells_of_them_and_others_not_again() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        let mut one = pod(&bot, "u1", None, &running());
        let annotations = one.metadata.annotations.get_or_insert_default();
        annotations.insert(names::BEGAN.to_owned(), "2026-01-01T00:00:00Z".to_owned());
        list(&mut engine, &[&one], SECOND);
        let run = |run: u64| RunRecord {
            run,
            code: 137,
            signal: Some(9),
            reason: Reason::Oom,
            started_at: Time::now(),
            ended_at: Time::now(),
            restarts: 0,
            message: None,
            result: None,
        };
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled",
            "startedAt": "2026-01-01T00:00:05Z", "finishedAt": "2026-01-01T00:00:09Z"}});
        let words = last_words::of_run(&run(4), &[run(1), run(2), run(3)]);
        let later = json!({"terminated": {"exitCode": 137, "message": words}});
        let mut told = Vec::new();
        for (state, restarts) in [(&killed, 0), (&later, 3), (&later, 3)] {
            let mut crashed = one.clone();
            crashed.status =
                Some(serde_json::from_value(status("Running", state, restarts)).unwrap());
            engine.take(News::Seen(Box::new(seen(&crashed))), 2 * SECOND);
            for tale in engine.told() {
                let Told::Ran { records, .. } = tale else {
                    panic!("{tale:?}");
                };
                told.push(records.runs.iter().map(|run| run.run).collect::<Vec<_>>());
            }
        }
        assert_eq!(told, [vec![1], vec![1, 2, 3, 4]]);
    });
}

#[test]
fn a_pod_of_the_name_that_is_not_ours_is_left_alone() {
    block_on(async {
        let foreign =
            json!({"metadata": {"name": "default-b", "uid": "x"}, "spec": {"containers": []}});
        let exists =
            json!({"kind": "Status", "code": 409, "message": "exists", "reason": "AlreadyExists"});
        let Stage {
            engine, cluster, ..
        } = stage(move |request| {
            let is_pod = request.path.contains("/pods");
            match request.method.as_str() {
                "POST" if is_pod => Some((409, exists.clone())),
                "POST" => Some((201, json!({"metadata": {}}))),
                "GET" if request.path.contains("/pods/default-b") => Some((200, foreign.clone())),
                _ => None,
            }
        });
        let (_keep, cancel) = oneshot::channel();
        let access = engine.access.clone();
        let start = Start::now(Cause::Created, None);
        let bot = bot("b");
        let starting = work::start(&access, &bot, &start, None, cancel);
        let not = Box::pin(starting).await;
        let not = not.unwrap_err();
        assert!(
            not.why
                .contains("default-b is there that is not this agent's"),
            "{}",
            not.why
        );
        assert_eq!(not.outcome, Outcome::Failed);
        let touched = |r: &Request| r.path.contains("/pods/default-b") && r.method != "GET";
        assert!(!cluster.requests().iter().any(touched));
        cluster.request("DELETE", "/secrets/default-b-").await;
    });
}

#[test]
fn a_watch_that_is_too_far_behind_lists_anew() {
    block_on(async {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old", "reason": "Expired"}});
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []});
        let mut stage = stage(move |request| {
            let is_watch = request.path.contains("watch=true");
            let is_pods = request.path.contains("/pods");
            is_pods.then(|| (200, if is_watch { gone.clone() } else { list.clone() }))
        });
        for _ in 0..2 {
            let news = stage.news.recv().await.unwrap();
            assert!(matches!(news, News::Listed(_)), "{news:?}");
        }
    });
}

#[test]
fn many_pods_are_listed_in_pages_and_anew_when_that_takes_too_long() {
    block_on(async {
        let gone =
            json!({"kind": "Status", "code": 410, "message": "too old", "reason": "Expired"});
        let late = std::sync::atomic::AtomicBool::new(true);
        let mut stage = stage(move |request| {
            let is_late = || late.swap(false, std::sync::atomic::Ordering::Relaxed);
            let next = request.path.contains("continue=next");
            if request.path.contains("watch=true") || !request.path.contains("/pods") {
                return None;
            }
            if next && is_late() {
                return Some((410, gone.clone()));
            }
            let (name, more) = if next { ("b", "") } else { ("a", "next") };
            let item = pod(&bot(name), name, None, &running());
            Some((
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "items": [item],
                "metadata": {"resourceVersion": "7", "continue": more}}),
            ))
        });
        let Some(News::Listed(snapshot)) = stage.news.recv().await else {
            panic!("it is no listing");
        };
        let bots: Vec<&str> = snapshot.pods.iter().map(|pod| pod.bot.as_str()).collect();
        assert_eq!(bots, ["a", "b"]);
        let asked = stage.cluster.requests();
        let lists = asked
            .iter()
            .filter(|request| request.path.contains("/pods"))
            .filter(|request| !request.path.contains("watch=true"));
        assert_eq!(lists.clone().count(), 4, "{asked:?}");
        assert!(
            lists
                .into_iter()
                .all(|request| request.path.contains("limit="))
        );
    });
}

#[test]
fn an_api_server_that_is_away_is_told_of_once_and_nothing_is_decided_meanwhile() {
    block_on(async {
        let Stage { mut engine, .. } = stage(|_| None);
        let bot = bot("b");
        list(&mut engine, &[&pod(&bot, "u1", None, &running())], SECOND);
        for _ in 0..2 {
            engine.take(News::Down("refused".into()), 2 * SECOND);
        }
        assert!(!engine.is_ready());
        assert_eq!(engine.link(), Err("refused".to_owned()));
        assert_eq!(phase(&engine, &bot), Some(Phase::Running), "it runs on");
        list(
            &mut engine,
            &[&pod(&bot, "u1", None, &running())],
            3 * SECOND,
        );
        assert!(engine.is_ready());
        engine.look_anew();
        assert!(!engine.is_ready(), "what is known may be old");
    });
}

#[test]
fn secrets_of_starts_that_were_cut_off_are_removed_when_they_are_older_than_any_start_takes() {
    block_on(async {
        let secret = |name: &str, age: u64, owners: &Value| {
            let made = std::time::SystemTime::now() - Duration::from_mins(age);
            let made = Time::from(made).to_string();
            json!({"metadata": {"name": name, "creationTimestamp": made, "ownerReferences": owners}})
        };
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]);
        let none = json!([]);
        let id: BotId = "b".parse().unwrap();
        let mut being_made = secret("being-made", 11, &none);
        being_made["metadata"]["labels"] = json!(names::labels(&template().stack, &id));
        being_made["metadata"]["annotations"] = json!({ names::ID: "b" });
        let items = [
            being_made,
            secret("left", 11, &none),
            secret("young", 9, &none),
            secret("owned", 11, &owner),
            secret("used", 11, &none),
        ];
        let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items});
        let Stage {
            engine, cluster, ..
        } = stage(move |request| match request.method.as_str() {
            "GET" if request.path.contains("/secrets") => Some((200, list.clone())),
            "DELETE" => Some((200, json!({"kind": "Status", "status": "Success"}))),
            _ => None,
        });
        let busy = std::collections::BTreeSet::from([id]);
        let used = std::collections::BTreeSet::from(["used".to_owned()]);
        work::sweep(engine.access.clone(), used, busy).await;
        let requests = cluster.requests().into_iter();
        let removed = requests.filter(|request| request.method == "DELETE");
        let removed: Vec<String> = removed.map(|request| request.path).collect();
        assert_eq!(removed.len(), 1, "{removed:?}");
        assert!(removed[0].contains("/secrets/left"));
    });
}
