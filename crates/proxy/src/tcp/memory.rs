//! What a worker's sessions hold, as a part of the process's budget.

use std::time::{Duration, Instant};

use l4way_proxy_core::MemoryLoad;
use l4way_session::CloseReason;

use super::{Connection, Tcp};
use crate::context::Context;

/// Above this many unsent bytes in all workers' sessions, each reads as little as it can, however much
/// memory there is.
const UNSENT_BUDGET: usize = 64 << 20;

/// How often it is looked for sessions that have to go.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the budget knows of.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: usize,
    look_at: Option<Instant>,
}

impl Held {
    /// When it is looked again for sessions that have to go.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Tcp {
    /// Tells the budget what sessions hold at the end of a turn. While they hold something, looks now and then
    /// whether some have to go.
    pub(super) fn account(&mut self, ctx: &mut Context) {
        let unsent = self.io.sending.unsent;
        if unsent == 0 && self.held.bytes == 0 {
            return;
        }
        self.tell(ctx);
        let memory = &ctx.settings.process.memory;
        let load = memory.load();
        self.io.sending.budget = match load {
            MemoryLoad::Light => UNSENT_BUDGET.min(memory.limit() / 2) / ctx.settings.workers.get(),
            MemoryLoad::Heavy | MemoryLoad::Full => 0,
        };
        if unsent == 0 {
            self.held.look_at = None;
            return;
        }
        let interval = INTERVAL.min(ctx.settings.stalled);
        if *self.held.look_at.get_or_insert(ctx.now + interval) > ctx.now {
            return;
        }
        self.held.look_at = Some(ctx.now + interval);
        if load == MemoryLoad::Full {
            self.reset_stalled(ctx);
        }
    }

    /// Tells the budget how much more or less sessions hold than it knows of.
    fn tell(&mut self, ctx: &Context) {
        let (memory, unsent) = (&ctx.settings.process.memory, self.io.sending.unsent);
        if unsent >= self.held.bytes {
            memory.hold(unsent - self.held.bytes);
        } else {
            memory.give_back(self.held.bytes - unsent);
        }
        self.held.bytes = unsent;
    }

    /// Resets the sessions that have been stalled for longest, until there is room again.
    fn reset_stalled(&mut self, ctx: &mut Context) {
        let mut stalled = Vec::new();
        for id in self.connections.ids(|connection| matches!(connection, Connection::Session(_))) {
            if let Some(Connection::Session(session)) = self.connections.get_mut(id)
                && let Some(since) = session.stalled_since
                && ctx.now.saturating_duration_since(since) >= ctx.settings.stalled
            {
                stalled.push((since, id));
            }
        }
        stalled.sort_unstable_by_key(|(since, _)| *since);
        for (_, id) in stalled {
            // Other workers do the same at this time.
            if ctx.settings.process.memory.surplus() == 0 {
                break;
            }
            self.end(ctx, id, CloseReason::MemoryBudget);
            self.tell(ctx);
        }
    }
}
