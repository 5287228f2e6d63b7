//! YAML and JSON texts with the position of every key and value.

mod document;
mod node;

pub(crate) use document::{SyntaxError, documents};
pub(crate) use node::Node;
