//! `agent controller`: bots as Pods of a real cluster, by a real MongoDB and a real MinIO.

#[path = "controller/agents.rs"]
mod agents;
#[path = "controller/asked.rs"]
mod asked;
#[path = "controller/clock.rs"]
mod clock;
#[path = "controller/ends.rs"]
mod ends;
#[path = "controller/fenced.rs"]
mod fenced;
#[path = "controller/hand.rs"]
mod hand;
#[path = "controller/handover.rs"]
mod handover;
#[path = "controller/job_failures.rs"]
mod job_failures;
#[path = "controller/jobs.rs"]
mod jobs;
#[path = "controller/late.rs"]
mod late;
#[path = "controller/life.rs"]
mod life;
#[path = "controller/lines.rs"]
mod lines;
#[path = "controller/lost.rs"]
mod lost;
#[path = "controller/outages.rs"]
mod outages;
#[path = "controller/overlap.rs"]
mod overlap;
#[path = "controller/rig.rs"]
mod rig;
#[path = "controller/rolls.rs"]
mod rolls;
#[path = "controller/saving.rs"]
mod saving;
#[path = "controller/steps.rs"]
mod steps;
#[path = "controller/ticks.rs"]
mod ticks;
#[path = "controller/tools.rs"]
mod tools;
#[path = "controller/trouble.rs"]
mod trouble;
