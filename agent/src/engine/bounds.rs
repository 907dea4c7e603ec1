//! What a bot may use: what its document asks for, within what the operator gives. Pure.

use contract::LaunchError;
use thiserror::Error;

use crate::document::Bot;

/// What a bot has, and may have, of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Without a word of its own.
    pub default: u64,
    /// At most.
    pub most: Option<u64>,
}

/// Why a bot gets no container.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It asks for more than the operator gives.
    #[error(
        "{field} asks for {asked}, and this host gives a bot at most {most}: lower it, or raise {variable}"
    )]
    TooMuch {
        /// The document's field.
        field: &'static str,
        /// What it asks for.
        asked: String,
        /// What there is.
        most: String,
        /// The operator's setting.
        variable: &'static str,
    },
    /// Its supervisor would refuse it.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// The bytes of memory that the bot gets.
///
/// # Errors
/// It asks for more than there is.
pub fn memory(bot: &Bot, bounds: Bounds) -> Result<u64, Refused> {
    let asked = bot.bounds.memory;
    bounded(
        "config.memory_limit",
        asked,
        bounds,
        "THE0_MAX_MEMORY",
        bytes,
    )
}

/// The billionths of a processor that the bot gets.
///
/// # Errors
/// It asks for more than there is.
pub fn cpu(bot: &Bot, bounds: Bounds) -> Result<u64, Refused> {
    let asked = bot.bounds.cpu;
    bounded("config.cpu_limit", asked, bounds, "THE0_MAX_CPU", cpus)
}

fn bounded(
    field: &'static str,
    asked: Option<u64>,
    bounds: Bounds,
    variable: &'static str,
    shown: fn(u64) -> String,
) -> Result<u64, Refused> {
    match (asked, bounds.most) {
        (Some(asked), Some(most)) if asked > most => Err(Refused::TooMuch {
            field,
            asked: shown(asked),
            most: shown(most),
            variable,
        }),
        (asked, _) => Ok(asked.unwrap_or(bounds.default)),
    }
}

/// Bytes as a quantity.
pub fn bytes(n: u64) -> String {
    match n {
        n if n % (1 << 30) == 0 => format!("{}Gi", n >> 30),
        n if n % (1 << 20) == 0 => format!("{}Mi", n >> 20),
        n => n.to_string(),
    }
}

/// Billionths of a processor as a quantity, never less than these: to a kubelet a limit of none is no limit.
pub fn cpus(n: u64) -> String {
    if n.is_multiple_of(1_000_000_000) {
        (n / 1_000_000_000).to_string()
    } else {
        format!("{}m", n.div_ceil(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bound_of_a_processor_is_written_as_one_and_never_as_none(n in 1..10_000_000_000_u64) {
            let written = cpus(n);
            let read = match written.strip_suffix('m') {
                Some(thousandths) => thousandths.parse::<u64>().unwrap() * 1_000_000,
                None => written.parse::<u64>().unwrap() * 1_000_000_000,
            };
            prop_assert!(read >= n && read - n < 1_000_000, "{written}");
        }
    }
}
