//! How a Pod is read: its metadata, and what the cluster and the kubelet have put into its status.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use contract::record::{Reason, RunRecord, Time};
use contract::{BotType, last_words};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::containers::{BOT, FETCH, QUERY, SYNC};
use super::super::names::{self, annotation};
use super::super::{cronjob, secret};
use super::{Ended, Seen, Stage};
use crate::engine::stack::Stack;
use crate::history::cause::{Cause, Told};
use crate::history::{Birth, Start};

/// Characters of a reason that people are told.
const REASON: usize = 400;
/// The exit code of a run whose end nobody saw: Kubernetes' own for a container whose status is lost (`ContainerStatusUnknown`).
const UNSEEN: u8 = 137;

/// The cluster tells whole seconds.
const WHOLE: Duration = Duration::from_secs(1);

impl Seen {
    /// What the Pod tells, if it is the stack's.
    pub fn of(stack: &Stack, pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let bot = names::bot_of(stack, meta)?;
        let none = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&none);
        let main = container(status.container_statuses.as_ref(), BOT);
        let sync = container(status.init_container_statuses.as_ref(), SYNC);
        let birth = birth(pod);
        let is_ending = meta.deletion_timestamp.is_some();
        let state = main.and_then(|main| main.state.as_ref());
        let lost = main.and_then(|main| lost(status, main, &birth));
        let restarts = main.map_or(0, |main| main.restart_count.cast_unsigned());
        Some(Self {
            bot,
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: version(meta),
            called: annotation(meta, names::NAME),
            kind: match label(meta, names::TYPE) {
                "scheduled" => BotType::Scheduled,
                _ => BotType::Realtime,
            },
            launch: annotation(meta, names::LAUNCH),
            template: annotation(meta, names::TEMPLATE),
            code: annotation(meta, names::CODE).parse().ok(),
            began: annotation(meta, names::BEGAN),
            secrets: secret::names_of(pod),
            job: names::job_of(meta).map(str::to_owned),
            is_final: is_final(status),
            address: address(status),
            query: address(status).filter(|_| answers(pod)),
            is_ending,
            ends_by: meta.deletion_timestamp.as_ref().map(|by| by.0.into()),
            is_forced: is_ending && meta.deletion_grace_period_seconds == Some(0),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            stage: stage(pod, status, state),
            restarts,
            started: state.and_then(|state| time(state.running.as_ref()?.started_at.as_ref())),
            end: match &lost {
                Some(lost) => Some(Ended::unseen(lost.ended_at)),
                None => main.and_then(last_end).or_else(|| without_a_run(status)),
            },
            runs: main.map_or(Vec::new(), |main| runs(main, &birth, lost)),
            earlier: main.map_or(Vec::new(), earlier),
            synced: sync.and_then(|sync| parsed(sync.state.as_ref()?.terminated.as_ref()?)),
            saves: sync.and_then(|sync| saves(pod, sync)),
            taken: taken(meta, status).map(|why| cut(&why)),
            trouble: trouble(status),
            birth,
        })
    }
}

impl Ended {
    /// One that nobody saw.
    fn unseen(at: Time) -> Self {
        Self {
            code: None,
            is_oom: false,
            at: Some(at),
        }
    }
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> &'a str {
    let labels = meta.labels.as_ref();
    labels
        .and_then(|labels| labels.get(name))
        .map_or("", String::as_str)
}

fn version(meta: &ObjectMeta) -> u64 {
    let version = meta.resource_version.as_ref();
    version.and_then(|it| it.parse().ok()).unwrap_or_default()
}

/// What a Pod was made of. One of an agent that left no word was found.
fn birth(pod: &Pod) -> Birth {
    let meta = &pod.metadata;
    let told = annotation(meta, names::CAUSE).parse();
    let told = told.unwrap_or(Told(Cause::Found, None));
    let some = |name: &str| Some(annotation(meta, name)).filter(|value| !value.is_empty());
    let made = time(meta.creation_timestamp.as_ref());
    let began = Time::try_from(annotation(meta, names::BEGAN)).ok();
    let spec = pod.spec.as_ref();
    let mut all = spec.into_iter().flat_map(|spec| &spec.containers);
    let image = all
        .find(|it| it.name == BOT)
        .and_then(|it| it.image.clone());
    let uid = meta.uid.as_ref();
    let start = Start {
        cause: told.0,
        because: told.1,
        at: began.or(made).unwrap_or(SystemTime::UNIX_EPOCH.into()),
        tick: annotation(meta, names::TICK).parse().ok(),
    };
    Birth {
        start: match cronjob::tick(meta) {
            Some(tick) => start.of_tick(tick),
            None => start,
        },
        name: annotation(meta, names::NAME),
        version: some(names::VERSION),
        code: some(names::CODE),
        config: None,
        launch: some(names::LAUNCH),
        image,
        container: uid.map(|uid| uid.chars().take(13).collect()),
    }
}

/// What the readiness of a `sync` says that has begun and is probed.
fn saves(pod: &Pod, sync: &ContainerStatus) -> Option<bool> {
    let spec = pod.spec.as_ref()?;
    let mut inits = spec.init_containers.iter().flatten();
    let is_probed = inits.any(|it| it.name == SYNC && it.readiness_probe.is_some());
    let begun = sync.started == Some(true) && sync.state.as_ref()?.running.is_some();
    (is_probed && begun).then_some(sync.ready)
}

fn address(status: &PodStatus) -> Option<IpAddr> {
    status.pod_ip.as_ref()?.parse().ok()
}

fn answers(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let mut inits = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    inits.any(|container| container.name == QUERY)
}

fn is_final(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn stage(pod: &Pod, status: &PodStatus, state: Option<&ContainerState>) -> Stage {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let is_over = is_final(status);
    // No kubelet has ever seen it: nobody tells that it has ended.
    let is_unseen = spec.is_none_or(|spec| spec.node_name.is_none());
    if is_over || (meta.deletion_timestamp.is_some() && is_unseen) {
        return Stage::Over;
    }
    let gates = spec.and_then(|spec| spec.scheduling_gates.as_ref());
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return Stage::Gated;
    }
    match state {
        Some(state) if state.running.is_some() => Stage::Running,
        Some(state) if state.terminated.is_some() => Stage::Waiting,
        Some(state) if is_backing_off(state) => Stage::Waiting,
        _ => Stage::Coming,
    }
}

fn is_backing_off(state: &ContainerState) -> bool {
    let waiting = state.waiting.as_ref();
    waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff")
}

pub fn container<'a>(
    statuses: Option<&'a Vec<ContainerStatus>>,
    name: &str,
) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

fn last_end(main: &ContainerStatus) -> Option<Ended> {
    let [before, now] = ends(main);
    now.or(before).map(|ended| Ended {
        code: Some(ended.exit_code),
        is_oom: ended.reason.as_deref() == Some("OOMKilled"),
        at: time(ended.finished_at.as_ref()),
    })
}

/// The end of a Pod whose bot never ran: `fetch` could not bring what it needs.
fn without_a_run(status: &PodStatus) -> Option<Ended> {
    let fetch = container(status.init_container_statuses.as_ref(), FETCH)?;
    let ended = fetch.state.as_ref()?.terminated.as_ref()?;
    (ended.exit_code != 0).then(|| Ended {
        code: Some(ended.exit_code),
        is_oom: ended.reason.as_deref() == Some("OOMKilled"),
        at: time(ended.finished_at.as_ref()),
    })
}

/// How the two lives ended of which a container's status still tells: the one before, and the one that is just over.
fn ends(main: &ContainerStatus) -> [Option<&ContainerStateTerminated>; 2] {
    let states = [main.last_state.as_ref(), main.state.as_ref()];
    states.map(|state| state.and_then(|state| state.terminated.as_ref()))
}

/// Their runs, and `lost`.
fn runs(main: &ContainerStatus, birth: &Birth, lost: Option<RunRecord>) -> Vec<RunRecord> {
    let count = u64::from(main.restart_count.cast_unsigned());
    let both = ends(main).into_iter().zip([count, count + 1]);
    let seen = both.filter_map(|(ended, run)| Some(record(ended?, run, birth)));
    seen.chain(lost).collect()
}

/// Why the cluster ends the Pod: it is evicted, preempted, or its node goes. Who is told to end is marked as such once more
/// by a drain of its node, which has not ended it then.
fn taken(meta: &ObjectMeta, status: &PodStatus) -> Option<String> {
    let grace = Duration::from_secs(
        meta.deletion_grace_period_seconds
            .unwrap_or(0)
            .unsigned_abs(),
    );
    let by = meta
        .deletion_timestamp
        .as_ref()
        .map(|by| SystemTime::from(by.0));
    let told = by.map(|by| by - grace);
    let marked = time(target(status).and_then(|it| it.last_transition_time.as_ref()));
    let is_after = told
        .zip(marked)
        .is_some_and(|(told, marked)| marked.system() > told + WHOLE);
    words(status).or_else(|| disruption(status).filter(|_| !is_after))
}

/// Why the cluster has chosen the Pod to go, in its own words.
pub fn disruption(status: &PodStatus) -> Option<String> {
    let target = target(status)?;
    target.message.clone().or_else(|| target.reason.clone())
}

fn target(status: &PodStatus) -> Option<&PodCondition> {
    condition(status, "DisruptionTarget", "True")
}

fn condition<'a>(status: &'a PodStatus, kind: &str, value: &str) -> Option<&'a PodCondition> {
    let mut all = status.conditions.iter().flatten();
    all.find(|it| it.type_ == kind && it.status == value)
}

/// The status's own words on the whole of the Pod.
fn words(status: &PodStatus) -> Option<String> {
    match (&status.reason, &status.message) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (word, other) => word.as_ref().or(other.as_ref()).cloned(),
    }
}

/// The run whose end no kubelet saw: the cluster has given up the Pod, with its node, as it ran.
fn lost(status: &PodStatus, main: &ContainerStatus, birth: &Birth) -> Option<RunRecord> {
    let running = main.state.as_ref()?.running.as_ref()?;
    if !is_final(status) {
        return None;
    }
    let changes = status.conditions.iter().flatten();
    let changed = changes.filter_map(|it| time(it.last_transition_time.as_ref()));
    // Kubelets tell whole seconds.
    let started_at = time(running.started_at.as_ref()).unwrap_or(birth.start.at);
    let started_at = started_at.max(birth.start.at);
    let why = words(status).or_else(|| disruption(status));
    let why = why.unwrap_or_else(|| "its node is lost".to_owned());
    Some(RunRecord {
        run: u64::from(main.restart_count.cast_unsigned()) + 1,
        code: UNSEEN,
        signal: None,
        reason: Reason::Lost,
        started_at,
        ended_at: changed.max().map_or(started_at, |at| at.max(started_at)),
        restarts: 0,
        message: Some(cut(&format!("nobody saw it end: {why}"))),
        result: None,
    })
}

/// The runs before, of which their last words tell.
fn earlier(main: &ContainerStatus) -> Vec<RunRecord> {
    let ends = ends(main).into_iter().flatten();
    let words = ends.filter_map(|ended| ended.message.as_deref());
    let told = words.flat_map(last_words::before);
    let told: BTreeMap<u64, RunRecord> = told.map(|run| (run.run, run)).collect();
    told.into_values().collect()
}

/// The record of a run: its supervisor's own, or what the kubelet saw of its end.
fn record(ended: &ContainerStateTerminated, run: u64, birth: &Birth) -> RunRecord {
    if let Some(own) = parsed(ended) {
        return own;
    }
    let at = |time: Option<Time>| time.unwrap_or(birth.start.at).max(birth.start.at);
    let is_oom = ended.reason.as_deref() == Some("OOMKilled");
    // One that was killed with its bot has said what was before, and nothing of this.
    let own = ended.message.as_deref();
    let own = own.filter(|words| last_words::before(words).is_empty());
    RunRecord {
        run,
        code: u8::try_from(ended.exit_code).unwrap_or(u8::MAX),
        signal: ended.signal.or(is_oom.then_some(9)),
        reason: if is_oom { Reason::Oom } else { Reason::Lost },
        started_at: at(time(ended.started_at.as_ref())),
        ended_at: at(time(ended.finished_at.as_ref())),
        restarts: 0,
        message: own
            .map(cut)
            .or_else(|| Some("its supervisor ended with it".to_owned())),
        result: None,
    }
}

/// What a program has left as its last words.
pub fn parsed<T: serde::de::DeserializeOwned>(ended: &ContainerStateTerminated) -> Option<T> {
    serde_json::from_str(ended.message.as_deref()?).ok()
}

/// What keeps a Pod from its work, in its cluster's own words.
pub fn trouble(status: &PodStatus) -> Option<String> {
    let told = words(status).or_else(|| not_scheduled(status));
    let told = told.or_else(|| cut_off(status));
    let inits = status.init_container_statuses.iter().flatten();
    let all = inits.chain(status.container_statuses.iter().flatten());
    let told = told.or_else(|| all.into_iter().find_map(held));
    told.map(|text| cut(&text))
}

fn not_scheduled(status: &PodStatus) -> Option<String> {
    let conditions = status.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|it| it.type_ == "PodScheduled")?;
    let is_gated = scheduled.reason.as_deref() == Some("SchedulingGated");
    let why = scheduled.message.as_deref().unwrap_or("no node takes it");
    (scheduled.status == "False" && !is_gated)
        .then(|| format!("its Pod cannot be scheduled: {why}"))
}

/// That its node does not answer: the cluster says that the Pod is not ready whose kubelet said that its containers are; or
/// that it is taken from its node.
fn cut_off(status: &PodStatus) -> Option<String> {
    let is = |kind: &str, value: &str| condition(status, kind, value);
    let ready = is("Ready", "False").filter(|_| is("ContainersReady", "True").is_some());
    let gates = Some("ReadinessGatesNotReady");
    if ready.is_some_and(|ready| ready.reason.as_deref() != gates) {
        return Some("its node does not answer: whether it runs is not known".to_owned());
    }
    let why = disruption(status)?;
    Some(format!("it is taken from its node: {why}"))
}

/// Why a container does not run that should.
fn held(status: &ContainerStatus) -> Option<String> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if matches!(reason, "PodInitializing" | "ContainerCreating") {
        return None;
    }
    let before = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let name = &status.name;
    if reason != "CrashLoopBackOff" {
        let more = waiting.message.as_deref().unwrap_or_default();
        return Some(format!("container {name}: {reason}: {more}"));
    }
    // Of the bot's own end its records tell.
    let ended = before.filter(|_| name != BOT)?;
    let words = ended.message.as_deref().unwrap_or_default().trim();
    Some(format!(
        "container {name} failed (exit code {}) and is tried again: {words}",
        ended.exit_code
    ))
}

fn cut(text: &str) -> String {
    let text = text.trim().trim_end_matches(':');
    text.chars().take(REASON).collect()
}

/// A time of the API.
fn time(time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> Option<Time> {
    time.map(|time| Time::from(SystemTime::from(time.0)))
}
