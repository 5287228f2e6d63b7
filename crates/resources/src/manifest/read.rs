use std::sync::Arc;

use serde_json::Value;

use super::{
    Document, Manifest, PassedOver,
    kind::{Resolved, Schemas, resolve},
    metadata,
};
use crate::{
    AnyObject,
    api::{ObjectKey, ObjectRef},
    diagnostic::{Diagnostic, Mask, Place, Severity},
    path::Path,
    schema::{self, Kind, Problem, Scope, Spot, Version},
    source::SourceText,
    yaml::{Node, SyntaxError, documents},
};

/// Which of the Gateway API's release channels manifests are validated against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// Whichever channel has the kind, version or field. What only the experimental channel has
    /// is a warning.
    #[default]
    Any,
    /// The standard channel only.
    Standard,
    /// The experimental channel only.
    Experimental,
}

impl Channel {
    fn only(self) -> Option<schema::Channel> {
        match self {
            Self::Any => None,
            Self::Standard => Some(schema::Channel::Standard),
            Self::Experimental => Some(schema::Channel::Experimental),
        }
    }
}

/// How to read manifests.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// What to validate against.
    pub channel: Channel,
}

/// What a text holds.
#[derive(Clone, Debug, Default)]
pub struct ReadResult {
    /// The valid objects of the kinds that l4way reads, in the text's order.
    pub manifests: Vec<Manifest>,
    /// What there is to say about the text. An object with an error is not in `manifests`.
    pub diagnostics: Vec<Diagnostic>,
    /// The objects of other kinds.
    pub passed_over: PassedOver,
}

impl ReadResult {
    /// Whether all of the text is valid.
    pub fn is_valid(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads manifests as `kubectl apply --validate=strict` would have an API server do.
///
/// Each document stands for itself: one that is wrong leaves the others alone.
pub fn read(source: &SourceText, options: ReadOptions) -> ReadResult {
    let mut reader = Reader { source, options, result: ReadResult::default() };
    for document in documents(source) {
        match document {
            Ok(root) => reader.document(root, Mask::Nothing),
            Err(error) => reader.syntax_error(error),
        }
    }
    reader.result
}

struct Reader<'a> {
    source: &'a SourceText,
    options: ReadOptions,
    result: ReadResult,
}

impl Reader<'_> {
    fn syntax_error(&mut self, error: SyntaxError) {
        let mask = if error.secret { Mask::Value } else { Mask::Nothing };
        let mut diagnostic = Diagnostic::new(Severity::Error, error.message).at(Place::in_text(
            self.source,
            error.position,
            mask,
        ));
        diagnostic.help = error.help.map(str::to_owned);
        self.result.diagnostics.push(diagnostic);
    }

    /// Reads an object, or each object of a List. In JSON, all of it may be on one line: with a
    /// Secret in it, no line of it is shown.
    fn document(&mut self, root: Node, mask: Mask) {
        let kind = root.get("kind").and_then(Node::as_str).unwrap_or_default();
        let mask = if kind == "Secret" { Mask::Value } else { mask };
        if !kind.ends_with("List") {
            return self.object(root, mask);
        }
        let Some(items) = root.take("items").filter(|items| !items.is_null()) else { return };
        let position = items.position();
        let Some(items) = items.into_items() else {
            let diagnostic =
                Diagnostic::new(Severity::Error, "items: must be a list, as this is a List");
            self.result.diagnostics.push(diagnostic.at(Place::in_text(
                self.source,
                position,
                mask,
            )));
            return;
        };
        let secret = |item: &Node| item.get("kind").and_then(Node::as_str) == Some("Secret");
        let mask = if items.iter().any(secret) { Mask::Value } else { mask };
        items.into_iter().for_each(|item| self.document(item, mask));
    }

    fn object(&mut self, root: Node, mask: Mask) {
        let document = Document { source: self.source.clone(), root: Arc::new(root), mask };
        let mut about = About { document: &document, object: None, diagnostics: Vec::new() };
        let object = self.checked(&mut about);
        let mut diagnostics = about.diagnostics;
        diagnostics.sort_by_key(|said| said.place.as_ref().and_then(|place| place.position));
        let valid = !diagnostics.iter().any(Diagnostic::is_error);
        self.result.diagnostics.append(&mut diagnostics);
        if let Some(object) = object.filter(|_| valid) {
            self.result.manifests.push(Manifest { object, document });
        }
    }

    /// The object, unless it is of a kind that is passed over or so wrong that none can be made.
    fn checked(&mut self, about: &mut About<'_>) -> Option<AnyObject> {
        let root = &about.document.root;
        let (api_version, kind) = identity(root).map_err(|problem| about.error(problem)).ok()?;
        let (known, schemas) = match resolve(api_version, kind, self.options.channel.only()) {
            Resolved::Known { kind, schemas } => (kind, schemas),
            Resolved::Other => {
                self.pass_over(about.document, kind, api_version);
                return None;
            }
            Resolved::Unknown(problem) => {
                about.error(problem);
                return None;
            }
        };
        about.object = reference(known, root);
        let mut value = root.to_value();
        let fields = value.as_object_mut()?;
        // An API server ignores what is applied as status.
        fields.remove("status");
        for problem in metadata::check(known, fields) {
            about.error(problem);
        }
        validate(about, known, schemas, &mut value);
        if about.diagnostics.iter().any(Diagnostic::is_error) {
            return None;
        }
        match AnyObject::from_value(known.name, value) {
            Some(Ok(object)) => Some(object),
            Some(Err(error)) => {
                about.error(Problem::new(Path::default(), format!("can't be used: {error}")));
                None
            }
            None => {
                self.pass_over(about.document, kind, api_version);
                None
            }
        }
    }

    fn pass_over(&mut self, document: &Document, kind: &str, api_version: &str) {
        let place = document.place(&Path::default().field("kind"));
        self.result.passed_over.add(format!("{kind} ({api_version})"), &place, 1);
    }
}

/// The `apiVersion` and `kind` that a document has to have.
fn identity(root: &Node) -> Result<(&str, &str), Problem> {
    if !root.is_mapping() {
        let message = "a manifest is a mapping with apiVersion, kind and metadata";
        let problem = Problem::new(Path::default(), message);
        return Err(match root.as_str() {
            Some(text) if text.contains(':') => {
                problem.with_help("`key: value` needs the space after the colon")
            }
            _ => problem,
        });
    }
    let text = |name: &str| {
        let path = Path::default().field(name);
        match root.get(name).filter(|value| !value.is_null()) {
            None => Err(Problem::new(path, "is required, and missing")),
            Some(value) => match value.as_str() {
                Some(text) if !text.is_empty() => Ok(text),
                _ => Err(Problem::new(path, "must be a text, and not empty")),
            },
        }
    };
    Ok((text("apiVersion")?, text("kind")?))
}

fn reference(kind: &Kind, root: &Node) -> Option<ObjectRef> {
    let metadata = root.get("metadata")?;
    let name = metadata.get("name")?.as_str()?;
    let namespace = match kind.scope {
        Scope::Cluster => "",
        Scope::Namespaced => metadata
            .get("namespace")
            .and_then(Node::as_str)
            .filter(|name| !name.is_empty())
            .unwrap_or("default"),
    };
    Some(ObjectRef::new(kind.name, ObjectKey::new(namespace, name)))
}

/// Checks an object against the channels' schemas and puts the defaults in.
fn validate(about: &mut About<'_>, kind: &Kind, schemas: Schemas, value: &mut Value) {
    let secret = kind.name == "Secret";
    let problems = match (schemas.standard, schemas.experimental) {
        (Some(standard), None) => {
            deprecation(about, kind, standard, true);
            standard.check(value, secret)
        }
        (None, Some(experimental)) => {
            let standard_has_it =
                kind.served(schema::Channel::Standard, &experimental.name).is_some();
            deprecation(about, kind, experimental, standard_has_it);
            experimental.check(value, secret)
        }
        (Some(standard), Some(experimental)) => {
            deprecation(about, kind, standard, true);
            let given = value.clone();
            let problems = standard.check(value, secret);
            if problems.is_empty() {
                return;
            }
            *value = given;
            let remaining = experimental.check(value, secret);
            for problem in problems.into_iter().filter(|_| remaining.is_empty()) {
                about.warning(experimental_only(problem));
            }
            remaining
        }
        (None, None) => return,
    };
    for problem in problems {
        about.error(problem);
    }
}

fn experimental_only(mut problem: Problem) -> Problem {
    problem.message = format!(
        "only the experimental channel of the Gateway API allows this; the standard channel \
         says: {}",
        problem.message
    );
    problem.help = None;
    problem
}

/// Says that a version is read as `v1`, if it isn't that, and who doesn't serve it.
fn deprecation(about: &mut About<'_>, kind: &Kind, version: &Version, standard: bool) {
    if version.name == "v1" || kind.group != crate::GATEWAY_GROUP {
        return;
    }
    let path = Path::default().field("apiVersion");
    let (name, kind_name) = (&version.name, kind.name);
    let problem = |message: String| {
        Problem::new(path, message).with_help(format!("use `{}`", kind.api_version("v1")))
    };
    match (standard, version.deprecated) {
        (false, _) => about.warning(problem(format!(
            "{name} of {kind_name} is deprecated, and only the experimental channel of the Gateway \
             API serves it; it is read as v1"
        ))),
        (true, true) => {
            about
                .warning(problem(format!("{name} of {kind_name} is deprecated; it is read as v1")));
        }
        (true, false) => about.note(problem(format!("{name} of {kind_name} is read as v1"))),
    }
}

/// Collects what there is to say about one object.
struct About<'a> {
    document: &'a Document,
    object: Option<ObjectRef>,
    diagnostics: Vec<Diagnostic>,
}

impl About<'_> {
    fn error(&mut self, problem: Problem) {
        self.add(Severity::Error, problem);
    }

    fn warning(&mut self, problem: Problem) {
        self.add(Severity::Warning, problem);
    }

    fn note(&mut self, problem: Problem) {
        self.add(Severity::Note, problem);
    }

    fn add(&mut self, severity: Severity, problem: Problem) {
        let Problem { path, spot, message, help } = problem;
        let root = &self.document.root;
        let position = match spot {
            Spot::Key => root.locate_key(&path),
            Spot::Value => root.locate(&path),
        };
        let field = Some(path.to_string()).filter(|field| !field.is_empty());
        let message = match &field {
            Some(field) => format!("{field}: {message}"),
            None => message,
        };
        self.diagnostics.push(Diagnostic {
            severity,
            message,
            object: self.object.clone(),
            field,
            place: Some(self.document.place_of(position)),
            help,
            related: Vec::new(),
        });
    }
}
