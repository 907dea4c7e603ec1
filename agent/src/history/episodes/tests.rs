use super::*;
use crate::history::tests::{bot, time};

const THRESHOLDS: Thresholds = Thresholds {
    crashes: 5,
    unsaved: Duration::from_secs(300),
};

fn look(restarts: u32, life: Lives, at: u64) -> Look {
    Look {
        restarts,
        life,
        saving: Saving::Unknown,
        at: time(at),
        message: "m".into(),
    }
}

fn told(notices: &[Notice]) -> Vec<(Trouble, bool)> {
    notices.iter().map(|n| (n.trouble, n.is_over)).collect()
}

#[test]
fn crashing_is_told_once_and_its_end_once() {
    let mut episodes = Episodes::default();
    let mut see = |look: Look| told(&episodes.see(&bot(), &look, THRESHOLDS));
    for restarts in 0..5 {
        assert_eq!(see(look(restarts, Lives::Between, 10)), []);
    }
    assert_eq!(
        see(look(5, Lives::Between, 20)),
        [(Trouble::Crashing, false)]
    );
    assert_eq!(see(look(6, Lives::Between, 30)), []);
    // It is started anew, and its supervisor counts from 0: that is no recovery.
    assert_eq!(see(look(0, Lives::Since(time(40)), 45)), []);
    assert_eq!(see(look(5, Lives::Since(time(50)), 55)), []);
    assert_eq!(
        see(look(5, Lives::Since(time(50)), 110)),
        [(Trouble::Crashing, true)]
    );
    assert_eq!(see(look(5, Lives::Since(time(50)), 120)), []);
    assert_eq!(see(look(0, Lives::Since(time(50)), 130)), []);
    assert_eq!(
        see(look(5, Lives::Between, 140)),
        [(Trouble::Crashing, false)]
    );
}

#[test]
fn a_notice_says_since_when() {
    let mut episodes = Episodes::default();
    episodes.see(&bot(), &look(1, Lives::Between, 10), THRESHOLDS);
    let notices = episodes.see(&bot(), &look(5, Lives::Between, 30), THRESHOLDS);
    assert_eq!(notices[0].since, time(10));
    assert_eq!((notices[0].restarts, notices[0].message.as_str()), (5, "m"));
}

#[test]
fn a_bot_that_is_stopped_ends_its_episode_without_a_word() {
    let mut episodes = Episodes::default();
    let mut see = |look: Look| told(&episodes.see(&bot(), &look, THRESHOLDS));
    assert_eq!(see(look(9, Lives::Between, 1)).len(), 1);
    assert_eq!(see(look(9, Lives::Stopped, 2)), []);
    assert_eq!(
        see(look(9, Lives::Between, 3)),
        [(Trouble::Crashing, false)]
    );
}

#[test]
fn unsaved_is_told_when_it_has_lasted_and_its_end_once() {
    let mut episodes = Episodes::default();
    let mut see = |saving: Saving, at: u64| {
        let look = Look {
            saving,
            ..look(0, Lives::Since(time(0)), at)
        };
        told(&episodes.see(&bot(), &look, THRESHOLDS))
    };
    assert_eq!(see(Saving::Works, 10), []);
    assert_eq!(see(Saving::Fails(time(20)), 21), []);
    assert_eq!(see(Saving::Fails(time(300)), 301), []);
    assert_eq!(
        see(Saving::Fails(time(310)), 321),
        [(Trouble::Unsaved, false)]
    );
    assert_eq!(see(Saving::Fails(time(400)), 900), []);
    assert_eq!(see(Saving::Unknown, 910), []);
    assert_eq!(see(Saving::Works, 920), [(Trouble::Unsaved, true)]);
    assert_eq!(see(Saving::Fails(time(930)), 931), []);
    assert_eq!(see(Saving::Works, 940), []);
}

#[test]
fn what_was_told_is_remembered_over_the_agents_end() {
    let mut episodes = Episodes::default();
    let crashing = look(5, Lives::Between, 5);
    assert_eq!(episodes.see(&bot(), &crashing, THRESHOLDS).len(), 1);
    let text = serde_json::to_string(&episodes).unwrap();
    let mut again: Episodes = serde_json::from_str(&text).unwrap();
    assert_eq!(again, episodes);
    assert_eq!(again.see(&bot(), &crashing, THRESHOLDS), []);
    assert!(again.is_open(&bot()));
    again.retain(|_| false);
    assert!(!again.is_open(&bot()));
}
