use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A text with manifests, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// What diagnostics call it: a file's path, or `<stdin>`.
    pub name: Arc<str>,
    /// What it holds: YAML or JSON.
    pub text: Arc<str>,
}

impl SourceText {
    /// A text with this name.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// One line of the text, counted from 1, without its end.
    pub(crate) fn line(&self, number: usize) -> Option<&str> {
        self.text.lines().nth(number.checked_sub(1)?)
    }
}

/// A place in a [`SourceText`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters, counted from 1.
    pub column: usize,
    /// How many characters are meant; 0 if it isn't known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub width: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(width: &usize) -> bool {
    *width == 0
}
