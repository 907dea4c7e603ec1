//! Looks into the store all the time: a number that was seen there is acknowledged, and stays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::servers::Client;

use crate::journal::Journal;

/// So many looks at the states for each at the logs.
const BETWEEN_LOGS: u32 = 15;
/// So much of a log is compared later.
const END_OF_LOG: usize = 4096;

/// A number that was in the store.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Microseconds since 1970, by when it had been got.
    pub at: u64,
    /// The number.
    pub number: u64,
}

#[derive(Debug, Default)]
struct Found {
    seen: BTreeMap<String, Vec<Seen>>,
    /// Of each day's log its length and last bytes.
    logs: BTreeMap<String, (usize, Vec<u8>)>,
    broken: Option<(String, String)>,
}

/// The one that looks.
#[derive(Debug)]
pub struct Watch {
    found: Arc<Mutex<Found>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    journal: Arc<Journal>,
}

impl Watch {
    /// Looks at the states of `bots` through a client of its own.
    pub fn start(client: Client, bots: Vec<String>, journal: Arc<Journal>) -> Self {
        let (found, ends) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (into, end): (Arc<Mutex<Found>>, _) = (Arc::clone(&found), Arc::clone(&ends));
        let look = move || {
            for round in 0.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                for bot in &bots {
                    let mut found = into.lock().expect("what was found");
                    found.look(&client, bot);
                    if round % BETWEEN_LOGS == 0 {
                        found.look_at_logs(&client, bot);
                    }
                }
                std::thread::sleep(Duration::from_millis(300));
            }
        };
        let thread = Some(std::thread::spawn(look));
        Self {
            found,
            ends,
            thread,
            journal,
        }
    }

    /// Ends the soak when a number has gone.
    pub fn holds(&self) {
        let broken = self.found.lock().expect("what was found").broken.clone();
        if let Some((bot, why)) = broken {
            self.journal.broken(&bot, &why);
        }
    }

    /// What was seen of a bot, in its order.
    pub fn seen(&self, bot: &str) -> Vec<Seen> {
        let found = self.found.lock().expect("what was found");
        found.seen.get(bot).cloned().unwrap_or_default()
    }

    /// The highest number of a bot that was in the store.
    pub fn highest(&self, bot: &str) -> u64 {
        self.seen(bot).last().map_or(0, |seen| seen.number)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Found {
    fn look(&mut self, client: &Client, bot: &str) {
        let Ok(object) = client.try_get("bot-state", &format!("{bot}/state.tar.gz")) else {
            return;
        };
        let seen = self.seen.entry(bot.to_owned()).or_default();
        let before = seen.last().map_or(0, |seen| seen.number);
        let now = match object.map(|object| number(&object.bytes)) {
            None => Ok(0),
            Some(read) => read,
        };
        match now {
            Err(why) => self.broken = Some((bot.to_owned(), why)),
            Ok(now) if now < before => {
                let why = format!("number {before} was in the store, and then {now} was");
                self.broken.get_or_insert((bot.to_owned(), why));
            }
            Ok(now) if now > before => seen.push(Seen {
                at: micros(),
                number: now,
            }),
            Ok(_) => {}
        }
    }
}

impl Found {
    /// A log only grows: what was in it stays where it was.
    fn look_at_logs(&mut self, client: &Client, bot: &str) {
        for key in client.list("bot-logs", &format!("logs/{bot}/")) {
            let Ok(object) = client.try_get("bot-logs", &key) else {
                continue;
            };
            let bytes = object.map(|object| object.bytes).unwrap_or_default();
            let before = self.logs.get(&key);
            if before.is_some_and(|(length, end)| !goes_on(&bytes, *length, end)) {
                let why = format!("{key} has not what was in it before");
                self.broken.get_or_insert((bot.to_owned(), why));
            }
            let end = bytes[bytes.len().saturating_sub(END_OF_LOG)..].to_vec();
            self.logs.insert(key, (bytes.len(), end));
        }
    }
}

/// Whether `end` is before `length` in it.
fn goes_on(bytes: &[u8], length: usize, end: &[u8]) -> bool {
    bytes
        .get(..length)
        .is_some_and(|before| before.ends_with(end))
}

/// Now, in microseconds since 1970.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.expect("a clock after 1970").as_micros();
    u64::try_from(micros).expect("microseconds")
}

/// The number in a state; 0 in one of before the first number.
fn number(archive: &[u8]) -> Result<u64, String> {
    let told = |err: std::io::Error| format!("the state in the store is not whole: {err}");
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(archive));
    let mut found = 0;
    for entry in archive.entries().map_err(told)? {
        let mut entry = entry.map_err(told)?;
        if entry.path().map_err(told)?.ends_with("count.json") {
            let mut content = String::new();
            std::io::Read::read_to_string(&mut entry, &mut content).map_err(told)?;
            let value: Value = serde_json::from_str(&content)
                .map_err(|_| format!("the state in the store has a number {content:?}"))?;
            found = value["n"].as_u64().unwrap_or_default();
        }
    }
    Ok(found)
}
