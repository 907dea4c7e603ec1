//! From a container's start to the bot's first line: under the agent, and the same bot alone in the same image.
//!
//! *New*: a bot's first container, which fetches its code. *Known*: its next one, on the volumes it has; this is what has
//! the same to do as the container without us, whose code is on its volume too.

use std::thread::sleep;
use std::time::Duration;

use tests::containers::Container;
use tests::servers::mongo::bson::{Document, doc};
use tests::stack::LONG;
use tests::{repository, wait_for};

use super::bare::{Like, Program};
use super::daemon::{self, Events, Line};
use super::figures::{Sample, micros, millis};
use super::{Host, PYTHON, bot};

/// Measured of each, after one that is not.
const ROUNDS: usize = 20;
/// Nobody asks the daemon anything for so long after a start.
const QUIET: Duration = Duration::from_millis(400);
/// What is aimed at, in milliseconds.
const AIM: u32 = 30;

const MAIN: &str =
    "import time\ndef main(id, config):\n    print('FIRST', flush=True)\n    time.sleep(100000)\n";

/// What is known from the lines of the programs in the container, in their order; the last is the bot's.
const STEPS: [(&str, &str); 5] = [
    (
        "the supervisor's first word",
        "waiting for the launch document",
    ),
    ("launch document is there", "fetching code and state"),
    ("code is there", "code of "),
    ("bot is claimed, state is there", " state: "),
    ("bot is forked", " of bot "),
];

struct Language {
    runtime: &'static str,
    entrypoints: Document,
    key: String,
    command: Vec<String>,
    mark: &'static str,
}

/// Compares, for each language there is a bot of.
pub fn compare(host: &mut Host) {
    host.begin(&["--reconcile-interval", "1s"]);
    let python = Language {
        runtime: PYTHON,
        entrypoints: doc! {"bot": "main.py"},
        key: host.bundle("python", &[("main.py", MAIN.into())]),
        command: vec!["python3".into(), "/opt/the0/wrappers/python.py".into()],
        mark: "FIRST",
    };
    for language in [Some(python), native(host)].into_iter().flatten() {
        measure(host, &language);
    }
}

/// The Rust bot of the tests, where it was built.
fn native(host: &Host) -> Option<Language> {
    let runtime = "rust-stable";
    host.docker().image("containers-line", runtime)?;
    let Ok(program) = std::fs::read(repository().join(".cache/bots/rust-stable/bot")) else {
        println!("the Rust bot is not built and is left out: tests/setup/bots.sh builds it");
        return None;
    };
    Some(Language {
        runtime,
        entrypoints: doc! {"bot": "bot"},
        key: host.bundle("rust", &[("bot", program)]),
        command: vec!["/bot/bot".into()],
        mark: " counts ",
    })
}

/// One start.
struct Start {
    /// Of [`STEPS`], since the container's start.
    steps: Vec<i64>,
    first_line: i64,
}

#[derive(Default)]
struct Figures {
    new: Vec<Start>,
    known: Vec<Start>,
    bare: Sample,
    stop: Sample,
    kill: Sample,
}

fn measure(host: &Host, language: &Language) {
    let mut figures = Figures::default();
    let mut like = None;
    for round in 0..=ROUNDS {
        let taken = one_round(host, language, round, &mut like);
        if round > 0 {
            let [new, known] = taken.starts;
            figures.new.push(new);
            figures.known.push(known);
            figures.bare.push(taken.bare);
            figures.stop.push(taken.stop);
            figures.kill.push(taken.kill);
        }
    }
    print(language, &figures);
}

struct Round {
    starts: [Start; 2],
    bare: i64,
    stop: i64,
    kill: i64,
}

/// A new bot, its restart, its stop, and then a container without us, on the code of the first bot.
fn one_round(host: &Host, language: &Language, round: usize, like: &mut Option<Warm>) -> Round {
    let docker = host.docker();
    let mut events = Events::follow(docker);
    let id = host.stack.id(&format!("{}{round}", &language.runtime[..4]));
    let name = host.container(&id);
    let entrypoints = language.entrypoints.clone();
    host.insert([bot(&id, &language.key, language.runtime, entrypoints)]);
    let new = start(host, language, &mut events, &name);
    let warm = like.get_or_insert_with(|| Warm {
        like: Like::this(&docker.inspect(&name)),
        code: format!("{name}.code"),
    });
    host.stack.ok(&["restart", &id]);
    let known = start(host, language, &mut events, &name);
    let (asked, _) = (daemon::now(), host.stack.ok(&["stop", &id]));
    // The first `die` was that of the restart.
    events.at("die", &name);
    let stop = micros(asked, events.at("die", &name));

    let volumes = [
        warm.code.clone(),
        host.stack.id(&format!("state{id}")),
        host.stack.id(&format!("var{id}")),
    ];
    let program = program(language, &id);
    let bare = warm
        .like
        .run(docker, &format!("bare-{id}"), &volumes, &program);
    sleep(QUIET);
    let lines = daemon::lines_with(docker, &bare.name, language.mark);
    if round == 0 {
        warm.like.check(&bare);
    }
    let first = first_line(&bare, &lines, language.mark);
    let killed = daemon::now();
    let container = bare.name.clone();
    bare.remove();
    let kill = micros(killed, events.at("die", &container));
    daemon::remove_volumes(docker, &volumes[1..]);
    Round {
        starts: [new, known],
        bare: first,
        stop,
        kill,
    }
}

/// What the first bot of a language left for those without us.
struct Warm {
    like: Like,
    code: String,
}

/// What the supervisor would give it.
fn program(language: &Language, id: &str) -> Program {
    let entry = language.entrypoints.get_str("bot").unwrap_or_default();
    let environment = [
        ("BOT_ID", id),
        ("BOT_CONFIG", r#"{"symbol":"BTC/USD"}"#),
        ("BOT_TYPE", "realtime"),
        ("STATE_DIR", "/state/.the0-state"),
        ("CODE_MOUNT_DIR", "bot"),
        ("SCRIPT_PATH", entry),
        ("ENTRYPOINT_TYPE", "bot"),
        ("PYTHONPATH", "/bot/vendor:/bot"),
    ];
    Program {
        command: language.command.clone(),
        environment: environment
            .map(|(name, value)| (name, value.to_owned()))
            .into(),
    }
}

fn start(host: &Host, language: &Language, events: &mut Events, name: &str) -> Start {
    events.at("start", name);
    sleep(QUIET);
    let lines = daemon::lines_with(host.docker(), name, language.mark);
    let container = host.docker().container(name);
    let started = daemon::started(&container.inspect());
    let step = |(what, mark): &(&str, &str)| {
        let at = daemon::said_at(&lines, mark);
        micros(
            started,
            at.unwrap_or_else(|| panic!("{name} did not say: {what}")),
        )
    };
    Start {
        steps: STEPS.iter().map(step).collect(),
        first_line: first_line(&container, &lines, language.mark),
    }
}

fn first_line(container: &Container, lines: &[Line], mark: &str) -> i64 {
    let started = wait_for("a container that was started", LONG, || {
        Some(daemon::started(&container.inspect())).filter(|at| *at > 0)
    });
    micros(started, daemon::said_at(lines, mark).expect("a first line"))
}

fn print(language: &Language, figures: &Figures) {
    println!(
        "\nFrom the container's start, {} (ms: median, eight of ten between; of {})\n",
        language.runtime,
        figures.bare.count()
    );
    println!(
        "{:<32} {:>24} {:>8} {:>24} {:>8}",
        "", "new bot", "step", "known bot", "step"
    );
    let mut before = [0; 2];
    let starts = [&figures.new, &figures.known];
    let rows = STEPS.iter().enumerate().map(|(n, (what, _))| {
        (
            *what,
            starts.map(|all| all.iter().map(|one| one.steps[n]).collect::<Sample>()),
        )
    });
    let lines = starts.map(|all| all.iter().map(|one| one.first_line).collect::<Sample>());
    for (what, row) in rows.chain([("bot's first line", lines.clone())]) {
        let medians = [row[0].median(), row[1].median()];
        let steps = [0, 1].map(|n| format!("{:+.1}", millis(medians[n] - before[n])));
        println!(
            "{what:<32} {:>24} {:>8} {:>24} {:>8}",
            row[0], steps[0], row[1], steps[1]
        );
        before = medians;
    }
    let bare = &figures.bare;
    println!(
        "{:<32} {bare:>24} {:>8} {bare:>24}",
        "bot's first line, without us", ""
    );
    for (what, percent) in [("more than that", 50), ("more, of the quickest tenth", 10)] {
        let more = lines
            .each_ref()
            .map(|line| millis(line.at(percent) - bare.at(percent)));
        println!(
            "{what:<32} {:>+24.1} {:>8} {:>+24.1}   (aim: at most +{AIM})",
            more[0], "", more[1]
        );
    }
    println!(
        "\nEnd of the {} bot, ms from the order: `agent stop` {}; `docker rm --force` of one without us {}",
        language.runtime, figures.stop, figures.kill
    );
}
