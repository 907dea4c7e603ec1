//! Counts once and stays.

use the0_sdk::{input, state};

fn main() {
    let (id, config) = input::parse().expect("a bot's id and configuration");
    state::set("count", &7).expect("a state that can be written");
    input::log(&format!("bot {id} of {} parameters counts", config.as_object().map_or(0, |all| all.len())), None, None);
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}
