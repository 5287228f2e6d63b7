//! What a client begins with on a port that speaks TLS.

mod alert;
mod client_hello;
mod records;

use std::fmt;

use self::GreetingError::Malformed;

pub use alert::Alert;
pub use client_hello::ClientHello;

/// The most bytes that a greeting may have, the headers of its records among them. A browser's hello
/// with a post-quantum key share has some 2 KiB.
pub const MAX_GREETING: usize = 32 * 1024;

/// PostgreSQL's request for TLS, "SSLRequest" of its frontend/backend protocol: its own length, and a
/// number that is no version of the protocol.
pub const SSL_REQUEST: [u8; 8] = *b"\0\0\0\x08\x04\xd2\x16\x2f";
/// The same for GSSAPI, "GSSENCRequest".
const GSS_ENC_REQUEST: [u8; 8] = *b"\0\0\0\x08\x04\xd2\x16\x30";

/// The bit in its first byte that tells a record of SSL 2.0 without padding.
const SSL_2_HEADER: u8 = 0x80;
/// The type of its first message.
const SSL_2_CLIENT_HELLO: u8 = 1;

/// What a client's first bytes on a TLS port are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Not all of it is there.
    Incomplete {
        /// How many bytes it has at least: more than there are, and no more than [`MAX_GREETING`].
        /// With fewer there's no use in reading it again.
        needed: usize,
    },
    /// A TLS `ClientHello` (RFC 8446, section 4.1.2). Other records may follow it.
    ClientHello(ClientHello),
    /// PostgreSQL's `SSLRequest`: the client waits for one byte, `S`, before its `ClientHello`.
    SslRequest,
    /// PostgreSQL's `GSSENCRequest`: the client waits for one byte; `N` has it go on without.
    GssEncRequest,
}

/// Why a client's first bytes are no greeting. More bytes wouldn't change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GreetingError {
    /// They are neither TLS nor a request of PostgreSQL for encryption.
    NotTls,
    /// They are TLS, but against its rules, as the text says.
    Malformed(Alert, &'static str),
    /// Bytes follow a request of PostgreSQL before its answer.
    Hasty,
    /// It is larger than [`MAX_GREETING`], or in more records than any client uses.
    TooLarge,
}

impl fmt::Display for GreetingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("not TLS"),
            Self::Malformed(_, what) => write!(f, "malformed: {what}"),
            Self::Hasty => f.write_str("bytes follow a request before its answer"),
            Self::TooLarge => f.write_str("the ClientHello is too large"),
        }
    }
}

impl std::error::Error for GreetingError {}

impl GreetingError {
    /// What the client is to be told, if it speaks TLS.
    pub fn alert(self) -> Option<Alert> {
        match self {
            Self::NotTls | Self::Hasty => None,
            Self::Malformed(alert, _) => Some(alert),
            // What is within the protocol's limits, and beyond ours, has no alert of its own.
            Self::TooLarge => Some(Alert::DecodeError),
        }
    }
}

/// What a client begins with, of which `bytes` are all that it has sent so far.
///
/// It takes time and memory in proportion to the greeting at most, however the client cuts it into
/// segments, if the caller waits for as many bytes as were `needed` before it calls again.
///
/// # Errors
/// If the bytes are no greeting, as soon as they tell.
pub fn read_greeting(bytes: &[u8]) -> Result<Greeting, GreetingError> {
    match *bytes {
        [] => Ok(Greeting::Incomplete { needed: 1 }),
        [records::HANDSHAKE] | [records::HANDSHAKE, records::MAJOR_VERSION, ..] => {
            read_client_hello(bytes)
        }
        [first, ..] if records::may_begin(first) => read_other_record(bytes),
        [first, ..] if first & SSL_2_HEADER != 0 => read_ssl_2(bytes),
        _ => read_postgres_request(bytes),
    }
}

fn read_client_hello(bytes: &[u8]) -> Result<Greeting, GreetingError> {
    match records::client_hello(bytes) {
        Ok(message) => ClientHello::read(&message).map(Greeting::ClientHello),
        Err(Stop::Needs(needed)) => Ok(Greeting::Incomplete { needed }),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// Records of TLS that a client must not begin with (RFC 8446, section 5).
fn read_other_record(bytes: &[u8]) -> Result<Greeting, GreetingError> {
    match *bytes {
        [_] | [_, records::MAJOR_VERSION] => Ok(Greeting::Incomplete { needed: 3 }),
        [_, records::MAJOR_VERSION, 0..=4, ..] => {
            Err(Malformed(Alert::UnexpectedMessage, "another record comes before the ClientHello"))
        }
        _ => Err(GreetingError::NotTls),
    }
}

/// The CLIENT-HELLO of SSL 2.0, with which clients began that spoke newer versions, too (RFC 5246,
/// appendix E.2): length, type and version. Such clients are too old (RFC 8446, appendix D.5).
fn read_ssl_2(bytes: &[u8]) -> Result<Greeting, GreetingError> {
    match *bytes {
        [_] | [_, _] | [_, _, SSL_2_CLIENT_HELLO] | [_, _, SSL_2_CLIENT_HELLO, 0 | 3] => {
            Ok(Greeting::Incomplete { needed: 5 })
        }
        [_, _, SSL_2_CLIENT_HELLO, 0, 2, ..] | [_, _, SSL_2_CLIENT_HELLO, 3, 0..=4, ..] => {
            Err(Malformed(Alert::ProtocolVersion, "the ClientHello is that of SSL 2.0"))
        }
        _ => Err(GreetingError::NotTls),
    }
}

fn read_postgres_request(bytes: &[u8]) -> Result<Greeting, GreetingError> {
    let requests =
        [(SSL_REQUEST, Greeting::SslRequest), (GSS_ENC_REQUEST, Greeting::GssEncRequest)];
    for (request, greeting) in requests {
        if bytes == request {
            return Ok(greeting);
        }
        if request.starts_with(bytes) {
            return Ok(Greeting::Incomplete { needed: request.len() });
        }
        if bytes.starts_with(&request) {
            // Whoever is between the client and here could have put them there: after the
            // handshake they'd be taken for the client's (CVE-2021-23222).
            return Err(GreetingError::Hasty);
        }
    }
    Err(GreetingError::NotTls)
}

/// Why there is no whole `ClientHello`.
enum Stop {
    /// It has at least this many bytes.
    Needs(usize),
    /// It never will be one.
    Error(GreetingError),
}

impl From<GreetingError> for Stop {
    fn from(error: GreetingError) -> Self {
        Self::Error(error)
    }
}

#[cfg(test)]
mod tests;
