//! TLS without sockets: certificates, and what ends and begins TLS sessions as a
//! [`model::Config`](l4way_model::Config) says. rustls does the work; what carries its bytes is the
//! caller's.
//!
//! [`Terminators`] has what ends the sessions of clients, by listener; [`Originators`] what begins
//! those with endpoints. Both make anew only what has changed, on the control side: to a new session
//! a configuration is a reference count.
#![forbid(unsafe_code)]

mod certificate;
mod client;
#[cfg(test)]
mod fuzz;
mod identity;
mod originator;
mod provider;
mod terminator;
mod told;

pub use certificate::{Certificate, ENDS_SOON, inspect_authorities, inspect_key_pair, not_after};
pub use originator::{Originator, Originators};
pub use provider::{check_options, has_for};
pub use terminator::{Terminator, Terminators};
pub use told::{describe_session, handshake_failure, handshake_kind};

/// PostgreSQL's application protocol (RFC 7301), which its clients insist on where they begin with
/// TLS at once (`sslnegotiation=direct`).
pub const POSTGRESQL: &[u8] = b"postgresql";
