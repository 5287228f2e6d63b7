use std::{io, path::Path};

use l4way_resources::{Diagnostic, Place, Position, Severity};
use rustix::io::Errno;

use crate::source::name;

/// Why nothing is read from a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What is wrong, to be said after the path's name.
    message: String,
    help: Option<&'static str>,
    /// Where in the file.
    position: Option<Position>,
    pub(crate) kind: RefusalKind,
}

/// When there may be something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// Nothing is there.
    Missing,
    /// When somebody has changed what is there.
    Lasting,
    /// At any time, and without an event that tells.
    Passing,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, position: None, kind }
    }

    pub(crate) fn lasting(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Lasting, message)
    }

    pub(crate) fn with_help(mut self, help: &'static str) -> Self {
        self.help = Some(help);
        self
    }

    pub(crate) fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// The error that tells of it.
    pub(crate) fn diagnostic(&self, path: &Path) -> Diagnostic {
        let place = Place { position: self.position, ..Place::file(name(path)) };
        let diagnostic = Diagnostic::new(Severity::Error, &*self.message).at(place);
        match self.help {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let kind = match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => RefusalKind::Missing,
            Some(Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::NAMETOOLONG) => {
                RefusalKind::Lasting
            }
            // Descriptors or memory have run out, or a server is gone.
            _ => RefusalKind::Passing,
        };
        Self::new(kind, format!("can't be read: {error}"))
    }
}
