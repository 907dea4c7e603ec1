use std::path::Path;

use ::tests::servers::Proxy;
use contract::launch::Variables;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::engine::docker::tests::{Stage, block_on, bot, stage, started};
use crate::engine::docker::{self, News as Told};
use crate::history::Start;
use crate::history::cause::Cause;
use crate::show::Colours;
use crate::signals::Signals;

/// Something that has happened to a bot that nobody knows.
fn nothing() -> News {
    News::Docker(Told::Happened("nobody".parse().unwrap()))
}

/// What the loop waits for, and where news are put.
fn events() -> (Events, UnboundedSender<News>) {
    let (to, news) = unbounded_channel();
    let events = Events {
        listings: unbounded_channel().1,
        news,
        requests: unbounded_channel().1,
        signals: Signals::none(),
        ticks: ticks(),
    };
    (events, to)
}

/// A world in which a daemon that does not answer has a bot whose keys are over after two ticks; what is done on the
/// daemon comes as news that are not the loop's.
fn world(data: &Path) -> (World, UnboundedReceiver<docker::News>, Proxy) {
    let Stage {
        mut engine,
        daemon,
        news,
    } = stage(|_| None);
    let bot = bot("b");
    engine.take(Told::Listed(Box::default()), Duration::ZERO);
    engine.start(&bot, Start::now(Cause::Created, None), Duration::ZERO);
    let running = started(&bot, "c", Some(TICK * 2));
    engine.take(Told::Started(bot.id, Ok(running)), Duration::ZERO);
    let host = Host::new(data.to_owned(), Variables::new()).unwrap();
    let store = Store::open(&host.store, data.to_owned()).unwrap();
    let console = Console::open(std::io::sink(), Colours::Off).unwrap();
    let (requests, _) = unbounded_channel();
    let engine = Engine::Docker(Box::new(engine));
    let world = World::new(host, store, engine, console, LONGEST_SLEEP, requests);
    (world, news, daemon)
}

#[test]
fn what_time_makes_due_is_done_however_much_happens() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let (mut world, mut done, _daemon) = world(dir.path());
        let (mut events, to) = events();
        let flood = async {
            while to.send(nothing()).is_ok() {
                tokio::time::sleep(TICK / 50).await;
            }
        };
        let renewed = async { while !matches!(done.recv().await.unwrap(), Told::Renewed(..)) {} };
        tokio::select! {
            _ = world.run(&mut events, |_| ()) => panic!("the loop has ended"),
            () = flood => panic!("the loop takes no news"),
            () = renewed => {}
            () = tokio::time::sleep(TICK * 20) => panic!("no tick has come"),
        }
    });
}

#[test]
fn what_comes_without_end_is_taken_in_by_the_piece() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let (mut world, _done, _daemon) = world(dir.path());
        let (mut events, to) = events();
        for _ in 0..3 * AT_ONCE {
            to.send(nothing()).unwrap();
        }
        world.take_all(Event::Tick, &mut events);
        assert_eq!(events.news.len(), 2 * AT_ONCE);
        // Between two pieces comes what else is due.
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(matches!(events.next(None).await, Event::Tick));
    });
}
