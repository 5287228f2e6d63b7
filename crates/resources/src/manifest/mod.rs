//! Manifests: documents that are Kubernetes objects, read and checked.

mod foreign;
mod kind;
mod metadata;
mod passed_over;
mod read;
mod unusable;

use std::sync::Arc;

use crate::{
    AnyObject,
    api::ObjectRef,
    diagnostic::{Diagnostic, Place, Severity, Shown},
    path::Path,
    source::{Position, SourceText},
    yaml::Node,
};

pub use foreign::ForeignPolicy;
pub use passed_over::PassedOver;
pub use read::{Channel, ReadOptions, ReadResult, read};

/// A valid object, and where each of its fields is written.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The object, with the API's defaults.
    pub object: AnyObject,
    document: Document,
}

/// An object's document in its text.
#[derive(Clone, Debug)]
struct Document {
    source: SourceText,
    root: Arc<Node>,
    /// What of its lines may be shown.
    mask: Mask,
}

/// What must not be shown of a document's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mask {
    Nothing,
    /// Its values.
    Values,
    /// Anything: other documents are on them.
    All,
}

impl Mask {
    /// A place of a document in its text, with what of its line may be shown.
    fn place(self, source: &SourceText, root: &Node, position: Position) -> Place {
        let shown = match self {
            Self::Nothing => Shown::Line,
            Self::Values => Shown::Keys(root),
            Self::All => Shown::Nothing,
        };
        Place::in_text(source, position, shown)
    }
}

impl Manifest {
    /// The object's kind, namespace and name.
    pub fn reference(&self) -> ObjectRef {
        self.object.reference()
    }

    /// Where the object as a whole begins.
    pub fn place(&self) -> Place {
        self.document.place_of(self.document.root.position())
    }

    /// Where a field is that a JSON pointer names, such as `/spec/parentRefs/0/sectionName`. If it
    /// isn't written, such as a default, where the innermost thing around it is.
    pub fn place_at(&self, pointer: &str) -> Place {
        self.document.place(&Path::from_pointer(pointer))
    }

    /// A diagnostic about a field that a JSON pointer names, as [`Self::place_at`] finds it.
    pub fn diagnostic(&self, severity: Severity, pointer: &str, message: &str) -> Diagnostic {
        let path = Path::from_pointer(pointer);
        let diagnostic = Diagnostic::new(severity, message)
            .with_object(self.reference())
            .at(self.document.place(&path));
        Diagnostic { field: Some(path.to_string()).filter(|field| !field.is_empty()), ..diagnostic }
    }
}

impl Document {
    fn place(&self, path: &Path) -> Place {
        self.place_of(self.root.locate(path))
    }

    fn place_of(&self, position: Position) -> Place {
        self.mask.place(&self.source, &self.root, position)
    }
}
