//! What a client asks of the backend. A session's requests follow each other; one that moves bulk
//! data is its last.

use std::io::{self, Read, Write};

/// The bytes of a request, and of the answer to one for an echo.
pub(crate) const SIZE: usize = 64;

/// How much of bulk data is handled at a time.
pub(crate) const CHUNK: usize = 64 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The request itself, sent back.
    Echo,
    /// Bytes without end.
    Download,
    /// That bytes be taken until the client's end.
    Upload,
    /// Both at once.
    Both,
}

impl Request {
    pub(crate) fn encode(self) -> [u8; SIZE] {
        let mut bytes = [0x5a; SIZE];
        bytes[0] = match self {
            Self::Echo => b'e',
            Self::Download => b'd',
            Self::Upload => b'u',
            Self::Both => b'b',
        };
        bytes
    }

    /// What a request asks for, if it is one.
    pub(crate) fn decode(bytes: &[u8; SIZE]) -> Option<Self> {
        let all = [Self::Echo, Self::Download, Self::Upload, Self::Both];
        all.into_iter().find(|request| request.encode() == *bytes)
    }
}

/// Asks for an echo, and gets it.
pub(crate) fn exchange(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let request = Request::Echo.encode();
    stream.write_all(&request)?;
    let mut answer = [0; SIZE];
    stream.read_exact(&mut answer)?;
    if answer == request { Ok(()) } else { Err(io::Error::other("a wrong answer")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        for request in [Request::Echo, Request::Download, Request::Upload, Request::Both] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        assert_eq!(Request::decode(&[0; SIZE]), None);
    }
}
