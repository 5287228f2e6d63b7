//! A client's TLS session in the words of counters and records.

use l4way_session::{CloseReason, HandshakeKind, TlsRecord};
use rustls::{CommonState, ProtocolVersion};

use crate::{Terminator, provider::suite_name};

/// Kind of handshake that a session began with.
pub fn handshake_kind(session: &CommonState) -> HandshakeKind {
    HandshakeKind {
        tls13: session.protocol_version() == Some(ProtocolVersion::TLSv1_3),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    }
}

/// Reason why a client's handshake failed.
pub fn handshake_failure(error: &rustls::Error) -> CloseReason {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
    match error {
        NoCertificatesPresented | InvalidCertificate(_) => CloseReason::ClientCertificate,
        _ => CloseReason::HandshakeFailed,
    }
}

/// Description of a session that the proxy ended, of a client that asked for this name. Who the
/// client is, `terminator` tells.
pub fn describe_session(
    server_name: Option<Box<str>>,
    session: &CommonState,
    terminator: Option<&Terminator>,
) -> TlsRecord {
    let protocol = session.alpn_protocol();
    let HandshakeKind { tls13, resumed } = handshake_kind(session);
    TlsRecord {
        server_name,
        version: Some(if tls13 { "1.3" } else { "1.2" }),
        cipher_suite: session.negotiated_cipher_suite().map(suite_name),
        application_protocol: protocol.map(|name| String::from_utf8_lossy(name).into_owned()),
        resumed,
        client: terminator
            .zip(session.peer_certificates())
            .and_then(|(terminator, chain)| terminator.identify(chain)),
    }
}
