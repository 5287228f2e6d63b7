//! What is asked of clients' certificates.

use std::sync::Arc;

use l4way_model::ClientValidation;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{certificate::authorities, provider::provider};

/// What checks that a certificate is signed by one of the authorities.
pub(crate) fn verifier(
    validation: &ClientValidation,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(authorities(&validation.authorities)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| format!("clients' certificates can't be checked: {error}"))
}

/// Asks for a certificate, and lets clients in whatever they show. What they show is checked after
/// the handshake, so that it is known who they are.
#[derive(Debug)]
pub(crate) struct LetIn(pub(crate) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for LetIn {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
