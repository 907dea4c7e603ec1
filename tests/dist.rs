//! What ships: the static binaries run in a root directory that is empty but for `resolv.conf` and `hosts`, and
//! resolve names there.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Process, SOON, read, repository, run, skip, text, wait_for};

/// An address of the loopback range where nothing else serves names.
const NAME_SERVER: &str = "127.13.13.13";

/// The folder `make dist` fills, or why there is nothing to test.
fn binaries(test: &str) -> Option<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        skip(test, "chroot needs root");
        return None;
    }
    let folders = fs::read_dir(repository().join("target/dist"))
        .into_iter()
        .flatten()
        .flatten();
    let found = folders
        .map(|folder| folder.path().join("release"))
        .find(|path| path.join("query").exists());
    if found.is_none() {
        skip(test, "no static binaries: run `make dist`");
    }
    found
}

fn root(binaries: &Path) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for folder in ["etc", "var", "bot"] {
        fs::create_dir(root.path().join(folder)).expect("a folder");
    }
    for name in ["supervisor", "sync", "query"] {
        fs::copy(binaries.join(name), root.path().join(name)).expect("copy a binary");
    }
    fs::write(root.path().join("etc/hosts"), "127.0.0.1 in-hosts.test\n").expect("write hosts");
    let resolv = format!("nameserver {NAME_SERVER}\noptions timeout:2 attempts:2\n");
    fs::write(root.path().join("etc/resolv.conf"), resolv).expect("write resolv.conf");
    root
}

fn inside(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Answers every question for an IPv4 address with 127.0.0.1, everything else with nothing, until the test ends.
fn serve_names() {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).expect("a name server's port on loopback");
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let name = packet[12..length]
                .iter()
                .position(|b| *b == 0)
                .map_or(length, |end| 12 + end + 5);
            let is_a = packet[name - 4..name] == [0, 1, 0, 1];
            let mut reply = packet[..name].to_vec();
            // A response with recursion (RFC 1035, 4.1.1): one question, as many answers as there are, nothing else.
            reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&reply, from);
        }
    });
}

#[test]
fn the_static_binaries_need_nothing_but_themselves() {
    let Some(binaries) = binaries("the_static_binaries_need_nothing_but_themselves") else {
        return;
    };
    let root = root(&binaries);
    for name in ["supervisor", "sync", "query"] {
        let output = run(&mut inside(
            root.path(),
            &[&format!("/{name}"), "--version"],
        ));
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert!(
            text(&output.stdout).contains(env!("CARGO_PKG_VERSION")),
            "{name}: {}",
            text(&output.stdout)
        );
    }
    let nested = [
        "/supervisor",
        "run",
        "--",
        "/supervisor",
        "run",
        "--",
        "/sync",
        "--version",
    ];
    let output = run(&mut inside(root.path(), &nested));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(&mut inside(
        root.path(),
        &["/supervisor", "run", "--", "/none"],
    ));
    assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
}

#[test]
fn names_are_resolved_without_a_name_service_of_the_system() {
    let Some(binaries) = binaries("names_are_resolved_without_a_name_service_of_the_system") else {
        return;
    };
    let root = root(&binaries);
    serve_names();
    let mut server = inside(root.path(), &["/query"]);
    server.envs([
        ("BOT_ID", "b1"),
        ("RUNTIME", "gcc13"),
        ("ENTRYPOINT", "bot"),
    ]);
    server.envs([
        ("THE0_VAR_PATH", "/var"),
        ("THE0_QUERY_LISTEN", "127.0.0.1:0"),
        ("THE0_CONFINE", "off"),
    ]);
    let _server = Process::start(&mut server);
    let listening = root.path().join("var/query.json");
    let address = wait_for("query to listen", SOON, || {
        let value: serde_json::Value = serde_json::from_str(&read(&listening)).ok()?;
        Some(value["address"].as_str()?.to_owned())
    });
    let port = address.rsplit(':').next().expect("a port");
    for host in ["in-hosts.test", "in-dns.test", "127.0.0.1"] {
        let output = run(&mut inside(
            root.path(),
            &[
                "/query",
                "ask",
                "--at",
                &format!("{host}:{port}"),
                "/health",
            ],
        ));
        assert!(output.status.success(), "{host}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout).trim(), r#"{"status":"ok"}"#, "{host}");
    }
}
