//! Bots as processes of this machine: one `supervisor` each, a child of the agent.
//!
//! It ensures that there are never two instances of a bot:
//!
//! * `bots/<id>/lock` is locked (flock) before a supervisor is started, and the supervisor inherits the open lock.
//!   The kernel lets go of it when the last of the two has ended, so a supervisor that outlives a killed agent for
//!   the length of its graceful stop keeps the next agent from starting the bot. Nothing is taken over: the next
//!   agent waits. No process id is remembered, so none can be mistaken.
//! * A supervisor gets TERM when the agent goes away (parent-death signal), a bot KILL when its supervisor does.
//! * Descendants of a supervisor that was killed become children of the agent, and are killed before anything is
//!   started ([`super::orphans`]).
//!
//! Supervisors are started from the agent's main thread only: the parent-death signal is about the thread.

mod tales;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use contract::{BotId, BotType, ObjectKey, file};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::UnboundedSender;

use super::prepare::{check_interpreter, lock, prepare};
use super::{Ending, Exit, Instance, News, Told, orphans, tell, tell_tick};
use crate::ending::{self, Facts};
use crate::history::{self, Birth, Start};
use crate::launch::{self, Host};
use crate::plan::{Actual, Ended, Outcome, Phase, Why};
use crate::show::Console;
use crate::{document::Bot, engine};

/// What a supervisor may take beyond its bot's grace and the last push before it is killed.
const SLACK: Duration = Duration::from_secs(15);
/// An instance that lived as long did not fail at once.
const STABLE: Duration = Duration::from_secs(60);

/// The engine.
#[derive(Debug)]
pub struct Process {
    supervisor: PathBuf,
    host: Host,
    console: Console,
    endings: UnboundedSender<News>,
    slots: BTreeMap<BotId, Slot>,
    told: Vec<Told>,
    /// Whether something may have been left behind.
    unswept: bool,
}

/// What is known about one bot's instance.
#[derive(Debug)]
struct Slot {
    name: String,
    kind: BotType,
    code: ObjectKey,
    started: Duration,
    failures: u32,
    /// The number of the last run before it was started.
    last_run: u64,
    live: Option<Live>,
    instance: Instance,
}

/// What there is of an instance only while it lives.
#[derive(Debug)]
struct Live {
    pid: Pid,
    /// Held until it has ended.
    _lock: File,
    /// Time it has between TERM and KILL.
    patience: Duration,
    /// When it is killed.
    deadline: Option<Duration>,
}

/// Why a bot could not be started.
struct NotStarted(Outcome, String);

impl Process {
    /// An engine that starts `supervisor` and tells of endings on `endings`.
    pub fn new(
        supervisor: PathBuf,
        host: Host,
        console: Console,
        endings: UnboundedSender<News>,
    ) -> Self {
        let slots = BTreeMap::new();
        Self {
            supervisor,
            host,
            console,
            endings,
            slots,
            told: Vec::new(),
            unswept: true,
        }
    }

    /// Starts the bot; that it cannot be started becomes its ending.
    pub fn start(&mut self, bot: &Bot, start: Start, now: Duration) {
        if self
            .slots
            .get(&bot.id)
            .is_some_and(|slot| slot.live.is_some())
        {
            return;
        }
        let digest = launch::digest(bot);
        let before = self.slots.remove(&bot.id);
        let same = before
            .as_ref()
            .filter(|slot| slot.instance.actual.digest == digest);
        let failures = same.map_or(0, |slot| slot.failures);
        let told = same.and_then(|slot| slot.instance.reason.clone());
        let last_run = ending::last_run(&self.host.paths(&bot.id));
        let birth = tales::birth(bot, start);
        let (phase, live, reason) = match self.spawn(bot, &birth) {
            Ok(live) => (Phase::Running, Some(live), None),
            Err(NotStarted(outcome, why)) => {
                if told.as_ref() != Some(&why) {
                    let name = &bot.definition.name;
                    self.console.about(&bot.id, name).warn(&why);
                }
                let failures = failures + u32::from(outcome == Outcome::Failed);
                if outcome != Outcome::Busy {
                    let tale = tales::not_started(bot, &birth, &why, failures);
                    self.told.push(tale);
                }
                let ended = Ended {
                    at: now,
                    failures,
                    outcome,
                };
                (Phase::Ended(ended), None, Some(why))
            }
        };
        let failures = match &phase {
            Phase::Ended(ended) => ended.failures,
            _ => failures,
        };
        let pid = live.as_ref().map(|live| live.pid.as_raw());
        let instance = Instance {
            reason,
            pid,
            failures,
            birth: Some(birth),
            ..Instance::new(Actual { digest, phase })
        };
        let slot = Slot {
            name: bot.definition.name.clone(),
            kind: bot.definition.kind,
            code: bot.code.clone(),
            started: now,
            failures,
            last_run,
            live,
            instance,
        };
        self.slots.insert(bot.id.clone(), slot);
    }

    fn spawn(&mut self, bot: &Bot, birth: &Birth) -> Result<Live, NotStarted> {
        let refused = |why: String| NotStarted(Outcome::Refused, why);
        let failed = |what: String| {
            move |err: io::Error| NotStarted(Outcome::Failed, format!("{what}: {err}"))
        };
        let launch = launch::check(bot, &self.host).map_err(|err| refused(err.to_string()))?;
        let path = self.host.environment.get("PATH").map(String::as_str);
        check_interpreter(launch.runtime, path).map_err(|why| NotStarted(Outcome::Failed, why))?;
        if self.sweep() > 0 {
            let why = "what an earlier run left behind is being ended".to_owned();
            return Err(NotStarted(Outcome::Busy, why));
        }
        let folder = self.host.folder(&bot.id);
        let shown = folder.display().to_string();
        prepare(&folder, &launch, bot).map_err(failed(shown.clone()))?;
        let lock = lock(&folder.join("lock"))
            .map_err(failed(shown))?
            .ok_or_else(|| {
                let why =
                    "an earlier agent's supervisor of this bot is still ending: waiting for it";
                NotStarted(Outcome::Busy, why.to_owned())
            })?;
        let path = folder.join(history::START);
        file::replace_json(&path, birth).map_err(failed(path.display().to_string()))?;
        let line = serde_json::to_string(&launch::document(bot, &self.host));
        let line = line.map_err(|err| refused(err.to_string()))? + "\n";
        let child = self.command(&folder, &lock);
        let child = child.map_err(failed(self.supervisor.display().to_string()))?;
        let pid = self.attend(bot, child, line)?;
        let patience = launch.grace + launch.drain + SLACK;
        Ok(Live {
            pid,
            _lock: lock,
            patience,
            deadline: None,
        })
    }

    fn command(&self, folder: &Path, lock: &File) -> io::Result<Child> {
        let mut command = Command::new(&self.supervisor);
        command
            .arg(format!("--die-with-parent={}", std::process::id()))
            .current_dir(folder)
            .env_clear()
            .envs(&self.host.environment)
            .env(contract::vars::THE0_LAUNCH, "stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // Nothing else is started meanwhile: this is the only thread that starts processes.
        fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let child = command.spawn();
        fcntl(lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        child
    }

    /// Hands the child its launch, shows what it says and waits for its end.
    fn attend(&mut self, bot: &Bot, mut child: Child, line: String) -> Result<Pid, NotStarted> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.ok_or_else(|| NotStarted(Outcome::Failed, "it ended at once".into()))?;
        if let Some(mut stdin) = child.stdin.take() {
            tokio::spawn(async move {
                // A supervisor that is gone already tells so by its ending.
                let _ = stdin.write_all(line.as_bytes()).await;
            });
        }
        let name = &bot.definition.name;
        let out = child.stdout.take().map(|out| {
            tokio::spawn(show(
                out,
                bot.id.clone(),
                name.clone(),
                self.console.clone(),
            ))
        });
        let err = child.stderr.take().map(|err| {
            tokio::spawn(show(
                err,
                bot.id.clone(),
                name.clone(),
                self.console.clone(),
            ))
        });
        let (endings, id) = (self.endings.clone(), bot.id.clone());
        tokio::spawn(async move {
            let status = child.wait().await;
            // The last lines come before the news of the end; a leftover that holds the pipe delays it little.
            for reader in [out, err].into_iter().flatten() {
                let _ = tokio::time::timeout(Duration::from_millis(500), reader).await;
            }
            let _ = endings.send(News::Process((id, status)));
        });
        self.unswept = true;
        Ok(Pid::from_raw(pid))
    }

    /// Tells the bot to stop.
    pub fn stop(&mut self, bot: &BotId, why: Why, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let Some(live) = &mut slot.live else { return };
        if live.deadline.is_none() {
            live.deadline = Some(now + live.patience);
            slot.instance.actual.phase = Phase::Stopping;
            let text = format!("stopping, {}", why.text());
            self.console.about(bot, &slot.name).say(&text);
            let _ = kill(live.pid, Signal::SIGTERM);
        }
    }

    /// Drops what is known about a bot that has ended.
    pub fn forget(&mut self, bot: &BotId) {
        if self.slots.get(bot).is_some_and(|slot| slot.live.is_none()) {
            self.slots.remove(bot);
        }
    }

    /// Notes an ending.
    pub fn ended(&mut self, (bot, status): Ending, now: Duration) {
        let Some(slot) = self.slots.get_mut(&bot) else {
            return;
        };
        let paths = self.host.paths(&bot);
        let asked = slot.instance.actual.phase == Phase::Stopping;
        let facts = Facts::read(&paths, status, slot.kind, slot.last_run, asked);
        let ending = ending::judge(&facts);
        let lived = now.saturating_sub(slot.started);
        slot.failures = match ending.outcome {
            Outcome::Failed if lived >= STABLE => 1,
            Outcome::Failed => slot.failures + 1,
            _ => 0,
        };
        let (failures, outcome) = (slot.failures, ending.outcome);
        let phase = Phase::Ended(Ended {
            at: now,
            failures,
            outcome,
        });
        slot.live = None;
        let actual = Actual {
            digest: slot.instance.actual.digest.clone(),
            phase,
        };
        let birth = slot.instance.birth.take();
        let over = birth.clone();
        let over = over.map(|birth| tales::over(bot.clone(), birth, &facts, &paths, failures));
        self.told.extend(over);
        let is_tick = birth
            .as_ref()
            .is_some_and(|birth| birth.start.tick.is_some());
        let exit = Exit {
            code: facts.code,
            reason: facts.record.as_ref().map(|record| record.reason),
        };
        slot.instance = Instance {
            reason: Some(ending.reason.clone()),
            failures,
            birth,
            exit: Some(exit),
            ..Instance::new(actual)
        };
        self.unswept = true;
        let voice = self.console.about(&bot, &slot.name);
        if is_tick {
            tell_tick(&voice, &ending.reason, outcome);
        } else {
            tell(&voice, &ending.reason, outcome, failures);
        }
        self.sweep();
    }

    /// Kills what is overdue and what is left over.
    pub fn tick(&mut self, now: Duration) {
        for (bot, slot) in &mut self.slots {
            let Some(live) = &mut slot.live else { continue };
            if live.deadline.is_some_and(|deadline| now >= deadline) {
                let text = "did not end in its time and is killed; what was unsaved is lost";
                self.console.about(bot, &slot.name).warn(text);
                let _ = kill(live.pid, Signal::SIGKILL);
                live.deadline = Some(now + SLACK);
            }
        }
        self.sweep();
    }

    fn sweep(&mut self) -> usize {
        if !self.unswept {
            return 0;
        }
        let live = self.slots.values().filter_map(|slot| slot.live.as_ref());
        let known: BTreeSet<i32> = live.map(|live| live.pid.as_raw()).collect();
        let left = orphans::sweep(&known);
        self.unswept = left > 0;
        left
    }

    /// Kills all supervisors.
    pub fn abort(&mut self) {
        for live in self.slots.values().filter_map(|slot| slot.live.as_ref()) {
            let _ = kill(live.pid, Signal::SIGKILL);
        }
        self.unswept = true;
    }

    /// All instances.
    pub fn instances(&self) -> BTreeMap<BotId, engine::Instance> {
        let slots = self.slots.iter();
        slots
            .map(|(id, slot)| (id.clone(), slot.instance.clone()))
            .collect()
    }

    /// The plan's view of all instances.
    pub fn actual(&self) -> BTreeMap<BotId, Actual> {
        let slots = self.slots.iter();
        slots
            .map(|(id, slot)| (id.clone(), slot.instance.actual.clone()))
            .collect()
    }

    /// The code bundles of instances that are not over.
    pub fn code_in_use(&self) -> Vec<ObjectKey> {
        let live = self.slots.values().filter(|slot| slot.live.is_some());
        live.map(|slot| slot.code.clone()).collect()
    }

    /// Whether nothing runs and nothing is left over.
    pub fn is_idle(&self) -> bool {
        self.slots.values().all(|slot| slot.live.is_none()) && !self.unswept
    }
}

/// Shows the whole lines that come from `from`.
async fn show(mut from: impl AsyncRead + Unpin, bot: BotId, name: String, console: Console) {
    let voice = console.about(&bot, &name);
    let mut lines = contract::logs::Lines::default();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        lines.push(&buffer[..count], |line| voice.pass_on(line));
    }
    lines.finish(|line| voice.pass_on(line));
}
