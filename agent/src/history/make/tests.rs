use contract::Digest;
use contract::record::{RunResult, Status};

use super::*;
use crate::history::tests::{birth, bot, time};

fn run(number: u64, from: u64, to: u64, reason: Reason) -> RunRecord {
    RunRecord {
        run: number,
        code: 1,
        signal: None,
        reason,
        started_at: time(from),
        ended_at: time(to),
        restarts: u32::try_from(number - 1).unwrap(),
        message: None,
        result: None,
    }
}

fn status(state: State, run: u64, since: u64) -> Status {
    Status {
        state,
        since: time(since),
        run,
        pid: None,
        restarts: 2,
        next_start: None,
        supervisor: 1,
        log_lines_dropped: 7,
    }
}

fn synced(outcome: Outcome, run: u64) -> Synced {
    Synced {
        outcome,
        run,
        generation: 4,
        digest: Some(Digest::from_bytes([0; 32])),
        log: contract::logs::Position::default(),
        ok_at: Some(time(15)),
        at: time(15),
        error: None,
        left_out: Vec::new(),
        traffic: None,
        result: None,
    }
}

fn life(began: u64) -> Life {
    Life {
        bot: bot(),
        birth: birth(time(began)),
        end: None,
    }
}

fn over(began: u64, end: End) -> Life {
    Life {
        end: Some(end),
        ..life(began)
    }
}

fn end(code: i32) -> End {
    End {
        code: Some(code),
        signal: None,
        is_oom: false,
        at: time(99),
        why: None,
        taken: None,
    }
}

fn causes(entries: &[Entry]) -> Vec<(Cause, Option<&str>)> {
    let causes = entries.iter();
    causes.map(|e| (e.cause, e.because.as_deref())).collect()
}

#[test]
fn the_first_run_of_a_life_has_its_cause_and_the_others_that_of_the_end_before() {
    let mut oom = run(2, 12, 13, Reason::Oom);
    oom.signal = Some(9);
    let records = Records {
        runs: vec![run(1, 11, 12, Reason::Exited), oom],
        status: Some(status(State::Running, 3, 13)),
        synced: Some(synced(Outcome::Ok, 1)),
        ..Records::default()
    };
    let entries = entries(&life(10), &records);
    let expected = [
        (Cause::Created, None),
        (Cause::Crashed, Some("exit 1")),
        (Cause::Crashed, Some("out of memory")),
    ];
    assert_eq!(causes(&entries), expected);
    assert!(entries[2].is_open() && entries[2].started_at == time(13));
    assert_eq!(entries[0].duration_ms, Some(1000));
    assert!(entries[0].saved.as_ref().unwrap().all);
    assert_eq!(entries[1].saved, None, "not settled yet");
}

#[test]
fn runs_of_an_earlier_life_are_hearsay() {
    let records = Records {
        runs: vec![
            run(1, 2, 3, Reason::Exited),
            run(2, 3, 4, Reason::Stopped),
            run(3, 11, 12, Reason::Exited),
        ],
        ..Records::default()
    };
    let entries = entries(&life(10), &records);
    let hearsay: Vec<bool> = entries.iter().map(|entry| entry.is_hearsay).collect();
    assert_eq!(hearsay, [true, true, false]);
    let expected = [
        (Cause::Found, None),
        (Cause::Crashed, Some("exit 1")),
        (Cause::Created, None),
    ];
    assert_eq!(causes(&entries), expected);
    assert!(entries[1].container.is_none() && entries[2].container.is_some());
}

#[test]
fn an_end_that_nobody_recorded_is_lost_or_out_of_memory() {
    let records = Records {
        status: Some(status(State::Running, 1, 11)),
        synced: Some(synced(Outcome::Ok, 0)),
        ..Records::default()
    };
    for (is_oom, reason) in [(false, Reason::Lost), (true, Reason::Oom)] {
        let end = End { is_oom, ..end(137) };
        let entries = entries(&over(10, end), &records);
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        assert_eq!((entry.reason, entry.exit), (Some(reason), Some(137)));
        assert_eq!(entry.log_lines_dropped, 7);
        let saved = entry.saved.as_ref().unwrap();
        assert!(!saved.all && saved.ok_at == Some(time(15)));
    }
}

#[test]
fn a_life_without_a_run_is_a_start_that_failed() {
    let mut refused = run(5, 20, 20, Reason::StartFailed);
    refused.code = 112;
    refused.message = Some("sync fetch ended with code 112".into());
    let records = Records {
        runs: vec![run(5, 2, 3, Reason::Exited)],
        done: Some(refused),
        status: Some(status(State::Stopped, 5, 20)),
        ..Records::default()
    };
    let entries = entries(&over(10, end(112)), &records);
    let entry = entries.last().unwrap();
    assert_eq!(
        (entry.run, entry.reason, entry.exit),
        (0, Some(Reason::StartFailed), Some(112))
    );
    assert_eq!(
        entry.message.as_deref(),
        Some("sync fetch ended with code 112")
    );
    assert_eq!(entry.started_at, time(10));
    assert_eq!(entry.saved, None);

    let bare = super::entries(&over(10, end(110)), &Records::default());
    assert!(
        bare[0]
            .message
            .as_ref()
            .unwrap()
            .contains("launch document")
    );
}

#[test]
fn who_stopped_it_is_told_and_a_result_goes_along() {
    let mut stopped = run(1, 11, 20, Reason::Stopped);
    let said = br#"{"status":"error","message":"no"}"#;
    stopped.result = RunResult::parse(said);
    let records = Records {
        runs: vec![stopped],
        ..Records::default()
    };
    let end = End {
        why: Some(Why::Changed),
        ..end(143)
    };
    let entries = entries(&over(10, end), &records);
    assert_eq!(entries[0].stopped.as_deref(), Some("changed"));
    assert!(entries[0].result.as_ref().unwrap().is_error());
    let saved = entries[0].saved.as_ref().unwrap();
    assert_eq!((saved.outcome, saved.all), (None, false), "nothing was");
}

#[test]
fn why_a_cluster_ended_it_is_told_where_nobody_else_did_and_comes_to_what_was_known() {
    let taken = Some("Evicted: low on memory".to_owned());
    let told = |reason, why, message: Option<&str>| {
        let mut ended = run(1, 11, 20, reason);
        ended.message = message.map(str::to_owned);
        let records = Records {
            runs: vec![ended],
            ..Records::default()
        };
        let before = entries(&life(10), &records).remove(0);
        let end = End {
            why,
            taken: taken.clone(),
            ..end(143)
        };
        let known = before.merged(entries(&over(10, end), &records).remove(0));
        known.message.unwrap_or_default()
    };
    let why = "its Pod was taken away: Evicted: low on memory";
    assert_eq!(told(Reason::Stopped, None, None), why);
    assert_eq!(told(Reason::Stopped, Some(Why::Changed), None), "");
    assert_eq!(told(Reason::Exited, None, None), "");
    let lost = told(Reason::Lost, None, Some("its supervisor ended with it"));
    assert_eq!(lost, format!("its supervisor ended with it; {why}"));
    let unseen = "nobody saw it end: Evicted: low on memory";
    assert_eq!(told(Reason::Lost, None, Some(unseen)), unseen);
}

#[test]
fn reading_it_twice_makes_the_same_records() {
    let records = Records {
        runs: vec![
            run(1, 11, 12, Reason::Exited),
            run(2, 12, 13, Reason::Killed),
        ],
        synced: Some(synced(Outcome::Ok, 2)),
        ..Records::default()
    };
    let life = over(10, end(1));
    assert_eq!(entries(&life, &records), entries(&life, &records));
    let keys: Vec<String> = entries(&life, &records).iter().map(Entry::key).collect();
    assert_eq!(keys, ["b1:11000:1", "b1:12000:2"]);
}
