//! A metadata service of the test's own, as clouds have one: a link-local address that containers reach through this
//! machine, and an ordinary one beside it, both in a network namespace that goes with the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sched::{CloneFlags, setns};

use crate::skip;

/// Makes the namespace `$0` with the addresses `$1`.1 and `$2`.1, those of the machine being .2, and removes it when its
/// standard input ends.
const NAMESPACE: &str = r#"set -e
trap 'ip netns del "$0" 2>/dev/null; ip link del "$0" 2>/dev/null; exit' EXIT
ip netns add "$0"
ip link add "$0" type veth peer name eth0 netns "$0"
for net in "$1" "$2"; do
  ip addr add "$net.2/30" dev "$0"
  ip -n "$0" addr add "$net.1/30" dev eth0
done
ip link set "$0" up
ip -n "$0" link set eth0 up
ip -n "$0" route add default via "$2.2"
echo ready
read -r _ || true"#;

/// What it answers.
pub const SECRET: &str = "keys-of-the-machine";

/// A metadata service.
#[derive(Debug)]
pub struct Metadata {
    guard: Child,
    /// While this is open the namespace is there.
    stdin: Option<ChildStdin>,
    /// Its link-local address, behind this machine.
    pub elsewhere: SocketAddr,
    /// A link-local address of this machine itself.
    pub here: SocketAddr,
    /// An address that is not link-local, behind this machine.
    pub ordinary: SocketAddr,
}

impl Metadata {
    /// Starts one; `None` where that takes rights this test has not, which has been said.
    ///
    /// # Panics
    /// When its addresses cannot be listened on.
    pub fn start(test: &str) -> Option<Self> {
        let pid = std::process::id();
        // Nobody's link-local networks, whichever test is at it.
        let third = 1 + pid % 160;
        let name = format!("t0md{pid}");
        let (local, other) = (format!("169.254.{third}"), format!("10.254.{third}"));
        let mut command = Command::new("sh");
        command.args(["-c", NAMESPACE, &name, &local, &other]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = command.stderr(Stdio::piped()).spawn().expect("a shell");
        let mut said = String::new();
        let mut out = BufReader::new(guard.stdout.take().expect("a pipe"));
        out.read_line(&mut said).expect("a word of the shell's");
        if said.trim() != "ready" {
            let output = guard.wait_with_output().expect("the shell's end");
            let why = crate::text(&output.stderr);
            skip(test, &format!("no network namespace: {}", why.trim()));
            return None;
        }
        let third = u8::try_from(third).expect("a small number");
        let at = |first, second, last| IpAddr::from(Ipv4Addr::new(first, second, third, last));
        let inside = [at(169, 254, 1), at(10, 254, 1)];
        let [elsewhere, ordinary] = listen_in(&name, inside);
        Some(Self {
            stdin: guard.stdin.take(),
            guard,
            elsewhere,
            here: serve(TcpListener::bind((at(169, 254, 2), 0)).expect("a port")),
            ordinary,
        })
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Removes the rules that an agent has set for a stack, those that are `meant`.
pub fn remove_rules(meant: impl Fn(&str) -> bool) {
    let iptables = |words: &[&str]| {
        let output = Command::new("iptables")
            .args(["-w", "5"])
            .args(words)
            .output();
        output.map_or(String::new(), |output| crate::text(&output.stdout))
    };
    for chain in ["DOCKER-USER", "FORWARD", "INPUT"] {
        let listed = iptables(&["-S", chain]).replace('"', "");
        let ours = |rule: &&str| rule.contains("--comment the0:") && meant(rule);
        for rule in listed.lines().filter(ours) {
            let words: Vec<&str> = rule.split_whitespace().skip(1).collect();
            iptables(&[&["-D"], &words[..]].concat());
        }
    }
}

/// Listens on addresses of a namespace, by a thread that goes there.
fn listen_in(namespace: &str, addresses: [IpAddr; 2]) -> [SocketAddr; 2] {
    let path = format!("/run/netns/{namespace}");
    let listen = move || {
        let namespace = std::fs::File::open(path).expect("the namespace");
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).expect("go there");
        addresses.map(|address| TcpListener::bind((address, 0)).expect("a port"))
    };
    let listeners = std::thread::spawn(listen).join().expect("listeners");
    listeners.map(serve)
}

/// Answers each request with [`SECRET`].
fn serve(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            let length = SECRET.len();
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let _ = peer.write_all(format!("{head}{SECRET}").as_bytes());
        }
    });
    address
}
