//! The certificates that every peer has, and the authority that clients trust.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256,
    RsaKeySize,
};
use rustls_pki_types::CertificateDer;

use crate::Result;

/// The name in the certificates, which clients ask for.
pub(crate) const HOSTNAME: &str = "bench.example";

/// The certificates of a run.
pub(crate) struct Certificates {
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) ecdsa: Pair,
    pub(crate) rsa: Pair,
}

/// A certificate and its private key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certificates {
    pub(crate) fn new() -> Result<Self> {
        Self::generate().map_err(|error| format!("certificates: {error}"))
    }

    fn generate() -> std::result::Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let signed = |key: KeyPair| {
            let params = CertificateParams::new([HOSTNAME.to_owned()])?;
            let certificate = params.signed_by(&key, &issuer)?.pem();
            Ok(Pair { certificate, key: key.serialize_pem() })
        };
        Ok(Self {
            authority: issuer.der().clone(),
            // ECDSA on P-256.
            ecdsa: signed(KeyPair::generate()?)?,
            rsa: signed(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)?,
        })
    }
}
