//! Keys with an end, in containers that outlive them. A proxy in front of the store tells which key each request is
//! signed with, and stands for the store that takes a key no more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use serde_json::Value;
use tests::servers::faults::error_body;
use tests::servers::{ACCESS_KEY, Fault, Proxy, SECRET_KEY};
use tests::stack::{COUNTER, LONG, Stack};
use tests::wait_for;

/// How the token of every session of MinIO's begins: it is a JWT.
const SESSION: &str = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9";
/// The shortest life that MinIO gives keys.
const SHORTEST: Duration = Duration::from_mins(15);

/// A host whose store is reached through a proxy.
fn through_a_proxy(test: &str) -> Option<(Stack, Proxy)> {
    let mut host = Stack::start(test, &["python3.11"])?;
    let proxy = Proxy::start_at(host.docker.gateway(), host.store.address());
    host.set("MINIO_ENDPOINT", proxy.address());
    host.set("THE0_KEYS_TTL", "15m");
    Some((host, proxy))
}

/// The keys that states of the bot were pushed with.
fn signers(proxy: &Proxy, bot: &str) -> BTreeSet<String> {
    let requests = proxy.requests().into_iter();
    let pushes = requests.filter(|request| {
        request.is("PUT", &format!("bot-state/{bot}/state.tar.gz")) && request.status == 200
    });
    pushes.filter_map(|push| push.signer).collect()
}

/// The only key that the bot's states were pushed with so far, once there is one.
fn first_signer(proxy: &Proxy, bot: &str) -> String {
    let keys = wait_for("a push", LONG, || {
        Some(signers(proxy, bot)).filter(|keys| !keys.is_empty())
    });
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.into_iter().next().unwrap()
}

/// Nobody who may ask the daemon, and nobody who reads a log, finds a key.
fn no_key_is_told(host: &Stack, bot: &str, keys: &BTreeSet<String>) {
    let container = host.container(bot);
    let told = [
        container.inspect().to_string(),
        container.logs(),
        host.said(),
    ];
    let secrets = [ACCESS_KEY, SECRET_KEY, SESSION];
    for secret in keys.iter().map(String::as_str).chain(secrets) {
        let place = told.iter().position(|text| text.contains(secret));
        assert_eq!(place, None, "a key is in what can be read");
    }
}

#[test]
fn a_bot_whose_keys_the_store_takes_no_more_is_saved_with_those_that_are_handed_to_its_container() {
    let Some((mut host, proxy)) = through_a_proxy("docker::renewed") else {
        return;
    };
    // Those that are found get new keys within a minute, each at a time of its own: the first of three is waited for.
    let bots = host.counters(3);
    host.begin();
    host.states(&bots, "running");
    let first: BTreeSet<String> = bots.iter().map(|bot| first_signer(&proxy, bot)).collect();
    assert_eq!(first.len(), 3, "each bot has keys of its own");
    assert!(!first.contains(ACCESS_KEY));
    let ids = |host: &Stack| -> Vec<Value> {
        let id = |bot: &String| host.container(bot).inspect()["Id"].clone();
        bots.iter().map(id).collect()
    };
    let containers = ids(&host);
    host.end();

    let old = first.clone();
    proxy.script(move |request| {
        let is_over = request.signer.as_ref().is_some_and(|key| old.contains(key));
        is_over.then(|| Fault::Answer(403, error_body("ExpiredToken")))
    });
    proxy.forget();
    wait_for("pushes that are refused", LONG, || {
        (proxy.met() >= 3).then_some(())
    });
    let counts: Vec<u64> = bots.iter().map(|bot| host.count(bot)).collect();
    assert!(bots.iter().all(|bot| signers(&proxy, bot).is_empty()));

    host.begin();
    let (bot, count) = wait_for("a push with other keys", LONG, || {
        let mut all = bots.iter().zip(&counts);
        all.find(|(bot, _)| !signers(&proxy, bot).is_empty())
    });
    wait_for("what was unsaved", LONG, || {
        (host.saved(bot) > *count).then_some(())
    });
    let now = signers(&proxy, bot);
    assert!(now.is_disjoint(&first) && !now.contains(ACCESS_KEY));
    assert_eq!(ids(&host), containers, "no container was made anew");
    no_key_is_told(&host, bot, &first.union(&now).cloned().collect());
}

#[test]
#[ignore = "takes a quarter of an hour, the shortest life that MinIO gives keys"]
fn a_bot_outlives_its_first_keys() {
    let Some((mut host, proxy)) = through_a_proxy("docker::expired") else {
        return;
    };
    let bot = host.bot("b", COUNTER, doc! {});
    host.begin();
    host.state(&bot, "running");
    let first = first_signer(&proxy, &bot);
    let container = host.container(&bot).inspect()["Id"].clone();
    let end = Instant::now() + SHORTEST + Duration::from_secs(20);
    while Instant::now() < end {
        let saved = host.saved(&bot);
        wait_for("another push", LONG, || {
            (host.saved(&bot) > saved).then_some(())
        });
    }
    proxy.forget();
    let saved = host.saved(&bot);
    wait_for("a push after their end", LONG, || {
        (host.saved(&bot) > saved).then_some(())
    });
    let now = signers(&proxy, &bot);
    assert!(!now.is_empty() && !now.contains(&first), "{now:?}");
    assert!(proxy.requests().iter().all(|request| request.status != 403));
    assert_eq!(host.container(&bot).inspect()["Id"], container);
    no_key_is_told(&host, &bot, &now.into_iter().chain([first]).collect());
}
