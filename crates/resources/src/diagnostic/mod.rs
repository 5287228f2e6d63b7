//! What is wrong with a manifest, where, and what would be right.

mod render;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    api::ObjectRef,
    source::{Position, SourceText},
    yaml::{KeyOnLine, Node},
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
    pub(crate) fn in_text(source: &SourceText, position: Position, shown: Shown<'_>) -> Self {
        let snippet = source.line(position.line).map(|line| match shown {
            Shown::Line => line.to_owned(),
            Shown::Keys(root) => masked(line, position.line, root),
            Shown::Nothing => MASK.to_owned(),
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

/// What of a line may be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shown<'a> {
    Line,
    /// The key that begins it, as this document has it, which may be a Secret.
    Keys(&'a Node),
    Nothing,
}

/// What stands for what isn't shown.
const MASK: &str = "***";

/// The values that every object has, and that tell nothing but which one it is.
const PUBLIC: [&[&str]; 5] =
    [&["apiVersion"], &["kind"], &["type"], &["metadata", "name"], &["metadata", "namespace"]];

/// A line without what might be secret. Made of what the document says, and not of the line's look: a
/// line of a private key may look like a key with its value.
fn masked(line: &str, number: usize, root: &Node) -> String {
    let first = root.keys_on(number).into_iter().min_by_key(|key| key.position.column);
    let indent = |columns: usize| line.chars().take(columns).collect::<String>();
    let first = first.filter(|key| {
        indent(key.position.column - 1).chars().all(|c| c.is_whitespace() || c == '-')
    });
    let Some(KeyOnLine { path, position, value }) = first else {
        let blanks = line.chars().take_while(|c| c.is_whitespace()).count();
        return indent(blanks) + MASK;
    };
    let is_public = PUBLIC.contains(&&*path) && value.position().line == number;
    let value = value.as_str().filter(|_| is_public).unwrap_or(MASK);
    let key = path.last().copied().unwrap_or_default();
    format!("{}{key}: {value}", indent(position.column - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::documents;

    #[test]
    fn masking_leaves_only_keys_and_names() {
        let text = "apiVersion: v1
kind: Secret
metadata:
  name: tls
stringData:
  tls.key: |
    kind: secret
    bTls: c2VjcmV0
  'quoted': c2VjcmV0
  list:
  - name: c2VjcmV0
--- {kind: Secret, data: {a: c2VjcmV0}}
";
        let source = SourceText::new("a.yaml", text);
        let roots: Vec<_> = documents(&source).into_iter().filter_map(|it| it.root.ok()).collect();
        let expected = [
            "apiVersion: v1",
            "kind: Secret",
            "metadata: ***",
            "  name: tls",
            "stringData: ***",
            "  tls.key: ***",
            "    ***",
            "    ***",
            "  quoted: ***",
            "  list: ***",
            "  - name: ***",
            "***",
        ];
        for (number, expected) in (1..).zip(expected) {
            let root = if number < 12 { &roots[0] } else { &roots[1] };
            assert_eq!(masked(source.line(number).unwrap(), number, root), expected);
        }
    }

    #[test]
    fn one_line_holds_all_that_matters() {
        let source = SourceText::new("a.yaml", "kind: A\n");
        let position = Position { line: 1, column: 7, width: 1 };
        let diagnostic = Diagnostic::new(Severity::Error, "no such kind")
            .at(Place::in_text(&source, position, Shown::Line))
            .with_help("it is B");
        assert_eq!(diagnostic.to_string(), "a.yaml:1:7: no such kind (it is B)");
    }
}
