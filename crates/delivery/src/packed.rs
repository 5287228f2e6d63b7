use std::{
    fmt,
    io::{self, Read, Write},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::{Document, PARTS, Refusal, Wiped};

/// The most bytes of a part: base64 makes a third more of them, and a Secret holds 1 MiB.
pub(super) const PART_BYTES: usize = 700 << 10;

/// How far a document may unpack, so that a broken one can't fill the memory.
const UNPACKED_BYTES: u64 = 512 << 20;

/// A document, ready to be put into Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The SHA-256 of what is packed, in hexadecimal: it names the document.
    pub hash: String,
    /// What is packed, in parts that each fit into a Secret; one at least, [`PARTS`] at most.
    pub parts: Vec<Wiped>,
}

/// Packs a document. The same document always gives the same bytes.
///
/// # Errors
/// [`TooLarge`] if it doesn't fit into [`PARTS`] Secrets.
pub fn pack<D: Document>(document: &D) -> Result<Packed, TooLarge> {
    let json = document.to_json();
    let mut encoder = GzEncoder::new(Wiped::default(), Compression::fast());
    let packed =
        encoder.write_all(&json).and_then(|()| encoder.finish()).expect("memory can be written to");
    let parts: Vec<_> = packed.chunks(PART_BYTES).map(|part| part.to_vec().into()).collect();
    if parts.len() > PARTS {
        return Err(TooLarge { what: D::KIND.noun(), bytes: packed.len() });
    }
    Ok(Packed { hash: hash(&packed), parts })
}

/// Unpacks a document out of its parts, joined.
///
/// # Errors
/// If it isn't the one of this hash, or can't be taken by this l4way.
pub fn unpack<D: Document>(packed: &[u8], expected: &str) -> Result<D, UnpackError> {
    let actual = hash(packed);
    if actual != expected {
        return Err(UnpackError::Hash { expected: expected.to_owned(), actual });
    }
    let json = Wiped::read(GzDecoder::new(packed).take(UNPACKED_BYTES));
    let json = json.map_err(UnpackError::Compression)?;
    D::from_json(&json).map_err(UnpackError::Refused)
}

/// The SHA-256 of these bytes, in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A document doesn't fit into its Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    what: &'static str,
    bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the {} takes {} bytes, compressed, and {} fit into its Secrets: divide the Gateway's \
             listeners and routes among several Gateways",
            self.what,
            self.bytes,
            PARTS * PART_BYTES
        )
    }
}

/// Why a document can't be used.
#[derive(Debug)]
pub enum UnpackError {
    /// It isn't what the index names: half of it is of another one.
    Hash {
        /// The hash that the index has.
        expected: String,
        /// The hash of what is there.
        actual: String,
    },
    /// It isn't compressed as it should be.
    Compression(io::Error),
    /// This l4way can't take it, however often it is tried.
    Refused(Refusal),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash { expected, actual } => {
                write!(f, "its hash is {actual} and not {expected}: it is still being written")
            }
            Self::Compression(error) => write!(f, "it can't be unpacked: {error}"),
            Self::Refused(refusal) => write!(f, "this l4way refuses it: {refusal}"),
        }
    }
}
