use std::time::Duration;

use ipnet::IpNet;
use l4way_model as model;
use serde::{Deserialize, Serialize};

use super::{TRUSTED_PROXIES, Writer};

/// What holds for all sessions. The defaults are this form's own: the model's may change.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terms {
    #[serde(default = "connect_timeout", skip_serializing_if = "is_connect_timeout")]
    connect_timeout: Duration,
    #[serde(default = "udp_session_timeout", skip_serializing_if = "is_udp_session_timeout")]
    udp_session_timeout: Duration,
    #[serde(default, skip_serializing_if = "AtLimit::is_wait")]
    at_limit: AtLimit,
}

/// What becomes of sessions that were used. A proxy that doesn't know it has them stay, which harms nobody:
/// it is no feature that a proxy has to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum AtLimit {
    #[default]
    Wait,
    Evict,
}

impl AtLimit {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_wait(&self) -> bool {
        *self == Self::Wait
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            connect_timeout: connect_timeout(),
            udp_session_timeout: udp_session_timeout(),
            at_limit: AtLimit::Wait,
        }
    }
}

impl Terms {
    pub(crate) fn write(terms: &model::SessionTerms) -> Self {
        let model::SessionTerms { connect_timeout, udp_session_timeout, at_limit } = terms;
        Self {
            connect_timeout: *connect_timeout,
            udp_session_timeout: *udp_session_timeout,
            at_limit: match at_limit {
                model::AtLimit::Wait => AtLimit::Wait,
                model::AtLimit::Evict => AtLimit::Evict,
            },
        }
    }

    pub(crate) fn read(&self) -> model::SessionTerms {
        let Self { connect_timeout, udp_session_timeout, at_limit } = self;
        model::SessionTerms {
            connect_timeout: *connect_timeout,
            udp_session_timeout: *udp_session_timeout,
            at_limit: match at_limit {
                AtLimit::Wait => model::AtLimit::Wait,
                AtLimit::Evict => model::AtLimit::Evict,
            },
        }
    }
}

/// What holds for all HTTP requests.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HttpTerms {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trusted_proxies: Vec<IpNet>,
}

impl HttpTerms {
    pub(crate) fn write(terms: &model::HttpTerms, writer: &mut Writer) -> Self {
        let model::HttpTerms { trusted_proxies } = terms;
        let trusted_proxies = trusted_proxies.networks().to_vec();
        if !trusted_proxies.is_empty() {
            writer.requires.insert(TRUSTED_PROXIES.to_owned());
        }
        Self { trusted_proxies }
    }

    pub(crate) fn read(&self) -> model::HttpTerms {
        let Self { trusted_proxies } = self;
        model::HttpTerms { trusted_proxies: trusted_proxies.iter().copied().collect() }
    }
}

fn connect_timeout() -> Duration {
    Duration::from_secs(5)
}

fn is_connect_timeout(timeout: &Duration) -> bool {
    *timeout == connect_timeout()
}

fn udp_session_timeout() -> Duration {
    Duration::from_secs(60)
}

fn is_udp_session_timeout(timeout: &Duration) -> bool {
    *timeout == udp_session_timeout()
}
