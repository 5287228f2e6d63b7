//! What connections take of the descriptors that there may be, and which of them leave for others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use l4way_proxy_core::{Allowance, BudgetKind, DescriptorBudget, Descriptors, MakeRoom};
use tokio::time::sleep;

use crate::{counters::HttpCounters, pulse::Pulse, watch::Watched};

/// Descriptors of a client's connection: its own, and one for a connection to an endpoint.
const DESCRIPTORS: usize = 2;
/// How long it may take until others have made room that were asked.
const ANSWER: Duration = Duration::from_millis(10);
/// How long others aren't asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// How many clients are looked at, for one that may have to leave.
const LOOKS: usize = 256;

/// The descriptors that connections have.
///
/// A client takes two, so that there is one for its request. Connections to endpoints are shared by
/// clients, and may outlast them or be more than they: those that are more take one of their own.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Arc<DescriptorBudget>,
    /// Where connections to endpoints take theirs.
    allowance: Allowance,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    clients: usize,
    upstreams: usize,
    /// Of the connections to endpoints that are more than clients.
    extra: Vec<Descriptors>,
    /// When somebody last looked for room.
    looked: Option<Instant>,
}

impl Held {
    /// Gives back what connections to endpoints don't need any more.
    fn trim(&mut self) {
        self.extra.truncate(self.upstreams.saturating_sub(self.clients));
    }
}

impl Room {
    pub(crate) fn new(
        budget: Arc<DescriptorBudget>,
        connections: Arc<Watched<Pulse>>,
        silence: Duration,
        counters: Arc<HttpCounters>,
    ) -> Arc<Self> {
        budget.set_http(Arc::new(Clients { connections, silence, counters }));
        let allowance = budget.allow_without_share(BudgetKind::Http);
        Arc::new(Self { budget, allowance, held: Mutex::default() })
    }

    /// A way to descriptors for the clients of one socket.
    pub(crate) fn allow(&self) -> Allowance {
        self.budget.allow(BudgetKind::Http)
    }

    /// A client's descriptors, if there are some.
    pub(crate) fn client(self: &Arc<Self>, allowance: &Allowance) -> Option<ClientPlace> {
        allowance.take(DESCRIPTORS).map(|place| self.client_with(place))
    }

    /// The descriptors of a client that a worker has given them.
    pub(crate) fn client_with(self: &Arc<Self>, place: Descriptors) -> ClientPlace {
        let mut held = self.held();
        held.clients += 1;
        held.looked = None;
        held.trim();
        ClientPlace { room: self.clone(), place: Some(place) }
    }

    /// Has somebody leave, if there is one who may have to, and waits for a moment.
    pub(crate) async fn look(&self) {
        let now = Instant::now();
        let is_recent = |looked: Instant| now < looked + PAUSE;
        let asks = {
            let looked = &mut self.held().looked;
            let asks = !looked.is_some_and(is_recent);
            if asks {
                *looked = Some(now);
            }
            asks
        };
        if asks {
            self.budget.ask_for_room();
        }
        sleep(ANSWER).await;
    }

    /// The descriptor of a connection to an endpoint. If there is none, `close_idle` has one end that nobody
    /// uses, if there is one. `None` if there is none for so long.
    pub(crate) async fn upstream(
        self: &Arc<Self>,
        within: Duration,
        close_idle: impl Fn() -> bool,
    ) -> Option<UpstreamPlace> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(place) = self.try_upstream() {
                return Some(place);
            }
            if Instant::now() >= deadline {
                return None;
            }
            match close_idle() {
                // It ends with its task.
                true => tokio::task::yield_now().await,
                false => self.look().await,
            }
        }
    }

    fn try_upstream(self: &Arc<Self>) -> Option<UpstreamPlace> {
        let mut held = self.held();
        if held.upstreams == held.clients + held.extra.len() {
            let place = self.allowance.take(1)?;
            held.extra.push(place);
        }
        held.upstreams += 1;
        held.looked = None;
        Some(UpstreamPlace(self.clone()))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's descriptors, until this is dropped.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    room: Arc<Room>,
    place: Option<Descriptors>,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.clients -= 1;
        let Some(mut place) = self.place.take() else { return };
        // One more of the connections to endpoints has none of a client any more.
        if held.upstreams > held.clients + held.extra.len() {
            place.shrink(1);
            place.pass_to(&self.room.allowance);
            held.extra.push(place);
        }
    }
}

/// The descriptor of a connection to an endpoint, until this is dropped.
#[derive(Debug)]
pub(crate) struct UpstreamPlace(Arc<Room>);

impl Drop for UpstreamPlace {
    fn drop(&mut self) {
        let mut held = self.0.held();
        held.upstreams -= 1;
        held.trim();
    }
}

/// The clients' connections, any of which may have to leave when it is idle.
#[derive(Debug)]
struct Clients {
    connections: Arc<Watched<Pulse>>,
    silence: Duration,
    counters: Arc<HttpCounters>,
}

impl MakeRoom for Clients {
    fn make_room(&self) -> bool {
        let left = self.connections.in_turn(LOOKS).iter().any(|client| client.evict(self.silence));
        if left {
            self.counters.idle_evictions.increment();
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn room(descriptors: usize) -> (Arc<Room>, Allowance) {
        let budget = DescriptorBudget::new(descriptors, NonZeroUsize::MIN);
        let room = Room::new(budget, Arc::default(), Duration::ZERO, Arc::default());
        let allowance = room.allow();
        (room, allowance)
    }

    #[test]
    fn a_request_has_a_descriptor_that_its_client_has_brought() {
        let (room, allowance) = room(6);
        let clients: Vec<_> = std::iter::from_fn(|| room.client(&allowance)).collect();
        assert_eq!((clients.len(), room.budget.used()), (3, 6));
        let upstreams: Vec<_> = std::iter::from_fn(|| room.try_upstream()).collect();
        assert_eq!((upstreams.len(), room.budget.used()), (3, 6));
        // They outlast their clients.
        drop(clients);
        assert_eq!(room.budget.used(), 3);
        let client = room.client(&allowance).unwrap();
        assert_eq!(room.budget.used(), 2 + 2);
        drop(upstreams);
        assert_eq!(room.budget.used(), 2);
        drop(client);
        assert_eq!(room.budget.used(), 0);
    }

    #[test]
    fn connections_to_endpoints_that_are_more_than_clients_take_descriptors() {
        let (room, allowance) = room(10);
        let client = room.client(&allowance).unwrap();
        let upstreams: Vec<_> = (0..5).map(|_| room.try_upstream().unwrap()).collect();
        assert_eq!(room.budget.used(), 2 + 4);
        drop(client);
        assert_eq!(room.budget.used(), 5);
        drop(upstreams);
        assert_eq!(room.budget.used(), 0);
    }
}
