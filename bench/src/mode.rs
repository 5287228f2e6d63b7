//! The kinds of work.

use std::fmt;

use clap::ValueEnum;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "they are the names in arguments")]
pub(crate) enum Mode {
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
    Figure { name: "client CPU %", better: Better::Neither },
    Figure { name: "others CPU %", better: Better::Neither },
    Figure { name: "idle CPU %", better: Better::Neither },
    Figure { name: "p50 ms", better: Better::Less },
    Figure { name: "p99 ms", better: Better::Less },
];

const BULK: &[Figure] = &[
    Figure { name: "MB/s", better: Better::More },
    Figure { name: "gateway CPU ms/GB", better: Better::Less },
    Figure { name: "client CPU %", better: Better::Neither },
    Figure { name: "others CPU %", better: Better::Neither },
    Figure { name: "idle CPU %", better: Better::Neither },
];

const MEMORY: &[Figure] = &[Figure { name: "KiB/session", better: Better::Less }];

impl Mode {
    /// What is done, for a person.
    pub(crate) fn description(self) -> &'static str {
        match self {
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
        match self {
            Self::TlsHandshakeFull | Self::TlsHandshakeFullRsa | Self::TlsHandshakeResumed => {
                OPERATIONS
            }
            Self::TlsBulk | Self::TlsBulkUp => BULK,
            Self::TlsIdle => MEMORY,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
