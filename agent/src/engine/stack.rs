//! The name of a stack: how what belongs together is told from everything else.

use std::fmt;
use std::str::FromStr;

/// The name of a stack: bots, containers and volumes that belong together. Two stacks on one daemon never touch each
/// other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack(String);

impl Stack {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Stack {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        let fits = (1..=40).contains(&name.len()) && name.bytes().all(plain);
        if fits {
            Ok(Self(name.to_owned()))
        } else {
            Err(format!(
                "{name:?} is no name of a stack: 1 to 40 characters of a-z 0-9 - _"
            ))
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
