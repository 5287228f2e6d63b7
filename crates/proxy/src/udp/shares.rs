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
    /// Clients whose share is refused, or whose share's backend has no endpoint. If they weren't
    /// remembered, a client would get into another share just by sending again.
    remembered: FlowTable<Result<Forward, Refusal>>,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { routes: HashMap::new(), remembered: FlowTable::new(REMEMBERED) }
    }

    /// Adds or changes a listener's route.
    pub(super) fn set(&mut self, listener: ListenerKey, route: Route) {
        self.forget_shares();
        self.routes.insert(listener, route);
    }

    /// Forgets a listener's route.
    pub(super) fn remove(&mut self, listener: ListenerKey) {
        self.forget_shares();
        self.routes.remove(&listener);
    }

    /// Forgets the shares that clients have got: a listener has another route, or a socket another
    /// listener. So nothing is kept of a backend that is gone.
    pub(super) fn forget_shares(&mut self) {
        if !self.remembered.is_empty() {
            self.remembered = FlowTable::new(REMEMBERED);
        }
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
        self.remembered.remove(id).map(|(_, share)| share)
    }

    fn remember(&mut self, ctx: &Context, key: FlowKey, share: Result<Forward, Refusal>) {
        if self.remembered.is_full()
            && let Some((id, _)) = self.remembered.longest_idle()
        {
            self.remembered.remove(id);
        }
        // It fits, and `recall` has just taken out what there was for this key.
        let _ = self.remembered.insert(key, share, ctx.now);
    }
}
