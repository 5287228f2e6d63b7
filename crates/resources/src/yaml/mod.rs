//! YAML and JSON texts with the position of every key and value.

mod document;
mod node;
mod words;

pub(crate) use document::{Parsed, SyntaxError, documents};
pub(crate) use node::{KeyOnLine, Node};
pub(crate) use words::Words;
