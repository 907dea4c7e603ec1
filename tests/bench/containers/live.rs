//! What live logs cost the agent and the daemon: idle bots with and without, then with one that writes all the time. The
//! same bots run on under one agent after the other; half of these send nothing.

use std::thread::sleep;
use std::time::Duration;

use tests::servers::mongo::bson::doc;
use tests::wait_for;

use super::figures::{cpu, millis};
use super::{Host, PYTHON, bot, daemon};
use crate::process::memory;

const IDLE: usize = 50;
/// Lines that the one bot writes in a second, each of a hundred bytes.
const LINES: i64 = 1000;
/// How long all may take to be there, how long an agent is left alone, and how long it is measured.
const ALL: Duration = Duration::from_secs(300);
const SETTLE: Duration = Duration::from_secs(15);
const COUNTED: Duration = Duration::from_secs(30);
/// How often each is measured.
const ROUNDS: usize = 2;

const SILENT: &str = "import time\ndef main(id, config):\n    time.sleep(100000)\n";
const WRITES: &str = r#"
import sys, time
def main(id, config):
    due, text = time.monotonic(), "x" * 99 + "\n"
    while True:
        for _ in range(100):
            sys.stdout.write(text)
        sys.stdout.flush()
        due += 0.1
        time.sleep(max(0, due - time.monotonic()))
"#;

/// What was measured of one agent.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    rss: u64,
    anonymous: u64,
    agent: i64,
    daemon: i64,
}

/// Measures and prints.
pub fn measure(host: &mut Host) {
    if host.stack.listen().is_none() {
        return;
    }
    host.stack.set("BOT_MEMORY_LIMIT_MB", "64");
    let key = host.bundle("silent", &[("main.py", SILENT.into())]);
    insert(host, &key, 0..IDLE);
    println!(
        "\n{IDLE} idle bots, then one more that writes {LINES} lines a second; {} s each, {ROUNDS} times in turn\n\n\
         | | agent RSS KB | anonymous KB | agent CPU ms/s | dockerd CPU ms/s |\n|---|---|---|---|---|",
        COUNTED.as_secs()
    );
    let idle = pair(host, IDLE, "idle");
    let key = host.bundle("writes", &[("main.py", WRITES.into())]);
    insert(host, &key, IDLE..IDLE + 1);
    let busy = pair(host, IDLE + 1, "one writes");
    let seconds = i64::try_from(COUNTED.as_secs()).unwrap_or(1);
    let more = |of: fn(&Cost) -> i64, [off, on]: &[Cost; 2]| of(on) - of(off);
    let line = |of: fn(&Cost) -> i64| more(of, &busy) - more(of, &idle);
    println!(
        "\nAn idle bot: {} KB more of the agent's anonymous memory. A line: {} µs of CPU more in the agent, {} µs in dockerd.",
        (idle[1].anonymous.saturating_sub(idle[0].anonymous)) / u64::try_from(IDLE).unwrap_or(1),
        line(|cost| cost.agent) / (LINES * seconds),
        line(|cost| cost.daemon) / (LINES * seconds),
    );
}

fn insert(host: &Host, key: &str, numbers: std::ops::Range<usize>) {
    let id = |n| host.stack.id(&format!("l{n}"));
    let one = |n| bot(&id(n), key, PYTHON, doc! {"bot": "main.py"});
    host.insert(numbers.map(one));
}

/// Without and with live logs; the least of the rounds each.
fn pair(host: &mut Host, bots: usize, what: &str) -> [Cost; 2] {
    let mut least: [Option<Cost>; 2] = [None; 2];
    for _ in 0..ROUNDS {
        for (n, word) in ["off", "on"].into_iter().enumerate() {
            host.stack.set("THE0_LIVE_LOGS", word);
            let cost = one(host, bots);
            println!(
                "| {what}, live logs {word} | {} | {} | {:.2} | {:.2} |",
                cost.rss,
                cost.anonymous,
                per_second(cost.agent),
                per_second(cost.daemon)
            );
            let known = least[n].unwrap_or(cost);
            least[n] = Some(Cost {
                rss: known.rss.min(cost.rss),
                anonymous: known.anonymous.min(cost.anonymous),
                agent: known.agent.min(cost.agent),
                daemon: known.daemon.min(cost.daemon),
            });
        }
    }
    least.map(Option::unwrap_or_default)
}

#[allow(clippy::cast_precision_loss)] // printed with two decimals
fn per_second(micros: i64) -> f64 {
    millis(micros) / COUNTED.as_secs() as f64
}

fn one(host: &mut Host, bots: usize) -> Cost {
    host.begin(&[]);
    wait_for("all containers", ALL, || {
        sleep(Duration::from_millis(500));
        (daemon::running(host.docker(), host.stack.name()) == bots).then_some(())
    });
    sleep(SETTLE);
    // Of the daemon it is known in milliseconds.
    let before = (cpu(host.pid()), daemon::cpu());
    sleep(COUNTED);
    let cost = Cost {
        rss: memory(host.pid(), "Rss"),
        anonymous: memory(host.pid(), "Anonymous"),
        agent: cpu(host.pid()) - before.0,
        daemon: (daemon::cpu() - before.1) * 1000,
    };
    host.end();
    cost
}
