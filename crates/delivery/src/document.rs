//! The two documents that a proxy is given, each with a version of its own: its configuration, and the key
//! pairs that the configuration names. So a certificate is renewed also for a proxy that can't read the
//! latest configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, Config, DuplicateBind, KeyPair, Parts, SessionTerms};
use serde::{Deserialize, Serialize};

use super::{
    refusal::Refusal,
    wiped::Wiped,
    wire::{self, FEATURES, Head, MissingKeyPair, Writer, is_default},
};

/// One of the documents that a proxy is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DocumentKind {
    /// A [`Delivery`].
    Config,
    /// [`KeyPairs`].
    Keys,
}

impl DocumentKind {
    /// The document as names of Secrets, and keys of their data, have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Keys => "keys",
        }
    }

    /// The document as a person calls it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::Keys => "set of key pairs",
        }
    }
}

/// What is packed into Secrets.
pub trait Document: Sized + Send + Sync + 'static {
    /// The document that this is.
    const KIND: DocumentKind;

    /// The document as JSON. It may hold keys.
    fn to_json(&self) -> Wiped;

    /// Reads what an l4way of this or another release has written.
    ///
    /// # Errors
    /// If this one can't read it, or lacks a feature that it requires.
    fn from_json(json: &[u8]) -> Result<Self, Refusal>;
}

fn json(written: &impl Serialize) -> Wiped {
    let mut json = Wiped::default();
    serde_json::to_writer(&mut json, written).expect("a document can be written as JSON");
    json
}

/// What a proxy is to run, but for the endpoints that it follows itself, and for key pairs.
#[derive(Debug, Default, PartialEq)]
pub struct Delivery(Written);

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Written {
    version: u32,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    requires: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    terms: wire::Terms,
    #[serde(default, skip_serializing_if = "is_default")]
    http_terms: wire::HttpTerms,
    #[serde(default, skip_serializing_if = "is_default")]
    gateway_uid: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    logs: Logs,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<wire::Listener>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tls: Vec<wire::TlsPort>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    http: Vec<wire::HttpPort>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    backends: Vec<(BackendId, wire::BackendSource)>,
}

/// What a proxy writes of itself and of sessions. A name that a proxy doesn't know changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logs {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(skip_serializing_if = "is_info")]
    pub level: Arc<str>,
    /// `json` or `text`.
    #[serde(skip_serializing_if = "is_json")]
    pub format: Arc<str>,
    /// Whether there is an access log on standard output.
    #[serde(skip_serializing_if = "is_default")]
    pub access_log: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { level: "info".into(), format: "json".into(), access_log: false }
    }
}

fn is_info(level: &Arc<str>) -> bool {
    **level == *"info"
}

fn is_json(format: &Arc<str>) -> bool {
    **format == *"json"
}

/// What a [`Delivery`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The listeners and routes.
    pub config: &'a Config,
    /// Where the endpoints of every backend are that the configuration names.
    pub backends: &'a BTreeMap<BackendId, BackendSource>,
    /// What is written of it all.
    pub logs: &'a Logs,
    /// Features that a proxy has to have in any case.
    pub requires: &'a BTreeSet<String>,
}

/// A configuration as it was before there were versions. Proxies of that time can't read a later one, for
/// it has no `config`.
#[derive(Deserialize)]
struct Unversioned {
    config: Ports,
    backends: Vec<(BackendId, wire::BackendSource)>,
}

#[derive(Deserialize)]
struct Ports {
    listeners: Vec<wire::Listener>,
    tls: Vec<wire::TlsPort>,
    http: Vec<wire::HttpPort>,
}

impl Delivery {
    /// Writes a configuration down, and the key pairs that it names beside it.
    pub fn new(contents: Contents<'_>) -> (Self, KeyPairs) {
        let Contents { config, backends, logs, requires } = contents;
        let mut writer = Writer { requires: requires.clone(), ..Writer::default() };
        let Parts { listeners, tls, http, terms, http_terms, gateway_uid } = config.clone().into();
        let written = Written {
            version: wire::VERSION,
            terms: wire::Terms::write(&terms),
            http_terms: wire::HttpTerms::write(&http_terms, &mut writer),
            gateway_uid,
            logs: logs.clone(),
            listeners: listeners.iter().map(|l| wire::Listener::write(l, &mut writer)).collect(),
            tls: tls.iter().map(|port| wire::TlsPort::write(port, &mut writer)).collect(),
            http: http.iter().map(|port| wire::HttpPort::write(port, &mut writer)).collect(),
            backends: backends
                .iter()
                .map(|(id, source)| (id.clone(), wire::BackendSource::write(source)))
                .collect(),
            requires: BTreeSet::new(),
        };
        (Self(Written { requires: writer.requires, ..written }), writer.pairs)
    }

    /// The configuration, with these key pairs. `before` are the terms where it is from before
    /// configurations had terms.
    ///
    /// # Errors
    /// If one that it names isn't among them, or two listeners want the same socket.
    pub fn config(&self, pairs: &KeyPairs, before: SessionTerms) -> Result<Config, ConfigError> {
        let parts = self.parts(pairs, before).map_err(ConfigError::MissingKeyPair)?;
        parts.try_into().map_err(ConfigError::DuplicateBind)
    }

    fn parts(&self, pairs: &KeyPairs, before: SessionTerms) -> Result<Parts, MissingKeyPair> {
        let Written { listeners, tls, http, terms, http_terms, gateway_uid, .. } = &self.0;
        let listeners = listeners.iter().map(|listener| listener.read(pairs));
        let tls = tls.iter().map(|port| port.read(pairs));
        let http = http.iter().map(|port| port.read(pairs));
        Ok(Parts {
            listeners: listeners.collect::<Result<_, _>>()?,
            tls: tls.collect::<Result<_, _>>()?,
            http: http.collect::<Result<_, _>>()?,
            terms: if self.is_versioned() { terms.read() } else { before },
            http_terms: http_terms.read(),
            gateway_uid: gateway_uid.clone(),
        })
    }

    /// What is written of it all; nothing if it is from before configurations said so.
    pub fn logs(&self) -> Option<&Logs> {
        self.is_versioned().then_some(&self.0.logs)
    }

    fn is_versioned(&self) -> bool {
        self.0.version > 0
    }

    /// Where the endpoints of every backend are that the configuration names.
    pub fn backends(&self) -> BTreeMap<BackendId, BackendSource> {
        self.0.backends.iter().map(|(id, source)| (id.clone(), source.read())).collect()
    }
}

impl Document for Delivery {
    /// The document that this is.
    const KIND: DocumentKind = DocumentKind::Config;

    fn to_json(&self) -> Wiped {
        json(&self.0)
    }

    fn from_json(json: &[u8]) -> Result<Self, Refusal> {
        let head: Head = serde_json::from_slice(json).map_err(Refusal::content)?;
        let written = match head.version {
            None => {
                let Unversioned { config: Ports { listeners, tls, http }, backends } =
                    serde_json::from_slice(json).map_err(Refusal::content)?;
                Written { listeners, tls, http, backends, ..Written::default() }
            }
            Some(version) => {
                head.may_be_read(wire::VERSION, version)?;
                serde_json::from_slice(json).map_err(Refusal::content)?
            }
        };
        Ok(Self(written))
    }
}

impl Head {
    /// Whether whoever reads documents up to version `newest` may take one of this `version`.
    fn may_be_read(self, newest: u32, version: u32) -> Result<(), Refusal> {
        if version == 0 || version > newest {
            return Err(Refusal::version(version));
        }
        let mut lacking = self.requires;
        lacking.retain(|feature| !FEATURES.contains(&feature.as_str()));
        if lacking.is_empty() { Ok(()) } else { Err(Refusal::features(lacking)) }
    }
}

/// Why there is no configuration to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A key pair has yet to arrive.
    MissingKeyPair(MissingKeyPair),
    /// It can't run, whatever comes.
    DuplicateBind(Box<DuplicateBind>),
}

/// Key pairs by the name of the Secret that each is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPairs(BTreeMap<Arc<str>, Arc<KeyPair>>);

/// The version of the form of key pairs.
const KEYS_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct WrittenKeys {
    version: u32,
    pairs: Vec<wire::KeyPair>,
}

impl KeyPairs {
    /// Adds one, in the place of one of its name.
    pub fn insert(&mut self, pair: Arc<KeyPair>) {
        self.0.insert(pair.name.clone(), pair);
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<KeyPair>> {
        self.0.get(name).cloned()
    }

    /// Their names.
    pub fn names(&self) -> BTreeSet<Arc<str>> {
        self.0.keys().cloned().collect()
    }

    /// Those that a configuration has.
    pub fn of(config: &Config) -> Self {
        let mut pairs = Self::default();
        config.key_pairs().cloned().for_each(|pair| pairs.insert(pair));
        pairs
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and of the others those whose name isn't among them.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        let mut all = others.clone();
        all.0.extend(self.0.clone());
        all
    }
}

impl Document for KeyPairs {
    /// The document that this is.
    const KIND: DocumentKind = DocumentKind::Keys;

    fn to_json(&self) -> Wiped {
        let pairs = self.0.values().map(|pair| wire::KeyPair::write(pair)).collect();
        json(&WrittenKeys { version: KEYS_VERSION, pairs })
    }

    fn from_json(json: &[u8]) -> Result<Self, Refusal> {
        // What an error says of the text may be a key.
        let unreadable = |_| Refusal::unreadable();
        let head: Head = serde_json::from_slice(json).map_err(unreadable)?;
        let version = head.version.unwrap_or_default();
        head.may_be_read(KEYS_VERSION, version)?;
        let written: WrittenKeys = serde_json::from_slice(json).map_err(unreadable)?;
        let mut pairs = Self::default();
        written.pairs.iter().for_each(|pair| pairs.insert(pair.read()));
        Ok(pairs)
    }
}
