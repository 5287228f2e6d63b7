use std::net::IpAddr;

use l4way_session::ClientIdentity;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::certificate::{alternative_names, parse};

/// Reads a client's certificate, if it can be.
pub(crate) fn identity(certificate: &CertificateDer<'_>, verified: bool) -> Option<ClientIdentity> {
    let certificate = parse(certificate).ok()?;
    let names = alternative_names(&certificate).filter_map(described);
    Some(ClientIdentity {
        subject: certificate.subject().to_string(),
        alternative_names: names.collect(),
        verified,
    })
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
