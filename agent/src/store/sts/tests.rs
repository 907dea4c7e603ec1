//! Real stores are asked for keys, and the real `sync` lives on them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use ::tests::servers::{Minio, Store, Versity};
use ::tests::volume::{LONG, Volume, World, content};
use ::tests::{run, text as said, wait_for};
use contract::launch::Variables;
use contract::logs;
use contract::record::Outcome;
use futures_util::TryStreamExt;
use minio::s3::MinioClientBuilder;
use minio::s3::client::MinioClient;
use minio::s3::creds::StaticProvider;
use minio::s3::error::{Error, S3ServerError};
use minio::s3::http::BaseUrl;
use minio::s3::minio_error_response::MinioErrorCode;
use minio::s3::types::{S3Api, ToStream};
use nix::sys::signal::Signal;

use super::*;
use crate::store::Address;

const HALF_DAY: Duration = Duration::from_secs(12 * 3_600);

fn sts(variables: Vec<(String, String)>) -> Result<Sts, StsError> {
    let variables: Variables = variables.into_iter().collect();
    match Address::parse(&variables, Path::new("/")).unwrap() {
        Address::S3(endpoint) => Sts::new(&endpoint),
        Address::Directory(root) => panic!("{}", root.display()),
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work)
}

fn ask(sts: &Sts, bot: &str, code: &str, duration: Duration) -> Result<Session, StsError> {
    let (bot, code) = (bot.parse().unwrap(), code.parse().unwrap());
    wait(sts.session(&bot, &code, duration, Reach::Keeps))
}

/// Keys for `bot` with its code at `u1/<bot>/1`.
fn keys(store: &Store, bot: &str) -> Keys {
    let sts = sts(store.environment()).unwrap();
    let session = ask(&sts, bot, &format!("u1/{bot}/1"), HALF_DAY).unwrap();
    session.keys
}

/// The volume with these keys in place of the store's.
fn with(volume: Volume, keys: &Keys) -> Volume {
    let set = |volume: Volume, (name, key): (&String, &Secret)| volume.with(name, key.reveal());
    keys.iter().fold(volume, set)
}

fn zipped() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("main.py", options).unwrap();
    zip.write_all(b"print()").unwrap();
    zip.finish().unwrap().into_inner()
}

fn noise(length: usize) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = vec![0; length];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    random.read_exact(&mut bytes).unwrap();
    bytes
}

fn log(volume: &Volume, lines: &str) {
    let path = volume.var("logs").join(logs::segment_name(1));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(path).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

/// `sync fetch` that succeeds, and says nothing of being refused anything.
fn fetched(volume: &Volume) {
    let output = run(volume.command("fetch").env("LOG_LEVEL", "debug"));
    let told = said(&output.stderr);
    assert!(output.status.success(), "{told}");
    let is_refused = [" 403", "(403", "AccessDenied", "stay:"]
        .iter()
        .any(|word| told.contains(word));
    assert!(!is_refused, "{told}");
}

#[test]
fn a_bots_own_keys_do_all_that_its_sync_does() {
    let Some(store) = Minio::shared() else { return };
    store.client().put("custom-bots", "u1/own/1", &zipped());
    let keys = keys(store, "own");
    let world = World::on(store, "own");
    let volume = |name| {
        let volume = world.volume(name).with("CODE_FILE", "u1/own/1");
        with(volume, &keys).with("LOG_LEVEL", "debug")
    };
    let first = volume("one");
    fetched(&first);
    let mut watch = first.watch();
    // A small one, in one request.
    log(&first, "2026-11-20T08:00:00.000000Z one\n");
    first.put("a", "1");
    first.acknowledged(1);
    // A large one, in parts, and then one that copies most of them; a log that is copied too.
    first.put("large", noise(12 << 20));
    log(
        &first,
        &format!("2026-11-20T08:00:01.000000Z {}\n", "x".repeat(100)).repeat(60_000),
    );
    first.acknowledged(2);
    first.put("a", "2");
    log(&first, "2026-11-20T08:00:02.000000Z last\n");
    first.acknowledged(3);
    let stored = first.archive().unwrap();
    assert_eq!(
        (&stored["a"][..], stored["large"].len()),
        (&b"2"[..], 12 << 20)
    );
    assert_eq!(first.day("20261120").lines().count(), 60_002);
    // Another instance takes over, and the first is fenced off.
    let second = volume("two");
    fetched(&second);
    assert_eq!(second.on_disk(), stored);
    assert!(!second.history("start").is_empty());
    first.put("a", "3");
    first.wait_outcome(Outcome::Fenced);
    watch.signal(Signal::SIGTERM);
    watch.code(LONG);
    let mut watch = second.watch();
    fs::remove_file(second.state().join("large")).unwrap();
    second.wait_pushed(&content(&[("a", "2")]));
    watch.signal(Signal::SIGTERM);
    second.end_run(1);
    assert_eq!(watch.code(LONG), 0);
    // A person goes back to an older state.
    let mut list = second.command("state");
    let listed = run(list.arg("ls"));
    assert!(listed.status.success(), "{}", said(&listed.stderr));
}

#[test]
fn an_upload_that_a_killed_instance_left_is_ended_with_the_bots_own_keys() {
    let Some(store) = Minio::start() else { return };
    let root = client(&store, None);
    let begun: Result<_, Error> = wait(async {
        let upload = root.create_multipart_upload("bot-state", "own/state.tar.gz")?;
        upload.build().send().await
    });
    begun.unwrap();
    assert_eq!(store.unfinished_uploads(), 1);
    let volume = with(World::on(&store, "own").volume("one"), &keys(&store, "own"));
    fetched(&volume);
    let _watch = volume.watch();
    wait_for("the upload's end", LONG, || {
        (store.unfinished_uploads() == 0).then_some(())
    });
}

fn client(store: &Store, keys: Option<&Keys>) -> MinioClient {
    let given: Variables = store.environment().into_iter().collect();
    let key = |name: &str| match keys {
        Some(keys) => keys.get(name).map(|key| key.reveal().to_owned()),
        None => given.get(name).cloned(),
    };
    let url: BaseUrl = format!("http://{}", store.address()).parse().unwrap();
    let provider = StaticProvider::new(
        &key("MINIO_ACCESS_KEY").unwrap(),
        &key("MINIO_SECRET_KEY").unwrap(),
        key("MINIO_SESSION_TOKEN").as_deref(),
    );
    let builder = MinioClientBuilder::new(url).provider(Some(provider));
    builder.skip_region_lookup(true).build().unwrap()
}

/// What one may try with another's objects.
async fn attempt(client: &MinioClient, what: &str, bucket: &str, name: &str) -> Result<(), Error> {
    match what {
        "get" => drop(client.get_object(bucket, name)?.build().send().await?),
        "put" => {
            let content = minio::s3::builders::ObjectContent::from("x");
            client
                .put_object_content(bucket, name, content)?
                .build()
                .send()
                .await?;
        }
        "delete" => drop(client.delete_object(bucket, name)?.build().send().await?),
        "upload" => drop(
            client
                .create_multipart_upload(bucket, name)?
                .build()
                .send()
                .await?,
        ),
        "list" => {
            let request = client.list_objects(bucket)?.prefix(Some(name.to_owned()));
            let mut pages = request.recursive(true).build().to_stream().await;
            pages.try_next().await?;
        }
        "make" => drop(client.create_bucket(bucket)?.build().send().await?),
        "buckets" => drop(client.list_buckets().build().send().await?),
        other => panic!("{other}"),
    }
    Ok(())
}

fn refused(done: &Result<(), Error>) -> bool {
    match done {
        Err(Error::S3Server(S3ServerError::S3Error(said))) => {
            matches!(said.code(), MinioErrorCode::AccessDenied)
        }
        _ => false,
    }
}

#[test]
fn a_bots_own_keys_do_nothing_else() {
    let Some(store) = Minio::start() else { return };
    for bot in ["own", "other", "own-too"] {
        store
            .client()
            .put("custom-bots", &format!("u1/{bot}/1"), b"zip");
        store
            .client()
            .put("bot-state", &format!("{bot}/state.tar.gz"), b"state");
        store
            .client()
            .put("bot-logs", &format!("logs/{bot}/20261120.log"), b"log");
    }
    let (own, root) = (
        client(&store, Some(&keys(&store, "own"))),
        client(&store, None),
    );
    let allowed = [
        ("get", "custom-bots", "u1/own/1"),
        ("get", "bot-state", "own/state.tar.gz"),
        ("put", "bot-logs", "logs/own/20261120.log"),
        ("list", "bot-state", "own/.the0/history/"),
        ("list", "bot-logs", "logs/own/"),
    ];
    for (what, bucket, name) in allowed {
        let done = wait(attempt(&own, what, bucket, name));
        assert!(done.is_ok(), "{what} {bucket} {name}: {done:?}");
    }
    let forbidden = [
        ("get", "custom-bots", "u1/other/1"),
        ("get", "custom-bots", "u1/own/10"),
        ("put", "custom-bots", "u1/own/1"),
        ("list", "custom-bots", ""),
        ("list", "custom-bots", "u1/"),
        ("get", "bot-state", "other/state.tar.gz"),
        ("get", "bot-state", "own-too/state.tar.gz"),
        ("put", "bot-state", "other/state.tar.gz"),
        ("put", "bot-state", "other/.the0/claim"),
        ("put", "bot-state", "elsewhere"),
        ("upload", "bot-state", "other/state.tar.gz"),
        ("list", "bot-state", ""),
        ("list", "bot-state", "o"),
        ("list", "bot-state", "own"),
        ("list", "bot-state", "other/"),
        ("get", "bot-logs", "logs/other/20261120.log"),
        ("put", "bot-logs", "logs/own-too/20261120.log"),
        ("list", "bot-logs", "logs/"),
        ("list", "bot-logs", "logs/other/"),
        ("buckets", "", ""),
        ("make", "anew", ""),
        ("delete", "bot-state", "other/state.tar.gz"),
        ("delete", "bot-logs", "logs/other/20261120.log"),
        ("delete", "custom-bots", "u1/own/1"),
    ];
    for (what, bucket, name) in forbidden {
        let done = wait(attempt(&own, what, bucket, name));
        assert!(refused(&done), "{what} {bucket} {name}: {done:?}");
        let done = wait(attempt(&root, what, bucket, name));
        assert!(
            !refused(&done),
            "the same by the store's keys: {what} {bucket} {name}"
        );
    }
}

#[test]
fn the_sync_of_another_bot_is_refused_with_a_bots_keys() {
    let Some(store) = Minio::shared() else { return };
    let keys = keys(store, "mine");
    store.client().put("custom-bots", "u1/theirs/1", &zipped());
    let volume = |bot, name| with(World::on(store, bot).volume(name), &keys);
    let others = volume("theirs", "one").with("THE0_FETCH_DEADLINE", "1s");
    let output = others.fetch();
    assert_eq!(output.status.code(), Some(i32::from(contract::exit::STATE)));
    assert!(
        said(&output.stderr).contains("403"),
        "{}",
        said(&output.stderr)
    );
    let code = volume("mine", "two").with("CODE_FILE", "u1/theirs/1");
    let output = code.with("THE0_FETCH_DEADLINE", "1s").fetch();
    assert_eq!(output.status.code(), Some(i32::from(contract::exit::CODE)));
}

#[test]
fn a_store_that_grants_less_time_is_asked_for_an_hour() {
    let Some(store) = Minio::shared() else { return };
    let sts = sts(store.environment()).unwrap();
    let left = |duration| {
        let session = ask(&sts, "b", "u/b/1", duration).unwrap();
        session.expires.duration_since(SystemTime::now()).unwrap()
    };
    let about = |left: Duration, wanted: Duration| {
        left <= wanted + Duration::from_secs(60) && left + Duration::from_secs(60) > wanted
    };
    assert!(about(left(HALF_DAY), HALF_DAY));
    assert!(about(left(Duration::from_secs(400 * 24 * 3_600)), SHORT));
}

#[test]
fn a_store_without_such_keys_is_told_from_one_that_is_away_or_refuses() {
    let away = (
        "MINIO_ENDPOINT".to_owned(),
        format!("127.0.0.1:{}", ::tests::servers::free_port()),
    );
    let variables = |store: &Store, more: &[(String, String)]| {
        let mut variables = store.environment();
        variables.extend_from_slice(more);
        variables
    };
    if let Some(store) = Versity::shared() {
        let error = ask(&sts(store.environment()).unwrap(), "b", "u/b/1", HALF_DAY).unwrap_err();
        assert!(matches!(error, StsError::Unsupported(_)), "{error}");
    }
    let Some(store) = Minio::shared() else { return };
    let given = |(name, key): (&String, &Secret)| (name.clone(), key.reveal().to_owned());
    let narrow: Vec<_> = keys(store, "narrow").iter().map(given).collect();
    let error = ask(
        &sts(variables(store, &narrow)).unwrap(),
        "b",
        "u/b/1",
        HALF_DAY,
    )
    .unwrap_err();
    assert!(matches!(error, StsError::Unsupported(_)), "{error}");
    let wrong = ("MINIO_SECRET_KEY".to_owned(), "hunter2-hunter2".to_owned());
    for (more, word, is_silent) in [
        (away, "onnect", true),
        (wrong, "check MINIO_ACCESS_KEY", false),
    ] {
        let sts = sts(variables(store, &[more])).unwrap();
        let error = ask(&sts, "b", "u/b/1", HALF_DAY).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, StsError::Failed(_) | StsError::Silent(_)) && text.contains(word),
            "{text}"
        );
        assert_eq!(matches!(error, StsError::Silent(_)), is_silent, "{text}");
        assert!(!format!("{text} {sts:?} {error:?}").contains("hunter2"));
    }
}

#[test]
fn a_store_that_hangs_is_not_waited_for_long() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let given = [
        ("MINIO_ENDPOINT", place.as_str()),
        ("MINIO_ACCESS_KEY", "a"),
        ("MINIO_SECRET_KEY", "b"),
    ];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sts = sts(given.to_vec()).unwrap();
    let began = Instant::now();
    let error = ask(&sts, "b", "u/b/1", HALF_DAY).unwrap_err();
    assert!(matches!(error, StsError::Silent(_)), "{error}");
    assert!(began.elapsed() < LIMIT + Duration::from_secs(5));
}

#[test]
fn a_store_with_a_private_ca_is_asked_by_its_file_alone() {
    let Some(store) = Minio::start_with_tls() else {
        return;
    };
    let trusting = sts(store.environment()).unwrap();
    ask(&trusting, "b", "u/b/1", HALF_DAY).unwrap();
    let mut variables = store.environment();
    variables.retain(|(name, _)| name != "THE0_CA_FILE");
    let error = ask(&sts(variables).unwrap(), "b", "u/b/1", HALF_DAY).unwrap_err();
    assert!(
        matches!(&error, StsError::Silent(why) if why.contains("certificate")),
        "{error}"
    );
}
