use std::thread;

use serde::de::IgnoredAny;
use serde_saphyr::{Error, MessageFormatter, Options, UserMessageFormatter, options::AliasLimits};

use super::{
    Node, Words,
    node::{self, position},
};
use crate::{
    source::{Position, SourceText},
    template,
};

/// A document that can't be parsed.
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) help: Option<&'static str>,
    pub(crate) position: Position,
    /// What can be told of the document without its structure.
    pub(crate) words: Words,
}

/// A document of a text.
pub(crate) struct Parsed {
    pub(crate) root: Result<Node, SyntaxError>,
    /// Whether others may be on its lines.
    pub(crate) shares_lines: bool,
}

/// Reads each document of a text on its own, so that one that can't be parsed leaves the others
/// alone. Documents that are empty or hold only comments aren't returned.
pub(crate) fn documents(source: &SourceText) -> Vec<Parsed> {
    let parsed = || -> Vec<_> {
        let chunks = split(&source.text).into_iter().flat_map(Chunk::values);
        node::with_budget(&source.text, || {
            let parsed = chunks.filter_map(|chunk| {
                let shares_lines = chunk.shares_lines;
                parse(&chunk).transpose().map(|root| Parsed { root, shares_lines })
            });
            parsed.collect()
        })
    };
    thread::scope(|scope| {
        let parser = thread::Builder::new().name("yaml".to_owned()).stack_size(PARSER_STACK);
        match parser.spawn_scoped(scope, parsed) {
            Ok(parser) => parser.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => parsed(),
        }
    })
}

/// Parsing recurses, and the 64 levels that serde-saphyr allows need some 2 MiB of stack in an
/// unoptimised build, which is all that a thread usually has.
const PARSER_STACK: usize = 16 << 20;

/// One document's text, and where it begins in its file.
struct Chunk<'a> {
    text: &'a str,
    lines_before: usize,
    /// How many characters come before it on its first line.
    columns_before: usize,
    /// Whether other values of a stream may be on its lines.
    shares_lines: bool,
}

impl<'a> Chunk<'a> {
    /// The JSON values of a stream of them, which kubectl takes for documents of their own. Anything
    /// else is one document, and so is what comes behind the last value that can be parsed.
    fn values(self) -> Vec<Self> {
        if !self.text.trim_start().starts_with('{') {
            return vec![self];
        }
        let mut values = Vec::new();
        let mut start = 0;
        let mut stream = serde_json::Deserializer::from_str(self.text).into_iter::<IgnoredAny>();
        while let Some(Ok(_)) = stream.next() {
            let end = stream.byte_offset();
            values.push(self.part(start, end));
            start = end;
        }
        if values.is_empty() {
            return vec![self];
        }
        if !self.text[start..].trim().is_empty() {
            values.push(self.part(start, self.text.len()));
        }
        values
    }

    fn part(&self, start: usize, end: usize) -> Self {
        let before = &self.text[..start];
        let lines = before.matches('\n').count();
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        let first_columns = if lines == 0 { self.columns_before } else { 0 };
        let text = &self.text[start..end];
        let begins_a_line = start == 0 || text.trim_start_matches(' ').starts_with(['\r', '\n']);
        let behind = self.text[end..].trim_start_matches(' ');
        let ends_a_line = behind.is_empty() || behind.starts_with(['\r', '\n']);
        Self {
            text,
            lines_before: self.lines_before + lines,
            columns_before: first_columns + last_line.chars().count(),
            shares_lines: !(begins_a_line && ends_a_line),
        }
    }
}

/// Splits a text at its document markers, `---` and `...` at the start of a line, which YAML
/// doesn't allow anywhere inside a document (YAML 1.2.2, 9.1.2 "Document Markers").
fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut chunk = Chunk { text, lines_before: 0, columns_before: 0, shares_lines: false };
    let (mut start, mut offset) = (0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = after_marker(line) {
            chunks.push(Chunk { text: &text[start..offset], ..chunk });
            let is_empty = rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
            // What follows `---` on its line belongs to the document.
            let marker = if is_empty { line.len() } else { line.len() - rest.len() };
            start = offset + marker;
            chunk = match is_empty {
                true => Chunk { lines_before: number + 1, columns_before: 0, ..chunk },
                false => Chunk { lines_before: number, columns_before: marker, ..chunk },
            };
        }
        offset += line.len();
    }
    chunks.push(Chunk { text: &text[start..], ..chunk });
    chunks
}

fn after_marker(line: &str) -> Option<&str> {
    // Files that were put together each bring their byte order mark (YAML 1.2.2, 9.1.1).
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."))?;
    rest.is_empty()
        .then_some(rest)
        .or_else(|| rest.starts_with(char::is_whitespace).then_some(rest))
}

fn parse(chunk: &Chunk<'_>) -> Result<Option<Node>, SyntaxError> {
    // Directives such as `%YAML 1.2` come before a document's `---`.
    let nothing = |line: &str| matches!(line.trim_start().chars().next(), None | Some('#' | '%'));
    if chunk.text.lines().all(nothing) {
        return Ok(None);
    }
    let mut root: Node = serde_saphyr::from_str_with_options(chunk.text, options())
        .map_err(|error| syntax_error(&error, chunk))?;
    root.shift(chunk.lines_before, chunk.columns_before);
    Ok(Some(root))
}

fn options() -> Options {
    let mut aliases = AliasLimits::default();
    // No manifest needs more, and each is a value in memory.
    aliases.max_total_replayed_events = 100_000;
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        alias_limits: aliases,
        with_snippet: false,
    }
}

fn syntax_error(error: &Error, chunk: &Chunk<'_>) -> SyntaxError {
    let error = error.without_snippet();
    let mut position = error.location().map_or(Position { line: 1, column: 1, width: 0 }, position);
    let line = chunk.text.lines().nth(position.line - 1).unwrap_or_default();
    let words = Words::of(chunk.text);
    let formatted = UserMessageFormatter.format_message(error);
    let message = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is there twice")
        }
        // What the parser says may quote the document.
        _ if words.may_be_secret() && words.are_in(&formatted) => {
            "this is not valid YAML".to_owned()
        }
        _ => format!("this is not valid YAML: {formatted}"),
    };
    let help = help(error, &message, line);
    position.shift(chunk.lines_before, chunk.columns_before);
    SyntaxError { message, help, position, words }
}

fn help(error: &Error, message: &str, line: &str) -> Option<&'static str> {
    if let Some(cure) = template::cure(line) {
        Some(cure)
    } else if matches!(error, Error::DuplicateMappingKey { .. }) {
        Some("remove one of them; a new item of a list starts with `- `")
    } else if message.contains("tab") && line.trim_start_matches(' ').starts_with('\t') {
        Some("indent with spaces: YAML doesn't allow tabs there")
    } else if ["block", "not allowed", "indent", "simple key"].iter().any(|it| message.contains(it))
    {
        Some("check the indentation: the keys of one mapping start in the same column")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::path::Path;

    fn values(text: &str) -> Vec<Option<Value>> {
        let source = SourceText::new("test.yaml", text);
        documents(&source)
            .into_iter()
            .map(|document| document.root.ok().map(|root| root.to_value()))
            .collect()
    }

    fn roots(source: &SourceText) -> Vec<Node> {
        documents(source).into_iter().filter_map(|document| document.root.ok()).collect()
    }

    #[test]
    fn a_document_that_cannot_be_parsed_leaves_the_others_alone() {
        let source = SourceText::new("test.yaml", "a: 1\n---\nb: [\n---\nc:\n  d: 2\n");
        let documents = documents(&source);
        assert!(documents[0].root.is_ok());
        let broken = documents[1].root.as_ref().err().map(|error| error.position.line);
        assert!(broken.is_some_and(|line| line >= 3));
        let position = documents[2].root.as_ref().ok().map(|root| root.locate(&Path::parse("c.d")));
        assert_eq!(position, Some(Position { line: 6, column: 6, width: 1 }));
    }

    #[test]
    fn documents_are_split_at_markers_only() {
        assert_eq!(values("\u{feff}a: 1\r\n---\r\nb: 2\r\n").len(), 2);
        assert_eq!(values("%YAML 1.2\n--- # comment\na: 1\n...\n---\n# nothing\n").len(), 1);
        assert_eq!(
            values("--- {a: 1}\n--- {a: 2}"),
            [Some(json!({"a": 1})), Some(json!({"a": 2}))]
        );
        let block = values("a: |\n  ---\n  text\nb: ---x\n");
        assert_eq!(block, [Some(json!({"a": "---\ntext\n", "b": "---x"}))]);
        assert_eq!(values("a: 1\n\u{feff}---\n\u{feff}b: 2\n").iter().flatten().count(), 2);
        assert!(values("").is_empty() && values("---\n---\n# c\n").is_empty());
    }

    #[test]
    fn values_of_json_may_follow_each_other() {
        let source = SourceText::new("a.json", "{\"a\": 1}\n{\"b\": {\"c\": 2}} {\"d\": 3}\n");
        let roots = roots(&source);
        assert_eq!(roots.len(), 3);
        let at = |root: &Node, path: &str| {
            let position = root.locate(&Path::parse(path));
            (position.line, position.column)
        };
        assert_eq!(at(&roots[1], "b.c"), (2, 13));
        assert_eq!(at(&roots[2], "d"), (2, 23));
        // What comes behind the last whole one is a document that can't be parsed.
        let broken = documents(&SourceText::new("a.json", "{\"a\": 1}\n{\"b\": }}\n"));
        assert!(broken[0].root.is_ok());
        assert_eq!(broken[1].root.as_ref().err().map(|error| error.position.line), Some(2));
        assert_eq!(values("{a: 1, b: [2]}"), [Some(json!({"a": 1, "b": [2]}))]);
        assert_eq!(values("{\"a\": 1}\n# c\n---\nb: 2\n").len(), 2);
    }

    #[test]
    fn what_follows_a_marker_on_its_line_is_where_it_is() {
        let source = SourceText::new("a.yaml", "--- {a: 1}\n--- {b: 22}\n");
        let roots = roots(&source);
        let at = roots[1].locate(&Path::parse("b"));
        assert_eq!(at, Position { line: 2, column: 9, width: 2 });
    }

    #[test]
    fn a_files_aliases_have_one_budget() {
        let text = "x".repeat(100_000);
        let document = |aliases: usize| {
            let aliases = "*a, ".repeat(aliases);
            format!("text: &a {text}\nlist: [{aliases}]\n---\n")
        };
        assert_eq!(values(&document(20)).iter().flatten().count(), 1);
        let many = values(&document(20).repeat(100));
        assert_eq!(many.len(), 100);
        let taken = many.iter().flatten().count();
        assert!((1..100).contains(&taken), "{taken} of 100");
        assert_eq!(values(&document(90_000)), [None]);
    }

    #[test]
    fn values_are_what_kubectl_takes_them_for() {
        let text = "[yes, off, 010, 1_000, 1e3, ~, '9000', 2026-01-01, 0x10, null]";
        let expected = json!([true, false, 8, 1000, 1000, null, "9000", "2026-01-01", 16, null]);
        assert_eq!(values(text), [Some(expected)]);
        let merged = values("base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n");
        assert_eq!(merged, [Some(json!({"base": {"a": 1, "b": 2}, "more": {"a": 1, "b": 3}}))]);
        assert_eq!(values("{\n\t\"a\": [\n\t\t1\n\t]\n}"), [Some(json!({"a": [1]}))]);
    }

    #[test]
    fn hostile_documents_are_errors() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{before}]\n");
        }
        assert_eq!(values(&bomb), [None]);
        assert_eq!(values(&"[".repeat(100_000)), [None]);
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(values(&nested(64))[0].is_some() && values(&nested(65))[0].is_none());
        let deep: String = (0..1_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
        assert_eq!(values(&deep), [None]);
        assert_eq!(values("a: 1\na: 2\n"), [None]);
        assert_eq!(values("a: .inf"), [None]);
    }

    #[test]
    fn what_is_not_there_is_located_where_it_should_be() {
        let source = SourceText::new("test.yaml", "spec:\n  listeners:\n  - name: a\n  nothing:\n");
        let root = roots(&source).remove(0);
        let line_and_column = |path: &str| {
            let position = root.locate(&Path::parse(path));
            (position.line, position.column)
        };
        assert_eq!(line_and_column("spec.listeners[0].name"), (3, 11));
        assert_eq!(line_and_column("spec.listeners[0].port"), (3, 5));
        assert_eq!(line_and_column("spec.listeners[1].port"), (2, 3));
        assert_eq!(line_and_column("spec.nothing.port"), (4, 3));
        assert_eq!(line_and_column("status"), (1, 1));
        let key = root.locate_key(&Path::parse("spec.listeners[0].name"));
        assert_eq!((key.line, key.column, key.width), (3, 5, 4));
    }
}
