//! SIGTERM, SIGHUP, and what is left behind.

use std::{fs, io::Read, net::Ipv4Addr, os::unix::process::ExitStatusExt};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    client::{ask, connect},
    l4way::{L4way, own_address, wait_for},
    manifests::Manifests,
};

fn running(args: &[&str]) -> (Manifests, L4way, Ipv4Addr) {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address = own_address();
    let args: Vec<_> = [&["--demo-backends"], args].concat();
    let l4way = L4way::run(&manifests, address, &args);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    (manifests, l4way, address)
}

#[test]
fn sigterm_waits_for_sessions_and_takes_no_new_ones() {
    let (_manifests, mut l4way, address) = running(&[]);
    let open = connect((address, 9000).into()).expect("a connection");
    wait_for("the session", || {
        (l4way.metric("l4way_sessions_active", &["protocol=\"TCP\""]) >= 1.0).then_some(())
    });
    l4way.signal(Signal::TERM);
    wait_for("readiness to go", || (l4way.get("/readyz").0 == 503).then_some(()));
    wait_for("new sessions to be refused", || ask((address, 9000).into()).err());
    drop(open);
    assert!(l4way.ended().success());
}

#[test]
fn the_drain_has_a_deadline() {
    let (_manifests, mut l4way, address) = running(&["--drain-timeout", "0.3"]);
    let mut open = connect((address, 9000).into()).expect("a connection");
    wait_for("the session", || {
        (l4way.metric("l4way_sessions_active", &["protocol=\"TCP\""]) >= 1.0).then_some(())
    });
    l4way.signal(Signal::TERM);
    assert!(l4way.ended().success());
    let error = open.read(&mut [0]).expect_err("cut at the deadline");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let (_manifests, mut l4way, address) = running(&["--drain-timeout", "3600"]);
    let _open = connect((address, 9000).into()).expect("a connection");
    wait_for("the session", || {
        (l4way.metric("l4way_sessions_active", &["protocol=\"TCP\""]) >= 1.0).then_some(())
    });
    l4way.signal(Signal::TERM);
    wait_for("the drain to begin", || (l4way.get("/readyz").0 == 503).then_some(()));
    l4way.signal(Signal::TERM);
    let status = l4way.ended();
    assert_eq!(status.signal(), None, "it ends by itself: {status}");
}

#[test]
fn the_access_log_has_a_record_a_session_and_is_reopened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let (_manifests, l4way, address) = running(&["--access-log", path.to_str().expect("UTF-8")]);
    ask((address, 9000).into()).expect("an answer");
    let record = wait_for("the record", || {
        let log = fs::read_to_string(&path).ok()?;
        serde_json::from_str::<Value>(log.lines().next()?).ok()
    });
    assert_eq!(record["gateway"], "default/tcp-udp-gateway", "{record:#}");
    assert_eq!(record["listener"], "tcp-listener", "{record:#}");
    assert_eq!(record["reason"], "closed", "{record:#}");

    let rotated = folder.path().join("access.log.1");
    fs::rename(&path, &rotated).expect("a rename");
    l4way.signal(Signal::HUP);
    wait_for("the new file", || path.exists().then_some(()));
    ask((address, 9000).into()).expect("an answer");
    wait_for("a record in the new file", || {
        let log = fs::read_to_string(&path).ok()?;
        (log.lines().count() == 1).then_some(())
    });
    assert_eq!(fs::read_to_string(&rotated).expect("the old file").lines().count(), 1);
}
