//! What a listener's TLS settings refer to.

use l4way_resources::api::{Listener, TlsPeerConfig, TlsValidation};

use super::{Certificates, ListenerNode, Protocol, Referrer, certificate::Defect};
use crate::conditions;

/// Checks the certificates of a listener that ends TLS sessions. It is valid if it has one.
pub(crate) fn check_certificates(
    node: &mut ListenerNode,
    listener: &Listener,
    referrer: Referrer<'_>,
    certificates: &Certificates<'_>,
) {
    let Some(tls) = &listener.tls else { return };
    if !node.protocol.is_some_and(Protocol::terminates_tls) {
        return;
    }
    let mut usable = 0;
    for (index, reference) in tls.certificate_refs.iter().enumerate() {
        let outcome = match certificates.key_pair(referrer, reference) {
            Ok(certificate) => {
                usable += 1;
                node.certificate_names.extend(certificate.names);
                node.certificates.push(certificate.pair);
                continue;
            }
            Err(Defect::NotPermitted(message)) => conditions::ref_not_permitted(message),
            Err(Defect::Kind(message) | Defect::Invalid(message)) => {
                conditions::listener::invalid_certificate_ref(message)
            }
        };
        node.findings.error(node.pointer(&format!("tls/certificateRefs/{index}")), [outcome]);
    }
    if usable == 0 {
        let message = "The listener has no certificate to end TLS sessions with.";
        let outcome = conditions::listener::invalid(message);
        node.findings.error(node.pointer("tls/certificateRefs"), [outcome]);
    }
}

/// Checks the authorities that the certificates of a listener's clients are checked against. It
/// is valid if it has one. The settings are the Gateway's; a ListenerSet can't say where in it.
pub(crate) fn check_validation(
    node: &mut ListenerNode,
    settings: &str,
    validation: &TlsValidation,
    referrer: Referrer<'_>,
    certificates: &Certificates<'_>,
) {
    let (of_set, protocol) = (node.id.listener_set.is_some(), node.pointer("protocol"));
    let pointer =
        |field: &str| if of_set { protocol.clone() } else { format!("{settings}/{field}") };
    let mut usable = 0;
    for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
        let outcome = match certificates.authorities(referrer, reference) {
            Ok(()) => {
                usable += 1;
                continue;
            }
            Err(Defect::NotPermitted(message)) => conditions::ref_not_permitted(message),
            Err(Defect::Kind(message)) => {
                conditions::listener::invalid_ca_certificate_kind(message)
            }
            Err(Defect::Invalid(message)) => {
                conditions::listener::invalid_ca_certificate_ref(message)
            }
        };
        node.findings.error(pointer(&format!("caCertificateRefs/{index}")), [outcome]);
    }
    if usable == 0 {
        let outcomes = conditions::listener::no_valid_ca_certificate(
            "There is no certificate to check those of clients against.",
        );
        node.findings.error(pointer("caCertificateRefs"), outcomes);
    }
}

/// Whether clients get in without a valid certificate, though they are asked for one.
pub(crate) fn lets_anybody_in(config: &TlsPeerConfig) -> bool {
    let mode = config.validation.as_ref().and_then(|validation| validation.mode.as_deref());
    mode == Some("AllowInsecureFallback")
}
