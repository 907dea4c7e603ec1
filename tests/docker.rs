//! Bots as containers, as an operator of a host meets them: the real agent, documents in a real MongoDB, a real MinIO, a
//! real Docker daemon, which is killed, asked and filled behind the agent's back.

#[path = "docker/crash.rs"]
mod crash;
#[path = "docker/daemon.rs"]
mod daemon;
#[path = "docker/images.rs"]
mod images;
#[path = "docker/keys.rs"]
mod keys;
#[path = "docker/left.rs"]
mod left;
#[path = "docker/life.rs"]
mod life;
#[path = "docker/orders.rs"]
mod orders;
#[path = "docker/runtime.rs"]
mod runtime;
