//! The Kubernetes and Gateway API objects that l4way reads, and the status it writes.
//!
//! [`api`] has their shapes, [`Snapshot`] all that are in force at a moment, [`status`] what is
//! said about them.
#![forbid(unsafe_code)]

pub mod api;
mod snapshot;
pub mod status;

pub use snapshot::{AnyObject, Snapshot, Store};

/// The API group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The API group of l4way's own kinds.
pub const L4WAY_GROUP: &str = "l4way.dev";
/// The controllerName of GatewayClasses that are l4way's.
pub const CONTROLLER_NAME: &str = "l4way.dev/gateway-controller";
