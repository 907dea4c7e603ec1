//! Whether it is this agent's turn to act, and what is told outside of how things are.

use std::time::{Duration, Instant};

use tokio::time::Instant as Moment;

use super::{TICK, World, pace};
use crate::engine::Engine;
use crate::events::Link;
use crate::health::{Dependency, View};
use crate::live::printer::printers;
use crate::orders::desk::Desk;
use crate::{report, request};

/// Time between two looks at what is told outside.
const SHOW: Duration = Duration::from_secs(2);

impl World {
    /// Converges if this agent may act, by what it has seen since it may; if it may not, what people have said counts
    /// all the same.
    pub(super) fn converge_in_turn(&mut self) {
        let (turn, now) = (self.lease.turn(), self.now());
        self.wake = Some(now + TICK);
        if self.turn.0 != turn {
            self.turn = (turn, now);
            if turn.is_some() {
                self.engine.look_anew();
                self.look_again();
                self.desk.iter().for_each(Desk::look);
            }
        }
        let listed = self.listed.is_some_and(|listed| listed >= self.turn.1);
        let is_new = listed && self.knows_words();
        if !self.engine.is_ready() {
            return;
        }
        if turn.is_none() || !is_new {
            return self.obey();
        }
        self.said.clear();
        let (begun, worked) = (Instant::now(), pace::worked());
        self.converge();
        let took = begun.elapsed();
        let worked = pace::worked().saturating_sub(worked);
        self.pace.looked(worked, Moment::now());
        self.board.count(|metrics| metrics.reconciled(took));
    }

    /// Tells outside how things are, now and then.
    pub(super) fn show(&mut self) {
        self.board.beat();
        if std::mem::take(&mut self.is_moved) {
            self.tell_running();
        }
        let now = self.now();
        if self.shown.is_some_and(|shown| now < shown + SHOW) {
            return;
        }
        self.shown = Some(now);
        self.tell_running();
        let mut view = View {
            listed: self.listed.and_then(|at| self.began.checked_add(at)),
            ..View::default()
        };
        for from in request::sources(self) {
            *view.bots.entry(report::word(&from)).or_default() += 1;
        }
        if let Engine::Docker(docker) = &self.engine {
            view.unsaved = docker.unsaved().len();
            self.board.set(Dependency::Docker, docker.link());
            if let Some(most) = self.board.measures() {
                let (samples, board) = (docker.samples(most), self.board.clone());
                tokio::spawn(async move {
                    let samples = samples.await;
                    board.count(|metrics| metrics.used(samples));
                });
            }
        }
        if let Engine::Kubernetes(cluster) = &self.engine {
            view.unsaved = cluster.lately_unsaved(now);
            self.board.set(Dependency::Kubernetes, cluster.link());
        }
        if let Some(progress) = &self.progress {
            let progress = *progress.borrow();
            let is_up = progress.link.0 == Link::Up;
            let down = || "it is not reached: changes are seen at the next look".to_owned();
            self.board
                .set(Dependency::Nats, is_up.then_some(()).ok_or_else(down));
            view.events = Some(progress);
        }
        self.board.show(view);
    }

    /// Tells whose lines are to be sent: nobody's, where another agent acts.
    fn tell_running(&self) {
        let Some(live) = &self.live else { return };
        let running = || printers(&self.engine);
        live.follow(self.lease.may_act().then(running));
    }
}
