//! What an l4way proxy runs: listeners, the route each one carries, weighted backends and their
//! endpoints, and what the proxy answers when it has applied them.
//!
//! Plain data, compiled by `translate` from Gateway API objects and read by the data plane. It
//! knows neither Kubernetes nor sockets. [`Config`] changes when somebody edits a manifest;
//! [`EndpointTable`] changes whenever a pod does, so it is kept apart.
#![forbid(unsafe_code)]

mod bind;
mod endpoint;
mod hostname;
mod http;
mod ids;
mod listener;
mod report;
mod route;
mod terms;
mod tls;
mod trusted;

pub use bind::Bind;
pub use endpoint::{
    BackendSource, Endpoint, EndpointAddress, EndpointPlace, EndpointSource, EndpointTable,
    ServicePort, connected_to,
};
pub use hostname::Hostname;
pub use http::{HeaderMatch, HttpListener, HttpPort, HttpRule, PathMatch};
pub use ids::{BackendId, GatewayId, ListenerId, RouteId};
pub use listener::{Config, DuplicateBind, Listener, Parts, Transport};
pub use report::{ApplyReport, BindFailure, BindFailureKind, ListenerReport, PathReport};
pub use route::{RefusedReason, Route, Target, WeightedTarget};
pub use terms::{AtLimit, HttpTerms, SessionTerms};
pub use tls::{
    AlternativeName, Authorities, BackendTls, CipherSuite, ClientValidation, KeyPair, ServerTls,
    TlsListener, TlsMode, TlsOptions, TlsPort, TlsRoute, TlsVersion, UnknownName,
};
pub use trusted::{TrustedProxies, canonical_network};
