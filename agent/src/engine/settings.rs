//! What the operator sets, read from the agent's environment by every engine in the same way.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::launch::Variables;
use contract::{Runtime, vars};
use thiserror::Error;

use crate::{launch, quantity};

/// The time between TERM and KILL that the contract gives a container.
pub const STOP: Duration = Duration::from_secs(60);
/// What a supervisor takes to end besides grace and drain.
const SLACK: Duration = Duration::from_secs(10);

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{variable} {why}")]
pub struct BadSetting {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong and what is understood.
    pub why: String,
}

/// The image for a runtime: `image` has `{runtime}` in the place of its name, or is one for all.
pub fn image_for(image: &str, runtime: Runtime) -> String {
    let name = match runtime {
        Runtime::CppGcc => Runtime::Gcc.name(),
        other => other.name(),
    };
    image.replace("{runtime}", name)
}

/// The variables of the agent's environment that go on to the supervisors of containers: what tunes them, and what
/// `THE0_PASS_ENV` names. Where the agent itself runs (`PATH`, `HOME`, its proxies) is nothing to them.
pub fn passed(environment: &Variables) -> Variables {
    let asked = environment.get(vars::THE0_PASS_ENV);
    let asked: Vec<&str> = asked.map_or(Vec::new(), |names| {
        names.split(',').map(str::trim).collect()
    });
    let goes = |name: &str| {
        launch::TUNING.contains(&name)
            || name == vars::THE0_PASS_ENV
            || (asked.contains(&name) && !vars::KEYS.contains(&name))
    };
    let pairs = environment.iter().filter(|(name, _)| goes(name));
    pairs
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect::<BTreeMap<_, _>>()
}

/// Settings, by the names of their variables.
#[derive(Debug)]
pub struct Settings<'a>(pub &'a Variables);

impl<'a> Settings<'a> {
    /// One that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let value = self.0.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// A whole number over zero.
    ///
    /// # Errors
    /// It is none.
    pub fn whole(&self, variable: &'static str, default: u64) -> Result<u64, BadSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(default);
        };
        let fits = |n: &u64| (1..=1 << 40).contains(n);
        text.parse().ok().filter(fits).ok_or_else(|| BadSetting {
            variable,
            why: format!("is {text:?}: give a whole number over 0"),
        })
    }

    /// An amount of bytes.
    ///
    /// # Errors
    /// It is none.
    pub fn bytes(&self, variable: &'static str, default: u64) -> Result<u64, BadSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(default);
        };
        quantity::memory(&text.into()).map_err(|why| BadSetting {
            variable,
            why: why.to_string(),
        })
    }

    /// Billionths of a processor.
    ///
    /// # Errors
    /// It is no amount.
    pub fn cpus(&self, variable: &'static str) -> Result<Option<u64>, BadSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(None);
        };
        let read = quantity::cpu(&text.into()).map_err(|why| BadSetting {
            variable,
            why: why.to_string(),
        });
        read.map(Some)
    }

    /// A duration.
    ///
    /// # Errors
    /// It is none.
    pub fn time(&self, variable: &'static str, default: Duration) -> Result<Duration, BadSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(default);
        };
        humantime::parse_duration(text).map_err(|_| BadSetting {
            variable,
            why: format!("is {text:?}: give a duration as in 30s or 12h"),
        })
    }

    /// Grace and drain together, and time for the rest; the contract's 60 s at least.
    ///
    /// # Errors
    /// One of them is no duration.
    pub fn stop(&self) -> Result<Duration, BadSetting> {
        let grace = self.time(vars::THE0_GRACE, Duration::from_secs(30))?;
        let drain = self.time(vars::THE0_DRAIN, Duration::from_secs(20))?;
        Ok((grace + drain + SLACK).max(STOP))
    }
}
