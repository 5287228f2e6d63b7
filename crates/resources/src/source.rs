use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A text with manifests, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// What diagnostics call it: a file's path, or `<stdin>`.
    pub name: Arc<str>,
    /// What it holds: YAML or JSON.
    pub text: Arc<str>,
    /// Where each line begins, as there may be something to say about each of many.
    lines: Arc<[usize]>,
}

impl SourceText {
    /// A text with this name.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { name: name.into(), text, lines }
    }

    /// One line of the text, counted from 1, without its end.
    pub(crate) fn line(&self, number: usize) -> Option<&str> {
        let start = *self.lines.get(number.checked_sub(1)?)?;
        self.text[start..].lines().next()
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

impl Position {
    /// Moves it by as many lines, and on the first line by as many columns, as come before its
    /// document.
    pub(crate) fn shift(&mut self, lines: usize, columns: usize) {
        if self.line == 1 {
            self.column += columns;
        }
        self.line += lines;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(width: &usize) -> bool {
    *width == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_without_its_end() {
        let source = SourceText::new("a.yaml", "one\r\n\nthree");
        let lines: Vec<_> = (0..=4).map(|number| source.line(number)).collect();
        assert_eq!(lines, [None, Some("one"), Some(""), Some("three"), None]);
        assert_eq!(SourceText::new("a.yaml", "one\n").line(2), None);
    }
}
