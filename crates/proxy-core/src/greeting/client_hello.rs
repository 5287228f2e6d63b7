//! What a `ClientHello` says (RFC 8446, section 4.1.2).

use std::net::IpAddr;

use super::{
    Alert,
    GreetingError::{self, Malformed},
    records::MESSAGE_HEADER,
};

/// Extensions of RFC 6066, section 3, and RFC 7301, section 3.1.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// The extension of RFC 8446, section 4.2.1, in place of which older clients have one version.
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_2: [u8; 2] = [3, 3];

/// The only kind of server name there is.
const HOST_NAME: u8 = 0;

const MAX_SESSION_ID: usize = 32;

/// What a client wants to talk to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's DNS name, in lower case and without final dot. `None` if the client names no
    /// server, or names it by its IP address.
    pub server_name: Option<Box<str>>,
    /// Whether the client names a server at all.
    pub names_server: bool,
    /// Whether the client lists its versions, as those of TLS 1.3 do.
    pub lists_versions: bool,
    /// Whether the client speaks no version from TLS 1.2 on, as far as its only version tells: one that
    /// lists several is for the server to judge.
    pub is_outdated: bool,
    /// A list of names, each of them behind a byte with its length.
    protocols: Box<[u8]>,
}

impl ClientHello {
    /// Whether the client offers this application protocol (RFC 7301), for example `h2`.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        let mut protocols = Reader(&self.protocols);
        std::iter::from_fn(|| protocols.vec8()).any(|offered| offered == protocol)
    }

    /// Reads a whole message, from its header on.
    pub(super) fn read(message: &[u8]) -> Result<Self, GreetingError> {
        let extensions = extensions(message).ok_or(broken("the fields of the ClientHello"))?;
        let hello = Self::read_extensions(Reader(extensions))?;
        let version = message.get(MESSAGE_HEADER..MESSAGE_HEADER + 2).unwrap_or_default();
        Ok(Self { is_outdated: !hello.lists_versions && version < &TLS_1_2[..], ..hello })
    }

    fn read_extensions(mut extensions: Reader<'_>) -> Result<Self, GreetingError> {
        let (mut server_name, mut protocols, mut versions) = (None, None, None);
        while !extensions.is_empty() {
            let (kind, content) = extensions.extension().ok_or(broken("the list of extensions"))?;
            let place = match kind {
                SERVER_NAME => &mut server_name,
                ALPN => &mut protocols,
                SUPPORTED_VERSIONS => &mut versions,
                _ => continue,
            };
            if place.replace(content).is_some() {
                return Err(illegal("an extension comes twice"));
            }
        }
        Ok(Self {
            names_server: server_name.is_some(),
            lists_versions: versions.is_some(),
            is_outdated: false,
            server_name: server_name.map(read_server_name).transpose()?.flatten(),
            protocols: protocols.map(read_protocols).transpose()?.unwrap_or_default().into(),
        })
    }
}

/// A length that is wrong, or a field that isn't in its range.
fn broken(what: &'static str) -> GreetingError {
    Malformed(Alert::DecodeError, what)
}

/// What is well formed, and must not be.
fn illegal(what: &'static str) -> GreetingError {
    Malformed(Alert::IllegalParameter, what)
}

/// The extensions of a message; clients before TLS 1.3 may have none. What comes before them is
/// the server's to judge.
fn extensions(message: &[u8]) -> Option<&[u8]> {
    let mut hello = Reader(message.get(MESSAGE_HEADER..)?);
    let _legacy_version = hello.u16()?;
    let _random = hello.take(32)?;
    let session_id = hello.vec8()?;
    let cipher_suites = hello.vec16()?;
    let compression_methods = hello.vec8()?;
    let extensions = if hello.is_empty() { &[] } else { hello.vec16()? };
    let well_formed = session_id.len() <= MAX_SESSION_ID
        && !cipher_suites.is_empty()
        && cipher_suites.len().is_multiple_of(2)
        && !compression_methods.is_empty()
        && hello.is_empty();
    well_formed.then_some(extensions)
}

fn read_server_name(extension: &[u8]) -> Result<Option<Box<str>>, GreetingError> {
    let names = only_vec16(extension).ok_or(broken("the extension server_name"))?;
    let mut names = Reader(names);
    let mut host_name = None;
    while !names.is_empty() {
        let (kind, name) = names.name().ok_or(broken("the list of server names"))?;
        if kind != HOST_NAME {
            continue;
        }
        if name.is_empty() {
            return Err(broken("a server name without a letter"));
        }
        if host_name.replace(name).is_some() {
            return Err(illegal("two server names"));
        }
    }
    host_name.map_or(Ok(None), dns_name)
}

/// A DNS name in its usual form; `None` for an IP address, which doesn't belong there, but some
/// clients send.
fn dns_name(name: &[u8]) -> Result<Option<Box<str>>, GreetingError> {
    let name = str::from_utf8(name).map_err(|_| illegal("a server name that isn't ASCII"))?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    if !is_plausible(name) {
        return Err(illegal("a server name that can't be in the DNS"));
    }
    Ok(Some(name.to_ascii_lowercase().into()))
}

/// Whether a name is one of hosts, as they are and not as they ought to be: with underscores, and
/// with hyphens anywhere.
fn is_plausible(name: &str) -> bool {
    let plausible = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() <= 253
        && name
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plausible))
}

/// The list of protocols in an extension, checked.
fn read_protocols(extension: &[u8]) -> Result<&[u8], GreetingError> {
    let list = only_vec16(extension).ok_or(broken("the extension of protocols"))?;
    let mut protocols = Reader(list);
    while !protocols.is_empty() {
        let protocol = protocols.vec8().ok_or(broken("the list of protocols"))?;
        if protocol.is_empty() {
            return Err(broken("a protocol without a name"));
        }
    }
    Ok(list)
}

/// The content of a list, not empty, that is all there is.
fn only_vec16(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(bytes);
    let list = reader.vec16()?;
    (reader.is_empty() && !list.is_empty()).then_some(list)
}

/// What is left to read. Its methods return `None` if that doesn't suffice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes behind their length in one byte.
    fn vec8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Bytes behind their length in two bytes.
    fn vec16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn extension(&mut self) -> Option<(u16, &'a [u8])> {
        Some((self.u16()?, self.vec16()?))
    }

    /// A server name of whatever kind: all kinds to come begin with a length, too.
    fn name(&mut self) -> Option<(u8, &'a [u8])> {
        Some((self.u8()?, self.vec16()?))
    }
}
