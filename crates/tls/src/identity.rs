use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::certificate::{alternative_names, parse};

/// Who a client is, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate's subject (RFC 5280, section 4.1.2.6), as `CN=client, O=example`.
    pub subject: String,
    /// Its alternative names, each with its kind: `DNS:a.example.com`, `URI:spiffe://…`, `IP:…`,
    /// `email:…`.
    pub alternative_names: Vec<String>,
    /// Whether an authority that the listener trusts has signed it. Where clients get in without a
    /// valid certificate, it may not.
    pub verified: bool,
}

impl ClientIdentity {
    /// Reads a certificate, if it can be.
    pub(crate) fn read(certificate: &CertificateDer<'_>, verified: bool) -> Option<Self> {
        let certificate = parse(certificate).ok()?;
        let names = alternative_names(&certificate).filter_map(described);
        Some(Self {
            subject: certificate.subject().to_string(),
            alternative_names: names.collect(),
            verified,
        })
    }
}

fn described(name: &GeneralName<'_>) -> Option<String> {
    Some(match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(address) => format!("email:{address}"),
        GeneralName::IPAddress(bytes) => format!("IP:{}", ip(bytes)?),
        _ => return None,
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
