//! How many containers are started in a second: documents inserted all at once, beside `docker run` in a loop and by eight
//! at a time, with the same image, flags, and new volumes of its own for each.
//!
//! A container counts from when the daemon says that it was started; a bot, from when the daemon has read its first line.

use std::sync::atomic::{AtomicUsize, Ordering};

use tests::servers::mongo::bson::doc;
use tests::stack::IDLE;

use super::bare::{Like, Program};
use super::daemon::{self, Events};
use super::figures::{Sample, micros, millis};
use super::{Host, PYTHON, bot};

/// Containers of a round.
const BOTS: usize = 20;
const ROUNDS: usize = 3;
/// `docker run`s at once: as many starts as the agent has under way.
const AT_ONCE: usize = 8;
/// What is aimed at: of the loop's rate.
const AIM: u32 = 95;
/// What [`IDLE`] prints.
const MARK: &str = "IDLE";

/// How long a round took, in microseconds.
#[derive(Clone, Copy)]
struct Took {
    /// Until the last container was started.
    started: i64,
    /// Until the last bot had said its first line.
    said: i64,
}

/// Compares.
pub fn compare(host: &mut Host) {
    host.begin(&["--reconcile-interval", "100ms", "--settle", "500ms"]);
    let key = host.bundle("idle", &[("main.py", IDLE.into())]);
    let like = warm_up(host, &key);
    let mut rows = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        rows[0].push(loop_of_runs(host, &like, round, 1));
        rows[1].push(documents(host, &key, round));
        rows[2].push(loop_of_runs(host, &like, round, AT_ONCE));
    }
    print(&rows);
}

/// Makes the network, and what the others have to be like.
fn warm_up(host: &Host, key: &str) -> Like {
    let mut events = Events::follow(host.docker());
    let id = host.stack.id("warm");
    let name = host.container(&id);
    host.insert([bot(&id, key, PYTHON, doc! {"bot": "main.py"})]);
    events.at("start", &name);
    daemon::lines_with(host.docker(), &name, MARK);
    let like = Like::this(&host.docker().inspect(&name));
    host.take_all_away();
    like
}

fn documents(host: &Host, key: &str, round: usize) -> Took {
    let mut events = Events::follow(host.docker());
    let id = |n: usize| host.stack.id(&format!("b{round}x{n}"));
    let ids: Vec<String> = (0..BOTS).map(id).collect();
    let document = |id: &String| bot(id, key, PYTHON, doc! {"bot": "main.py"});
    let began = daemon::now();
    host.insert(ids.iter().map(document));
    let names: Vec<String> = ids.iter().map(|id| host.container(id)).collect();
    for name in &names {
        events.at("start", name);
    }
    let took = took(host, &names, began);
    host.take_all_away();
    took
}

fn loop_of_runs(host: &Host, like: &Like, round: usize, at_once: usize) -> Took {
    let docker = host.docker();
    let code = "import time; print('IDLE', flush=True); time.sleep(100000)";
    let program = Program {
        command: ["python3", "-c", code].map(String::from).into(),
        environment: Vec::new(),
    };
    let short = |n: usize| format!("run{at_once}-{round}-{n}");
    let volumes =
        |n: usize| ["code", "state", "var"].map(|v| docker.name(&format!("{}{v}", short(n))));
    let next = AtomicUsize::new(0);
    let began = daemon::now();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= BOTS {
                        return;
                    }
                    like.run(docker, &short(n), &volumes(n), &program);
                }
            });
        }
    });
    let names: Vec<String> = (0..BOTS).map(|n| docker.name(&short(n))).collect();
    let took = took(host, &names, began);
    like.check(&docker.container(&names[0]));
    daemon::remove(docker, &names);
    daemon::remove_volumes(docker, &(0..BOTS).flat_map(volumes).collect::<Vec<_>>());
    took
}

fn took(host: &Host, names: &[String], began: u64) -> Took {
    let said = names.iter().filter_map(|name| {
        let lines = daemon::lines_with(host.docker(), name, MARK);
        daemon::said_at(&lines, MARK)
    });
    let said: Vec<u64> = said.collect();
    let inspected = daemon::inspect(host.docker(), names);
    let started = inspected.iter().map(daemon::started).max();
    Took {
        started: micros(began, started.unwrap_or(0)),
        said: micros(began, said.into_iter().max().unwrap_or(0)),
    }
}

fn print(rows: &[Vec<Took>; 3]) {
    println!(
        "\nStarts of {BOTS} containers at once, from the order to the last one (ms: median, spread; of {ROUNDS} rounds by turns)\n"
    );
    println!(
        "{:<24} {:>28} {:>10} {:>28} {:>10}",
        "", "all containers run", "a second", "all bots have spoken", "a second"
    );
    let names = ["docker run, one by one", "agent", "docker run, 8 at once"];
    let part = |row: &[Took], of: fn(&Took) -> i64| row.iter().map(of).collect::<Sample>();
    for (name, row) in names.iter().zip(rows) {
        let (started, said) = (part(row, |took| took.started), part(row, |took| took.said));
        println!(
            "{name:<24} {started:>28} {:>10.2} {said:>28} {:>10.2}",
            a_second(started.median()),
            a_second(said.median())
        );
    }
    let medians = [0, 1].map(|n| part(&rows[n], |took| took.started).median());
    let share = medians[0] * 100 / medians[1].max(1);
    println!("\nThe agent starts at {share} % of the loop's rate (aim: at least {AIM} %)");
}

#[allow(clippy::cast_precision_loss)] // printed with two decimals
fn a_second(micros: i64) -> f64 {
    BOTS as f64 * 1000.0 / millis(micros.max(1))
}
