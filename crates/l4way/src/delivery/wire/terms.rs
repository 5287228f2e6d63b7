use std::time::Duration;

use l4way_model as model;
use serde::{Deserialize, Serialize};

/// What holds for all sessions. The defaults are this form's own: the model's may change.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::delivery) struct Terms {
    #[serde(default = "connect_timeout", skip_serializing_if = "is_connect_timeout")]
    connect_timeout: Duration,
    #[serde(default = "udp_session_timeout", skip_serializing_if = "is_udp_session_timeout")]
    udp_session_timeout: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { connect_timeout: connect_timeout(), udp_session_timeout: udp_session_timeout() }
    }
}

impl Terms {
    pub(in crate::delivery) fn write(terms: &model::SessionTerms) -> Self {
        let model::SessionTerms { connect_timeout, udp_session_timeout } = terms;
        Self { connect_timeout: *connect_timeout, udp_session_timeout: *udp_session_timeout }
    }

    pub(in crate::delivery) fn read(&self) -> model::SessionTerms {
        let Self { connect_timeout, udp_session_timeout } = self;
        model::SessionTerms {
            connect_timeout: *connect_timeout,
            udp_session_timeout: *udp_session_timeout,
        }
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
