//! A bot in a Pod: its programs as containers of their own, on a real kubelet, under Pod Security `restricted`.

#[path = "kubernetes/ends.rs"]
mod ends;
#[path = "kubernetes/kills.rs"]
mod kills;
#[path = "kubernetes/life.rs"]
mod life;
#[path = "kubernetes/rig.rs"]
mod rig;
