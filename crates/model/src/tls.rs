//! Listeners whose clients begin with TLS, what ends TLS sessions, and what begins them towards
//! backends.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Hostname, HttpRule, ListenerId, Route};

/// The TLS and HTTPS listeners that share a port, told apart by the server name that a client asks
/// for (RFC 6066, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPort {
    /// The addresses to bind, each at `port`; never empty.
    pub addresses: Vec<IpAddr>,
    /// The port to bind; never 0.
    pub port: u16,
    /// The listeners; never empty, and no two of the same hostname.
    pub listeners: Vec<TlsListener>,
}

impl TlsPort {
    /// The sockets that the port is bound on.
    pub fn binds(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }

    /// Whose name its sockets go by: the first listener, in the order of their ids.
    pub fn owner(&self) -> Option<&ListenerId> {
        self.listeners.iter().map(|listener| &listener.id).min()
    }

    /// Whether one of its listeners is HTTPS.
    pub fn has_https(&self) -> bool {
        self.listeners.iter().any(|listener| matches!(listener.mode, TlsMode::Https { .. }))
    }
}

/// A TLS or HTTPS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsListener {
    /// Whose listener it is.
    pub id: ListenerId,
    /// The names that it is for; any, and none, if missing.
    pub hostname: Option<Hostname>,
    /// How long a client has, from the accepted connection to the end of its handshake.
    pub handshake_timeout: Duration,
    /// Who ends the TLS session, and where what is in it goes.
    pub mode: TlsMode,
}

/// Who ends a TLS session, and where what is in it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// The endpoint: every byte from the ClientHello on is its own.
    Passthrough {
        /// The routes in the order of precedence: the first that is for the client's name takes it.
        routes: Vec<TlsRoute>,
    },
    /// The proxy; an endpoint gets the plain bytes, or a TLS session of the proxy's own.
    Terminate {
        /// How the session is ended.
        tls: Arc<ServerTls>,
        /// The routes in the order of precedence: the first that is for the client's name takes it.
        routes: Vec<TlsRoute>,
    },
    /// The proxy, and what is in it is HTTP.
    Https {
        /// How the session is ended.
        tls: Arc<ServerTls>,
        /// The rules in the order of precedence: the first that matches a request takes it.
        rules: Vec<HttpRule>,
    },
    /// Nobody: the listener can't serve. Its hostname is no other listener's all the same.
    Refused,
}

impl TlsMode {
    /// How the proxy ends the session, if it does.
    pub fn tls(&self) -> Option<&Arc<ServerTls>> {
        match self {
            Self::Terminate { tls, .. } | Self::Https { tls, .. } => Some(tls),
            Self::Passthrough { .. } | Self::Refused => None,
        }
    }

    /// The routes of sessions that aren't HTTP.
    pub fn routes(&self) -> &[TlsRoute] {
        match self {
            Self::Passthrough { routes } | Self::Terminate { routes, .. } => routes,
            Self::Https { .. } | Self::Refused => &[],
        }
    }

    /// The rules of HTTP requests.
    pub fn rules(&self) -> &[HttpRule] {
        match self {
            Self::Https { rules, .. } => rules,
            _ => &[],
        }
    }
}

/// Which clients of a listener go where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRoute {
    /// The names that it is for; any, and none, if missing.
    pub hostname: Option<Hostname>,
    /// Where the sessions go.
    pub route: Route,
}

/// How the proxy ends the TLS sessions of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// What it shows to clients; never empty. The first whose names fit the client's is taken, else
    /// the first.
    pub certificates: Vec<Arc<KeyPair>>,
    /// What it asks of clients' certificates; nothing if missing.
    pub client_validation: Option<ClientValidation>,
    /// What is negotiated.
    pub options: TlsOptions,
}

/// What is asked of clients' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientValidation {
    /// The authorities that may have signed them, in PEM; one at least.
    pub authorities: Arc<str>,
    /// Whether clients get in without a valid one all the same (`AllowInsecureFallback`).
    pub optional: bool,
}

/// What a TLS listener negotiates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The oldest version. Default: 1.2.
    pub min_version: TlsVersion,
    /// The newest version; not older than `min_version`. Default: 1.3.
    pub max_version: TlsVersion,
    /// The cipher suites, the preferred one first; all that l4way has if there are none.
    pub cipher_suites: Vec<CipherSuite>,
    /// The application protocols (RFC 7301), the preferred one first. If there are none, what a client
    /// offers is left unanswered, but for PostgreSQL's, which its clients insist on.
    pub alpn: Vec<Arc<str>>,
    /// Whether clients may resume sessions, by tickets. Default: true.
    pub resumption: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            alpn: Vec::new(),
            resumption: true,
        }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident: $($(#[$variant_doc:meta])* $name:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$variant_doc])* #[serde(rename = $text)] $name,)*
        }

        impl $type {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name, as options spell it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($text => Ok(Self::$name),)*
                    _ => Err(UnknownName),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A name that isn't among those there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName;

named! {
    /// A version of TLS.
    TlsVersion:
    /// RFC 5246.
    Tls12 = "1.2",
    /// RFC 8446.
    Tls13 = "1.3",
}

named! {
    /// A cipher suite, by its IANA name: those that keep forward secrecy and authenticate what they
    /// encrypt.
    CipherSuite:
    /// TLS 1.3.
    Aes256GcmSha384 = "TLS_AES_256_GCM_SHA384",
    /// TLS 1.3.
    Aes128GcmSha256 = "TLS_AES_128_GCM_SHA256",
    /// TLS 1.3.
    Chacha20Poly1305Sha256 = "TLS_CHACHA20_POLY1305_SHA256",
    /// TLS 1.2.
    EcdheEcdsaAes256GcmSha384 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    /// TLS 1.2.
    EcdheEcdsaAes128GcmSha256 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    /// TLS 1.2.
    EcdheEcdsaChacha20Poly1305Sha256 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    /// TLS 1.2.
    EcdheRsaAes256GcmSha384 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    /// TLS 1.2.
    EcdheRsaAes128GcmSha256 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    /// TLS 1.2.
    EcdheRsaChacha20Poly1305Sha256 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}

impl CipherSuite {
    /// The version that it belongs to.
    pub fn version(self) -> TlsVersion {
        if self <= Self::Chacha20Poly1305Sha256 { TlsVersion::Tls13 } else { TlsVersion::Tls12 }
    }
}

/// How the proxy begins TLS sessions with the endpoints of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    /// The name that endpoints are asked for, and that has to be in their certificate unless there
    /// are `alternative_names`.
    pub server_name: Arc<str>,
    /// Other names, one of which has to be in the certificate in the place of `server_name`.
    pub alternative_names: Vec<AlternativeName>,
    /// Who may have signed the certificate.
    pub authorities: Authorities,
    /// What is shown to endpoints that ask for a certificate.
    pub client_certificate: Option<Arc<KeyPair>>,
}

/// A name in a certificate (RFC 5280, section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AlternativeName {
    /// A `dNSName`.
    Dns(Arc<str>),
    /// A `uniformResourceIdentifier`.
    Uri(Arc<str>),
}

/// Who may have signed a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Authorities {
    /// Those that the proxy's host, or image, trusts.
    System,
    /// These, in PEM; one at least.
    These(Arc<str>),
}

/// A certificate with its chain, and its private key, in PEM (RFC 7468). `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// Where it is from, as a person would look for it: the Secret's `namespace/name`.
    pub name: Arc<str>,
    /// The certificate first, then those that lead to an authority.
    pub certificate_chain: Arc<str>,
    /// The private key, wiped from memory when it isn't needed any more.
    pub private_key: Zeroizing<String>,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let pair = KeyPair {
            name: "ns/name".into(),
            certificate_chain: "chain".into(),
            private_key: "secret".to_owned().into(),
        };
        assert_eq!(format!("{pair:?}"), "KeyPair(ns/name)");
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for &suite in CipherSuite::ALL {
            assert_eq!(suite.as_str().parse(), Ok(suite));
        }
        assert_eq!("1.1".parse::<TlsVersion>(), Err(UnknownName));
        let of_13 = CipherSuite::ALL.iter().filter(|suite| suite.version() == TlsVersion::Tls13);
        assert_eq!(of_13.count(), 3);
    }
}
