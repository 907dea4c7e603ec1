//! What people have said: remembered over the agent's own end and, where bots are a database's, on every agent of it.

use std::collections::BTreeSet;

use contract::BotId;

use super::World;
use crate::place;
use crate::plan::Switch;

/// Bots that are named in one line.
const NAMED: usize = 5;

impl World {
    /// Remembers which bots a person has stopped; gives why not.
    pub fn save_stopped(&mut self) -> Option<String> {
        let unkept = self.remember_stopped();
        self.hand_on();
        unkept
    }

    /// Remembers whether any bot may run; gives why not.
    pub fn save_switch(&mut self) -> Option<String> {
        let unkept = self.remember_switch();
        self.hand_on();
        unkept
    }

    /// Takes in what was said to other agents.
    pub(super) fn hear_words(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        match desk.take() {
            Ok(false) => return,
            Ok(true) => {}
            Err(err) => self.console.warn(&format!(
                "what was said to another agent counts, but is not remembered here: {err}"
            )),
        }
        let (stopped, switch) = (desk.stopped(), desk.switch());
        self.tell_words(&stopped, switch);
        (self.stopped, self.switch) = (stopped, switch);
        self.remember_stopped();
        self.remember_switch();
        self.wake = None;
    }

    /// Whether all that was said before it was this agent's turn is known.
    pub(super) fn knows_words(&self) -> bool {
        let since = self.began + self.turn.1;
        let mut desk = self.desk.iter();
        desk.all(|desk| desk.is_known_since(since))
    }

    fn tell_words(&self, stopped: &BTreeSet<BotId>, switch: Switch) {
        if switch != self.switch {
            self.console.say(match switch {
                Switch::On => "bots run again as they are wanted: so another agent was told",
                Switch::Off => {
                    "all bots are stopped until `agent start --all`: so another agent was told"
                }
            });
        }
        let changed = [
            ("stopped", stopped.difference(&self.stopped)),
            ("to run again", self.stopped.difference(stopped)),
        ];
        for (what, bots) in changed {
            let bots: Vec<&str> = bots.map(BotId::as_str).collect();
            if !bots.is_empty() {
                let more = if bots.len() > NAMED {
                    " and others"
                } else {
                    ""
                };
                let bots = bots[..bots.len().min(NAMED)].join(", ");
                self.console
                    .say(&format!("{bots}{more}: {what}, as another agent was told"));
            }
        }
    }

    fn hand_on(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        if let Err(err) = desk.say(&self.stopped, self.switch) {
            self.console.warn(&format!(
                "what was said is not remembered over the agent's end, unless the database is reached before: {err}"
            ));
        }
    }

    fn remember_stopped(&self) -> Option<String> {
        let data = &self.host.data;
        if place::stopped(data).is_ok_and(|kept| kept == self.stopped) {
            return None;
        }
        let why = self.unkept(&place::remember_stopped(data, &self.stopped).err()?);
        self.console.warn(&format!("which bots are stopped: {why}"));
        Some(why)
    }

    fn remember_switch(&self) -> Option<String> {
        let data = &self.host.data;
        if place::switch(data).is_ok_and(|kept| kept == self.switch) {
            return None;
        }
        let why = self.unkept(&place::remember_switch(data, self.switch).err()?);
        self.console.warn(&format!(
            "that all bots are stopped, or not any more: {why}"
        ));
        Some(why)
    }

    fn unkept(&self, cause: &std::io::Error) -> String {
        let who = match self.desk {
            Some(_) => "the next agent will know it only if the database is reached before",
            None => "the next agent will not know it",
        };
        format!("{who}, as it could not be written down here: {cause}")
    }
}
