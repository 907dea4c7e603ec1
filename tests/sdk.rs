//! Bots written with the platform's own Python SDK, two generations of it, run on the wrapper and behind `query`
//! unchanged. The SDKs are unpacked into `.cache` by `tests/setup/sdk.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use contract::launch::Launch;
use contract::runtime::Program;
use serde_json::{Value, json};
use tests::{Process, bin, http, read, repository, run, skip, text, wait_for};

/// Long enough for a Python program to start on a busy machine.
const LATE: std::time::Duration = std::time::Duration::from_secs(40);

/// 0.3.1 reads parameters from the URL only; 0.4.0 prefers the body.
const VERSIONS: [&str; 2] = ["0.3.1", "0.4.0"];

/// The unpacked SDKs that are there, the others named aloud.
fn sdks(test: &str) -> Vec<(&'static str, PathBuf)> {
    let there = |version: &'static str| {
        let folder = repository().join(format!(".cache/sdk-{version}/the0"));
        if !folder.exists() {
            let why = format!("the0-sdk {version} is not there: run tests/setup/sdk.sh");
            skip(test, &why);
        }
        folder.exists().then_some((version, folder))
    };
    VERSIONS.into_iter().filter_map(there).collect()
}

/// A bot with the SDK among its vendored modules.
struct Bot {
    folder: tempfile::TempDir,
}

impl Bot {
    fn new(sdk: &Path, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let vendor = folder.path().join("code/vendor/the0");
        fs::create_dir_all(&vendor).expect("a folder");
        for file in fs::read_dir(sdk).expect("the SDK").flatten() {
            if file.file_type().is_ok_and(|kind| kind.is_file()) {
                fs::copy(file.path(), vendor.join(file.file_name())).expect("copy the SDK");
            }
        }
        for (name, source) in files {
            fs::write(folder.path().join("code").join(name), source).expect("write the bot");
        }
        Self { folder }
    }

    fn variables(&self) -> contract::launch::Variables {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let pairs = [
            ("BOT_ID", "b1".to_owned()),
            ("RUNTIME", "python3.11".to_owned()),
            ("ENTRYPOINT", "main.py".to_owned()),
            ("QUERY_ENTRYPOINT", "query.py".to_owned()),
            ("BOT_CONFIG", r#"{"symbol":"BTC/USD"}"#.to_owned()),
            ("BOT_TYPE", "realtime".to_owned()),
            ("CODE_PATH", path("code")),
            ("STATE_PATH", path("state")),
            ("THE0_VAR_PATH", path("var")),
            ("THE0_QUERY_LISTEN", "127.0.0.1:0".to_owned()),
            (
                "THE0_WRAPPERS",
                repository()
                    .join("images/wrappers")
                    .to_string_lossy()
                    .into_owned(),
            ),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Runs the bot to its end as the supervisor would, with the command and environment of the contract.
    fn run(&self) -> Output {
        let launch = Launch::parse(self.variables()).expect("a launch");
        let command = launch.command(Program::Bot).expect("a command");
        run(Command::new(&command[0])
            .args(&command[1..])
            .current_dir(&launch.paths.code)
            .env_clear()
            .envs(launch.program_environment(Program::Bot)))
    }

    fn result(&self) -> Value {
        serde_json::from_str(&read(&self.folder.path().join("code/result.json")))
            .unwrap_or_default()
    }

    fn state(&self, key: &str) -> Value {
        let file = self
            .folder
            .path()
            .join(format!("state/.the0-state/{key}.json"));
        serde_json::from_str(&read(&file)).unwrap_or_default()
    }

    /// Starts `query` for it; the address it answers on.
    fn serve(&self) -> (Process, String) {
        let said = fs::File::create(self.folder.path().join("stderr")).expect("a file");
        let mut command = Command::new(bin("query"));
        command
            .env_clear()
            .envs(self.variables())
            .stdin(Stdio::null())
            .stderr(said);
        let process = Process::start(&mut command);
        let listening = self.folder.path().join("var/query.json");
        let address = wait_for("query to listen", LATE, || {
            let value: Value = serde_json::from_str(&read(&listening)).ok()?;
            Some(value["address"].as_str()?.to_owned())
        });
        (process, address)
    }
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[test]
fn a_result_said_by_the_sdk_is_the_result_of_the_run() {
    let rows = [
        (
            "success('done', {'n': 1})",
            0,
            json!({"status": "success", "message": "done", "data": {"n": 1}}),
        ),
        (
            "error('no funds', {'have': 2})",
            1,
            json!({"status": "error", "message": "no funds", "data": {"have": 2}}),
        ),
        (
            "result({'status': 'success', 'signals': [1]})",
            0,
            json!({"status": "success", "signals": [1]}),
        ),
    ];
    for (version, sdk) in sdks("a_result_said_by_the_sdk_is_the_result_of_the_run") {
        for (call, code, expected) in &rows {
            let source = format!(
                "from the0 import parse, success, error, result\n\
                 def main(id, config):\n    \
                     assert parse() == (id, config) == ('b1', {{'symbol': 'BTC/USD'}})\n    {call}\n"
            );
            let bot = Bot::new(&sdk, &[("main.py", &source)]);
            let output = bot.run();
            assert_eq!(
                output.status.code(),
                Some(*code),
                "{version} {call}: {}",
                said(&output)
            );
            assert_eq!(bot.result(), *expected, "{version} {call}");
        }
    }
}

#[test]
fn state_kept_by_the_sdk_is_there_in_the_next_run() {
    let source = "from the0 import state\n\
        def main(id, config):\n    \
            n = state.get('count', 0) + 1\n    \
            state.set('count', n)\n    \
            state.set('other', [n])\n    \
            assert sorted(state.list()) == ['count', 'other']\n    \
            state.delete('other')\n    \
            print('run', n, state.exists('other'))\n";
    for (version, sdk) in sdks("state_kept_by_the_sdk_is_there_in_the_next_run") {
        let bot = Bot::new(&sdk, &[("main.py", source)]);
        for n in 1..=2 {
            let output = bot.run();
            assert_eq!(
                text(&output.stdout),
                format!("run {n} False\n"),
                "{version}: {}",
                said(&output)
            );
            assert_eq!(bot.state("count"), n);
        }
    }
}

#[test]
fn metrics_and_log_lines_come_out_whole() {
    let source = "from the0 import metric, log\n\
        def main(id, config):\n    \
            metric('price', {'symbol': config['symbol'], 'value': 1.5})\n    \
            log('placed', {'order': 7}, 'warn')\n    \
            print('plain')\n";
    for (version, sdk) in sdks("metrics_and_log_lines_come_out_whole") {
        let output = Bot::new(&sdk, &[("main.py", source)]).run();
        assert!(output.status.success(), "{version}: {}", said(&output));
        let metrics = lines(&output.stdout);
        assert_eq!(
            (metrics.len(), &metrics[0]["_metric"], &metrics[0]["value"]),
            (1, &json!("price"), &json!(1.5))
        );
        assert!(metrics[0]["timestamp"].is_string() && text(&output.stdout).ends_with("plain\n"));
        let logged = lines(&output.stderr);
        assert_eq!(
            (&logged[0]["level"], &logged[0]["order"]),
            (&json!("warn"), &json!(7)),
            "{version}"
        );
    }
}

const QUERIES: &str = "
from datetime import datetime
from the0 import query, state

@query.handler('/params')
def params(req):
    return {'params': req.params, 'same': query.get_params() == req.params, 'config': query.get_config()}

@query.handler('/read')
def read(req):
    return state.get('count', 'none')

@query.handler('/write')
def write(req):
    state.set('count', 99)

@query.handler('/fails')
def fails(req):
    raise ValueError('no such order')

@query.handler('/unsayable')
def unsayable(req):
    return {'at': datetime.now()}

query.run()
";

#[test]
fn both_generations_are_asked_with_the_same_parameters() {
    let body = r#"{"symbol":"BTC/USD","side":"buy","note":"a b&c=d+e%"}"#;
    let expected: Value = serde_json::from_str(body).expect("JSON");
    for (version, sdk) in sdks("both_generations_are_asked_with_the_same_parameters") {
        let bot = Bot::new(&sdk, &[("query.py", QUERIES)]);
        let (_process, address) = bot.serve();
        let by_url = "/params?note=a%20b%26c%3Dd%2Be%25&side=buy&symbol=BTC%2FUSD";
        for (method, target, body) in [("POST", "/params", body), ("GET", by_url, "")] {
            let reply = http(&address, method, target, body);
            assert_eq!(reply.status, 200, "{version} {target}: {reply:?}");
            let data = &reply.json()["data"];
            assert_eq!(
                (&data["params"], &data["same"]),
                (&expected, &json!(true)),
                "{version} {target}"
            );
            assert_eq!(data["config"], json!({"symbol": "BTC/USD"}));
        }
        let typed = http(
            &address,
            "POST",
            "/params",
            r#"{"limit":5,"filter":{"side":"buy"},"cursor":null}"#,
        );
        let params = typed.json()["data"]["params"].clone();
        let expected = match version {
            "0.3.1" => json!({"limit": "5", "filter": "{\"side\":\"buy\"}"}),
            _ => json!({"limit": 5, "filter": {"side": "buy"}, "cursor": null}),
        };
        assert_eq!(params, expected, "{version}");
    }
}

#[test]
fn a_query_reads_the_state_and_cannot_write_it() {
    let writer = "from the0 import state\ndef main(id, config): state.set('count', 3)\n";
    for (version, sdk) in sdks("a_query_reads_the_state_and_cannot_write_it") {
        let bot = Bot::new(&sdk, &[("main.py", writer), ("query.py", QUERIES)]);
        assert!(bot.run().status.success());
        let (_process, address) = bot.serve();
        let reply = http(&address, "POST", "/read", "");
        assert_eq!(
            reply.json(),
            json!({"status": "ok", "data": 3}),
            "{version}: {reply:?}"
        );
        let reply = http(&address, "POST", "/write", "");
        assert_eq!(reply.status, 500, "{version}");
        assert!(reply.body.contains("read-only"), "{version}: {reply:?}");
        assert_eq!(bot.state("count"), 3);
    }
}

#[test]
fn errors_of_handlers_have_the_bodies_of_the_contract() {
    for (version, sdk) in sdks("errors_of_handlers_have_the_bodies_of_the_contract") {
        let bot = Bot::new(&sdk, &[("query.py", QUERIES)]);
        let (_process, address) = bot.serve();
        let missing = http(&address, "POST", "/nothing", "");
        assert_eq!(missing.status, 404, "{version}: {missing:?}");
        assert_eq!(missing.json()["error"], "No handler for path: /nothing");
        assert_eq!(missing.json()["available"].is_array(), version == "0.4.0");
        let fails = http(&address, "POST", "/fails", "{}");
        assert_eq!(
            (fails.status, fails.json()),
            (500, json!({"status": "error", "error": "no such order"}))
        );
        // The SDKs begin a good answer before they find that they cannot say it.
        let unsayable = http(&address, "POST", "/unsayable", "{}");
        assert_eq!(
            (unsayable.status, &unsayable.json()["status"]),
            (500, &json!("error")),
            "{version}: {unsayable:?}"
        );
        assert!(unsayable.body.contains("datetime"), "{unsayable:?}");
    }
}

#[test]
fn health_and_info_are_answered_by_the_sdk() {
    for (version, sdk) in sdks("health_and_info_are_answered_by_the_sdk") {
        let bot = Bot::new(&sdk, &[("query.py", QUERIES)]);
        let (_process, address) = bot.serve();
        let health = http(&address, "GET", "/health", "");
        assert_eq!(
            health.json(),
            json!({"status": "ok", "data": {"status": "ok"}}),
            "{version}"
        );
        let info = http(&address, "GET", "/info", "").json();
        let queries = info["data"]["available_queries"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(
            queries.contains(&json!("/params")) && queries.contains(&json!("/health")),
            "{version}: {info}"
        );
    }
}
