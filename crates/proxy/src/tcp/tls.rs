//! The TLS session on one of a session's sockets: rustls' unbuffered connections, which leave reading
//! and writing to us.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, CommonState, Error, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use rustls_pki_types::ServerName;

use super::side::{Failure, Read, Received, Sending, Side, room};

/// The most plain bytes of a record (RFC 8446, section 5.1).
const RECORD: usize = 1 << 14;
/// More than what sealing adds to a record, in any version.
const OVERHEAD: usize = 64;

/// A TLS session of which the proxy is one end.
pub(super) struct Tls {
    end: End,
    /// What has come of a record, or of a handshake message, that isn't complete.
    incoming: Vec<u8>,
    /// What the socket hasn't taken, from `sent` on. While there is any, nothing is sealed.
    outgoing: Vec<u8>,
    sent: usize,
    /// The peer has said that it sends no more.
    peer_closed: bool,
    /// The peer has been told so, too.
    told: bool,
    /// Why nothing more can be done.
    error: Option<Error>,
}

/// Which end of it the proxy is.
enum End {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("error", &self.error).finish_non_exhaustive()
    }
}

impl Tls {
    /// The server's end of a session that a client begins.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::new(End::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    /// The client's end of a session with the server of this name.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        Ok(Self::new(End::Client(Box::new(UnbufferedClientConnection::new(config, name)?))))
    }

    fn new(end: End) -> Self {
        Self {
            end,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            peer_closed: false,
            told: false,
            error: None,
        }
    }

    /// Begins the handshake with what has come already, and answers it. What the peer has sent behind
    /// its handshake is left in `opened`.
    pub(super) fn begin(
        &mut self,
        side: &mut Side,
        received: &mut Received,
        sending: &mut Sending,
        mut bytes: Vec<u8>,
    ) -> Result<(), Failure> {
        received.opened.clear();
        self.take_in(side, &mut bytes, &mut received.opened, sending)
    }

    /// Whether the handshake goes on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// Why reading or writing failed, if it was for TLS.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// What the peer has shown of itself and agreed on.
    pub(super) fn state(&self) -> &CommonState {
        match &self.end {
            End::Server(connection) => connection,
            End::Client(connection) => connection,
        }
    }

    /// Reads records, and gives what they hold.
    pub(super) fn read<'a>(
        &mut self,
        side: &mut Side,
        received: &'a mut Received,
        sending: &mut Sending,
        size: usize,
    ) -> Result<Read<'a>, Failure> {
        if self.error.is_some() {
            return Err(Failure::Tls);
        }
        if self.peer_closed {
            return Ok(Read::End);
        }
        let Received { scratch, opened } = received;
        let carried = self.incoming.len();
        let buffer = room(scratch, carried + size);
        buffer[..carried].copy_from_slice(&self.incoming);
        let n = match side.receive(&mut buffer[carried..])? {
            None => return Ok(Read::Nothing),
            // Without a close_notify, as many programs end.
            Some(0) => {
                self.peer_closed = true;
                return Ok(Read::End);
            }
            Some(n) => n,
        };
        opened.clear();
        self.take_in(side, &mut buffer[..carried + n], opened, sending)?;
        if self.peer_closed {
            if opened.is_empty() {
                return Ok(Read::End);
            }
            side.readable = true;
        }
        Ok(Read::Bytes(opened))
    }

    /// Takes in records, and sends what they ask to be answered.
    fn take_in(
        &mut self,
        side: &mut Side,
        bytes: &mut [u8],
        opened: &mut Vec<u8>,
        sending: &mut Sending,
    ) -> Result<(), Failure> {
        let queued = self.outgoing.len();
        let taken = match &mut self.end {
            End::Server(connection) => {
                process(&mut **connection, bytes, opened, &mut self.outgoing)
            }
            End::Client(connection) => {
                process(&mut **connection, bytes, opened, &mut self.outgoing)
            }
        };
        sending.unsent += self.outgoing.len() - queued;
        self.incoming.clear();
        match taken {
            Ok(Taken { bytes: taken, peer_closed }) => {
                self.peer_closed |= peer_closed;
                if taken == bytes.len() {
                    self.incoming = Vec::new();
                } else {
                    self.incoming.extend_from_slice(&bytes[taken..]);
                }
                self.flush(side, sending)?;
                Ok(())
            }
            Err(error) => {
                self.error = Some(error);
                // The alert; the peer may be gone already.
                let _ = self.flush(side, sending);
                Err(Failure::Tls)
            }
        }
    }

    /// Seals bytes and writes them: all of them are taken, or none.
    pub(super) fn write(
        &mut self,
        side: &mut Side,
        sending: &mut Sending,
        bytes: &[u8],
    ) -> Result<usize, Failure> {
        if self.error.is_some() {
            return Err(Failure::Tls);
        }
        if bytes.is_empty() || !self.flush(side, sending)? {
            return Ok(0);
        }
        let buffer = room(&mut sending.sealed, sealed_size(bytes.len()));
        let n = match &mut self.end {
            End::Server(connection) => seal(&mut **connection, &mut self.incoming, bytes, buffer),
            End::Client(connection) => seal(&mut **connection, &mut self.incoming, bytes, buffer),
        };
        let n = n.ok_or(Failure::Tls)?;
        let taken = side.send(&buffer[..n])?;
        if taken < n {
            self.outgoing = buffer[taken..n].to_vec();
            sending.unsent += n - taken;
        }
        Ok(bytes.len())
    }

    /// Writes what is sealed already. Whether all of it is written.
    pub(super) fn flush(
        &mut self,
        side: &mut Side,
        sending: &mut Sending,
    ) -> Result<bool, Failure> {
        if !self.has_sealed() {
            return Ok(true);
        }
        if side.writable {
            self.sent += side.send(&self.outgoing[self.sent..])?;
        }
        if self.sent < self.outgoing.len() {
            return Ok(false);
        }
        self.release(sending);
        Ok(true)
    }

    /// Whether something is sealed that isn't written.
    pub(super) fn has_sealed(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Tells the peer that no more will come (close_notify; RFC 8446, section 6.1). Whether it has been
    /// written.
    pub(super) fn close(
        &mut self,
        side: &mut Side,
        sending: &mut Sending,
    ) -> Result<bool, Failure> {
        if self.error.is_some() {
            return Err(Failure::Tls);
        }
        if !self.told {
            self.told = true;
            let mut alert = [0; OVERHEAD];
            let n = match &mut self.end {
                End::Server(connection) => end(&mut **connection, &mut self.incoming, &mut alert),
                End::Client(connection) => end(&mut **connection, &mut self.incoming, &mut alert),
            };
            self.outgoing.extend_from_slice(&alert[..n]);
            sending.unsent += n;
        }
        self.flush(side, sending)
    }

    /// Forgets what is sealed.
    pub(super) fn release(&mut self, sending: &mut Sending) {
        sending.unsent -= self.outgoing.len();
        self.outgoing = Vec::new();
        self.sent = 0;
    }
}

/// The most bytes that so many plain ones become.
fn sealed_size(plain: usize) -> usize {
    plain + (plain / RECORD + 2) * OVERHEAD
}

/// Either end of a connection, to be handled alike.
trait Unbuffered {
    type Data;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether something waits to be encoded.
    fn has_answers(&self) -> bool;
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_answers(&self) -> bool {
        self.wants_write()
    }
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_answers(&self) -> bool {
        self.wants_write()
    }
}

/// How far taking in records got.
struct Taken {
    bytes: usize,
    peer_closed: bool,
}

/// Takes in the records at the front of `bytes`. What they hold goes to `opened`, what they ask to be
/// answered to `outgoing`; if there is an error, that is the alert.
fn process<C: Unbuffered>(
    connection: &mut C,
    bytes: &mut [u8],
    opened: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> Result<Taken, Error> {
    let mut taken = Taken { bytes: 0, peer_closed: false };
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut bytes[taken.bytes..]);
        let go_on = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    opened.extend_from_slice(record?.payload);
                }
                true
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, outgoing)?;
                true
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                true
            }
            Ok(ConnectionState::PeerClosed) => {
                taken.peer_closed = true;
                true
            }
            Ok(_) => false,
            Err(error) => {
                taken.bytes += discard;
                encode_alert(connection, &mut bytes[taken.bytes..], outgoing);
                return Err(error);
            }
        };
        taken.bytes += discard;
        if !go_on {
            return Ok(taken);
        }
    }
}

/// Encodes what waits to be sent of a connection that has failed. It takes in nothing any more.
fn encode_alert<C: Unbuffered>(connection: &mut C, bytes: &mut [u8], outgoing: &mut Vec<u8>) {
    while connection.has_answers() {
        let Ok(ConnectionState::EncodeTlsData(data)) = connection.process(bytes).state else {
            return;
        };
        if encode(data, outgoing).is_err() {
            return;
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    let encoded = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            outgoing.resize(start + size.required_size, 0);
            data.encode(&mut outgoing[start..])
        }
        encoded => encoded,
    };
    let n = encoded.map_err(|error| Error::General(error.to_string()))?;
    outgoing.truncate(start + n);
    Ok(())
}

/// Seals bytes into `sealed`, and says how many they are then. `None` if the session can't.
fn seal<C: Unbuffered>(
    connection: &mut C,
    incoming: &mut [u8],
    bytes: &[u8],
    sealed: &mut [u8],
) -> Option<usize> {
    match connection.process(incoming).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(bytes, sealed).ok(),
        _ => None,
    }
}

/// Seals a close_notify into `sealed`, and says how many bytes it has: none if the session can't.
fn end<C: Unbuffered>(connection: &mut C, incoming: &mut [u8], sealed: &mut [u8]) -> usize {
    match connection.process(incoming).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.queue_close_notify(sealed).unwrap_or(0)
        }
        _ => 0,
    }
}
