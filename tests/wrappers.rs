//! The wrappers that start Python and Node bots, each rule of the contract driven from outside.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Process, SOON, read, repository, run, skip, text, wait_for};

/// A language by its interpreter, wrapper and the ending of its files.
struct Language {
    interpreter: &'static str,
    wrapper: &'static str,
    entry: &'static str,
}

const PYTHON: Language = Language {
    interpreter: "python3",
    wrapper: "python.py",
    entry: "main.py",
};
const NODE: Language = Language {
    interpreter: "node",
    wrapper: "node.mjs",
    entry: "main.js",
};
const NODE_ESM: Language = Language {
    interpreter: "node",
    wrapper: "node.mjs",
    entry: "main.mjs",
};

fn installed(language: &Language, test: &str) -> bool {
    let found = Command::new(language.interpreter)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        skip(test, &format!("{} is not installed", language.interpreter));
    }
    found
}

/// A bot's code in a folder of its own.
struct Bot {
    code: tempfile::TempDir,
    language: &'static Language,
    config: &'static str,
}

impl Bot {
    fn new(language: &'static Language, source: &str) -> Self {
        let code = tempfile::tempdir().expect("a folder");
        fs::write(code.path().join(language.entry), source).expect("write the bot");
        Self {
            code,
            language,
            config: r#"{"symbol":"BTC/USD"}"#,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.language.interpreter);
        command.arg(
            repository()
                .join("images/wrappers")
                .join(self.language.wrapper),
        );
        command.current_dir(self.code.path());
        command
            .env("BOT_ID", "b1")
            .env("BOT_CONFIG", self.config)
            .env("SCRIPT_PATH", self.language.entry);
        let mount = self
            .code
            .path()
            .to_string_lossy()
            .trim_start_matches('/')
            .to_owned();
        command
            .env("CODE_MOUNT_DIR", mount)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn result(&self) -> Value {
        serde_json::from_str(&read(&self.code.path().join("result.json"))).unwrap_or(Value::Null)
    }
}

/// What a bot is expected to come to.
struct Case {
    what: &'static str,
    language: &'static Language,
    source: &'static str,
    code: i32,
    status: &'static str,
    /// Something standard output or standard error must have.
    says: &'static str,
}

const fn case(
    what: &'static str,
    language: &'static Language,
    source: &'static str,
    code: i32,
    status: &'static str,
    says: &'static str,
) -> Case {
    Case {
        what,
        language,
        source,
        code,
        status,
        says,
    }
}

const CASES: &[Case] = &[
    case(
        "returns",
        &PYTHON,
        "def main(i, c): print(i, c['symbol'])",
        0,
        "success",
        "b1 BTC/USD",
    ),
    case(
        "raises",
        &PYTHON,
        "def main(i, c): raise ValueError('no price')",
        1,
        "error",
        "no price",
    ),
    case(
        "exits",
        &PYTHON,
        "import sys\ndef main(i, c): sys.exit(7)",
        7,
        "error",
        "",
    ),
    case(
        "exits well",
        &PYTHON,
        "import sys\ndef main(i, c): sys.exit()",
        0,
        "success",
        "",
    ),
    case(
        "exits with a text",
        &PYTHON,
        "import sys\ndef main(i, c): sys.exit('why')",
        1,
        "error",
        "why",
    ),
    case(
        "cannot be imported",
        &PYTHON,
        "import nothing_of_that_name",
        1,
        "error",
        "nothing_of_that_name",
    ),
    case(
        "has no main",
        &PYTHON,
        "x = 1",
        1,
        "error",
        "main(id, config)",
    ),
    case(
        "is async",
        &PYTHON,
        "async def main(i, c): print('awaited')",
        0,
        "success",
        "awaited",
    ),
    case(
        "is on the main thread",
        &PYTHON,
        "import threading as t\ndef main(i, c): assert t.current_thread() is t.main_thread()",
        0,
        "success",
        "",
    ),
    case(
        "fails while awaited",
        &PYTHON,
        "async def main(i, c): raise KeyError('gone')",
        1,
        "error",
        "KeyError",
    ),
    case(
        "exits at its import",
        &PYTHON,
        "import sys\nsys.exit(4)",
        4,
        "error",
        "",
    ),
    case(
        "returns what JSON cannot say",
        &PYTHON,
        "def main(i, c): return {'x': float('nan')}",
        0,
        "success",
        "",
    ),
    case(
        "starts processes",
        &PYTHON,
        "import multiprocessing as m\ndef twice(x): return 2 * x\ndef main(i, c):\n  with m.get_context('spawn').Pool(1) as p: print(p.map(twice, [21]))",
        0,
        "success",
        "[42]",
    ),
    case(
        "returns",
        &NODE,
        "module.exports = (i, c) => console.log(i, c.symbol)",
        0,
        "success",
        "b1 BTC/USD",
    ),
    case(
        "exports main",
        &NODE,
        "exports.main = () => console.log('main')",
        0,
        "success",
        "main",
    ),
    case(
        "exports default",
        &NODE,
        "exports.default = async () => console.log('def')",
        0,
        "success",
        "def",
    ),
    case(
        "throws",
        &NODE,
        "module.exports = () => { throw new Error('no price') }",
        1,
        "error",
        "no price",
    ),
    case(
        "rejects",
        &NODE,
        "module.exports = async () => { throw new Error('late') }",
        1,
        "error",
        "late",
    ),
    case(
        "exits",
        &NODE,
        "module.exports = () => process.exit(7)",
        7,
        "error",
        "",
    ),
    case(
        "exports nothing",
        &NODE,
        "const x = 1",
        1,
        "error",
        "exports no function",
    ),
    case(
        "cannot be loaded",
        &NODE,
        "require('nothing-of-that-name')",
        1,
        "error",
        "nothing-of-that-name",
    ),
    case(
        "fails after it returned",
        &NODE,
        "module.exports = () => { setTimeout(() => { throw new Error('later') }, 20) }",
        1,
        "error",
        "later",
    ),
    case(
        "goes on after main returned",
        &NODE,
        "module.exports = async () => { setTimeout(() => console.log('later'), 300) }",
        0,
        "success",
        "later",
    ),
    case(
        "waits when nothing is left to wait for",
        &NODE,
        "module.exports = () => new Promise(() => {})",
        13,
        "error",
        "",
    ),
    case(
        "returns what JSON cannot say",
        &NODE,
        "module.exports = () => ({ status: 'success', message: 'big', size: 1n })",
        0,
        "success",
        "",
    ),
    case(
        "is an ES module",
        &NODE_ESM,
        "export default (i) => console.log(i)",
        0,
        "success",
        "b1",
    ),
    case(
        "exports main",
        &NODE_ESM,
        "export async function main(i) { console.log(i) }",
        0,
        "success",
        "b1",
    ),
];

#[test]
fn a_bot_ends_as_the_contract_says() {
    for case in CASES {
        let what = format!("a bot in {} that {}", case.language.interpreter, case.what);
        if !installed(case.language, &what) {
            continue;
        }
        let bot = Bot::new(case.language, case.source);
        let output = run(&mut bot.command());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(case.code), "{what}: {said}");
        assert_eq!(bot.result()["status"], case.status, "{what}: {said}");
        assert!(said.contains(case.says), "{what}: {said}");
    }
}

#[test]
fn a_configuration_that_is_not_an_object_is_refused_and_not_quoted() {
    for language in [&PYTHON, &NODE] {
        if !installed(
            language,
            "a_configuration_that_is_not_an_object_is_refused_and_not_quoted",
        ) {
            continue;
        }
        for config in ["{hunter2", "[\"hunter2\"]"] {
            let mut bot = Bot::new(language, "");
            bot.config = config;
            let output = run(&mut bot.command());
            let said = text(&output.stderr) + &bot.result().to_string();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.contains("BOT_CONFIG") && !said.contains("hunter2"),
                "{said}"
            );
        }
    }
}

#[test]
fn what_a_bot_returns_is_its_result() {
    let bots = [
        (&PYTHON, "def main(i, c): return {'fills': 3}"),
        (&NODE, "module.exports = async () => ({ fills: 3 })"),
    ];
    for (language, source) in bots {
        if !installed(language, "what_a_bot_returns_is_its_result") {
            continue;
        }
        let bot = Bot::new(language, source);
        fs::write(
            bot.code.path().join("result.json"),
            r#"{"status":"error","message":"of an earlier run"}"#,
        )
        .expect("write an old result");
        assert!(run(&mut bot.command()).status.success());
        assert_eq!(bot.result()["status"], "success");
        assert_eq!(bot.result()["data"], json!({"fills": 3}));
    }
}

#[test]
fn a_result_of_the_bots_own_stands_unless_it_fails_afterwards() {
    let write = "open('result.json', 'w').write('{\"status\":\"success\",\"message\":\"mine\"}')";
    for (end, status, message) in [
        ("pass", "success", "mine"),
        ("raise OSError('late')", "error", "OSError: late"),
    ] {
        if !installed(
            &PYTHON,
            "a_result_of_the_bots_own_stands_unless_it_fails_afterwards",
        ) {
            return;
        }
        let bot = Bot::new(&PYTHON, &format!("def main(i, c):\n  {write}\n  {end}\n"));
        run(&mut bot.command());
        assert_eq!(bot.result(), json!({"status": status, "message": message}));
    }
}

#[test]
fn python_finds_vendored_modules_first() {
    if !installed(&PYTHON, "python_finds_vendored_modules_first") {
        return;
    }
    let bot = Bot::new(&PYTHON, "import picked\ndef main(i, c): print(picked.FROM)");
    for (folder, from) in [("vendor", "vendor"), (".", "code")] {
        fs::create_dir_all(bot.code.path().join(folder)).expect("a folder");
        fs::write(
            bot.code.path().join(folder).join("picked.py"),
            format!("FROM = '{from}'"),
        )
        .expect("a module");
    }
    assert_eq!(text(&run(&mut bot.command()).stdout), "vendor\n");
}

fn start(bot: &Bot) -> (Process, std::path::PathBuf) {
    let ready = bot.code.path().join("ready");
    let process = Process::start(bot.command().stdin(Stdio::null()).stdout(Stdio::piped()));
    wait_for("the bot to be ready", SOON, || {
        Path::exists(&ready).then_some(())
    });
    (process, ready)
}

#[test]
fn term_ends_a_bot_and_its_own_handler_is_asked_first() {
    let python = "import signal, sys, time\ndef main(i, c):\n  HANDLER\n  open('ready', 'w').close()\n  time.sleep(60)";
    let node = "module.exports = () => { HANDLER; require('fs').writeFileSync('ready', ''); setInterval(() => {}, 1000) }";
    let killed = 1000 + Signal::SIGTERM as i32;
    let cases = [
        (&PYTHON, python, "pass", killed),
        (
            &PYTHON,
            python,
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))",
            5,
        ),
        (&NODE, node, "", killed),
        (
            &NODE,
            node,
            "process.on('SIGTERM', () => process.exit(5))",
            5,
        ),
    ];
    for (language, source, handler, code) in cases {
        if !installed(
            language,
            "term_ends_a_bot_and_its_own_handler_is_asked_first",
        ) {
            continue;
        }
        let bot = Bot::new(language, &source.replace("HANDLER", handler));
        let (mut process, _) = start(&bot);
        process.signal(Signal::SIGTERM);
        assert_eq!(
            process.code(SOON),
            code,
            "{} {handler}",
            language.interpreter
        );
    }
}

#[test]
fn a_line_leaves_the_bot_when_it_is_written() {
    use std::io::{BufRead, BufReader};
    let bots = [
        (
            &PYTHON,
            "import time\ndef main(i, c):\n  print('first')\n  open('ready', 'w').close()\n  time.sleep(60)",
        ),
        (
            &NODE,
            "module.exports = () => { console.log('first'); require('fs').writeFileSync('ready', ''); setInterval(() => {}, 1000) }",
        ),
    ];
    for (language, source) in bots {
        if !installed(language, "a_line_leaves_the_bot_when_it_is_written") {
            continue;
        }
        let bot = Bot::new(language, source);
        let (mut process, _) = start(&bot);
        let mut line = String::new();
        let out = process.0.stdout.take().expect("a pipe");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("a line while it runs");
        assert_eq!(line, "first\n");
    }
}
