//! From the start of the process to a bot whose launch is known, or to the code that says why there is none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contract::launch::Variables;
use contract::record::{Reason, RunRecord, State, Synced, Time};
use contract::{BotType, Launch, LaunchError, exit, journal, vars};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::prctl;
use nix::unistd;

use super::{Bot, Main, SidesAim};
use crate::cli::{BotOptions, QueryServer};
use crate::init::timeout;
use crate::launch::{self, BadDocument, Input};
use crate::log::Log;
use crate::machine::{Event, Machine, Plan, Restart, Sides};
use crate::oom::Counter;
use crate::processes;
use crate::question;
use crate::records::{Records, say_last};
use crate::side::Side;
use crate::signals::{self, Signals};
use crate::tee::Tee;
use crate::through;
use crate::zombies::Zombies;

/// What became of the beginning.
pub(super) enum Begun {
    /// A bot to run.
    Bot(Box<Bot>),
    /// None; exit with this.
    Over(u8),
}

/// How the launch came.
enum Came {
    Variables(Variables, Option<Input>),
    Stopped(i32),
    Bad(BadDocument),
}

pub(super) fn begin(options: &BotOptions) -> io::Result<Begun> {
    let signals = Signals::take()?;
    if let Err(err) = prctl::set_dumpable(false) {
        contract::warn!("close our memory to others: {err}");
    }
    crate::become_reaper();
    follow_parent(options);
    let (mut variables, input) = match wait_for_launch(&signals)? {
        Came::Variables(variables, input) => (variables, input),
        Came::Stopped(signal) => {
            contract::info!("{} before there was a launch", signals::name(signal));
            return Ok(Begun::Over(exit::of_signal(signal)));
        }
        Came::Bad(err) => {
            contract::error!("{err}");
            return Ok(Begun::Over(exit::NO_LAUNCH));
        }
    };
    if let Some(path) = &options.question {
        variables.insert(vars::QUERY_PATH.to_owned(), path.clone());
    }
    let var = var_folder(&variables);
    let mut launch = match Launch::parse(variables) {
        Ok(launch) => launch,
        Err(err) => return Ok(Begun::Over(refuse(&err, &var, options.sides))),
    };
    if options.query == QueryServer::Elsewhere && launch.question.is_none() {
        launch.query_entrypoint = None;
    }
    journal::set_level(launch.log_level());
    journal::set_format(launch.log_format());
    journal::about(launch.bot.as_str());
    if let Some(asked) = &launch.question {
        let code = question::answer(&launch, asked, options.sides, &signals)?;
        return Ok(Begun::Over(code));
    }
    Ok(Begun::Bot(Box::new(prepare(
        launch, options, signals, input,
    )?)))
}

/// A parent that is gone already will not send its signal: then we send it ourselves.
fn follow_parent(options: &BotOptions) {
    let Some(parent) = options.die_with_parent else {
        return;
    };
    let followed = prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM);
    if let Err(err) = followed {
        contract::warn!("end with the parent: {err}");
    }
    if unistd::getppid().as_raw() != parent {
        contract::info!("the parent {parent} is gone already");
        let _ = signals::send(std::process::id().cast_signed(), signals::TERM);
    }
}

fn wait_for_launch(signals: &Signals) -> io::Result<Came> {
    let env = launch::environment();
    if !launch::is_document(&env) {
        return Ok(Came::Variables(env, None));
    }
    contract::info!("waiting for the launch document on standard input");
    let (clock, patience) = (Instant::now(), launch::patience(&env));
    let mut input = Input::default();
    loop {
        if let Some(signal) = stop_among(signals) {
            return Ok(Came::Stopped(signal));
        }
        if let Some(line) = input.line() {
            return Ok(match launch::variables(&line, env) {
                Ok(variables) => Came::Variables(variables, Some(input)),
                Err(err) => Came::Bad(err),
            });
        }
        if !input.is_open() {
            return Ok(Came::Bad(BadDocument::Ended));
        }
        if clock.elapsed() >= patience {
            return Ok(Came::Bad(BadDocument::Late(patience)));
        }
        let stdin = io::stdin();
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout(Some(patience), clock.elapsed())) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
        if fds[1].any().unwrap_or(true)
            && let Err(err) = input.read()
        {
            return Ok(Came::Bad(err));
        }
    }
}

/// The first signal that asks for a stop; others have nobody to go to yet.
fn stop_among(signals: &Signals) -> Option<i32> {
    std::iter::from_fn(|| signals.next())
        .find(|signal| matches!(*signal, signals::TERM | signals::INT))
}

fn var_folder(variables: &Variables) -> PathBuf {
    let given = variables
        .get(vars::THE0_VAR_PATH)
        .filter(|path| !path.is_empty());
    given.map_or(PathBuf::from("/var/the0"), PathBuf::from)
}

/// Tells why a launch is refused, in the journal and in the files of a run's end; gives the code.
fn refuse(err: &LaunchError, var: &Path, sides: Sides) -> u8 {
    contract::error!("{err}");
    let paths = contract::Paths {
        var: var.to_owned(),
        ..contract::Paths::under(var)
    };
    let mut records = var.is_dir().then(|| Records::open(&paths, 0));
    let now = Time::now();
    let record = RunRecord {
        run: records.as_ref().map_or(0, Records::last_run),
        code: err.exit_code(),
        signal: None,
        reason: Reason::StartFailed,
        started_at: now,
        ended_at: now,
        restarts: 0,
        message: Some(err.to_string()),
        result: None,
    };
    if let Some(records) = &mut records {
        records.write_done(&record);
    }
    say_last(sides, &record, &paths.runs());
    record.code
}

fn prepare(
    launch: Launch,
    options: &BotOptions,
    signals: Signals,
    input: Option<Input>,
) -> io::Result<Bot> {
    std::fs::create_dir_all(&launch.paths.var).map_err(|err| {
        io::Error::other(format!(
            "make the folder {}: {err}: is it writable for us?",
            launch.paths.var.display()
        ))
    })?;
    let stderr = free_journal()?;
    let counter = Counter::find();
    let kills = counter.as_ref().map_or(0, Counter::read);
    let records = Records::open(&launch.paths, kills);
    let seen = said_before(&launch, options.sides);
    let log = Log::new(&launch.paths.logs, &launch.paths.synced());
    let restart = options.restart.unwrap_or(match launch.bot_type {
        BotType::Realtime => Restart::Always,
        BotType::Scheduled => Restart::Never,
    });
    // Elsewhere a realtime bot is started again beside a `sync` that stays.
    let drain = match (options.sides, launch.bot_type) {
        (Sides::Elsewhere, BotType::Realtime) => Duration::ZERO,
        _ => launch.drain,
    };
    let machine = Machine::new(Plan {
        restart,
        sides: options.sides,
        grace: launch.grace,
        drain,
        last_run: records.last_run(),
    });
    let mut bot = Bot {
        keys: launch.keys(),
        watch: watch(&launch.paths.var),
        tee: Tee::new(stderr.as_fd(), log)?,
        launch,
        signals,
        clock: Instant::now(),
        machine,
        pending: VecDeque::new(),
        records,
        stderr,
        main: Main::None,
        run_began: Time::now(),
        fetch: None,
        sync: Side::new("sync"),
        query: Side::new("query"),
        input,
        seen,
        counter,
        kills_before: 0,
        zombies: Zombies::default(),
        sides: SidesAim::Down,
        elders: elders(),
        exit: None,
    };
    bot.status(State::Starting, None);
    if let Some(signal) = stop_among(&bot.signals) {
        bot.take(Event::Stop(signal));
    }
    Ok(bot)
}

/// The children that whoever became us had before.
fn elders() -> Vec<i32> {
    processes::children().unwrap_or_else(|| {
        contract::warn!(
            "there is no /proc: what leaves the bot's process group is not found and may outlive a run; mount it"
        );
        Vec::new()
    })
}

/// Makes our own journal non-blocking, so that nobody who stops reading it stops us; gives standard error as it was,
/// for the children.
fn free_journal() -> io::Result<std::os::fd::OwnedFd> {
    let given = io::stderr().as_fd().try_clone_to_owned()?;
    if let Some(free) = through::reopen(given.as_fd(), 2) {
        unistd::dup2_stderr(free)?;
    }
    Ok(given)
}

/// What `sync` said in an earlier life is no news. Where it is not ours it is: it goes on through our lives, and may have
/// spoken before we were here.
fn said_before(launch: &Launch, sides: Sides) -> Option<Synced> {
    match sides {
        Sides::Ours => contract::file::read_json(&launch.paths.synced())
            .ok()
            .flatten(),
        Sides::Elsewhere => None,
    }
}

fn watch(folder: &Path) -> Option<Inotify> {
    let watch = || -> nix::Result<Inotify> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        watch.add_watch(folder, AddWatchFlags::IN_MOVED_TO)?;
        Ok(watch)
    };
    match watch() {
        Ok(watch) => Some(watch),
        Err(err) => {
            contract::warn!(
                "watch {}: {err}; looking into it each second instead",
                folder.display()
            );
            None
        }
    }
}
