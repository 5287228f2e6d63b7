//! Names of the things a proxy runs. They label counters and records, and tell the objects of two
//! configurations apart; cloning one is a reference count.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! namespaced_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name {
            /// The object's namespace.
            pub namespace: Arc<str>,
            /// The object's name.
            pub name: Arc<str>,
        }

        impl $name {
            /// The object `namespace/name`.
            pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
                Self { namespace: namespace.into(), name: name.into() }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }
    };
}

namespaced_id! {
    /// A Gateway, shown as `namespace/name`.
    GatewayId
}

/// A listener: of a Gateway itself, or of a ListenerSet attached to it. Shown as
/// `namespace/object/name`, which doesn't tell a ListenerSet from a Gateway of its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerId {
    /// The Gateway whose addresses the listener is bound on.
    pub gateway: GatewayId,
    /// The ListenerSet `(namespace, name)` that brings the listener, where the Gateway itself
    /// doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_set: Option<(Arc<str>, Arc<str>)>,
    /// The listener's `name`, unique in its Gateway or ListenerSet.
    pub name: Arc<str>,
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listener_set {
            Some((namespace, name)) => write!(f, "{namespace}/{name}/{}", self.name),
            None => write!(f, "{}/{}", self.gateway, self.name),
        }
    }
}

/// A route, shown as `kind/namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteId {
    /// The kind as the API spells it: `TCPRoute`, `UDPRoute`, …
    pub kind: Arc<str>,
    /// The route's namespace.
    pub namespace: Arc<str>,
    /// The route's name.
    pub name: Arc<str>,
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// One port of a Service or all of a Backend: the key of the [`EndpointTable`].
///
/// [`EndpointTable`]: crate::EndpointTable
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackendId {
    /// `Service` or `Backend`.
    pub kind: Arc<str>,
    /// The object's namespace.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The Service's port; a Backend has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A Service port's number may be used once for TCP and once for UDP.
    pub transport: crate::Transport,
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
