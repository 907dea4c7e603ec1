//! Names and labels: how what belongs to a bot of a stack is told from everything else on the daemon.
//!
//! A container's name is made of stack and bot, so the daemon itself refuses a second container of one bot. Neither has
//! a dot, which stands between them, so no two pairs make one name.

use std::collections::HashMap;

use contract::BotId;

use crate::schedule::ledger::Key;

/// The contract's label that a container is a bot's, `true`.
pub const MANAGED: &str = "runtime.managed";
/// The contract's label of the bot's id.
pub const ID: &str = "runtime.id";
/// The contract's label of what the container is there for.
pub const TYPE: &str = "runtime.type";
/// What [`TYPE`] says of a container that is there for one question: it is not the bot's.
pub const QUERY: &str = "query";
/// The contract's label of which of the code's entrypoints it runs.
pub const ENTRYPOINT: &str = "runtime.entrypoint";
/// The stack.
pub const STACK: &str = "the0.stack";
/// The bot's name, for a person.
pub const NAME: &str = "the0.name";
/// The launch digest of the bot's document.
pub const LAUNCH: &str = "the0.launch";
/// The digest of what the operator sets and of the image.
pub const TEMPLATE: &str = "the0.template";
/// The image's id.
pub const IMAGE: &str = "the0.image";
/// The code bundle's key.
pub const CODE: &str = "the0.code";
/// Seconds that the container's supervisor may take to end.
pub const PATIENCE: &str = "the0.patience";
/// That the container is never started, and is there for its volumes to be read: `records`.
pub const PURPOSE: &str = "the0.purpose";
/// Why the container was started, see [`crate::history::cause`].
pub const CAUSE: &str = "the0.cause";
/// Which try of which tick of a schedule it was started for.
pub const TICK: &str = "the0.tick";
/// When it was decided to start it, RFC 3339.
pub const BEGAN: &str = "the0.began";
/// The code's version.
pub const VERSION: &str = "the0.version";
/// The version of the agent that made the container.
pub const AGENT: &str = "the0.agent";

pub use crate::engine::stack::Stack;

impl Stack {
    /// The name of the bot's container.
    pub fn container(&self, bot: &BotId) -> String {
        format!("the0-{}.{bot}", self.as_str())
    }

    /// The name of the container of one tick of the bot's schedule, whichever try it is: there is never a second one.
    pub fn container_for(&self, bot: &BotId, tick: Option<Key>) -> String {
        match tick {
            Some(tick) => format!("{}.{}", self.container(bot), tick.at),
            None => self.container(bot),
        }
    }

    /// The names of the bot's volumes.
    pub fn volumes(&self, bot: &BotId) -> [(String, &'static str); 3] {
        let name = |what: &str| format!("{}.{what}", self.container(bot));
        [
            (name("code"), "/bot"),
            (name("state"), "/state"),
            (name("var"), "/var/the0"),
        ]
    }

    /// The name of the stack's own network.
    pub fn network(&self) -> String {
        format!("the0-{}", self.as_str())
    }

    /// The labels of everything that belongs to a bot.
    pub fn labels(&self, bot: &BotId) -> HashMap<String, String> {
        let pairs = [
            (MANAGED, "true"),
            (ID, bot.as_str()),
            (STACK, self.as_str()),
        ];
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    /// The bot whose the thing with these labels is; `None` if it is not of this stack. The name does not count: a
    /// container that somebody has renamed runs its bot all the same.
    pub fn bot_of(&self, labels: &HashMap<String, String>) -> Option<BotId> {
        let is = |label: &str, value: &str| labels.get(label).is_some_and(|v| v == value);
        if !is(MANAGED, "true") || !is(STACK, self.as_str()) || is(TYPE, QUERY) {
            return None;
        }
        labels.get(ID)?.parse().ok()
    }
}

/// A label's value; empty where there is none.
pub fn label(labels: &HashMap<String, String>, name: &str) -> String {
    labels.get(name).cloned().unwrap_or_default()
}

/// Which try of which tick a container was made for.
pub fn tick(labels: &HashMap<String, String>) -> Option<Key> {
    labels.get(TICK)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot(id: &str) -> BotId {
        id.parse().unwrap()
    }

    #[test]
    fn no_two_bots_of_any_stacks_have_one_name() {
        let (one, other): (Stack, Stack) = ("a".parse().unwrap(), "a-b".parse().unwrap());
        assert_ne!(one.container(&bot("b-c")), other.container(&bot("c")));
        let ticks = [1, 2].map(|at| Some(Key { at, attempt: 1 }));
        let again = Some(Key { at: 1, attempt: 2 });
        let name = |tick| one.container_for(&bot("b"), tick);
        assert_ne!(name(ticks[0]), name(ticks[1]));
        assert_eq!(name(ticks[0]), name(again), "a tick is one container");
        assert_eq!(name(None), one.container(&bot("b")));
        for bad in ["", "a.b", "A", "é", &"x".repeat(41)] {
            assert!(bad.parse::<Stack>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_ours_by_its_labels_is_nobodys() {
        let stack: Stack = "s".parse().unwrap();
        let labels = stack.labels(&bot("b1"));
        assert_eq!(stack.bot_of(&labels), Some(bot("b1")));
        let other: Stack = "t".parse().unwrap();
        assert_eq!(other.bot_of(&labels), None);
        for label in [MANAGED, STACK, ID] {
            let mut fewer = labels.clone();
            fewer.remove(label);
            assert_eq!(stack.bot_of(&fewer), None, "{label}");
        }
    }
}
