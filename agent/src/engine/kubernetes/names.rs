//! Names, labels and annotations: how what belongs to a bot of a stack is told from everything else in a namespace.
//!
//! A Pod's name is made of stack and bot, so the API server itself refuses a second Pod of one bot, also while the
//! first one is being ended on a node that nobody reaches. Whose a Pod is, is told by its labels and not by its name: one
//! that has the name and not the labels is somebody else's, and is never touched.
//!
//! A label's value may have 63 characters, of few kinds; whatever is longer, or is for people, is an annotation.

use std::collections::BTreeMap;

use contract::{BotId, Digest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest as _, Sha256};

use crate::engine::stack::Stack;
use crate::schedule::ledger::Key;

/// The contract's label of the bot's id; also the annotation that has it whole.
pub const ID: &str = "the0.app/bot-id";
/// The contract's label of the id of the bot's definition.
pub const CUSTOM_ID: &str = "the0.app/custom-bot-id";
/// The contract's label of the code's version; also the annotation that has it whole.
pub const VERSION: &str = "the0.app/custom-bot-version";
/// The contract's label of the runtime.
pub const RUNTIME: &str = "the0.app/runtime";
/// The contract's label of who made it.
pub const MANAGED_BY: &str = "the0.app/managed-by";
/// Our value of [`MANAGED_BY`].
pub const AGENT: &str = "the0-agent";
/// The label of the stack.
pub const STACK: &str = "the0.app/stack";
/// The label of how the bot's life goes: realtime or scheduled.
pub const TYPE: &str = "the0.app/type";
/// The annotation of the bot's name, for a person.
pub const NAME: &str = "the0.app/name";
/// The annotation of the launch digest of the bot's document.
pub const LAUNCH: &str = "the0.app/launch";
/// The annotation of the digest of what the operator sets.
pub const TEMPLATE: &str = "the0.app/template";
/// The annotation of the code bundle's key.
pub const CODE: &str = "the0.app/code";
/// The annotation of why the Pod was made, see [`crate::history::cause`].
pub const CAUSE: &str = "the0.app/cause";
/// The annotation of when it was decided to make it, RFC 3339.
pub const BEGAN: &str = "the0.app/began";
/// The annotation of which try of which tick of a schedule it was made for.
pub const TICK: &str = "the0.app/tick";
/// The annotation of when the Pod's keys were renewed last: a kubelet brings what is new in a Secret to a Pod that changes.
pub const RENEWED: &str = "the0.app/keys-renewed";
/// The annotation of the version of the agent that made it.
pub const MADE_BY: &str = "the0.app/agent-version";
/// The annotation of a Secret that names its Pod.
pub const POD: &str = "the0.app/pod";
/// Our value of [`TYPE`] for the Pod of a question, and its Secret.
pub const QUERY: &str = "query";
/// Our value of [`TYPE`] for what belongs to a job.
pub const BACKTEST: &str = "backtest";
/// The label of a job's id; also the annotation that has it whole.
pub const JOB: &str = "the0.app/job";
/// The annotation of the agent that a question's Pod is for.
pub const HOLDER: &str = "the0.app/holder";
/// The annotation of when nobody waits for its answer any more, in seconds since 1970.
pub const UNTIL: &str = "the0.app/until";
/// The annotation of its answer's key.
pub const RESULT: &str = "the0.app/result";
/// The annotation of a CronJob with the digest of what it was made of.
pub const SUM: &str = "the0.app/digest";
/// The finalizer that keeps a Pod until it is known how it ended.
pub const SAVED: &str = "the0.app/saved";
/// The gate that keeps the Pod of a tick from being started before it is written down that it is.
pub const PERMIT: &str = "the0.app/permit";

/// Characters of a Pod's name: its host name is the same then.
const LONGEST: usize = 63;
/// Characters of a CronJob's name: its Jobs' have eleven more.
const LONGEST_OF_SCHEDULES: usize = 52;
/// Characters of a name that a digest takes.
const SHORT: usize = 8;

/// The name of the Pod of the bot, or of one tick of its schedule, whichever try it is: there is never a second one.
pub fn pod(stack: &Stack, bot: &BotId, tick: Option<Key>) -> String {
    let tick = tick.map_or(String::new(), |tick| format!("-t{}", tick.at));
    let plain = format!("{stack}-{bot}");
    fit(stack, bot, plain, &tick, LONGEST)
}

/// The name of the CronJob of the bot's schedule.
pub fn schedule(stack: &Stack, bot: &BotId) -> String {
    let plain = format!("schedule-{stack}-{bot}");
    fit(stack, bot, plain, "", LONGEST_OF_SCHEDULES)
}

/// The name, if it is fit for one; else what of it is, with a digest.
fn fit(stack: &Stack, bot: &BotId, plain: String, tick: &str, longest: usize) -> String {
    let is_plain = plain.len() + tick.len() <= longest
        && bot.as_str().bytes().all(is_plain)
        && stack.as_str().bytes().all(|b| is_plain(b) || b == b'-')
        && !stack.as_str().starts_with('-');
    if is_plain {
        return plain + tick;
    }
    // Made fit it could be another bot's: the digest tells them apart.
    let sum = sum(&[stack.as_str(), bot.as_str()]);
    let room = longest - tick.len() - SHORT - 1;
    let fit: String = plain.to_ascii_lowercase().chars().map(fitting).collect();
    let fit: String = fit.trim_start_matches('-').chars().take(room).collect();
    let fit = if fit.is_empty() {
        "b"
    } else {
        fit.trim_end_matches('-')
    };
    format!("{fit}-{sum}{tick}")
}

/// The name of the Pod of one question to the bot; `chance` tells it from all others.
pub fn question(stack: &Stack, bot: &BotId, chance: u64) -> String {
    let tail = format!("-{chance:016x}");
    let plain = format!("{stack}-{QUERY}-{bot}");
    let fit: String = plain.to_ascii_lowercase().chars().map(fitting).collect();
    let fit = fit.trim_start_matches('-').chars();
    let fit: String = fit.take(LONGEST - tail.len()).collect();
    fit.trim_end_matches('-').to_owned() + &tail
}

/// The name of the job's Pod. The digest tells it from others, of bots too.
pub fn job(stack: &Stack, job: &BotId) -> String {
    let sum = sum(&[stack.as_str(), "job", job.as_str()]);
    let plain = format!("{stack}-job-{job}").to_ascii_lowercase();
    let fit: String = plain.chars().map(fitting).collect();
    let fit = fit.trim_start_matches('-').chars();
    let fit: String = fit.take(LONGEST - SHORT - 1).collect();
    format!("{}-{sum}", fit.trim_end_matches('-'))
}

/// Whether a character of a bot's id is fit for a name. A `-` stands between stack and id, so an id with one is told by
/// its digest.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn fitting(c: char) -> char {
    if c.is_ascii_lowercase() || c.is_ascii_digit() {
        c
    } else {
        '-'
    }
}

/// Some characters of the digest of these texts.
pub fn sum(parts: &[&str]) -> String {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update(part.as_bytes());
        sum.update(b"\0");
    }
    let sum = Digest::from_bytes(sum.finalize().into());
    sum.as_str().chars().take(SHORT).collect()
}

/// A text as a label's value: itself, or as much of it as is fit, with its digest.
pub fn label(text: &str) -> String {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_fit = bytes.len() <= LONGEST
        && text.bytes().all(is_inner)
        && is_edge(bytes.first())
        && is_edge(bytes.last());
    if is_fit || text.is_empty() {
        return text.to_owned();
    }
    let fit = text
        .chars()
        .filter(|c| u8::try_from(*c).is_ok_and(is_inner));
    let fit: String = fit.take(LONGEST - SHORT - 1).collect();
    let fit = fit.trim_matches(['-', '_', '.']);
    let sum = sum(&[text]);
    if fit.is_empty() {
        sum
    } else {
        format!("{fit}-{sum}")
    }
}

/// The labels of everything that belongs to a bot.
pub fn labels(stack: &Stack, bot: &BotId) -> BTreeMap<String, String> {
    let pairs = [
        (MANAGED_BY, AGENT.to_owned()),
        (STACK, label(stack.as_str())),
        (ID, label(bot.as_str())),
    ];
    pairs.map(|(k, v)| (k.to_owned(), v)).into()
}

/// The labels of everything that belongs to a job: none of a bot's.
pub fn job_labels(stack: &Stack, job: &BotId) -> BTreeMap<String, String> {
    let mut labels = labels(stack, job);
    labels.remove(ID);
    let own = [(JOB, label(job.as_str())), (TYPE, BACKTEST.to_owned())];
    labels.extend(own.map(|(k, v)| (k.to_owned(), v)));
    labels
}

/// What selects everything of a stack's bots, and nothing of questions to them and of jobs.
pub fn selector(stack: &Stack) -> String {
    format!("{},{TYPE} notin ({QUERY},{BACKTEST})", of_stack(stack))
}

/// What selects the same of one bot.
pub fn of_bot(stack: &Stack, bot: &BotId) -> String {
    format!("{},{ID}={}", selector(stack), label(bot.as_str()))
}

/// What selects everything of a stack's jobs.
pub fn jobs(stack: &Stack) -> String {
    format!("{},{TYPE}={BACKTEST}", of_stack(stack))
}

/// What selects everything of questions to a stack's bots.
pub fn questions(stack: &Stack) -> String {
    format!("{},{TYPE}={QUERY}", of_stack(stack))
}

fn of_stack(stack: &Stack) -> String {
    format!("{MANAGED_BY}={AGENT},{STACK}={}", label(stack.as_str()))
}

/// The name of the Job that has made the Pod.
pub fn job_of(meta: &ObjectMeta) -> Option<&str> {
    let mut owners = meta.owner_references.iter().flatten();
    let job = owners.find(|owner| owner.kind == "Job" && owner.controller == Some(true))?;
    Some(&job.name)
}

/// The bot whose the object is; `None` if it is not of this stack.
pub fn bot_of(stack: &Stack, meta: &ObjectMeta) -> Option<BotId> {
    let labels = meta.labels.as_ref()?;
    let is = |name: &str, value: &str| labels.get(name).is_some_and(|v| v == value);
    if !is(MANAGED_BY, AGENT) || !is(STACK, &label(stack.as_str())) {
        return None;
    }
    let bot: BotId = annotation(meta, ID).parse().ok()?;
    is(ID, &label(bot.as_str())).then_some(bot)
}

/// The job whose the object is; `None` if it is not of this stack.
pub fn whose_job(stack: &Stack, meta: &ObjectMeta) -> Option<BotId> {
    let job: BotId = annotation(meta, JOB).parse().ok()?;
    let labels = meta.labels.as_ref()?;
    let own = job_labels(stack, &job);
    let has = |(name, value): (&String, &String)| labels.get(name) == Some(value);
    own.iter().all(has).then_some(job)
}

/// An annotation's value; empty where there is none.
pub fn annotation(meta: &ObjectMeta, name: &str) -> String {
    let annotations = meta.annotations.as_ref();
    let value = annotations.and_then(|annotations| annotations.get(name));
    value.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stack(name: &str) -> Stack {
        name.parse().unwrap()
    }

    fn bot(id: &str) -> BotId {
        id.parse().unwrap()
    }

    fn is_dns(name: &str) -> bool {
        let inner = name.bytes().all(|b| is_plain(b) || b == b'-');
        inner && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
    }

    #[test]
    fn a_plain_bot_has_a_plain_name() {
        let at = |at, attempt| Some(Key { at, attempt });
        let name = |tick| pod(&stack("default"), &bot("abc1"), tick);
        assert_eq!(name(None), "default-abc1");
        assert_eq!(name(at(60, 1)), "default-abc1-t60");
        assert_eq!(name(at(60, 1)), name(at(60, 2)), "a tick is one Pod");
        let (one, other) = (stack("a"), stack("a-b"));
        assert_ne!(pod(&one, &bot("b-c"), None), pod(&other, &bot("c"), None));
    }

    #[test]
    fn what_is_not_ours_by_its_labels_is_nobodys() {
        let stack = stack("s");
        let id = bot("b1");
        let mut meta = ObjectMeta {
            labels: Some(labels(&stack, &id)),
            annotations: Some([(ID.to_owned(), "b1".to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(bot_of(&stack, &meta), Some(id));
        assert_eq!(bot_of(&"t".parse().unwrap(), &meta), None);
        for name in [MANAGED_BY, STACK, ID] {
            let mut fewer = meta.clone();
            fewer.labels.as_mut().unwrap().remove(name);
            assert_eq!(bot_of(&stack, &fewer), None, "{name}");
        }
        meta.annotations = Some([(ID.to_owned(), "b2".to_owned())].into());
        assert_eq!(bot_of(&stack, &meta), None, "the two do not agree");
    }

    #[test]
    fn what_is_a_jobs_is_no_bots() {
        let (stack, id) = (stack("s"), bot("J_1"));
        assert_ne!(job(&stack, &id), pod(&stack, &id, None));
        assert_ne!(job(&stack, &id), job(&stack, &bot("j-1")));
        let mut meta = ObjectMeta {
            labels: Some(job_labels(&stack, &id)),
            annotations: Some([(JOB.to_owned(), "J_1".to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(whose_job(&stack, &meta), Some(id));
        assert_eq!(bot_of(&stack, &meta), None);
        assert_eq!(whose_job(&"t".parse().unwrap(), &meta), None);
        meta.labels.as_mut().unwrap().remove(JOB);
        assert_eq!(whose_job(&stack, &meta), None);
    }

    proptest! {
        #[test]
        fn every_name_and_label_is_one_that_the_api_server_takes(
            name in "[a-z0-9_-]{1,40}", id in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", text in ".{0,80}",
        ) {
            let Ok(id) = id.parse::<BotId>() else { return Ok(()) };
            let stack = stack(&name);
            prop_assert!(is_dns(&pod(&stack, &id, None)));
            let tick = Key { at: 4_000_000_000, attempt: 1 };
            prop_assert!(is_dns(&pod(&stack, &id, Some(tick))));
            prop_assert!(is_dns(&question(&stack, &id, u64::MAX)));
            prop_assert!(is_dns(&job(&stack, &id)));
            // The controller of CronJobs puts 11 characters behind it for a Job's name.
            let schedule = schedule(&stack, &id);
            prop_assert!(is_dns(&schedule) && schedule.len() <= 52, "{}", schedule);
            let value = label(&text);
            let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
            prop_assert!(value.len() <= 63, "{}", value);
            prop_assert!(edge(value.chars().next()) && edge(value.chars().last()), "{}", value);
        }
    }
}
