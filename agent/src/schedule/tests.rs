use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::bots::{Listed, Listing, Offer};
use crate::document::Bot;
use crate::engine::docker::tests::{Stage, block_on, stage};
use crate::show::Colours;

/// A row of a bot that runs each minute and is due next at `next`.
fn row(id: &str, next: Seconds) -> (BotId, Arc<Listed>) {
    let document = json!({
        "id": id, "config": {"schedule": "* * * * *"},
        "custom": {"version": "1.0.0", "filePath": "u/b/1.0.0", "config": {
            "name": "b", "type": "scheduled", "runtime": "python3.11", "version": "1.0.0",
            "entrypoints": {"bot": "main.py"}}}
    });
    let bot = Bot::from_document(&document).unwrap();
    let bot = bot.at_times(&document).unwrap();
    let ledger = Ledger {
        next: Some(next),
        ..Ledger::default()
    };
    let offer = Offer::Bot(Box::new(bot));
    let listed = Listed::new("b".into(), None, "s".into(), offer).with_ledger(Some(ledger));
    (id.parse().unwrap(), Arc::new(listed))
}

fn schedules(data: &Path, most: usize) -> (Schedules, UnboundedReceiver<engine::News>) {
    let (to, news) = unbounded_channel();
    let console = Console::open(std::io::sink(), Colours::Off).unwrap();
    let book = Book::Folder(data.to_owned());
    (Schedules::new(book, "me".into(), most, to, console), news)
}

/// Takes in what was written; the bots that are to be started then.
fn next(schedules: &mut Schedules, news: &mut UnboundedReceiver<engine::News>) -> Vec<BotId> {
    while let Ok(engine::News::Schedule(news)) = news.try_recv() {
        schedules.take(*news);
    }
    let wanted = schedules.wanted();
    let once = wanted.filter(|(_, wanted)| *wanted == Wanted::Once);
    once.map(|(bot, _)| bot.clone()).collect()
}

#[test]
fn of_many_that_are_due_so_many_are_started_at_once_the_longest_due_first() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let Stage { engine, .. } = stage(|_| None);
        let engine = Engine::Docker(Box::new(engine));
        let (mut schedules, mut news) = schedules(dir.path(), 3);
        let now = wall();
        let mut listing = Listing::default();
        for n in 0..10_000_i64 {
            let (id, row) = row(&format!("b{n:05}"), now - 100 + n * 37 % 90);
            listing.bots.insert(id, row);
        }
        for n in 0..100 {
            let (id, row) = row(&format!("idle{n}"), now + 1000);
            listing.bots.insert(id, row);
        }
        schedules.listed(&listing, Instant::now());
        assert!(
            schedules.active.is_empty(),
            "nothing is looked at but what is due"
        );
        assert!(schedules.is_due());
        schedules.step(&engine, |_| true);
        let first = next(&mut schedules, &mut news);
        let due = |bot: &BotId| listing.bots[bot].ledger.as_ref().unwrap().next.unwrap();
        assert_eq!(first.len(), 3);
        assert!(first.iter().all(|bot| due(bot) == now - 100), "{first:?}");
        assert!(!schedules.is_due(), "all places are taken");
        for _ in 0..3 {
            schedules.step(&engine, |_| true);
        }
        assert_eq!(
            next(&mut schedules, &mut news),
            first,
            "no more are claimed"
        );
        // One may not run any more: its place is free.
        let stopped = &first[0];
        schedules.step(&engine, |bot| bot != stopped);
        let then = next(&mut schedules, &mut news);
        assert_eq!(then.len(), 3);
        assert!(!then.contains(stopped));
        for (bot, key) in then.iter().map(|bot| (bot, due(bot))) {
            let ledger = schedules.timing(bot).unwrap();
            let tick = ledger.tick.as_ref().unwrap();
            assert_eq!((tick.state, tick.rev), (ledger::State::Claimed, 1));
            assert!(tick.at >= key && ledger.next > Some(now - 60));
        }
    });
}

#[test]
fn what_the_first_try_left_is_not_needed_when_it_is_written_down_that_there_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (id, row) = row("b", wall() + 1000);
    let (mut schedules, _news) = schedules(dir.path(), 3);
    let mut listing = Listing::default();
    listing.bots.insert(id.clone(), row);
    schedules.listed(&listing, Instant::now());
    let mut holds = |attempt: u32, of: Key| {
        let tick = Tick {
            at: 60,
            attempt,
            state: ledger::State::Claimed,
            outcome: None,
            why: None,
            by: String::new(),
            since: 60,
            missed: 0,
            not_before: None,
            rev: 1,
        };
        schedules.known.get_mut(&id).unwrap().ledger.tick = Some(tick);
        schedules.holds(&id, Some(of))
    };
    let of = |at: Seconds, attempt: u32| Key { at, attempt };
    assert!(holds(Key::CLUSTERS, of(60, Key::CLUSTERS)));
    assert!(!holds(1, of(60, Key::CLUSTERS)));
    assert!(holds(1, of(60, 1)));
    assert!(
        holds(1, of(120, Key::CLUSTERS)),
        "of that nothing is written"
    );
}
