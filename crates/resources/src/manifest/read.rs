use std::sync::Arc;

use serde_json::Value;

use super::{
    Document, ForeignPolicy, Manifest, Mask, PassedOver, foreign,
    kind::{Resolved, Schemas, known, meant, resolve},
    metadata, unusable,
};
use crate::{
    AnyObject, Refused,
    api::{ObjectKey, ObjectRef},
    diagnostic::{Diagnostic, Place, Severity, Shown},
    path::Path,
    schema::{self, Kind, Problem, Scope, Spot, Version},
    source::SourceText,
    template,
    yaml::{Node, Parsed, SyntaxError, Words, documents},
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
    /// The objects with an error, as far as they can be told. A document that can't be parsed may be of
    /// several kinds, and is there once for each.
    pub refused: Vec<Arc<Refused>>,
    /// The objects of other kinds.
    pub passed_over: PassedOver,
    /// Those of them that are policies.
    pub foreign_policies: Vec<Arc<ForeignPolicy>>,
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
    for Parsed { root, shares_lines } in documents(source) {
        let mask = if shares_lines { Mask::All } else { Mask::Nothing };
        match root {
            Ok(root) => reader.document(root, mask),
            Err(error) => reader.syntax_error(error, mask),
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
    fn syntax_error(&mut self, error: SyntaxError, mask: Mask) {
        let hidden = mask != Mask::Nothing || error.words.may_be_secret();
        let shown = if hidden { Shown::Nothing } else { Shown::Line };
        let place = Place::in_text(self.source, error.position, shown);
        self.result.refused.extend(unusable::unparsed(&error.words, &place));
        let mut diagnostic = Diagnostic::new(Severity::Error, error.message).at(place);
        diagnostic.help = error.help.map(str::to_owned);
        self.result.diagnostics.push(diagnostic);
    }

    /// Reads an object, or each object of a List.
    fn document(&mut self, root: Node, mask: Mask) {
        let kind = root.get("kind").and_then(Node::as_str).unwrap_or_default();
        match kind.strip_suffix("List") {
            // Without items it is an object of a kind that is called so.
            Some(of) if kind == "List" || root.get("items").is_some() => {
                let of = of.to_owned();
                self.list(root, &of, mask);
            }
            _ if may_be_secret(&root) => self.object(root, mask.max(Mask::Values)),
            _ => self.object(root, mask),
        }
    }

    /// Reads the objects of a List. One of a kind, as an API server answers, has objects that don't say
    /// what they are.
    fn list(&mut self, root: Node, of: &str, mask: Mask) {
        let position = root.position();
        let at_items = root.locate(&Path::default().field("items"));
        let place = mask.max(Mask::Values).place(self.source, &root, at_items);
        let error = |message: &str| Diagnostic::new(Severity::Error, message).at(place.clone());
        let api_version = root.get("apiVersion").and_then(Node::as_str).map(str::to_owned);
        let Some(items) = root.take("items") else {
            self.result.diagnostics.push(error("items: is required in a List, and missing"));
            return;
        };
        if items.is_null() {
            return;
        }
        let Some(mut items) = items.into_items() else {
            self.result.refused.extend(unusable::some_of(of, &place));
            self.result.diagnostics.push(error("items: must be a list, as this is a List"));
            return;
        };
        for item in items.iter_mut().filter(|_| !of.is_empty()) {
            item.put_missing("kind", of, position);
            item.put_missing("apiVersion", api_version.as_deref().unwrap_or_default(), position);
        }
        // In JSON, all may be on one line.
        let hidden =
            items.iter().any(may_be_secret) && !items.iter().all(|it| self.begins_line(it));
        let mask = mask.max(if hidden { Mask::Values } else { Mask::Nothing });
        items.into_iter().for_each(|item| self.document(item, mask));
    }

    /// Whether nothing is before it on its line but the mark of a list's item.
    fn begins_line(&self, root: &Node) -> bool {
        let position = root.position();
        let line = self.source.line(position.line).unwrap_or_default();
        line.chars().take(position.column - 1).all(|c| c.is_whitespace() || c == '-')
    }

    fn object(&mut self, root: Node, mask: Mask) {
        let document = Document { source: self.source.clone(), root: Arc::new(root), mask };
        let mut about =
            About { document: &document, object: None, kinds: Vec::new(), diagnostics: Vec::new() };
        let object = self.checked(&mut about);
        let About { kinds, mut diagnostics, .. } = about;
        diagnostics.sort_by_key(|said| said.place.as_ref().and_then(|place| place.position));
        let valid = !diagnostics.iter().any(Diagnostic::is_error);
        self.result.diagnostics.append(&mut diagnostics);
        if let Some(object) = object.filter(|_| valid) {
            self.result.manifests.push(Manifest { object, document });
        } else if !valid {
            let place = document.place_of(document.root.position());
            let refused =
                kinds.into_iter().map(|kind| unusable::read(kind, &document.root, &place));
            self.result.refused.extend(refused);
        }
    }

    /// The object, unless it is of a kind that is passed over or so wrong that none can be made.
    fn checked(&mut self, about: &mut About<'_>) -> Option<AnyObject> {
        let root = &about.document.root;
        let (api_version, kind) = match identity(root) {
            Ok(identity) => identity,
            Err(problem) => {
                about.kinds = unusable::kinds(root);
                about.error(problem);
                return None;
            }
        };
        let (known, schemas) = match resolve(api_version, kind, self.options.channel.only()) {
            Resolved::Known { kind, schemas } => (kind, schemas),
            Resolved::Other => {
                self.pass_over(about.document, kind, api_version);
                return None;
            }
            Resolved::Unknown(problem) => {
                about.kinds.extend(meant(kind));
                about.error(problem);
                return None;
            }
        };
        about.kinds.push(known);
        about.object = reference(known, root);
        if root.get("sops").is_some_and(Node::is_mapping) {
            about.error(encrypted());
            return None;
        }
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
        match AnyObject::from_value(known.name, &value) {
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
        let policy = foreign::policy(&document.root, api_version, kind, &place);
        self.result.foreign_policies.extend(policy);
    }
}

/// Whether a document may be a Secret: it isn't of a kind that is known and another.
fn may_be_secret(root: &Node) -> bool {
    let text = |name: &str| root.get(name).and_then(Node::as_str);
    let kind = text("apiVersion").zip(text("kind"));
    match kind {
        Some((api_version, kind)) => {
            known(api_version, kind).is_none_or(|known| known.name == "Secret")
        }
        None => {
            root.is_mapping() || root.as_str().is_none_or(|text| Words::of(text).may_be_secret())
        }
    }
}

/// What to say of an object that was encrypted by SOPS, which adds a field of its name.
fn encrypted() -> Problem {
    let message = "SOPS has encrypted this object, and l4way doesn't decrypt";
    Problem::new(Path::default().field("sops"), message)
        .at_key()
        .with_help("decrypt it before l4way reads it, such as by `sops --decrypt FILE`")
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
    /// The kind that it is of, or may be.
    kinds: Vec<&'static Kind>,
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
        let line = self.document.source.line(position.line).unwrap_or_default();
        let help = template::cure(line).map(str::to_owned).or(help);
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
