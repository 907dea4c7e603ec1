//! What the end of a supervisor means. [`judge`] is pure; [`Facts::read`] gathers what it looks at.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use contract::record::{Reason, RunRecord};
use contract::{BotType, Paths, exit, file};

use crate::plan::Outcome;

/// What is known when a supervisor has ended.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The code it exited with.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What the last record says.
    pub record: Option<RunRecord>,
    /// Whether a run was begun and ended since it was started.
    pub has_run: bool,
    /// How the bot's life goes.
    pub kind: BotType,
    /// Whether it was told to stop.
    pub asked: bool,
}

/// What it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// For the plan.
    pub outcome: Outcome,
    /// For a person.
    pub reason: String,
}

/// The number of the last run on record; 0 when there is none.
pub fn last_run(paths: &Paths) -> u64 {
    let records: Vec<RunRecord> = file::read_json_lines(&paths.runs()).unwrap_or_default();
    records.last().map_or(0, |record| record.run)
}

impl Facts {
    /// Gathers them; `last_run` is the number of the last run before the supervisor was started.
    pub fn read(
        paths: &Paths,
        status: io::Result<ExitStatus>,
        kind: BotType,
        before: u64,
        asked: bool,
    ) -> Self {
        let record = file::read_json(&paths.done_record()).ok().flatten();
        let has_run = last_run(paths) > before;
        let (code, signal) = status.map_or((None, None), |s| (s.code(), s.signal()));
        Self {
            code,
            signal,
            record,
            has_run,
            kind,
            asked,
        }
    }

    fn message(&self) -> Option<&str> {
        self.record.as_ref()?.message.as_deref()
    }
}

/// Says what it means that a supervisor ended so.
pub fn judge(facts: &Facts) -> Verdict {
    let own = facts.code.and_then(|code| u8::try_from(code).ok());
    let outcome = if facts.asked {
        Outcome::Stopped
    } else {
        match own {
            Some(exit::FENCED | exit::DISK | exit::BAD_LAUNCH) => Outcome::Refused,
            Some(exit::MISSING_VARIABLE) if !facts.has_run => Outcome::Refused,
            Some(_) if facts.kind == BotType::Scheduled && has_completed(facts) => {
                Outcome::Completed
            }
            _ => Outcome::Failed,
        }
    };
    Verdict {
        outcome,
        reason: reason(facts, own, outcome),
    }
}

/// Whether the bot itself ran to its end.
fn has_completed(facts: &Facts) -> bool {
    let ran =
        |record: &RunRecord| matches!(record.reason, Reason::Exited | Reason::Killed | Reason::Oom);
    facts.has_run && facts.record.as_ref().is_some_and(ran)
}

fn reason(facts: &Facts, own: Option<u8>, outcome: Outcome) -> String {
    let code = match (facts.code, facts.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("its supervisor was ended by signal {signal}"),
        (None, None) => "its supervisor is gone".to_owned(),
    };
    let is_bots = facts.has_run && has_completed(facts);
    let meaning = own.filter(|_| !is_bots).and_then(exit::meaning);
    let because = facts
        .message()
        .filter(|_| outcome != Outcome::Stopped)
        .or(meaning);
    let because = because.map_or(String::new(), |why| format!(": {why}"));
    match outcome {
        Outcome::Stopped => format!("stopped ({code})"),
        Outcome::Completed => format!("completed ({code}){because}"),
        _ => format!("failed ({code}){because}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::record::Time;

    fn facts(code: i32, kind: BotType, ran: Option<Reason>) -> Facts {
        let record = ran.map(|reason| RunRecord {
            run: 3,
            code: 0,
            signal: None,
            reason,
            started_at: Time::now(),
            ended_at: Time::now(),
            restarts: 0,
            message: None,
            result: None,
        });
        let has_run = ran.is_some_and(|r| r != Reason::StartFailed);
        Facts {
            code: Some(code),
            signal: None,
            record,
            has_run,
            kind,
            asked: false,
        }
    }

    #[test]
    fn an_ending_is_judged_by_who_failed_and_whether_time_mends_it() {
        use BotType::{Realtime, Scheduled};
        let exited = Some(Reason::Exited);
        let rows = [
            (facts(0, Scheduled, exited), Outcome::Completed),
            (facts(3, Scheduled, exited), Outcome::Completed),
            (facts(1, Scheduled, exited), Outcome::Completed),
            (facts(1, Scheduled, None), Outcome::Refused),
            (facts(112, Scheduled, None), Outcome::Failed),
            (
                facts(127, Scheduled, Some(Reason::StartFailed)),
                Outcome::Failed,
            ),
            (facts(0, Realtime, exited), Outcome::Failed),
            (facts(113, Realtime, None), Outcome::Failed),
            (facts(114, Realtime, Some(Reason::Fenced)), Outcome::Refused),
            (facts(115, Realtime, Some(Reason::Disk)), Outcome::Refused),
            (facts(111, Realtime, None), Outcome::Refused),
        ];
        for (facts, expected) in rows {
            assert_eq!(judge(&facts).outcome, expected, "{facts:?}");
        }
    }

    #[test]
    fn what_was_asked_for_is_no_failure_and_a_kill_is_one() {
        let mut told = facts(143, BotType::Realtime, Some(Reason::Stopped));
        told.asked = true;
        assert_eq!(judge(&told).reason, "stopped (exit code 143)");
        let mut killed = facts(0, BotType::Scheduled, None);
        (killed.code, killed.signal) = (None, Some(9));
        let verdict = judge(&killed);
        assert_eq!(verdict.outcome, Outcome::Failed);
        assert!(verdict.reason.contains("signal 9"), "{}", verdict.reason);
    }

    #[test]
    fn our_own_codes_are_explained() {
        let reason = judge(&facts(112, BotType::Realtime, None)).reason;
        assert_eq!(
            reason,
            "failed (exit code 112): the code could not be fetched"
        );
    }
}
