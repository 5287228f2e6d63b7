//! What a listener's TLS settings say and refer to.

use std::{sync::Arc, time::Duration};

use l4way_model::{ClientValidation, ServerTls, TlsOptions};
use l4way_resources::{
    Severity,
    api::{Listener, TlsPeerConfig, TlsValidation},
};
use l4way_tls::has_for;

use super::{
    Certificates, ListenerNode, Protocol, Referrer,
    certificate::{Certificate, Defect, Validity},
};
use crate::conditions;

/// How long a client has for its handshake, where the listener doesn't say.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a listener handles TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsNode {
    /// What it shows to clients, if it ends TLS sessions.
    pub(crate) certificates: Vec<Certificate>,
    /// What it asks of clients' certificates.
    pub(crate) client_validation: Option<ClientValidation>,
    /// What it negotiates.
    pub(crate) options: TlsOptions,
    pub(crate) handshake_timeout: Duration,
}

impl Default for TlsNode {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            client_validation: None,
            options: TlsOptions::default(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

impl TlsNode {
    /// How sessions are ended.
    pub(crate) fn server(&self) -> ServerTls {
        ServerTls {
            certificates: self.certificates.iter().map(|own| own.pair.clone()).collect(),
            client_validation: self.client_validation.clone(),
            options: self.options.clone(),
        }
    }

    /// The names that its certificates are for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.certificates.iter().flat_map(|certificate| &certificate.details.names)
    }
}

/// Checks the certificates of a listener that ends TLS sessions. It is valid if it has one. One that
/// has expired is told and shown all the same: whether that will do is the clients' decision.
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
    for (index, reference) in tls.certificate_refs.iter().enumerate() {
        let pointer = node.pointer(&format!("tls/certificateRefs/{index}"));
        let outcome = match certificates.key_pair(referrer, reference) {
            Ok(certificate) => {
                let validity = certificate.validity(certificates.now);
                node.tls.certificates.push(certificate);
                match validity {
                    Validity::Good => continue,
                    Validity::EndsSoon(message) => {
                        node.findings.note(Severity::Warning, pointer, message);
                        continue;
                    }
                    Validity::Invalid(message) => {
                        conditions::listener::invalid_certificate_ref(message)
                    }
                }
            }
            Err(Defect::NotPermitted(message)) => conditions::ref_not_permitted(message),
            Err(Defect::Kind(message) | Defect::Invalid(message)) => {
                conditions::listener::invalid_certificate_ref(message)
            }
            Err(Defect::Refused(message)) => {
                node.findings.told(conditions::listener::invalid_certificate_ref(message));
                continue;
            }
        };
        node.findings.error(pointer, [outcome]);
    }
    if node.tls.certificates.is_empty() {
        let message = "The listener has no certificate to end TLS sessions with.";
        let outcome = conditions::listener::invalid(message);
        node.findings.error(node.pointer("tls/certificateRefs"), [outcome]);
        return;
    }
    let fits = |own: &Certificate| has_for(&node.tls.options, own.details.key);
    if node.is_valid() && !node.tls.certificates.iter().any(fits) {
        let message = "none of the cipher suites fits the key of a certificate of the listener; add \
                       one that does: those of TLS 1.2 name the kind of key, RSA or ECDSA";
        node.refuse("tls/options", message.to_owned());
    }
}

/// Checks the authorities that the certificates of a listener's clients are checked against. It
/// is valid if it has one. The settings are the Gateway's; a ListenerSet can't say where in it.
pub(crate) fn check_validation(
    node: &mut ListenerNode,
    settings: &str,
    config: &TlsPeerConfig,
    validation: &TlsValidation,
    referrer: Referrer<'_>,
    certificates: &Certificates<'_>,
) {
    let (of_set, protocol) = (node.id.listener_set.is_some(), node.pointer("protocol"));
    let pointer =
        |field: &str| if of_set { protocol.clone() } else { format!("{settings}/{field}") };
    let references = &validation.ca_certificate_refs;
    let (authorities, defects) = certificates.all_authorities(referrer, references);
    for (index, defect) in defects {
        let outcome = match defect {
            Defect::NotPermitted(message) => conditions::ref_not_permitted(message),
            Defect::Kind(message) => conditions::listener::invalid_ca_certificate_kind(message),
            Defect::Invalid(message) => conditions::listener::invalid_ca_certificate_ref(message),
            Defect::Refused(message) => {
                node.findings.told(conditions::listener::invalid_ca_certificate_ref(message));
                continue;
            }
        };
        node.findings.error(pointer(&format!("caCertificateRefs/{index}")), [outcome]);
    }
    let optional = lets_anybody_in(config);
    node.tls.client_validation =
        authorities.map(|authorities| ClientValidation { authorities, optional });
    if node.tls.client_validation.is_none() {
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
