//! Bots that run at times: real agents, a real MongoDB, MinIO and Docker, and the agent's own folders. Which ticks were
//! started is told by the daemon.

#[path = "schedules/agents.rs"]
mod agents;
#[path = "schedules/asked.rs"]
mod asked;
#[path = "schedules/dev.rs"]
mod dev;
#[path = "schedules/policy.rs"]
mod policy;
#[path = "schedules/rig.rs"]
mod rig;
#[path = "schedules/ticks.rs"]
mod ticks;
