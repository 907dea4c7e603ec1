//! Keeps bots from the machine's own metadata addresses.

use super::names::Stack;

/// Keeps what is on `bridge` from link-local addresses.
///
/// # Errors
/// Why not, and what an operator can do.
pub async fn block(_bridge: &str, _stack: &Stack) -> Result<(), String> {
    Err("not yet".into())
}
