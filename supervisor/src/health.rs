//! `supervisor health`: whether a container does its work, for the engine that asks from time to time.
//!
//! Healthy is a bot that is being started, runs or is being stopped, under a supervisor that lives. Not healthy is:
//!
//! * no status, or one of a supervisor that is gone or has finished;
//! * a crash loop: the bot waits for its next start after [`CRASHES`] runs in a row that ended by themselves;
//! * a claim lost to another instance, or a state over its limit: the bot is about to be stopped for it;
//! * saving that has failed for longer than [`UNSAVED`]. Such a bot runs on all the same; a person should look.
//!
//! It reads `status.json` and `synced.json` and nothing else, so it costs a few milliseconds.

use std::path::Path;
use std::time::Duration;

use contract::record::{Outcome, State, Status, Synced};
use contract::{Paths, file, vars};

/// As many runs in a row are a crash loop.
const CRASHES: u32 = 3;
/// A store may be away this long before that is said.
const UNSAVED: Duration = Duration::from_secs(5 * 60);

/// What there is to say, in a line; an error when it is not well.
///
/// # Errors
/// Why the container is not healthy.
pub fn check() -> Result<String, String> {
    let var = std::env::var_os(vars::THE0_VAR_PATH).filter(|path| !path.is_empty());
    let paths = Paths {
        var: var.map_or("/var/the0".into(), Into::into),
        ..Paths::under(Path::new("/"))
    };
    let (status, synced) = (paths.status(), paths.synced());
    let Ok(Some(read)) = file::read_json::<Status>(&status) else {
        return Err(format!(
            "there is no status in {}: nothing was started yet",
            status.display()
        ));
    };
    let saved = file::read_json::<Synced>(&synced).unwrap_or(None);
    let lives = Path::new("/proc")
        .join(read.supervisor.to_string())
        .exists();
    judge(
        &read,
        saved.as_ref(),
        if lives {
            Supervisor::Lives
        } else {
            Supervisor::Gone
        },
    )
}

/// Whether the one who wrote the status is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supervisor {
    Lives,
    Gone,
}

fn judge(
    status: &Status,
    synced: Option<&Synced>,
    supervisor: Supervisor,
) -> Result<String, String> {
    if supervisor == Supervisor::Gone || status.state == State::Stopped {
        return Err(format!("run {} is over and nothing runs", status.run));
    }
    if status.state == State::Waiting && status.restarts >= CRASHES {
        let (run, restarts) = (status.run, status.restarts);
        return Err(format!(
            "crash loop: run {run} was the last of {restarts} in a row that ended by themselves"
        ));
    }
    if let Some(synced) = synced {
        judge_saving(synced, status)?;
    }
    Ok(format!("{}, run {}", status.state.name(), status.run))
}

fn judge_saving(synced: &Synced, status: &Status) -> Result<(), String> {
    let why = synced
        .error
        .as_deref()
        .unwrap_or("for a reason that was not told");
    match synced.outcome {
        Outcome::Fenced => Err("another instance has claimed the bot".into()),
        Outcome::TooLarge => Err(format!("nothing is saved: {why}")),
        Outcome::Failed => {
            let unsaved = synced.ok_at.unwrap_or(status.since).age();
            let minutes = unsaved.as_secs() / 60;
            if unsaved < UNSAVED {
                Ok(())
            } else {
                Err(format!("nothing was saved for {minutes} minutes: {why}"))
            }
        }
        Outcome::Ok | Outcome::Edited => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use contract::logs::Position;
    use contract::record::Time;

    use super::*;
    use crate::records::before_now;

    fn status(state: State, restarts: u32) -> Status {
        Status {
            state,
            since: Time::now(),
            run: 4,
            pid: None,
            restarts,
            next_start: None,
            supervisor: 1,
            log_lines_dropped: 0,
        }
    }

    fn synced(outcome: Outcome, ok: Option<Duration>) -> Synced {
        Synced {
            outcome,
            run: 3,
            generation: 1,
            digest: None,
            log: Position::default(),
            ok_at: ok.map(before_now),
            at: Time::now(),
            error: Some("the store does not answer".into()),
            left_out: Vec::new(),
            traffic: None,
            result: None,
        }
    }

    #[test]
    fn a_bot_at_work_is_healthy_and_one_that_is_not_says_why() {
        let lives = |state, restarts| judge(&status(state, restarts), None, Supervisor::Lives);
        for state in [State::Starting, State::Running, State::Stopping] {
            assert_eq!(lives(state, 9).unwrap(), format!("{}, run 4", state.name()));
        }
        assert!(lives(State::Waiting, 2).is_ok());
        assert!(lives(State::Waiting, 3).unwrap_err().contains("crash loop"));
        assert!(lives(State::Stopped, 0).is_err());
        assert!(judge(&status(State::Running, 0), None, Supervisor::Gone).is_err());
    }

    #[test]
    fn saving_may_fail_for_a_while_and_a_lost_claim_may_not() {
        let running = status(State::Running, 0);
        let saved = |outcome, ago: Option<u64>| {
            let synced = synced(outcome, ago.map(Duration::from_secs));
            judge(&running, Some(&synced), Supervisor::Lives)
        };
        assert!(saved(Outcome::Ok, Some(9999)).is_ok() && saved(Outcome::Edited, None).is_ok());
        assert!(saved(Outcome::Failed, Some(240)).is_ok() && saved(Outcome::Failed, None).is_ok());
        let long = saved(Outcome::Failed, Some(600)).unwrap_err();
        assert!(
            long.contains("10 minutes") && long.contains("does not answer"),
            "{long}"
        );
        assert!(
            saved(Outcome::Fenced, Some(0)).is_err() && saved(Outcome::TooLarge, Some(0)).is_err()
        );
    }
}
