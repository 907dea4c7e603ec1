use super::*;
use crate::document::Bot;
use crate::engine::docker::link::{Seen, Snapshot, Stage as Far};
use crate::engine::docker::tests::{Stage, block_on, bot, stage, started, volumes_alone};
use crate::history::Start;
use crate::history::cause::Cause;
use crate::plan::Phase;
use crate::schedule::ledger::Key;

const SECOND: Duration = Duration::from_secs(1);

fn keeping(engine: &Engine, bot: &Bot) -> Option<Keeping> {
    engine.husks.get(&bot.id).map(|husk| husk.keeping)
}

/// The daemon was listed: volumes of the bot and no container.
fn listed(engine: &mut Engine, begun: u64, bot: &Bot, now: Duration) {
    let snapshot = volumes_alone(begun, &[bot]);
    engine.take(News::Listed(Box::new(snapshot)), now);
}

/// What was in the volumes: nothing that is not in the store.
fn opened(bot: &Bot) -> News {
    let read = ("c1".to_owned(), Records::default());
    News::Opened(bot.id.clone(), Box::new(Ok(read)))
}

/// The container by which the volumes are looked into, as a listing tells it.
fn with_its_container(engine: &Engine, mut snapshot: Snapshot, bot: &Bot) -> Snapshot {
    let stack = &engine.access.template.stack;
    let mut labels = stack.labels(&bot.id);
    labels.insert(names::PURPOSE.to_owned(), "records".to_owned());
    let seen = Seen {
        id: "c1".into(),
        name: stack.container(&bot.id),
        stage: Far::Created,
        address: None,
        image: "i".into(),
        labels,
        made: None,
    };
    snapshot.ours.insert(bot.id.clone(), seen);
    snapshot
}

#[test]
fn a_listing_that_comes_while_volumes_are_looked_into_changes_nothing_about_them() {
    block_on(async {
        let mut stage = stage(|_| None);
        let (engine, bot) = (&mut stage.engine, bot("b"));
        listed(engine, 0, &bot, SECOND);
        engine.collect(|_| false, |_| false, SECOND);
        assert_eq!(keeping(engine, &bot), Some(Keeping::Opening));
        // One from before the container was made, one that has it, one from before the verdict.
        listed(engine, engine.clock.now(), &bot, 2 * SECOND);
        assert_eq!(keeping(engine, &bot), Some(Keeping::Opening));
        let begun = engine.clock.now();
        let snapshot = with_its_container(engine, volumes_alone(begun, &[&bot]), &bot);
        engine.take(News::Listed(Box::new(snapshot)), 3 * SECOND);
        assert!(
            engine.husks[&bot.id].id.is_empty(),
            "it is looked into twice"
        );
        assert!(!engine.slots.contains_key(&bot.id));
        engine.take(opened(&bot), 4 * SECOND);
        assert_eq!(keeping(engine, &bot), Some(Keeping::Saved));
        listed(engine, begun, &bot, 5 * SECOND);
        assert_eq!(keeping(engine, &bot), Some(Keeping::Saved));
        // One from after it means that somebody has removed the container: what is there now is not known.
        listed(engine, engine.clock.now(), &bot, 6 * SECOND);
        assert_eq!(keeping(engine, &bot), None);
        engine.collect(|_| false, |_| false, 6 * SECOND);
        assert_eq!(keeping(engine, &bot), Some(Keeping::Opening), "anew");
    });
}

#[test]
fn volumes_of_a_bot_that_was_put_back_meanwhile_are_its_own_again() {
    block_on(async {
        let mut stage = stage(|_| None);
        let (engine, bot) = (&mut stage.engine, bot("b"));
        listed(engine, 0, &bot, SECOND);
        engine.collect(|_| false, |_| false, SECOND);
        // Its start waits for the look to end, and is made over the container of the look.
        engine.start(&bot, Start::now(Cause::Created, None), 2 * SECOND);
        let reason = engine.slots[&bot.id].instance.reason.clone().unwrap();
        assert!(reason.contains("looked into"), "{reason}");
        assert!(!engine.slots[&bot.id].is_live());
        engine.take(opened(&bot), 3 * SECOND);
        engine.collect(|_| true, |_| false, 3 * SECOND);
        assert_eq!(keeping(engine, &bot), Some(Keeping::Saved), "it is listed");
        engine.start(&bot, Start::now(Cause::Created, None), 4 * SECOND);
        assert!(engine.slots[&bot.id].is_live());
        // Not listed again, or kept for long: it is being started, and runs.
        engine.collect(|_| false, |_| false, 4 * SECOND);
        engine.collect(|_| true, |_| false, Duration::from_hours(9));
        assert_eq!(keeping(engine, &bot), Some(Keeping::Saved));
        assert_eq!(engine.collect_now(&[], Unsaved::Keep), []);
        let running = started(&bot, "c2", None);
        engine.take(News::Started(bot.id.clone(), Ok(running)), 5 * SECOND);
        engine.collect(|_| false, |_| false, 5 * SECOND);
        assert_eq!(keeping(engine, &bot), None, "it runs: nothing is left over");
    });
}

#[test]
fn a_bot_is_not_started_on_volumes_that_are_being_removed() {
    block_on(async {
        let mut stage = stage(|_| None);
        let (engine, bot) = (&mut stage.engine, bot("b"));
        listed(engine, 0, &bot, SECOND);
        engine.collect(|_| false, |_| false, SECOND);
        engine.take(opened(&bot), 2 * SECOND);
        engine.collect(|_| false, |_| false, 2 * SECOND);
        assert_eq!(keeping(engine, &bot), Some(Keeping::Going));
        engine.start(&bot, Start::now(Cause::Created, None), 3 * SECOND);
        assert!(!engine.slots[&bot.id].is_live());
        let phase = &engine.slots[&bot.id].instance.actual.phase;
        assert!(matches!(phase, Phase::Ended(ended) if ended.failures == 0));
        // Not even when a listing has neither container nor volumes any more: they may be half gone.
        let snapshot = Snapshot {
            begun: engine.clock.now(),
            ..Snapshot::default()
        };
        engine.take(News::Listed(Box::new(snapshot)), 3 * SECOND);
        engine.start(&bot, Start::now(Cause::Created, None), 4 * SECOND);
        assert!(!engine.slots[&bot.id].is_live());
        engine.take(News::Removed(bot.id.clone(), Ok(())), 5 * SECOND);
        engine.start(&bot, Start::now(Cause::Created, None), 5 * SECOND);
        assert!(engine.slots[&bot.id].is_live());
    });
}

#[test]
fn volumes_go_only_with_the_container_that_the_verdict_is_about() {
    let discarded = |container: (u16, &'static str)| {
        block_on(async {
            let Stage { engine, daemon, .. } = stage(move |request| match &*request.method {
                "DELETE" if request.path.contains("/containers/c1") => Some(container),
                "DELETE" => Some((204, "")),
                _ => None,
            });
            let bot = bot("b");
            let result = discard(&engine.access, &bot.id, "c1").await;
            (result, daemon.count("DELETE", "/volumes/"))
        })
    };
    assert_eq!(discarded((204, "")), (Ok(()), 3));
    let (result, volumes) = discarded((404, "{\"message\": \"No such container: c1\"}"));
    assert!(result.unwrap_err().contains("removed by somebody"));
    assert_eq!(
        volumes, 0,
        "somebody was here: they may be another container's"
    );
    let (result, volumes) = discarded((409, "{\"message\": \"it runs\"}"));
    assert!(result.unwrap_err().contains("it runs"));
    assert_eq!(volumes, 0);
}

#[test]
fn what_was_made_for_a_tick_is_not_there_any_more_when_that_is_started() {
    block_on(async {
        let mut stage = stage(|_| None);
        let (engine, bot) = (&mut stage.engine, bot("b"));
        engine.access.lease = crate::lease::Lease::held_for(Duration::from_mins(1));
        let key = Key { at: 60, attempt: 1 };
        let stack = &engine.access.template.stack;
        let mut labels = stack.labels(&bot.id);
        labels.insert(names::TICK.to_owned(), key.to_string());
        let seen = Seen {
            id: "c1".into(),
            name: stack.container_for(&bot.id, Some(key)),
            stage: Far::Created,
            address: None,
            image: "i".into(),
            labels,
            made: None,
        };
        let mut snapshot = volumes_alone(0, &[&bot]);
        snapshot.ours.insert(bot.id.clone(), seen);
        engine.take(News::Listed(Box::new(snapshot)), SECOND);
        assert_eq!(engine.made(&bot.id), Some(key));
        let start = Start {
            tick: Some(key),
            ..Start::now(Cause::Tick, None)
        };
        engine.start(&bot, start, SECOND);
        assert_eq!(engine.made(&bot.id), None);
    });
}
