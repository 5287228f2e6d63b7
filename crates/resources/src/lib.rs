//! The Kubernetes and Gateway API objects that l4way reads, and the status it writes.
//!
//! [`api`] has their shapes, [`read`] makes them from manifests, [`Snapshot`] has all that are in
//! force at a moment, [`status`] what is said about them.
#![forbid(unsafe_code)]

pub mod api;
mod diagnostic;
mod manifest;
mod path;
mod refused;
mod schema;
mod snapshot;
mod source;
pub mod status;
mod suggest;
mod template;
mod yaml;

pub use diagnostic::{Diagnostic, Place, Related, Renderer, Severity};
pub use manifest::{Channel, ForeignPolicy, Manifest, PassedOver, ReadOptions, ReadResult, read};
pub use refused::{Content, Refused};
pub use schema::{DEFINITIONS, GATEWAY_API_VERSION};
pub use snapshot::{AnyObject, Snapshot, Store};
pub use source::{Position, SourceText};
pub use suggest::nearest;

/// The API group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The API group of l4way's own kinds.
pub const L4WAY_GROUP: &str = "l4way.dev";
/// The controllerName of GatewayClasses that are l4way's.
pub const CONTROLLER_NAME: &str = "l4way.dev/gateway-controller";
