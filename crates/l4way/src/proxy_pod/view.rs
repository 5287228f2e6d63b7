//! What a proxy pod says of itself at `/status`.

use std::collections::{BTreeMap, BTreeSet};

use l4way_delivery::{Identity, Refused};
use l4way_model::{
    ApplyReport, BackendId, Config, HttpListener, HttpPort, Listener, ListenerId, ListenerReport,
    TlsListener, TlsMode, TlsPort,
};
use l4way_observe::{ListenerRow, Overview};
use l4way_resources::status::{Condition, ConditionStatus};

/// Every listener with its state.
pub(super) fn overview(config: &Config, applied: &ApplyReport) -> Overview {
    let http = config.http_ports().iter();
    let http = http.flat_map(|port| port.listeners.iter().map(move |listener| (port, listener)));
    let tls = config.tls_ports().iter();
    let tls = tls.flat_map(|port| port.listeners.iter().map(move |listener| (port, listener)));
    Overview {
        listeners: config
            .listeners()
            .map(|listener| row(listener, applied))
            .chain(tls.map(|(port, listener)| tls_row(port, listener, applied)))
            .chain(http.map(|(port, listener)| http_row(port, listener, applied)))
            .collect(),
        ..Overview::default()
    }
}

/// What else a person should know: which configuration is in force, and what it leaves out.
pub(super) fn notes(
    hash: &str,
    config: &Config,
    refused: &BTreeMap<BackendId, String>,
) -> Vec<String> {
    let mut notes = vec![format!("configuration {hash}")];
    if config.listener_ids().next().is_none() {
        notes.push("it has no listener: nothing is carried".to_owned());
    }
    notes.extend(refused.iter().map(|(backend, sentence)| format!("{backend}: {sentence}")));
    notes
}

/// What the proxy can't take, a line each.
pub(super) fn refusals(identity: &Identity) -> impl Iterator<Item = String> {
    identity.refused.iter().map(|(kind, Refused { hash, refusal })| {
        format!("{} {hash} is refused because {refusal}", kind.noun())
    })
}

fn row(listener: &Listener, applied: &ApplyReport) -> ListenerRow {
    ListenerRow {
        name: listener.id.to_string(),
        protocol: listener.transport.to_string(),
        port: listener.port,
        attached_routes: listener.route.iter().count() as u32,
        data_path: applied.paths.get(&listener.id).cloned(),
        conditions: conditions(&listener.id, applied),
    }
}

fn http_row(port: &HttpPort, listener: &HttpListener, applied: &ApplyReport) -> ListenerRow {
    let routes: BTreeSet<_> = listener.rules.iter().map(|rule| &rule.route.id).collect();
    ListenerRow {
        name: listener.id.to_string(),
        protocol: "HTTP".to_owned(),
        port: port.port,
        attached_routes: routes.len() as u32,
        data_path: None,
        conditions: conditions(&listener.id, applied),
    }
}

fn tls_row(port: &TlsPort, listener: &TlsListener, applied: &ApplyReport) -> ListenerRow {
    let sessions = listener.mode.routes().iter().map(|route| &route.route.id);
    let requests = listener.mode.rules().iter().map(|rule| &rule.route.id);
    let routes: BTreeSet<_> = sessions.chain(requests).collect();
    let protocol = if matches!(listener.mode, TlsMode::Https { .. }) { "HTTPS" } else { "TLS" };
    ListenerRow {
        name: listener.id.to_string(),
        protocol: protocol.to_owned(),
        port: port.port,
        attached_routes: routes.len() as u32,
        data_path: None,
        conditions: conditions(&listener.id, applied),
    }
}

/// `Programmed`; the others are the controller's.
fn conditions(listener: &ListenerId, applied: &ApplyReport) -> Vec<Condition> {
    let (status, reason, message) = match applied.listeners.get(listener) {
        None => return Vec::new(),
        Some(ListenerReport::Bound) => (ConditionStatus::True, "Programmed", "listening"),
        Some(ListenerReport::Failed(failure)) => {
            (ConditionStatus::False, "PortUnavailable", failure.message.as_str())
        }
    };
    vec![Condition {
        kind: "Programmed".to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: 0,
    }]
}

#[cfg(test)]
mod tests {
    use l4way_model::{BindFailure, BindFailureKind, GatewayId, Transport};
    use l4way_observe::table;

    use super::*;

    #[test]
    fn a_listener_that_is_not_bound_says_why() {
        let listener = |name: &str, port| Listener {
            id: ListenerId {
                gateway: GatewayId::new("default", "gw"),
                listener_set: None,
                name: name.into(),
            },
            transport: Transport::Tcp,
            addresses: vec![std::net::Ipv4Addr::UNSPECIFIED.into()],
            port,
            route: None,
        };
        let (db, web) = (listener("db", 5432), listener("web", 80));
        let failure = BindFailure {
            bind: "0.0.0.0:80".parse().unwrap(),
            kind: BindFailureKind::NotPermitted,
            message: "0.0.0.0:80 may not be bound".to_owned(),
        };
        let applied = ApplyReport {
            listeners: [
                (db.id.clone(), ListenerReport::Bound),
                (web.id.clone(), ListenerReport::Failed(failure)),
            ]
            .into(),
            ..ApplyReport::default()
        };
        let backend = BackendId {
            kind: "Service".into(),
            namespace: "default".into(),
            name: "db".into(),
            port: Some(5432),
            transport: Transport::Tcp,
        };
        let config = Config::new([db, web]).unwrap();
        let overview = overview(&config, &applied);
        let text = table::render(&overview);
        assert!(text.contains("default/gw/db"), "{text}");
        assert!(text.contains("! listener default/gw/web: Programmed False (PortUnavailable)"));

        let notes = notes("abc", &config, &[(backend, "left out".to_owned())].into());
        assert_eq!(notes, ["configuration abc", "Service/default/db:5432: left out"]);
    }
}
