//! Records of history, made from what a bot's programs have written and what is known of their container. Pure.

use contract::BotId;
use contract::record::{Outcome, Reason, RunRecord, State, Synced, Time};

use super::cause::{self, Birth, Cause, Start, Told};
use super::entry::{Entry, Saved};
use crate::plan::Why;
use crate::report::Records;

/// One start of a bot's supervisor and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The bot.
    pub bot: BotId,
    /// What it was made of.
    pub birth: Birth,
    /// How it ended, if it has.
    pub end: Option<End>,
}

/// Characters by which a reason is known again.
const TOLD: usize = 200;

/// How a supervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it, where the engine tells.
    pub signal: Option<i32>,
    /// Whether the kernel killed for want of memory.
    pub is_oom: bool,
    /// When, as well as is known.
    pub at: Time,
    /// Why we stopped it, if we did.
    pub why: Option<Why>,
    /// Why its cluster did, if it took its place away.
    pub taken: Option<String>,
}

/// The records of a life's runs, oldest first, and before them those that the files tell of earlier lives.
pub fn entries(life: &Life, records: &Records) -> Vec<Entry> {
    let began = life.birth.start.at;
    let mut entries = Vec::new();
    let mut last: Option<&RunRecord> = None;
    for run in &records.runs {
        let is_ours = run.started_at >= began;
        let is_first = last.is_none_or(|last| last.started_at < began);
        let mut entry = Entry::open(&life.bot, &life.birth, run.run, run.started_at);
        entry.is_hearsay = !is_ours;
        if !is_ours {
            forget_birth(&mut entry);
        }
        if !(is_ours && is_first) {
            let Told(cause, because) = last.map_or(Told(Cause::Found, None), cause::in_place);
            (entry.cause, entry.because) = (cause, because);
        }
        complete(&mut entry, run);
        entry.saved = saved(run.run, records.synced.as_ref());
        entries.push(entry);
        last = Some(run);
    }
    let is_new = last.is_none_or(|last| last.started_at < began);
    entries.extend(under_way(life, records, last, is_new));
    entries.extend(no_run(life, records, entries.last()));
    if let Some(end) = &life.end {
        close(entries.last_mut(), began, end, records);
    }
    entries
}

/// What is not known of a run of an earlier life.
fn forget_birth(entry: &mut Entry) {
    entry.version = None;
    entry.code_key = None;
    entry.launch = None;
    entry.image = None;
    entry.container = None;
}

fn complete(entry: &mut Entry, run: &RunRecord) {
    entry.end(run.ended_at);
    entry.reason = Some(run.reason);
    entry.exit = Some(i32::from(run.code));
    entry.signal = run.signal;
    entry.message.clone_from(&run.message);
    entry.restarts = run.restarts;
    entry.result.clone_from(&run.result);
}

/// The run that has begun and is not recorded: it runs, or went away with its supervisor.
fn under_way(
    life: &Life,
    records: &Records,
    last: Option<&RunRecord>,
    is_first: bool,
) -> Option<Entry> {
    let status = records.status.as_ref()?;
    let begun = matches!(status.state, State::Running | State::Stopping);
    let is_recorded = last.is_some_and(|last| status.run <= last.run);
    if !begun || is_recorded || status.run == 0 || status.since < life.birth.start.at {
        return None;
    }
    // When one that is being stopped was started is known from before, if at all.
    if status.state == State::Stopping && life.end.is_none() {
        return None;
    }
    let mut entry = Entry::open(&life.bot, &life.birth, status.run, status.since);
    entry.restarts = status.restarts;
    if !is_first {
        let Told(cause, because) = last.map_or(Told(Cause::Found, None), cause::in_place);
        (entry.cause, entry.because) = (cause, because);
    }
    if let Some(end) = &life.end {
        entry.end(end.at);
        entry.reason = Some(if end.is_oom {
            Reason::Oom
        } else {
            Reason::Lost
        });
        entry.exit = end.code;
        entry.signal = end.signal;
        entry.message = Some("the supervisor ended with it".to_owned());
        entry.saved = saved(status.run, records.synced.as_ref());
    }
    Some(entry)
}

/// A life that has ended without a run: what it was started for did not begin.
fn no_run(life: &Life, records: &Records, last: Option<&Entry>) -> Option<Entry> {
    let end = life.end.as_ref()?;
    let began = life.birth.start.at;
    if last.is_some_and(|last| last.started_at >= began) {
        return None;
    }
    let mut entry = Entry::open(&life.bot, &life.birth, 0, began);
    let done = records.done.as_ref().filter(|done| done.ended_at >= began);
    entry.end(end.at);
    entry.exit = end.code.or_else(|| done.map(|done| i32::from(done.code)));
    entry.signal = end.signal;
    entry.reason = Some(match done {
        Some(done) => done.reason,
        None if end.is_oom => Reason::Oom,
        None if end.why.is_some() => Reason::Stopped,
        None => Reason::StartFailed,
    });
    if entry.reason == Some(Reason::Exited) {
        entry.reason = Some(Reason::StartFailed);
    }
    let said = done.and_then(|done| done.message.clone());
    let told = || cause::ended_with(entry.reason, entry.exit, entry.signal);
    entry.message = Some(said.unwrap_or_else(told));
    // Nothing ran, so nothing can be unsaved that was not before.
    Some(entry)
}

/// What the end of a life tells of its last run.
fn close(last: Option<&mut Entry>, began: Time, end: &End, records: &Records) {
    let Some(last) = last.filter(|last| last.started_at >= began) else {
        return;
    };
    if last.reason == Some(Reason::Stopped) {
        last.stopped = end.why.map(|why| why.name().to_owned());
    }
    let is_theirs = match last.reason {
        Some(Reason::Stopped | Reason::Lost) => end.why.is_none(),
        Some(Reason::StartFailed) => end.why.is_none() && last.run == 0,
        _ => false,
    };
    if let Some(why) = end.taken.as_ref().filter(|_| is_theirs) {
        // Both were cut, not at the same word.
        let words: String = why.chars().take(TOLD).collect();
        let is_said = |own: &String| own.contains(&words);
        if !last.message.as_ref().is_some_and(is_said) {
            let own = last.message.take();
            let own = own.map_or(String::new(), |own| format!("{own}; "));
            last.message = Some(format!("{own}its Pod was taken away: {why}"));
        }
    }
    let dropped = records.status.as_ref();
    last.log_lines_dropped = dropped.map_or(0, |status| status.log_lines_dropped);
    if last.run > 0 && last.saved.is_none() {
        let synced = records.synced.as_ref();
        last.saved = Some(Saved {
            outcome: synced.map(|synced| synced.outcome),
            generation: synced.map(|synced| synced.generation),
            ok_at: synced.and_then(|synced| synced.ok_at),
            all: false,
            left_out: synced.map_or(0, |synced| synced.left_out.len() as u64),
        });
    }
}

/// What of a run is saved, once a pass has been made after its end.
fn saved(run: u64, synced: Option<&Synced>) -> Option<Saved> {
    let synced = synced.filter(|synced| synced.run >= run && synced.outcome == Outcome::Ok)?;
    Some(Saved {
        outcome: Some(synced.outcome),
        generation: Some(synced.generation),
        ok_at: synced.ok_at,
        all: synced.left_out.is_empty(),
        left_out: synced.left_out.len() as u64,
    })
}

/// A start that did not come as far as a supervisor.
pub fn not_started(bot: &BotId, name: &str, start: &Start, why: &str, at: Time) -> Entry {
    let birth = Birth {
        start: start.clone(),
        name: name.to_owned(),
        version: None,
        code: None,
        config: None,
        launch: None,
        image: None,
        container: None,
    };
    let mut entry = Entry::open(bot, &birth, 0, start.at);
    entry.end(at);
    entry.reason = Some(Reason::StartFailed);
    entry.message = Some(why.to_owned());
    entry
}

#[cfg(test)]
#[path = "make/tests.rs"]
mod tests;
