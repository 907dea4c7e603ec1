//! What the instances of a bot have said of themselves, from its day logs in the store.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::servers::Client;

use crate::watch::Seen;

/// One process of a bot.
#[derive(Debug, Default)]
pub struct Instance {
    /// The number it began after, where that line is there.
    pub from: Option<u64>,
    /// When it said something first and last, in microseconds since 1970.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// The numbers it wrote, with how often it said so.
    pub numbers: BTreeMap<u64, u32>,
}

/// All instances of a bot, by their own names.
pub fn instances(client: &Client, bot: &str) -> BTreeMap<String, Instance> {
    let mut all: BTreeMap<String, Instance> = BTreeMap::new();
    for key in client.list("bot-logs", &format!("logs/{bot}/")) {
        let object = client
            .get("bot-logs", &key)
            .unwrap_or_else(|| panic!("{key} has gone"));
        for line in String::from_utf8_lossy(&object.bytes).lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            take(&mut all, line["message"].as_str().unwrap_or_default());
        }
    }
    all
}

fn take(all: &mut BTreeMap<String, Instance>, line: &str) {
    let words: BTreeMap<&str, &str> = line
        .split(' ')
        .filter_map(|word| word.split_once('='))
        .collect();
    let number = |name: &str| words.get(name).and_then(|text| text.parse::<u64>().ok());
    let (Some(boot), Some(at)) = (words.get("boot"), number("at")) else {
        return;
    };
    let instance = all.entry((*boot).to_owned()).or_insert_with(|| Instance {
        first: at,
        ..Instance::default()
    });
    instance.first = instance.first.min(at);
    instance.last = instance.last.max(at);
    if line.starts_with("BEGAN ") {
        instance.from = number("from");
    } else if let Some(n) = number("n") {
        *instance.numbers.entry(n).or_default() += 1;
    }
}

/// The highest number that the log has.
pub fn written(all: &BTreeMap<String, Instance>) -> u64 {
    let last = |life: &Instance| life.numbers.keys().last().copied();
    all.values().filter_map(last).max().unwrap_or(0)
}

/// Whether each number was written once, by one instance at a time, and each went on from what was `seen` in the store.
pub fn hold(all: &BTreeMap<String, Instance>, seen: &[Seen]) -> Result<(), String> {
    let mut lives: Vec<(&String, &Instance)> = all.iter().collect();
    lives.sort_by_key(|(_, life)| life.first);
    for pair in lives.windows(2) {
        follows(pair[0], pair[1])?;
    }
    for (boot, life) in lives {
        is_whole(boot, life)?;
        let before = seen.iter().filter(|seen| seen.at < life.first);
        let known = before.map(|seen| seen.number).max();
        if life.from.is_some() && life.from < known {
            let from = life.from;
            return Err(format!(
                "{boot} began after {from:?} when {known:?} was in the store"
            ));
        }
    }
    Ok(())
}

/// Whether the one has ended before the other began, with lower numbers.
fn follows(
    (other, before): (&String, &Instance),
    (boot, life): (&String, &Instance),
) -> Result<(), String> {
    let (until, first) = (before.last, life.first);
    if until > first {
        return Err(format!(
            "{other} wrote until {until}, {boot} from {first} on"
        ));
    }
    let (most, least) = (before.numbers.keys().last(), life.numbers.keys().next());
    if most.zip(least).is_some_and(|(most, least)| most >= least) {
        return Err(format!("{other} wrote {most:?}, and then {boot} {least:?}"));
    }
    Ok(())
}

/// Whether of an instance each line is there, once.
fn is_whole(boot: &str, life: &Instance) -> Result<(), String> {
    let least = life.numbers.keys().next().copied().unwrap_or(0);
    let most = life.numbers.keys().last().copied().unwrap_or(0);
    let found = life.numbers.len() as u64;
    if found != most + u64::from(most > 0) - least {
        return Err(format!(
            "of {boot}'s lines {least} to {most} the log has {found}"
        ));
    }
    let from = life.from;
    if least > 0 && from.is_some_and(|from| from + 1 != least) {
        return Err(format!(
            "{boot} began after {from:?} and says {least} first"
        ));
    }
    let twice = life.numbers.iter().find(|(_, times)| **times > 1);
    twice.map_or(Ok(()), |twice| Err(format!("{boot} said {twice:?} times")))
}
