use std::{os::fd::AsFd, time::Instant};

use l4way_proxy_core::FlowKey;
use l4way_session::Toward;

use super::{
    account::Account,
    send::{Outcome, Path, Run},
    socket::Socket,
    sys::{self, Destination, Inbox},
    upstream::Upstream,
};
use crate::loops::Trace;

/// A client and the endpoint that it talks to.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) upstream: Upstream,
    pub(super) account: Account,
    /// What has led here, if that is kept in mind.
    _trace: Option<Box<Trace>>,
    /// Whether the kernel joins the endpoint's datagrams.
    receives_joined: bool,
    /// Whether datagrams may go out in trains, see [`Path`].
    upward_trains: bool,
    downward_trains: bool,
}

impl Session {
    pub(super) fn new(upstream: Upstream, account: Account, trace: Option<Box<Trace>>) -> Self {
        Self {
            upstream,
            account,
            _trace: trace,
            receives_joined: false,
            upward_trains: true,
            downward_trains: true,
        }
    }

    /// Whether its socket is as a new one would be.
    pub(super) fn has_plain_socket(&self) -> bool {
        !self.receives_joined
    }

    /// Sends the client's datagrams on.
    pub(super) fn send_upstream(&mut self, inbox: &Inbox, run: Run) -> Outcome {
        let trains = &mut self.upward_trains;
        let path = Path { socket: self.upstream.as_fd(), destination: None, trains };
        let outcome = path.send(inbox, run);
        self.account.count(Toward::Upstream, &outcome);
        outcome
    }

    /// Sends the endpoint's datagrams on: all that the inbox has.
    pub(super) fn send_downstream(
        &mut self,
        key: &FlowKey,
        socket: &Socket,
        inbox: &Inbox,
        now: Instant,
    ) {
        if inbox.is_full() && !self.receives_joined {
            self.receives_joined = true;
            // They come by the dozen: the system call pays, as it wouldn't for most sessions. If
            // the kernel can't join them, they just go on to come one by one.
            let _ = sys::receive_joined(self.upstream.as_fd());
        }
        self.account.replied(now);
        // Nothing leaves from a multicast address (RFC 4291, section 2.7): the kernel then takes one of the
        // interface that leads to the client. In IPv4 it has told of such a one.
        let from = key.local.filter(|ip| !ip.is_multicast());
        let destination = Destination { to: key.client, from };
        let path = Path {
            socket: socket.fd.as_fd(),
            destination: Some(destination),
            trains: &mut self.downward_trains,
        };
        let mut outcome = path.send(inbox, Run::first(inbox.len()));
        // A client that can't be reached now may be later; its session ends by its timeout.
        outcome.dropped += inbox.datagrams(outcome.undeliverable);
        self.account.count(Toward::Downstream, &outcome);
    }
}
