//! The command line of another machine: an address and a token in place of the data folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::text;

use crate::rig::{IDLE, Place, READ, WRITE};

#[test]
fn the_commands_about_bots_work_from_elsewhere() {
    let place = Place::new();
    place.bot("grid", IDLE, "");
    place.asker("asker");
    let session = place.dev(Some(&place.tokens()));
    place.state("grid", "running");
    place.state("asker", "running");
    let file = place.private("token", &format!("{WRITE}\n"));
    let token = Some(file.as_path());
    let ok = |args: &[&str]| {
        let (code, said) = session.told(args, token);
        assert_eq!(code, 0, "{args:?}: {said}");
        said
    };
    assert!(ok(&["ps"]).contains("grid"));
    let rows: Vec<Value> = serde_json::from_str(&ok(&["ps", "-o", "json"])).unwrap();
    assert_eq!(rows.len(), 2);
    assert!(ok(&["history", "grid"]).contains("created"));
    assert!(ok(&["stop", "grid"]).contains("stop grid"));
    place.state("grid", "stopped");
    ok(&["start", "grid"]);
    let run = place.state("grid", "running")["run"].as_u64();
    ok(&["restart", "grid"]);
    crate::rig::until(|| (place.state("grid", "running")["run"].as_u64() > run).then_some(()));
    assert!(ok(&["confirm"]).contains("nothing waits"));
    let answer = crate::rig::until(|| {
        let (code, said) = session.told(&["query", "asker", "/echo", "a=1"], token);
        (code == 0).then_some(said)
    });
    assert!(answer.contains('1'), "{answer}");
    let (code, why) = session.told(&["roll"], token);
    assert!(code == 1 && why.contains("no container"), "{why}");
    assert!(ok(&["gc"]).contains("nothing"));
    assert!(ok(&["stop", "--all"]).contains("are being stopped"));
    assert!(ok(&["drain"]).contains("all bots have ended"));
    assert!(
        session
            .screen()
            .contains("stop of all, asked by ci at 127.0.0.1: done")
    );
    assert!(ok(&["start", "--all"]).contains("run again"));
    place.state("grid", "running");
    assert!(!place.path("elsewhere").exists());
    session.end();
}

#[test]
fn what_goes_wrong_on_the_way_is_told_with_its_own_code() {
    let place = Place::new();
    place.bot("grid", IDLE, "");
    let session = place.dev(Some(&place.tokens()));
    place.state("grid", "running");
    let write = place.private("token", WRITE);
    let read = place.private("looks", READ);
    let wrong = place.private("wrong", "00000000000000000000");
    let rows = [
        (&["ps"][..], None, 1, "--token-file"),
        (&["ps"], Some(&wrong), 1, "a token is needed"),
        (&["stop", "grid"], Some(&read), 1, "may only look"),
        (&["stop", "nobody"], Some(&write), 4, "no bot is called"),
        (&["history", "no body"], Some(&write), 4, "no bot is called"),
        (&["logs", "grid"], Some(&write), 1, "without --host"),
        (&["deploy", "."], Some(&write), 1, "without --host"),
        (&["state", "ls", "grid"], Some(&write), 1, "without --host"),
        (&["backup", "-"], Some(&write), 1, "without --host"),
        (&["run"], Some(&write), 1, "without --host"),
    ];
    for (args, token, expected, hint) in rows {
        let (code, said) = session.told(args, token.map(std::path::PathBuf::as_path));
        assert!(
            code == expected && said.contains(hint),
            "{args:?}: {code} {said}"
        );
        assert!(!said.contains(WRITE) && !said.contains(READ), "{said}");
    }
    fs::set_permissions(&write, Permissions::from_mode(0o644)).unwrap();
    let (code, said) = session.told(&["ps"], Some(&write));
    assert!(code == 1 && said.contains("chmod 600"), "{said}");
    place.state("grid", "running");
    session.end();
}

#[test]
fn where_no_agent_answers_the_address_is_told() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let fails = |url: &str| {
        let output = tests::run(place.command(&["ps"]).env("THE0_HOST", url));
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (code, why) = fails(&url);
    assert!(
        code == 3 && why.contains(&url) && why.contains("refused"),
        "{code} {why}"
    );
    let (code, why) = fails("127.0.0.1:9478");
    assert!(
        code == 1 && why.contains("http://127.0.0.1:9478"),
        "{code} {why}"
    );
}
