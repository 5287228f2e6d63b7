//! What an observer is told of sessions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use common::*;
use l4way_model::EndpointAddress;
use l4way_proxy::ProxySettings;
use l4way_session::{CloseReason, SessionObserver, SessionRecord, SessionStart, Tap, Verdict};

/// One thing that was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Began(SocketAddr),
    Decided(SocketAddr, Verdict),
    Ended(SocketAddr, CloseReason),
}

#[derive(Debug)]
struct Listening(Mutex<Sender<Told>>);

impl Listening {
    fn tell(&self, told: Told) {
        self.0.lock().unwrap().send(told).unwrap();
    }
}

impl SessionObserver for Listening {
    fn began(&self, session: &SessionStart) {
        self.tell(Told::Began(session.downstream));
    }

    fn decided(&self, session: &SessionStart, verdict: &Verdict) {
        self.tell(Told::Decided(session.downstream, verdict.clone()));
    }

    fn ended(&self, record: &SessionRecord) {
        self.tell(Told::Ended(record.downstream, record.reason));
    }
}

fn listening() -> (ProxySettings, Receiver<Told>) {
    let (send, told) = channel();
    let tap = Tap::default();
    tap.observe(Arc::new(Listening(Mutex::new(send))));
    (ProxySettings { tap, ..settings() }, told)
}

#[test]
fn an_observer_is_told_of_beginning_verdict_and_end() {
    let (settings, told) = listening();
    let upstream = echo();
    let (mut proxy, address) = proxy_with(settings, vec![upstream]);
    let client = connect(address);
    ping(&client, "hello");
    let downstream = client.local_addr().unwrap();
    drop(client);
    let next = || told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), Told::Began(downstream));
    let forwarded = Verdict::Forwarded(EndpointAddress::Ip(upstream));
    assert_eq!(next(), Told::Decided(downstream, forwarded));
    assert_eq!(next(), Told::Ended(downstream, CloseReason::Closed));

    proxy.update_endpoints(&endpoints::<SocketAddr>([("b", vec![])]));
    let client = connect(address);
    let downstream = client.local_addr().unwrap();
    assert_reset(&client);
    let refused = Verdict::Refused(CloseReason::NoEndpoint);
    assert_eq!(next(), Told::Decided(downstream, refused));
    assert_eq!(next(), Told::Ended(downstream, CloseReason::NoEndpoint));
}

#[test]
fn a_session_that_reaches_no_endpoint_has_no_verdict() {
    let (settings, told) = listening();
    let (_proxy, address) = proxy_with(settings, vec![closed_port()]);
    let client = connect(address);
    let downstream = client.local_addr().unwrap();
    assert_reset(&client);
    let next = || told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), Told::Began(downstream));
    assert_eq!(next(), Told::Ended(downstream, CloseReason::ConnectRefused));
}
