//! Bots of every runtime, with query programs written by hand to the contract, answer on both ways.

use mongodb::bson::doc;
use serde_json::json;
use tests::stack::LONG;
use tests::{repository, skip, wait_for};

use crate::rig::Rig;

const ALL: [(&str, &str, &str); 7] = [
    ("python3.11", "main.py", "query.py"),
    ("nodejs20", "main.js", "query.js"),
    ("rust-stable", "bot", "query"),
    ("gcc13", "bot", "query"),
    ("dotnet8", "Bot.dll", "Query.dll"),
    ("scala3", "bot.jar", "query.jar:query.Main"),
    ("ghc96", "bot", "query"),
];

#[test]
fn bots_of_every_runtime_answer_live_and_apart() {
    let test = "gateway::runtimes";
    let Some(rig) = Rig::start(test, &[]) else {
        return;
    };
    for (runtime, main, query) in ALL {
        let code = repository().join(".cache/bots").join(runtime);
        if !code.is_dir() {
            skip(
                test,
                &format!("the {runtime} bot is not built: run tests/setup/bots.sh"),
            );
            continue;
        }
        if rig.stack.docker.image(test, runtime).is_none() {
            continue;
        }
        let id = rig.bot_in(runtime, &code, &[main, query], &runtime.replace('.', "-"));
        rig.live(&id, "/count");
        wait_for(&format!("a count of the {runtime} bot"), LONG, || {
            (rig.answers(&id, "/count")["count"].as_u64()? > 1).then_some(())
        });
        rig.stack.change(&id, doc! {"enabled": false});
        rig.stack.state(&id, "disabled");
        let name = rig.stack.container(&id).name;
        wait_for("the end of its container", LONG, || {
            (rig.stack.docker.inspect(&name)["State"]["Running"] == false).then_some(())
        });
        let apart = rig.ask(&id, "/count", &json!({})).json();
        assert!(
            apart["data"]["count"].as_u64() > Some(1),
            "{runtime}: {apart}"
        );
        let none = rig.ask(&id, "/none", &json!({}));
        assert_eq!(none.status, 500, "{runtime}: {none:?}");
        assert!(none.body.contains("No handler"), "{runtime}: {none:?}");
    }
}
