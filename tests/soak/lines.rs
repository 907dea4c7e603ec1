//! What the instances of a bot have said of themselves, from its day logs in the store.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::servers::Client;

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
