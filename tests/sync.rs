//! `sync` as its users see it: the real binary on a real disk, killed at will.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::record::Outcome;
use contract::{exit, logs};
use nix::sys::signal::Signal;
use tests::volume::{LONG, Volume, World, content};
use tests::{Process, SOON, bin, read, run, skip, text, wait_for};

#[path = "kills.rs"]
mod kills;

#[test]
fn what_a_bot_writes_is_there_after_a_restart_elsewhere() {
    let world = World::new();
    let first = world.volume("one");
    first.fetched();
    let mut watch = first.watch();
    first.put("a", "1");
    first.put("d/b", "2");
    fs::create_dir(first.state().join("empty")).unwrap();
    symlink("/nowhere/else", first.state().join("link")).unwrap();
    fs::set_permissions(first.state().join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    let all = content(&[
        ("a", "1"),
        ("d/", ""),
        ("d/b", "2"),
        ("empty/", ""),
        ("link", ""),
    ]);
    first.wait_pushed(&all);
    first.end_run(1);
    wait_for("the run's end", SOON, || {
        first.synced().filter(|synced| synced.run == 1)
    });
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(SOON), 0);

    let second = world.volume("two");
    second.fetched();
    assert_eq!(read(&second.state().join("d/b")), "2");
    assert!(second.state().join("empty").is_dir());
    assert_eq!(
        fs::read_link(second.state().join("link")).unwrap(),
        Path::new("/nowhere/else")
    );
    assert_eq!(
        fs::metadata(second.state().join("a")).unwrap().mode() & 0o777,
        0o640
    );
    assert!(!second.state().join(".the0-new").exists());
}

#[test]
fn deletions_and_an_emptied_state_persist() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let _watch = volume.watch();
    volume.put("a", "1");
    volume.put("b", "2");
    volume.wait_pushed(&content(&[("a", "1"), ("b", "2")]));
    fs::remove_file(volume.state().join("a")).unwrap();
    volume.wait_pushed(&content(&[("b", "2")]));
    fs::remove_file(volume.state().join("b")).unwrap();
    volume.wait_pushed(&content(&[]));
    let other = world.volume("two");
    other.fetched();
    assert_eq!(fs::read_dir(other.state()).unwrap().count(), 0);
}

#[test]
fn a_first_run_with_nothing_pushes_nothing_and_unchanged_state_is_never_sent_again() {
    let world = World::new();
    let volume = world.volume("one");
    volume.session(|_| ());
    assert!(!volume.object().exists());
    volume.session(|volume| volume.put("a", "1"));
    let seen = fs::metadata(volume.object()).unwrap();
    volume.session(|volume| volume.put("a", "1"));
    world.volume("two").session(|_| ());
    let now = fs::metadata(volume.object()).unwrap();
    assert_eq!(
        (seen.ino(), seen.mtime_nsec()),
        (now.ino(), now.mtime_nsec())
    );
}

#[test]
fn the_disk_wins_over_what_it_is_based_on_and_loses_to_anything_else() {
    let world = World::new();
    let (one, two) = (world.volume("one"), world.volume("two"));
    one.session(|volume| volume.put("a", "1"));
    // Written while nothing watched.
    one.put("a", "2");
    one.fetched();
    assert_eq!(read(&one.state().join("a")), "2");
    two.session(|volume| volume.put("a", "3"));
    one.fetched();
    assert_eq!(read(&one.state().join("a")), "3");
    assert_eq!(one.kept("local"), [content(&[("a", "2")])]);
    // A volume that was lost is not a state that was emptied.
    fs::remove_dir_all(one.state()).unwrap();
    one.fetched();
    assert_eq!(read(&one.state().join("a")), "3");
}

#[test]
fn a_store_that_goes_away_is_waited_for() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let _watch = volume.watch();
    volume.put("a", "1");
    volume.wait_pushed(&content(&[("a", "1")]));
    let away = world.dir.path().join("away");
    fs::rename(volume.folder(), &away).unwrap();
    volume.put("a", "2");
    let failed = volume.wait_outcome(Outcome::Failed);
    assert!(failed.error.unwrap().contains("store"));
    fs::rename(&away, volume.folder()).unwrap();
    volume.wait_pushed(&content(&[("a", "2")]));
    volume.wait_outcome(Outcome::Ok);

    fs::rename(volume.folder(), &away).unwrap();
    let other = world.volume("two").with("THE0_FETCH_DEADLINE", "300ms");
    let output = other.fetch();
    assert!(!output.status.success() && text(&output.stderr).contains("store"));
}

#[test]
fn a_second_instance_fences_the_first_and_the_first_never_wins() {
    let world = World::new();
    let (one, two) = (world.volume("one"), world.volume("two"));
    one.fetched();
    let first = one.watch();
    one.put("a", "1");
    one.wait_pushed(&content(&[("a", "1")]));
    first.signal(Signal::SIGSTOP);
    two.fetched();
    let _second = two.watch();
    two.put("a", "2");
    two.wait_pushed(&content(&[("a", "2")]));
    one.put("a", "late");
    first.signal(Signal::SIGCONT);
    let fenced = one.wait_outcome(Outcome::Fenced);
    assert_eq!(fenced.generation, 1);
    assert_eq!(one.archive().unwrap(), content(&[("a", "2")]));
    assert_eq!(one.kept("fenced"), [content(&[("a", "late")])]);
}

#[test]
fn a_losers_late_write_is_kept_and_overruled() {
    let world = World::new();
    let (one, two) = (world.volume("one"), world.volume("two"));
    one.session(|volume| volume.put("a", "1"));
    two.fetched();
    // A push of the first that was under way when the second claimed: its metadata, its content.
    let meta = world
        .dir
        .path()
        .join("store/.the0-meta/bot-state/b1/state.tar.gz");
    let note = fs::read_dir(&meta).unwrap().next().unwrap().unwrap().path();
    let note = fs::read_to_string(note).unwrap();
    let new = world.dir.path().join("late.tar.gz");
    fs::copy(one.object(), &new).unwrap();
    let found = fs::metadata(&new).unwrap();
    let mtime = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    fs::write(
        meta.join(format!("{}-{mtime}-{}.json", found.ino(), found.len())),
        note,
    )
    .unwrap();
    fs::rename(&new, one.object()).unwrap();

    two.put("a", "2");
    let _watch = two.watch();
    two.wait_pushed(&content(&[("a", "2")]));
    assert_eq!(two.history("late").len(), 1);
    assert_eq!(two.wait_outcome(Outcome::Ok).generation, 2);
}

#[test]
fn an_outside_edit_is_kept_and_the_own_state_goes_to_the_history() {
    let world = World::new();
    let volume = world.volume("one");
    volume.session(|volume| volume.put("a", "edited"));
    let edited = fs::read(volume.object()).unwrap();
    volume.session(|volume| volume.put("a", "1"));
    volume.fetched();
    let mut watch = volume.watch();
    wait_for("the first pass", SOON, || volume.synced());
    volume.put("a", "own");
    volume.wait_pushed(&content(&[("a", "own")]));
    fs::write(volume.object(), &edited).unwrap();
    volume.put("a", "newer");
    volume.wait_outcome(Outcome::Edited);
    assert_eq!(fs::read(volume.object()).unwrap(), edited);
    assert_eq!(volume.kept("edited"), [content(&[("a", "newer")])]);
    volume.end_run(7);
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    volume.fetched();
    assert_eq!(read(&volume.state().join("a")), "edited");
}

#[test]
fn an_edit_is_noticed_while_nothing_else_happens() {
    let world = World::new();
    let volume = world.volume("one");
    volume.session(|volume| volume.put("a", "1"));
    volume.fetched();
    let _watch = volume.watch();
    wait_for("the first pass", SOON, || volume.synced());
    let bytes = fs::read(volume.object()).unwrap();
    fs::write(volume.object(), bytes).unwrap();
    volume.wait_outcome(Outcome::Edited);
}

#[test]
fn a_corrupt_state_is_refused_with_the_way_back() {
    let world = World::new();
    let volume = world.volume("one");
    volume.session(|volume| volume.put("a", "1"));
    volume.session(|volume| volume.put("a", "2"));
    let mut bytes = fs::read(volume.object()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(volume.object(), &bytes).unwrap();
    let other = world.volume("two");
    let output = other.fetch();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(exit::STATE)), "{said}");
    let older = volume.history("start")[0].clone();
    let file = older.rsplit('/').next().unwrap();
    let key = file.strip_suffix(".tar.gz").unwrap();
    for part in ["fetched once more", "b1/state.tar.gz"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for command in ["agent state restore b1", "sync state restore"] {
        assert!(said.contains(&format!("{command} {key}")), "{said}");
    }
    assert_eq!(fs::read_dir(other.state()).unwrap().count(), 0);
    fs::copy(
        volume.folder().join("bot-state").join(older),
        volume.object(),
    )
    .unwrap();
    other.fetched();
    assert_eq!(read(&other.state().join("a")), "1");
}

#[test]
fn a_state_that_was_written_under_a_higher_limit_is_not_called_corrupt() {
    let volume = World::new().volume("one");
    let mut header = tar::Header::new_gnu();
    header.set_path("a").unwrap();
    header.set_size(2 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(header.as_bytes()).unwrap();
    fs::create_dir_all(volume.object().parent().unwrap()).unwrap();
    fs::write(volume.object(), packed.finish().unwrap()).unwrap();
    let output = volume.with("MAX_STATE_SIZE_MB", "5").fetch();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(exit::STATE)), "{said}");
    assert!(said.contains("raise MAX_STATE_SIZE_MB"), "{said}");
    assert!(!said.contains("corrupt"), "{said}");
}

#[test]
fn a_folder_where_the_state_or_the_claim_should_be_is_no_first_run() {
    for object in ["state.tar.gz", ".the0/claim"] {
        let world = World::new();
        let volume = world.volume("one");
        let path = volume.folder().join("bot-state/b1").join(object);
        fs::create_dir_all(&path).unwrap();
        let output = volume.fetch();
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(path.to_str().unwrap()),
            "{said}"
        );
        assert!(!said.contains("first run"), "{said}");
        fs::remove_dir(&path).unwrap();
        volume.fetched();
        let _watch = volume.watch();
        volume.wait_outcome(Outcome::Ok);
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).unwrap();
        volume.end_run(1);
        let synced = volume.wait_outcome(Outcome::Failed);
        assert!(synced.error.unwrap().contains(path.to_str().unwrap()));
    }
}

#[test]
fn what_cannot_be_saved_is_named_and_the_rest_is_saved() {
    let world = World::new();
    let volume = world.volume("one").with("MAX_STATE_FILE_SIZE_MB", "1");
    volume.fetched();
    nix::unistd::mkfifo(&volume.state().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(volume.state().join("socket")).unwrap();
    volume.put("large", vec![1; (1 << 20) + 1]);
    volume.put("secret", "x");
    fs::set_permissions(
        volume.state().join("secret"),
        fs::Permissions::from_mode(0o0),
    )
    .unwrap();
    volume.put("a", "1");
    let _watch = volume.watch();
    let synced = volume.wait_outcome(Outcome::Ok);
    let named = synced.left_out.join("\n");
    for part in ["fifo: a FIFO", "socket: a socket", "large: 1048577 bytes"] {
        assert!(named.contains(part), "{named}");
    }
    let saved = volume.archive().unwrap();
    assert_eq!(saved["a"], b"1");
    if nix::unistd::geteuid().is_root() {
        skip("an unreadable file is named", "root reads every file");
        assert_eq!(saved.len(), 2);
    } else {
        assert!(named.contains("secret: ") && saved.len() == 1, "{named}");
    }
}

#[test]
fn a_state_over_its_limit_is_not_pushed_and_the_last_good_one_stays() {
    let world = World::new();
    let volume = world.volume("one").with("MAX_STATE_SIZE_MB", "1");
    volume.session(|volume| volume.put("a", "1"));
    volume.fetched();
    let _watch = volume.watch();
    volume.put("large", vec![1; (1 << 20) + 1]);
    let synced = volume.wait_outcome(Outcome::TooLarge);
    assert!(synced.error.unwrap().contains("MAX_STATE_SIZE_MB"));
    assert_eq!(volume.archive().unwrap(), content(&[("a", "1")]));
    fs::remove_file(volume.state().join("large")).unwrap();
    volume.wait_outcome(Outcome::Ok);
}

#[test]
fn a_file_of_a_tebibyte_of_nothing_is_over_the_limit_and_never_read() {
    let world = World::new();
    let volume = world.volume("one");
    volume.session(|volume| volume.put("a", "1"));
    let sparse = fs::File::create(volume.state().join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    volume.fetched();
    let _watch = volume.watch();
    volume.wait_outcome(Outcome::TooLarge);
    assert_eq!(volume.archive().unwrap(), content(&[("a", "1")]));

    // Where it is not what the store's was made from, it is neither replaced nor read to be kept.
    let other = world.volume("two");
    fs::create_dir_all(other.state()).unwrap();
    let sparse = fs::File::create(other.state().join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let output = other.fetch();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(exit::STATE)), "{said}");
    assert!(said.contains("MAX_STATE_SIZE_MB"), "{said}");
    assert!(other.state().join("sparse").exists());
}

#[test]
fn a_state_over_its_limit_that_is_fenced_is_said_to_be_fenced() {
    let world = World::new();
    let volume = world.volume("one").with("MAX_STATE_SIZE_MB", "1");
    volume.fetched();
    let _watch = volume.watch();
    volume.put("large", vec![1; (1 << 20) + 1]);
    volume.wait_outcome(Outcome::TooLarge);
    world.volume("two").fetched();
    volume.end_run(1);
    let said = volume.wait_outcome(Outcome::Fenced).error.unwrap();
    let both = said.contains("has claimed the bot") && said.contains("MAX_STATE_SIZE_MB");
    assert!(both, "{said}");
    assert!(volume.history("fenced").is_empty());
    // It stays so, also when there is log to ship.
    let segment = volume.var("logs").join(logs::segment_name(1));
    fs::write(segment, "2026-11-20T08:00:00.000000Z last words\n").unwrap();
    volume.end_run(2);
    let synced = wait_for("the log", LONG, || {
        volume.synced().filter(|s| s.log.offset > 0)
    });
    assert_eq!(synced.outcome, Outcome::Fenced);
}

#[test]
fn term_waits_for_the_bots_end_and_pushes_again() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let mut watch = volume.watch();
    volume.put("a", "1");
    volume.wait_pushed(&content(&[("a", "1")]));
    watch.signal(Signal::SIGTERM);
    volume.put("a", "2");
    volume.put("last", "words");
    volume.end_run(4);
    assert_eq!(watch.code(LONG), 0);
    assert_eq!(
        volume.archive().unwrap(),
        content(&[("a", "2"), ("last", "words")])
    );
    let synced = volume.synced().unwrap();
    assert_eq!((synced.run, synced.outcome), (4, Outcome::Ok));
}

#[test]
fn the_last_push_is_tried_until_it_is_done_where_that_is_asked_for() {
    let world = World::new();
    let volume = world.volume("one").with("THE0_DRAIN", "300ms");
    let away = world.dir.path().join("away");
    for options in [&[][..], &["--until-saved"]] {
        volume.fetched();
        let mut command = volume.command("watch");
        let mut watch = Process::start(command.args(options).stderr(Stdio::null()));
        wait_for("the first pass", SOON, || volume.synced());
        fs::rename(volume.folder(), &away).unwrap();
        volume.put("a", options.len().to_string());
        volume.end_run(1);
        volume.wait_outcome(Outcome::Failed);
        watch.signal(Signal::SIGTERM);
        if options.is_empty() {
            assert_eq!(watch.code(SOON), 0);
        } else {
            std::thread::sleep(Duration::from_secs(2));
            assert!(matches!(watch.0.try_wait(), Ok(None)));
        }
        fs::rename(&away, volume.folder()).unwrap();
        assert_eq!(watch.code(SOON), 0);
        fs::remove_file(volume.var("synced.json")).unwrap();
        fs::remove_file(volume.var("done")).unwrap();
    }
    assert_eq!(volume.archive().unwrap(), content(&[("a", "1")]));
}

#[test]
fn a_fetch_does_not_touch_a_state_that_is_being_watched() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let _watch = volume.watch();
    wait_for("the first pass", SOON, || volume.synced());
    let output = volume.fetch();
    assert_eq!(output.status.code(), Some(i32::from(exit::STATE)));
    assert!(text(&output.stderr).contains("another sync"));
}

#[test]
fn keys_come_by_standard_input_and_are_never_said() {
    let world = World::new();
    let volume = world.volume("one").with("LOG_LEVEL", "debug");
    let line = r#"{"type":"keys","v":1,"keys":{"MINIO_SECRET_KEY":"hunter2"}}"#;
    for verb in ["fetch", "watch"] {
        let mut command = volume.command(verb);
        command
            .arg("--keys-from-stdin")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut stdin = process.0.stdin.take().unwrap();
        writeln!(stdin, "{line}\nnonsense hunter2\n{line}").unwrap();
        drop(stdin);
        if verb == "watch" {
            volume.end_run(1);
            wait_for("the first pass", SOON, || volume.synced());
            let environment = read(Path::new(&format!("/proc/{}/environ", process.pid())));
            assert!(!environment.contains("hunter2"));
            process.signal(Signal::SIGTERM);
        }
        assert_eq!(process.code(LONG), 0, "{verb}");
        let mut said = String::new();
        process
            .0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn without_a_store_it_says_what_to_set() {
    let volume = World::new().volume("one").with("THE0_STORE", "");
    let output = volume.fetch();
    assert_eq!(output.status.code(), Some(i32::from(exit::BAD_LAUNCH)));
    assert!(text(&output.stderr).contains("THE0_STORE"));
    let output = run(&mut volume.command("--version"));
    assert!(text(&output.stdout).starts_with("sync "));
    assert_eq!(
        run(&mut volume.command("push")).status.code(),
        Some(i32::from(exit::USAGE))
    );
}

#[test]
fn a_state_that_never_rests_is_pushed_all_the_same_and_whole_when_it_does() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let _watch = volume.watch();
    let over = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0usize;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                fs::write(volume.state().join("busy"), n.to_string()).unwrap();
                fs::write(
                    volume.state().join("large"),
                    vec![b'x'; 1_100_000 + (n % 9)],
                )
                .unwrap();
            }
            n
        });
        let first = wait_for("a push of a busy state", LONG, || volume.archive());
        assert!(first.contains_key("busy") || first.contains_key("large"));
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    // Its pace is that of the pushes before, which were slow; the end of a run does not wait for it.
    volume.end_run(2);
    wait_for("the state at rest", LONG, || {
        let found = volume.archive()?;
        let whole = found.get("large")?.len() == 1_100_000 + (last % 9);
        (found.get("busy")? == last.to_string().as_bytes() && whole).then_some(())
    });
    wait_for("the run's end", LONG, || {
        volume.synced().filter(|synced| synced.run == 2)
    });
    world.volume("two").fetched();
}

#[test]
fn much_log_is_shipped_before_its_minute_is_over() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let _watch = volume.watch();
    wait_for("the first pass", SOON, || volume.synced());
    let line = format!("2026-11-20T08:00:00.000000Z {}\n", "x".repeat(999));
    fs::write(
        volume.var("logs").join(logs::segment_name(1)),
        line.repeat(300),
    )
    .unwrap();
    let day = volume.folder().join("bot-logs/logs/b1/20261120.log");
    wait_for("the log", LONG, || {
        (read(&day).lines().count() == 300).then_some(())
    });
}

/// A process that has `path` mapped and writes each line it is given there, and says so.
fn mapping(path: &Path) -> std::process::Child {
    let script = "import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 0)
for line in sys.stdin:
    memory[:] = line.strip().encode()
    print('written', flush=True)";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    child.expect("python3")
}

/// On tmpfs the first write through a mapping changes the file's time stamps, and those after it do not.
#[test]
fn what_is_written_through_a_mapping_is_saved_at_the_end_of_the_run() {
    let world = World::new();
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return skip("a write through a mapping is saved", "there is no /dev/shm");
    };
    let volume = world
        .volume("one")
        .with("STATE_PATH", memory.path().to_str().unwrap());
    volume.fetched();
    let path = memory.path().join("map");
    fs::write(&path, "0000").unwrap();
    let mut writer = mapping(&path);
    let mut write = |text: &str| {
        writeln!(writer.stdin.as_ref().unwrap(), "{text}").unwrap();
        let mut said = [0; 8];
        writer
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut said)
            .unwrap();
    };
    write("1111");
    // Old enough to be trusted when it is looked at.
    std::thread::sleep(Duration::from_millis(300));
    let stamps = || {
        fs::metadata(&path)
            .map(|m| (m.mtime_nsec(), m.ctime_nsec()))
            .unwrap()
    };
    let before = stamps();
    let mut watch = volume.watch();
    volume.wait_pushed(&content(&[("map", "1111")]));
    write("2222");
    if stamps() == before {
        // Found when something else is pushed, and then that is whole and comes to rest.
        fs::write(memory.path().join("b"), "b").unwrap();
        volume.wait_pushed(&content(&[("b", "b"), ("map", "2222")]));
        let notes = volume.folder().join(".the0-meta/bot-state/b1/state.tar.gz");
        for note in fs::read_dir(notes).unwrap() {
            assert!(!read(&note.unwrap().path()).contains("torn"));
        }
        write("3333");
        volume.end_run(1);
        wait_for("the run's end", LONG, || {
            volume.synced().filter(|synced| synced.run == 1)
        });
        assert_eq!(
            volume.archive(),
            Some(content(&[("b", "b"), ("map", "3333")]))
        );
    } else {
        skip(
            "a write through a mapping is saved",
            "it leaves a trace here",
        );
    }
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    writer.kill().and_then(|()| writer.wait()).unwrap();
}

/// The pause after a push is that of the state alone.
#[test]
fn a_state_that_rests_after_a_slow_push_does_not_hold_the_log_back() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let mut noise = vec![0; 12 << 20];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    random.read_exact(&mut noise).unwrap();
    volume.put("large", &noise);
    let _watch = volume.watch();
    wait_for("the push", LONG, || {
        volume.synced().filter(|synced| synced.digest.is_some())
    });
    let pushed = fs::metadata(volume.object()).unwrap().mtime_nsec();
    volume.put("a", "1");
    let line = format!("2026-11-20T08:00:00.000000Z {}\n", "x".repeat(999));
    let segment = volume.var("logs").join(logs::segment_name(1));
    fs::write(&segment, line.repeat(300)).unwrap();
    let size = fs::metadata(&segment).unwrap().len();
    let synced = wait_for("the log", SOON, || {
        volume.synced().filter(|synced| synced.log.offset == size)
    });
    assert_eq!((synced.outcome, synced.log.segment), (Outcome::Ok, 1));
    let day = volume.folder().join("bot-logs/logs/b1/20261120.log");
    assert_eq!(read(&day).lines().count(), 300);
    assert_eq!(fs::metadata(volume.object()).unwrap().mtime_nsec(), pushed);
}

/// Two writers make hints faster than they can be looked at.
#[test]
fn hints_that_never_end_keep_neither_a_push_nor_term_waiting() {
    let world = World::new();
    let volume = world.volume("one").with("THE0_DRAIN", "1s");
    volume.fetched();
    let mut watch = volume.watch();
    wait_for("the first pass", SOON, || volume.synced());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let write = |name: &str| {
            use std::os::unix::fs::FileExt;
            let open = |n: u8| fs::File::create(volume.state().join(format!("{name}{n}"))).unwrap();
            let files = [open(0), open(1)];
            while !stop.load(Ordering::Relaxed) {
                for file in &files {
                    file.write_all_at(b"x", 0).unwrap();
                }
            }
        };
        let pushed = {
            let _stop = kills::Stop(&stop);
            scope.spawn(move || write("a"));
            scope.spawn(move || write("b"));
            wait_for("the push", LONG, || volume.object().exists().then_some(()));
            watch.signal(Signal::SIGTERM);
            watch.code(Duration::from_secs(10))
        };
        assert_eq!(pushed, 0);
    });
}

#[test]
fn another_folder_at_the_states_path_is_not_pushed_and_not_taken_for_the_state() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    volume.put("a", "1");
    let mut watch = volume.watch();
    volume.wait_pushed(&content(&[("a", "1")]));
    fs::rename(volume.state(), volume.root.join("unmounted")).unwrap();
    fs::create_dir(volume.state()).unwrap();
    volume.end_run(1);
    let synced = volume.wait_outcome(Outcome::Failed);
    assert!(synced.error.unwrap().contains("another folder"));
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    assert_eq!(volume.archive(), Some(content(&[("a", "1")])));
    volume.fetched();
    assert_eq!(fs::read(volume.state().join("a")).unwrap(), b"1");
}

/// The bot can write in the log's folder where the kernel does not confine it; `sync` can read what the bot cannot.
#[test]
fn a_segment_of_the_log_that_is_no_file_is_not_published_and_not_waited_for() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let logs = volume.var("logs");
    fs::create_dir_all(&logs).unwrap();
    let segment = |number| logs.join(logs::segment_name(number));
    fs::write(volume.root.join("key"), "hunter2\n").unwrap();
    symlink(volume.root.join("key"), segment(1)).unwrap();
    nix::unistd::mkfifo(&segment(2), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(segment(3)).unwrap();
    fs::write(segment(4), "2026-11-20T08:00:00.000000Z hello\n").unwrap();
    volume.end_run(1);
    let mut watch = volume.watch();
    let day = volume.folder().join("bot-logs/logs/b1/20261120.log");
    wait_for("the log", LONG, || {
        read(&day).contains("hello").then_some(())
    });
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    assert_eq!(fs::read_dir(day.parent().unwrap()).unwrap().count(), 1);
    assert!(!read(&day).contains("hunter2"));
}

/// A volume that is a file system of its own has a `lost+found` of root's, which nobody else can move.
#[test]
fn what_a_file_system_keeps_at_its_root_is_not_part_of_the_state() {
    let world = World::new();
    let other = world.volume("other");
    other.session(|volume| volume.put("a", "1"));
    let volume = world.volume("one");
    fs::create_dir_all(volume.state().join("lost+found/x")).unwrap();
    volume.session(|_| {});
    assert_eq!(volume.archive(), Some(content(&[("a", "1")])));
    assert!(volume.state().join("lost+found/x").exists());
    assert!(volume.history("local").is_empty());
}

#[test]
fn a_reader_only_ever_sees_whole_states_that_the_bot_wrote() {
    kills::pushes(&World::new(), 0, 8);
}

#[test]
fn a_restore_that_is_killed_leaves_a_whole_state() {
    kills::restores(&World::new(), 8);
}

#[test]
fn each_log_line_arrives_once_on_its_day_however_often_sync_is_killed() {
    kills::log_lines(&World::new());
}

/// A writer whose disk is full cuts a batch it could not write whole, of which lines may have been shipped.
#[test]
fn a_log_that_is_cut_below_what_was_shipped_loses_and_doubles_no_line() {
    let world = World::new();
    let volume = world.volume("one");
    volume.fetched();
    let folder = volume.var("logs");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(logs::segment_name(1));
    let line = |n: u64| format!("2026-11-20T08:00:{n:02}.000000Z line {n:02}\n");
    let write = |range: std::ops::Range<u64>| {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        file.write_all(range.map(line).collect::<String>().as_bytes())
            .unwrap();
    };
    let cut = |lines: u64| {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(lines * line(0).len() as u64).unwrap();
    };
    let said = fs::File::create(volume.root.join("said")).unwrap();
    let mut watch = Process::start(volume.command("watch").stderr(said));
    let shipped = |run| {
        volume.end_run(run);
        wait_for("the log", LONG, || {
            let whole = fs::metadata(&path).unwrap().len();
            volume
                .synced()
                .filter(|s| s.run == run && s.log.offset == whole)
        });
    };
    write(0..6);
    shipped(1);
    // Back to the fourth line; then as long as before, shorter, and longer.
    for (run, first, end) in [(2, 10, 12), (3, 20, 21), (4, 30, 39)] {
        cut(4);
        write(first..end);
        shipped(run);
    }
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    let day = read(&volume.folder().join("bot-logs/logs/b1/20261120.log"));
    let found: Vec<_> = day
        .lines()
        .map(|line| &line[line.len() - 4..line.len() - 2])
        .collect();
    let expected = (0..6).chain(10..12).chain(20..21).chain(30..39);
    let expected: Vec<_> = expected.map(|n| format!("{n:02}")).collect();
    assert_eq!(found, expected);
    assert_eq!(
        read(&volume.root.join("said")).matches("was cut").count(),
        3
    );
}

#[test]
fn a_line_that_is_not_ended_waits_and_the_limit_of_a_day_is_said() {
    let world = World::new();
    let volume = world.volume("one").with("THE0_MAX_DAY_LOG_MB", "1");
    volume.fetched();
    let folder = volume.var("logs");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(logs::segment_name(1));
    fs::write(
        &path,
        "2026-11-20T08:00:00.000000Z one\n2026-11-20T08:00:00.000000Z tw",
    )
    .unwrap();
    let day = volume.folder().join("bot-logs/logs/b1/20261120.log");
    let _watch = volume.watch();
    volume.end_run(1);
    wait_for("the first line", LONG, || {
        read(&day).contains("one").then_some(())
    });
    assert!(!read(&day).contains("tw"));
    let mut more = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let long = format!("2026-11-20T08:00:01.000000Z {}\n", "x".repeat(200_000));
    more.write_all(format!("o\n{}", long.repeat(12)).as_bytes())
        .unwrap();
    volume.end_run(2);
    wait_for("the limit", LONG, || {
        read(&day).contains("THE0_MAX_DAY_LOG_MB").then_some(())
    });
    wait_for("all passed over", LONG, || {
        volume
            .synced()
            .filter(|s| s.log.offset == fs::metadata(&path).unwrap().len())
    });
    let size = read(&day).len();
    assert!(size > (1 << 20) - 300_000 && size < (1 << 20) + 1000);
    assert!(read(&day).contains("\"two\""));
    assert_eq!(read(&day).matches("THE0_MAX_DAY_LOG_MB").count(), 1);
}

/// Code of `files`, packed both ways.
fn bundles(files: &[(&str, &str)]) -> [Vec<u8>; 2] {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content.as_bytes()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    [
        zip.finish().unwrap().into_inner(),
        tar.into_inner().unwrap().finish().unwrap(),
    ]
}

fn store_code(volume: &Volume, key: &str, bytes: &[u8]) {
    let path = volume.folder().join("custom-bots").join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn code_is_fetched_in_both_formats_and_not_again_while_it_is_whole() {
    let world = World::new();
    for (n, bytes) in bundles(&[("main.py", "1"), ("lib/a.py", "2")])
        .iter()
        .enumerate()
    {
        let volume = world
            .volume(&format!("v{n}"))
            .with("CODE_FILE", &format!("u/bot/{n}"));
        fs::write(volume.root.join("code/old.py"), "old").unwrap();
        store_code(&volume, &format!("u/bot/{n}"), bytes);
        volume.fetched();
        let code = volume.root.join("code");
        assert_eq!(read(&code.join("lib/a.py")), "2");
        assert!(!code.join("old.py").exists());
        let seen = fs::metadata(code.join("main.py")).unwrap().ino();
        fs::write(code.join("result.json"), "{}").unwrap();
        volume.fetched();
        assert_eq!(fs::metadata(code.join("main.py")).unwrap().ino(), seen);
        fs::remove_file(code.join("lib/a.py")).unwrap();
        volume.fetched();
        assert_eq!(read(&code.join("lib/a.py")), "2");
        assert!(!code.join("result.json").exists());
    }
}

#[test]
fn a_native_entrypoint_is_made_executable_in_every_case() {
    let world = World::new();
    let [zip, _] = bundles(&[("bot", "#!"), ("ask", "#!")]);
    let base = world
        .volume("one")
        .with("RUNTIME", "gcc13")
        .with("ENTRYPOINT", "bot")
        .with("QUERY_ENTRYPOINT", "ask");
    let modes = |volume: &Volume| {
        ["bot", "ask"].map(|name| {
            let path = volume.root.join("code").join(name);
            fs::metadata(path).unwrap().mode() & 0o777
        })
    };
    for name in ["bot", "ask"] {
        fs::write(base.root.join("code").join(name), "#!").unwrap();
    }
    base.fetched();
    assert_eq!(modes(&base), [0o755; 2]);
    store_code(&base, "u/b/1", &zip);
    let fetched = base.with("CODE_FILE", "u/b/1");
    fetched.fetched();
    assert_eq!(modes(&fetched), [0o755; 2]);
}

#[test]
fn code_that_cannot_be_used_is_refused_and_the_old_code_stays() {
    let world = World::new();
    let volume = world.volume("one").with("CODE_FILE", "u/b/1");
    let refused = |parts: &[&str]| {
        let output = volume.fetch();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(exit::CODE)), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert_eq!(read(&volume.root.join("code/main.py")), "print()");
        assert_eq!(fs::read_dir(volume.root.join("code")).unwrap().count(), 1);
    };
    refused(&["u/b/1", "custom-bots", "does not exist"]);
    let [zip, tar] = bundles(&[("other.py", "1"), ("lib/x", "2")]);
    store_code(&volume, "u/b/1", &zip);
    refused(&["ENTRYPOINT main.py", "lib/, other.py"]);
    store_code(&volume, "u/b/1", &tar[..tar.len() - 9]);
    refused(&["u/b/1"]);
    store_code(&volume, "u/b/1", b"neither");
    refused(&["neither a zip nor a tar.gz nor a tar"]);
    let empty = world.volume("two").with("ENTRYPOINT", "nope.py");
    let output = empty.fetch();
    assert_eq!(output.status.code(), Some(i32::from(exit::CODE)));
    assert!(text(&output.stderr).contains("nope.py"));
}

#[test]
fn an_archive_is_unpacked_only_into_an_empty_folder() {
    let dir = tempfile::tempdir().unwrap();
    let [zip, _] = bundles(&[("a/b", "1")]);
    fs::write(dir.path().join("archive"), zip).unwrap();
    let unpack = |into: &str| {
        let mut command = Command::new(bin("sync"));
        run(command
            .arg("unpack")
            .arg(dir.path().join("archive"))
            .arg(dir.path().join(into)))
    };
    fs::create_dir(dir.path().join("empty")).unwrap();
    for into in ["new", "empty"] {
        assert!(unpack(into).status.success());
        assert_eq!(read(&dir.path().join(into).join("a/b")), "1");
    }
    let again = unpack("new");
    assert!(!again.status.success() && text(&again.stderr).contains("not empty"));
}
