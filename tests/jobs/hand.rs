//! `agent job run`: a program of a folder, once, without any server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Process, bin, read, run, text, wait_for};

const LONG: Duration = Duration::from_secs(60);

const CONFIG: &str = "name: tested\ntype: realtime\nruntime: python3.11\nversion: 1.0.0\nentrypoints:\n  bot: main.py\n  backtest: backtest.py\nconfig:\n  n: 1\n";

/// A folder of a bot with this backtest.
fn folder(backtest: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bot-config.yaml"), CONFIG).unwrap();
    fs::write(
        dir.path().join("main.py"),
        "def main(id, config):\n    pass\n",
    )
    .unwrap();
    fs::write(dir.path().join("backtest.py"), backtest).unwrap();
    dir
}

fn command(dir: &Path, temporary: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(bin("agent"));
    command.args(["job", "run"]).arg(dir).args(more).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.env("TMPDIR", temporary);
    // What a store's address would be is nothing to a run by hand.
    command.env("MINIO_ENDPOINT", "127.0.0.1:1");
    command
}

fn runs(backtest: &str, more: &[&str]) -> (Output, tempfile::TempDir) {
    let (dir, temporary) = (folder(backtest), tempfile::tempdir().unwrap());
    let output = run(&mut command(dir.path(), temporary.path(), more));
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    (output, dir)
}

#[test]
fn a_backtest_run_by_hand_prints_its_result_alone_on_standard_output() {
    let main = "import os\ndef main(id, config):\n    print('testing', os.environ['ENTRYPOINT_TYPE'])\n    return {'n': config['n']}\n";
    let (output, dir) = runs(main, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["data"], json!({"n": 1}));
    assert_eq!(text(&output.stderr), "testing backtest\n");
    let names = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 3, "nothing is left in the bot's folder");
}

#[test]
fn parameters_come_from_a_file_and_the_result_goes_to_one() {
    let aside = tempfile::tempdir().unwrap();
    let (config, to) = (
        aside.path().join("c.yaml"),
        aside.path().join("result.json"),
    );
    fs::write(&config, "n: 5\n").unwrap();
    let main = "def main(id, config):\n    return {'n': config['n']}\n";
    let words = [
        "--config",
        config.to_str().unwrap(),
        "--output",
        to.to_str().unwrap(),
    ];
    let (output, _dir) = runs(main, &words);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{}",
        text(&output.stderr)
    );
    let result: Value = serde_json::from_str(&read(&to)).unwrap();
    assert_eq!(result["data"]["n"], 5);
}

#[test]
fn one_that_fails_says_why_and_so_does_its_code() {
    let (output, _dir) = runs(
        "def main(id, config):\n    raise ValueError('no data')\n",
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["status"], "error");
    assert!(
        text(&output.stderr).ends_with("agent: ValueError: no data\n"),
        "{}",
        text(&output.stderr)
    );

    let (output, _dir) = runs("", &["--entrypoint", "walk"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("entrypoints.walk: is missing"));
}

#[test]
fn one_that_is_interrupted_ends_gracefully() {
    let main = "import signal, sys, time\ndef end(*_):\n    print('TIDIED', flush=True)\n    sys.exit(0)\ndef main(id, config):\n    signal.signal(signal.SIGTERM, end)\n    print('READY', flush=True)\n    time.sleep(1000)\n";
    let (dir, temporary) = (folder(main), tempfile::tempdir().unwrap());
    let screen = dir.path().join("screen");
    let mut command = command(dir.path(), temporary.path(), &[]);
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&screen).unwrap());
    let mut process = Process::start(&mut command);
    let says = |word: &str| wait_for(word, LONG, || read(&screen).contains(word).then_some(()));
    says("READY");
    process.signal(Signal::SIGINT);
    assert_eq!(process.code(LONG), 130);
    says("TIDIED");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}
