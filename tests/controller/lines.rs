//! What bots print, over NATS.

use mongodb::bson::doc;
use tests::cluster::{LONG, Pod};
use tests::door::Way;
use tests::servers::nats::Nats;
use tests::wait_for;

use crate::rig::{Agent, Rig};

/// Prints numbered lines, on from those that it has in its state. After some of them it ends with a line that has no end,
/// and at TERM with a last one.
const TALKS: &str = r"
import os, signal, sys, time

def main(id, config):
    def end(*_):
        print('LAST WORDS', flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    path = '/state/line'
    n = int(open(path).read()) if os.path.exists(path) else 0
    while True:
        n += 1
        open(path, 'w').write(str(n))
        print('LINE', n, flush=True)
        if n in config['ends']:
            print('HALF', n, end='', flush=True)
            sys.exit(1)
        time.sleep(0.05)
";

/// After these it ends.
const ENDS: [u64; 2] = [30, 90];

/// What is to be sent when the bot has come to line `last`.
fn expected(last: u64) -> String {
    let line = |n| {
        if ENDS.contains(&n) {
            format!("LINE {n}\nHALF {n}\n")
        } else {
            format!("LINE {n}\n")
        }
    };
    (1..=last).map(line).collect()
}

/// Waits until lines beyond `last` are sent, and checks that none is missing, twice or out of order.
fn goes_on(nats: &Nats, agent: &Agent, last: u64) -> u64 {
    let (now, sent) = wait_for("more lines", LONG, || {
        let sent = nats.lines_of("talker");
        let line = sent
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("LINE "));
        let now: u64 = line?.parse().expect("a number");
        (now > last).then_some((now, sent))
    });
    let sent = sent
        .trim_end_matches("HALF 30\n")
        .trim_end_matches("HALF 90\n");
    let expected = expected(now);
    let expected = expected
        .trim_end_matches("HALF 30\n")
        .trim_end_matches("HALF 90\n");
    assert_eq!(sent, expected, "{}", agent.said());
    now
}

/// Waits until it has printed more while nobody sent it.
fn prints(pod: &Pod<'_>, line: u64) {
    let line = format!("LINE {line}\n");
    wait_for("lines that nobody sends", LONG, || {
        pod.logs("bot").contains(&line).then_some(())
    });
}

#[test]
fn each_line_is_sent_once_over_the_ends_of_bot_agent_and_api_server() {
    let Some(rig) = Rig::start("controller::lines") else {
        return;
    };
    let Some(nats) = Nats::start() else {
        return;
    };
    nats.make_stream();
    let uri = nats.uri();
    let mut agent = rig.agent(&[("NATS_URL", &uri)]);
    let ends = ENDS.map(i64::try_from).map(Result::unwrap).to_vec();
    let pod = rig.running("talker", TALKS, doc! {"ends": ends});
    let first = goes_on(&nats, &agent, ENDS[0] + 10);
    assert!(first < ENDS[1], "it has ended once so far, not twice");

    // Its second life ends while no agent is there: the rest of it is what the kubelet has of the life before.
    agent.kill();
    prints(&pod, ENDS[1] + 10);
    agent.start(&rig);
    let later = goes_on(&nats, &agent, ENDS[1] + 10);
    assert_eq!(pod.container("bot")["restartCount"], 2);

    rig.api.is(Way::Refused);
    prints(&pod, later + 40);
    rig.api.is(Way::Open);
    goes_on(&nats, &agent, later + 40);

    rig.remove("talker");
    pod.gone();
    let sent = wait_for("its last words", LONG, || {
        let sent = nats.lines_of("talker");
        sent.contains("LAST WORDS").then_some(sent)
    });
    let lines = sent.lines().filter(|line| line.starts_with("LINE"));
    let last = u64::try_from(lines.count()).unwrap();
    assert_eq!(sent, expected(last) + "LAST WORDS\n", "{}", agent.said());
}
