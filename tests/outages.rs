//! Each of the four dependencies of an agent, and every way in which it fails. Of each outage:
//!
//! * the bot that runs runs on, in the same container, and counts;
//! * `/readyz` tells which dependency it is, why, and since when; that does not change while it lasts;
//! * what was said meanwhile and acknowledged by the stream of events is done, once, and what the bot counted is saved;
//! * nobody lends a hand: the agent is ready again within [`world::RECOVERY`] of the end of the outage;
//! * nothing runs twice: one container a bot, which has begun once.
//!
//! | | MongoDB | NATS | object store | Docker |
//! |---|---|---|---|---|
//! | away at the start | [`starts`] | [`starts`], `events::outages`, `events::running` | [`starts`] | [`starts`], `docker::daemon` |
//! | away for a while | [`mongodb`], `health`, `history::containers` | [`nats`], `events::outages` | [`store`], `health`, `s3::outages` | [`docker`], `docker::daemon` |
//! | answers after 11 s | [`mongodb`] | [`nats`] | [`store`] | [`docker`] |
//! | hangs | [`mongodb`] | [`nats`] | [`store`], `stack` | [`docker`] |
//! | says no | [`mongodb`] (no primary), `lease` (no right) | `events::documents` (no user) | [`store`] (500, 403, 503), `s3::faults` | [`docker`] (500, 403, 503) |
//! | comes and goes each second | [`mongodb`] | [`nats`] | [`store`] | [`docker`] |
//! | all at once | [`starts`], [`all`], `soak` | | | |
//!
//! A full disk: [`disk`] (the agent's), `hardening::fills` and `docker::crash` (a bot's). Clocks that jump: [`clock`], and of
//! schedules `schedules::decide` in the agent. How often what is away is asked: `breaker` in the agent.

#[path = "outages/all.rs"]
mod all;
#[path = "outages/clock.rs"]
mod clock;
#[path = "outages/disk.rs"]
mod disk;
#[path = "outages/docker.rs"]
mod docker;
#[path = "outages/mongodb.rs"]
mod mongodb;
#[path = "outages/nats.rs"]
mod nats;
#[path = "outages/starts.rs"]
mod starts;
#[path = "outages/store.rs"]
mod store;
#[path = "outages/world.rs"]
mod world;

use std::time::Duration;

use tests::door::Way;

/// Longer than anything is waited for.
const SLOW: Way = Way::Slow(Duration::from_secs(11));
