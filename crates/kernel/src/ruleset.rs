//! The rules that a plan needs, and the transaction from one set of rules to another.
//!
//! Clients' first packets are looked up by protocol, address and port, and go to a chain of their
//! listener, which sends shares of them on to chains of backends, which translate. conntrack does the
//! same to all further packets of a flow, without looking here, so that a change resets nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use l4way_model::{RefusedReason, Transport};

use crate::{
    nftables::{
        Element, Family, Fields, Hook, Ownership, Register, Rule, Set, Shape, TCP, Transaction,
        UDP, Value, Verdict,
    },
    plan::{Carried, Goes, Share},
};

/// The name of our table, of both families.
pub(crate) const TABLE: &str = "l4way";

const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";
const CLIENTS: &str = "clients";

/// Numbers of the sets that have names; those of anonymous ones follow.
const FIRST_ANONYMOUS: u32 = 100;

/// How many elements nf_tables keeps names for (`NFT_NAME_MAXLEN`).
const NAME: usize = 240;

/// What is the same for all rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whether endpoints see an address of this host in place of the client's.
    pub(crate) masquerade: bool,
    /// How long a UDP flow may be silent; conntrack rounds it up to seconds.
    pub(crate) udp_timeout: Duration,
    /// The events that conntrack tells of, as a mask.
    pub(crate) events: u32,
}

/// What the kernel has, or is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    chains: BTreeMap<String, Chain>,
    /// The chain that clients of an address go to.
    entries: BTreeMap<(Family, Fields), String>,
    counters: BTreeSet<String>,
}

/// The rules of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chain {
    /// Shares of the sessions, by weight.
    Split(Vec<(u32, Way)>),
    /// One of these endpoints in turn.
    Balance { family: Family, transport: Transport, endpoints: Vec<SocketAddr> },
}

/// Where a share goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// To a chain.
    Chain(String),
    /// Nowhere: it is counted, and reset or dropped.
    Refused { counter: String, transport: Transport },
}

impl Ruleset {
    /// The rules for these listeners.
    pub(crate) fn of<'a>(plan: impl Iterator<Item = &'a Carried>) -> Self {
        let mut ruleset = Self::default();
        for carried in plan {
            let chain = ruleset.add(carried);
            let protocol = protocol(carried.transport);
            for local in &carried.locals {
                let entry = (carried.family(), Fields::local(protocol, *local));
                ruleset.entries.insert(entry, chain.clone());
            }
        }
        ruleset
    }

    /// The part of this ruleset that has the names of `other`.
    pub(crate) fn part(&self, other: &Self) -> Self {
        let chains = other.chains.keys().filter_map(|name| self.chains.get_key_value(name));
        let entries = other.entries.keys().filter_map(|entry| self.entries.get_key_value(entry));
        Self {
            chains: chains.map(|(name, chain)| (name.clone(), chain.clone())).collect(),
            entries: entries.map(|(entry, chain)| (entry.clone(), chain.clone())).collect(),
            counters: self.counters.intersection(&other.counters).cloned().collect(),
        }
    }

    /// Puts `part` in place of what has the same names.
    pub(crate) fn put(&mut self, part: Self) {
        self.chains.extend(part.chains);
        self.entries.extend(part.entries);
        self.counters.extend(part.counters);
    }

    /// Adds a listener's chains. Returns the one that its sessions begin with.
    fn add(&mut self, carried: &Carried) -> String {
        let ways: Vec<_> =
            carried.shares.iter().map(|share| (share.weight, self.way(carried, share))).collect();
        match &ways[..] {
            [(_, Way::Chain(only))] => only.clone(),
            _ => {
                let name = name(&["listener", &listener(carried)]);
                self.chains.insert(name.clone(), Chain::Split(ways));
                name
            }
        }
    }

    fn way(&mut self, carried: &Carried, share: &Share) -> Way {
        let (family, transport) = (carried.family(), carried.transport);
        match &share.goes {
            Goes::To(backend, endpoints) => {
                let name =
                    name(&["backend", &backend.to_string(), family.name(), &transport.to_string()]);
                let endpoints = endpoints.clone();
                self.chains.insert(name.clone(), Chain::Balance { family, transport, endpoints });
                Way::Chain(name)
            }
            Goes::Refused(reason) => {
                let counter = refused_counter(carried, *reason);
                self.counters.insert(counter.clone());
                Way::Refused { counter, transport }
            }
        }
    }
}

/// The name of the counter of a listener's sessions that are refused for a reason.
pub(crate) fn refused_counter(carried: &Carried, reason: RefusedReason) -> String {
    name(&["refused", &listener(carried), reason.as_str()])
}

/// A listener's name, which no other has: a Gateway and a ListenerSet may be called the same.
fn listener(carried: &Carried) -> String {
    let kind = if carried.listener.listener_set.is_some() { "ListenerSet" } else { "Gateway" };
    format!("{kind}/{}", carried.listener)
}

/// A name that nft(8) can read. Of parts that are too long for one, the sum of their bytes stands in.
fn name(parts: &[&str]) -> String {
    let joined = parts.join("/");
    let name: String = joined
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "/-_.".contains(c) { c } else { '_' })
        .collect();
    if name.len() <= NAME {
        return name;
    }
    // FNV-1a
    let hash = joined.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}/{hash:016x}", &name[..NAME - 17])
}

fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    }
}

/// Where clients of a family are sent.
fn entries(family: Family) -> Set<'static> {
    let (name, id) = match family {
        Family::V4 => ("listeners", 1),
        Family::V6 => ("listeners6", 2),
    };
    Set { name, id, shape: Shape::Verdicts(family) }
}

/// The addresses whose clients are hidden from endpoints.
fn masqueraded(family: Family) -> Set<'static> {
    let (name, id) = match family {
        Family::V4 => ("masqueraded", 3),
        Family::V6 => ("masqueraded6", 4),
    };
    Set { name, id, shape: Shape::Locals(family) }
}

/// UDP flows that the proxy carries.
fn proxied(family: Family) -> Set<'static> {
    let (name, id) = match family {
        Family::V4 => ("proxied", 5),
        Family::V6 => ("proxied6", 6),
    };
    Set { name, id, shape: Shape::Flows(family) }
}

impl Terms {
    /// How long a UDP flow may be silent, as conntrack counts.
    pub(crate) fn udp_seconds(self) -> u32 {
        let whole = self.udp_timeout.as_secs() + u64::from(self.udp_timeout.subsec_nanos() > 0);
        u32::try_from(whole).unwrap_or(u32::MAX)
    }

    /// The name of the timeouts of UDP flows over a family. Each time has its own: one that flows go by
    /// can't be changed, and if it were removed, they would go by the system's.
    fn udp_timeout(self, family: Family) -> String {
        let name = match family {
            Family::V4 => "udp-session",
            Family::V6 => "udp-session6",
        };
        format!("{name}-{}", self.udp_seconds())
    }
}

/// Makes the table with nothing in it that sends anybody anywhere, in place of one that an earlier
/// process has left.
pub(crate) fn create(transaction: &mut Transaction<'_>, ownership: Ownership, terms: Terms) {
    transaction.new_table(ownership);
    transaction.delete_table();
    transaction.new_table(ownership);
    for family in Family::ALL {
        for set in [entries(family), masqueraded(family), proxied(family)] {
            transaction.new_set(set);
        }
    }
    new_udp_timeouts(transaction, terms);
    transaction.new_chain(CLIENTS);
    write_clients(transaction, terms);
    for (chain, hook) in [(PREROUTING, Hook::PREROUTING), (OUTPUT, Hook::OUTPUT)] {
        transaction.new_nat_chain(chain, hook);
        transaction.new_rule(chain, |rule| rule.verdict(&Verdict::Goto(CLIENTS.to_owned())));
    }
    transaction.new_nat_chain(POSTROUTING, Hook::POSTROUTING);
    for family in Family::ALL {
        transaction.new_rule(POSTROUTING, |rule| {
            let local = Register::new(4);
            rule.family_is(family);
            // From one address of this host to another there is nobody to hide. To masquerade would drop
            // such packets where no interface has an address of wider scope (inet_select_addr).
            rule.leaves_host();
            rule.destination_is_translated();
            rule.load_original_local(family, local);
            rule.is_in(masqueraded(family).name, local);
            rule.masquerade();
        });
    }
}

fn new_udp_timeouts(transaction: &mut Transaction<'_>, terms: Terms) {
    for family in Family::ALL {
        transaction.new_udp_timeout(&terms.udp_timeout(family), family, terms.udp_seconds());
    }
}

/// Writes the rules that all clients meet.
fn write_clients(transaction: &mut Transaction<'_>, terms: Terms) {
    transaction.new_rule(CLIENTS, |rule| {
        rule.protocol_is(TCP);
        rule.opens_no_connection();
        rule.verdict(&Verdict::Return);
    });
    for family in Family::ALL {
        transaction.new_rule(CLIENTS, |rule| keep_with_proxy(rule, terms, family));
        transaction.new_rule(CLIENTS, |rule| {
            let local = Register::new(4);
            rule.family_is(family);
            rule.load_local(family, local);
            rule.verdict_of(entries(family).name, local);
        });
    }
}

/// Has all rules go by these terms from now on, with timeouts that there have to be made if `new_timeout`.
/// Flows that there are go by those that they began with. `flows` are all that the proxy carries.
pub(crate) fn change_terms(
    transaction: &mut Transaction<'_>,
    terms: Terms,
    new_timeout: bool,
    ruleset: &Ruleset,
    flows: &[(SocketAddr, SocketAddr)],
) {
    if new_timeout {
        new_udp_timeouts(transaction, terms);
    }
    transaction.flush_chain(CLIENTS);
    write_clients(transaction, terms);
    let mut next_set = FIRST_ANONYMOUS;
    for (name, chain) in &ruleset.chains {
        if matches!(chain, Chain::Balance { .. }) {
            transaction.flush_chain(name);
            write(transaction, terms, name, chain, &mut next_set);
        }
    }
    for family in Family::ALL {
        transaction.flush_set(proxied(family));
    }
    keep_proxied(transaction, terms, flows);
}

/// Leaves a flow to the proxy, which carries it already, for as long as the proxy itself would.
fn keep_with_proxy(rule: &mut Rule<'_, '_>, terms: Terms, family: Family) {
    let flow = Register::new(4);
    rule.family_is(family);
    rule.protocol_is(UDP);
    rule.load_flow(family, flow);
    rule.is_in(proxied(family).name, flow);
    rule.udp_timeout(&terms.udp_timeout(family));
    rule.verdict(&Verdict::Return);
}

/// Leaves these UDP flows, of clients to addresses of ours, to the proxy.
pub(crate) fn keep_proxied(
    transaction: &mut Transaction<'_>,
    terms: Terms,
    flows: &[(SocketAddr, SocketAddr)],
) {
    let stay = u64::try_from(terms.udp_timeout.as_millis()).unwrap_or(u64::MAX);
    for family in Family::ALL {
        let of_family = flows.iter().filter(|(client, _)| Family::of(client.ip()) == family);
        let elements: BTreeSet<_> =
            of_family.map(|(client, local)| Fields::flow(*client, *local)).collect();
        let elements: Vec<_> =
            elements.into_iter().map(|key| Element { key, value: None }).collect();
        transaction.new_elements(proxied(family), &elements, Some(stay));
    }
}

/// Adds what leads from one ruleset to the other.
pub(crate) fn change(
    transaction: &mut Transaction<'_>,
    terms: Terms,
    from: &Ruleset,
    to: &Ruleset,
) {
    for counter in to.counters.difference(&from.counters) {
        transaction.new_counter(counter);
    }
    for name in to.chains.keys().filter(|name| !from.chains.contains_key(*name)) {
        transaction.new_chain(name);
    }
    let mut next_set = FIRST_ANONYMOUS;
    for (name, chain) in
        to.chains.iter().filter(|(name, chain)| from.chains.get(*name) != Some(chain))
    {
        if from.chains.contains_key(name) {
            transaction.flush_chain(name);
        }
        write(transaction, terms, name, chain, &mut next_set);
    }
    for family in Family::ALL {
        let gone = changed_entries(family, from, to);
        let new = changed_entries(family, to, from);
        transaction.delete_elements(entries(family), &gone);
        transaction.new_elements(entries(family), &new, None);
        if terms.masquerade {
            let keys = |of: &[Element]| -> Vec<Element> {
                of.iter().map(|element| Element { value: None, ..element.clone() }).collect()
            };
            transaction.delete_elements(masqueraded(family), &keys(&gone));
            transaction.new_elements(masqueraded(family), &keys(&new), None);
        }
    }
    let unused: Vec<_> = from.chains.keys().filter(|name| !to.chains.contains_key(*name)).collect();
    // A chain can't go while a rule goes to it.
    for name in &unused {
        transaction.flush_chain(name);
    }
    for name in &unused {
        transaction.delete_chain(name);
    }
    for counter in from.counters.difference(&to.counters) {
        transaction.delete_counter(counter);
    }
}

/// The entries of `one` that `other` doesn't have.
fn changed_entries(family: Family, one: &Ruleset, other: &Ruleset) -> Vec<Element> {
    let entries = one
        .entries
        .iter()
        .filter(|(key, chain)| key.0 == family && other.entries.get(*key) != Some(*chain));
    let element = |((_, key), chain): (&(Family, Fields), &String)| Element {
        key: key.clone(),
        value: Some(Value::Verdict(Verdict::Goto(chain.clone()))),
    };
    entries.map(element).collect()
}

/// Writes the rules of a chain that has none.
fn write(
    transaction: &mut Transaction<'_>,
    terms: Terms,
    name: &str,
    chain: &Chain,
    next_set: &mut u32,
) {
    match chain {
        Chain::Split(ways) => split(transaction, name, ways),
        Chain::Balance { family, transport, endpoints } => {
            let map = Set {
                name: "__map%d",
                id: *next_set,
                shape: Shape::Endpoints(*family, endpoints.len() as u32),
            };
            *next_set += 1;
            if endpoints.len() > 1 {
                let element = |(index, endpoint): (u32, &SocketAddr)| Element {
                    key: Fields::index(index),
                    value: Some(Value::Fields(Fields::endpoint(*endpoint))),
                };
                let elements: Vec<_> = (0..).zip(endpoints).map(element).collect();
                transaction.new_set(map);
                transaction.new_elements(map, &elements, None);
            }
            transaction.new_rule(name, |rule| {
                if *transport == Transport::Udp {
                    rule.udp_timeout(&terms.udp_timeout(*family));
                }
                rule.tell_events(terms.events);
                let (number, to) = (Register::new(0), Register::new(4));
                match &endpoints[..] {
                    [only] => rule.load_endpoint(*only, to),
                    several => {
                        rule.next_number(several.len() as u32, number);
                        rule.value_of(map, number, to);
                    }
                }
                rule.translate_destination(*family, to);
            });
        }
    }
}

/// Each share takes its part of what those before it have left.
fn split(transaction: &mut Transaction<'_>, name: &str, ways: &[(u32, Way)]) {
    let mut left: u32 = ways.iter().map(|(weight, _)| weight).sum();
    for (weight, way) in ways {
        let (weight, of) = (*weight, left);
        left -= weight;
        transaction.new_rule(name, |rule| {
            if weight < of {
                rule.by_chance(weight, of);
            }
            match way {
                Way::Chain(chain) => rule.verdict(&Verdict::Goto(chain.clone())),
                Way::Refused { counter, transport } => {
                    rule.counter(counter);
                    match transport {
                        // Only TCP knows a reset.
                        Transport::Tcp => rule.reset(),
                        Transport::Udp => rule.verdict(&Verdict::Drop),
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use l4way_model::{BackendId, GatewayId, ListenerId, RouteId};

    use super::*;

    /// A listener on this port, with these backends and the ports of their endpoints.
    fn carried(port: u16, backends: &[(&str, &[u16])]) -> Carried {
        let (kind, namespace) = ("TCPRoute".into(), "ns".into());
        let address = |port: &u16| SocketAddr::from(([198, 51, 100, 2], *port));
        let share = |(name, ports): &(&str, &[u16])| {
            let (kind, namespace, name) = ("Backend".into(), "ns".into(), (*name).into());
            let id = BackendId { kind, namespace, name, port: None, transport: Transport::Tcp };
            Share { weight: 1, goes: Goes::To(id, ports.iter().map(address).collect()) }
        };
        Carried {
            listener: ListenerId {
                gateway: GatewayId::new("ns", "gw"),
                listener_set: None,
                name: port.to_string().into(),
            },
            transport: Transport::Tcp,
            locals: vec![SocketAddr::from(([192, 0, 2, 2], port))],
            route: RouteId { kind, namespace, name: "r".into() },
            shares: backends.iter().map(share).collect(),
        }
    }

    #[test]
    fn a_part_with_other_endpoints_makes_the_same_as_all_would() {
        let one = carried(7000, &[("own", &[1, 2]), ("shared", &[3])]);
        let other = carried(7001, &[("shared", &[3])]);
        let changed = carried(7000, &[("own", &[2, 4]), ("shared", &[3])]);
        let mut ruleset = Ruleset::of([&one, &other].into_iter());
        let part = Ruleset::of([&changed].into_iter());
        let before = ruleset.part(&part);
        assert_eq!(before, Ruleset::of([&one].into_iter()));
        ruleset.put(part);
        assert_eq!(ruleset, Ruleset::of([&changed, &other].into_iter()));
    }
}
