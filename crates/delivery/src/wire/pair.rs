use std::sync::Arc;

use l4way_model as model;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{MissingKeyPair, Writer};
use crate::KeyPairs;

/// A key pair as a configuration names it.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum KeyPairRef {
    /// By the name that it has among the key pairs.
    Name(Arc<str>),
    /// The key pair itself, as it was before there were versions. It is never written any more.
    Inline(KeyPair),
}

/// A certificate with its chain, and its private key, in PEM.
#[derive(PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyPair {
    name: Arc<str>,
    certificate_chain: Arc<str>,
    private_key: Zeroizing<String>,
}

impl std::fmt::Debug for KeyPairRef {
    /// Not the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) | Self::Inline(KeyPair { name, .. }) => {
                f.debug_tuple("KeyPairRef").field(name).finish()
            }
        }
    }
}

impl Writer {
    /// Names a key pair, and gathers it. A name is that of the Secret which the pair is of, so no two have
    /// the same.
    pub(super) fn pair(&mut self, pair: &Arc<model::KeyPair>) -> KeyPairRef {
        self.pairs.insert(pair.clone());
        KeyPairRef::Name(pair.name.clone())
    }
}

impl KeyPairRef {
    pub(super) fn read(&self, pairs: &KeyPairs) -> Result<Arc<model::KeyPair>, MissingKeyPair> {
        match self {
            Self::Name(name) => pairs.get(name).ok_or_else(|| MissingKeyPair(name.clone())),
            Self::Inline(pair) => Ok(pair.read()),
        }
    }
}

impl KeyPair {
    pub(crate) fn write(pair: &model::KeyPair) -> Self {
        let model::KeyPair { name, certificate_chain, private_key } = pair;
        Self {
            name: name.clone(),
            certificate_chain: certificate_chain.clone(),
            private_key: private_key.clone(),
        }
    }

    pub(crate) fn read(&self) -> Arc<model::KeyPair> {
        let Self { name, certificate_chain, private_key } = self;
        Arc::new(model::KeyPair {
            name: name.clone(),
            certificate_chain: certificate_chain.clone(),
            private_key: private_key.clone(),
        })
    }
}
