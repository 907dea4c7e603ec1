//! Requests that nobody should send: good ones in which bytes, lines and numbers were changed by chance, from a seed that is
//! told. What is asked of a server: it takes each within a bound of time, and answers good requests as before.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a server may take to be rid of one.
const RID: Duration = Duration::from_secs(5);

/// Numbers from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below.max(1) as u64).expect("a number below")
    }
}

const LINES: [&str; 12] = [
    "Content-Length: 18446744073709551616",
    "Content-Length: -1",
    "Content-Length: 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding : chunked",
    "Expect: 100-continue",
    "Upgrade: websocket",
    "Connection: keep-alive, close",
    "Authorization: Bearer",
    "X: \u{e9}\0",
    " folded",
];

fn changed(good: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=chance.next(4) {
        let at = chance.next(bytes.len());
        match chance.next(7) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(chance.next(256)).expect("a byte");
                }
            }
            2 => {
                let line = LINES[chance.next(LINES.len())];
                let end = bytes
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map_or(0, |end| end + 1);
                bytes.splice(end..end, format!("{line}\r\n").into_bytes());
            }
            3 => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece);
            }
            4 => {
                let noise: Vec<u8> = (0..chance.next(64))
                    .map(|_| u8::try_from(chance.next(256)).expect("a byte"))
                    .collect();
                bytes.splice(at..at, noise);
            }
            5 => {
                let until = (at + chance.next(8)).min(bytes.len());
                bytes.drain(at..until);
            }
            _ => {
                let deep = "[".repeat(chance.next(3000));
                bytes.splice(at..at, deep.into_bytes());
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Sends `count` requests made of `good` ones to the server at `address`, each over a connection of its own, and after each
/// dozen makes sure with `is_well` that it answers as before.
///
/// # Panics
/// When one is not got rid of in time, or the server is not well any more; the seed is told.
pub fn survives(
    address: &str,
    seed: u64,
    count: usize,
    good: &[Vec<u8>],
    is_well: impl Fn() -> bool,
) {
    let mut chance = Chance(seed);
    for n in 0..count {
        let request = changed(&good[chance.next(good.len())], &mut chance);
        let told = || {
            format!(
                "seed {seed}, request {n}: {:?}",
                String::from_utf8_lossy(&request)
            )
        };
        let began = Instant::now();
        let mut stream =
            TcpStream::connect(address).unwrap_or_else(|err| panic!("{err}: {}", told()));
        stream
            .set_read_timeout(Some(RID * 2))
            .expect("a time limit");
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        assert!(began.elapsed() < RID, "{:?}, {}", began.elapsed(), told());
        assert!(n % 12 != 0 || is_well(), "{}", told());
    }
}

/// A seed that nobody chose.
pub fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() % 1_000_000_000
}
