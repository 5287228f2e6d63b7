//! Any bytes at all as certificates and keys.

use l4way_fuzz::Target;
use l4way_model::KeyPair;
use rustls::{client::verify_server_name, server::ParsedCertificate};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::{
    certificate::{authorities, certified_key, parse},
    identity::identity,
    inspect_authorities, inspect_key_pair, not_after,
};

/// What is said of a key pair holds where it is used, and shows nothing of it; and the two libraries that read
/// certificates agree.
#[test]
fn certificates() {
    let generated = rcgen::generate_simple_self_signed(vec![
        "a.example.com".to_owned(),
        "*.example.com".to_owned(),
        "192.0.2.1".to_owned(),
    ]);
    let generated = generated.expect("a certificate");
    let pem = format!("{}{}", generated.cert.pem(), generated.signing_key.serialize_pem());
    let target = Target::new("certificates").seed(pem).seed(&**generated.cert.der());
    target.seeds("crates/translate/tests/support/certificates").run(|bytes| {
        written(bytes);
        if let Ok(text) = std::str::from_utf8(bytes) {
            key_pair(text);
            assert_eq!(inspect_authorities(text).is_ok(), authorities(text).is_ok());
        }
    });
}

/// A certificate's own bytes.
fn written(bytes: &[u8]) {
    let der = CertificateDer::from(bytes);
    let certificate = parse(&der);
    assert_eq!(identity(&der, true).is_some(), certificate.is_ok());
    let (Ok(_), Ok(parsed)) = (certificate, ParsedCertificate::try_from(&der)) else { return };
    let identity = identity(&der, true).expect("it was parsed");
    if identity.alternative_names.is_empty() {
        // Of a list with a broken name, the one knows no name, and the other those before it.
        return;
    }
    let names = identity.alternative_names.iter().filter_map(|name| name.strip_prefix("DNS:"));
    let accepted = |name: &str| {
        let name = ServerName::try_from(name).ok()?;
        verify_server_name(&parsed, &name).ok()
    };
    for host in ["a.example.com", "b.example.com", "example.com", "localhost"] {
        if accepted(host).is_some() {
            let mut names = names.clone();
            assert!(names.any(|name| is_for(name, host)), "{host} isn't in {identity:?}");
        }
    }
}

/// Whether a DNS name is for a host (RFC 9525, section 6.3).
fn is_for(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.split_once('.'));
    match (name.strip_prefix("*."), host) {
        (Some(domain), Some((_, below))) => domain == below,
        (Some(_), None) => false,
        (None, Some((first, below))) => name == format!("{first}.{below}"),
        (None, None) => name == "localhost",
    }
}

fn key_pair(text: &str) {
    let pair = KeyPair {
        name: "team/fuzz".into(),
        certificate_chain: text.into(),
        private_key: text.to_owned().into(),
    };
    match inspect_key_pair(&pair) {
        Ok(certificate) => {
            assert!(certified_key(&pair).is_ok());
            assert_eq!(not_after(&pair), Some(certificate.not_after));
        }
        Err(why) => {
            // What is secret has no spaces; lines with them may be words of the message.
            let mut lines = text.lines().filter(|line| line.len() >= 16 && !line.contains(' '));
            assert!(!lines.any(|line| why.contains(line)), "{why}");
        }
    }
}
