//! The demo's price feed: a native bot, std only.
//!
//! Every tick it moves three prices a little, saves them, and serves the latest as JSON on
//! `http://127.0.0.1:<port>/`. Started again, it goes on from the prices it saved: what is under `STATE_DIR` is kept.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Prices = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let config = env::var("BOT_CONFIG").unwrap_or_default();
    let port = setting(&config, "port").unwrap_or(47100.0) as u16;
    let every = Duration::from_millis(setting(&config, "every_ms").unwrap_or(1000.0) as u64);
    let folder = PathBuf::from(env::var("STATE_DIR").unwrap_or_else(|_| ".".into()));
    let file = folder.join("prices.json");

    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("port {port}: {error}; give another one in bot-config.yaml");
            return ExitCode::FAILURE;
        }
    };
    let prices = Arc::new(Mutex::new(load(&file)));
    println!("serving {} on 127.0.0.1:{port}", json(&prices.lock().unwrap()));
    let served = Arc::clone(&prices);
    thread::spawn(move || listener.incoming().flatten().for_each(|client| serve(client, &served)));

    let mut dice = Dice::thrown();
    for tick in 1u64.. {
        let text = {
            let mut prices = prices.lock().unwrap();
            prices.values_mut().for_each(|price| *price *= 1.0 + 0.004 * (dice.roll() - 0.5));
            json(&prices)
        };
        if let Err(error) = save(&file, &text) {
            eprintln!("{}: {error}", file.display());
        }
        if tick % 5 == 0 {
            println!("{text}");
        }
        thread::sleep(every);
    }
    ExitCode::SUCCESS
}

/// The prices of the last run, or where they begin.
fn load(file: &Path) -> Prices {
    let text = fs::read_to_string(file).unwrap_or_default();
    let begin = [("BTC/USD", 67_000.0), ("ETH/USD", 3_500.0), ("SOL/USD", 170.0)];
    let price = |(symbol, first): (&str, f64)| (symbol.to_owned(), setting(&text, symbol).unwrap_or(first));
    begin.map(price).into()
}

/// Writes aside and renames, so that a kill in the middle leaves the old prices whole.
fn save(file: &Path, text: &str) -> std::io::Result<()> {
    let aside = file.with_extension("tmp");
    fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
    fs::write(&aside, text)?;
    fs::rename(aside, file)
}

fn serve(mut client: TcpStream, prices: &Mutex<Prices>) {
    let _ = client.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = client.read(&mut [0; 1024]);
    let body = json(&prices.lock().unwrap());
    let _ = write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn json(prices: &Prices) -> String {
    let pairs: Vec<_> = prices.iter().map(|(symbol, price)| format!("\"{symbol}\":{price:.4}")).collect();
    format!("{{{}}}", pairs.join(","))
}

/// The number after `"name":` in flat JSON. A real bot would use a JSON library; this one has no dependencies.
fn setting(json: &str, name: &str) -> Option<f64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !"-+.eE0123456789".contains(c)).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// A small generator of numbers from 0 to 1 (xorshift64*), seeded by the clock.
struct Dice(u64);

impl Dice {
    fn thrown() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(now.as_nanos() as u64 | 1)
    }

    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}
