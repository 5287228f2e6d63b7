//! How a Gateway's configuration gets from the controller to its proxies, and their answers back: in
//! Secrets and Leases of the Gateway's namespace, so that a proxy starts and goes on while every
//! controller is down.
//!
//! There are two documents, the configuration and the key pairs that it names ([`Document`]), each in the
//! form of `wire`, compressed. Mostly one fits into one Secret, the index, which proxies watch. A larger
//! one is cut into parts, in Secrets of two fixed sets of names that are written in turn; the index, which
//! names the set in force and the hash of the whole, is written after them, so that half of a document is
//! never taken.
#![forbid(unsafe_code)]

mod acknowledgement;
mod answer;
mod document;
mod endpoints;
mod names;
mod packed;
mod refusal;
mod wiped;
mod wire;

pub use self::{
    acknowledgement::{ACKNOWLEDGEMENT_ANNOTATION, Acknowledgement},
    answer::{Answer, IDENTITY_ANNOTATION, Identity, Refused},
    document::{ConfigError, Contents, Delivery, Document, DocumentKind, KeyPairs, Logs},
    endpoints::{BackendSummary, ENDPOINTS_ANNOTATION, EndpointSummary},
    names::{Names, PARTS, Set, shortened},
    packed::{Packed, TooLarge, UnpackError, hash, pack, unpack},
    refusal::Refusal,
    wiped::Wiped,
    wire::MissingKeyPair,
};

#[cfg(test)]
mod tests;
