//! Sessions choose endpoints of which some are dead, in any way.

use std::time::{Duration, Instant};

use l4way_model::{BackendId, EndpointAddress, Transport};
use l4way_proxy_core::{EndpointFailure, EndpointOf, EndpointStore, HealthView, Rng};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// How many endpoints a session tries.
const ATTEMPTS: usize = 3;
const SESSIONS: usize = 4_000;
/// From one session to the next: all of them take 20 seconds.
const PAUSE: Duration = Duration::from_millis(5);
/// An endpoint is passed over for 1, 2, 4, 8 and 16 seconds, and so is tried no more than this often.
const TRIALS: usize = 4;

const WAYS: [EndpointFailure; 5] = [
    EndpointFailure::Refused,
    EndpointFailure::Timeout,
    EndpointFailure::Unreachable,
    EndpointFailure::Tls,
    EndpointFailure::Closed,
];

/// Endpoints of a backend, each alive or dead in some way.
struct Scene {
    backend: BackendId,
    addresses: Vec<EndpointAddress>,
    dead: Vec<Option<EndpointFailure>>,
    /// How often a session has met each dead one.
    met: Vec<usize>,
    view: HealthView,
}

impl Scene {
    fn endpoint(&self, index: usize) -> EndpointOf<'_> {
        EndpointOf { backend: &self.backend, address: &self.addresses[index] }
    }

    /// Whether a session of this client is served.
    fn session(&mut self, rng: &mut Rng, client: usize, now: Instant) -> bool {
        let mut tried = Vec::new();
        for _ in 0..ATTEMPTS {
            self.view.refresh();
            let endpoint = |index| self.endpoint(index);
            // What is dead has the fewest sessions.
            let sessions = |index: usize| u32::from(self.dead[index].is_none());
            let chosen = self.view.choose(rng, self.dead.len(), &tried, now, endpoint, sessions);
            let Some(index) = chosen else { return false };
            let endpoint = self.endpoint(index);
            match self.dead[index] {
                None => {
                    self.view.connected(endpoint);
                    self.view.agreed(endpoint);
                    self.view.answered(endpoint);
                    return true;
                }
                Some(EndpointFailure::Closed) => {
                    self.view.connected(endpoint);
                    let [high, low] = (client as u16).to_be_bytes();
                    let client = [198, 18, high, low].into();
                    self.view.suspected(endpoint, client, now);
                    self.met[index] += 1;
                    // What was passed on can't be taken back.
                    return false;
                }
                Some(failure) => self.view.failed(endpoint, failure, now),
            }
            self.met[index] += 1;
            tried.push(index);
            tried.sort_unstable();
        }
        false
    }

    /// Tries what a bare connection can try.
    fn try_addresses(&self, store: &EndpointStore, now: Instant) {
        for key in store.take_trials(now) {
            let index = self.addresses.iter().position(|address| *address == key.address);
            match index.and_then(|index| self.dead[index]) {
                None | Some(EndpointFailure::Tls | EndpointFailure::Closed) => {
                    store.connected(&key)
                }
                Some(failure) => store.failed(&key, failure, now),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// As long as one of them lives, the dead cost a few sessions at first, and one now and then where
    /// only a session can find out.
    #[test]
    fn the_dead_cost_a_few_sessions(
        seed: u64,
        mut dead in vec(option::of(select(&WAYS)), 1..12),
        lives in 0..12_usize,
    ) {
        let lives = lives % dead.len();
        dead[lives] = None;
        let began = Instant::now();
        let store = EndpointStore::new(began);
        let address = |port| EndpointAddress::Ip(([192, 0, 2, 1], port).into());
        let mut scene = Scene {
            backend: BackendId {
                kind: "Service".into(),
                namespace: "default".into(),
                name: "db".into(),
                port: Some(1),
                transport: Transport::Tcp,
            },
            addresses: (1..=dead.len() as u16).map(address).collect(),
            met: vec![0; dead.len()],
            dead,
            view: store.view(),
        };
        let mut rng = Rng::new(seed);
        let mut unserved = 0;
        for client in 0..SESSIONS {
            let now = began + PAUSE * client as u32;
            scene.try_addresses(&store, now);
            unserved += usize::from(!scene.session(&mut rng, client, now));
        }
        for (way, &met) in scene.dead.iter().zip(&scene.met) {
            let most = match way {
                None => 0,
                Some(EndpointFailure::Tls) => 1 + TRIALS,
                // Only the third in a row counts.
                Some(EndpointFailure::Closed) => 3 + TRIALS,
                Some(_) => 1,
            };
            prop_assert!(met <= most, "{:?} was met {} times", way, met);
        }
        let closing = scene.dead.iter().filter(|way| **way == Some(EndpointFailure::Closed)).count();
        let failing = scene.dead.iter().flatten().count() - closing;
        // Those that only fail at the beginning cost a session where they are as many as its attempts.
        let most = closing * (3 + TRIALS) + failing * (1 + TRIALS) / ATTEMPTS;
        prop_assert!(unserved <= most, "{} sessions weren't served", unserved);
    }
}
