//! The gateway on :9477 as the platform meets it: a real agent, MongoDB, MinIO and Docker, bots that run and bots that do not.

#[path = "gateway/apart.rs"]
mod apart;
#[path = "gateway/contract.rs"]
mod contract;
#[path = "gateway/doors.rs"]
mod doors;
#[path = "gateway/load.rs"]
mod load;
#[path = "gateway/rig.rs"]
mod rig;
#[path = "gateway/runtimes.rs"]
mod runtimes;
#[path = "gateway/sdks.rs"]
mod sdks;
#[path = "gateway/warm.rs"]
mod warm;
