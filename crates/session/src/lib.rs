//! Telling of sessions, whoever carries them: counters and their rows, the records of the
//! access log, why a session ended, who its client is. No I/O, and nothing of TLS or sockets.
//!
//! Whoever carries sessions takes a [`Row`] for each listener, route and backend, and writes it
//! without locked instructions; [`SessionCounters::snapshot`] adds the rows up. Through a [`Tap`]
//! he tells of beginnings, verdicts and ends: of the latter with a [`SessionRecord`], which the
//! access log writes.
#![forbid(unsafe_code)]

mod counters;
mod identity;
mod keepalive;
mod reason;
mod record;
mod snapshot;
mod tap;
mod writer;

pub use counters::{
    HandshakeKind, HandshakeRow, Labels, Row, SessionCounters, Toward, WorkerCounters,
};
pub use identity::ClientIdentity;
pub use keepalive::Keepalive;
pub use reason::{CloseClass, CloseReason};
pub use record::{SessionRecord, TlsRecord};
pub use snapshot::{
    HandshakeSnapshot, HistogramSnapshot, RowSnapshot, SessionSnapshot, WorkerSnapshot,
};
pub use tap::{SessionObserver, SessionStart, Tap, Verdict};
pub use writer::Writer;
