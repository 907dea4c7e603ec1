use ::tests::containers::{Container, Docker};
use ::tests::metadata::{Metadata, SECRET};
use ::tests::{skip, text};

use super::*;

fn wait<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work)
}

fn rules(comment: &str) -> Vec<Rule> {
    let all = ["DOCKER-USER", "INPUT"].map(|chain| wait(iptables(["-S", chain])).unwrap());
    let all = all.iter().flat_map(|listed| ours(listed));
    all.filter(|rule| rule.comment == comment).collect()
}

/// What the container reads at an address, or the name of what stopped it.
fn read(container: &Container<'_>, at: std::net::SocketAddr) -> String {
    const SCRIPT: &str = "import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as peer:
        print(peer.recv(1000).decode().split('\\r\\n')[-1])
except OSError as error:
    print(type(error).__name__)";
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let output = container.exec(&["python3", "-c", SCRIPT, &host, &port]);
    text(&output.stdout).trim().to_owned()
}

#[test]
fn bots_reach_no_metadata_and_everything_else_as_before() {
    let test = "bots_reach_no_metadata_and_everything_else_as_before";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(image) = docker.image(test, "python3.11") else {
        return;
    };
    if let Err(failure) = wait(iptables(["-S", "DOCKER-USER"])) {
        return skip(test, &failure.to_string());
    }
    let Some(metadata) = Metadata::start(test) else {
        return;
    };
    let network = docker.network("bots");
    let id = docker.inspect(&network)["Id"].as_str().unwrap()[..12].to_owned();
    let bridge = format!("br-{id}");
    let options = ["--network", &network, "--entrypoint", "sleep"].map(String::from);
    let container = docker.run("bot", &options, &image, &["300"]);
    let all = [metadata.elsewhere, metadata.here, metadata.ordinary];
    assert_eq!(all.map(|at| read(&container, at)), [SECRET; 3]);

    let stack: Stack = docker.token().parse().unwrap();
    let comment = format!("the0:{stack}");
    wait(block(&bridge, &stack)).unwrap();
    let refused = "ConnectionRefusedError";
    assert_eq!(
        all.map(|at| read(&container, at)),
        [refused, refused, SECRET]
    );
    let set = rules(&comment);
    wait(block(&bridge, &stack)).unwrap();
    assert_eq!(rules(&comment), set);
    assert_eq!(set.len(), 2);

    // Another network of before is gone: its rules go.
    container.remove();
    docker.ask(["network", "rm", &network]);
    let network = docker.network("others");
    let id = docker.inspect(&network)["Id"].as_str().unwrap()[..12].to_owned();
    let other = format!("br-{id}");
    wait(block(&other, &stack)).unwrap();
    let left = rules(&comment);
    assert!(left.iter().all(|rule| rule.bridge == other), "{left:?}");
    assert_eq!(left.len(), 2);
}

#[test]
fn where_it_cannot_be_done_the_command_is_told() {
    let stack: Stack = "s".parse().unwrap();
    let text = wait(block("br-nowhere", &stack)).unwrap_err().to_string();
    assert_eq!(
        text,
        "the network has no interface br-nowhere on the agent's machine: as root on the machine of the Docker daemon, \
         run `iptables -I DOCKER-USER -i br-nowhere -m conntrack --ctorigdst 169.254.0.0/16 -m comment --comment the0:s \
         -j REJECT && iptables -I INPUT -i br-nowhere -m conntrack --ctorigdst 169.254.0.0/16 -m comment --comment \
         the0:s -j REJECT`"
    );
}

#[test]
fn rules_of_others_are_not_ours() {
    let listed = "-N DOCKER-USER
-A DOCKER-USER -i br-1 -m conntrack --ctorigdst 169.254.0.0/16 -m comment --comment \"the0:a\" -j REJECT --reject-with icmp-port-unreachable
-A DOCKER-USER -i br-2 -m comment --comment the0:b -j REJECT
-A DOCKER-USER -i br-3 -m comment --comment mine -j DROP
-A DOCKER-USER -i br-4 -j DROP
-A DOCKER-USER -j RETURN";
    let found: Vec<_> = ours(listed)
        .map(|rule| (rule.bridge, rule.comment))
        .collect();
    let expected = [("br-1", "the0:a"), ("br-2", "the0:b")];
    assert_eq!(found, expected.map(|(b, c)| (b.into(), c.into())));
}
