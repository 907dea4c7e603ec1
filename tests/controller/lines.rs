//! What bots print, over NATS.

use mongodb::bson::doc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::cluster::{LONG, Pod};
use tests::door::Way;
use tests::servers::nats::Nats;
use tests::wait_for;

use crate::rig::{Agent, Rig};

/// Prints numbered lines, on from those that it has in its state. After one of them it ends with a line that has no end, and
/// so it does when it is told by a signal; at TERM it ends with a last one.
pub const TALKS: &str = r"
import os, signal, sys, time

def main(id, config):
    def end(*_):
        print('LAST WORDS', flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    told = []
    signal.signal(signal.SIGUSR1, lambda *_: told.append(True))
    path = '/state/line'
    n = int(open(path).read()) if os.path.exists(path) else 0
    while True:
        n += 1
        open(path, 'w').write(str(n))
        print('LINE', n, flush=True)
        if n == config['ends'] or told:
            print('HALF', n, end='', flush=True)
            sys.exit(1)
        time.sleep(0.05)
";

/// After this line it ends.
const ENDS: u64 = 30;

/// What is to be sent when the bot has come to line `last`, and has ended after those of `ends`.
fn expected(ends: &[u64], last: u64) -> String {
    let line = |n| {
        if ends.contains(&n) {
            format!("LINE {n}\nHALF {n}\n")
        } else {
            format!("LINE {n}\n")
        }
    };
    (1..=last).map(line).collect()
}

/// The numbers of the lines in a text.
pub fn numbers(text: &str) -> impl DoubleEndedIterator<Item = u64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("LINE "));
    lines.map(|number| number.parse().expect("a number"))
}

/// Waits until lines beyond `last` are sent, and checks that none is missing, twice or out of order.
fn goes_on(nats: &Nats, agent: &Agent, ends: &[u64], last: u64) -> u64 {
    let (now, sent) = wait_for("more lines", LONG, || {
        let sent = nats.lines_of("talker");
        let now = numbers(&sent).next_back()?;
        (now > last).then_some((now, sent))
    });
    assert_eq!(sent, expected(ends, now), "{}", agent.said());
    now
}

/// Tells it to end, and waits until it runs again and has printed some lines that nobody sends; gives its last one before.
fn ends_once_more(pod: &Pod<'_>) -> u64 {
    let program = wait_for("its process", LONG, || pod.find_process("bot", "python3"));
    kill(Pid::from_raw(program), Signal::SIGUSR1).expect("its process");
    wait_for("its next life", LONG, || {
        let printed = pod.logs("bot");
        let mut lines = numbers(&printed);
        let first = lines.next()?;
        (first > ENDS + 1 && lines.count() >= 10).then_some(first - 1)
    })
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
    let ends = i64::try_from(ENDS).unwrap();
    let pod = rig.running("talker", TALKS, doc! {"ends": ends});
    goes_on(&nats, &agent, &[ENDS], ENDS + 10);

    // Its second life ends while no agent is there: the rest of it is what the kubelet has of the life before.
    agent.kill();
    let ends = [ENDS, ends_once_more(&pod)];
    agent.start(&rig);
    let later = goes_on(&nats, &agent, &ends, ends[1] + 10);
    assert_eq!(pod.container("bot")["restartCount"], 2);

    rig.api.is(Way::Refused);
    prints(&pod, later + 40);
    rig.api.is(Way::Open);
    goes_on(&nats, &agent, &ends, later + 40);

    rig.remove("talker");
    pod.gone();
    let sent = wait_for("its last words", LONG, || {
        let sent = nats.lines_of("talker");
        sent.contains("LAST WORDS").then_some(sent)
    });
    let lines = sent.lines().filter(|line| line.starts_with("LINE"));
    let last = u64::try_from(lines.count()).unwrap();
    let expected = expected(&ends, last) + "LAST WORDS\n";
    assert_eq!(sent, expected, "{}", agent.said());
}
