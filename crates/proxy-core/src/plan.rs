use std::collections::{BTreeMap, BTreeSet};

use l4way_model::{Bind, Config, Listener, ListenerId, TlsPort, Transport};

/// A socket that stays open while another listener becomes its owner, so that what waits in its
/// accept queue or receive buffer isn't lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The socket.
    pub bind: Bind,
    /// Its listener until now.
    pub from: ListenerId,
    /// Its listener from now on.
    pub to: ListenerId,
}

/// What must be done to turn the running configuration into a new one. Listeners and sockets that
/// stay as they are don't occur in it.
///
/// The fields are in the order to carry them out: sockets close before others open, which may want
/// their port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sockets that no listener wants any more, with the listener that had them. They take no new
    /// sessions; those there are drain.
    pub close: Vec<(Bind, ListenerId)>,
    /// New listeners.
    pub add: Vec<Listener>,
    /// Listeners of which the route, the sockets or both differ, as they will be. Sessions they have
    /// go on.
    pub change: Vec<Listener>,
    /// Ports with TLS listeners that are new, or of which anything differs, as they will be. Their
    /// sockets belong to their [owners](TlsPort::owner).
    pub tls: Vec<TlsPort>,
    /// Sockets that pass from one listener to another.
    pub hand_over: Vec<HandOver>,
    /// Sockets to open, and the listener that wants them.
    pub open: Vec<(Bind, ListenerId)>,
    /// Listeners that are no more. Their sockets were closed or handed over.
    pub remove: Vec<ListenerId>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How to get from `running` to `new` by touching only what differs.
pub fn plan(running: &Config, new: &Config) -> Plan {
    let mut plan = Plan::default();
    plan_listeners(&mut plan, running, new);
    plan_sockets(&mut plan, running, new);
    plan
}

fn plan_listeners(plan: &mut Plan, running: &Config, new: &Config) {
    let wanted: BTreeSet<_> = session_listeners(new).collect();
    plan.remove = session_listeners(running).filter(|id| !wanted.contains(id)).cloned().collect();
    let is_new = |port: &&TlsPort| !running.tls_ports().contains(port);
    plan.tls = new.tls_ports().iter().filter(is_new).cloned().collect();
    for listener in new.listeners() {
        match running.listener(&listener.id) {
            None => plan.add.push(listener.clone()),
            Some(running) if running != listener => plan.change.push(listener.clone()),
            Some(_) => {}
        }
    }
}

/// All listeners but HTTP's, which aren't carried as sessions.
fn session_listeners(config: &Config) -> impl Iterator<Item = &ListenerId> {
    let tls = config.tls_ports().iter().flat_map(|port| &port.listeners);
    config.listeners().map(|listener| &listener.id).chain(tls.map(|listener| &listener.id))
}

fn plan_sockets(plan: &mut Plan, running: &Config, new: &Config) {
    let (old_owners, new_owners) = (owners(running), owners(new));
    for (&bind, &from) in &old_owners {
        match new_owners.get(&bind) {
            None => plan.close.push((bind, from.clone())),
            Some(&to) if to != from => {
                plan.hand_over.push(HandOver { bind, from: from.clone(), to: to.clone() });
            }
            Some(_) => {}
        }
    }
    let missing = new_owners.iter().filter(|(bind, _)| !old_owners.contains_key(bind));
    plan.open = missing.map(|(bind, owner)| (*bind, (*owner).clone())).collect();
}

/// Who has each socket of a configuration; there is one at most, see [`Config`].
fn owners(config: &Config) -> BTreeMap<Bind, &ListenerId> {
    let sessions = config.listeners().flat_map(|listener| {
        let transport = listener.transport;
        listener.binds().map(move |address| (Bind { transport, address }, &listener.id))
    });
    let tls = config.tls_ports().iter().filter_map(|port| Some((port, port.owner()?)));
    let tls = tls.flat_map(|(port, owner)| {
        let transport = Transport::Tcp;
        port.binds().map(move |address| (Bind { transport, address }, owner))
    });
    sessions.chain(tls).collect()
}
