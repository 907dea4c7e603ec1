//! Run-to-end jobs (backtests) over a real NATS, MongoDB, MinIO and Docker, and by hand without any of them.

#[path = "jobs/ends.rs"]
mod ends;
#[path = "jobs/hand.rs"]
mod hand;
#[path = "jobs/keys.rs"]
mod keys;
#[path = "jobs/kills.rs"]
mod kills;
#[path = "jobs/queue.rs"]
mod queue;
#[path = "jobs/rig.rs"]
mod rig;
