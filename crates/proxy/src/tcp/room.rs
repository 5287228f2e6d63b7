//! Which of a worker's TCP clients leave, so that there is room for the next one.
//!
//! Only who has been silent for [`ProxySettings::silence`] leaves, the longest silent first:
//! clients whose handshake isn't over, then those that have never sent a byte since their session
//! began, whatever the endpoint sends. A client that was heard once stays, unless the terms say
//! [`AtLimit::Evict`].
//!
//! [`ProxySettings::silence`]: crate::ProxySettings::silence

use std::{collections::HashMap, sync::Arc, time::Duration};

use l4way_model::AtLimit;
use l4way_proxy_core::longest_silent_of_most;
use l4way_session::{CloseReason, Labels};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Connection, Tcp, accept::PAUSE, session::Session};
use crate::{context::Context, poll::SlotId};

/// How long it may take until others have made room that were asked.
const ANSWER: Duration = Duration::from_millis(10);
/// How often all sessions are looked at, for those that make room though they were used.
const CHOICE: Duration = Duration::from_secs(1);
/// How many are chosen then.
const VICTIMS: usize = 256;

impl Tcp {
    /// Has the client leave that is the first to. False if all are to stay.
    pub(crate) fn make_room(&mut self, ctx: &mut Context) -> bool {
        let (id, reason) = match (self.silent_guest(ctx), self.silent_session(ctx)) {
            (Some(guest), _) => (guest, CloseReason::HandshakeEvicted),
            (None, Some(session)) => (session, CloseReason::EvictedUnused),
            (None, None) => return false,
        };
        self.leave(ctx, id, reason);
        true
    }

    /// Ends the session of a client that has to leave, and tells of it now and then.
    fn leave(&mut self, ctx: &mut Context, id: SlotId, reason: CloseReason) {
        if let Some(times) = self.room_told.note(ctx.now) {
            tracing::warn!(
                times,
                %reason,
                "the session limit is reached: clients that were silent make room for others"
            );
        }
        self.end(ctx, id, reason);
    }

    /// The listener and route with most of this worker's sessions, and how many these are.
    pub(super) fn busiest(&self) -> Option<(Arc<Labels>, usize)> {
        let mut sessions = HashMap::<_, (&Arc<Labels>, usize)>::new();
        for (_, connection) in self.connections.iter() {
            if let Connection::Session(Session { row, .. }) = connection {
                sessions.entry(Arc::as_ptr(row)).or_insert((row.labels(), 0)).1 += 1;
            }
        }
        let (labels, count) = sessions.into_values().max_by_key(|(_, count)| *count)?;
        Some((labels.clone(), count))
    }

    /// Whether connections wait for want of room that no client of this worker's TCP sockets can make.
    pub(crate) fn wants_room(&self) -> bool {
        self.wants_room
    }

    /// Goes on accepting if there is room now. Else others are asked, each in turn, though not too often.
    pub(crate) fn look_for_room(&mut self, ctx: &mut Context, has_room: bool) {
        self.wants_room = false;
        if has_room {
            self.paused_until = None;
        } else if self.asked.is_none_or(|asked| ctx.now >= asked + PAUSE) {
            self.asked = Some(ctx.now);
            self.pass_on(ctx, self.peers.others());
            self.paused_until = Some(ctx.now + ANSWER);
        } else if self.evict(ctx) {
            self.paused_until = None;
        }
    }

    /// Asks so many other workers to have a client leave, or who serves HTTP if there is none left to be
    /// asked. If he has none either, a session that was used ends, if one may.
    pub(crate) fn pass_on(&mut self, ctx: &mut Context, others: usize) {
        if !self.peers.ask(others) && !ctx.budget.ask_http() {
            self.evict(ctx);
        }
    }

    /// Ends the session that has been silent longest of the client that has most here, if the terms say so.
    /// False if there is none, or all are to stay.
    pub(crate) fn evict(&mut self, ctx: &mut Context) -> bool {
        if ctx.terms.at_limit != AtLimit::Evict {
            return false;
        }
        if self.victims.is_empty() && self.chosen.is_none_or(|chosen| ctx.now >= chosen + CHOICE) {
            self.chosen = Some(ctx.now);
            let sessions = self.connections.iter().filter_map(|(id, connection)| {
                let Connection::Session(session) = connection else { return None };
                Some((id, session.client_ip(), ctx.tenths.since(session.moved)))
            });
            self.victims = longest_silent_of_most(sessions, ctx.settings.silence, VICTIMS);
            self.victims.reverse();
        }
        while let Some(id) = self.victims.pop() {
            if let Some(Connection::Session(session)) = self.connections.get_mut(id)
                && ctx.tenths.since(session.moved) >= ctx.settings.silence
            {
                self.leave(ctx, id, CloseReason::EvictedSilent);
                return true;
            }
        }
        false
    }

    /// Whether a connection waits in the accept queue of this socket. One that doesn't will be an event.
    pub(super) fn has_newcomer(&mut self, index: u32) -> bool {
        let Some(Some(socket)) = self.sockets.get_mut(index as usize) else { return false };
        let mut wanted = [PollFd::new(&socket.socket, PollFlags::IN)];
        // If the kernel doesn't say, somebody may wait.
        let waits = poll(&mut wanted, Some(&Timespec::default())) != Ok(0);
        socket.waiting = waits;
        waits
    }

    /// Remembers a session that has just begun, unless its client has been heard.
    pub(super) fn note_unheard(&mut self, id: SlotId) {
        if !is_unheard(self.connections.get_mut(id)) {
            return;
        }
        // So that each is looked at twice, on average, and the list has no more entries than twice the
        // connections.
        if self.unheard.len() > 2 * self.connections.len() + 64 {
            let connections = &mut self.connections;
            self.unheard.retain(|id| is_unheard(connections.get_mut(*id)));
        }
        self.unheard.push_back(id);
    }

    /// The client that has been at its handshake longest, if it has been silent for long enough.
    fn silent_guest(&mut self, ctx: &Context) -> Option<SlotId> {
        loop {
            let id = *self.guests.front()?;
            match self.connections.get_mut(id) {
                Some(Connection::Guest(guest)) => {
                    let silent = ctx.now.saturating_duration_since(guest.heard());
                    return (silent >= ctx.settings.silence).then_some(id);
                }
                _ => self.guests.pop_front(),
            };
        }
    }

    /// The session whose client has been silent longest from its beginning, if for long enough.
    fn silent_session(&mut self, ctx: &Context) -> Option<SlotId> {
        loop {
            let id = *self.unheard.front()?;
            match self.connections.get_mut(id) {
                Some(Connection::Session(session)) if session.is_unheard() => {
                    let silent = ctx.now.saturating_duration_since(session.begun);
                    return (silent >= ctx.settings.silence).then_some(id);
                }
                _ => self.unheard.pop_front(),
            };
        }
    }
}

/// Whether it is a session whose client has never sent a byte.
fn is_unheard(connection: Option<&mut Connection>) -> bool {
    matches!(connection, Some(Connection::Session(session)) if session.is_unheard())
}
