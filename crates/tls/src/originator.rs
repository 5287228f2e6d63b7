//! What begins TLS sessions with the endpoints of backends.

use std::sync::Arc;

use l4way_model::{AlternativeName, Authorities, BackendTls};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

use crate::{
    POSTGRESQL,
    certificate::{alternative_names, authorities, certified_key, parse},
    provider::provider,
};

/// Begins TLS sessions with the endpoints of a backend.
#[derive(Debug)]
pub struct Originator {
    /// The name to ask for.
    pub server_name: ServerName<'static>,
    /// For what needs no application protocol.
    pub plain: Arc<ClientConfig>,
    /// For clients of PostgreSQL that begin with TLS at once.
    pub postgresql: Arc<ClientConfig>,
    /// For HTTP/1.1.
    pub http: Arc<ClientConfig>,
}

impl Originator {
    fn new(tls: &BackendTls) -> Result<Self, String> {
        let name = &*tls.server_name;
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} can't be asked for as a server name"))?;
        let alternatives = tls.alternative_names.iter().map(|name| match name {
            AlternativeName::Dns(name) => ServerName::try_from(name.to_string())
                .map(Wanted::Dns)
                .map_err(|_| format!("{name:?} can't be a name in a certificate")),
            AlternativeName::Uri(uri) => Ok(Wanted::Uri(uri.clone())),
        });
        let provider = provider();
        let verifier = Verifier {
            roots: roots(&tls.authorities)?,
            alternatives: alternatives.collect::<Result<_, _>>()?,
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS sessions can't be begun: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &tls.client_certificate {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = certified_key(pair).map_err(|why| {
                    format!("Secret {} can't be shown to endpoints: it {why}", pair.name)
                })?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        let with = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let (postgresql, http) = (with(POSTGRESQL), with(b"http/1.1"));
        Ok(Self { server_name, plain: Arc::new(config), postgresql, http })
    }
}

fn roots(trusted: &Authorities) -> Result<RootCertStore, String> {
    match trusted {
        Authorities::These(pem) => authorities(pem),
        Authorities::System => {
            let mut roots = RootCertStore::empty();
            let loaded = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(loaded.certs);
            if roots.is_empty() {
                return Err("the system has no certificates of authorities".to_owned());
            }
            Ok(roots)
        }
    }
}

/// What begins the TLS sessions of a configuration, made anew only where it differs.
#[derive(Debug, Default)]
pub struct Originators(Vec<(Arc<BackendTls>, Made)>);

/// Or why there is none.
type Made = Result<Arc<Originator>, String>;

impl Originators {
    /// Forgets those that none of `wanted` needs, and makes those that are missing.
    pub fn update<'a>(&mut self, wanted: impl IntoIterator<Item = &'a Arc<BackendTls>>) {
        let mut before = std::mem::take(&mut self.0);
        for tls in wanted {
            if self.find(tls).is_some() {
                continue;
            }
            let known = before.iter().position(|(known, _)| known == tls);
            self.0.push(match known {
                Some(at) => before.swap_remove(at),
                None => (tls.clone(), Originator::new(tls).map(Arc::new)),
            });
        }
    }

    /// How these sessions are begun.
    ///
    /// # Errors
    /// Why they can't be, as a sentence for a person.
    pub fn get(&self, tls: &Arc<BackendTls>) -> Result<&Arc<Originator>, &str> {
        match self.find(tls) {
            Some(made) => made.as_ref().map_err(String::as_str),
            None => Err("nobody has made it"),
        }
    }

    fn find(&self, tls: &Arc<BackendTls>) -> Option<&Made> {
        let same = |known: &Arc<BackendTls>| Arc::ptr_eq(known, tls) || known == tls;
        self.0.iter().find(|(known, _)| same(known)).map(|(_, made)| made)
    }
}

/// Checks the certificate of an endpoint.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    /// If there are any, one of these has to be in the certificate, in the place of the name that was
    /// asked for (Gateway API, `BackendTLSPolicyValidation.subjectAltNames`).
    alternatives: Vec<Wanted>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A name that a certificate may have.
#[derive(Debug)]
enum Wanted {
    Dns(ServerName<'static>),
    Uri(Arc<str>),
}

impl Verifier {
    fn has_name(
        &self,
        end_entity: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        asked: &ServerName<'_>,
    ) -> Result<(), Error> {
        if self.alternatives.is_empty() {
            return verify_server_name(parsed, asked);
        }
        let fits = |wanted: &Wanted| match wanted {
            Wanted::Dns(name) => verify_server_name(parsed, name).is_ok(),
            Wanted::Uri(uri) => has_uri(end_entity, uri),
        };
        if self.alternatives.iter().any(fits) {
            return Ok(());
        }
        Err(CertificateError::NotValidForName.into())
    }
}

fn has_uri(certificate: &CertificateDer<'_>, uri: &str) -> bool {
    parse(certificate).is_ok_and(|certificate| {
        alternative_names(&certificate)
            .any(|name| matches!(name, GeneralName::URI(name) if *name == uri))
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.has_name(end_entity, &parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
