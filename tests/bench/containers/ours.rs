//! What is ours in a container: supervisor, sync, query, and what these weigh and cost.

use std::fmt::Display;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::figures::{cpu, millis};
use super::{Host, daemon};
use crate::process::{children, memory, name, percentile};

/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(60);
/// What is aimed at, of KB of what is ours in a container.
const AIM: u64 = 1024;

/// Whether somebody tells a program when a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The kernel does.
    Watching,
    /// There was no watch left: it looks now and then.
    Blind,
}

/// A bot of those that are measured.
pub struct Bot {
    /// Its id.
    pub id: String,
    /// Whether it can be asked.
    pub is_asked: bool,
}

/// The processes of ours in a bot's container.
pub struct Ours {
    processes: Vec<(String, u32)>,
    is_asked: bool,
    sight: Sight,
}

impl Ours {
    /// Finds those of all bots, whose containers run.
    ///
    /// # Panics
    /// When one is missing.
    pub fn of(host: &Host, bots: &[Bot], sights: &[Sight]) -> Vec<Self> {
        let names: Vec<String> = bots.iter().map(|bot| host.container(&bot.id)).collect();
        let found = daemon::inspect(host.docker(), &names);
        let rows = found.iter().zip(bots).zip(sights);
        rows.map(|((container, bot), sight)| Self::in_this(container, bot, *sight))
            .collect()
    }

    fn in_this(container: &Value, bot: &Bot, sight: Sight) -> Self {
        let first = container["State"]["Pid"].as_u64();
        let first = first
            .and_then(|pid| u32::try_from(pid).ok())
            .expect("a process");
        let mut processes = vec![(name(first), first)];
        let beside = children(first).into_iter().map(|pid| (name(pid), pid));
        processes.extend(beside.filter(|(name, _)| ["sync", "query"].contains(&name.as_str())));
        let expected = 2 + usize::from(bot.is_asked);
        assert_eq!(processes.len(), expected, "of {}: {processes:?}", bot.id);
        Self {
            processes,
            is_asked: bot.is_asked,
            sight,
        }
    }

    fn sum<T: std::iter::Sum>(&self, of: impl Fn(u32) -> T) -> T {
        self.processes.iter().map(|(_, pid)| of(*pid)).sum()
    }
}

/// What a minute of nothing costs; `alone`: RSS and anonymous KB of an agent without bots.
pub fn idle(host: &Host, ours: &[Ours], alone: [u64; 2]) {
    let spent = || -> Vec<i64> { ours.iter().map(|ours| ours.sum(cpu)).collect() };
    let (before, agent, docker) = (spent(), cpu(host.pid()), daemon::cpu());
    sleep(IDLE);
    let (after, agent, docker) = (spent(), cpu(host.pid()) - agent, daemon::cpu() - docker);
    let each: Vec<i64> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    let with =
        [memory(host.pid(), "Rss"), memory(host.pid(), "Anonymous")].map(|kb| kb.to_string());
    println!(
        "{:<40} {:>10} {:>14} {:>14}",
        "", "RSS KB", "anonymous KB", "CPU ms/min"
    );
    let line = |what: &str, [rss, anonymous]: [&str; 2], cpu: &dyn Display| {
        println!("{what:<40} {rss:>10} {anonymous:>14} {cpu:>14.1}");
    };
    line(
        "agent, no bots",
        alone
            .map(|kb| kb.to_string())
            .each_ref()
            .map(String::as_str),
        &"",
    );
    line(
        &format!("agent, {} bots", ours.len()),
        with.each_ref().map(String::as_str),
        &millis(agent),
    );
    for (what, sight) in [("with watches", Sight::Watching), ("without", Sight::Blind)] {
        let those = each
            .iter()
            .zip(ours)
            .filter(|(_, ours)| ours.sight == sight);
        let those: Vec<i64> = those.map(|(each, _)| *each).collect();
        if let Ok(count @ 1..) = i64::try_from(those.len()) {
            let mean = millis(those.iter().sum::<i64>() / count);
            line(
                &format!("ours in one of {count} containers {what}, mean"),
                ["", ""],
                &mean,
            );
        }
    }
    line("dockerd, for all who use it", ["", ""], &docker);
}

/// What is ours in memory, by program and together.
///
/// # Panics
/// When the kernel does not tell.
pub fn weigh(ours: &[Ours]) {
    println!("\nKB in one container (median, most)\n");
    println!("{:<40} {:>16} {:>16} {:>16}", "", "RSS", "PSS", "anonymous");
    for program in ["supervisor", "sync", "query"] {
        let all = ours.iter().flat_map(|ours| &ours.processes);
        let those: Vec<u32> = all
            .filter(|(name, _)| name == program)
            .map(|(_, pid)| *pid)
            .collect();
        row(program, |line| {
            those.iter().map(|pid| memory(*pid, line)).collect()
        });
    }
    for (what, is_asked) in [
        ("together, without questions", false),
        ("together, with questions", true),
    ] {
        let most = row(what, |line| {
            let those = ours.iter().filter(|ours| ours.is_asked == is_asked);
            those
                .map(|ours| ours.sum(|pid| memory(pid, line)))
                .collect()
        });
        println!("{:<40} {:>50}", "", format!("at most {most} (aim: {AIM})"));
    }
}

/// Prints a row and gives the largest of its last figures.
fn row(what: &str, of: impl Fn(&str) -> Vec<u64>) -> u64 {
    print!("{what:<40}");
    let mut most = 0;
    for line in ["Rss", "Pss", "Anonymous"] {
        let mut values = of(line);
        assert!(
            values.iter().all(|kb| *kb > 0),
            "smaps_rollup of {what} cannot be read: run as root"
        );
        most = percentile(&mut values, 100);
        print!(
            " {:>16}",
            format!("{} ({most})", percentile(&mut values, 50))
        );
    }
    println!();
    most
}
