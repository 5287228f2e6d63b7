//! Which addresses a Gateway is on, and who has a port of an address that several Gateways want.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use l4way_model::{GatewayId, ListenerId, Transport};
use l4way_resources::api::ObjectKey;

use super::{GatewayNode, ListenerNode, ListenerSetNode};
use crate::{AddressPool, Addresses, conditions};

/// Gives each Gateway its addresses; older ones choose first.
pub(crate) fn assign(gateways: &mut [&mut GatewayNode], addresses: &Addresses) {
    for gateway in gateways.iter_mut() {
        gateway.asked_addresses = asked(gateway);
        gateway.addresses.clone_from(&gateway.asked_addresses);
    }
    match addresses {
        Addresses::Unspecified => {
            for gateway in gateways.iter_mut() {
                gateway.addresses = vec![Ipv4Addr::UNSPECIFIED.into()];
            }
        }
        Addresses::Shared(shared) => share(gateways, shared),
        Addresses::Pool { pool, held } => draw(gateways, pool, held),
    }
}

/// Gives the same addresses to every Gateway that wants any.
fn share(gateways: &mut [&mut GatewayNode], shared: &[IpAddr]) {
    for gateway in gateways.iter_mut().filter(|gateway| wants_any(gateway)) {
        gateway.addresses.extend(shared);
        dedup(&mut gateway.addresses);
        if gateway.addresses.is_empty() {
            let message = "there is no default address; set spec.addresses";
            refuse_assignment(gateway, message.to_owned());
        }
    }
}

/// Gives each Gateway that wants any an address of its own: the one that it has, or a free one.
fn draw(gateways: &mut [&mut GatewayNode], pool: &AddressPool, held: &BTreeMap<GatewayId, IpAddr>) {
    let mut taken: HashSet<IpAddr> = HashSet::new();
    taken.extend(gateways.iter().flat_map(|gateway| &gateway.addresses));
    let mut waiting = Vec::new();
    for gateway in gateways.iter_mut().filter(|gateway| wants_any(gateway)) {
        match held.get(&gateway.id()) {
            Some(address) if pool.contains(*address) && taken.insert(*address) => {
                gateway.addresses.push(*address);
            }
            _ => waiting.push(gateway),
        }
    }
    let mut exhausted = false;
    for gateway in waiting {
        let name = gateway.id().to_string();
        let free = pool.candidates(&name).take_while(|_| !exhausted).find(|a| taken.insert(*a));
        match free {
            Some(address) => gateway.addresses.push(address),
            None => {
                exhausted = true;
                let message = format!(
                    "every address of the pool ({}) is taken; make the pool larger, or set \
                     spec.addresses",
                    pool.len()
                );
                refuse_assignment(gateway, message);
            }
        }
    }
}

/// Whether some address is to be chosen for the Gateway.
fn wants_any(gateway: &GatewayNode) -> bool {
    let asked = &gateway.object.spec.addresses;
    asked.is_empty()
        || asked.iter().any(|address| &*address.kind == "IPAddress" && is_empty(&address.value))
}

fn is_empty(value: &Option<std::sync::Arc<str>>) -> bool {
    value.as_deref().is_none_or(str::is_empty)
}

/// The addresses that the Gateway asks for by value. What it asks for in vain is told.
fn asked(gateway: &mut GatewayNode) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (index, asked) in gateway.object.spec.addresses.iter().enumerate() {
        let pointer = format!("/spec/addresses/{index}");
        if &*asked.kind != "IPAddress" {
            let message = format!("address type {:?} is not supported; use IPAddress", asked.kind);
            let outcomes = conditions::gateway::unsupported_address(message);
            gateway.findings.error(format!("{pointer}/type"), outcomes);
            continue;
        }
        let Some(value) = asked.value.as_deref().filter(|value| !value.is_empty()) else {
            continue;
        };
        match value.parse::<IpAddr>() {
            // An IPv4-mapped one is IPv4's: no socket of IPv6 could have it.
            Ok(address) => addresses.push(address.to_canonical()),
            Err(_) => {
                let message = format!("{value:?} is not an IP address");
                let outcome = conditions::gateway::address_not_usable(message);
                gateway.findings.error(format!("{pointer}/value"), [outcome]);
            }
        }
    }
    dedup(&mut addresses);
    addresses
}

fn dedup(addresses: &mut Vec<IpAddr>) {
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(*address));
}

fn refuse_assignment(gateway: &mut GatewayNode, message: String) {
    let outcome = conditions::gateway::address_not_assigned(message);
    gateway.findings.error("/spec/addresses", [outcome]);
}

/// Who holds what: for each transport and port, the holder of each address.
#[derive(Default)]
struct Holders(HashMap<(Transport, u16), BTreeMap<IpAddr, ListenerId>>);

impl Holders {
    /// Who stands in the way of listening there, and on which address. The unspecified address
    /// stands for all of its family.
    fn in_the_way(
        &self,
        transport: Transport,
        port: u16,
        address: IpAddr,
    ) -> Option<(IpAddr, &ListenerId)> {
        let holders = self.0.get(&(transport, port))?;
        let unspecified: IpAddr = match address {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let holder = holders.get_key_value(&address).or(holders.get_key_value(&unspecified));
        let holder = holder.or_else(|| {
            holders
                .iter()
                .find(|(held, _)| address.is_unspecified() && held.is_ipv4() == address.is_ipv4())
        });
        holder.map(|(address, id)| (*address, id))
    }
}

/// Refuses the listeners whose port another Gateway has on the same address: the older one's.
pub(crate) fn refuse_held(
    gateways: &mut [&mut GatewayNode],
    listener_sets: &mut BTreeMap<ObjectKey, ListenerSetNode>,
) {
    let mut holders = Holders::default();
    for gateway in gateways.iter_mut().filter(|gateway| gateway.may_run() || gateway.keeps_ports) {
        let GatewayNode { addresses, listeners, listener_sets: sets, .. } = &mut **gateway;
        for listener in listeners.iter_mut() {
            claim(listener, addresses, &mut holders);
        }
        for set in sets.iter() {
            let Some(set) = listener_sets.get_mut(set) else { continue };
            for listener in &mut set.listeners {
                claim(listener, addresses, &mut holders);
            }
        }
    }
}

fn claim(listener: &mut ListenerNode, addresses: &[IpAddr], holders: &mut Holders) {
    let Some(transport) = listener.holds() else { return };
    let port = listener.port;
    let taken = addresses.iter().find_map(|address| {
        let (held, holder) = holders.in_the_way(transport, port, *address)?;
        // Those of one Gateway are told apart by hostname, or have been refused already.
        (holder.gateway != listener.id.gateway).then_some((SocketAddr::new(held, port), holder))
    });
    if let Some((bind, holder)) = taken {
        let message = format!(
            "{bind}/{transport} is taken by listener {holder} of Gateway {}, which has precedence; \
             change the port, or give one of the Gateways another address",
            holder.gateway
        );
        let outcomes = conditions::listener::port_unavailable(message);
        listener.findings.error(listener.pointer("port"), outcomes);
        return;
    }
    for address in addresses {
        let held = holders.0.entry((transport, port)).or_default();
        held.insert(*address, listener.id.clone());
    }
}
