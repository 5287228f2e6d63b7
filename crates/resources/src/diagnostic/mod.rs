//! What is wrong with a manifest, where, and what would be right.

mod render;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    api::ObjectRef,
    source::{Position, SourceText},
};

pub use render::Renderer;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works, and might not do what was meant, or might not do it elsewhere.
    Warning,
    /// What it is about isn't used.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Something to say about a place in a manifest. `Display` is one line, without the severity;
/// [`Renderer`] shows it with its snippet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the path of the field where there is one.
    pub message: String,
    /// The object that it is about, if that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// The path of the field, as kubectl writes it: `spec.listeners[0].port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where it is.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Other places that have to do with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
}

/// A place in a text, with the line that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The name of the text: a file's path, or `<stdin>`.
    pub file: Arc<str>,
    /// The line and column.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The line's text. The values of a Secret are masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

/// Another place that a [`Diagnostic`] has to do with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Related {
    /// What is there.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
}

impl Diagnostic {
    /// A diagnostic without a place.
    pub fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self {
            severity,
            message: message.into(),
            object: None,
            field: None,
            place: None,
            help: None,
            related: Vec::new(),
        }
    }

    /// The same, about this object.
    #[must_use]
    pub fn with_object(mut self, object: ObjectRef) -> Self {
        self.object = Some(object);
        self
    }

    /// The same, at this place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same, with what would be right.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, with another place that it has to do with.
    #[must_use]
    pub fn with_related(mut self, message: impl Into<String>, place: Place) -> Self {
        self.related.push(Related { message: message.into(), place });
        self
    }

    /// Whether what it is about isn't used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        for related in &self.related {
            write!(f, "; {}: {}", related.message, related.place)?;
        }
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// A text as a whole.
    pub fn file(name: impl Into<Arc<str>>) -> Self {
        Self { file: name.into(), position: None, snippet: None }
    }

    /// A position in a text, with its line.
    pub(crate) fn in_text(source: &SourceText, position: Position, mask: Mask) -> Self {
        let snippet = source.line(position.line).map(|line| match mask {
            Mask::Nothing => line.to_owned(),
            Mask::Value => masked(line),
        });
        Self { file: source.name.clone(), position: Some(position), snippet }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.position {
            Some(Position { line, column, .. }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// What of a line must not be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    Nothing,
    /// What comes after its first key.
    Value,
}

/// A line of a Secret without what might be secret: only a key that starts it is left.
fn masked(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_/\"'".contains(c);
    let key = line[indent..].find(':').map(|colon| &line[..indent + colon]);
    match key.filter(|key| key[indent..].chars().all(plain)) {
        Some(key) => format!("{key}: ***"),
        None => format!("{}***", &line[..indent]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_leaves_only_a_key() {
        assert_eq!(masked("  tls.key: c2VjcmV0"), "  tls.key: ***");
        assert_eq!(masked("  c2VjcmV0"), "  ***");
        assert_eq!(masked("data: {tls.key: c2VjcmV0}"), "data: ***");
        assert_eq!(masked("{\"a\": \"c2VjcmV0\"}"), "***");
        assert_eq!(masked(""), "***");
    }

    #[test]
    fn one_line_holds_all_that_matters() {
        let source = SourceText::new("a.yaml", "kind: A\n");
        let position = Position { line: 1, column: 7, width: 1 };
        let diagnostic = Diagnostic::new(Severity::Error, "no such kind")
            .at(Place::in_text(&source, position, Mask::Nothing))
            .with_help("it is B");
        assert_eq!(diagnostic.to_string(), "a.yaml:1:7: no such kind (it is B)");
    }
}
