//! All that wears a gateway down, at once: `make soak`, and for a minute among the other tests.
//!
//! Clients of every kind come and go, endpoints die and come back, or stay dead or silent, crowds are
//! idle, readers stall, and meanwhile configuration and certificates change. What was established has
//! to live, nobody may have to wait for a dead endpoint, and when all are gone, the process has to be
//! as it was.

mod backends;
mod clients;
mod files;
mod gauge;

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use self::{backends::Backends, clients::Tally, files::Files, gauge::Gauge};
use super::{
    client::echo_server,
    l4way::{L4way, own_address, wait_for},
};

/// How long it takes unless SOAK_SECONDS says otherwise.
const SECONDS: u64 = 60;

/// Ports of listeners, by what is behind them.
mod port {
    /// One endpoint, which lives.
    pub(super) const STEADY: u16 = 9000;
    /// The same by UDP.
    pub(super) const STEADY_UDP: u16 = 9001;
    /// An endpoint that lives, one that refuses, and one that is silent.
    pub(super) const MIXED: u16 = 9002;
    /// An endpoint that lives, and one where nobody is.
    pub(super) const MIXED_UDP: u16 = 9003;
    /// An endpoint that lives, and one that dies and comes back.
    pub(super) const FLAPPING: u16 = 9004;
    /// Its listener goes, and comes back in time.
    pub(super) const AWAY: u16 = 9005;
    /// It ends TLS, with a certificate that changes.
    pub(super) const TLS: u16 = 9006;
    /// HTTP.
    pub(super) const HTTP: u16 = 9007;
    /// One endpoint, which sends as much as it can.
    pub(super) const BULK: u16 = 9008;
    /// Its listener and all that belongs to it come and go.
    pub(super) const PASSING: u16 = 9009;
}

/// Where all of it happens.
struct Stage<'a> {
    address: Ipv4Addr,
    l4way: &'a L4way,
    files: &'a Files,
    backends: &'a Backends,
    ends: AtomicBool,
    /// Only those are left whose sessions were established.
    others_gone: AtomicBool,
}

/// The end for everybody, also of a test that has failed.
struct End<'a>(&'a Stage<'a>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::Relaxed);
        self.0.others_gone.store(true, Ordering::Relaxed);
    }
}

impl Stage<'_> {
    fn goes_on(&self) -> bool {
        !self.ends.load(Ordering::Relaxed)
    }

    /// Waits, unless the end comes first.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.goes_on() && Instant::now() < until {
            thread::sleep(time.min(Duration::from_millis(20)));
        }
    }

    fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// How many sessions and HTTP connections there are.
    fn active(&self) -> f64 {
        self.l4way.metric("l4way_sessions_active", &[])
            + self.l4way.metric("l4way_http_connections_active", &[])
    }
}

#[test]
fn nothing_wears_out() {
    let seconds = env::var("SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number"));
    let address = own_address();
    let backends = Backends::start(address, echo_server(address));
    let files = Files::new(&backends);
    let log = tempfile::NamedTempFile::new().expect("a file for the access log");
    let log = log.path().to_str().expect("UTF-8");
    let args = [
        ["--workers", "2"],
        ["--access-log", log],
        ["--drain-timeout", "5"],
        ["--connect-timeout", "2"],
        ["--udp-session-timeout", "5"],
    ];
    let l4way = L4way::run(&files.manifests, address, args.as_flattened());
    l4way.wait("all listeners", |report| report["phase"] == "serving");

    let crew = clients::crew();
    let stage = Stage {
        address,
        l4way: &l4way,
        files: &files,
        backends: &backends,
        ends: AtomicBool::new(false),
        others_gone: AtomicBool::new(false),
    };
    let stage = &stage;
    let mut gauge = Gauge::new(&l4way);
    let established = clients::Established::open(stage);
    let open = stage.active();
    let tallies: Vec<(&str, Tally)> = thread::scope(|scope| {
        let end = End(stage);
        let established = scope.spawn(move || established.live(stage));
        let crew: Vec<_> = crew
            .into_iter()
            .map(|(name, member)| {
                (name, scope.spawn(move || clients::until_the_end(stage, member)))
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until && crew.iter().all(|(_, member)| !member.is_finished()) {
            thread::sleep(Duration::from_secs(1));
            gauge.read(&l4way);
        }
        stage.ends.store(true, Ordering::Relaxed);
        let join = |member: thread::ScopedJoinHandle<'_, Tally>| {
            member.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let mut tallies: Vec<_> =
            crew.into_iter().map(|(name, member)| (name, join(member))).collect();
        wait_for("the others' sessions to end", || (stage.active() <= open).then_some(()));
        drop(end);
        tallies.push(("established", join(established)));
        tallies
    });

    let (report, faults) = clients::sum(&tallies);
    eprintln!("{report}{}", gauge.report());
    assert!(faults.is_empty(), "{faults:#?}");
    wait_for("no session any more", || (stage.active() == 0.0).then_some(()));
    gauge.settle(&l4way);
    gauge.assert_flat();
    let log = l4way.log();
    assert!(!log.contains("panicked"), "{log}");
    // Only those who came before anybody knew of it have waited for the silent endpoint.
    let waited = l4way.metric("l4way_backend_failed_attempts_total", &["reason=\"timeout\""]);
    assert!(waited <= 10.0, "{waited} sessions waited for the silent endpoint in {seconds} s");
}
