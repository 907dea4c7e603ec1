//! The words of the [machine](super): what happens, and what is to be done about it.

use std::time::Duration;

use contract::exit;
use contract::record::{Outcome, Reason, State};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell would give.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => exit::of_signal(signal),
        }
    }

    /// The signal, if one ended it.
    pub fn signal(self) -> Option<i32> {
        match self {
            Exit::Code(_) => None,
            Exit::Signal(signal) => Some(signal),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "code {code}"),
            Exit::Signal(signal) => write!(f, "signal {}", crate::signals::name(*signal)),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its main process ended.
    Exit(Exit),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// It never became the bot's program.
    NotStarted {
        /// The code that tells it.
        code: u8,
        /// What failed and what to do.
        message: String,
    },
}

impl Ending {
    /// How its main process ended, or would have.
    pub fn exit(&self) -> Exit {
        match self {
            Ending::Exit(exit) => *exit,
            Ending::OutOfMemory => Exit::Signal(crate::signals::KILL),
            Ending::NotStarted { code, .. } => Exit::Code(*code),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The launch is known; go.
    Begin,
    /// `sync fetch` has ended.
    Fetched(Exit),
    /// The run is over: its main process has ended or never was.
    Ended(Ending),
    /// Nothing that descends from the run is left.
    Cleared,
    /// Somebody asks for a stop with this signal.
    Stop(i32),
    /// `sync` has written how saving went.
    Synced {
        /// How.
        outcome: Outcome,
        /// The last run whose end it had seen.
        run: u64,
    },
    /// The sides have ended after [`Effect::StopSides`].
    SidesGone,
    /// Time has passed.
    Tick,
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start `sync fetch`.
    Fetch,
    /// Send it a signal.
    SignalFetch(i32),
    /// Start the sides and keep them up.
    StartSides,
    /// Send the sides TERM and start them no more.
    StopSides,
    /// KILL the sides.
    KillSides,
    /// Start the bot.
    Start {
        /// The run's number.
        run: u64,
    },
    /// Send the bot a signal.
    Signal(i32),
    /// Send TERM to the bot's group and to what else descends from it.
    EndLeftovers,
    /// KILL everything that descends from the bot, the bot included.
    KillLeftovers,
    /// Write down a run that has ended.
    Record(Ended),
    /// Write down that the bot will not be started.
    Refuse {
        /// The exit code.
        code: u8,
        /// Why.
        reason: Reason,
        /// The last run there was.
        run: u64,
    },
    /// Write down where we are; in [`State::Waiting`], how long the pause is.
    Status(State, Option<Duration>),
    /// The last push is waited for.
    AwaitPush,
    /// The bot's last state or log is not in the store.
    Unsaved,
    /// Exit.
    Exit(u8),
}

/// A run that has ended, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub run: u64,
    /// How.
    pub exit: Exit,
    /// Why.
    pub reason: Reason,
    /// Runs in a row before it that ended by themselves without a stable minute.
    pub restarts: u32,
    /// How long ago it ended.
    pub ago: Duration,
    /// What a person should know besides.
    pub message: Option<String>,
}

/// When a run that ended by itself is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Always,
    /// Never: one run.
    Never,
}

/// Who fetches, saves and answers questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sides {
    /// Children of ours.
    #[default]
    Ours,
    /// Others, or nobody.
    Elsewhere,
}

/// What a machine is made for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When the bot is started again.
    pub restart: Restart,
    /// Who does the rest.
    pub sides: Sides,
    /// From TERM to KILL.
    pub grace: Duration,
    /// For the last push; zero with the sides elsewhere: it is not waited for.
    pub drain: Duration,
    /// The number of the last run there was.
    pub last_run: u64,
}
