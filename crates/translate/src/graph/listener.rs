use std::{collections::BTreeMap, sync::Arc};

use l4way_model::{ListenerId, Transport};
use l4way_resources::{
    GATEWAY_GROUP, Severity,
    api::{Listener, RouteGroupKind, RouteKind, RouteNamespaces, TlsMode},
};

use super::{Protocol, RouteKey, Share, namespace, tls::TlsNode, tls_options};
use crate::{
    conditions::{self, CONFLICTED, PROGRAMMED},
    finding::Findings,
    suggest,
};

/// A listener of a Gateway or ListenerSet.
#[derive(Clone, Debug)]
pub(crate) struct ListenerNode {
    pub(crate) id: ListenerId,
    /// Its place in `spec.listeners`.
    pub(crate) index: usize,
    pub(crate) port: u16,
    /// `None` if the API doesn't know it.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) hostname: Option<Arc<str>>,
    pub(crate) tls: TlsNode,
    /// The kinds of route that may attach.
    pub(crate) kinds: Vec<RouteKind>,
    /// The namespaces from which they may.
    pub(crate) namespaces: RouteNamespaces,
    /// The namespace of the object that it is in.
    pub(crate) home: Arc<str>,
    /// The object that it is in is invalid: it takes nothing, and what it has is nobody else's.
    pub(crate) is_refused: bool,
    pub(crate) findings: Findings,
    /// The routes that are attached, the one with precedence first.
    pub(crate) routes: Vec<RouteKey>,
    /// The route that each share of its sessions takes.
    pub(crate) shares: BTreeMap<Share, RouteKey>,
}

impl ListenerNode {
    /// Reads a listener, without what its certificates and neighbours have to say.
    pub(crate) fn new(id: ListenerId, home: Arc<str>, index: usize, listener: &Listener) -> Self {
        let mode = listener.tls.as_ref().map(|tls| tls.mode).unwrap_or_default();
        let protocol = Protocol::parse(&listener.protocol, mode);
        let mut node = Self {
            id,
            index,
            port: listener.port,
            protocol,
            hostname: listener.hostname.clone().filter(|hostname| !hostname.is_empty()),
            tls: TlsNode::default(),
            kinds: Vec::new(),
            namespaces: listener.allowed_routes.namespaces.clone(),
            home,
            is_refused: false,
            findings: Findings::default(),
            routes: Vec::new(),
            shares: BTreeMap::new(),
        };
        match protocol {
            None => node.refuse_protocol(&listener.protocol),
            Some(protocol) => {
                node.allow_kinds(protocol, &listener.allowed_routes.kinds);
                node.check_fields(protocol, listener);
            }
        }
        node
    }

    /// The listener, as messages about others name it.
    pub(crate) fn describe(&self) -> String {
        let of = match &self.id.listener_set {
            Some((namespace, name)) => format!("ListenerSet {namespace}/{name}"),
            None => format!("Gateway {}", self.id.gateway),
        };
        match self.protocol {
            Some(protocol) => format!("{protocol} listener {:?} of {of}", self.id.name),
            None => format!("listener {:?} of {of}", self.id.name),
        }
    }

    /// The JSON pointer to one of its fields.
    pub(crate) fn pointer(&self, field: &str) -> String {
        format!("/spec/listeners/{}/{field}", self.index)
    }

    /// Whether nothing keeps it out of a data plane that carries its protocol.
    pub(crate) fn is_valid(&self) -> bool {
        self.findings.outcome(PROGRAMMED).is_none() && !self.is_refused
    }

    /// What it is carried on, if it is valid.
    pub(crate) fn runs_on(&self) -> Option<Transport> {
        self.holds().filter(|_| self.is_valid())
    }

    /// The transport whose port it has, if it is valid, or would be were its object.
    pub(crate) fn holds(&self) -> Option<Transport> {
        self.protocol
            .map(Protocol::transport)
            .filter(|_| self.findings.outcome(PROGRAMMED).is_none())
    }

    /// Whether others leave no room for it.
    pub(crate) fn is_conflicted(&self) -> bool {
        self.findings.outcome(CONFLICTED).is_some()
    }

    fn refuse_protocol(&mut self, protocol: &str) {
        let names = Protocol::NAMES;
        let message = format!(
            "protocol {protocol:?} is not supported{}; use one of {}",
            suggest::did_you_mean(&protocol.to_ascii_uppercase(), names),
            names.join(", "),
        );
        let outcomes = conditions::listener::unsupported_protocol(message);
        self.findings.error(self.pointer("protocol"), outcomes);
    }

    /// The kinds that are asked for as far as they fit the protocol, all that fit if none is.
    fn allow_kinds(&mut self, protocol: Protocol, asked: &[RouteGroupKind]) {
        let fitting = protocol.route_kinds();
        if asked.is_empty() {
            self.kinds = fitting.to_vec();
            return;
        }
        let fits = |kind: &RouteGroupKind| {
            let known = fitting.iter().find(|fitting| fitting.as_str() == &*kind.kind);
            known.filter(|_| &*kind.group == GATEWAY_GROUP).copied()
        };
        for (index, kind) in asked.iter().enumerate() {
            match fits(kind) {
                Some(kind) if self.kinds.contains(&kind) => {}
                Some(kind) => self.kinds.push(kind),
                None => self.refuse_kind(protocol, index, kind),
            }
        }
        if self.kinds.is_empty() {
            let message = "None of the route kinds that it allows fits its protocol.";
            let outcome = conditions::listener::invalid(message);
            self.findings.error(self.pointer("allowedRoutes/kinds"), [outcome]);
        }
    }

    fn refuse_kind(&mut self, protocol: Protocol, index: usize, kind: &RouteGroupKind) {
        let fitting: Vec<_> = protocol.route_kinds().iter().map(|kind| kind.as_str()).collect();
        let message = format!(
            "kind {} of group {:?} doesn't fit protocol {protocol}; use {}",
            kind.kind,
            kind.group,
            fitting.join(" or "),
        );
        let outcome = conditions::listener::invalid_route_kinds(message);
        self.findings.error(self.pointer(&format!("allowedRoutes/kinds/{index}")), [outcome]);
    }

    /// Fields that can't be honoured make the listener invalid, so that nobody relies on them.
    fn check_fields(&mut self, protocol: Protocol, listener: &Listener) {
        if let Some(defect) = namespace::defect(&self.namespaces) {
            self.refuse("allowedRoutes/namespaces", defect);
        }
        if self.hostname.is_some() && matches!(protocol, Protocol::Tcp | Protocol::Udp) {
            let message = format!("Protocol {protocol} has no hostnames: this one is ignored.");
            self.findings.note(Severity::Warning, self.pointer("hostname"), message);
        }
        if let Some(tls) = listener.tls.as_ref().filter(|_| protocol.begins_with_tls()) {
            for (option, message) in tls_options::read(&mut self.tls, protocol, &tls.options) {
                let key =
                    option.map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1")));
                self.refuse(&format!("tls/options{}", key.unwrap_or_default()), message);
            }
        }
        match (protocol, listener.tls.as_ref().map(|tls| tls.mode)) {
            (Protocol::Tcp | Protocol::Udp | Protocol::Http, Some(_)) => {
                self.refuse("tls", format!("protocol {protocol} has no tls; remove it"));
            }
            (Protocol::Tls(_) | Protocol::Https, None) => {
                self.refuse("protocol", format!("protocol {protocol} needs tls"));
            }
            (Protocol::Https, Some(TlsMode::Passthrough)) => self.refuse(
                "tls/mode",
                "HTTPS ends TLS sessions; use mode Terminate, or protocol TLS".into(),
            ),
            _ => {}
        }
    }

    /// A field's value is none that l4way supports.
    pub(crate) fn refuse(&mut self, field: &str, message: String) {
        let outcomes = conditions::listener::unsupported_value(message);
        self.findings.error(self.pointer(field), outcomes);
    }
}
