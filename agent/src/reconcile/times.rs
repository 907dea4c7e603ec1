//! What the loop does for bots that run at times: what is due is claimed, and a claimed tick is wanted once.

use std::sync::Arc;
use std::time::Instant;

use contract::BotId;

use super::World;
use crate::engine::Engine;
use crate::lister::Waker;
use crate::plan::{Switch, Wanted};
use crate::schedule::ask::Asked;
use crate::schedule::ledger::{Key, Ledger};
use crate::schedule::{News, Order};

impl World {
    /// Takes in a listing begun at `begun`.
    pub(super) fn list_schedules(&mut self, begun: Instant) {
        let listing = Arc::clone(&self.listing);
        if let Some(schedules) = &mut self.schedules {
            schedules.listed(&listing, begun);
        }
    }

    /// Takes in what has become of a word.
    pub(super) fn take_word(&mut self, news: News) {
        let Some(schedules) = &mut self.schedules else {
            return;
        };
        schedules.take(news);
        if schedules.is_curious() {
            self.waker.iter().for_each(Waker::wake);
        }
        if let Some(history) = &self.history {
            for missed in schedules.missed() {
                history.not_started(missed);
            }
        }
    }

    /// Does what there is to do about schedules; which ticks may be started now is among what is wanted then.
    pub(super) fn step_schedules(&mut self) {
        let (stopped, switch) = (&self.stopped, self.switch);
        let may = |bot: &BotId| switch == Switch::On && !stopped.contains(bot);
        let Some(schedules) = &mut self.schedules else {
            return;
        };
        schedules.heed(stopped, switch == Switch::On);
        schedules.moved(self.engine.moved());
        let orders = schedules.step(&self.engine, may);
        for (bot, next) in schedules.wanted() {
            if let Some(wanted) = self.wanted.get_mut(bot)
                && matches!(wanted, Wanted::Idle | Wanted::Once)
            {
                *wanted = next;
            }
        }
        for order in orders {
            match order {
                Order::Stop(bot, why) => self.stop(&bot, why),
                Order::Unmake(bot) => self.engine.unmake(&bot),
                Order::LookAnew => self.engine.look_anew(),
                Order::HandOver(row) => self.engine.hand_over(&row),
                Order::TakeBack(bot) => self.engine.take_back(&bot),
            }
        }
    }

    /// What is written down of the bot's schedule, if it has one.
    pub fn timing(&self, bot: &BotId) -> Option<&Ledger> {
        self.schedules.as_ref()?.timing(bot)
    }

    /// Makes the bot's next tick due now; `tell` gets what has become of that.
    pub fn run_now(&mut self, bot: &BotId, tell: impl FnOnce(Asked) + Send + 'static) {
        match &mut self.schedules {
            Some(schedules) => schedules.run_now(bot, tell),
            None => tell(Asked::Not("no bot runs at times here".to_owned())),
        }
    }

    /// The tick of the bot that is started now; `None`: none is to be.
    pub(super) fn launch_tick(&mut self, bot: &BotId) -> Option<Key> {
        let schedules = self.schedules.as_mut()?;
        let key = schedules.launch(bot)?;
        if let Engine::Process(_) = self.engine
            && schedules.permits().take_now(bot, key).is_err()
        {
            schedules.give_up(bot);
            return None;
        }
        Some(key)
    }
}
