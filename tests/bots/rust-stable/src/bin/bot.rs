//! Counts: the count goes on where the last run ended.

use std::env::var;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// The text between the quotes that follow "symbol": in a JSON object.
fn symbol(config: &str) -> &str {
    let value = config.split_once("\"symbol\"").map_or("", |(_, rest)| rest);
    value.split('"').nth(1).unwrap_or("?")
}

fn main() -> ExitCode {
    let told_to_end = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&told_to_end)).expect("hear SIGTERM");
    let (id, folder, config) = (var("BOT_ID"), var("STATE_DIR"), var("BOT_CONFIG"));
    let (id, folder, config) = (id.expect("an id"), folder.expect("a folder"), config.expect("a configuration"));
    let file = Path::new(&folder).join("count.json");
    fs::create_dir_all(&folder).expect("the folder of the state");
    let mut count: u64 = fs::read_to_string(&file).map_or(0, |text| text.parse().expect("a count"));
    println!("bot {id} counts {} from {count}", symbol(&config));
    while !told_to_end.load(Ordering::Relaxed) {
        count += 1;
        fs::write(&file, count.to_string()).expect("write the count");
        sleep(Duration::from_millis(100));
    }
    println!("bot {id} ends at {count}");
    ExitCode::from(7)
}
