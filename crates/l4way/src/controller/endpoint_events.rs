//! What is told in Events of backends of which proxies pass endpoints over. No I/O.
//!
//! The Events are on the Service or Backend: whoever owns it is who can mend it, its namespace may not be
//! the Gateway's, and many routes may lead to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use l4way_delivery::{BackendSummary, EndpointSummary};
use l4way_model::{BackendId, GatewayId};
use l4way_resources::api::{ObjectKey, ObjectRef};
use l4way_source_kube::EventType;

/// A backend has no more than one Event within this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// What the proxies say of backends, together.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    backends: BTreeMap<BackendId, SeenBackend>,
    /// Some proxy has no room for all that it passes over: what isn't here may be among that.
    is_incomplete: bool,
}

#[derive(Debug)]
struct SeenBackend {
    /// What the proxy says that is worst off.
    worst: BackendSummary,
    /// Its Gateway.
    gateway: GatewayId,
    /// How many proxies pass endpoints over.
    proxies: usize,
}

/// How a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// No endpoint is passed over.
    Fine,
    /// Some are.
    Some,
    /// All are, by one proxy at least.
    All,
}

/// An Event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndpointEvent {
    pub(crate) object: ObjectRef,
    pub(crate) kind: EventType,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What was told, and when.
#[derive(Debug, Default)]
pub(crate) struct EndpointEvents {
    told: BTreeMap<BackendId, (Level, Instant)>,
    /// When there is more to tell.
    due: Option<Instant>,
}

impl Seen {
    /// Adds what a proxy of a Gateway says.
    pub(crate) fn add(&mut self, gateway: &GatewayId, summary: EndpointSummary) {
        self.is_incomplete |= summary.more > 0;
        for said in summary.backends {
            let new = || SeenBackend { worst: said.clone(), gateway: gateway.clone(), proxies: 0 };
            let seen = self.backends.entry(said.backend.clone()).or_insert_with(new);
            seen.proxies += 1;
            if said.passed_over > seen.worst.passed_over {
                (seen.worst, seen.gateway) = (said, gateway.clone());
            }
        }
    }

    /// How a backend is, as far as it is known.
    fn level(&self, backend: &BackendId) -> Option<Level> {
        match self.backends.get(backend) {
            Some(seen) if seen.worst.has_none_left() => Some(Level::All),
            Some(_) => Some(Level::Some),
            None => (!self.is_incomplete).then_some(Level::Fine),
        }
    }
}

impl EndpointEvents {
    /// The Events to write now. What is withheld is told later, as it is then.
    pub(crate) fn news(&mut self, seen: &Seen, now: Instant) -> Vec<EndpointEvent> {
        self.due = None;
        let mut news = Vec::new();
        let known = self.told.keys().chain(seen.backends.keys());
        for backend in known.cloned().collect::<BTreeSet<_>>() {
            let Some(level) = seen.level(&backend) else { continue };
            let told = self.told.get(&backend).copied();
            let (before, until) = match told {
                Some((level, at)) => (level, Some(at + INTERVAL)),
                None => (Level::Fine, None),
            };
            let is_withheld = until.is_some_and(|until| now < until);
            if level == before && level != Level::Fine {
                continue;
            } else if is_withheld {
                self.due = self.due.into_iter().chain(until).min();
            } else if level == before {
                self.told.remove(&backend);
            } else {
                news.push(event(&backend, level, seen.backends.get(&backend)));
                self.told.insert(backend, (level, now));
            }
        }
        news
    }

    /// When [`news`](Self::news) has more to tell though nothing changes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whoever leads next tells what is so then.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn event(backend: &BackendId, level: Level, seen: Option<&SeenBackend>) -> EndpointEvent {
    let BackendId { kind, namespace, name, port, .. } = backend;
    let port = port.map_or_else(String::new, |port| format!(" of port {port}"));
    let is_or_are = |count: usize| if count == 1 { "is" } else { "are" };
    let (kind_of_event, reason, message) = match (level, seen) {
        (Level::Fine, _) | (_, None) => (
            EventType::Normal,
            "EndpointsTaken",
            format!("No proxy passes over endpoints{port} any more."),
        ),
        (_, Some(SeenBackend { worst, gateway, proxies })) => {
            let BackendSummary { endpoints, passed_over, reason, .. } = worst;
            let who = match proxies {
                1 => format!("a proxy of Gateway {gateway}"),
                n => format!("{n} proxies, some of Gateway {gateway}"),
            };
            let what = format!(
                "{passed_over} of {endpoints} endpoints{port} {} passed over by {who}, because nobody \
                 answers there ({reason})",
                is_or_are(*passed_over)
            );
            match level {
                Level::All => (
                    EventType::Warning,
                    "NoEndpointAnswers",
                    format!("{what}: sessions fail until one answers."),
                ),
                _ => (
                    EventType::Warning,
                    "EndpointsPassedOver",
                    format!("{what}: sessions go to the others."),
                ),
            }
        }
    };
    let object = ObjectRef::new(kind.to_string(), ObjectKey::new(namespace.clone(), name.clone()));
    EndpointEvent { object, kind: kind_of_event, reason, message }
}

#[cfg(test)]
mod tests {
    use l4way_model::Transport;

    use super::*;

    fn backend() -> BackendId {
        BackendId {
            kind: "Service".into(),
            namespace: "team".into(),
            name: "db".into(),
            port: Some(5432),
            transport: Transport::Tcp,
        }
    }

    /// What proxies say that pass over so many of its three endpoints.
    fn seen(passed_over: &[usize]) -> Seen {
        let mut seen = Seen::default();
        for &passed_over in passed_over {
            let reason = "refused".to_owned();
            let said = BackendSummary { backend: backend(), endpoints: 3, passed_over, reason };
            seen.add(&GatewayId::new("edge", "gw"), EndpointSummary::new([said].into_iter()));
        }
        seen
    }

    struct Scene(EndpointEvents, Instant);

    impl Scene {
        fn at(&mut self, seconds: u64, seen: &Seen) -> Option<&'static str> {
            let news = self.0.news(seen, self.1 + Duration::from_secs(seconds));
            assert!(news.len() <= 1, "{news:?}");
            news.first().map(|event| event.reason)
        }
    }

    #[test]
    fn a_backend_has_an_event_when_endpoints_go_and_one_when_all_are_back() {
        let mut events = EndpointEvents::default();
        let now = Instant::now();
        assert_eq!(events.news(&seen(&[]), now), []);
        let [event] = &events.news(&seen(&[1, 3]), now)[..] else { panic!("one") };
        assert_eq!(event.object, ObjectRef::new("Service", ObjectKey::new("team", "db")));
        assert_eq!((event.kind, event.reason), (EventType::Warning, "NoEndpointAnswers"));
        assert_eq!(
            event.message,
            "3 of 3 endpoints of port 5432 are passed over by 2 proxies, some of Gateway edge/gw, \
             because nobody answers there (refused): sessions fail until one answers."
        );
        assert_eq!(events.news(&seen(&[1, 3]), now + INTERVAL), []);
        let [event] = &events.news(&seen(&[]), now + INTERVAL)[..] else { panic!("one") };
        assert_eq!((event.kind, event.reason), (EventType::Normal, "EndpointsTaken"));
    }

    #[test]
    fn there_is_one_a_minute_and_it_tells_what_is_so_then() {
        let mut scene = Scene(EndpointEvents::default(), Instant::now());
        assert_eq!(scene.at(0, &seen(&[1])), Some("EndpointsPassedOver"));
        for seconds in (2..58).step_by(4) {
            assert_eq!(scene.at(seconds, &seen(&[])), None);
            assert_eq!(scene.0.due(), Some(scene.1 + INTERVAL));
            assert_eq!(scene.at(seconds + 2, &seen(&[1])), None);
            assert_eq!(scene.0.due(), None, "it is as it was told");
        }
        assert_eq!(scene.at(59, &seen(&[3])), None);
        assert_eq!(scene.at(60, &seen(&[3])), Some("NoEndpointAnswers"));
        assert_eq!(scene.at(119, &seen(&[])), None);
        assert_eq!(scene.at(120, &seen(&[])), Some("EndpointsTaken"));
        assert_eq!(scene.at(121, &seen(&[2])), None);
        assert_eq!(scene.at(180, &seen(&[2])), Some("EndpointsPassedOver"));
        assert_eq!(scene.at(240, &seen(&[])), Some("EndpointsTaken"));
        assert_eq!(scene.at(300, &seen(&[])), None);
        assert!(scene.0.told.is_empty(), "nothing is kept of what is fine");
    }

    #[test]
    fn what_a_proxy_has_no_room_for_is_not_said_to_be_back() {
        let mut scene = Scene(EndpointEvents::default(), Instant::now());
        assert_eq!(scene.at(0, &seen(&[1])), Some("EndpointsPassedOver"));
        let incomplete = Seen { is_incomplete: true, ..Seen::default() };
        assert_eq!(scene.at(60, &incomplete), None);
        assert_eq!(scene.at(61, &seen(&[])), Some("EndpointsTaken"));
    }
}
