use super::*;
use crate::history::tests::{birth, time};
use serde_json::json;

fn bot(version: &str, step: u64) -> Bot {
    let document = json!({
        "id": "b1", "config": {"step": step},
        "custom": {"version": version, "filePath": format!("u/b/{version}"), "config": {
            "name": "b", "type": "realtime", "runtime": "python3.11", "version": version,
            "entrypoints": {"bot": "main.py"}}}
    });
    Bot::from_document(&document).unwrap()
}

fn made_of(bot: &Bot) -> Birth {
    Birth {
        version: Some(bot.definition.version.clone()),
        code: Some(bot.code.to_string()),
        launch: Some(launch::digest(bot).as_str().to_owned()),
        ..birth(time(100))
    }
}

fn known(birth: &Birth) -> Before<'_> {
    Before {
        birth: Some(birth),
        is_known: true,
        boot: None,
    }
}

const NEW: Before<'static> = Before {
    birth: None,
    is_known: false,
    boot: None,
};

fn id() -> BotId {
    "b1".parse().unwrap()
}

fn crashed() -> Last {
    Last::Ended(Reason::Exited, "exit 1".into())
}

#[test]
fn a_bot_is_new_or_its_host_was_away() {
    let one = bot("1", 1);
    let mut track = Track::default();
    assert_eq!(track.start(&one, &NEW).cause, Cause::Created);
    let here = Before {
        is_known: true,
        ..NEW
    };
    assert_eq!(track.start(&one, &here).cause, Cause::Host);
}

#[test]
fn a_bot_that_comes_back_while_the_agent_runs_is_there_again() {
    let one = bot("1", 1);
    let mut track = Track::default();
    let wanted = BTreeMap::from([(id(), Wanted::Run(launch::digest(&one)))]);
    track.keep(&BTreeMap::new(), &BTreeSet::new(), Switch::On);
    track.keep(&wanted, &BTreeSet::new(), Switch::On);
    let here = Before {
        is_known: true,
        ..NEW
    };
    let start = track.start(&one, &here);
    assert_eq!(start.to_string(), "created: it is there again");
}

#[test]
fn what_keeps_a_bot_from_running_is_why_it_is_started_when_that_is_gone() {
    let one = bot("1", 1);
    let birth = made_of(&one);
    let wanted = |wanted| BTreeMap::from([(id(), wanted)]);
    let run = wanted(Wanted::Run(launch::digest(&one)));
    let stopped = BTreeSet::from([id()]);
    let nobody = BTreeSet::new();
    let mut track = Track::default();

    track.keep(&wanted(Wanted::Off), &nobody, Switch::On);
    track.keep(&run, &nobody, Switch::On);
    assert_eq!(track.start(&one, &known(&birth)).cause, Cause::Enabled);

    track.keep(&run, &stopped, Switch::On);
    assert_eq!(track.start(&one, &known(&birth)).cause, Cause::Asked);

    track.keep(&run, &nobody, Switch::Off);
    let start = track.start(&one, &known(&birth));
    assert_eq!(start.cause, Cause::Host);
    assert_eq!(start.because.as_deref(), Some("all bots were stopped"));

    track.end(&id(), crashed());
    let start = track.start(&one, &known(&birth));
    assert_eq!(start.to_string(), "crashed: exit 1", "nothing else is left");
}

#[test]
fn a_change_is_of_the_code_or_of_the_config() {
    let one = bot("1", 1);
    let birth = made_of(&one);
    let mut track = Track::default();
    for (next, cause) in [
        (bot("2", 1), Cause::Code),
        (bot("2", 2), Cause::Code),
        (bot("1", 2), Cause::Config),
    ] {
        track.stop(&id(), Why::Changed);
        track.end(&id(), Last::Ended(Reason::Stopped, "exit 143".into()));
        assert_eq!(track.start(&next, &known(&birth)).cause, cause);
        // It had failed, and a change is what lets it be started again.
        track.end(&id(), Last::NotStarted("no".into()));
        assert_eq!(track.start(&next, &known(&birth)).cause, cause);
    }
}

#[test]
fn a_folder_whose_definition_has_changed_has_another_bundle_and_is_another_config() {
    let one = bot("1", 1);
    let mut birth = made_of(&one);
    birth.code = Some("dev/b/another".into());
    birth.config = Some(launch::config_digest(&one).as_str().to_owned());
    assert_eq!(changed(&birth, &bot("1", 2)), Some(Cause::Config));
    birth.launch = Some("another".into());
    assert_eq!(changed(&birth, &one), Some(Cause::Code));
}

#[test]
fn a_person_and_the_operator_are_told_apart() {
    let one = bot("1", 1);
    let birth = made_of(&one);
    let mut track = Track::default();
    track.stop(&id(), Why::Restarted);
    track.stop(&id(), Why::Changed);
    assert_eq!(track.why(&id()), Some(Why::Restarted));
    assert_eq!(track.start(&one, &known(&birth)).cause, Cause::Asked);
    assert_eq!(track.why(&id()), None);
    track.stop(&id(), Why::Rolled);
    assert_eq!(track.start(&one, &known(&birth)).cause, Cause::Rolled);
    track.ask(&id());
    track.end(&id(), crashed());
    assert_eq!(track.start(&one, &known(&birth)).cause, Cause::Asked);
}

#[test]
fn an_end_that_nobody_here_wanted_is_the_cause() {
    let one = bot("1", 1);
    let birth = made_of(&one);
    let ended = |reason| Last::Ended(reason, "how".into());
    let rows = [
        (crashed(), Cause::Crashed),
        (ended(Reason::Oom), Cause::Crashed),
        (ended(Reason::Lost), Cause::Crashed),
        (ended(Reason::Stopped), Cause::Host),
        (ended(Reason::Fenced), Cause::Fenced),
        (ended(Reason::StartFailed), Cause::Retried),
        (Last::NotStarted("no image".into()), Cause::Retried),
    ];
    for (last, cause) in rows {
        let mut track = Track::default();
        track.end(&id(), last.clone());
        assert_eq!(track.start(&one, &known(&birth)).cause, cause, "{last:?}");
    }
    let mut track = Track::default();
    track.end(&id(), ended(Reason::Lost));
    let after_boot = Before {
        boot: Some(time(200)),
        ..known(&birth)
    };
    let start = track.start(&one, &after_boot);
    assert_eq!(start.to_string(), "host: the host was started anew");
}

#[test]
fn this_host_was_started_in_the_past() {
    assert!(boot().unwrap() < Time::now());
}

#[test]
fn an_agent_that_is_told_to_let_bots_run_before_it_has_looked_knows_why_they_start() {
    let one = bot("1", 1);
    let birth = made_of(&one);
    let mut track = Track::default();
    track.let_go();
    track.keep(&BTreeMap::new(), &BTreeSet::new(), Switch::On);
    track.end(&id(), Last::Ended(Reason::Stopped, String::new()));
    let wanted = BTreeMap::from([(id(), Wanted::Run(launch::digest(&one)))]);
    track.keep(&wanted, &BTreeSet::new(), Switch::On);
    let start = track.start(&one, &known(&birth));
    assert_eq!(start.because.as_deref(), Some("all bots were stopped"));
    track.keep(&wanted, &BTreeSet::new(), Switch::On);
    track.end(&id(), Last::Ended(Reason::Stopped, String::new()));
    let start = track.start(&one, &known(&birth));
    let outside = "it was stopped from outside";
    assert_eq!(start.because.as_deref(), Some(outside), "once");
}
