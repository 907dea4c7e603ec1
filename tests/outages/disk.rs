//! A full disk under the agent's data folder, a small one of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::servers::mongo::bson::Document;
use tests::stack::LONG;
use tests::{run, skip, text, wait_for};

use crate::world::World;

/// A file system of one MiB in memory; it goes with the test.
struct Small(PathBuf);

impl Small {
    fn at(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).expect("a folder");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(path);
        run(&mut mount)
            .status
            .success()
            .then(|| Self(path.to_owned()))
    }

    fn fill(&self) {
        let mut size = 1 << 20;
        let mut filled = 0;
        while size > 0 {
            let path = self.0.join(format!("filler{filled}"));
            if fs::write(path, vec![0; size]).is_err() {
                size /= 2;
            }
            filled += 1;
        }
    }

    fn free(&self) {
        let entries = fs::read_dir(&self.0).expect("a folder").flatten();
        for entry in entries {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                fs::remove_file(entry.path()).expect("a file removed");
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[test]
fn an_agent_with_a_full_disk_goes_on_comes_again_and_does_not_promise_what_it_cannot_keep() {
    let test = "outages::disk";
    let Some(mut world) = World::new(test) else {
        return;
    };
    let Some(small) = Small::at(&world.stack.data()) else {
        return skip(test, "no file system can be mounted: it needs root");
    };
    world.stack.launch();
    world.settles();
    small.fill();
    world.runs_on();
    world.say_new();
    world.makes_good();

    let bot = world.bot.clone();
    let refused = world.stack.run(&["stop", &bot]);
    let why = text(&refused.stderr);
    assert!(
        !refused.status.success() && why.contains("could not be written down here"),
        "{why}"
    );
    wait_for("a bot that is stopped all the same", LONG, || {
        (!world.stack.container(&bot).is_running()).then_some(())
    });
    wait_for("the word in the database", LONG, || {
        let kept = world.stack.mongo.all("bot_runner.the0");
        let is_orders = |kept: &Document| kept.get_str("_id").is_ok_and(|id| id == "orders");
        let orders = kept.into_iter().find(is_orders)?;
        let bots = orders.get_document("bots").ok()?;
        bots.contains_key(&bot).then_some(())
    });
    world.stack.kill();
    world.stack.launch();
    world.becomes_ready(LONG);
    world.stack.state(&bot, "stopped");

    small.free();
    world.stack.ok(&["start", &bot]);
    world.stack.state(&bot, "running");
    world.stack.ok(&["stop", &bot]);
    world.stack.state(&bot, "stopped");
    world.stack.kill();
    world.stack.launch();
    world.becomes_ready(LONG);
    world.stack.state(&bot, "stopped");
}
