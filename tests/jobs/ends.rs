//! How jobs come out.

use serde_json::{Value, json};

use crate::rig::{GOOD, Rig, is_success};

/// Ends at once, without a result.
const BARE: &str = "import os\ndef main(id, config):\n    os._exit(config['code'])\n";
/// Writes a result of its own and ends at once.
const WRITES: &str = "import os\ndef main(id, config):\n    open('/bot/result.json', 'w').write(config['text'] * config.get('times', 1))\n    os._exit(0)\n";
/// Takes more memory than it may have.
const GREEDY: &str = "def main(id, config):\n    all = [bytearray(1 << 20) for _ in range(4096)]\n    print(len(all))\n";

fn failed(rig: &Rig, id: &str, word: &str) -> Value {
    let job = rig.becomes(id, "failed");
    let told = rig.is_told(id);
    assert_eq!(told["success"], false);
    let error = told["error"].as_str().unwrap();
    assert!(error.contains(word), "{error}");
    assert_eq!(job["error"], told["error"]);
    let result = rig.result(id).unwrap();
    assert_eq!(result["status"], "error");
    result
}

#[test]
fn a_job_has_its_own_result_or_one_made_of_its_end_and_is_told_of_once() {
    let Some(rig) = Rig::start("jobs::ends", &[("THE0_JOB_RESULT", "64Ki")]) else {
        return;
    };
    let (good, event) = rig.asked("good", GOOD, &json!({"n": 7}));
    rig.say(&event);
    let bare = rig.job("bare", BARE, &json!({"code": 0}));
    let three = rig.job("three", BARE, &json!({"code": 3}));
    let garbled = rig.job("garbled", WRITES, &json!({"text": "{\"a\": hunter2"}));
    let large = rig.job(
        "large",
        WRITES,
        &json!({"text": "[1, 2, 3]\n", "times": 20_000}),
    );
    let greedy = rig.job("greedy", GREEDY, &json!({"memory_limit": "48Mi"}));

    let job = rig.becomes(&good, "completed");
    assert_eq!(job["result"], format!("{good}/result.json"));
    is_success(&rig.is_told(&good), &good);
    let result = rig.result(&good).unwrap();
    assert_eq!(result["data"], json!({"n": 7}));

    rig.becomes(&bare, "completed");
    is_success(&rig.is_told(&bare), &bare);
    assert_eq!(rig.result(&bare).unwrap()["status"], "success");

    let result = failed(&rig, &three, "exit 3");
    assert_eq!(result["data"]["exit_code"], 3);
    let result = failed(&rig, &garbled, "not JSON");
    assert!(!result.to_string().contains("hunter2"));
    failed(&rig, &large, "more than the 65536 bytes");
    failed(&rig, &greedy, "memory");

    // The same event again, and one with the same id that asks for something else: nothing is run again.
    rig.say(&event);
    let last = rig.job("last", GOOD, &json!({}));
    rig.becomes(&last, "completed");
    is_success(&rig.is_told(&last), &last);
    is_success(&rig.is_told(&good), &good);
    for id in [&good, &bare, &three, &garbled, &large, &greedy, &last] {
        rig.is_gone(id);
        assert_eq!(rig.starts(id), 1, "{id}");
        let state = rig.host.objects().list("bot-state", &format!("{id}/"));
        assert!(state.is_empty(), "a job has no state: {state:?}");
    }
    let logged = rig.host.ok(&["job", "logs", &good]);
    assert!(logged.contains(&format!("TESTED {good}")), "{logged}");
}

#[test]
fn what_cannot_run_is_told_as_failed_and_what_has_no_id_is_put_aside() {
    let Some(rig) = Rig::start("jobs::refused", &[]) else {
        return;
    };
    let (none, mut event) = rig.asked("none", GOOD, &json!({}));
    event["custom"]["config"]["entrypoints"] = json!({"bot": "main.py"});
    rig.say(&event);
    rig.becomes(&none, "failed");
    let told = rig.is_told(&none);
    let error = told["error"].as_str().unwrap();
    assert!(
        error.contains("entrypoints.backtest: is missing"),
        "{error}"
    );
    assert_eq!(rig.starts(&none), 0);

    rig.say(&json!({"config": {"key": "hunter2"}}));
    let (lost, mut event) = rig.asked("lost", GOOD, &json!({}));
    event["custom"]["filePath"] = "tests/nowhere/1".into();
    rig.say(&event);
    let error = rig.becomes(&lost, "failed")["error"].clone();
    let error = error.as_str().unwrap();
    assert!(error.contains("the code could not be fetched"), "{error}");
    let letters = rig.host.nats.as_ref().unwrap().letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].headers["The0-Stream"], "THE0_JOBS");
    assert!(letters[0].headers["The0-Reason"].starts_with("id: is missing"));
    assert!(!rig.host.said().contains("hunter2"));
}

#[test]
fn a_job_that_takes_longer_than_it_may_is_ended_and_failed() {
    let Some(rig) = Rig::start("jobs::limit", &[("THE0_JOB_TIME", "3s")]) else {
        return;
    };
    let forever = "import time\ndef main(id, config):\n    time.sleep(10000)\n";
    let late = rig.job("late", forever, &json!({}));
    failed(&rig, &late, "the time a job may take");
    rig.is_gone(&late);
}
