//! The kinds of work.

use std::{fmt, time::Duration};

use clap::ValueEnum;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Requests and their answers over TCP connections that stay
    TcpRr,
    /// TCP connections with one request and its answer each
    TcpCrr,
    /// TCP connections where the backend speaks first, as with MySQL, SMTP and SSH
    TcpFirstByte,
    /// Bytes from the backend to clients
    TcpBulk,
    /// Bytes both ways at once
    TcpBulkBoth,
    /// TCP connections that say nothing
    TcpIdle,
    /// Datagrams and their answers, one at a time in each flow
    UdpRr,
    /// The same, many at a time
    #[value(name = "udp-window-64")]
    UdpWindow64,
    /// The same with 512 bytes
    #[value(name = "udp-window-512")]
    UdpWindow512,
    /// The same with 1,400 bytes
    #[value(name = "udp-window-1400")]
    UdpWindow1400,
    /// A new flow for each datagram
    UdpFlows,
    /// UDP flows that say nothing
    UdpIdle,
    /// Sessions that begin with a full handshake
    TlsHandshakeFull,
    /// The same with an RSA certificate
    TlsHandshakeFullRsa,
    /// Sessions that resume earlier ones
    TlsHandshakeResumed,
    /// Bytes from the backend to clients
    TlsBulk,
    /// Bytes from clients to the backend
    TlsBulkUp,
    /// Sessions that say nothing
    TlsIdle,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Tls,
}

/// What work is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Operations,
    Bytes,
}

/// Something that is measured.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What, and in which unit.
    pub(crate) name: &'static str,
    pub(crate) better: Better,
}

/// Which value of a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
    /// It only tells how the others came about.
    Neither,
}

const OPERATIONS: &[Figure] = &[
    Figure { name: "ops/s", better: Better::More },
    Figure { name: "gateway CPU µs/op", better: Better::Less },
    Figure { name: "machine CPU µs/op", better: Better::Less },
    Figure { name: "client CPU %", better: Better::Neither },
    Figure { name: "others CPU %", better: Better::Neither },
    Figure { name: "idle CPU %", better: Better::Neither },
    Figure { name: "p50 ms", better: Better::Less },
    Figure { name: "p99 ms", better: Better::Less },
    Figure { name: "p999 ms", better: Better::Less },
];

const BULK: &[Figure] = &[
    Figure { name: "MB/s", better: Better::More },
    Figure { name: "gateway CPU ms/GB", better: Better::Less },
    Figure { name: "machine CPU ms/GB", better: Better::Less },
    Figure { name: "client CPU %", better: Better::Neither },
    Figure { name: "others CPU %", better: Better::Neither },
    Figure { name: "idle CPU %", better: Better::Neither },
];

const MEMORY: &[Figure] = &[Figure { name: "KiB/session", better: Better::Less }];

impl Mode {
    /// What is done, for a person.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::TcpRr => "64 bytes there and back, one at a time over each of 64 connections",
            Self::TcpCrr => "connect, 64 bytes there and back, close; 32 at a time",
            Self::TcpFirstByte => "connect, 64 bytes from the backend, close; 32 at a time",
            Self::TcpBulk => "4 connections receive",
            Self::TcpBulkBoth => "4 connections receive and send, both counted",
            Self::TcpIdle => {
                "memory of the gateway's processes (PSS) for TCP connections that are idle"
            }
            Self::UdpRr => "64 bytes there and back, one at a time in each of 64 flows",
            Self::UdpWindow64 => "64 bytes there and back, 64 at a time in each of 8 flows",
            Self::UdpWindow512 => "512 bytes there and back, 64 at a time in each of 8 flows",
            Self::UdpWindow1400 => "1,400 bytes there and back, 64 at a time in each of 8 flows",
            Self::UdpFlows => {
                "64 bytes there and back from a new port each time, 32 at a time; flows end after \
                 0.2 s (of conntrack 1 s, of nginx with the answer)"
            }
            Self::UdpIdle => "memory of the gateway's processes (PSS) for UDP flows that are idle",
            Self::TlsHandshakeFull => {
                "connect, full handshake (ECDSA P-256), 64 bytes there and back, close; 16 at a time"
            }
            Self::TlsHandshakeFullRsa => {
                "connect, full handshake (RSA-2048), 64 bytes there and back, close; 16 at a time"
            }
            Self::TlsHandshakeResumed => {
                "connect, resume by a ticket, 64 bytes there and back, close; 16 at a time"
            }
            Self::TlsBulk => "4 sessions receive",
            Self::TlsBulkUp => "4 sessions send",
            Self::TlsIdle => "memory of the gateway's processes (PSS) for sessions that are idle",
        }
    }

    /// What a sample of it has a value for, in that order.
    pub(crate) fn figures(self) -> &'static [Figure] {
        match self.unit() {
            Some(Unit::Operations) => OPERATIONS,
            Some(Unit::Bytes) => BULK,
            None => MEMORY,
        }
    }

    /// What its work is counted in, if there is work.
    pub(crate) fn unit(self) -> Option<Unit> {
        match self {
            Self::TcpIdle | Self::UdpIdle | Self::TlsIdle => None,
            Self::TcpBulk | Self::TcpBulkBoth | Self::TlsBulk | Self::TlsBulkUp => {
                Some(Unit::Bytes)
            }
            _ => Some(Unit::Operations),
        }
    }

    pub(crate) fn is_idle(self) -> bool {
        self.unit().is_none()
    }

    /// How long a gateway takes until it has as many sessions as it will, and until they are gone
    /// afterwards: what they cost at their end is measured, and isn't in the way of others.
    pub(crate) fn afterlife(self) -> Duration {
        Duration::from_millis(if self == Self::UdpFlows { 300 } else { 0 })
    }

    /// What clients speak.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::TcpRr | Self::TcpCrr | Self::TcpFirstByte => Protocol::Tcp,
            Self::TcpBulk | Self::TcpBulkBoth | Self::TcpIdle => Protocol::Tcp,
            Self::UdpRr | Self::UdpWindow64 | Self::UdpWindow512 => Protocol::Udp,
            Self::UdpWindow1400 | Self::UdpFlows | Self::UdpIdle => Protocol::Udp,
            Self::TlsHandshakeFull | Self::TlsHandshakeFullRsa => Protocol::Tls,
            Self::TlsHandshakeResumed => Protocol::Tls,
            Self::TlsBulk | Self::TlsBulkUp | Self::TlsIdle => Protocol::Tls,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
