use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use l4way_model::EndpointAddress;
use l4way_proxy_core::{EndpointOf, FlowKey};
use l4way_session::{CloseReason, Row, SessionRecord, SessionStart, Toward, Verdict};

use super::send::Outcome;
use crate::{
    context::Context,
    routes::{Forward, UpstreamLease},
};

/// What is to be told of a session when it ends, and counted while it lasts.
#[derive(Debug)]
pub(super) struct Account {
    upstream: UpstreamLease,
    row: Arc<Row>,
    begun: Instant,
    first_reply: Option<Duration>,
    up: Carried,
    down: Carried,
}

/// What a session has carried one way.
#[derive(Debug, Default)]
struct Carried {
    datagrams: u64,
    bytes: u64,
}

impl Account {
    /// The session begins now. `bind` is the address of the socket that the client wrote to.
    pub(super) fn open(
        ctx: &Context,
        forward: Forward,
        upstream: UpstreamLease,
        key: &FlowKey,
        bind: SocketAddr,
    ) -> Self {
        forward.row.open();
        ctx.tap.begin(|| session_start(&forward.row, key, bind));
        Self {
            upstream,
            row: forward.row,
            begun: ctx.now,
            first_reply: None,
            up: Carried::default(),
            down: Carried::default(),
        }
    }

    pub(super) fn endpoint(&self) -> &EndpointAddress {
        &self.upstream.address
    }

    /// What is known of endpoints is told by this.
    pub(super) fn of(&self) -> EndpointOf<'_> {
        self.upstream.of()
    }

    /// Whether the endpoint takes no sessions any more.
    pub(super) fn is_endpoint_gone(&self) -> bool {
        self.upstream.is_gone()
    }

    /// Whether there has been a reply.
    pub(super) fn is_answered(&self) -> bool {
        self.first_reply.is_some()
    }

    /// There is a reply.
    pub(super) fn replied(&mut self, now: Instant) {
        if self.first_reply.is_none() {
            let took = now.saturating_duration_since(self.begun);
            self.first_reply = Some(took);
            self.row.replied(took);
        }
    }

    pub(super) fn count(&mut self, toward: Toward, outcome: &Outcome) {
        let carried = match toward {
            Toward::Upstream => &mut self.up,
            Toward::Downstream => &mut self.down,
        };
        carried.datagrams += outcome.datagrams;
        carried.bytes += outcome.bytes;
        self.row.add_datagrams(toward, outcome.datagrams, outcome.bytes);
        self.lose(toward, outcome.dropped);
    }

    /// Datagrams could not be sent.
    pub(super) fn lose(&self, toward: Toward, datagrams: u64) {
        if datagrams > 0 {
            self.row.add_dropped(toward, datagrams);
        }
    }

    /// There is a socket toward the endpoint.
    pub(super) fn forwarded(&self, ctx: &Context, key: &FlowKey, bind: SocketAddr) {
        let session = || session_start(&self.row, key, bind);
        ctx.tap.decide(|| (session(), Verdict::Forwarded(self.endpoint().clone())));
    }

    /// The session ends now. `bind` is the address of the socket that the client wrote to.
    pub(super) fn end(
        self,
        ctx: &mut Context,
        key: &FlowKey,
        bind: SocketAddr,
        reason: CloseReason,
    ) {
        self.row.end(reason);
        if self.first_reply.is_none() {
            self.row.unanswered();
        }
        let duration = ctx.now.saturating_duration_since(self.begun);
        ctx.end(|| SessionRecord {
            endpoint: Some(self.upstream.address.clone()),
            attempts: 1,
            bytes_upstream: self.up.bytes,
            bytes_downstream: self.down.bytes,
            datagrams_upstream: self.up.datagrams,
            datagrams_downstream: self.down.datagrams,
            connect_time: self.first_reply,
            ..SessionRecord::new(session_start(&self.row, key, bind), None, duration, reason)
        });
    }
}

/// Start of a session that is counted in this row. `bind` is the address of the socket that the
/// client wrote to.
pub(super) fn session_start(row: &Row, key: &FlowKey, bind: SocketAddr) -> SessionStart {
    SessionStart {
        labels: row.labels().clone(),
        downstream: key.client,
        local: key.local.map_or(bind, |ip| SocketAddr::new(ip, bind.port())),
    }
}
