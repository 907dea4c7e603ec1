//! When a bot runs, and what is done when that does not go as planned: read from its parameters. Pure.
//!
//! ```text
//! config.schedule         "*/5 * * * *"
//! config.timezone         "America/New_York"; without it UTC
//! config.schedule_policy  {concurrency, starting_deadline, catch_up, catch_up_max, time_limit, retries, retry_pause}
//! ```

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cron::Schedule;

/// Seconds since 1970.
pub type Seconds = i64;

/// How long after its time a tick may start where what was missed is not caught up.
const ON_TIME: Seconds = 60;
/// Kubernetes' own clock may look less often than a shorter deadline.
const SHORTEST_DEADLINE: Seconds = 10;
/// A day.
const DAY: Seconds = 24 * 60 * 60;

/// What a bot's parameters say about when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// The times, as they were written.
    pub schedule: String,
    /// The zone they are meant in, as it was written.
    pub timezone: Option<String>,
    /// The rest.
    pub policy: Policy,
}

/// What is done when a tick is late, long or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// When a tick is due while the last one runs.
    pub concurrency: Concurrency,
    /// How late a tick may start; `None`: however late.
    pub starting_deadline: Option<Seconds>,
    /// Which of the ticks that were missed run.
    pub catch_up: CatchUp,
    /// How many of them at most.
    pub catch_up_max: usize,
    /// How long a run may take.
    pub time_limit: Seconds,
    /// How often a run that failed is tried again.
    pub retries: u32,
    /// How long after the first failure; twice as long after each more.
    pub retry_pause: Seconds,
}

/// What a tick does that is due while the last one runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// It waits until that has ended.
    Forbid,
    /// It has that stopped.
    Replace,
}

/// Which of the ticks that were missed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// None.
    None,
    /// The latest.
    Last,
    /// All, one after another.
    All,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            concurrency: Concurrency::Forbid,
            starting_deadline: None,
            catch_up: CatchUp::Last,
            catch_up_max: 10,
            time_limit: DAY,
            retries: 0,
            retry_pause: 10,
        }
    }
}

impl Policy {
    /// How late a tick may start; `None`: however late.
    pub fn deadline(&self) -> Option<Seconds> {
        match self.catch_up {
            CatchUp::None => Some(self.starting_deadline.unwrap_or(ON_TIME).min(ON_TIME)),
            CatchUp::Last | CatchUp::All => self.starting_deadline,
        }
    }

    /// How many of the ticks that are due at once run.
    pub fn most(&self) -> usize {
        match self.catch_up {
            CatchUp::None | CatchUp::Last => 1,
            CatchUp::All => self.catch_up_max,
        }
    }

    /// The pause before a run is tried again that has failed so many times.
    pub fn pause(&self, failures: u32) -> Seconds {
        let doubled = 1 << failures.saturating_sub(1).min(16);
        self.retry_pause.saturating_mul(doubled).min(DAY)
    }
}

/// A field that cannot be used, and why.
pub type Refusal = (String, String);

impl Timetable {
    /// Reads the parameters of a bot that runs at times.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn read(config: &Map<String, Value>) -> Result<Self, Refusal> {
        let timetable = Self {
            schedule: schedule(config)?,
            timezone: timezone(config)?,
            policy: policy(config)?,
        };
        timetable.cron().map(|_| timetable.clone())
    }

    /// The times.
    ///
    /// # Errors
    /// They are not understood, or there are none.
    pub fn cron(&self) -> Result<Cron, Refusal> {
        let schedule = Schedule::parse(&self.schedule, self.timezone.as_deref());
        let schedule = schedule.map_err(|err| refusal("schedule", err.to_string()))?;
        Ok(Cron(schedule))
    }
}

impl Timetable {
    /// The times in a form that Kubernetes' own clock keeps as well as we do, with all that the policy asks for.
    pub fn plain<'a>(&self, cron: &'a Cron) -> Option<&'a str> {
        let policy = &self.policy;
        // In the place of one that runs it would start the next one while that one still saves.
        let is_kept = policy.concurrency == Concurrency::Forbid
            && policy.retries == 0
            && policy.catch_up != CatchUp::All
            && policy
                .deadline()
                .is_none_or(|deadline| deadline >= SHORTEST_DEADLINE);
        cron.0.plain().filter(|_| is_kept)
    }
}

/// Times, understood.
#[derive(Debug, Clone)]
pub struct Cron(Schedule);

impl Cron {
    /// The first time after `after`.
    pub fn next(&self, after: Seconds) -> Option<Seconds> {
        let after = Timestamp::from_second(after).ok()?;
        Some(self.0.next(after)?.as_second())
    }
}

fn refusal(field: &str, why: impl Into<String>) -> Refusal {
    (format!("config.{field}"), why.into())
}

fn schedule(config: &Map<String, Value>) -> Result<String, Refusal> {
    match config.get("schedule") {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
        None | Some(Value::Null | Value::String(_)) => {
            let why = "is missing: say when it runs, as in \"*/5 * * * *\"";
            Err(refusal("schedule", why))
        }
        Some(_) => Err(refusal("schedule", "is not a text: put it in quotes")),
    }
}

fn timezone(config: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    match config.get("timezone") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => {
            let why = "is not a text: name a zone, as in \"America/New_York\"";
            Err(refusal("timezone", why))
        }
    }
}

fn policy(config: &Map<String, Value>) -> Result<Policy, Refusal> {
    let mut policy = Policy::default();
    let given = match config.get("schedule_policy") {
        None | Some(Value::Null) => return Ok(policy),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(refusal("schedule_policy", "is not a mapping")),
    };
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("schedule_policy.{name}");
        let set = set(&mut policy, name, value);
        set.map_err(|why| refusal(&field, why))?;
    }
    Ok(policy)
}

fn set(policy: &mut Policy, name: &str, value: &Value) -> Result<(), &'static str> {
    match name {
        "concurrency" => policy.concurrency = concurrency(value)?,
        "starting_deadline" => policy.starting_deadline = Some(duration(value, 0)?),
        "catch_up" => policy.catch_up = catch_up(value)?,
        "catch_up_max" => policy.catch_up_max = usize::from(count(value, 1..=1000)?),
        "time_limit" => policy.time_limit = duration(value, 1)?,
        "retries" => policy.retries = u32::from(count(value, 0..=100)?),
        "retry_pause" => policy.retry_pause = duration(value, 0)?,
        _ => {
            return Err(
                "is not known: there are concurrency, starting_deadline, catch_up, catch_up_max, time_limit, retries \
                 and retry_pause",
            );
        }
    }
    Ok(())
}

fn concurrency(value: &Value) -> Result<Concurrency, &'static str> {
    match value.as_str() {
        Some("forbid") => Ok(Concurrency::Forbid),
        Some("replace") => Ok(Concurrency::Replace),
        _ => Err("is not understood: use forbid or replace"),
    }
}

fn catch_up(value: &Value) -> Result<CatchUp, &'static str> {
    match value.as_str() {
        Some("none") => Ok(CatchUp::None),
        Some("last") => Ok(CatchUp::Last),
        Some("all") => Ok(CatchUp::All),
        _ => Err("is not understood: use none, last or all"),
    }
}

/// A text as in `90s`, or a number of seconds.
fn duration(value: &Value, least: Seconds) -> Result<Seconds, &'static str> {
    const WHY: &str = "is no duration: give it as in \"90s\" or \"2h\", up to 366 days";
    let seconds = match value {
        Value::String(text) => {
            let text = humantime::parse_duration(text).map_err(|_| WHY)?;
            i64::try_from(text.as_secs()).map_err(|_| WHY)?
        }
        other => whole(other).ok_or(WHY)?,
    };
    let fits = (least..=366 * DAY).contains(&seconds);
    fits.then_some(seconds).ok_or(WHY)
}

fn count(value: &Value, range: std::ops::RangeInclusive<u16>) -> Result<u16, &'static str> {
    let count = whole(value).and_then(|n| u16::try_from(n).ok());
    let fits = count.filter(|count| range.contains(count));
    fits.ok_or("is no number that can be used: give a whole one, up to 100 retries and 1,000 ticks")
}

/// A whole number, which may have come as a double.
fn whole(value: &Value) -> Option<i64> {
    let double = || {
        value
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
    };
    value
        .as_i64()
        .or_else(|| format!("{:.0}", double()?).parse().ok())
}

/// A time for a person.
pub fn shown(at: Seconds) -> String {
    let since = Duration::from_secs(u64::try_from(at).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: &Value) -> Result<Timetable, Refusal> {
        Timetable::read(config.as_object().unwrap())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let read = read(&json!({"schedule": "*/5 * * * *", "schedule_policy": {"retries": null}}));
        let expected = Timetable {
            schedule: "*/5 * * * *".into(),
            timezone: None,
            policy: Policy::default(),
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_policy_is_read_as_it_is_written_by_people_and_by_the_database() {
        let policy = json!({"concurrency": "replace", "starting_deadline": "5m", "catch_up": "all", "catch_up_max": 3.0,
            "time_limit": 90, "retries": 2.0, "retry_pause": "1s"});
        let read = read(&json!({"schedule": "* * * * *", "schedule_policy": policy})).unwrap();
        let expected = Policy {
            concurrency: Concurrency::Replace,
            starting_deadline: Some(300),
            catch_up: CatchUp::All,
            catch_up_max: 3,
            time_limit: 90,
            retries: 2,
            retry_pause: 1,
        };
        assert_eq!(read.policy, expected);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_remedy() {
        let rows = [
            (json!({}), "config.schedule", "as in"),
            (json!({"schedule": 5}), "config.schedule", "quotes"),
            (json!({"schedule": "x * * * *"}), "config.schedule", ""),
            (
                json!({"schedule": "* * * * *", "timezone": 1}),
                "config.timezone",
                "name a zone",
            ),
            (
                json!({"schedule": "* * * * *", "schedule_policy": []}),
                "config.schedule_policy",
                "mapping",
            ),
        ];
        for (config, field, remedy) in rows {
            let (of, why) = read(&config).unwrap_err();
            assert!(of == field && why.contains(remedy), "{of}: {why}");
        }
        for (name, value, remedy) in [
            ("concurrency", json!("allow"), "forbid or replace"),
            ("catch_up", json!(true), "none, last or all"),
            ("catch_up_max", json!(0), "whole"),
            ("time_limit", json!("0s"), "duration"),
            ("time_limit", json!("soon"), "duration"),
            ("retries", json!(-1), "whole"),
            ("retries", json!(1.5), "whole"),
            ("retry", json!(1), "retry_pause"),
        ] {
            let config = json!({"schedule": "* * * * *", "schedule_policy": {name: value}});
            let (of, why) = read(&config).unwrap_err();
            assert_eq!(of, format!("config.schedule_policy.{name}"));
            assert!(why.contains(remedy), "{of}: {why}");
        }
    }

    #[test]
    fn pauses_double_to_a_day() {
        let policy = Policy::default();
        assert_eq!([1, 2, 3].map(|n| policy.pause(n)), [10, 20, 40]);
        assert_eq!(policy.pause(99), DAY);
    }
}
