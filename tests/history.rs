//! History as a person meets it: the real agent, bots that crash, are changed, killed and cannot be started, and one
//! record a run that says why.

#[path = "history/containers.rs"]
mod containers;
#[path = "history/dev.rs"]
mod dev;
#[path = "history/notices.rs"]
mod notices;

use serde_json::Value;

/// A number of a run, why it was started, and how it ended.
type Line = (u64, String, Option<String>);

/// What `agent history -o json` told.
fn lines(entries: &[Value]) -> Vec<Line> {
    let text = |entry: &Value, field: &str| entry[field].as_str().map(str::to_owned);
    let line = |entry: &Value| {
        let cause = text(entry, "cause").unwrap_or_default();
        let cause = match text(entry, "because") {
            Some(because) => format!("{cause}: {because}"),
            None => cause,
        };
        let ended = text(entry, "reason").map(|reason| match text(entry, "stopped") {
            Some(why) => format!("{reason}: {why}"),
            None => match entry["exit"].as_i64() {
                Some(code) if reason == "exited" => format!("{reason} {code}"),
                _ => reason,
            },
        });
        (entry["run"].as_u64().unwrap_or_default(), cause, ended)
    };
    entries.iter().map(line).collect()
}

fn line(run: u64, cause: &str, ended: Option<&str>) -> Line {
    (run, cause.to_owned(), ended.map(str::to_owned))
}
