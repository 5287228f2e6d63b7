use std::fmt;

use l4way_model::Transport;
use l4way_resources::api::{RouteKind, TlsMode};

/// A listener's protocol, of those that the API defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Tls(TlsMode),
    Http,
    Https,
}

impl Protocol {
    /// The protocols as the API spells them.
    pub(crate) const NAMES: [&str; 5] = ["TCP", "UDP", "TLS", "HTTP", "HTTPS"];

    /// The protocol of this name, if the API knows it.
    pub(crate) fn parse(name: &str, mode: TlsMode) -> Option<Self> {
        Some(match name {
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            "TLS" => Self::Tls(mode),
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            _ => return None,
        })
    }

    /// The kinds of route that fit.
    pub(crate) fn route_kinds(self) -> &'static [RouteKind] {
        match self {
            Self::Tcp => &[RouteKind::Tcp],
            Self::Udp => &[RouteKind::Udp],
            Self::Tls(TlsMode::Passthrough) => &[RouteKind::Tls],
            Self::Tls(TlsMode::Terminate) => &[RouteKind::Tls, RouteKind::Tcp],
            Self::Http | Self::Https => &[RouteKind::Http],
        }
    }

    /// What it is carried on.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Tcp | Self::Tls(_) | Self::Http | Self::Https => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }

    /// Whether clients begin with a TLS handshake, which tells listeners on a port apart.
    pub(crate) fn begins_with_tls(self) -> bool {
        matches!(self, Self::Tls(_) | Self::Https)
    }

    /// Whether the Gateway ends the TLS session and needs a certificate for it.
    pub(crate) fn terminates_tls(self) -> bool {
        matches!(self, Self::Tls(TlsMode::Terminate) | Self::Https)
    }
}

/// A transport as Services and EndpointSlices spell it.
pub(crate) fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Tls(_) => "TLS",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        })
    }
}
