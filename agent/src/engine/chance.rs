//! What tells things apart that are made at one time.

/// A number that nobody else has come by.
pub fn chance() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
