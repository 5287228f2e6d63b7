//! Objects as a large installation has them, for what measures l4way with them.
#![forbid(unsafe_code)]

mod objects;
mod pod;

pub use objects::{Object, Size, manifests, objects, snapshot};
pub use pod::Pod;
