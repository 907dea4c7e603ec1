//! In folders, as processes: `agent dev`.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Process, bin, read, run, wait_for};

use crate::rig::ADDS;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_folder_with_times_runs_each_tick_once_also_over_a_kill_of_the_session() {
    if std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        return tests::skip("schedules::dev", "python3 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, bot) = (dir.path().join("data"), dir.path().join("bots/tick"));
    fs::create_dir_all(&bot).unwrap();
    fs::write(bot.join("main.py"), ADDS).unwrap();
    let definition = "name: tick\nversion: 1.0.0\ntype: scheduled\nentrypoints: {bot: main.py}\nconfig: {schedule: \"*/2 * * * * *\"}\n";
    fs::write(bot.join("bot-config.yaml"), definition).unwrap();
    let screen = dir.path().join("screen");
    let begin = || {
        let mut command = std::process::Command::new(bin("agent"));
        command
            .args(["dev", "--data"])
            .arg(&data)
            .arg(dir.path().join("bots"));
        command.env_remove("THE0_DATA").env("THE0_GRACE", "3s");
        let out = File::options()
            .create(true)
            .append(true)
            .open(&screen)
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        Process::start(&mut command)
    };
    let entries = || -> Vec<Value> {
        let mut command = std::process::Command::new(bin("agent"));
        command
            .args(["history", "-n", "1000", "-o", "json", "tick", "--data"])
            .arg(&data);
        serde_json::from_slice(&run(&mut command).stdout).unwrap_or_default()
    };
    let ran = |count: usize| {
        wait_for(&format!("{count} runs"), LONG, || {
            let ended = entries()
                .into_iter()
                .filter(|entry| entry["reason"] == "exited");
            let ended: Vec<Value> = ended.collect();
            (ended.len() >= count).then_some(ended)
        })
    };
    let mut session = begin();
    ran(3);
    session.0.kill().unwrap();
    session.0.wait().unwrap();
    let mut session = begin();
    ran(6);
    session.signal(Signal::SIGINT);
    assert_eq!(session.code(LONG), 0, "{}", read(&screen));
    let all = entries();
    let runs = all.iter().filter(|entry| entry["run"] != 0);
    let mut ticks: Vec<&str> = runs
        .map(|entry| entry["because"].as_str().unwrap())
        .collect();
    let count = ticks.len();
    ticks.sort_unstable();
    ticks.dedup();
    assert_eq!(ticks.len(), count, "{all:#?}");
}
