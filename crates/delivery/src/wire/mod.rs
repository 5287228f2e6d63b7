//! The form in which a configuration and its key pairs are written down: JSON, with types of its own, so
//! that the model may change while the form stays.
//!
//! Proxies and controllers of different releases read each other's documents:
//! - A field at its default isn't written, and a missing one is its default.
//! - A field that is unknown is passed over. So what changes who is let in or where sessions go, and isn't
//!   in every release that reads this [`VERSION`], is a *feature*: where it isn't at its default, the
//!   [`Writer`] lists it as required, and a proxy without it refuses the whole document.
//! - [`VERSION`] changes only if no list of features can tell what is different.
//!
//! `golden` has what each release writes.

mod backend;
mod http;
mod listener;
mod pair;
mod route;
mod terms;
mod tls;

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Deserialize;

pub(super) use self::{
    backend::BackendSource,
    http::HttpPort,
    listener::Listener,
    pair::KeyPair,
    terms::{HttpTerms, Terms},
    tls::TlsPort,
};
use super::KeyPairs;

/// The version of the form of configurations.
pub(super) const VERSION: u32 = 1;

/// The features that this release has beyond those of version 1. Each is listed here by its name, which no
/// later release gives to anything else.
pub(crate) const FEATURES: [&str; 1] = [TRUSTED_PROXIES];

/// There are proxies in front that are believed for whom they forward: what others say is taken away before
/// rules match headers. Who lacks it matches, and passes on, what anybody says.
const TRUSTED_PROXIES: &str = "http-trusted-proxies";

/// What a document says of itself, in every version.
#[derive(Deserialize)]
pub(super) struct Head {
    /// Missing in what was written before there were versions.
    pub(super) version: Option<u32>,
    /// The features that whoever runs it has to have.
    #[serde(default)]
    pub(super) requires: BTreeSet<String>,
}

/// Writes a configuration down, and gathers what goes beside it.
#[derive(Default)]
pub(super) struct Writer {
    /// The features that what was written needs.
    pub(super) requires: BTreeSet<String>,
    /// The key pairs that it names.
    pub(super) pairs: KeyPairs,
}

/// A configuration names a key pair that isn't there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKeyPair(pub(super) Arc<str>);

impl fmt::Display for MissingKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key pair of Secret {} has not arrived", self.0)
    }
}

/// Whether a field needn't be written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
