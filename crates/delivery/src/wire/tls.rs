use std::{net::IpAddr, sync::Arc, time::Duration};

use l4way_model as model;
use serde::{Deserialize, Serialize};

use super::{MissingKeyPair, Writer, http::HttpRule, is_default, pair::KeyPairRef, route::Route};
use crate::KeyPairs;

/// The TLS and HTTPS listeners that share a port.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TlsPort {
    addresses: Vec<IpAddr>,
    port: u16,
    listeners: Vec<TlsListener>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct TlsListener {
    id: model::ListenerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostname: Option<model::Hostname>,
    #[serde(default = "handshake_timeout", skip_serializing_if = "is_handshake_timeout")]
    handshake_timeout: Duration,
    mode: TlsMode,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum TlsMode {
    Passthrough {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        routes: Vec<TlsRoute>,
    },
    Terminate {
        tls: ServerTls,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        routes: Vec<TlsRoute>,
    },
    Https {
        tls: ServerTls,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rules: Vec<HttpRule>,
    },
    Refused,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct TlsRoute {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostname: Option<model::Hostname>,
    route: Route,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ServerTls {
    certificates: Vec<KeyPairRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_validation: Option<ClientValidation>,
    #[serde(default, skip_serializing_if = "is_default")]
    options: TlsOptions,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ClientValidation {
    authorities: Arc<str>,
    #[serde(default, skip_serializing_if = "is_default")]
    optional: bool,
}

/// What is negotiated. The defaults are this form's own: the model's may change.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct TlsOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_version: Option<model::TlsVersion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_version: Option<model::TlsVersion>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cipher_suites: Vec<model::CipherSuite>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alpn: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumption: Option<bool>,
}

impl TlsPort {
    pub(crate) fn write(port: &model::TlsPort, writer: &mut Writer) -> Self {
        let model::TlsPort { addresses, port, listeners } = port;
        let listeners = listeners.iter().map(|listener| TlsListener::write(listener, writer));
        Self { addresses: addresses.clone(), port: *port, listeners: listeners.collect() }
    }

    pub(crate) fn read(&self, pairs: &KeyPairs) -> Result<model::TlsPort, MissingKeyPair> {
        let Self { addresses, port, listeners } = self;
        let listeners = listeners.iter().map(|listener| listener.read(pairs));
        Ok(model::TlsPort {
            addresses: addresses.clone(),
            port: *port,
            listeners: listeners.collect::<Result<_, _>>()?,
        })
    }
}

impl TlsListener {
    fn write(listener: &model::TlsListener, writer: &mut Writer) -> Self {
        let model::TlsListener { id, hostname, handshake_timeout, mode } = listener;
        Self {
            id: id.clone(),
            hostname: hostname.clone(),
            handshake_timeout: *handshake_timeout,
            mode: TlsMode::write(mode, writer),
        }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::TlsListener, MissingKeyPair> {
        let Self { id, hostname, handshake_timeout, mode } = self;
        Ok(model::TlsListener {
            id: id.clone(),
            hostname: hostname.clone(),
            handshake_timeout: *handshake_timeout,
            mode: mode.read(pairs)?,
        })
    }
}

impl TlsMode {
    fn write(mode: &model::TlsMode, writer: &mut Writer) -> Self {
        let written = |routes: &[model::TlsRoute], writer: &mut Writer| {
            routes.iter().map(|route| TlsRoute::write(route, writer)).collect()
        };
        match mode {
            model::TlsMode::Passthrough { routes } => {
                Self::Passthrough { routes: written(routes, writer) }
            }
            model::TlsMode::Terminate { tls, routes } => Self::Terminate {
                tls: ServerTls::write(tls, writer),
                routes: written(routes, writer),
            },
            model::TlsMode::Https { tls, rules } => Self::Https {
                tls: ServerTls::write(tls, writer),
                rules: rules.iter().map(|rule| HttpRule::write(rule, writer)).collect(),
            },
            model::TlsMode::Refused => Self::Refused,
        }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::TlsMode, MissingKeyPair> {
        let read = |routes: &[TlsRoute]| -> Result<Vec<_>, _> {
            routes.iter().map(|route| route.read(pairs)).collect()
        };
        Ok(match self {
            Self::Passthrough { routes } => model::TlsMode::Passthrough { routes: read(routes)? },
            Self::Terminate { tls, routes } => {
                model::TlsMode::Terminate { tls: Arc::new(tls.read(pairs)?), routes: read(routes)? }
            }
            Self::Https { tls, rules } => model::TlsMode::Https {
                tls: Arc::new(tls.read(pairs)?),
                rules: rules.iter().map(|rule| rule.read(pairs)).collect::<Result<_, _>>()?,
            },
            Self::Refused => model::TlsMode::Refused,
        })
    }
}

impl TlsRoute {
    fn write(route: &model::TlsRoute, writer: &mut Writer) -> Self {
        let model::TlsRoute { hostname, route } = route;
        Self { hostname: hostname.clone(), route: Route::write(route, writer) }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::TlsRoute, MissingKeyPair> {
        let Self { hostname, route } = self;
        Ok(model::TlsRoute { hostname: hostname.clone(), route: route.read(pairs)? })
    }
}

impl ServerTls {
    fn write(tls: &model::ServerTls, writer: &mut Writer) -> Self {
        let model::ServerTls { certificates, client_validation, options } = tls;
        Self {
            certificates: certificates.iter().map(|pair| writer.pair(pair)).collect(),
            client_validation: client_validation.as_ref().map(ClientValidation::write),
            options: TlsOptions::write(options),
        }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::ServerTls, MissingKeyPair> {
        let Self { certificates, client_validation, options } = self;
        let certificates = certificates.iter().map(|pair| pair.read(pairs));
        Ok(model::ServerTls {
            certificates: certificates.collect::<Result<_, _>>()?,
            client_validation: client_validation.as_ref().map(ClientValidation::read),
            options: options.read(),
        })
    }
}

impl ClientValidation {
    fn write(validation: &model::ClientValidation) -> Self {
        let model::ClientValidation { authorities, optional } = validation;
        Self { authorities: authorities.clone(), optional: *optional }
    }

    fn read(&self) -> model::ClientValidation {
        let Self { authorities, optional } = self;
        model::ClientValidation { authorities: authorities.clone(), optional: *optional }
    }
}

impl TlsOptions {
    fn write(options: &model::TlsOptions) -> Self {
        let model::TlsOptions { min_version, max_version, cipher_suites, alpn, resumption } =
            options;
        Self {
            min_version: (*min_version != OLDEST).then_some(*min_version),
            max_version: (*max_version != NEWEST).then_some(*max_version),
            cipher_suites: cipher_suites.clone(),
            alpn: alpn.clone(),
            resumption: (!resumption).then_some(false),
        }
    }

    fn read(&self) -> model::TlsOptions {
        let Self { min_version, max_version, cipher_suites, alpn, resumption } = self;
        model::TlsOptions {
            min_version: min_version.unwrap_or(OLDEST),
            max_version: max_version.unwrap_or(NEWEST),
            cipher_suites: cipher_suites.clone(),
            alpn: alpn.clone(),
            resumption: resumption.unwrap_or(true),
        }
    }
}

const OLDEST: model::TlsVersion = model::TlsVersion::Tls12;
const NEWEST: model::TlsVersion = model::TlsVersion::Tls13;

/// How long a handshake may take unless an option of the listener says so.
fn handshake_timeout() -> Duration {
    Duration::from_secs(10)
}

fn is_handshake_timeout(timeout: &Duration) -> bool {
    *timeout == handshake_timeout()
}
