//! Validation as an API server does it with a kind's CustomResourceDefinition: structural schema,
//! defaults, list keys, unknown fields, then CEL rules.

mod catalog;
mod check;
mod explain;
mod mapped;
mod message;
mod value;

pub(crate) use catalog::{Channel, Kind, Scope, Version};
pub use catalog::{DEFINITIONS, GATEWAY_API_VERSION};
pub(crate) use check::{Problem, Spot};
