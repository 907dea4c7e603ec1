//! `agent backup` and `agent restore`: a stack that is taken down to nothing and comes back, files that are damaged,
//! places where something else is, and kills in the middle.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use mongodb::bson::{DateTime, Document, doc};
use tempfile::TempDir;
use tests::servers::mongo::{Mongo, document};
use tests::servers::{BUCKETS, Minio, Store};
use tests::stack::{BOTS, COUNTER, LONG, Stack};
use tests::{Process, bin, run, text, wait_for};

const SCHEDULES: &str = "bot_scheduler.bot_schedules";
const JOBS: &str = "backtest_runner.backtests";

/// Contents by path.
type Files = BTreeMap<String, Vec<u8>>;

/// The entries of a backup, by name.
fn entries(backup: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(backup).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    entries.collect()
}

/// The content of a state, by path.
fn files(state: &[u8]) -> Files {
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(state));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    entries.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn a_stack_is_backed_up_while_its_bots_run_and_runs_on_from_it_where_nothing_is_left() {
    let Some(mut host) = Stack::start("backup::stack", &["python3.11"]) else {
        return;
    };
    let bots: Vec<String> = (0..3)
        .map(|n| {
            host.bot(
                &format!("b{n}"),
                COUNTER,
                doc! {"step": 1.0, "api_key": "hunter2"},
            )
        })
        .collect();
    let schedule = document(&host.id("cron"), "u/c/1", doc! {"schedule": "0 * * * *"});
    host.mongo.insert(SCHEDULES, [schedule]);
    let job = host.id("job");
    let ended = doc! {"id": &job, "status": "completed", "success": true, "told": true};
    host.mongo.insert(JOBS, [ended]);
    host.begin();
    host.states(&bots, "running");
    for bot in &bots {
        wait_for("a state in the store", LONG, || {
            (host.saved(bot) > 0).then_some(())
        });
    }
    host.ok(&["stop", &bots[2]]);
    host.state(&bots[2], "stopped");
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("stack.backup");
    let path = backup.to_str().unwrap().to_owned();
    is_whole(&host, &path);
    let inside = entries(&backup);
    let kept = documents(&host.mongo, BOTS);
    is_not_put_under_what_runs(&mut host, &path, &bots);
    if take_down(&mut host, &bots).is_none() {
        return;
    }
    let said = host.ok(&["restore", &path]);
    assert!(said.contains("is put back"), "{said}");
    assert_eq!(documents(&host.mongo, BOTS), kept);
    assert_eq!(host.mongo.all(SCHEDULES).len(), 1);
    assert_eq!(host.mongo.all(JOBS).len(), 1);
    has_states_of(&host, &inside, &bots);
    let again = host.ok(&["restore", &path]);
    assert!(again.contains("; 0 of it"), "{again}");
    // What has become of a job since then is not undone.
    host.mongo.update(
        JOBS,
        doc! {"id": &job},
        doc! {"$set": {"status": "cancelled"}},
    );
    host.ok(&["restore", &path]);
    let job = &host.mongo.all(JOBS)[0];
    assert!(
        job.get_str("status")
            .is_ok_and(|status| status == "cancelled"),
        "{job}"
    );

    let saved: Vec<u64> = bots.iter().map(|bot| host.saved(bot)).collect();
    assert!(saved.iter().all(|count| *count > 0), "{saved:?}");
    host.begin();
    host.states(&bots[..2], "running");
    for (bot, saved) in bots[..2].iter().zip(&saved) {
        host.container(bot)
            .says(&format!("BEGAN {bot} at {saved} step 1"), LONG);
    }
    host.state(&bots[2], "stopped");
    host.ok(&["start", &bots[2]]);
    host.container(&bots[2])
        .says(&format!("at {} step 1", saved[2]), LONG);
}

/// Makes a backup and looks at it from all sides.
fn is_whole(host: &Stack, path: &str) {
    let backup = Path::new(path);
    let folder = backup.parent().unwrap();
    let output = host.run(&["backup", path, "--history", "--logs"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("5 documents") && said.contains("3 states"),
        "{said}"
    );
    // The schedule's code was never there.
    assert!(said.contains("not in it: bundle u/c/1"), "{said}");
    assert!(
        said.contains("keep it as you keep those") && !said.contains("hunter2"),
        "{said}"
    );
    assert_eq!(
        backup.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        1,
        "nothing beside it"
    );
    let whole = host.ok(&["backup", "--verify", path]);
    assert!(
        whole.contains("is whole") && whole.contains(host.name()),
        "{whole}"
    );
    let inside = entries(backup);
    assert!(
        inside.keys().any(|name| name.contains("/.the0/history/")),
        "{:?}",
        inside.keys()
    );
    let piped = host.run(&["backup", "-"]);
    assert!(piped.status.success());
    fs::write(folder.join("piped"), &piped.stdout).unwrap();
    host.ok(&["backup", "--verify", folder.join("piped").to_str().unwrap()]);
}

/// Bots run on without the agent: nothing is put back under them.
fn is_not_put_under_what_runs(host: &mut Stack, path: &str, bots: &[String]) {
    let running = host.run(&["restore", path]);
    let why = text(&running.stderr);
    assert!(why.contains("another agent"), "{why}");
    host.end();
    let running = host.run(&["restore", path]);
    let why = text(&running.stderr);
    let unchanged = why.contains("nothing was changed");
    assert!(!running.status.success() && unchanged, "{why}");
    for (bot, is_named) in [(&bots[0], true), (&bots[1], true), (&bots[2], false)] {
        assert_eq!(why.contains(&host.container(bot).name), is_named, "{why}");
    }
}

/// Everything goes: containers, volumes, the data folder, store and database.
fn take_down(host: &mut Stack, bots: &[String]) -> Option<()> {
    for bot in bots {
        host.container(bot).remove();
        for volume in host.volumes(bot) {
            host.docker.ask(["volume", "rm", "--force", &volume]);
        }
    }
    fs::remove_dir_all(host.data()).unwrap();
    let gateway = host.docker.gateway();
    (host.store, host.mongo) = (Minio::start_at(gateway)?, Mongo::start()?);
    Some(())
}

/// The store has the states of the backup, current and older ones.
fn has_states_of(host: &Stack, inside: &BTreeMap<String, Vec<u8>>, bots: &[String]) {
    for bot in bots {
        let state = format!("{bot}/state.tar.gz");
        let object = host.objects().get("bot-state", &state).unwrap();
        let before = files(&inside[&format!("states/{state}")]);
        assert_eq!(files(&object.bytes), before, "{bot}");
        let history = format!("{bot}/.the0/history/");
        let older = host.objects().list("bot-state", &history);
        let history = format!("states/{history}");
        let before = inside.keys().filter(|name| name.starts_with(&history));
        assert_eq!(older.len(), before.count(), "{older:?}");
    }
}

fn documents(mongo: &Mongo, place: &str) -> Vec<Document> {
    mongo.all(place)
}

/// A store and a database with bots in them, none of which runs.
struct World {
    dir: TempDir,
    store: Store,
    mongo: Mongo,
}

impl World {
    fn new() -> Option<Self> {
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
            store: Minio::start()?,
            mongo: Mongo::start()?,
        })
    }

    /// Some bots, each with code, a document and a state of `size` bytes.
    fn with_bots(count: usize, size: usize) -> Option<Self> {
        let world = Self::new()?;
        let ids = (0..count).map(|n| format!("bot{n:02}"));
        let documents = ids.clone().zip(0u16..).map(|(id, n)| {
            let config = doc! {"n": f64::from(n)};
            document(&id, &format!("u/{id}/1.0.0"), config)
        });
        world.mongo.insert(BOTS, documents);
        for id in ids {
            let key = format!("u/{id}/1.0.0");
            let code = noise(size / 4 + 10);
            world.objects().put("custom-bots", &key, &code);
            world.state(&id, &noise(size));
        }
        Some(world)
    }

    fn objects(&self) -> &tests::servers::Client {
        self.store.client()
    }

    /// Gives a bot a state, as the platform's API does: nothing is noted about it.
    fn state(&self, bot: &str, content: &[u8]) {
        let state = archive(&[(".the0-state/data.json", content)]);
        self.objects()
            .put("bot-state", &format!("{bot}/state.tar.gz"), &state);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("agent"));
        command.args(args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("THE0_DATA", self.dir.path().join("data"));
        command.env("MONGO_URI", self.mongo.uri());
        command.env("DOCKER_HOST", "unix:///no/such/docker.sock");
        command.envs(self.store.environment());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stderr)
    }

    fn backup(&self) -> PathBuf {
        let path = self.dir.path().join("backup");
        self.ok(&["backup", path.to_str().unwrap()]);
        path
    }

    /// Everything that there is, states by what is in them.
    fn all(&self) -> (Vec<Document>, BTreeMap<String, Files>) {
        let mut objects = BTreeMap::new();
        for bucket in BUCKETS {
            for key in self.objects().list(bucket, "") {
                let bytes = self.objects().get(bucket, &key).unwrap().bytes;
                let content = if key.ends_with(".tar.gz") {
                    files(&bytes)
                } else {
                    BTreeMap::from([(String::new(), bytes)])
                };
                objects.insert(format!("{bucket}/{key}"), content);
            }
        }
        (self.mongo.all(BOTS), objects)
    }
}

#[test]
fn what_a_person_has_stopped_is_in_a_backup_of_any_folder_and_comes_back_for_an_agent_on_any() {
    let Some(source) = World::with_bots(2, 1000) else {
        return;
    };
    let word = |off: bool| doc! {"off": off, "at": DateTime::from_millis(1_700_000_000_000)};
    // Said to an agent on another folder.
    let said = doc! {"_id": "orders", "beat": 4_i64, "bots": {"bot00": word(true), "bot01": word(false)}, "switch": word(true)};
    source.mongo.insert("bot_runner.the0", [said]);
    let backup = source.backup();
    let path = backup.to_str().unwrap();
    let Some(target) = World::new() else { return };
    let said = target.ok(&["restore", "--no-docker", path]);
    assert!(said.contains("until `agent start --all`"), "{said}");
    let orders = || {
        let all = target.mongo.all("bot_runner.the0");
        let orders = all
            .into_iter()
            .find(|it| it.get_str("_id").is_ok_and(|id| id == "orders"));
        orders.expect("the words of people")
    };
    let is_off = |orders: &Document, bot: &str| {
        let bots = orders.get_document("bots").unwrap();
        bots.get_document(bot)
            .is_ok_and(|word| word.get_bool("off").unwrap())
    };
    let restored = orders();
    assert!(is_off(&restored, "bot00") && !is_off(&restored, "bot01"));
    let switch = restored.get_document("switch").unwrap();
    assert!(switch.get_bool("off").unwrap());
    let again = target.ok(&["restore", "--no-docker", path]);
    assert!(again.contains("; 0 of it"), "{again}");
    assert_eq!(orders(), restored);

    // What was said since then is undone by force only, and of bots that are not in it by nothing.
    let later = DateTime::from_millis(DateTime::now().timestamp_millis() + 1);
    let off = doc! {"off": true, "at": later};
    let other = doc! {"$set": {"bots.bot01": &off, "bots.younger": &off, "beat": 9_i64}};
    target
        .mongo
        .update("bot_runner.the0", doc! {"_id": "orders"}, other);
    let why = target.fails(&["restore", "--no-docker", path]);
    let named = "the stop of bot01, which would run again";
    assert!(why.contains(named), "{why}");
    assert!(is_off(&orders(), "bot01"));
    target.ok(&["restore", "--no-docker", "--force", path]);
    assert!(is_off(&orders(), "bot00") && !is_off(&orders(), "bot01"));
    assert!(is_off(&orders(), "younger"));

    // One of a time when all might run lets none run where all are held.
    let may_run = doc! {"$set": {"switch": {"off": false, "at": later}}};
    source
        .mongo
        .update("bot_runner.the0", doc! {"_id": "orders"}, may_run);
    fs::remove_file(&backup).unwrap();
    source.backup();
    let said = target.ok(&["restore", "--no-docker", path]);
    assert!(said.contains("until `agent start --all`"), "{said}");
    let held = orders();
    let switch = held.get_document("switch").unwrap();
    assert!(switch.get_bool("off").unwrap());
}

#[test]
fn a_damaged_file_is_refused_and_nothing_is_changed() {
    let Some(source) = World::with_bots(2, 50_000) else {
        return;
    };
    let backup = source.backup();
    let bytes = fs::read(&backup).unwrap();
    let Some(target) = World::new() else { return };
    let before = target.all();
    let path = backup.to_str().unwrap();
    let why = target.fails(&["restore", path]);
    assert!(
        why.contains("--no-docker") && why.contains("nothing was changed"),
        "{why}"
    );
    for cut in [0, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&backup, &bytes[..cut]).unwrap();
        assert!(
            target
                .fails(&["restore", "--no-docker", path])
                .contains("nothing was changed")
        );
        target.fails(&["backup", "--verify", path]);
    }
    for at in [bytes.len() / 4, bytes.len() / 2, bytes.len() - 20] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&backup, &changed).unwrap();
        let why = target.fails(&["restore", "--no-docker", path]);
        assert!(why.contains("nothing was changed"), "{why}");
    }
    assert_eq!(target.all(), before);
    fs::write(&backup, &bytes).unwrap();
    target.ok(&["restore", "--no-docker", path]);
    assert_eq!(target.all(), source.all());
}

#[test]
fn what_is_there_and_differs_is_named_and_replaced_only_by_force_with_the_state_kept() {
    let Some(source) = World::with_bots(3, 1000) else {
        return;
    };
    let backup = source.backup();
    let path = backup.to_str().unwrap();
    let Some(target) = World::new() else { return };
    target.mongo.insert(
        BOTS,
        [document("bot00", "u/other/1", doc! {"api_key": "hunter2"})],
    );
    target
        .objects()
        .put("custom-bots", "u/bot01/1.0.0", b"other code");
    target.state("bot02", b"other state");
    let before = target.all();
    let why = target.fails(&["restore", "--no-docker", path]);
    for what in [
        "3 things",
        "id bot00",
        "u/bot01/1.0.0",
        "the state of bot bot02",
        "--force",
    ] {
        assert!(why.contains(what), "{what}: {why}");
    }
    assert!(!why.contains("hunter2"), "{why}");
    assert_eq!(target.all(), before);
    target.ok(&["restore", "--no-docker", "--force", path]);
    let (documents, mut objects) = target.all();
    let kept = objects
        .keys()
        .find(|key| key.contains("bot02/.the0/history/"))
        .cloned();
    let kept = objects.remove(&kept.expect("an older state")).unwrap();
    assert_eq!(kept[".the0-state/data.json"], b"other state");
    let (theirs, their_objects) = source.all();
    assert_eq!(objects, their_objects);
    let without_id = |mut document: Document| {
        document.remove("_id");
        document
    };
    let compare =
        |all: Vec<Document>| -> Vec<Document> { all.into_iter().map(without_id).collect() };
    assert_eq!(compare(documents), compare(theirs));
}

#[test]
fn nothing_is_put_back_while_an_agent_elsewhere_acts_but_by_force() {
    let Some(world) = World::with_bots(1, 1000) else {
        return;
    };
    let backup = world.backup();
    let path = backup.to_str().unwrap();
    world.mongo.delete(BOTS, doc! {});
    let lease = |minutes: i64| {
        let at = |minutes: i64| {
            let now = DateTime::now().timestamp_millis();
            DateTime::from_millis(now + minutes * 60_000)
        };
        let held = doc! {"_id": "lease", "id": "lease", "holder": "h", "host": "elsewhere", "beat": 7_i64,
        "since": DateTime::from_millis(1_700_000_000_000), "until": at(minutes)};
        world.mongo.put("bot_runner.the0", &held);
    };
    lease(60);
    let why = world.fails(&["restore", "--no-docker", path]);
    for what in [
        "elsewhere",
        "2023-11-14T22:13:20",
        "--force",
        "nothing was changed",
    ] {
        assert!(why.contains(what), "{what}: {why}");
    }
    assert!(world.mongo.all(BOTS).is_empty());
    world.ok(&["restore", "--no-docker", "--force", path]);
    assert_eq!(world.mongo.all(BOTS).len(), 1);

    world.mongo.delete(BOTS, doc! {});
    lease(-1);
    world.ok(&["restore", "--no-docker", path]);
    assert_eq!(
        world.mongo.all(BOTS).len(),
        1,
        "one that is gone is no hindrance"
    );
}

#[test]
fn a_backup_that_is_killed_leaves_no_file_of_its_name_and_the_next_one_is_whole() {
    let Some(world) = World::with_bots(30, 300_000) else {
        return;
    };
    let path = world.dir.path().join("backup");
    let words = ["backup", path.to_str().unwrap()];
    let mut killed = 0;
    for n in 1..12 {
        let begun = Instant::now();
        world.ok(&words);
        let whole = begun.elapsed();
        fs::remove_file(&path).unwrap();
        let mut backup = Process::start(&mut world.command(&words));
        std::thread::sleep(whole * n / 13);
        backup.0.kill().unwrap();
        killed += u32::from(backup.0.wait().unwrap().code().is_none());
        if path.exists() {
            world.ok(&["backup", "--verify", path.to_str().unwrap()]);
            fs::remove_file(&path).unwrap();
        }
    }
    assert!(killed >= 3, "{killed} of 11 were killed in the middle");
    world.ok(&words);
    world.ok(&["backup", "--verify", path.to_str().unwrap()]);
    let names = fs::read_dir(world.dir.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["backup"], "nothing that was half written is left");
}

#[test]
fn a_restore_that_is_killed_is_gone_on_with_until_all_is_there() {
    let Some(source) = World::with_bots(20, 100_000) else {
        return;
    };
    let backup = source.backup();
    let words = ["restore", "--no-docker", backup.to_str().unwrap()];
    let Some(target) = World::new() else { return };
    let end = Instant::now() + LONG;
    let mut halves = 0;
    for n in 1u32.. {
        assert!(Instant::now() < end, "it does not come to an end");
        let mut restore = Process::start(&mut target.command(&words));
        let deadline = Instant::now() + Duration::from_millis(60) * n;
        let status = loop {
            if let Some(status) = restore.0.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > deadline {
                restore.0.kill().unwrap();
                restore.0.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if let Some(status) = status {
            assert!(status.success());
            break;
        }
        let states = target.objects().list("bot-state", "").len();
        halves += u32::from(states > 0 && states < 20);
        // No agent could start a bot whose state is not there.
        assert!(target.mongo.all(BOTS).is_empty() || states == 20);
    }
    assert!(halves > 0, "it was never killed in the middle");
    assert_eq!(target.all(), source.all());
    assert!(target.ok(&words).contains("; 0 of it"));
}

#[test]
fn bots_that_were_deployed_into_a_folder_come_back_with_their_states() {
    let dir = tempfile::tempdir().unwrap();
    let agent = |data: &str, args: &[&str]| {
        let mut command = Command::new(bin("agent"));
        command
            .args(args)
            .env_clear()
            .env("THE0_DATA", dir.path().join(data));
        let output = run(&mut command);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    let mut command = Command::new(bin("agent"));
    command.args(["backup", "-"]).env_clear();
    command.env("THE0_DATA", dir.path().join("none"));
    let empty = run(&mut command);
    assert!(!empty.status.success(), "nothing passes for a backup");
    assert!(
        text(&empty.stderr).contains("set MONGO_URI"),
        "{}",
        text(&empty.stderr)
    );
    let bot = dir.path().join("bot");
    fs::create_dir(&bot).unwrap();
    let config = "name: watcher\nversion: 1.0.0\nruntime: python3.11\ntype: realtime\nentrypoints:\n  bot: main.py\n";
    fs::write(bot.join("bot-config.yaml"), config).unwrap();
    fs::write(bot.join("main.py"), "def main(id, config): pass\n").unwrap();
    agent("old", &["deploy", bot.to_str().unwrap()]);
    let state = dir.path().join("state.tar.gz");
    let mut file = File::create(&state).unwrap();
    file.write_all(&archive(&[(".the0-state/n.json", b"42")]))
        .unwrap();
    agent("old", &["state", "put", "watcher", state.to_str().unwrap()]);
    let backup = dir.path().join("backup");
    let backup = backup.to_str().unwrap();
    agent("old", &["backup", backup]);
    assert!(
        agent("old", &["backup", "--verify", backup]).contains("1 bundles, 1 documents, 1 states")
    );
    let bundles = |data: &str| {
        let mut found = Vec::new();
        let mut folders = vec![dir.path().join(data).join("store/custom-bots")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(fs::read(path).unwrap());
                }
            }
        }
        found
    };
    let code = bundles("old");
    assert_eq!(code.len(), 1);
    fs::remove_dir_all(dir.path().join("old")).unwrap();
    agent("new", &["restore", backup]);
    assert!(agent("new", &["restore", backup]).contains("; 0 of it"));
    let out = dir.path().join("out.tar.gz");
    agent("new", &["state", "get", "watcher", out.to_str().unwrap()]);
    assert_eq!(files(&fs::read(out).unwrap())[".the0-state/n.json"], b"42");
    assert_eq!(bundles("new"), code);
}
