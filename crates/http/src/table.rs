//! The listeners of a port, and the rules by which a request finds its backend.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue};
use l4way_host::random_seed;
use l4way_model::{
    BackendId, HeaderMatch, Hostname, HttpListener, HttpPort, HttpRule, HttpTerms, ListenerId,
    PathMatch, Route, SessionTerms, Target as ModelTarget, TlsListener, TlsPort,
};
use l4way_proxy_core::{Hostnames, WeightedPick};
use l4way_tls::{Originator, Originators};

use crate::{
    counters::{ErrorReason, HttpCounters, RequestLabels, Row},
    endpoints::Endpoints,
    loops::{Identity, Pseudonym},
    path::comparable,
};

/// What the requests of a socket see.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) table: Arc<Table>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) terms: SessionTerms,
    pub(crate) http_terms: HttpTerms,
}

/// A port's listeners.
#[derive(Debug)]
pub(crate) struct Table {
    listeners: Hostnames<Listener>,
    /// Counts the requests that belong to no listener.
    pub(crate) stray: Arc<Row>,
}

/// What tables are made with.
pub(crate) struct Make<'a> {
    pub(crate) counters: &'a HttpCounters,
    pub(crate) originators: &'a Originators,
    pub(crate) identity: &'a Identity,
}

/// A listener, as requests see it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    rules: Vec<Rule>,
    /// Counts the requests that no rule matches.
    pub(crate) unmatched: Arc<Row>,
}

impl Table {
    /// The listeners of a port without TLS.
    pub(crate) fn of_http(port: &HttpPort, make: &Make<'_>) -> Self {
        let listeners = port.listeners.iter();
        let listener =
            |l: &HttpListener| (l.hostname.clone(), Listener::new(&l.id, &l.rules, make));
        Self::new(listeners.map(listener), make)
    }

    /// The listeners of a port with TLS. Those that aren't HTTPS have no rules: their hosts are nobody
    /// else's all the same.
    pub(crate) fn of_tls(port: &TlsPort, make: &Make<'_>) -> Self {
        let listeners = port.listeners.iter();
        let listener =
            |l: &TlsListener| (l.hostname.clone(), Listener::new(&l.id, l.mode.rules(), make));
        Self::new(listeners.map(listener), make)
    }

    fn new(listeners: impl Iterator<Item = (Option<Hostname>, Listener)>, make: &Make<'_>) -> Self {
        let listeners = Hostnames::new(listeners);
        Self { listeners, stray: make.counters.row(RequestLabels::default()) }
    }

    /// The listener that is for this host, in lower case: an exact hostname goes before a wildcard,
    /// a longer one before a shorter, and one that is for any host comes last.
    pub(crate) fn listener(&self, host: Option<&str>) -> Option<&Listener> {
        self.listeners.get(host)
    }
}

impl Listener {
    fn new(id: &ListenerId, rules: &[HttpRule], make: &Make<'_>) -> Self {
        let labels = RequestLabels { listener: Some(id.clone()), ..RequestLabels::default() };
        Self {
            id: id.clone(),
            rules: rules_of(id, rules, &labels, make),
            unmatched: make.counters.row(labels.clone()),
        }
    }

    /// The first rule that matches. The path is [comparable].
    pub(crate) fn rule(
        &self,
        host: Option<&str>,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(host, path, headers))
    }
}

/// The rules of a listener, each with a name of its own toward others.
fn rules_of(
    id: &ListenerId,
    rules: &[HttpRule],
    labels: &RequestLabels,
    make: &Make<'_>,
) -> Vec<Rule> {
    let rule = |(place, rule): (usize, &HttpRule)| {
        let pseudonym = Pseudonym::new(make.identity, id, &rule.route.id, place);
        Rule::new(rule, pseudonym, labels, make)
    };
    rules.iter().enumerate().map(rule).collect()
}

/// Whether a hostname, or its absence, is for this host. What names no host is only for those that
/// are for any.
fn fits(hostname: Option<&Hostname>, host: Option<&str>) -> bool {
    hostname.is_none_or(|hostname| host.is_some_and(|host| hostname.matches(host)))
}

/// Which requests go where.
#[derive(Debug)]
pub(crate) struct Rule {
    hostname: Option<Hostname>,
    path: PathMatch,
    headers: Vec<HeaderMatch>,
    pick: Mutex<WeightedPick>,
    targets: Vec<Target>,
    /// Counts the requests that no target has weight for, or that come back.
    pub(crate) weightless: Arc<Row>,
    /// By which it is known to those who forward requests.
    pub(crate) pseudonym: Pseudonym,
}

/// What a share of the requests meets.
#[derive(Debug)]
enum Target {
    Backend(Picked),
    Refused(ErrorReason, Arc<Row>),
}

/// The backend that a request goes to.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) backend: BackendId,
    /// What begins the TLS sessions with its endpoints, if there are to be any.
    pub(crate) originator: Option<Arc<Originator>>,
    pub(crate) row: Arc<Row>,
}

/// A request that no endpoint gets, and what counts it.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    pub(crate) reason: ErrorReason,
    pub(crate) row: &'a Arc<Row>,
}

impl Rule {
    fn new(rule: &HttpRule, pseudonym: Pseudonym, labels: &RequestLabels, make: &Make<'_>) -> Self {
        let Make { counters, originators, .. } = make;
        let HttpRule { hostname, path, headers, route: Route { id, targets } } = rule;
        let labels = RequestLabels { route: Some(id.clone()), ..labels.clone() };
        let backend = |id: &BackendId, originator| {
            let row = counters.row(RequestLabels { backend: Some(id.clone()), ..labels.clone() });
            Target::Backend(Picked { backend: id.clone(), originator, row })
        };
        let refused = |reason| Target::Refused(reason, counters.row(labels.clone()));
        let target = |target: &ModelTarget| match target {
            ModelTarget::Backend(id) => backend(id, None),
            ModelTarget::TlsBackend(id, tls) => match originators.get(tls) {
                Ok(originator) => backend(id, Some(originator.clone())),
                Err(_) => refused(ErrorReason::InvalidBackend),
            },
            ModelTarget::Refused(reason) => refused((*reason).into()),
        };
        let weights = targets.iter().map(|weighted| weighted.weight);
        Self {
            hostname: hostname.clone(),
            path: comparable_match(path),
            headers: headers.clone(),
            pick: Mutex::new(WeightedPick::new(weights, random_seed())),
            targets: targets.iter().map(|weighted| target(&weighted.target)).collect(),
            weightless: counters.row(labels),
            pseudonym,
        }
    }

    fn matches(&self, host: Option<&str>, path: &str, headers: &HeaderMap) -> bool {
        fits(self.hostname.as_ref(), host)
            && self.path.matches(path)
            && self.headers.iter().all(|wanted| has(headers, wanted))
    }

    /// The backend that the next request goes to.
    pub(crate) fn pick(&self) -> Result<&Picked, Refusal<'_>> {
        let picked = self.pick.lock().unwrap_or_else(PoisonError::into_inner).pick();
        match picked.and_then(|index| self.targets.get(index)) {
            Some(Target::Backend(picked)) => Ok(picked),
            Some(Target::Refused(reason, row)) => Err(Refusal { reason: *reason, row }),
            None => Err(Refusal { reason: ErrorReason::NoWeight, row: &self.weightless }),
        }
    }
}

/// What matches the same paths, in the form that they are compared in.
fn comparable_match(path: &PathMatch) -> PathMatch {
    match path {
        PathMatch::Exact(path) => PathMatch::Exact(comparable(path).into()),
        PathMatch::Prefix(path) => PathMatch::Prefix(comparable(path).into()),
    }
}

/// Whether a header has just this value.
fn has(headers: &HeaderMap, wanted: &HeaderMatch) -> bool {
    let mut values = headers.get_all(&*wanted.name).iter();
    let Some(first) = values.next() else { return false };
    let mut value = Cow::Borrowed(first.as_bytes());
    for further in values.map(HeaderValue::as_bytes) {
        let joined = value.to_mut();
        joined.push(b',');
        joined.extend_from_slice(further);
    }
    *value == *wanted.value.as_bytes()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use l4way_model::{GatewayId, RouteId};

    use super::*;

    fn rule(hostname: Option<&str>, path: PathMatch, route: &str) -> HttpRule {
        let id = RouteId { kind: "HTTPRoute".into(), namespace: "ns".into(), name: route.into() };
        HttpRule {
            hostname: hostname.map(Hostname::new),
            path,
            headers: Vec::new(),
            route: Route { id, targets: Vec::new() },
        }
    }

    fn listener(hostname: Option<&str>, rules: Vec<HttpRule>) -> HttpListener {
        let id = ListenerId {
            gateway: GatewayId::new("ns", "gw"),
            listener_set: None,
            name: hostname.unwrap_or("any").into(),
        };
        let hostname = hostname.map(Hostname::new);
        HttpListener { id, hostname, rules }
    }

    fn table(listeners: Vec<HttpListener>) -> Table {
        let addresses = vec![[127, 0, 0, 1].into()];
        let port = HttpPort { addresses, port: 80, listeners };
        let (counters, originators, identity) = Default::default();
        let make = Make { counters: &counters, originators: &originators, identity: &identity };
        Table::of_http(&port, &make)
    }

    #[test]
    fn the_most_specific_listener_takes_a_host() {
        let names = [None, Some("*.com"), Some("*.example.com"), Some("a.example.com")];
        let table = table(names.map(|name| listener(name, Vec::new())).into());
        for (host, expected) in [
            (Some("a.example.com"), "a.example.com"),
            (Some("b.example.com"), "*.example.com"),
            (Some("b.a.example.com"), "*.example.com"),
            (Some("example.com"), "*.com"),
            (Some("example.org"), "any"),
            (None, "any"),
        ] {
            assert_eq!(&*table.listener(host).unwrap().id.name, expected, "{host:?}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_takes_a_request() {
        let prefix = |path: &str| PathMatch::Prefix(path.into());
        let mut with_header = rule(None, prefix("/"), "header");
        with_header.headers.push(HeaderMatch { name: "x-a".into(), value: "1,2".into() });
        let rules = vec![
            rule(Some("b"), prefix("/"), "host"),
            rule(None, PathMatch::Exact("/x".into()), "exact"),
            with_header,
            rule(None, prefix("/x"), "prefix"),
        ];
        let table = table(vec![listener(None, rules)]);
        let listener = table.listener(None).unwrap();
        let taken_by = |host, path, values: &[&'static str]| {
            let pair = |value: &&'static str| {
                (HeaderName::from_static("x-a"), HeaderValue::from_static(value))
            };
            let rule = listener.rule(host, path, &values.iter().map(pair).collect())?;
            Some(rule.weightless.labels.route.as_ref().unwrap().name.to_string())
        };
        assert_eq!(taken_by(Some("b"), "/x", &[]).as_deref(), Some("host"));
        assert_eq!(taken_by(Some("c"), "/x", &["1", "2"]).as_deref(), Some("exact"));
        assert_eq!(taken_by(None, "/y", &["1", "2"]).as_deref(), Some("header"));
        assert_eq!(taken_by(None, "/y", &["1,2"]).as_deref(), Some("header"));
        assert_eq!(taken_by(None, "/x/y", &["1"]).as_deref(), Some("prefix"));
        assert_eq!(taken_by(None, "/y", &["2", "1"]), None);
    }
}
