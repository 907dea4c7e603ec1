//! Notices to the operator's address.

use tests::listener::Listener;
use tests::wait_for;

use crate::dev::{LONG, Place};

#[test]
fn a_bot_that_keeps_crashing_is_told_once_with_the_end_of_its_log() {
    let listener = Listener::start(1);
    let mut place = Place::new();
    let url = format!("http://u:hunter2@{}/hook", listener.address);
    place.settings.push(("THE0_NOTICE_URL", url));
    place.settings.push(("THE0_NOTICE_CRASHES", "3".to_owned()));
    let main = "def main(id, config):\n    print('BOOM', flush=True)\n    raise ValueError('x')\n";
    place.bot("boom", main, "");
    place.begin();
    let notice = wait_for("a notice", LONG, || listener.taken().into_iter().next());
    assert_eq!(notice["kind"], "crashing");
    assert_eq!(notice["name"], "boom");
    assert!(
        notice["bot"].is_string() && notice["since"].is_string(),
        "{notice}"
    );
    assert!(notice["restarts"].as_u64() >= Some(3), "{notice}");
    assert!(
        notice["message"].as_str().unwrap().contains("exit 1"),
        "{notice}"
    );
    let log = notice["log"].as_array().unwrap();
    assert!((1..=20).contains(&log.len()), "{notice}");
    assert!(
        log.iter()
            .any(|line| line.as_str().unwrap().contains("BOOM")),
        "{notice}"
    );

    // It goes on crashing, over the agent's end too, and is not told again.
    wait_for("more crashes", LONG, || {
        (place.entries("boom").len() > 5).then_some(())
    });
    place.end();
    let before = place.entries("boom").len();
    place.begin();
    wait_for("crashes of a second session", LONG, || {
        (place.entries("boom").len() > before + 4).then_some(())
    });
    assert_eq!(listener.taken().len(), 1, "{:?}", listener.taken());
    assert!(!place.said().contains("hunter2"));
    place.end();
}
