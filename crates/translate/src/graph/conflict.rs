//! Which listeners of a Gateway can't be told apart.
//!
//! A Gateway's own listeners go before those of its ListenerSets, and older ListenerSets before
//! younger ones. A listener that conflicts with one that goes before it is refused, and stands in
//! nobody else's way. Of those that are left of one object, all that conflict are refused: none is
//! picked (Gateway API, `GatewaySpec.listeners` and `ListenerSetSpec.listeners`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use l4way_model::Transport;

use super::{ListenerNode, Protocol};
use crate::{
    conditions::{self, ACCEPTED},
    suggest,
};

/// How listeners stand in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conflict {
    Protocol,
    Hostname,
}

/// By what listeners on one port are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distinction {
    /// By nothing.
    Nothing,
    /// By the hostname of each HTTP request.
    RequestHost,
    /// By the hostname that a TLS client asks for.
    ServerName,
}

impl From<Protocol> for Distinction {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp | Protocol::Udp => Self::Nothing,
            Protocol::Http => Self::RequestHost,
            Protocol::Https | Protocol::Tls(_) => Self::ServerName,
        }
    }
}

/// What a listener takes of its port.
#[derive(Clone, Debug)]
struct Claim {
    port: (Transport, u16),
    distinction: Distinction,
    hostname: Option<Arc<str>>,
    /// The listener, as messages name it.
    name: String,
}

impl Claim {
    /// A listener that is refused anyway takes nothing, and of one of an unknown protocol nothing is known.
    fn of(listener: &ListenerNode) -> Option<Self> {
        let protocol =
            listener.protocol.filter(|_| listener.findings.outcome(ACCEPTED).is_none())?;
        Some(Self {
            port: (protocol.transport(), listener.port),
            distinction: protocol.into(),
            hostname: listener.hostname.clone(),
            name: listener.describe(),
        })
    }
}

/// The names of the listeners on one port, by how they are told apart and by hostname.
type OnPort = BTreeMap<Distinction, BTreeMap<Option<Arc<str>>, Vec<String>>>;

/// What listeners take.
#[derive(Default)]
struct Claims(HashMap<(Transport, u16), OnPort>);

impl Claims {
    fn add(&mut self, claim: Claim) {
        let on_port = self.0.entry(claim.port).or_default();
        let by_hostname = on_port.entry(claim.distinction).or_default();
        by_hostname.entry(claim.hostname).or_default().push(claim.name);
    }

    /// How others stand in the way of `claim`, and who some of them are.
    fn conflict(&self, claim: &Claim) -> Option<(Conflict, String)> {
        let on_port = self.0.get(&claim.port)?;
        let incompatible = on_port
            .iter()
            .filter(|(by, _)| **by != claim.distinction || **by == Distinction::Nothing)
            .flat_map(|(_, by_hostname)| by_hostname.values().flatten());
        let same = on_port.get(&claim.distinction).and_then(|by| by.get(&claim.hostname));
        let protocol = others(claim, incompatible).map(|others| (Conflict::Protocol, others));
        protocol.or_else(|| Some((Conflict::Hostname, others(claim, same.into_iter().flatten())?)))
    }
}

/// The first few who aren't the one that claims, if there are any.
fn others<'a>(claim: &Claim, names: impl Iterator<Item = &'a String>) -> Option<String> {
    const SHOWN: usize = 4;
    let others: Vec<_> = names.filter(|name| **name != claim.name).take(SHOWN).collect();
    (!others.is_empty()).then(|| suggest::join(others))
}

/// Refuses the conflicting listeners among `objects`, of which each is the listeners of a Gateway
/// or of one of its ListenerSets, the one with precedence first.
pub(crate) fn refuse<'a>(objects: impl IntoIterator<Item = &'a mut [ListenerNode]>) {
    let mut taken = Claims::default();
    for listeners in objects {
        let claims =
            listeners.iter_mut().filter_map(|listener| Some((Claim::of(listener)?, listener)));
        let left: Vec<_> = claims
            .filter_map(|(claim, l)| (!refuse_one(l, &claim, &taken)).then_some((claim, l)))
            .collect();
        let mut among = Claims::default();
        left.iter().for_each(|(claim, _)| among.add(claim.clone()));
        for (claim, listener) in left {
            refuse_one(listener, &claim, &among);
            taken.add(claim);
        }
    }
}

/// Refuses the listener if its claim conflicts with others, and says whether it does.
fn refuse_one(listener: &mut ListenerNode, claim: &Claim, others: &Claims) -> bool {
    match others.conflict(claim) {
        None => return false,
        Some((Conflict::Protocol, others)) => {
            let message = format!(
                "port {} is also wanted by {others}, and they can't share it; change the port",
                listener.port
            );
            let outcomes = conditions::listener::protocol_conflict(message);
            listener.findings.error(listener.pointer("port"), outcomes);
        }
        Some((Conflict::Hostname, others)) => {
            let hostname = listener.hostname.as_deref().unwrap_or("that matches all");
            let message = format!(
                "hostname {hostname} on port {} is also wanted by {others}; change the hostname \
                 or the port",
                listener.port
            );
            let field = if listener.hostname.is_some() { "hostname" } else { "port" };
            let outcomes = conditions::listener::hostname_conflict(message);
            listener.findings.error(listener.pointer(field), outcomes);
        }
    }
    true
}
