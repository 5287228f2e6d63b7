use std::net::{Ipv4Addr, SocketAddr};

use proptest::{collection::vec, prop_assert, prop_assert_eq, proptest};

use super::*;

fn backend(name: &str, transport: Transport) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: "default".into(),
        name: name.into(),
        port: Some(1),
        transport,
    }
}

fn address(port: u16) -> EndpointAddress {
    EndpointAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

const fn client(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

/// A store, with one endpoint of a backend and a time that the test moves.
pub(super) struct Scene {
    pub(super) store: Arc<EndpointStore>,
    began: Instant,
    pub(super) backend: BackendId,
    address: EndpointAddress,
}

impl Scene {
    pub(super) fn new(transport: Transport) -> Self {
        let began = Instant::now();
        let backend = backend("db", transport);
        Self { store: EndpointStore::new(began), began, backend, address: address(1) }
    }

    pub(super) fn at(&self, millis: u64) -> Instant {
        self.began + Duration::from_millis(millis)
    }

    pub(super) fn endpoint(&self) -> EndpointOf<'_> {
        EndpointOf { backend: &self.backend, address: &self.address }
    }

    fn standing(&self, millis: u64) -> EndpointState {
        self.store.view().state(self.endpoint(), self.at(millis))
    }

    pub(super) fn fail(&self, failure: EndpointFailure, millis: u64) {
        self.store.view().failed(self.endpoint(), failure, self.at(millis));
    }

    fn suspect(&self, who: u8, millis: u64) {
        self.store.view().suspected(self.endpoint(), client(who), self.at(millis));
    }
}

#[test]
fn an_endpoint_is_passed_over_for_longer_after_each_trial_that_fails() {
    let scene = Scene::new(Transport::Tcp);
    assert_eq!(scene.standing(0), EndpointState::Taken);
    let mut now = 0;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        scene.fail(EndpointFailure::Refused, now);
        // Who meets it meanwhile changes nothing.
        scene.fail(EndpointFailure::Refused, now + 1);
        let wait = seconds * 1_000;
        assert_eq!(scene.standing(now + wait - 1), EndpointState::PassedOver, "{seconds} s");
        now += wait + wait / 4;
        assert_eq!(scene.standing(now), EndpointState::Due, "{seconds} s");
        assert_eq!(scene.store.take_trials(scene.at(now)).len(), 1);
        assert!(scene.store.take_trials(scene.at(now)).is_empty(), "somebody tries it");
    }
    scene.store.view().connected(scene.endpoint());
    assert_eq!(scene.standing(now), EndpointState::Taken);
    let news = scene.store.take_news();
    let failures: Vec<_> = news.iter().map(|change| change.failure).collect();
    assert_eq!(failures, [Some(EndpointFailure::Refused), None], "told once each");
    scene.fail(EndpointFailure::Refused, now);
    assert_eq!(scene.standing(now + 1_250), EndpointState::Due, "it begins anew");
}

#[test]
fn one_client_takes_no_endpoint_away() {
    let scene = Scene::new(Transport::Tcp);
    for millis in 0..100 {
        // Each begins with a connection that it accepts, which says nothing of how it ends.
        scene.store.view().connected(scene.endpoint());
        scene.suspect(1, millis);
    }
    assert_eq!(scene.standing(100), EndpointState::Taken);
    scene.suspect(2, 100);
    assert_eq!(scene.standing(100), EndpointState::PassedOver);
}

#[test]
fn a_success_between_speaks_for_it() {
    let scene = Scene::new(Transport::Tcp);
    scene.suspect(1, 0);
    scene.suspect(2, 1);
    // That it accepts says nothing of what it does then.
    scene.store.view().answered(scene.endpoint());
    scene.suspect(3, 2);
    assert_eq!(scene.standing(3), EndpointState::Taken);
    scene.suspect(4, 3);
    scene.suspect(4, 4);
    assert_eq!(scene.standing(4), EndpointState::PassedOver);
}

#[test]
fn one_that_accepts_and_closes_is_tried_less_and_less() {
    let scene = Scene::new(Transport::Tcp);
    let mut now = 0;
    for seconds in [1, 2, 4] {
        for who in [1, 2, 3] {
            scene.suspect(who, now);
        }
        let wait = seconds * 1_000;
        assert_eq!(scene.standing(now + wait - 1), EndpointState::PassedOver, "{seconds} s");
        now += wait + wait / 4;
        let trials = scene.store.take_trials(scene.at(now));
        scene.store.connected(&trials[0]);
        assert_eq!(scene.standing(now), EndpointState::Taken);
    }
}

#[test]
fn what_is_known_of_an_address_holds_for_every_backend_and_of_terms_for_one() {
    let scene = Scene::new(Transport::Tcp);
    let other = backend("other", Transport::Tcp);
    let of_other = || {
        let endpoint = EndpointOf { backend: &other, address: &scene.address };
        scene.store.view().state(endpoint, scene.at(0))
    };
    scene.fail(EndpointFailure::Tls, 0);
    assert_eq!((scene.standing(0), of_other()), (EndpointState::PassedOver, EndpointState::Taken));
    scene.fail(EndpointFailure::Timeout, 0);
    assert_eq!(of_other(), EndpointState::PassedOver);
    let udp = backend("db", Transport::Udp);
    let endpoint = EndpointOf { backend: &udp, address: &scene.address };
    assert_eq!(scene.store.view().state(endpoint, scene.at(0)), EndpointState::Taken);
}

#[test]
fn terms_are_tried_by_a_session_and_an_address_is_not() {
    let scene = Scene::new(Transport::Tcp);
    scene.fail(EndpointFailure::Tls, 0);
    let now = scene.at(1_250);
    assert!(scene.store.take_trials(now).is_empty());
    let view = scene.store.view();
    assert!(view.begin_trial(scene.endpoint(), now) && !view.begin_trial(scene.endpoint(), now));
    view.agreed(scene.endpoint());
    assert_eq!(scene.standing(1_250), EndpointState::Taken);
    scene.fail(EndpointFailure::Refused, 2_000);
    assert!(!scene.store.view().begin_trial(scene.endpoint(), scene.at(9_000)));
}

#[test]
fn a_udp_endpoint_is_tried_by_one_flow_and_taken_again_if_that_meets_no_error() {
    let scene = Scene::new(Transport::Udp);
    scene.fail(EndpointFailure::Refused, 0);
    let begin = |millis| scene.store.view().begin_trial(scene.endpoint(), scene.at(millis));
    assert!(!begin(999) && begin(1_250) && !begin(1_250));
    scene.fail(EndpointFailure::Refused, 1_260);
    assert!(!begin(3_259), "twice as long");
    assert!(begin(3_760));
    assert_eq!(scene.standing(3_760), EndpointState::PassedOver);
    assert!(!begin(6_260), "nobody has to answer");
    assert_eq!(scene.standing(6_260), EndpointState::Taken);
}

#[test]
fn what_no_backend_has_is_forgotten() {
    let scene = Scene::new(Transport::Tcp);
    scene.fail(EndpointFailure::Refused, 0);
    scene.store.retain(|key| key.address == scene.address);
    assert_eq!(scene.store.passed_over().len(), 1);
    scene.store.retain(|_| false);
    assert_eq!(scene.standing(0), EndpointState::Taken);
    assert!(scene.store.take_trials(scene.at(9_000)).is_empty());
}

#[test]
fn a_view_has_what_was_when_it_was_refreshed() {
    let scene = Scene::new(Transport::Tcp);
    let mut view = scene.store.view();
    scene.fail(EndpointFailure::Refused, 0);
    assert_eq!(view.state(scene.endpoint(), scene.at(0)), EndpointState::Taken);
    view.refresh();
    assert_eq!(view.state(scene.endpoint(), scene.at(0)), EndpointState::PassedOver);
}

proptest! {
    /// Whatever happens, an endpoint that failed last is passed over, and one that answered last is taken.
    #[test]
    fn the_last_word_counts(events in vec((0..5_u8, 1..4_u8, 0..5_000_u64), 1..60)) {
        let scene = Scene::new(Transport::Tcp);
        let mut now = 0;
        for (what, who, later) in events {
            now += later;
            match what {
                0 => {
                    scene.fail(EndpointFailure::Refused, now);
                    prop_assert!(scene.standing(now) != EndpointState::Taken);
                }
                1 => {
                    scene.store.view().answered(scene.endpoint());
                    prop_assert_eq!(scene.standing(now), EndpointState::Taken);
                }
                2 => scene.store.view().connected(scene.endpoint()),
                3 => scene.suspect(who, now),
                _ => drop(scene.store.take_trials(scene.at(now))),
            }
        }
    }
}
