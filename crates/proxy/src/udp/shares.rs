//! Which endpoint a client's session goes to, by its listener's route.

use std::collections::HashMap;

use l4way_model::RefusedReason;
use l4way_proxy_core::{FlowKey, FlowTable};

use crate::{
    context::Context,
    routes::{Forward, ListenerKey, Refusal, Route, UpstreamLease},
};

/// How many clients without a session a worker remembers the share of.
const REMEMBERED: usize = 8_192;

/// The listeners' routes, and which share of them clients without a session have got.
#[derive(Debug)]
pub(super) struct Shares {
    routes: HashMap<ListenerKey, Route>,
    /// Another one for each state of the routes.
    epoch: u32,
    /// Clients whose share is refused, or whose share's backend has no endpoint. If they weren't
    /// remembered, a client would get into another share just by sending again.
    remembered: FlowTable<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    share: Result<Forward, Refusal>,
    epoch: u32,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { routes: HashMap::new(), epoch: 0, remembered: FlowTable::new(REMEMBERED) }
    }

    /// Adds or changes a listener's route.
    pub(super) fn set(&mut self, listener: ListenerKey, route: Route) {
        self.next_epoch();
        self.routes.insert(listener, route);
    }

    /// Forgets a listener's route.
    pub(super) fn remove(&mut self, listener: ListenerKey) {
        self.next_epoch();
        self.routes.remove(&listener);
    }

    /// Notes that a socket has another listener, or none, and thus another route.
    pub(super) fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// What a new session of `key` meets: an endpoint or a refusal. `None` if there is no such
    /// listener.
    pub(super) fn choose(
        &mut self,
        ctx: &mut Context,
        key: &FlowKey,
        listener: ListenerKey,
    ) -> Option<Result<(Forward, UpstreamLease), Refusal>> {
        let share = match self.recall(ctx, key) {
            Some(share) => share,
            None => self.routes.get_mut(&listener)?.pick().map_err(Clone::clone).cloned(),
        };
        let refusal = match &share {
            Ok(forward) => {
                let (backends, by) = ctx.choosing();
                match backends.choose(forward.backend, by) {
                    Some(upstream) => return share.ok().map(|forward| Ok((forward, upstream))),
                    None => Refusal { reason: RefusedReason::NoEndpoint, row: forward.row.clone() },
                }
            }
            Err(refusal) => refusal.clone(),
        };
        // Without a route or weight there is only one share.
        if !matches!(refusal.reason, RefusedReason::NoRoute | RefusedReason::NoWeight) {
            self.remember(ctx, *key, share);
        }
        Some(Err(refusal))
    }

    /// Takes a client's share out of the memory.
    fn recall(&mut self, ctx: &Context, key: &FlowKey) -> Option<Result<Forward, Refusal>> {
        while let Some(id) = self.remembered.expired(ctx.now, ctx.terms.udp_session_timeout) {
            self.remembered.remove(id);
        }
        let id = self.remembered.find(key)?;
        let (_, Remembered { share, epoch }) = self.remembered.remove(id)?;
        (epoch == self.epoch).then_some(share)
    }

    fn remember(&mut self, ctx: &Context, key: FlowKey, share: Result<Forward, Refusal>) {
        if self.remembered.is_full()
            && let Some((id, _)) = self.remembered.longest_idle()
        {
            self.remembered.remove(id);
        }
        let remembered = Remembered { share, epoch: self.epoch };
        // It fits, and `recall` has just taken out what there was for this key.
        let _ = self.remembered.insert(key, remembered, ctx.now);
    }
}
