//! Starting and ending our children: fetch, the sides, the bot.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use contract::exit;
use contract::launch::Variables;
use contract::record::Time;
use contract::runtime::Program;
use contract::stage::{Placement, Stage};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::{Bot, Main, SidesAim};
use crate::machine::{Ending, Event, Exit};
use crate::records::say_before;
use crate::signals;
use crate::spawn::{self, Stdio};
use crate::stage::{Inside, Report, read_report};

/// How much sooner than us the kernel ends the bot when memory is short.
const OOM_SCORE_ABOVE: u16 = 200;

/// Which side is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Sync,
    Query,
}

impl Bot {
    pub(super) fn start_fetch(&mut self) {
        contract::info!("fetching code and state");
        let env = self.launch.sync_environment();
        match self.start_ours("sync", &["fetch", "--keys-from-stdin"], &env) {
            Ok((pid, _input)) => self.fetch = Some(pid),
            Err(err) => {
                contract::error!("start sync fetch: {err}");
                self.pending
                    .push_back(Event::Fetched(Exit::Code(exit::INTERNAL)));
            }
        }
    }

    /// Starts a program of ours beside us; gives the other end of its standard input, too, on which `sync` finds keys.
    fn start_ours(
        &self,
        name: &'static str,
        args: &[&str],
        env: &Variables,
    ) -> io::Result<(i32, OwnedFd)> {
        let ours = spawn::Ours {
            name,
            args,
            env,
            keys: (name == "sync").then_some(&self.keys),
        };
        ours.start(
            self.stderr.as_fd(),
            &self.inside(Report::Journal),
            self.signals.given(),
        )
    }

    /// Writes the keys to the `sync` that runs.
    pub(super) fn hand_on_keys(&self) {
        if let Some(input) = self.sync.input()
            && let Err(err) = spawn::write_keys(&self.keys, input)
        {
            contract::warn!(
                "hand renewed keys to sync: {err}; it gets them when it is started again"
            );
        }
    }

    pub(super) fn start_sides(&mut self) {
        self.sides = SidesAim::Up;
        // What an earlier sync said is not about this life.
        self.seen = contract::file::read_json(&self.launch.paths.synced())
            .ok()
            .flatten();
        self.sync.want();
        self.want_query();
        self.start_due_sides();
    }

    pub(super) fn want_query(&mut self) {
        if self.launch.query_entrypoint.is_some()
            && self.launch.bot_type == contract::BotType::Realtime
        {
            self.query.want();
        }
    }

    pub(super) fn start_due_sides(&mut self) {
        if self.sync.is_due(self.now()) {
            let env = self.launch.sync_environment();
            let started = self.start_ours("sync", &["watch", "--keys-from-stdin"], &env);
            self.note_start(Which::Sync, started);
        }
        if self.query.is_due(self.now()) {
            let env = self.launch.query_environment();
            let started = self.start_ours("query", &[], &env);
            self.note_start(Which::Query, started);
        }
    }

    fn note_start(&mut self, which: Which, started: io::Result<(i32, OwnedFd)>) {
        let now = self.now();
        let side = match which {
            Which::Sync => &mut self.sync,
            Which::Query => &mut self.query,
        };
        match (started, which) {
            (Ok((pid, input)), Which::Sync) => side.started(pid, Some(input), now),
            (Ok((pid, _)), Which::Query) => side.started(pid, None, now),
            (Err(err), _) => side.failed(&err.to_string(), now),
        }
    }

    pub(super) fn stop_sides(&mut self) {
        self.sides = SidesAim::Ending;
        for pid in [self.sync.unwant(), self.query.unwant()]
            .into_iter()
            .flatten()
        {
            let _ = signals::send(pid, signals::TERM);
        }
        self.note_sides_gone();
    }

    pub(super) fn kill_sides(&mut self) {
        for side in [&self.sync, &self.query] {
            if let Some(pid) = side.pid() {
                contract::warn!("{} has not ended in time: KILL", side.name);
                let _ = signals::send(pid, signals::KILL);
            }
        }
    }

    pub(super) fn note_sides_gone(&mut self) {
        if self.sides == SidesAim::Ending && self.sync.pid().is_none() && self.query.pid().is_none()
        {
            self.sides = SidesAim::Down;
            self.pending.push_back(Event::SidesGone);
        }
    }

    pub(super) fn start_bot(&mut self, run: u64) {
        contract::journal::in_run(run);
        self.records.begin();
        say_before(self.machine.sides(), &self.launch.paths.runs());
        crate::result::forget(&self.launch.paths.result());
        self.run_began = Time::now();
        self.kills_before = self.counter.as_ref().map_or(0, crate::oom::Counter::read);
        match self.spawn_bot() {
            Ok(main) => {
                self.main = main;
                contract::info!("run {run} of bot {} started", self.launch.bot);
            }
            Err(err) => {
                let message =
                    format!("start a process: {err}: is a limit on processes or memory reached?");
                self.pending.push_back(Event::Ended(Ending::NotStarted {
                    code: exit::INTERNAL,
                    message,
                }));
            }
        }
    }

    fn spawn_bot(&mut self) -> io::Result<Main> {
        let [output, error] = self.tee.open()?;
        let (report, told) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let stdio = Stdio {
            input: Some(told.as_fd()),
            output: Some(output.as_fd()),
            error: Some(error.as_fd()),
        };
        let env = self.launch.program_environment(Program::Bot);
        let told_by = self.inside(Report::Pipe);
        let pid = spawn::second_stage(
            &self.bot_stage(),
            &told_by,
            &env,
            stdio,
            self.signals.given(),
        )?;
        Ok(Main::Alive { pid, report })
    }

    fn bot_stage(&self) -> Stage {
        let command = self.launch.command(Program::Bot).unwrap_or_default();
        Stage {
            placement: Placement::Session,
            cage: self.launch.cage(Program::Bot),
            parent_death_signal: signals::KILL,
            oom_score_above: OOM_SCORE_ABOVE,
            directory: Some(self.launch.paths.code.clone()),
            command: command.into_iter().map(Into::into).collect(),
        }
    }

    fn inside(&self, report: Report) -> Inside {
        Inside {
            report,
            parent: Some(std::process::id().cast_signed()),
            journal: self.launch.log_level().map(str::to_owned),
        }
    }

    pub(super) fn note_bot_end(&mut self, pid: i32, exit: Exit) {
        let Main::Alive { .. } = self.main else {
            return;
        };
        let Main::Alive { report, .. } = std::mem::replace(&mut self.main, Main::Gone { pid })
        else {
            return;
        };
        let mut text = String::new();
        let _ = File::from(report).read_to_string(&mut text);
        let kills = self.counter.as_ref().map_or(0, crate::oom::Counter::read);
        let ending = match (read_report(&text), exit) {
            (Some((code, message)), _) => Ending::NotStarted { code, message },
            (None, Exit::Signal(signals::KILL)) if kills > self.kills_before => Ending::OutOfMemory,
            (None, exit) => Ending::Exit(exit),
        };
        self.take(Event::Ended(ending));
    }
}
