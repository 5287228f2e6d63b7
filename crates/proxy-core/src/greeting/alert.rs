//! What a TLS client is told that can't be served.

/// An alert that says why a ClientHello was not taken (RFC 8446, section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// A record or a message comes where it must not.
    UnexpectedMessage = 10,
    /// A record is longer than records may be.
    RecordOverflow = 22,
    /// A field is well formed and its content is not what it has to be.
    IllegalParameter = 47,
    /// A field is out of its range, or a length is wrong.
    DecodeError = 50,
    /// The client speaks versions only that are too old.
    ProtocolVersion = 70,
    /// The client names no server where it has to (section 9.2).
    MissingExtension = 109,
    /// Nobody is for the server that the client names (RFC 6066, section 3).
    UnrecognizedName = 112,
}

impl Alert {
    /// Its record as it is before any keys: it ends the connection.
    pub fn fatal(self) -> [u8; 7] {
        self.record(2)
    }

    /// The same as a warning.
    pub fn warning(self) -> [u8; 7] {
        self.record(1)
    }

    fn record(self, level: u8) -> [u8; 7] {
        [super::records::ALERT, 3, 3, 0, 2, level, self as u8]
    }
}
