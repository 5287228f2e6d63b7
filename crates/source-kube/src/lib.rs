#![forbid(unsafe_code)]
//! Objects from a Kubernetes API server, and their status written back.
//!
//! [`Source`] follows every kind that l4way reads and keeps a
//! [`Snapshot`](l4way_resources::Snapshot) of them; [`StatusWriter`] writes what is said about them
//! into their status, [`EventRecorder`] what a person should know into Events, and [`Leader`] tells
//! whether this process is the one to write.

mod backoff;
mod budget;
mod connect;
mod connection;
mod contents;
mod crds;
mod events;
mod fence;
mod fetch;
mod follow;
mod following;
mod gatekeeper;
mod kinds;
mod leader;
mod merge;
mod object;
mod place;
mod progress;
mod source;
mod state;
mod writer;

pub use backoff::Backoff;
pub use connect::{Clients, ConnectError, connect, server_version};
pub use connection::Connection;
pub use events::{EventRecorder, EventType, is_namespace_ending};
pub use following::Following;
pub use gatekeeper::is_fenced;
pub use leader::Leader;
pub use progress::Seen;
pub use source::{RawKind, Source, Wants};
pub use writer::StatusWriter;
