//! The seven runtime images with real bots in real containers, hardened as the agent hardens them, code and state in
//! MinIO; and what an image must be besides.

mod bot;
mod words;

use std::fs;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::containers::{Container, Docker, image};
use tests::stack::{COUNTER, Stack, zipped};
use tests::{http, read, repository, run, skip, text, wait_for};

use bot::{
    ALL, Bot, CPP, DOTNET, ENDED, HASKELL, LATE, Language, NODE, PYTHON, RUST, SCALA, ask, number,
};

/// Waits until the query program tells a count above 0: there is a state then.
fn counted(container: &Container) -> u64 {
    wait_for("an answer of the query program", LATE, || {
        ask(container, &["/count"])["data"]["count"]
            .as_u64()
            .filter(|count| *count > 0)
    })
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

    let counted = counted(&first);
    // The bots write their count in place: who reads in that moment gets none of it.
    wait_for("the count over the port", LATE, || {
        let reply = http(&format!("{}:9476", first.address()), "POST", "/count", "{}");
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        let is_ok = answer["status"] == "ok";
        (is_ok && answer["data"]["count"].as_u64() >= Some(counted)).then_some(())
    });
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

#[test]
fn the_agent_of_its_image_runs_bots_as_compose_starts_it() {
    let test = "the_agent_of_its_image_runs_bots_as_compose_starts_it";
    let Some(host) = Stack::start(test, &["python3.11", "agent"]) else {
        return;
    };
    let bot = host.bot("counter", COUNTER, doc! {"step": 2});
    let mut options: Vec<String> = [
        "--network=host",
        "--cap-drop=ALL",
        "--cap-add=NET_ADMIN",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--tmpfs=/tmp",
        "--tmpfs=/run",
        "--volume=/var/run/docker.sock:/var/run/docker.sock",
    ]
    .map(String::from)
    .into();
    options.push(format!(
        "--volume={}:/data",
        host.docker.volume("agent-data")
    ));
    for (name, value) in host.command(&[]).get_envs() {
        let (name, value) = (
            name.to_string_lossy(),
            value.unwrap_or_default().to_string_lossy(),
        );
        if !["PATH", "HOME", "THE0_DATA"].contains(&&*name) {
            options.push(format!("--env={name}={value}"));
        }
    }
    let words = ["bot-runner", "--reconcile-interval", "1s"];
    let agent = host.docker.run("agent", &options, &image("agent"), &words);
    let started = Instant::now();
    let running = host.container(&bot);
    while !running.is_running() {
        assert!(
            agent.is_running() && started.elapsed() < LATE,
            "{}",
            agent.logs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    running.says(&format!("BEGAN {bot} at 0 step 2"), LATE);
    let rows = agent.exec(&["/opt/the0/bin/agent", "ps"]);
    assert!(
        rows.status.success() && text(&rows.stdout).contains("counter"),
        "{}",
        text(&rows.stderr)
    );
    assert_eq!(agent.stop(), 0, "{}", agent.logs());
    assert!(running.is_running(), "bots live on without an agent");
}

/// Where the Dockerfile and the script that builds it could drift apart.
#[test]
fn the_bake_file_is_the_matrix_of_the_build_script() {
    let read = |name: &str| read(&repository().join("images").join(name));
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
    assert!(bake.contains(&format!(
        "\"VERSION\" {{ default = \"{}\" }}",
        env!("CARGO_PKG_VERSION")
    )));
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

/// Tells what of it could be written, by plain calls.
const WRITES: &str = r#"
import json, os, pathlib
def write(path):
    try:
        with open(path, "w") as file:
            file.write("0")
        return "written"
    except OSError as error:
        return error.strerror
paths = ["/state/.the0-state/count.json", "/state/new", "/bot/main.py", "/bot/new"]
said = {"status": "ok", "data": {path: write(path) for path in paths}}
pathlib.Path("/query/result.json").write_text(json.dumps(said))
"#;
/// A kernel without Landlock, as a container sees it: ENOSYS for its calls.
const NO_LANDLOCK: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
    "names": ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"],
    "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;

#[test]
fn a_question_writes_to_nothing_of_the_bot_also_without_landlock() {
    let test = "a_question_writes_to_nothing_of_the_bot_also_without_landlock";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(bot) = Bot::new(test, &docker, &PYTHON) else {
        return;
    };
    let first = bot.start("first");
    first.says("counts BTC/USD from 0", LATE);
    counted(&first);
    assert_eq!(first.stop(), ENDED, "{}", first.logs());
    let (_, names) = bot.stored();
    assert_eq!(
        names,
        [".the0-state/", ".the0-state/count.json"],
        "the state that is written to below: {}",
        first.logs()
    );

    let code = tempfile::tempdir().unwrap();
    fs::write(code.path().join("main.py"), COUNTER).unwrap();
    fs::write(code.path().join("query.py"), WRITES).unwrap();
    let client = bot.store.client();
    client.put("custom-bots", &bot.key(), &zipped(code.path()));
    let profile = tempfile::NamedTempFile::new().unwrap();
    fs::write(profile.path(), NO_LANDLOCK).unwrap();
    let mut options = bot.hardened("asked");
    options.push("--env=QUERY_PATH=/writes".to_owned());
    options.push("--env=THE0_QUERY_TIMEOUT=120s".to_owned());
    options.push(format!(
        "--security-opt=seccomp={}",
        profile.path().display()
    ));
    let asked = docker.run("asked", &options, &bot.image, &[]);
    let ended = asked.code(Duration::from_secs(150));
    assert_eq!(ended, 0, "{}", asked.logs());
    let logs = asked.logs();
    assert!(
        logs.contains("no Landlock"),
        "the test's own premise: {logs}"
    );
    let answer = logs
        .lines()
        .find_map(|line| serde_json::from_str::<Value>(line).ok());
    let answer = answer.unwrap_or_else(|| panic!("no answer: {logs}"));
    let told = answer["data"].as_object().unwrap();
    assert_eq!(told.len(), 4, "{answer}");
    assert!(
        told.values().all(|said| said == "Permission denied"),
        "{answer}"
    );
}
