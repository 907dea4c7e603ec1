//! States and stores as people handle them: `sync state`, `agent state`, and `agent dev` on a folder and on MinIO.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::servers::{Minio, Store};
use tests::{Process, bin, read, run, text, wait_for};

/// Longer than anything takes here on a loaded machine.
const LONG: Duration = Duration::from_secs(90);

const VERIFIED: i32 = 0;
const NO_STATE: i32 = 113;
const REFUSED: i32 = 116;

/// Counts in its state, and writes its environment and its number of runs into its log.
const COUNTER: &str = r#"
import json, os, pathlib, time
def main(id, config):
    path = pathlib.Path(os.environ["STATE_DIR"]) / "count.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = json.loads(path.read_text()) if path.exists() else 0
    print("began at", count, flush=True)
    print("sees", sorted(os.environ), flush=True)
    while True:
        count += 1
        path.with_suffix(".tmp").write_text(json.dumps(count))
        path.with_suffix(".tmp").rename(path)
        time.sleep(0.2)
"#;

/// One bot's states in a store, handled by `sync` itself.
struct Bot {
    name: String,
    store: Vec<(String, String)>,
    dir: TempDir,
}

impl Bot {
    /// One on a folder and one on MinIO, where that is installed.
    fn everywhere(name: &str) -> Vec<Self> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        fs::create_dir(&root).unwrap();
        let root = root.to_str().unwrap().to_owned();
        let mut bots = vec![Self {
            name: name.to_owned(),
            store: vec![("THE0_STORE".to_owned(), root)],
            dir,
        }];
        bots.extend(Minio::shared().map(|minio| Self {
            name: name.to_owned(),
            store: minio.environment(),
            dir: tempfile::tempdir().unwrap(),
        }));
        bots
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder with these files.
    fn folder(&self, name: &str, files: &[(&str, &str)]) -> String {
        let root = self.path(name);
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root.to_str().unwrap().to_owned()
    }

    fn state(&self, words: &[&str]) -> Output {
        let mut command = Command::new(bin("sync"));
        command.arg("state").args(words).env_clear();
        command.envs(self.store.iter().cloned());
        command
            .env("BOT_ID", &self.name)
            .env("STATE_PATH", self.path("local"))
            .env("MAX_STATE_SIZE_MB", "1")
            .env("TMPDIR", self.dir.path());
        run(&mut command)
    }

    /// Standard output of what must succeed.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.state(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(VERIFIED), "{words:?}: {said}");
        text(&output.stdout)
    }

    /// Standard error of what must fail with `code`.
    fn fails(&self, words: &[&str], code: i32) -> String {
        let output = self.state(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(&self.name), "{said}");
        said
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.ok(&["ls", "-o", "json"])).unwrap()
    }
}

/// The names of what lies below `folder`.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_state_that_rotted_is_replaced_by_what_it_says_it_is() {
    for bot in Bot::everywhere("rotted").into_iter().take(1) {
        let one = bot.folder("one", &[("a", &"long ".repeat(1000))]);
        bot.ok(&["put", &one]);
        let object = bot.path("store/bot-state/rotted/state.tar.gz");
        let time = fs::metadata(&object).unwrap().modified().unwrap();
        let mut bytes = fs::read(&object).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&object, bytes).unwrap();
        let file = File::options().write(true).open(&object).unwrap();
        file.set_modified(time).unwrap();
        let said = bot.ok(&["put", &one]);
        assert!(said.contains("is kept as"), "{said}");
        assert!(bot.ok(&["put", &one]).contains("is that already"));
        bot.ok(&["get", bot.path("got.tar.gz").to_str().unwrap()]);
    }
}

#[test]
fn a_state_is_put_listed_got_compared_and_put_back() {
    for bot in Bot::everywhere("handled") {
        assert_eq!(bot.ok(&["ls"]), "there is no state yet\n");
        let one = bot.folder(
            "one",
            &[("a", "1"), (".the0-state/k.json", "{}"), ("d/x", "old")],
        );
        let two = bot.folder(
            "two",
            &[(".the0-state/k.json", "{}"), ("d/x", "newer"), ("e", "")],
        );
        assert!(bot.ok(&["put", &one]).contains("there was none before"));
        assert!(bot.ok(&["put", &one]).contains("is that already"));
        let said = bot.ok(&["put", &two]);
        assert!(
            said.contains("is kept as") && said.contains("running"),
            "{said}"
        );

        let rows = bot.list();
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(
            (&rows[0]["name"], &rows[1]["reason"]),
            (&"current".into(), &"replaced".into())
        );
        assert!(
            rows.iter()
                .all(|row| row.get("generation").is_none_or(|g| *g == 0))
        );
        let older = rows[1]["name"].as_str().unwrap();
        let table = bot.ok(&["ls"]);
        assert!(
            table.contains(older) && table.contains("replaced"),
            "{table}"
        );

        let lines = bot.ok(&["diff"]);
        let lines: Vec<&str> = lines.lines().skip(1).collect();
        assert_eq!(lines, ["+ e  0", "- a  1", "~ d/x  3 -> 5"]);
        let json: Value = serde_json::from_str(&bot.ok(&["diff", older, "-o", "json"])).unwrap();
        assert_eq!(json["removed"][0]["path"], "a");
        fs::create_dir_all(bot.path("local")).unwrap();
        fs::write(bot.path("local/e"), "").unwrap();
        let lines = bot.ok(&["diff", "current", "local"]);
        assert!(
            lines.contains("- d/x  5") && !lines.contains(" e "),
            "{lines}"
        );

        let file = bot.path("got.tar.gz");
        bot.ok(&["get", older, file.to_str().unwrap()]);
        let out = bot.path("unpacked");
        fs::create_dir(&out).unwrap();
        let mut tar = Command::new("tar");
        assert!(
            run(tar.arg("xzf").arg(&file).arg("-C").arg(&out))
                .status
                .success()
        );
        assert_eq!(read(&out.join("d/x")), "old");
        assert_eq!(
            names(&out),
            [".the0-state", "a", "d"].map(String::from).into()
        );

        let begin = older.rsplit_once("-g").unwrap().0;
        assert!(bot.ok(&["restore", begin]).contains("is kept as"));
        assert_eq!(
            bot.ok(&["diff", older, "current"]).lines().nth(1),
            Some("the same")
        );
        assert_eq!(bot.list()[0]["digest"], rows[1]["digest"]);
        let left: Vec<_> = names(bot.dir.path())
            .into_iter()
            .filter(|n| n.contains("the0-"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_state_goes_through_standard_output_and_comes_back_from_a_file() {
    for bot in Bot::everywhere("piped") {
        let one = bot.folder("one", &[("d/x", "content")]);
        bot.ok(&["put", &one]);
        let got = bot.state(&["get", "-"]);
        assert!(got.status.success(), "{}", text(&got.stderr));
        let archive = bot.path("archive");
        fs::write(&archive, &got.stdout).unwrap();
        let plain = bot.path("plain.tar");
        let mut tar = Command::new("tar");
        tar.current_dir(bot.path("one"))
            .arg("cf")
            .arg(&plain)
            .arg(".");
        assert!(run(&mut tar).status.success());
        // The same content in another form is the same state.
        for file in [archive, plain] {
            assert!(
                bot.ok(&["put", file.to_str().unwrap()])
                    .contains("is that already")
            );
        }
        assert_eq!(bot.list().len(), 1);
    }
}

#[test]
fn what_could_not_be_restored_is_not_put_and_changes_nothing() {
    for bot in Bot::everywhere("refusing") {
        let good = bot.folder("good", &[("a", "1")]);
        bot.ok(&["put", &good]);
        let before = bot.list();
        let whole = bot.state(&["get", "-"]).stdout;
        let cut = bot.path("cut.tar.gz");
        fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        let noise = bot.path("noise");
        fs::write(&noise, "no archive at all".repeat(100)).unwrap();
        let outside = bot.path("outside.tar");
        let mut tar = Command::new("tar");
        tar.current_dir(&good)
            .args(["-P", "--transform", "s,^,../,", "-cf"]);
        assert!(run(tar.arg(&outside).arg("a")).status.success());
        for (file, why) in [(&cut, ""), (&noise, ""), (&outside, "../a")] {
            let path = file.to_str().unwrap();
            let said = bot.fails(&["put", path], REFUSED);
            assert!(said.contains(path) && said.contains(why), "{said}");
        }
        let large = bot.folder("large", &[("x", &"x".repeat((1 << 20) + 1))]);
        let said = text(&bot.state(&["put", &large]).stderr);
        assert!(said.contains("MAX_STATE_SIZE_MB"), "{said}");
        assert_eq!(bot.list(), before);
    }
}

#[test]
fn a_word_that_means_no_state_is_told_with_the_remedy() {
    for bot in Bot::everywhere("worded") {
        let target = bot.path("x");
        let target = target.to_str().unwrap();
        let said = bot.fails(&["get", target], NO_STATE);
        assert!(
            said.contains("worded/state.tar.gz") && said.contains("bot-state"),
            "{said}"
        );
        assert!(bot.fails(&["diff"], NO_STATE).contains("history is empty"));
        assert!(
            bot.fails(&["restore", "2026"], NO_STATE)
                .contains("state ls")
        );
        for name in ["one", "two", "three"] {
            let folder = bot.folder(name, &[("a", name)]);
            bot.ok(&["put", &folder]);
        }
        let said = bot.fails(&["restore", "2"], NO_STATE);
        assert!(said.contains("give more of the name"), "{said}");
        assert!(!Path::new(target).exists());
    }
}

/// A data folder, a folder of bots, and the store they have.
struct Place {
    dir: TempDir,
    store: Vec<(String, String)>,
}

impl Place {
    fn new(store: Vec<(String, String)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bots")).unwrap();
        Self { dir, store }
    }

    /// A bot that counts; its id is made of `name`.
    fn counter(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join("bots").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("main.py"), COUNTER).unwrap();
        let config = format!(
            "name: {name}\nversion: 1.0.0\nruntime: python3.11\nentrypoints: {{bot: main.py}}\n"
        );
        fs::write(folder.join("bot-config.yaml"), config).unwrap();
        folder
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("agent"));
        command
            .args(args)
            .arg("--data")
            .arg(self.dir.path().join("data"));
        command
            .env("THE0_GRACE", "3s")
            .env("THE0_DRAIN", "15s")
            .env_remove("THE0_DATA");
        command.envs(self.store.iter().cloned());
        command
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = run(&mut self.command(args));
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn dev(&self) -> (Process, PathBuf) {
        let screen = self.dir.path().join("screen");
        let out = File::create(&screen).unwrap();
        let mut command = self.command(&["dev"]);
        command.arg(self.dir.path().join("bots"));
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        let process = Process::start(&mut command);
        says(&screen, "in another terminal");
        (process, screen)
    }

    fn row(&self, name: &str) -> Option<Value> {
        let rows: Vec<Value> = serde_json::from_str(&self.ok(&["ps", "-o", "json"])).unwrap();
        rows.into_iter().find(|row| row["name"] == name)
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        let row = wait_for("the bot to be listed", LONG, || self.row(name));
        self.dir
            .path()
            .join("data/bots")
            .join(row["id"].as_str().unwrap())
    }

    /// Waits until what the bot counts in its state has come to `least`.
    fn counts_to(&self, name: &str, least: u64) {
        let path = self.folder_of(name).join("state/.the0-state/count.json");
        wait_for(&format!("a count of {least}"), LONG, || {
            let count: u64 = read(&path).trim().parse().ok()?;
            (count >= least).then_some(())
        });
    }

    fn states(&self, name: &str) -> Vec<Value> {
        serde_json::from_str(&self.ok(&["state", "ls", name, "-o", "json"])).unwrap()
    }
}

/// Ends a session as Ctrl-C does and gives its exit code.
fn end(mut process: Process) -> i32 {
    process.signal(Signal::SIGINT);
    process.code(LONG)
}

/// A folder, and MinIO where it is installed.
fn stores() -> Vec<Vec<(String, String)>> {
    let mut stores = vec![Vec::new()];
    stores.extend(Minio::shared().map(Store::environment));
    stores
}

#[test]
fn a_running_bot_goes_on_from_the_state_that_is_put_and_its_own_is_kept() {
    for store in stores() {
        let place = Place::new(store);
        place.counter("moved");
        let (process, screen) = place.dev();
        place.counts_to("moved", 3);
        let edit = place.dir.path().join("edit/.the0-state");
        fs::create_dir_all(&edit).unwrap();
        fs::write(edit.join("count.json"), "1000000").unwrap();
        let from = edit.parent().unwrap().to_str().unwrap();
        // The first push may not be there yet; what is put counts all the same.
        let said = place.ok(&["state", "put", "moved", from]);
        assert!(said.contains("running instance"), "{said}");
        place.counts_to("moved", 1_000_000);
        says(&screen, "began at 1000000");
        let own = wait_for("its own state in the history", LONG, || {
            let rows = place.states("moved");
            rows.into_iter().find(|row| row["reason"] == "edited")
        });
        let name = own["name"].as_str().unwrap();
        let diff = place.ok(&["state", "diff", "moved", name]);
        assert!(diff.contains("~ .the0-state/count.json"), "{diff}");
        let got = run(&mut place.command(&["state", "get", "moved", name, "-"]));
        assert_eq!(got.stdout.first(), Some(&0x1f), "{}", text(&got.stderr));
        assert_eq!(end(process), 0, "{}", read(&screen));
        // Without an agent it works as well, and the next start goes on from what was restored.
        place.ok(&["state", "restore", "moved", name]);
        let (process, screen) = place.dev();
        says(&screen, "began at ");
        place.counts_to("moved", 1);
        let began = read(&screen);
        let began = began
            .split("began at ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        assert!(
            began.is_some_and(|n| n.trim().parse::<u64>().unwrap() < 1000),
            "{began:?}"
        );
        assert_eq!(end(process), 0, "{}", read(&screen));
    }
}

#[test]
fn an_object_store_gets_its_buckets_and_everything_of_a_bot_and_the_bot_sees_none_of_it() {
    let Some(minio) = Minio::shared() else { return };
    let mut store = minio.environment();
    let buckets = [
        ("CODE", "own-code"),
        ("STATE", "own-state"),
        ("LOGS", "own-logs"),
    ];
    store.extend(buckets.map(|(what, name)| (format!("MINIO_{what}_BUCKET"), name.to_owned())));
    let place = Place::new(store);
    place.counter("stored");
    let (process, screen) = place.dev();
    says(&screen, "made bucket own-state");
    place.counts_to("stored", 3);
    let folder = place.folder_of("stored");
    let id = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let client = minio.client();
    wait_for("a state in the store", LONG, || {
        client.get("own-state", &format!("{id}/state.tar.gz"))
    });
    assert_eq!(client.list("own-code", "dev/stored/").len(), 1);
    let secret = &place
        .store
        .iter()
        .find(|(name, _)| name == "MINIO_SECRET_KEY")
        .unwrap()
        .1;
    says(&screen, "sees [");
    let log = place.ok(&["logs", "stored", "-n", "all"]);
    assert!(
        !log.contains("MINIO") && !log.contains("THE0_STORE"),
        "{log}"
    );
    let told = place.dir.path().join("data/store.json");
    assert!(read(&told).contains("own-state") && !read(&told).contains(secret.as_str()));
    assert!(!read(&screen).contains(secret.as_str()));
    has_no_word(&process, secret);

    // A command that was not told the store does not take another one for it.
    let mut stray = place.command(&["state", "ls", "stored"]);
    for (name, _) in &place.store {
        stray.env_remove(name);
    }
    let said = text(&run(&mut stray).stderr);
    assert!(
        said.contains("MINIO_ENDPOINT") && said.contains(minio.address()),
        "{said}"
    );

    let more = place.dir.path().join("more");
    fs::create_dir(&more).unwrap();
    for name in ["main.py", "bot-config.yaml"] {
        let text = read(&place.dir.path().join("bots/stored").join(name));
        fs::write(more.join(name), text.replace("stored", "deployed")).unwrap();
    }
    place.ok(&["deploy", more.to_str().unwrap(), "--id", "deployedbot"]);
    place.counts_to("deployed", 2);
    assert!(
        place
            .ok(&["deploy", more.to_str().unwrap(), "--id", "deployedbot"])
            .contains("same")
    );

    assert_eq!(end(process), 0, "{}", read(&screen));
    let logs = client.list("own-logs", &format!("logs/{id}/"));
    let day = logs[0]
        .rsplit('/')
        .next()
        .unwrap()
        .trim_end_matches(".log")
        .to_owned();
    let shown = place.ok(&["logs", "stored", "--day", &day]);
    assert!(shown.starts_with("began at 0\n"), "{shown}");
    let none = run(&mut place.command(&["logs", "stored", "--day", "2001-01-01"]));
    assert!(
        text(&none.stderr).contains("no log"),
        "{}",
        text(&none.stderr)
    );
}

#[test]
fn what_cannot_be_saved_is_told_at_the_end_and_saved_by_the_next_session() {
    let Some(mut minio) = Minio::start() else {
        return;
    };
    let place = Place::new(minio.environment());
    place.counter("cutoff");
    let (process, screen) = place.dev();
    place.counts_to("cutoff", 3);
    minio.stop();
    let folder = place.folder_of("cutoff");
    assert_eq!(end(process), 1, "{}", read(&screen));
    says(&screen, "not all that these had is in the store: cutoff");
    let last = read(&folder.join("state/.the0-state/count.json"));
    // A store that is away at the start keeps nobody from starting.
    let (process, screen) = place.dev();
    says(&screen, "bots start when the store answers");
    minio.start_again();
    place.counts_to("cutoff", last.trim().parse::<u64>().unwrap() + 1);
    assert_eq!(end(process), 0, "{}", read(&screen));
    let states = place.states("cutoff");
    assert_eq!(states[0]["name"], "current");
}

/// No process of a session has `secret` on its command line; a bot's supervisor and `sync` are among them.
fn has_no_word(session: &Process, secret: &str) {
    let lines = command_lines(session.pid().as_raw());
    for program in ["supervisor", "sync"] {
        let is_it = |line: &String| {
            let first = line.split('\0').next().unwrap_or_default();
            Path::new(first)
                .file_name()
                .is_some_and(|name| name == program)
        };
        assert!(lines.iter().any(is_it), "no {program}: {lines:?}");
    }
    for line in lines {
        assert!(!line.contains(secret), "{line}");
    }
}

/// The command lines of a process and of all that descend from it: a session adopts its orphans.
fn command_lines(root: i32) -> Vec<String> {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    let parents: Vec<(i32, i32)> = folders
        .filter_map(|folder| {
            let pid = folder.file_name().to_str()?.parse().ok()?;
            let stat = read(&folder.path().join("stat"));
            // Field 4 of proc(5); the first after the name is field 3.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect();
    let (mut family, mut seen) = (vec![root], 0);
    while let Some(parent) = family.get(seen).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        family.extend(children.map(|(pid, _)| *pid));
        seen += 1;
    }
    let words = |pid: i32| read(Path::new(&format!("/proc/{pid}/cmdline")));
    family.into_iter().map(words).collect()
}

fn says(screen: &Path, what: &str) {
    let found = || read(screen).contains(what).then_some(());
    wait_for(&format!("{what:?} on {}", screen.display()), LONG, found);
}
