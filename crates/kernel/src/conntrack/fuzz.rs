//! Any bytes at all as what the kernel sends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use l4way_fuzz::Target;

use super::*;
use crate::netlink::split;

/// What is read of a flow is what would be written of it, wherever in the bytes it stands.
#[test]
fn conntrack() {
    Target::new("conntrack").run(|bytes| {
        let mut rest = bytes;
        while let Some((received, after)) = split(rest) {
            assert!(after.len() < rest.len(), "no message is without length");
            rest = after;
            let _ = received.error();
            if let Some((told, flow)) = read(received) {
                assert_eq!(written_and_read(told, &flow), Some((told, flow)));
            }
        }
    });
}

/// A dump of a kernel with three flows that it translates.
#[test]
fn what_a_kernel_sent_is_read() {
    let dump = include_bytes!("../../../../fuzz/corpus/conntrack/dump-0");
    let (mut rest, mut flows) = (&dump[..], Vec::new());
    while let Some((received, after)) = split(rest) {
        rest = after;
        flows.extend(read(received).map(|(_, flow)| flow));
    }
    let mut ways: Vec<_> = flows
        .iter()
        .map(|flow| format!("{} {} {}", flow.key.transport, flow.key.local, flow.endpoint))
        .collect();
    ways.sort();
    assert_eq!(
        ways,
        [
            "TCP 10.9.0.1:80 127.0.0.1:8080",
            "TCP [fd09::1]:80 [::1]:8081",
            "UDP 10.9.0.1:53 127.0.0.1:5353",
        ]
    );
    assert!(flows.iter().all(|flow| flow.carried.is_some() && flow.began.is_some()), "{flows:?}");
}

/// Writes a flow as the kernel would, and reads it.
fn written_and_read(told: Told, flow: &Flow) -> Option<(Told, Flow)> {
    let kind = match told {
        Told::Is => NEW,
        Told::Gone => DELETE,
    };
    let mut messages = Messages::default();
    let header = Header { kind, flags: 0, family: 0, resource: 0 };
    messages.add(header, |a| write_flow(a, flow));
    let bytes = messages.into_bytes();
    let (received, after) = split(&bytes)?;
    assert!(after.is_empty());
    read(received)
}

fn write_flow(a: &mut Attributes<'_>, flow: &Flow) {
    let Flow { key, endpoint, carried, state, began, ended } = flow;
    a.nest(1, |a| write_tuple(a, *key));
    a.nest(2, |a| write_tuple(a, FlowKey { client: *endpoint, local: key.client, ..*key }));
    a.number(3, TRANSLATED);
    if let Some(state) = state {
        let number = match state {
            State::Opening => 1,
            State::Open => 3,
            State::Closed => 7,
            State::Reset => 8,
        };
        a.nest(4, |a| a.nest(1, |a| a.bytes(1, &[number])));
    }
    for (kind, carried) in [9, 10].into_iter().zip(carried.iter().flatten()) {
        a.nest(kind, |a| {
            a.bytes(1, &carried.packets.to_be_bytes());
            a.bytes(2, &carried.bytes.to_be_bytes());
        });
    }
    a.nest(20, |a| {
        for (kind, time) in [(1, began), (2, ended)] {
            if let Some(time) = time {
                a.bytes(kind, &nanoseconds(*time).to_be_bytes());
            }
        }
    });
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since: Duration = time.duration_since(UNIX_EPOCH).expect("no flow is from before 1970");
    u64::try_from(since.as_nanos()).expect("it was one number")
}
