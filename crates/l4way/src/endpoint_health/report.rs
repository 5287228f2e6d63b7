//! How every endpoint is, for people, and a summary of it for the controller.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use l4way_delivery::{BackendSummary, EndpointSummary};
use l4way_model::{BackendId, Endpoint, EndpointPlace, EndpointTable, RouteId};
use l4way_observe::{EndpointReport, EndpointRow, LastError, LeftOut, UnansweredRow, seconds};
use l4way_proxy_core::{EndpointOf, EndpointState, HealthView, PassedOver};

use super::{EndpointHealth, Routes};

/// How many endpoints of a backend are shown, and how many in all.
const OF_EACH: usize = 10;
const IN_ALL: usize = 100;

/// A backend and its endpoints.
struct Standing<'a> {
    backend: &'a BackendId,
    endpoints: &'a [Endpoint],
    /// Those that are passed over, in their order.
    passed_over: Vec<usize>,
}

impl Standing<'_> {
    fn taken(&self) -> usize {
        self.endpoints.len() - self.passed_over.len()
    }

    /// The places of its endpoints, those that are passed over first.
    fn places(&self) -> impl Iterator<Item = EndpointPlace> {
        let is_taken = |index: &usize| self.passed_over.binary_search(index).is_err();
        let taken = (0..self.endpoints.len()).filter(is_taken);
        let place = |index: usize| EndpointPlace {
            backend: self.backend.clone(),
            index,
            address: self.endpoints[index].address.clone(),
        };
        self.passed_over.iter().copied().chain(taken).map(place)
    }
}

/// Every backend with its endpoints.
fn standings<'a>(
    table: &'a EndpointTable,
    view: &'a HealthView,
    now: Instant,
) -> impl Iterator<Item = Standing<'a>> {
    table.0.iter().map(move |(backend, endpoints): (_, &'a Arc<[Endpoint]>)| {
        let is_passed_over = |index: &usize| {
            let address = &endpoints[*index].address;
            view.state(EndpointOf { backend, address }, now) != EndpointState::Taken
        };
        let passed_over = (0..endpoints.len()).filter(is_passed_over).collect();
        Standing { backend, endpoints, passed_over }
    })
}

impl EndpointHealth {
    /// How endpoints are: `all` of them, or as many as a person reads, those that are passed over first.
    /// `sessions` counts the sessions of those that are shown.
    pub(crate) fn report(
        &self,
        all: bool,
        sessions: impl FnOnce(&[EndpointPlace]) -> Option<Vec<u64>>,
    ) -> EndpointReport {
        let (table, routes, names) = {
            let shared = self.shared();
            (shared.table.clone(), shared.routes.clone(), shared.names.clone())
        };
        let (view, now) = (self.store.view(), Instant::now());
        let mut standings: Vec<_> = standings(&table, &view, now).collect();
        let unanswered = unanswered(&routes, &standings, &names);
        // Those that have none left come first; else, in the order of their names.
        standings.sort_by_key(|of| (of.passed_over.is_empty(), of.taken() > 0));
        let (of_each, mut room) = if all { (usize::MAX, usize::MAX) } else { (OF_EACH, IN_ALL) };
        let (mut places, mut empty) = (Vec::new(), Vec::new());
        let mut left_out = LeftOut::default();
        for standing in &standings {
            if standing.endpoints.is_empty() && room > 0 {
                room -= 1;
                empty.push(empty_row(standing.backend));
            }
            let shown = standing.endpoints.len().min(of_each).min(room);
            room -= shown;
            let passed_over = standing.passed_over.len();
            left_out.passed_over += passed_over.saturating_sub(shown);
            left_out.taken += standing.taken() - shown.saturating_sub(passed_over);
            places.extend(standing.places().take(shown));
        }
        let sessions = sessions(&places);
        let rows = places.iter().enumerate().map(|(position, place)| {
            let sessions = sessions.as_ref().and_then(|counts| counts.get(position).copied());
            self.row(place, sessions, now)
        });
        EndpointReport { rows: rows.chain(empty).collect(), left_out, unanswered }
    }

    fn row(&self, place: &EndpointPlace, sessions: Option<u64>, now: Instant) -> EndpointRow {
        let EndpointPlace { backend, address, .. } = place;
        let passed_over = self.store.passed_over_until(EndpointOf { backend, address }, now);
        let last_error = match passed_over {
            Some(PassedOver { failure, failed_ago, .. }) => Some((failure, failed_ago)),
            None => self.shared().past.last(backend, address, now),
        };
        EndpointRow {
            endpoint: Some(address.to_string()),
            passed_over: passed_over.is_some(),
            tried_again_in_seconds: passed_over.map(|passed| seconds(passed.tried_again_in)),
            sessions,
            last_error: last_error.map(|(failure, ago)| LastError {
                reason: failure.as_str().to_owned(),
                seconds_ago: seconds(ago),
            }),
            ..empty_row(backend)
        }
    }

    /// The backends of which endpoints are passed over, as far as there is room for them.
    pub(crate) fn summary(&self) -> EndpointSummary {
        if !self.store.knows_any() {
            return EndpointSummary::default();
        }
        let table = self.shared().table.clone();
        let (view, now) = (self.store.view(), Instant::now());
        let summary = |Standing { backend, endpoints, passed_over }: Standing<'_>| {
            let address = &endpoints[*passed_over.first()?].address;
            let why = self.store.passed_over_until(EndpointOf { backend, address }, now)?;
            Some(BackendSummary {
                backend: backend.clone(),
                endpoints: endpoints.len(),
                passed_over: passed_over.len(),
                reason: why.failure.as_str().to_owned(),
            })
        };
        EndpointSummary::new(standings(&table, &view, now).filter_map(summary))
    }
}

/// The routes with a backend of which no endpoint is taken.
fn unanswered(
    routes: &Routes,
    standings: &[Standing<'_>],
    names: &BTreeMap<BackendId, Vec<Arc<str>>>,
) -> Vec<UnansweredRow> {
    let none_taken = standings.iter().filter(|standing| standing.taken() == 0);
    let none_taken: BTreeMap<_, _> =
        none_taken.map(|standing| (standing.backend, standing.endpoints.len())).collect();
    let row = |(route, backend): &(RouteId, BackendId)| {
        let endpoints = *none_taken.get(backend)?;
        let names = names.get(backend).filter(|_| endpoints == 0).into_iter().flatten();
        Some(UnansweredRow {
            route: route.to_string(),
            backend: backend.to_string(),
            endpoints,
            unresolved: names.map(ToString::to_string).collect(),
        })
    };
    routes.iter().filter_map(row).collect()
}

/// Of a backend without endpoints.
fn empty_row(backend: &BackendId) -> EndpointRow {
    EndpointRow {
        backend: backend.to_string(),
        protocol: backend.transport.to_string(),
        endpoint: None,
        passed_over: false,
        tried_again_in_seconds: None,
        sessions: Some(0),
        last_error: None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use l4way_model::{
        Config, EndpointAddress, GatewayId, Listener, ListenerId, Route, Target, Transport,
        WeightedTarget,
    };
    use l4way_proxy_core::{EndpointFailure, EndpointStore};

    use super::*;

    fn backend(name: &str) -> BackendId {
        BackendId {
            kind: "Service".into(),
            namespace: "default".into(),
            name: name.into(),
            port: Some(80),
            transport: Transport::Tcp,
        }
    }

    fn address(backend: u8, endpoint: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, backend), endpoint as u16 + 1))
    }

    /// A route to these backends, each with its weight and how many endpoints it has.
    fn health(backends: &[(&str, u32, usize)]) -> EndpointHealth {
        let id = RouteId { kind: "TCPRoute".into(), namespace: "default".into(), name: "r".into() };
        let target = |&(name, weight, _): &(&str, u32, usize)| WeightedTarget {
            weight,
            target: Target::Backend(backend(name)),
        };
        let listener = Listener {
            id: ListenerId {
                gateway: GatewayId::new("default", "gw"),
                listener_set: None,
                name: "tcp".into(),
            },
            transport: Transport::Tcp,
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            port: 1,
            route: Some(Route { id, targets: backends.iter().map(target).collect() }),
        };
        let rows = backends.iter().zip(1..).map(|(&(name, _, count), number)| {
            (backend(name), (0..count).map(|n| address(number, n).into()).collect())
        });
        let health =
            EndpointHealth { store: EndpointStore::new(Instant::now()), shared: Arc::default() };
        let config = Config::new([listener]).unwrap();
        health.set(&config, &EndpointTable(rows.collect()));
        health
    }

    fn fail(health: &EndpointHealth, name: &str, number: u8, endpoint: usize) {
        let (backend, address) = (backend(name), EndpointAddress::Ip(address(number, endpoint)));
        let endpoint = EndpointOf { backend: &backend, address: &address };
        health.store.view().failed(endpoint, EndpointFailure::Timeout, Instant::now());
    }

    fn none(places: &[EndpointPlace]) -> Option<Vec<u64>> {
        Some(vec![0; places.len()])
    }

    #[test]
    fn who_is_passed_over_is_shown_first_however_many_there_are() {
        let health = health(&[("large", 1, 50_000), ("none", 0, 0), ("small", 1, 2)]);
        fail(&health, "large", 1, 40_000);
        fail(&health, "small", 3, 1);
        let of = |n: u16| SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), n)).to_string();
        let report = health.report(false, |places| Some((0..places.len() as u64).collect()));
        let shown: Vec<_> = report.rows.iter().map(|row| (row.passed_over, row.sessions)).collect();
        assert_eq!(shown.len(), OF_EACH + 2 + 1);
        assert_eq!(shown[0], (true, Some(0)));
        assert_eq!(report.rows[0].endpoint.as_deref(), Some(&*of(40_001)));
        assert_eq!(report.rows[0].last_error.as_ref().unwrap().reason, "timeout");
        assert!(report.rows[0].tried_again_in_seconds.is_some());
        assert_eq!(report.rows[1].endpoint.as_deref(), Some(&*of(1)));
        assert_eq!((shown[OF_EACH], shown[OF_EACH + 1]), ((true, Some(10)), (false, Some(11))));
        assert_eq!(report.rows[OF_EACH + 2].endpoint, None);
        assert_eq!(report.left_out, LeftOut { taken: 50_000 - OF_EACH, passed_over: 0 });
        assert_eq!(report.unanswered, [], "who has no weight gets no sessions");

        let all = health.report(true, none);
        assert_eq!((all.rows.len(), all.left_out), (50_000 + 2 + 1, LeftOut::default()));
    }

    #[test]
    fn there_are_no_more_rows_than_a_person_reads() {
        let names: Vec<_> = (1..=200).map(|n| format!("b{n:03}")).collect();
        let backends: Vec<_> = names.iter().map(|name| (&**name, 1, 1)).collect();
        let health = health(&backends);
        (101..=200).for_each(|n| fail(&health, &names[n - 1], n as u8, 0));
        let report = health.report(false, none);
        assert_eq!(report.rows.len(), IN_ALL);
        assert!(report.rows.iter().all(|row| row.passed_over));
        assert_eq!(report.left_out, LeftOut { taken: 100, passed_over: 0 });
        assert_eq!(report.unanswered.len(), 100);
        let summary = health.summary();
        assert_eq!(summary.backends.len() + summary.more, 100);
    }

    #[test]
    fn a_share_that_nobody_answers_is_told_whoever_answers_the_others() {
        let health = health(&[("alive", 1, 2), ("dead", 1, 2), ("empty", 1, 0), ("off", 0, 0)]);
        (0..2).for_each(|n| fail(&health, "dead", 2, n));
        fail(&health, "alive", 1, 0);
        let report = health.report(false, |_| None);
        let told: Vec<_> =
            report.unanswered.iter().map(|row| (&*row.backend, row.endpoints)).collect();
        assert_eq!(told, [("Service/default/dead:80", 2), ("Service/default/empty:80", 0)]);
        assert!(report.rows[0].sessions.is_none(), "the workers were too busy");
        let said: Vec<_> = health.summary().backends;
        let counts: Vec<_> = said.iter().map(|of| (of.passed_over, of.endpoints)).collect();
        assert_eq!(counts, [(2, 2), (1, 2)]);
    }

    #[test]
    fn names_that_lead_nowhere_are_told() {
        let health = health(&[("none", 1, 0), ("some", 1, 1)]);
        let names = ["none", "some"].map(|name| (backend(name), vec!["db.invalid".into()]));
        health.set_names(names.into());
        fail(&health, "some", 2, 0);
        let report = health.report(false, |_| None);
        let told: Vec<_> =
            report.unanswered.iter().map(|row| (&*row.backend, &*row.unresolved)).collect();
        let unresolved = ["db.invalid".to_owned()];
        assert_eq!(
            told,
            [("Service/default/none:80", &unresolved[..]), ("Service/default/some:80", &[])]
        );
    }

    #[test]
    fn the_last_error_of_an_endpoint_that_is_back_is_told() {
        let health = health(&[("db", 1, 1)]);
        fail(&health, "db", 1, 0);
        health.tell();
        let (backend, address) = (backend("db"), EndpointAddress::Ip(address(1, 0)));
        let endpoint = EndpointOf { backend: &backend, address: &address };
        health.store.view().answered(endpoint);
        health.tell();
        let report = health.report(false, none);
        assert!(!report.rows[0].passed_over);
        assert_eq!(report.rows[0].last_error.as_ref().unwrap().reason, "timeout");
        assert!(health.summary().is_empty());
    }

    #[test]
    fn what_is_known_of_backends_that_are_gone_is_bounded() {
        let health = health(&[("stays", 1, 1)]);
        for n in 0..1_000 {
            let gone = backend(&format!("gone{n}"));
            let row = |endpoints| EndpointTable([(gone.clone(), endpoints)].into());
            health.update(&row([address(9, n).into()].into()));
            fail(&health, &gone.name, 9, n);
            health.update(&row(Arc::default()));
            health.forget_unused();
            health.tell();
        }
        fail(&health, "stays", 1, 0);
        health.forget_unused();
        assert_eq!(health.failures(), [(backend("stays"), EndpointFailure::Timeout, 1)]);
        let backends: Vec<_> = health.backends().into_iter().map(|of| of.backend).collect();
        assert_eq!(backends, [backend("stays")]);
        assert_eq!(health.store.passed_over().len(), 1);
    }
}
