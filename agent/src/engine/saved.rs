//! What the records of an instance that has ended prove. Pure.

use contract::record::{Outcome as Saved, Time};

use crate::report::{Integrity, Records};

/// Whether a run was begun and ended since the container was made: the volumes have those of earlier ones, too.
pub fn has_run(records: &Records, made: Option<Time>) -> bool {
    let last = records.runs.last();
    last.is_some_and(|last| made.is_none_or(|made| last.ended_at >= made))
}

/// Whether all that a container that has ended had is in the store, as far as that is proven: what cannot be read proves
/// nothing. A run that was begun and has no record of its end (`done.json` is removed when a run begins) may have written
/// after the last push.
pub fn is_saved(records: &Records) -> bool {
    if records.integrity == Integrity::Doubtful {
        return false;
    }
    let Some(synced) = &records.synced else {
        let ran = records.status.as_ref().is_some_and(|status| status.run > 0);
        return !ran && records.runs.is_empty();
    };
    let ended = records.done.as_ref().map(|done| done.run);
    let all = synced.outcome == Saved::Ok && synced.left_out.is_empty();
    all && ended.is_some_and(|run| synced.run >= run)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::record::{Reason, RunRecord, State, Status, Synced};

    use super::*;

    fn records(done: Option<u64>, synced: Option<(Saved, u64)>) -> Records {
        let now = Time::now();
        let record = |run| RunRecord {
            run,
            code: 0,
            signal: None,
            reason: Reason::Exited,
            started_at: now,
            ended_at: now,
            restarts: 0,
            message: None,
            result: None,
        };
        let synced = synced.map(|(outcome, run)| Synced {
            outcome,
            run,
            generation: 1,
            digest: None,
            log: contract::logs::Position::default(),
            ok_at: None,
            at: now,
            error: None,
            left_out: Vec::new(),
            traffic: None,
            result: None,
        });
        Records {
            done: done.map(record),
            synced,
            ..Records::default()
        }
    }

    #[test]
    fn a_run_counts_if_it_ended_when_its_container_was_there() {
        let mut with = records(Some(1), None);
        with.runs.extend(with.done.clone());
        let ended = with.runs[0].ended_at.system();
        let before = Time::from(ended - Duration::from_millis(5));
        let after = Time::from(ended + Duration::from_millis(5));
        assert!(has_run(&with, Some(before)) && has_run(&with, None));
        assert!(!has_run(&with, Some(after)), "it was another container's");
        assert!(!has_run(&records(None, None), None));
    }

    #[test]
    fn only_what_is_proven_is_saved() {
        let ok = |run| Some((Saved::Ok, run));
        assert!(is_saved(&records(Some(3), ok(3))));
        assert!(is_saved(&records(None, None)), "nothing ever ran");
        for (done, synced) in [
            (None, ok(3)),
            (Some(4), ok(3)),
            (Some(3), Some((Saved::Failed, 3))),
            (Some(3), Some((Saved::Fenced, 3))),
            (Some(3), Some((Saved::TooLarge, 3))),
        ] {
            assert!(!is_saved(&records(done, synced)), "{done:?} {synced:?}");
        }
        let mut doubtful = records(Some(3), ok(3));
        doubtful.integrity = Integrity::Doubtful;
        assert!(!is_saved(&doubtful));
        let mut left_out = records(Some(3), ok(3));
        left_out
            .synced
            .as_mut()
            .unwrap()
            .left_out
            .push("x: denied".into());
        assert!(!is_saved(&left_out));
        let mut began = records(None, None);
        began.status = Some(Status {
            state: State::Running,
            since: Time::now(),
            run: 1,
            pid: None,
            restarts: 0,
            next_start: None,
            supervisor: 1,
            log_lines_dropped: 0,
        });
        assert!(!is_saved(&began));
        began.status.as_mut().unwrap().run = 0;
        assert!(is_saved(&began), "it was never begun");
    }
}
