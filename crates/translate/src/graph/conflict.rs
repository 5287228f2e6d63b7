//! Which listeners of a Gateway can't be told apart.
//!
//! A Gateway's own listeners go before those of its ListenerSets, and older ListenerSets before
//! younger ones. A listener that conflicts with one that goes before it is refused, and stands in
//! nobody else's way. Of those that are left of one object, all that conflict are refused: none is
//! picked (Gateway API, `GatewaySpec.listeners` and `ListenerSetSpec.listeners`).

use std::{collections::HashMap, sync::Arc};

use l4way_model::Transport;

use super::{ListenerNode, Protocol, hostname};
use crate::conditions;

/// How two listeners stand in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Conflict {
    Protocol,
    Hostname,
}

/// What a listener takes of its port.
#[derive(Clone, Debug)]
struct Claim {
    protocol: Protocol,
    hostname: Option<Arc<str>>,
    /// The listener, as messages name it.
    name: String,
}

impl Claim {
    fn of(listener: &ListenerNode) -> Option<(Port, Self)> {
        let protocol = listener.protocol?;
        let transport = if protocol == Protocol::Udp { Transport::Udp } else { Transport::Tcp };
        let hostname = listener.hostname.clone().filter(|_| protocol.has_hostnames());
        Some(((transport, listener.port), Self { protocol, hostname, name: describe(listener) }))
    }

    fn conflict(&self, other: &Self) -> Option<Conflict> {
        let compatible = match (self.protocol, other.protocol) {
            (Protocol::Http, Protocol::Http) => true,
            (a, b) => a.begins_with_tls() && b.begins_with_tls(),
        };
        if !compatible {
            Some(Conflict::Protocol)
        } else if self.hostname == other.hostname {
            Some(Conflict::Hostname)
        } else {
            None
        }
    }
}

type Port = (Transport, u16);

fn describe(listener: &ListenerNode) -> String {
    let of = match &listener.id.listener_set {
        Some((namespace, name)) => format!("ListenerSet {namespace}/{name}"),
        None => format!("Gateway {}", listener.id.gateway),
    };
    match listener.protocol {
        Some(protocol) => format!("{protocol} listener {:?} of {of}", listener.id.name),
        None => format!("listener {:?} of {of}", listener.id.name),
    }
}

/// Refuses the conflicting listeners among `objects`, of which each is the listeners of a Gateway
/// or of one of its ListenerSets, the one with precedence first.
pub(crate) fn refuse<'a>(objects: impl IntoIterator<Item = &'a mut [ListenerNode]>) {
    let mut taken: HashMap<Port, Vec<Claim>> = HashMap::new();
    for listeners in objects {
        refuse_taken(listeners, &taken);
        for (port, claims) in refuse_among(listeners) {
            taken.entry(port).or_default().extend(claims);
        }
    }
}

/// Refuses the listeners that conflict with one that goes before them.
fn refuse_taken(listeners: &mut [ListenerNode], taken: &HashMap<Port, Vec<Claim>>) {
    for listener in listeners {
        let Some((port, claim)) = Claim::of(listener) else { continue };
        let conflicts = taken.get(&port).into_iter().flatten();
        let worst = conflicts
            .filter_map(|other| Some((claim.conflict(other)?, other)))
            .min_by_key(|(conflict, _)| *conflict);
        if let Some((conflict, other)) = worst {
            refuse_one(listener, conflict, &[other]);
        }
    }
}

/// Refuses the listeners that conflict with one of the same object, and returns what they and the
/// others take.
fn refuse_among(listeners: &mut [ListenerNode]) -> HashMap<Port, Vec<Claim>> {
    let mut by_port: HashMap<Port, Vec<(usize, Claim)>> = HashMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        let refused = listener.findings.outcome(conditions::CONFLICTED).is_some();
        if let Some((port, claim)) = Claim::of(listener).filter(|_| !refused) {
            by_port.entry(port).or_default().push((index, claim));
        }
    }
    for claims in by_port.values() {
        for (index, claim) in claims {
            let conflicts: Vec<_> = claims
                .iter()
                .filter(|(other, _)| other != index)
                .filter_map(|(_, other)| Some((claim.conflict(other)?, other)))
                .collect();
            let Some(worst) = conflicts.iter().map(|(conflict, _)| *conflict).min() else {
                continue;
            };
            let others: Vec<_> = conflicts.iter().map(|(_, other)| *other).collect();
            refuse_one(&mut listeners[*index], worst, &others);
        }
    }
    by_port
        .into_iter()
        .map(|(port, claims)| (port, claims.into_iter().map(|(_, claim)| claim).collect()))
        .collect()
}

fn refuse_one(listener: &mut ListenerNode, conflict: Conflict, others: &[&Claim]) {
    let others: Vec<_> = others.iter().map(|other| other.name.as_str()).collect();
    let others = others.join(" and ");
    match conflict {
        Conflict::Protocol => {
            let message = format!(
                "port {} is also wanted by {others}, and they can't share it; change the port",
                listener.port
            );
            let outcomes = conditions::listener::protocol_conflict(message);
            listener.findings.error(listener.pointer("port"), outcomes);
        }
        Conflict::Hostname => {
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
}

/// Marks the listeners on one port that a client with TLS could take for each other, as their
/// hostnames overlap.
pub(crate) fn mark_overlapping<'a>(objects: impl IntoIterator<Item = &'a mut [ListenerNode]>) {
    let mut by_port: HashMap<u16, Vec<&mut ListenerNode>> = HashMap::new();
    for listener in objects.into_iter().flatten() {
        let conflicted = listener.findings.outcome(conditions::CONFLICTED).is_some();
        if listener.protocol.is_some_and(Protocol::begins_with_tls) && !conflicted {
            by_port.entry(listener.port).or_default().push(listener);
        }
    }
    for listeners in by_port.values_mut() {
        let names: Vec<_> = listeners.iter().map(|l| (l.hostname.clone(), describe(l))).collect();
        for (index, listener) in listeners.iter_mut().enumerate() {
            let overlapping = names.iter().enumerate().find(|(other, (hostname, _))| {
                *other != index && hostname::overlap(hostname.as_deref(), names[index].0.as_deref())
            });
            if let Some((_, (_, other))) = overlapping {
                let message = format!(
                    "its hostname overlaps that of {other}: a client that reuses a connection \
                     may reach either"
                );
                let outcome = conditions::listener::overlapping_hostnames(message);
                listener.findings.warning(listener.pointer("hostname"), outcome);
            }
        }
    }
}
