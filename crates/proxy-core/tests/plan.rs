//! Carrying out a plan gives the new configuration, and touches only what differs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use l4way_model::{
    BackendId, Bind, Config, GatewayId, Listener, ListenerId, Route, RouteId, Target, Transport,
    WeightedTarget,
};
use l4way_proxy_core::{HandOver, Plan, plan};
use proptest::prelude::*;

fn id(name: &str) -> ListenerId {
    let gateway = GatewayId::new("default", "gateway");
    ListenerId { gateway, listener_set: None, name: name.into() }
}

fn route(name: &str, weight: u32) -> Route {
    let backend = BackendId {
        kind: "Service".into(),
        namespace: "default".into(),
        name: name.into(),
        port: Some(80),
        transport: Transport::Tcp,
    };
    Route {
        id: RouteId { kind: "TCPRoute".into(), namespace: "default".into(), name: name.into() },
        targets: vec![WeightedTarget { weight, target: Target::Backend(backend) }],
    }
}

fn listener(name: &str, transport: Transport, hosts: &[u8], port: u16) -> Listener {
    let addresses = hosts.iter().map(|&host| IpAddr::from(Ipv4Addr::new(127, 0, 0, host)));
    Listener { id: id(name), transport, addresses: addresses.collect(), port, route: None }
}

fn tcp(name: &str, hosts: &[u8], port: u16) -> Listener {
    listener(name, Transport::Tcp, hosts, port)
}

fn bind(transport: Transport, host: u8, port: u16) -> Bind {
    Bind { transport, address: (Ipv4Addr::new(127, 0, 0, host), port).into() }
}

fn config(listeners: impl IntoIterator<Item = Listener>) -> Config {
    Config::new(listeners).expect("no socket is wanted twice")
}

#[test]
fn the_same_configuration_needs_nothing() {
    let running = config([tcp("a", &[1, 2], 80), listener("b", Transport::Udp, &[1], 80)]);
    assert!(plan(&running, &running.clone()).is_empty());
}

#[test]
fn a_route_changes_without_its_sockets() {
    let a = Listener { route: Some(route("v1", 1)), ..tcp("a", &[1], 80) };
    let new = Listener { route: Some(route("v1", 2)), ..a.clone() };
    let b = tcp("b", &[1], 81);
    let plan = plan(&config([a, b.clone()]), &config([new.clone(), b]));
    assert_eq!(plan, Plan { change: vec![new], ..Plan::default() });
}

#[test]
fn a_renamed_listener_hands_its_socket_over() {
    let new = tcp("new", &[1], 80);
    let plan = plan(&config([tcp("old", &[1], 80)]), &config([new.clone()]));
    let hand_over = HandOver { bind: bind(Transport::Tcp, 1, 80), from: id("old"), to: id("new") };
    assert_eq!(
        plan,
        Plan {
            remove: vec![id("old")],
            add: vec![new],
            hand_over: vec![hand_over],
            ..Plan::default()
        }
    );
}

#[test]
fn listeners_that_swap_ports_hand_over_both_ways() {
    let running = config([tcp("a", &[1], 80), tcp("b", &[1], 81)]);
    let plan = plan(&running, &config([tcp("a", &[1], 81), tcp("b", &[1], 80)]));
    assert_eq!(plan.hand_over.len(), 2);
    assert!(plan.close.is_empty() && plan.open.is_empty());
}

#[test]
fn an_address_more_opens_one_socket_and_leaves_the_other() {
    let new = tcp("a", &[1, 2], 80);
    let plan = plan(&config([tcp("a", &[1], 80)]), &config([new.clone()]));
    let open = vec![(bind(Transport::Tcp, 2, 80), id("a"))];
    assert_eq!(plan, Plan { change: vec![new], open, ..Plan::default() });
}

#[test]
fn tcp_and_udp_of_one_port_are_two_sockets() {
    let running = config([tcp("a", &[1], 53)]);
    let plan = plan(&running, &config([listener("a", Transport::Udp, &[1], 53)]));
    assert_eq!(plan.close, [(bind(Transport::Tcp, 1, 53), id("a"))]);
    assert_eq!(plan.open, [(bind(Transport::Udp, 1, 53), id("a"))]);
    assert!(plan.hand_over.is_empty());
}

fn any_config() -> impl Strategy<Value = Config> {
    let draft = (
        prop::sample::select(vec!["a", "b", "c", "d", "e"]),
        prop::sample::select(vec![Transport::Tcp, Transport::Udp]),
        prop::collection::btree_set(1..4_u8, 1..3),
        80..83_u16,
        prop::option::of((prop::sample::select(vec!["v1", "v2"]), 0..3_u32)),
    );
    prop::collection::vec(draft, 0..6).prop_map(|drafts| {
        let mut config = Config::default();
        for (name, transport, hosts, port, to) in drafts {
            let hosts: Vec<_> = hosts.into_iter().collect();
            let route = to.map(|(name, weight)| route(name, weight));
            let draft = Listener { route, ..listener(name, transport, &hosts, port) };
            // A draft that wants a socket which another one has is left out.
            let mut listeners: Vec<_> =
                config.listeners().filter(|l| l.id != draft.id).cloned().collect();
            listeners.push(draft);
            config = Config::new(listeners).unwrap_or(config);
        }
        config
    })
}

fn sockets(config: &Config) -> BTreeMap<Bind, ListenerId> {
    let of = |l: &Listener| {
        let (transport, id) = (l.transport, l.id.clone());
        l.binds().map(move |address| (Bind { transport, address }, id.clone())).collect::<Vec<_>>()
    };
    config.listeners().flat_map(of).collect()
}

proptest! {
    #[test]
    fn a_plan_carried_out_gives_the_new_configuration(
        running in any_config(),
        new in any_config(),
    ) {
        let plan = plan(&running, &new);

        let mut listeners: BTreeMap<_, _> =
            running.listeners().map(|l| (l.id.clone(), l.clone())).collect();
        for id in &plan.remove {
            prop_assert!(listeners.remove(id).is_some());
        }
        for added in &plan.add {
            prop_assert!(listeners.insert(added.id.clone(), added.clone()).is_none());
        }
        for changed in &plan.change {
            let old = listeners.insert(changed.id.clone(), changed.clone());
            prop_assert!(old.is_some_and(|old| old != *changed));
        }
        prop_assert_eq!(Config::new(listeners.into_values()), Ok(new.clone()));

        let mut open = sockets(&running);
        for (bind, owner) in &plan.close {
            prop_assert_eq!(open.remove(bind), Some(owner.clone()));
        }
        for HandOver { bind, from, to } in &plan.hand_over {
            prop_assert!(from != to);
            prop_assert_eq!(open.insert(*bind, to.clone()), Some(from.clone()));
        }
        for (bind, owner) in &plan.open {
            prop_assert_eq!(open.insert(*bind, owner.clone()), None);
        }
        prop_assert_eq!(open, sockets(&new));
    }

    #[test]
    fn a_listener_that_stays_is_not_mentioned(running in any_config(), new in any_config()) {
        let plan = plan(&running, &new);
        for stays in running.listeners().filter(|l| new.listener(&l.id) == Some(l)) {
            let id = &stays.id;
            prop_assert!(!plan.remove.contains(id));
            prop_assert!(plan.add.iter().chain(&plan.change).all(|l| l.id != *id));
            prop_assert!(plan.close.iter().chain(&plan.open).all(|(_, owner)| owner != id));
            prop_assert!(plan.hand_over.iter().all(|h| h.from != *id && h.to != *id));
        }
    }
}
