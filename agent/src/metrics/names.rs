//! Names of metrics, and the values that their labels can have.

use crate::plan::Why;

/// How a run can come out.
pub const OUTCOMES: [&str; 10] = [
    "success",
    "error",
    "killed",
    "oom",
    "stopped",
    "start_failed",
    "fenced",
    "edited",
    "disk",
    "lost",
];
/// States a bot can be in.
pub const STATES: [&str; 12] = [
    "unknown",
    "starting",
    "running",
    "waiting",
    "stopping",
    "stopped",
    "disabled",
    "failed",
    "completed",
    "invalid",
    "removed",
    "held",
];
pub const STARTS: [&str; 6] = ["started", "found", "stopped", "failed", "refused", "busy"];
pub const ACTIONS: [&str; 6] = ["start", "signal", "inspect", "renew_keys", "remove", "open"];
pub const WHYS: [Why; 10] = [
    Why::Asked,
    Why::Disabled,
    Why::Deleted,
    Why::Absent,
    Why::Changed,
    Why::Restarted,
    Why::Rolled,
    Why::Limit,
    Why::Replaced,
    Why::Ending,
];

/// How bots are asked.
pub const WAYS: [&str; 3] = ["live", "apart", "none"];
/// What becomes of questions.
pub const ANSWERS: [&str; 6] = ["ok", "error", "busy", "late", "refused", "failed"];

pub const BOTS: &str = "the0_bots";
pub const STARTED: &str = "the0_starts_total";
pub const STOPPED: &str = "the0_stops_total";
pub const ACTED: &str = "the0_actions_total";
pub const RECONCILE: &str = "the0_reconcile_duration_seconds";
pub const EXECUTED: &str = "the0_bot_executions_total";
pub const DURATION: &str = "the0_bot_execution_duration_seconds";
pub const DEPENDENCY: &str = "the0_dependency_up";
pub const GATE: &str = "the0_dependency_state";
pub const FAILURES: &str = "the0_dependency_failures";
pub const NEXT: &str = "the0_dependency_next_try_seconds";
pub const LEASE: &str = "the0_lease_held";
pub const LISTING: &str = "the0_listing_age_seconds";
pub const UNSAVED: &str = "the0_unsaved_bots";
pub const EVENTS: &str = "the0_events_total";
pub const WAITING: &str = "the0_events_waiting";
pub const LIVE_BYTES: &str = "the0_live_log_bytes_total";
pub const LIVE_CUT: &str = "the0_live_log_lines_cut_total";
pub const ASKED: &str = "the0_questions_total";
pub const ANSWERED: &str = "the0_question_duration_seconds";
pub const LAG: &str = "the0_event_lag_seconds";
pub const AGE: &str = "the0_sync_age_seconds";
pub const PUSHED: &str = "the0_push_bytes_total";
pub const ERRORS: &str = "the0_store_errors_total";
pub const BOT_CPU: &str = "the0_bot_cpu_seconds_total";
pub const BOT_MEMORY: &str = "the0_bot_memory_bytes";
pub const BUILD: &str = "the0_build_info";
pub const CPU: &str = "process_cpu_seconds_total";
pub const MEMORY: &str = "process_resident_memory_bytes";
pub const FILES: &str = "process_open_fds";
pub const BEGAN: &str = "process_start_time_seconds";

/// Name, kind and help of every metric, in the order in which they are told.
pub const FAMILIES: [(&str, &str, &str); 31] = [
    (BOTS, "gauge", "Bots by state."),
    (STARTED, "counter", "Starts of bots by how they came out."),
    (
        STOPPED,
        "counter",
        "Stops of bots by why they were stopped.",
    ),
    (
        ACTED,
        "counter",
        "Operations on the Docker daemon by kind and outcome.",
    ),
    (
        RECONCILE,
        "histogram",
        "Time to compare what runs with what should and to act on it.",
    ),
    (
        EXECUTED,
        "counter",
        "Runs of bots that have ended, by how they came out.",
    ),
    (DURATION, "histogram", "How long runs of bots lasted."),
    (
        DEPENDENCY,
        "gauge",
        "Whether a dependency answers (1) or not (0).",
    ),
    (
        GATE,
        "gauge",
        "Whether a dependency is asked (closed), left alone for a while (open), or tried by one (half_open).",
    ),
    (
        FAILURES,
        "gauge",
        "How often in a row a dependency has not answered.",
    ),
    (
        NEXT,
        "gauge",
        "Time until a dependency that does not answer is asked again.",
    ),
    (
        LEASE,
        "gauge",
        "Whether this agent may act (1) or stands by (0).",
    ),
    (LISTING, "gauge", "Age of the listing of bots that counts."),
    (
        UNSAVED,
        "gauge",
        "Ended bots of which something is on this host only.",
    ),
    (
        EVENTS,
        "counter",
        "Events over NATS by what became of them.",
    ),
    (WAITING, "gauge", "Events over NATS known to wait."),
    (
        LIVE_BYTES,
        "counter",
        "Bytes of bots' lines sent over NATS.",
    ),
    (
        LIVE_CUT,
        "counter",
        "Lines that were too long to be sent whole over NATS.",
    ),
    (
        ASKED,
        "counter",
        "Questions by how the bot was asked and what came of it.",
    ),
    (ANSWERED, "histogram", "Time from a question to its answer."),
    (
        LAG,
        "gauge",
        "Age of the oldest event that is not acknowledged, as far as is known.",
    ),
    (
        AGE,
        "gauge",
        "How long the running bot that waits longest has not been saved.",
    ),
    (
        PUSHED,
        "counter",
        "Bytes of states and logs that the store took from bots.",
    ),
    (
        ERRORS,
        "counter",
        "Requests that the object store did not answer or refused, by who asked.",
    ),
    (
        BOT_CPU,
        "counter",
        "Processor time of a bot's container in seconds.",
    ),
    (BOT_MEMORY, "gauge", "Memory of a bot's container in bytes."),
    (BUILD, "gauge", "The agent's version."),
    (CPU, "counter", "Processor time of the agent in seconds."),
    (MEMORY, "gauge", "Resident memory of the agent in bytes."),
    (FILES, "gauge", "Open file descriptors of the agent."),
    (
        BEGAN,
        "gauge",
        "Start of the agent in seconds since the epoch.",
    ),
];
