//! The harness itself: what the other tests rely on when they run against real servers.

use std::path::Path;
use std::process::Command;

use tests::servers::{BUCKETS, Client, Fault, Link, Minio, Proxy, Store, Toxic, Versity};
use tests::{SOON, is_alive, wait_for};

fn keeps_what_it_is_given(store: &Store) {
    let client = store.client();
    let [_, bucket, _] = BUCKETS;
    assert_eq!(client.get(bucket, "b1/x"), None);
    client.put_with(bucket, "b1/x", b"1", &[("generation", "7")]);
    client.put(bucket, "b1/y z", b"");
    let object = client.get(bucket, "b1/x").unwrap();
    assert_eq!(object.bytes, b"1");
    assert_eq!(object.metadata["generation"], "7");
    assert!(!object.etag.is_empty() && !object.etag.contains('"'));
    assert_eq!(client.list(bucket, "b1/"), ["b1/x", "b1/y z"]);
    client.remove(bucket, "b1/x");
    assert_eq!(client.list(bucket, ""), ["b1/y z"]);
    assert!(client.try_get("no-such-bucket", "a").is_err());
}

#[test]
fn both_stores_keep_what_they_are_given() {
    let stores = [Minio::start(), Minio::start_with_tls(), Versity::start()];
    stores.iter().flatten().for_each(keeps_what_it_is_given);
}

#[test]
fn a_store_comes_back_with_its_data_and_its_address() {
    for store in [Minio::start(), Versity::start()] {
        let Some(mut store) = store else { continue };
        store.client().put(BUCKETS[0], "a", b"1");
        let address = store.address().to_owned();
        store.stop();
        assert!(store.client().try_get(BUCKETS[0], "a").is_err());
        store.start_again();
        assert_eq!(store.address(), address);
        assert_eq!(store.client().get(BUCKETS[0], "a").unwrap().bytes, b"1");
    }
}

#[test]
fn a_server_and_its_folder_end_with_the_test_that_started_it_however_that_ends() {
    if std::env::var_os("THE0_TEST_INNER").is_some() {
        let Some(store) = Minio::start() else { return };
        println!("{} {}", store.pid(), store.root().display());
        nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    if Minio::shared().is_none() {
        return;
    }
    let name = "a_server_and_its_folder_end_with_the_test_that_started_it_however_that_ends";
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", name, "--nocapture"]);
    let said = tests::run(inner.env("THE0_TEST_INNER", "1"));
    let said = tests::text(&said.stdout);
    let line = said.lines().find(|line| line.contains("the0-server-"));
    let (pid, root) = line.expect("a server").rsplit_once(' ').unwrap();
    let pid = pid.rsplit(' ').next().unwrap().parse().unwrap();
    wait_for("the server's end", SOON, || {
        (!is_alive(pid) && !Path::new(root).exists()).then_some(())
    });
}

#[test]
fn the_proxy_does_to_a_request_what_the_script_says_and_writes_it_down() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let client = Client::new(proxy.address(), None);
    let bytes = vec![7; 100_000];
    client.put(BUCKETS[0], "proxied", &bytes);
    let get = || {
        client
            .try_get(BUCKETS[0], "proxied")
            .map(|object| object.unwrap().bytes)
    };
    assert_eq!(get().unwrap(), bytes);
    proxy.forget();
    proxy.fail("GET", "proxied", 1, Fault::FlipAnswer(5));
    assert_eq!(get().unwrap()[4..7], [7, 0x17, 7]);
    let broken = [
        Fault::Answer(503, String::new()),
        Fault::CutAnswer(10),
        Fault::WrongLength(5),
        Fault::LoseAnswer,
        Fault::DropRequest,
    ];
    for fault in broken {
        proxy.fail("GET", "proxied", 9, fault.clone());
        assert!(get().is_err(), "{fault:?}");
    }
    proxy.heal();
    assert_eq!(get().unwrap(), bytes);
    assert_eq!(proxy.requests()[0].status, 200);
    assert!(proxy.count("GET", "proxied") >= 7);
}

#[test]
fn a_link_carries_is_poisoned_cut_and_healed() {
    let Some(store) = Minio::shared() else { return };
    let Some(link) = Link::start(store.address()) else {
        return;
    };
    let client = Client::new(link.address(), None);
    let bytes = vec![7; 100_000];
    client.put(BUCKETS[0], "linked", &bytes);
    let get = || {
        client
            .try_get(BUCKETS[0], "linked")
            .map(|object| object.unwrap().bytes)
    };
    for toxic in [
        Toxic::LimitAnswer(1000),
        Toxic::ResetPeer(0),
        Toxic::Timeout(10),
    ] {
        assert_eq!(get().unwrap(), bytes);
        link.add(toxic);
        assert!(get().is_err(), "{toxic:?}");
        link.heal();
    }
    link.cut();
    assert!(get().is_err());
    link.heal();
    assert_eq!(get().unwrap(), bytes);
}
