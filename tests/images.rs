//! The seven runtime images with real bots in real containers, hardened as the agent hardens them, code and state in
//! MinIO; and what an image must be besides.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::containers::{Container, Docker};
use tests::servers::{Minio, Store};
use tests::volume::unpack;
use tests::{http, repository, run, skip, text, wait_for};

/// A JVM on a busy machine of two cores.
const LATE: Duration = Duration::from_secs(40);
/// What the test bots exit with when they are told to end.
const ENDED: i64 = 7;

/// A runtime and the two programs of its test bot.
struct Language {
    runtime: &'static str,
    bot: &'static str,
    query: &'static str,
}

const PYTHON: Language = Language {
    runtime: "python3.11",
    bot: "main.py",
    query: "query.py",
};
const NODE: Language = Language {
    runtime: "nodejs20",
    bot: "main.js",
    query: "query.js",
};
const RUST: Language = Language {
    runtime: "rust-stable",
    bot: "bot",
    query: "query",
};
const CPP: Language = Language {
    runtime: "gcc13",
    bot: "bot",
    query: "query",
};
const DOTNET: Language = Language {
    runtime: "dotnet8",
    bot: "Bot.dll",
    query: "Query.dll",
};
const SCALA: Language = Language {
    runtime: "scala3",
    bot: "bot.jar",
    query: "query.jar:query.Main",
};
const HASKELL: Language = Language {
    runtime: "ghc96",
    bot: "bot",
    query: "query",
};
const ALL: [&Language; 7] = [&PYTHON, &NODE, &RUST, &CPP, &DOTNET, &SCALA, &HASKELL];

/// The object store of all tests here, where containers reach it.
fn store(docker: &Docker) -> Option<&'static Store> {
    static STORE: LazyLock<std::sync::OnceLock<Option<Store>>> = LazyLock::new(Default::default);
    let gateway = docker.gateway();
    STORE.get_or_init(|| Minio::start_at(gateway)).as_ref()
}

/// A bot of one test: its code is in the store, its state will be.
struct Bot<'a> {
    docker: &'a Docker,
    store: &'static Store,
    language: &'a Language,
    image: String,
    id: String,
}

impl<'a> Bot<'a> {
    /// `None` when something it needs is not there, which has been said.
    fn new(test: &str, docker: &'a Docker, language: &'a Language) -> Option<Self> {
        let image = docker.image(test, language.runtime)?;
        let code = repository().join(".cache/bots").join(language.runtime);
        if !code.is_dir() {
            skip(
                test,
                &format!(
                    "the {} bot is not built: run tests/setup/bots.sh",
                    language.runtime
                ),
            );
            return None;
        }
        let bot = Self {
            docker,
            store: store(docker)?,
            language,
            image,
            id: docker.name("bot"),
        };
        bot.store
            .client()
            .put("custom-bots", &bot.key(), &zipped(&code));
        Some(bot)
    }

    fn key(&self) -> String {
        format!("u1/{}/1.0.0", self.id)
    }

    /// The variables of the contract, as a compose file or a chart sets them.
    fn variables(&self) -> Vec<(String, String)> {
        let own = [
            ("BOT_ID", self.id.clone()),
            ("RUNTIME", self.language.runtime.into()),
            ("ENTRYPOINT", self.language.bot.into()),
            ("QUERY_ENTRYPOINT", self.language.query.into()),
            ("CODE_FILE", self.key()),
            ("BOT_CONFIG", json!({"symbol": "BTC/USD"}).to_string()),
            ("BOT_TYPE", "realtime".into()),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        own.chain(self.store.environment()).collect()
    }

    /// Options of a container of it as the agent starts them, on the volumes called `volumes`.
    fn hardened(&self, volumes: &str) -> Vec<String> {
        let mut options: Vec<String> = [
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--pids-limit=256",
            "--memory=512m",
            "--memory-swap=512m",
            "--tmpfs=/tmp:rw,nosuid,nodev,size=64m,mode=1777",
            "--tmpfs=/query:rw,nosuid,nodev,size=64m,uid=1000,gid=1000",
        ]
        .map(String::from)
        .into();
        for (name, path) in [("code", "/bot"), ("state", "/state"), ("var", "/var/the0")] {
            let volume = self.docker.volume(&format!("{volumes}-{name}"));
            options.push(format!("--volume={volume}:{path}"));
        }
        for (name, value) in self.variables() {
            options.push(format!("--env={name}={value}"));
        }
        options
    }

    fn start(&self, life: &str) -> Container<'_> {
        self.docker
            .run(life, &self.hardened(life), &self.image, &[])
    }

    /// What the store has of its state: the count, and the names in the archive.
    fn stored(&self) -> (Value, Vec<String>) {
        let object = self
            .store
            .client()
            .get("bot-state", &format!("{}/state.tar.gz", self.id));
        let content = unpack(&object.expect("a state in the store").bytes);
        let count = &content[".the0-state/count.json"];
        (
            serde_json::from_slice(count).expect("a count"),
            content.into_keys().collect(),
        )
    }
}

/// The files of a folder as a bundle.
fn zipped(folder: &Path) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let name = path
                .strip_prefix(folder)
                .expect("a path below")
                .to_string_lossy();
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(name, options).expect("an entry");
            std::io::Write::write_all(&mut zip, &fs::read(&path).expect("a file"))
                .expect("its content");
        }
    }
    zip.finish().expect("a bundle").into_inner()
}

fn ask(container: &Container, words: &[&str]) -> Value {
    let output = container.exec(&[&["/opt/the0/bin/query", "ask"], words].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The number in the line that begins with `before`.
fn number(logs: &str, before: &str) -> u64 {
    let found = logs
        .lines()
        .find_map(|line| line.split_once(before)?.1.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no line has {before:?} and a number:\n{logs}"))
}

/// What a runtime promises, from the first start over a stop to a start elsewhere.
fn lives(test: &str, language: &Language) {
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(bot) = Bot::new(test, &docker, language) else {
        return;
    };
    let first = bot.start("first");
    first.says(&format!("bot {} counts BTC/USD from 0", bot.id), LATE);

    let counted = wait_for("an answer of the query program", LATE, || {
        ask(&first, &["/count"])["data"]["count"]
            .as_u64()
            .filter(|count| *count > 0)
    });
    let reply = http(&format!("{}:9476", first.address()), "POST", "/count", "{}");
    assert_eq!(
        (reply.status, &reply.json()["status"]),
        (200, &json!("ok")),
        "{reply:?}"
    );
    assert!(
        reply.json()["data"]["count"].as_u64() >= Some(counted),
        "{reply:?}"
    );
    let health = first.exec(&["/opt/the0/bin/supervisor", "health"]);
    assert_eq!(
        text(&health.stdout),
        "healthy: running, run 1\n",
        "{}",
        text(&health.stderr)
    );

    let asked = Instant::now();
    assert_eq!(first.stop(), ENDED, "{}", first.logs());
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "it was killed: {:?}",
        asked.elapsed()
    );
    let last = number(&first.logs(), &format!("bot {} ends at ", bot.id));
    let (count, names) = bot.stored();
    assert_eq!(count, last, "the last push has the last count");
    assert_eq!(names, [".the0-state/", ".the0-state/count.json"]);
    first.remove();

    let second = bot.start("second");
    second.says(&format!("bot {} counts BTC/USD from {last}", bot.id), LATE);
}

#[test]
fn a_python_bot_lives_in_its_image() {
    lives("a_python_bot_lives_in_its_image", &PYTHON);
}

#[test]
fn a_node_bot_lives_in_its_image() {
    lives("a_node_bot_lives_in_its_image", &NODE);
}

#[test]
fn a_rust_bot_lives_in_its_image() {
    lives("a_rust_bot_lives_in_its_image", &RUST);
}

#[test]
fn a_cpp_bot_lives_in_its_image() {
    lives("a_cpp_bot_lives_in_its_image", &CPP);
}

#[test]
fn a_dotnet_bot_lives_in_its_image() {
    lives("a_dotnet_bot_lives_in_its_image", &DOTNET);
}

#[test]
fn a_scala_bot_lives_in_its_image() {
    lives("a_scala_bot_lives_in_its_image", &SCALA);
}

#[test]
fn a_haskell_bot_lives_in_its_image() {
    lives("a_haskell_bot_lives_in_its_image", &HASKELL);
}

/// Path, owner and mode of what `docker cp` gives of `path`.
fn owners(docker: &Docker, container: &str, path: &str) -> Vec<(String, u64, u32)> {
    let packed = docker
        .output(["cp", &format!("{container}:{path}"), "-"])
        .stdout;
    let mut archive = tar::Archive::new(packed.as_slice());
    let entries = archive.entries().expect("an archive").flatten();
    let row = |entry: tar::Entry<&[u8]>| {
        let header = entry.header();
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        (
            path,
            header.uid().expect("an owner"),
            header.mode().expect("a mode") & 0o7777,
        )
    };
    entries.map(row).collect()
}

#[test]
fn every_image_has_the_programs_out_of_a_bots_reach_and_says_what_it_is() {
    let test = "every_image_has_the_programs_out_of_a_bots_reach_and_says_what_it_is";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    for language in ALL {
        let Some(image) = docker.image(test, language.runtime) else {
            continue;
        };
        let container = docker.name(&format!("never-started-{}", language.runtime));
        docker.ask(["create", "--name", &container, &image]);
        for program in ["query", "supervisor", "sync"] {
            let found = owners(&docker, &container, &format!("/opt/the0/bin/{program}"));
            assert_eq!(found, [(program.to_owned(), 0, 0o711)], "{image}");
        }
        let wrappers = owners(&docker, &container, "/opt/the0/wrappers");
        assert!(
            wrappers.len() > 2
                && wrappers
                    .iter()
                    .all(|(_, owner, mode)| (*owner, mode & 0o22) == (0, 0))
        );
        for folder in ["/bot", "/state", "/var/the0", "/var/the0/logs", "/query"] {
            let found = owners(&docker, &container, folder);
            assert_eq!(
                found.first().map(|row| row.1),
                Some(1000),
                "{image} {folder}"
            );
        }

        let config = docker.inspect(&image)["Config"].take();
        assert_eq!(config["User"], "1000:1000");
        assert_eq!(config["Entrypoint"], json!(["/opt/the0/bin/supervisor"]));
        assert_eq!(
            config["Cmd"],
            Value::Null,
            "the base's command would be taken for options"
        );
        assert_eq!(
            config["Healthcheck"]["Test"],
            json!(["CMD", "/opt/the0/bin/supervisor", "health"])
        );
        assert_eq!(config["ExposedPorts"], json!({"9476/tcp": {}}));
        let label = |name: &str| {
            config["Labels"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(
            label("org.opencontainers.image.title"),
            format!("the0/{}", language.runtime)
        );
        assert_eq!(
            label("org.opencontainers.image.version"),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(label("org.opencontainers.image.licenses"), "Apache-2.0");
        assert!(
            !label("org.opencontainers.image.base.name").is_empty()
                && !label("the0.base").is_empty()
        );
    }
}

/// An image of nothing but ours, and a static bot in it.
fn bare_image(docker: &Docker) -> Option<String> {
    let archive = repository().join(".cache/images/the0.tar");
    if !archive.exists() {
        return None;
    }
    let context = tempfile::tempdir().expect("a folder");
    fs::copy(archive, context.path().join("the0.tar")).expect("copy the archive");
    let image = docker.name("bare");
    let mut build = docker.command();
    build.env("DOCKER_BUILDKIT", "1").args([
        "build",
        "--quiet",
        "--tag",
        &image,
        "--build-arg",
        "RUNTIME=gcc13",
        "--file",
    ]);
    let output = run(build
        .arg(repository().join("images/Dockerfile"))
        .arg(context.path()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(image)
}

#[test]
fn a_static_bot_lives_where_there_is_no_shell_and_nothing_else() {
    let test = "a_static_bot_lives_where_there_is_no_shell_and_nothing_else";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(image) = bare_image(&docker) else {
        return skip(test, "nothing is staged: run `make images`");
    };
    let language = Language {
        bot: "bot-static",
        query: "query-static",
        ..CPP
    };
    let Some(mut bot) = Bot::new(test, &docker, &language) else {
        return;
    };
    bot.image = image;
    let container = bot.start("bare");
    container.says("counts BTC/USD from 0", LATE);
    assert!(
        !container.exec(&["/bin/sh", "-c", "true"]).status.success(),
        "there is a shell"
    );
    wait_for("an answer of the query program", LATE, || {
        ask(&container, &["/count"])["data"]["count"].as_u64()
    });
    assert_eq!(container.stop(), ENDED, "{}", container.logs());
}

#[test]
fn the_health_of_a_container_is_told_and_why_it_is_not_well() {
    let test = "the_health_of_a_container_is_told_and_why_it_is_not_well";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(bot) = Bot::new(test, &docker, &CPP) else {
        return;
    };
    let health = |container: &Container| {
        let output = container.exec(&["/opt/the0/bin/supervisor", "health"]);
        (output.status.code(), text(&output.stdout))
    };
    let mut options = bot.hardened("quick");
    options.push("--health-interval=1s".into());
    let well = docker.run("well", &options, &bot.image, &[]);
    wait_for("the engine to find it healthy", LATE, || {
        (well.inspect()["State"]["Health"]["Status"] == "healthy").then_some(())
    });

    let code = tempfile::tempdir().expect("a folder");
    fs::write(code.path().join("bot"), "#!/bin/false\n").expect("a bot that ends at once");
    let client = bot.store.client();
    client.put("custom-bots", &bot.key(), &zipped(code.path()));
    let options = bot.hardened("crash");
    let crashing = docker.run("crashing", &options, &bot.image, &[]);
    let (code, said) = wait_for("a crash loop", LATE, || {
        let (code, said) = health(&crashing);
        (code == Some(1) && said.contains("crash loop")).then_some((code, said))
    });
    assert_eq!(code, Some(1), "{said}");

    let idle = docker.run(
        "idle",
        &["--env=THE0_LAUNCH=stdin".into(), "--interactive".into()],
        &bot.image,
        &[],
    );
    assert!(
        health(&idle).1.contains("not healthy: there is no status"),
        "{:?}",
        health(&idle)
    );
}

/// How a command ended and all that it said.
fn code_of(command: &mut Command) -> (Option<i32>, String) {
    let output = run(command);
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[test]
fn the_words_of_the_first_runtime_start_the_same_in_containers_of_their_own() {
    let test = "the_words_of_the_first_runtime_start_the_same_in_containers_of_their_own";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(bot) = Bot::new(test, &docker, &CPP) else {
        return;
    };
    let keys = bot.store.environment();
    let of = |names: &[&str]| -> Vec<String> {
        let told = |(name, _): &&(String, String)| names.contains(&name.as_str());
        let variables = bot.variables();
        let variables = variables
            .iter()
            .filter(told)
            .map(|(name, value)| format!("--env={name}={value}"));
        variables.collect()
    };
    // As a Pod has it: keys where code and state are moved, and only there.
    let all = bot.hardened("pod");
    let volumes: Vec<String> = all
        .into_iter()
        .filter(|option| !option.starts_with("--env="))
        .collect();
    let with_keys: Vec<String> = volumes
        .iter()
        .cloned()
        .chain(
            keys.iter()
                .map(|(name, value)| format!("--env={name}={value}")),
        )
        .collect();
    let program = of(&[
        "BOT_ID",
        "RUNTIME",
        "ENTRYPOINT",
        "QUERY_ENTRYPOINT",
        "BOT_CONFIG",
        "BOT_TYPE",
    ]);
    let without: Vec<String> = volumes.iter().cloned().chain(program).collect();

    let key = bot.key();
    let init = [
        "daemon",
        "init",
        "--bot-id",
        &bot.id,
        "--code-path",
        "/bot",
        "--state-path",
        "/state",
        "--code-file",
        &key,
    ];
    let init = docker.run("init", &with_keys, &bot.image, &init);
    assert_eq!(init.code(LATE), 0, "{}", init.logs());

    let words = [
        "daemon",
        "sync",
        "--bot-id",
        &bot.id,
        "--state-path",
        "/state",
        "--logs-path",
        "/var/the0/logs",
    ];
    let more = [
        "--interval",
        "60s",
        "--watch-done",
        "/var/the0/done",
        "--readiness-port",
        "8079",
    ];
    let sync = docker.run(
        "sync",
        &with_keys,
        &bot.image,
        &[&words[..], &more[..]].concat(),
    );
    sync.says("watching as generation", LATE);
    assert_eq!(
        http(&format!("{}:8079", sync.address()), "GET", "/readyz", "").status,
        200
    );

    let query = docker.run(
        "query",
        &without,
        &bot.image,
        &["execute", "--query-server-only"],
    );
    let main = docker.run(
        "main",
        &without,
        &bot.image,
        &["execute", "--skip-sync", "--skip-query-server"],
    );
    main.says("counts BTC/USD from 0", LATE);
    wait_for("an answer from the query server's container", LATE, || {
        ask(&query, &["/count"])["data"]["count"]
            .as_u64()
            .filter(|count| *count > 0)
    });
    let beside = text(
        &main
            .exec(&["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])
            .stdout,
    );
    assert!(
        beside.contains("/bot/bot") && !beside.contains("/opt/the0/bin/sync"),
        "{beside}"
    );

    assert_eq!(main.stop(), ENDED, "{}", main.logs());
    assert_eq!(
        sync.code(LATE),
        0,
        "sync ends by itself when the run is over: {}",
        sync.logs()
    );
    let last = number(&main.logs(), &format!("bot {} ends at ", bot.id));
    assert_eq!(bot.stored().0, last);
    assert!(query.is_running());
    query.stop();
}

#[test]
fn execute_alone_is_the_whole_run_and_other_words_are_refused() {
    let test = "execute_alone_is_the_whole_run_and_other_words_are_refused";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(bot) = Bot::new(test, &docker, &CPP) else {
        return;
    };
    let whole = docker.run("whole", &bot.hardened("whole"), &bot.image, &["execute"]);
    whole.says("counts BTC/USD from 0", LATE);
    wait_for("an answer", LATE, || {
        ask(&whole, &["/count"])["data"]["count"].as_u64()
    });
    assert_eq!(whole.stop(), ENDED, "{}", whole.logs());

    let said = |words: &[&str]| {
        code_of(
            docker
                .command()
                .args(["run", "--rm", &bot.image])
                .args(words),
        )
    };
    assert_eq!(
        said(&["version"]),
        (
            Some(0),
            format!("supervisor {}\n", env!("CARGO_PKG_VERSION"))
        )
    );
    for (words, code, told) in [
        (
            &["execute", "--query", "/count"][..],
            111,
            "running bots only",
        ),
        (&["execute", "--frob"], 2, "--frob"),
        (&["daemon", "sync", "--everything"], 2, "--everything"),
        (&["daemon", "init"], 1, "BOT_ID"),
    ] {
        let (ended, text) = said(words);
        assert!(
            ended == Some(code) && text.contains(told),
            "{words:?}: {ended:?} {text}"
        );
    }
}

/// Where the Dockerfile and the script that builds it could drift apart.
#[test]
fn the_bake_file_is_the_matrix_of_the_build_script() {
    let read = |name: &str| {
        let mut text = String::new();
        let path: PathBuf = repository().join("images").join(name);
        fs::File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect("a file");
        text
    };
    let (script, bake) = (read("build.sh"), read("docker-bake.hcl"));
    let upstream = script
        .split_once("declare -A upstream=(")
        .expect("a table")
        .1;
    let rows: Vec<_> = upstream
        .lines()
        .map_while(|line| if line == ")" { None } else { Some(line.trim()) })
        .collect();
    let rows: Vec<_> = rows
        .iter()
        .filter_map(|row| row.strip_prefix('[')?.split_once("]="))
        .collect();
    assert_eq!(rows.len(), 8, "{rows:?}");
    for (name, base) in rows {
        assert!(
            bake.contains(&format!("\"{base}\"")),
            "{base} of {name} is not in the bake file"
        );
        assert!(
            name == "agent" || bake.contains(&format!("\"{name}\"")),
            "{name} is not in the bake file"
        );
    }
}
