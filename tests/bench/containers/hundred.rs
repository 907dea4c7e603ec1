//! A hundred Python bots that do nothing, ten of them with a program that answers questions: what the agent costs for
//! them in a minute, and what is ours in each of their containers. Then a few are stopped, and `agent ps` is asked.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::servers::mongo::bson::doc;
use tests::{text, wait_for};

use super::figures::{Sample, cpu, cpu_with_children, micros};
use super::ours::{self, Bot, Ours, Sight};
use super::{Host, PYTHON, bot, daemon};
use crate::process::memory;

const BOTS: usize = 100;
/// How many of them can be asked.
const ASKED: usize = 10;
/// How long all may take to be there.
const ALL: Duration = Duration::from_secs(300);
/// How long they are left alone before anything is measured.
const SETTLE: Duration = Duration::from_secs(20);
/// Bots stopped of those with watches, and of those without.
const STOPS: usize = 8;
const LOOKS: u32 = 3;

const MAIN: &str = r#"
import os, pathlib, time
def main(id, config):
    folder = pathlib.Path(os.environ["STATE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "position.json").write_text('{"open": 1}')
    print("FIRST", flush=True)
    time.sleep(100000)
"#;

const QUERY: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): pass
HTTPServer(("127.0.0.1", int(os.environ["THE0_QUERY_PORT"])), Answers).serve_forever()
"#;

/// Measures and prints.
pub fn measure(host: &mut Host) {
    host.stack.set("BOT_MEMORY_LIMIT_MB", "64");
    host.begin(&[]);
    sleep(Duration::from_secs(3));
    let alone = [memory(host.pid(), "Rss"), memory(host.pid(), "Anonymous")];
    host.end();
    println!(
        "\n{BOTS} idle Python bots, {ASKED} of which can be asked, under an agent as it is by default\n"
    );
    let bots = start(host);
    let sights = sights(host, &bots);
    let ours = Ours::of(host, &bots, &sights);
    ours::idle(host, &ours, alone);
    ours::weigh(&ours);
    stops(host, &bots, &sights);
    ps(host);
}

/// Starts them all and waits until each has its state in the store.
fn start(host: &mut Host) -> Vec<Bot> {
    let code = [("main.py", MAIN.into()), ("query.py", QUERY.into())];
    let key = host.bundle("hundred", &code);
    let one = |n| Bot {
        id: host.stack.id(&format!("h{n}")),
        is_asked: n < ASKED,
    };
    let bots: Vec<Bot> = (0..BOTS).map(one).collect();
    let document = |one: &Bot| {
        let mut entrypoints = doc! {"bot": "main.py"};
        if one.is_asked {
            entrypoints.insert("query", "query.py");
        }
        bot(&one.id, &key, PYTHON, entrypoints)
    };
    host.insert(bots.iter().map(document));
    let began = Instant::now();
    host.begin(&[]);
    wait_for("a hundred containers", ALL, || {
        sleep(Duration::from_millis(500));
        (daemon::running(host.docker(), host.stack.name()) == BOTS).then_some(())
    });
    println!(
        "all run {:.0} s after the agent's start",
        began.elapsed().as_secs_f64()
    );
    for bot in &bots {
        let key = format!("{}/state.tar.gz", bot.id);
        wait_for("a state in the store", ALL, || {
            host.stack.objects().get("bot-state", &key)
        });
    }
    sleep(SETTLE);
    bots
}

/// inotify has a limit for all containers of a user id together: who has found it reached.
fn sights(host: &Host, bots: &[Bot]) -> Vec<Sight> {
    let sight = |bot: &Bot| {
        let said = host.docker().container(host.container(&bot.id)).logs();
        let marks = ["looking into it each second", "cannot be watched"];
        if marks.iter().any(|mark| said.contains(mark)) {
            Sight::Blind
        } else {
            Sight::Watching
        }
    };
    let sights: Vec<Sight> = bots.iter().map(sight).collect();
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances");
    println!(
        "supervisor or sync has to do without a watch in {} of {BOTS} containers: fs.inotify.max_user_instances is {}\n",
        sights
            .iter()
            .filter(|sight| **sight == Sight::Blind)
            .count(),
        limit.unwrap_or_default().trim()
    );
    sights
}

fn stops(host: &Host, bots: &[Bot], sights: &[Sight]) {
    let mut events = daemon::Events::follow(host.docker());
    let mut stop = |bot: &Bot| {
        let asked = daemon::now();
        host.stack.ok(&["stop", &bot.id]);
        micros(asked, events.at("die", &host.container(&bot.id)))
    };
    println!(
        "\nFrom `agent stop BOT` to the end of its container, ms (median, eight of ten between)\n"
    );
    for (what, wanted) in [("with watches", Sight::Watching), ("without", Sight::Blind)] {
        let those = bots
            .iter()
            .zip(sights)
            .filter(|(bot, sight)| **sight == wanted && !bot.is_asked);
        let times: Sample = those.take(STOPS).map(|(bot, _)| stop(bot)).collect();
        if times.count() > 0 {
            println!("{what:<16} {times:>24}   of {}", times.count());
        }
    }
}

/// What `agent ps` costs, the agent and the daemon with it.
fn ps(host: &Host) {
    let spent = || {
        [
            cpu_with_children("self"),
            cpu(host.pid()) / 1000,
            daemon::cpu(),
        ]
    };
    let before = spent();
    let look = || {
        let began = Instant::now();
        let mut command: Command = host.stack.command(&["ps"]);
        let output = command.output().expect("agent ps");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let rows = text(&output.stdout).lines().count();
        assert!(rows > BOTS, "{rows} lines for {BOTS} bots");
        i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX)
    };
    let times: Sample = (0..LOOKS).map(|_| look()).collect();
    let after = spent();
    let [own, agent, docker] = [0, 1, 2].map(|n| (after[n] - before[n]) / i64::from(LOOKS));
    println!(
        "\n`agent ps` of {BOTS} bots, ms: {times}; CPU ms: {own} the command, {agent} the agent, {docker} dockerd and its children"
    );
}
