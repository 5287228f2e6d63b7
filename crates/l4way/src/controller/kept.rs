//! What the proxies of a Gateway that isn't accepted go on carrying. No I/O.
//!
//! Its pods, its Service and its listeners stay as they are. On these listeners routes, grants, backends and
//! certificates hold as ever: whoever withdraws a right isn't who has to mend the Gateway. A listener that
//! nobody asks for any more is closed; no listener is opened.

use std::collections::{BTreeMap, BTreeSet};

use l4way_model::{
    Config, HttpListener, HttpPort, Listener, ListenerId, Parts, TlsListener, TlsMode, TlsPort,
};
use l4way_translate::Compiled;

/// What was delivered, as far as it holds still. `asked` is what would run if the Gateway were accepted.
pub(crate) fn kept(delivered: Config, asked: &Compiled) -> Compiled {
    let Parts { listeners, tls, http, terms, http_terms, gateway_uid } = delivered.into();
    let asked_tls: BTreeMap<_, _> =
        by_id(asked.config.tls_ports(), |port| &port.listeners, |l| &l.id);
    let asked_http = by_id(asked.config.http_ports(), |port| &port.listeners, |l| &l.id);
    let parts = Parts {
        listeners: listeners.into_iter().filter_map(|l| session_listener(l, asked)).collect(),
        tls: tls.into_iter().filter_map(|port| tls_port(port, &asked_tls)).collect(),
        http: http.into_iter().filter_map(|port| http_port(port, &asked_http)).collect(),
        terms,
        http_terms,
        gateway_uid,
    };
    let config = Config::try_from(parts).expect("a part of a configuration has no socket twice");
    let targets = config.routes().flat_map(|route| &route.targets);
    let named: BTreeSet<_> = targets.filter_map(|weighted| weighted.target.backend()).collect();
    let backends = asked.backends.iter().filter(|(id, _)| named.contains(id));
    let backends = backends.map(|(id, source)| (id.clone(), source.clone())).collect();
    Compiled { config, backends }
}

fn by_id<'a, P, L>(
    ports: &'a [P],
    listeners: impl Fn(&'a P) -> &'a Vec<L>,
    id: impl Fn(&'a L) -> &'a ListenerId,
) -> BTreeMap<&'a ListenerId, &'a L> {
    ports.iter().flat_map(listeners).map(|listener| (id(listener), listener)).collect()
}

fn session_listener(listener: Listener, asked: &Compiled) -> Option<Listener> {
    let now = asked.config.listener(&listener.id)?;
    (now.transport == listener.transport).then(|| Listener { route: now.route.clone(), ..listener })
}

fn tls_port(port: TlsPort, asked: &BTreeMap<&ListenerId, &TlsListener>) -> Option<TlsPort> {
    let listeners = port.listeners.into_iter().filter_map(|listener| {
        let now = asked.get(&listener.id)?;
        let mode = if is_alike(&listener.mode, &now.mode) {
            now.mode.clone()
        } else {
            // Whose session ends where isn't changed; its hosts stay its own.
            TlsMode::Refused
        };
        Some(TlsListener { mode, ..listener })
    });
    let listeners: Vec<_> = listeners.collect();
    let is_served = listeners.iter().any(|listener| listener.mode != TlsMode::Refused);
    is_served.then_some(TlsPort { listeners, ..port })
}

/// Whether sessions end in the same place, or in none now or before.
fn is_alike(before: &TlsMode, now: &TlsMode) -> bool {
    use TlsMode::{Https, Passthrough, Refused, Terminate};
    matches!(
        (before, now),
        (Refused, _)
            | (_, Refused)
            | (Passthrough { .. }, Passthrough { .. })
            | (Terminate { .. }, Terminate { .. })
            | (Https { .. }, Https { .. })
    )
}

fn http_port(port: HttpPort, asked: &BTreeMap<&ListenerId, &HttpListener>) -> Option<HttpPort> {
    let listeners = port.listeners.into_iter().filter_map(|listener| {
        let rules = asked.get(&listener.id)?.rules.clone();
        Some(HttpListener { rules, ..listener })
    });
    let listeners: Vec<_> = listeners.collect();
    (!listeners.is_empty()).then_some(HttpPort { listeners, ..port })
}

#[cfg(test)]
mod tests;
