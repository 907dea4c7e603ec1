//! Lines on `the0.bot.logs.<id>`.

use std::time::Duration;

use tests::servers::mongo::bson::doc;
use tests::stack::{LONG, Stack};
use tests::wait_for;

use crate::host;

/// Time in which a line that is not to come would have.
const MOMENT: Duration = Duration::from_secs(3);

/// Prints numbered lines for ever.
const PRINTS: &str = r#"
import time
def main(id, config):
    n = 0
    while True:
        n += 1
        print(f"LINE {config['who']} {n}", flush=True)
        time.sleep(0.05)
"#;

/// Prints lines of a kind each, and a last one without an end.
const ODD: &str = r#"
import sys, time
def main(id, config):
    print("x" * (300 << 10), flush=True)
    print("short", flush=True)
    print("", flush=True)
    print("on stderr", file=sys.stderr, flush=True)
    time.sleep(3)  # what a loaded daemon does not take in time is left out by the supervisor, and said
    print("y" * 40000, flush=True)
    print("caf\u00e9", flush=True)
    sys.stdout.write("no end")
    sys.stdout.flush()
    time.sleep(100000)
"#;

/// What was sent of a bot.
fn sent(host: &Stack, bot: &str) -> String {
    host.nats.as_ref().expect("a NATS").lines_of(bot)
}

/// The numbers of a bot that prints them.
fn numbers(host: &Stack, bot: &str, who: &str) -> Vec<u64> {
    let text = sent(host, bot);
    let before = format!("LINE {who} ");
    let lines = text.lines().filter(|line| line.starts_with("LINE"));
    lines
        .map(|line| {
            let number = line.strip_prefix(&before);
            let number = number.unwrap_or_else(|| panic!("{line:?} is not {who}'s"));
            number.parse().expect("a number")
        })
        .collect()
}

/// Waits until a bot's numbers go beyond `last`, and checks that none is missing, twice or out of order.
fn goes_on(host: &Stack, bot: &str, who: &str, last: u64) -> u64 {
    let numbers = wait_for("more lines", LONG, || {
        let numbers = numbers(host, bot, who);
        (numbers.last().copied() > Some(last)).then_some(numbers)
    });
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "{}", host.said());
    numbers.len() as u64
}

#[test]
fn each_bots_lines_are_on_its_subject_in_order_over_the_end_of_agent_and_nats() {
    let Some(mut host) = host("live::lines") else {
        return;
    };
    let one = host.bot("one", PRINTS, doc! {"who": "one"});
    let two = host.bot("two", PRINTS, doc! {"who": "two"});
    host.begin();
    let first = goes_on(&host, &one, "one", 20);
    goes_on(&host, &two, "two", 20);

    host.kill();
    let while_away = first + 40;
    wait_for("lines that nobody sends", LONG, || {
        let printed = host.container(&one).logs();
        printed
            .contains(&format!("LINE one {while_away}\n"))
            .then_some(())
    });
    host.begin();
    let first = goes_on(&host, &one, "one", while_away);
    goes_on(&host, &two, "two", 20);

    // Its memory goes with it: what comes again is what the last agent had not sent.
    host.nats.as_mut().expect("a NATS").stop();
    wait_for("lines while nobody takes them", LONG, || {
        let printed = host.container(&one).logs();
        printed
            .contains(&format!("LINE one {}\n", first + 60))
            .then_some(())
    });
    host.nats.as_mut().expect("a NATS").start_again();
    let after = wait_for("lines again", LONG, || {
        let numbers = numbers(&host, &one, "one");
        (numbers.last().copied() > Some(first + 60)).then_some(numbers)
    });
    let from = after[0];
    assert!(from <= first + 60, "none is missing: {from} after {first}");
    let expected: Vec<u64> = (from..from + after.len() as u64).collect();
    assert_eq!(after, expected);
}

#[test]
fn lines_are_whole_and_the_last_one_needs_no_end() {
    let Some(mut host) = host("live::odd") else {
        return;
    };
    let bot = host.bot("odd", ODD, doc! {});
    host.begin();
    let is_there = || sent(&host, &bot).contains("caf\u{e9}").then_some(());
    wait_for("the lines", LONG, is_there);
    assert!(!sent(&host, &bot).contains("no end"), "it has not ended");
    host.ok(&["stop", &bot]);
    wait_for("the last line", LONG, || {
        sent(&host, &bot).contains("no end\n").then_some(())
    });
    let text = sent(&host, &bot);
    // Where it stands among the others is the daemon's choice: it came by another pipe.
    let mut lines = text.lines().filter(|line| *line != "on stderr");
    let long = lines.next().expect("a line");
    let cut = format!(" [cut: {} more bytes]", (300 << 10) - (256 << 10));
    let kept = long.strip_suffix(&cut).expect("a marker");
    assert_eq!(kept.len(), 256 << 10);
    assert!(kept.bytes().all(|byte| byte == b'x'));
    assert_eq!(lines.next(), Some("short"));
    assert!(!text.contains("supervisor info"), "{text}");
    assert!(
        text.contains("on stderr\n"),
        "what a bot says on standard error is its, too"
    );
    let long = "y".repeat(40000);
    assert!(
        text.lines().any(|line| line == long),
        "the daemon's own pieces are put together"
    );
}

#[test]
fn nothing_is_sent_where_it_is_switched_off() {
    let Some(mut host) = host("live::off") else {
        return;
    };
    host.set("THE0_LIVE_LOGS", "off");
    let bot = host.bot("off", PRINTS, doc! {"who": "off"});
    host.begin();
    wait_for("lines", LONG, || {
        host.container(&bot)
            .logs()
            .contains("LINE off 5\n")
            .then_some(())
    });
    std::thread::sleep(MOMENT);
    let nats = host.nats.as_ref().expect("a NATS");
    assert!(nats.chunks_of(&bot).is_empty());
}
