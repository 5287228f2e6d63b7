//! How a Gateway's configuration gets from the controller to its proxies, and their answers back: in
//! Secrets and Leases of the Gateway's namespace, so that a proxy starts and goes on while every
//! controller is down.
//!
//! The configuration is written down as JSON, compressed. Mostly it fits into one Secret, the index,
//! which proxies watch. A larger one is cut into parts, in Secrets of two fixed sets of names that
//! are written in turn; the index, which names the set in force and the hash of the whole, is written
//! after them, so that half of a configuration is never taken.

mod acknowledgement;
mod names;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Write},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use l4way_model::{BackendId, BackendSource, Config};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub(crate) use self::{
    acknowledgement::{ACKNOWLEDGEMENT_ANNOTATION, Acknowledgement},
    names::{Names, PARTS, Set, shortened},
};

/// The most bytes of a part: base64 makes a third more of them, and a Secret holds 1 MiB.
const PART_BYTES: usize = 700 << 10;

/// How far a configuration may unpack, so that a broken one can't fill the memory.
const UNPACKED_BYTES: u64 = 512 << 20;

/// What a proxy is to run, but for the endpoints that it follows itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Delivery {
    /// The listeners and routes.
    pub(crate) config: Config,
    /// Where the endpoints of every backend are that the configuration names.
    pub(crate) backends: BTreeMap<BackendId, BackendSource>,
}

/// A [`Delivery`] as it is written down: JSON has no keys but texts.
#[derive(Serialize, Deserialize)]
struct Written {
    config: Config,
    backends: Vec<(BackendId, BackendSource)>,
}

impl From<Delivery> for Written {
    fn from(Delivery { config, backends }: Delivery) -> Self {
        Self { config, backends: backends.into_iter().collect() }
    }
}

impl From<Written> for Delivery {
    fn from(Written { config, backends }: Written) -> Self {
        Self { config, backends: backends.into_iter().collect() }
    }
}

/// A configuration, ready to be put into Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The SHA-256 of what is packed, in hexadecimal: it names the configuration.
    pub(crate) hash: String,
    /// What is packed, in parts that each fit into a Secret; one at least, [`PARTS`] at most.
    pub(crate) parts: Vec<Vec<u8>>,
}

/// Packs a configuration. The same configuration always gives the same bytes.
///
/// # Errors
/// [`TooLarge`] if it doesn't fit into [`PARTS`] Secrets.
pub(crate) fn pack(delivery: &Delivery) -> Result<Packed, TooLarge> {
    // It has keys.
    let json = serde_json::to_vec(delivery).expect("a configuration can be written as JSON");
    let json = Zeroizing::new(json);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed =
        encoder.write_all(&json).and_then(|()| encoder.finish()).expect("memory can be written to");
    let parts: Vec<_> = packed.chunks(PART_BYTES).map(<[u8]>::to_vec).collect();
    if parts.len() > PARTS {
        return Err(TooLarge { bytes: packed.len() });
    }
    Ok(Packed { hash: hash(&packed), parts })
}

/// Unpacks a configuration out of its parts, joined.
///
/// # Errors
/// If it isn't the one of this hash, or not of this version of l4way.
pub(crate) fn unpack(packed: &[u8], expected: &str) -> Result<Delivery, UnpackError> {
    let actual = hash(packed);
    if actual != expected {
        return Err(UnpackError::Hash { expected: expected.to_owned(), actual });
    }
    let mut json = Zeroizing::new(Vec::new());
    GzDecoder::new(packed)
        .take(UNPACKED_BYTES)
        .read_to_end(&mut json)
        .map_err(UnpackError::Compression)?;
    serde_json::from_slice(&json).map_err(UnpackError::Content)
}

/// The SHA-256 of these bytes, in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A configuration doesn't fit into its Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the configuration takes {} bytes, compressed, and {} fit into its Secrets: divide the \
             Gateway's routes among several Gateways",
            self.bytes,
            PARTS * PART_BYTES
        )
    }
}

/// Why what was delivered can't be used.
#[derive(Debug)]
pub(crate) enum UnpackError {
    /// It isn't what the index names: half of it is of another configuration.
    Hash { expected: String, actual: String },
    /// It isn't compressed as it should be.
    Compression(io::Error),
    /// It isn't a configuration of this version of l4way.
    Content(serde_json::Error),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash { expected, actual } => {
                write!(f, "its hash is {actual} and not {expected}: it is still being written")
            }
            Self::Compression(error) => write!(f, "it can't be unpacked: {error}"),
            Self::Content(error) => {
                write!(f, "it is not a configuration of this version of l4way: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use l4way_model::{GatewayId, Listener, ListenerId, ServicePort, Transport};

    use super::*;

    fn delivery(listeners: u16) -> Delivery {
        let listener = |port: u16| Listener {
            id: ListenerId {
                gateway: GatewayId::new("default", "gw"),
                listener_set: None,
                name: format!("l-{port}").into(),
            },
            transport: Transport::Tcp,
            addresses: vec![std::net::Ipv4Addr::UNSPECIFIED.into()],
            port,
            route: None,
        };
        let backend = BackendId {
            kind: "Service".into(),
            namespace: "default".into(),
            name: "db".into(),
            port: Some(5432),
            transport: Transport::Tcp,
        };
        let source =
            BackendSource::Slices(ServicePort { name: "".into(), publish_not_ready: false });
        Delivery {
            config: Config::new((1..=listeners).map(listener)).unwrap(),
            backends: [(backend, source)].into(),
        }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let delivery = delivery(100);
        let packed = pack(&delivery).unwrap();
        assert_eq!(packed, pack(&delivery).unwrap());
        assert_eq!(unpack(&packed.parts.concat(), &packed.hash).unwrap(), delivery);
    }

    #[test]
    fn half_of_a_configuration_is_refused() {
        let packed = pack(&delivery(100)).unwrap();
        let all = packed.parts.concat();
        let error = unpack(&all[..all.len() - 1], &packed.hash).unwrap_err();
        assert!(matches!(error, UnpackError::Hash { .. }), "{error}");
        let garbage = b"garbage";
        let error = unpack(garbage, &hash(garbage)).unwrap_err();
        assert!(matches!(error, UnpackError::Compression(_)), "{error}");
    }
}
