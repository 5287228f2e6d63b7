//! A client that speaks TLS, in a thread of its own.

use std::{
    io::{self, BufReader, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Instant,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, RootCertStore,
    SignatureScheme, StreamOwned,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    certificates::HOSTNAME,
    network::GATEWAY,
    patience::PATIENCE,
    request::{self, CHUNK, Request},
    tally::{Record, Tally},
};

/// The port where gateways have the ECDSA certificate.
pub(crate) const ECDSA_PORT: u16 = 8443;
/// The port where gateways have the RSA certificate.
pub(crate) const RSA_PORT: u16 = 8444;

/// Opens sessions to a port of the gateway.
pub(crate) struct Client {
    port: u16,
    config: Arc<ClientConfig>,
}

impl Client {
    /// A client that checks certificates.
    pub(crate) fn careful(port: u16, authority: &CertificateDer<'static>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let config = ClientConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { port, config: config.into() })
    }

    /// A client that spends no time on certificates, and begins each session with a full handshake.
    pub(crate) fn hasty(port: u16) -> Result<Self, Error> {
        Self::with_resumption(port, Resumption::disabled())
    }

    /// A hasty client that resumes sessions by the tickets it got, each used once.
    pub(crate) fn resuming(port: u16) -> Result<Self, Error> {
        Self::with_resumption(port, Resumption::in_memory_sessions(1))
    }

    fn with_resumption(port: u16, resumption: Resumption) -> Result<Self, Error> {
        let mut config = ClientConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Hasty))
            .with_no_client_auth();
        config.resumption = resumption;
        Ok(Self { port, config: config.into() })
    }

    /// A session over which one exchange with the backend has been made.
    pub(crate) fn open(&self) -> io::Result<Session> {
        let stream = TcpStream::connect((GATEWAY, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(HOSTNAME).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let mut session = Session(StreamOwned::new(connection, Buffered::new(stream)));
        session.exchange()?;
        Ok(session)
    }
}

/// A session from its handshake on.
pub(crate) struct Session(StreamOwned<ClientConnection, Buffered>);

impl Session {
    /// Sends a request and gets its echo.
    pub(crate) fn exchange(&mut self) -> io::Result<()> {
        request::exchange(&mut self.0)
    }

    /// Has the backend send, and tells `more` how many bytes came each time, while it wants more.
    pub(crate) fn download(&mut self, mut more: impl FnMut(usize) -> bool) -> io::Result<()> {
        self.0.write_all(&Request::Download.encode())?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.0.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length if more(length) => {}
                _ => return Ok(()),
            }
        }
    }

    /// Sends to the backend for as long as `more` wants.
    pub(crate) fn upload(&mut self, more: impl Fn() -> bool) -> io::Result<()> {
        self.0.write_all(&Request::Upload.encode())?;
        let chunk = vec![0x5a; CHUNK];
        while more() {
            self.0.write_all(&chunk)?;
        }
        Ok(())
    }

    pub(crate) fn was_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Ends the session in order.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

/// Begins one session after the other.
pub(crate) fn begin_sessions(client: &Client, resumed: bool, tally: &Tally) {
    let mut record = Record::new(tally);
    repeat(tally, || {
        let began = Instant::now();
        let session = client.open()?;
        if session.was_resumed() != resumed {
            return Err(io::Error::other("the handshake was of the wrong kind"));
        }
        session.close()?;
        record.took(began, Instant::now());
        record.tell();
        Ok(())
    });
}

/// Receives for as long as the tally wants.
pub(crate) fn download(client: &Client, tally: &Tally) {
    repeat(tally, || {
        client.open()?.download(|length| {
            tally.add(length as u64);
            tally.goes_on()
        })
    });
}

/// Sends for as long as the tally wants.
pub(crate) fn upload(client: &Client, tally: &Tally) {
    repeat(tally, || client.open()?.upload(|| tally.goes_on()));
}

fn repeat(tally: &Tally, mut operation: impl FnMut() -> io::Result<()>) {
    while tally.goes_on() {
        if let Err(error) = operation() {
            tally.fail(error);
        }
    }
}

/// A TCP connection from which much is read at once: rustls reads 4 KiB at a time.
struct Buffered(BufReader<TcpStream>);

impl Buffered {
    fn new(stream: TcpStream) -> Self {
        Self(BufReader::with_capacity(CHUNK, stream))
    }
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One cipher suite and one group, so that every gateway does the same work.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

/// Takes any certificate and signature: what a client spends on them is missing for the gateway.
#[derive(Debug)]
struct Hasty;

impl ServerCertVerifier for Hasty {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("no TLS 1.2 here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
