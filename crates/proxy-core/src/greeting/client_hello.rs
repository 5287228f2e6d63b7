//! What a `ClientHello` says (RFC 8446, section 4.1.2).

use std::net::IpAddr;

use super::{
    GreetingError::{self, Malformed},
    records::MESSAGE_HEADER,
};

/// Extensions of RFC 6066, section 3, and RFC 7301, section 3.1.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// The only kind of server name there is.
const HOST_NAME: u8 = 0;

const MAX_SESSION_ID: usize = 32;

/// What a client wants to talk to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's DNS name, in lower case and without final dot. `None` if the client names no
    /// server, or names it by its IP address.
    pub server_name: Option<Box<str>>,
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
        let extensions = extensions(message).ok_or(Malformed("the fields of the ClientHello"))?;
        Self::read_extensions(Reader(extensions))
    }

    fn read_extensions(mut extensions: Reader<'_>) -> Result<Self, GreetingError> {
        let (mut server_name, mut protocols) = (None, None);
        while !extensions.is_empty() {
            let (kind, content) =
                extensions.extension().ok_or(Malformed("the list of extensions"))?;
            let place = match kind {
                SERVER_NAME => &mut server_name,
                ALPN => &mut protocols,
                _ => continue,
            };
            if place.replace(content).is_some() {
                return Err(Malformed("an extension comes twice"));
            }
        }
        Ok(Self {
            server_name: server_name.map(read_server_name).transpose()?.flatten(),
            protocols: protocols.map(read_protocols).transpose()?.unwrap_or_default().into(),
        })
    }
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
    let names = only_vec16(extension).ok_or(Malformed("the extension server_name"))?;
    let mut names = Reader(names);
    let mut host_name = None;
    while !names.is_empty() {
        let (kind, name) = names.name().ok_or(Malformed("the list of server names"))?;
        if kind == HOST_NAME && host_name.replace(name).is_some() {
            return Err(Malformed("two server names"));
        }
    }
    host_name.map_or(Ok(None), dns_name)
}

/// A DNS name in its usual form; `None` for an IP address, which doesn't belong there, but some
/// clients send.
fn dns_name(name: &[u8]) -> Result<Option<Box<str>>, GreetingError> {
    let name = str::from_utf8(name).map_err(|_| Malformed("a server name that isn't ASCII"))?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    if !is_plausible(name) {
        return Err(Malformed("a server name that can't be in the DNS"));
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
    let list = only_vec16(extension).ok_or(Malformed("the extension of protocols"))?;
    let mut protocols = Reader(list);
    while !protocols.is_empty() {
        let protocol = protocols.vec8().ok_or(Malformed("the list of protocols"))?;
        if protocol.is_empty() {
            return Err(Malformed("a protocol without a name"));
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
