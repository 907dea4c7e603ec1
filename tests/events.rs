//! Events over a real NATS, written into a real MongoDB by the real agent, and bots that follow them.

#[path = "events/documents.rs"]
mod documents;
#[path = "events/outages.rs"]
mod outages;
#[path = "events/rig.rs"]
mod rig;
#[path = "events/running.rs"]
mod running;

use tests::stack::BOTS;
