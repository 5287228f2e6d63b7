use std::thread;

use serde_saphyr::{Error, MessageFormatter, Options, UserMessageFormatter, options::AliasLimits};

use super::{Node, node::position};
use crate::source::{Position, SourceText};

/// Why a document can't be parsed, and where.
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) help: Option<&'static str>,
    pub(crate) position: Position,
    /// The document's text, of which a snippet must not show the values if it is a Secret.
    pub(crate) secret: bool,
}

/// Reads each document of a text on its own, so that one that can't be parsed leaves the others
/// alone. Documents that are empty or hold only comments aren't returned.
pub(crate) fn documents(source: &SourceText) -> Vec<Result<Node, SyntaxError>> {
    let parsed = || -> Vec<_> {
        split(&source.text).iter().filter_map(|chunk| parse(chunk).transpose()).collect()
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

/// One document's text, and how many lines of its file come before it.
struct Chunk<'a> {
    text: &'a str,
    lines_before: usize,
}

/// Splits a text at its document markers, `---` and `...` at the start of a line, which YAML
/// doesn't allow anywhere inside a document (YAML 1.2.2, 9.1.2 "Document Markers").
fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let (mut start, mut offset, mut lines_before) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = after_marker(line) {
            chunks.push(Chunk { text: &text[start..offset], lines_before });
            // What follows `---` on its line belongs to the document.
            start = offset + line.len() - rest.len();
            lines_before = number;
            if rest.trim_start().is_empty() || rest.trim_start().starts_with('#') {
                start = offset + line.len();
                lines_before += 1;
            }
        }
        offset += line.len();
    }
    chunks.push(Chunk { text: &text[start..], lines_before });
    chunks
}

fn after_marker(line: &str) -> Option<&str> {
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
    root.shift(chunk.lines_before);
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
    let message = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is there twice")
        }
        error => {
            format!("this is not valid YAML: {}", UserMessageFormatter.format_message(error))
        }
    };
    let help = help(error, &message, line);
    position.line += chunk.lines_before;
    let secret = chunk.text.lines().any(|line| {
        line.trim_start().trim_start_matches(['"', '\'']).starts_with("kind")
            && line.contains("Secret")
    });
    SyntaxError { message, help, position, secret }
}

fn help(error: &Error, message: &str, line: &str) -> Option<&'static str> {
    if matches!(error, Error::DuplicateMappingKey { .. }) {
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
            .map(|document| document.ok().map(|root| root.to_value()))
            .collect()
    }

    #[test]
    fn a_document_that_cannot_be_parsed_leaves_the_others_alone() {
        let source = SourceText::new("test.yaml", "a: 1\n---\nb: [\n---\nc:\n  d: 2\n");
        let documents = documents(&source);
        assert!(documents[0].is_ok());
        let broken = documents[1].as_ref().err().map(|error| error.position.line);
        assert!(broken.is_some_and(|line| line >= 3));
        let position = documents[2].as_ref().ok().map(|root| root.locate(&Path::parse("c.d")));
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
        assert!(values("").is_empty() && values("---\n---\n# c\n").is_empty());
    }

    #[test]
    fn values_are_what_kubectl_takes_them_for() {
        let text = "[yes, off, 010, 1_000, 1e3, ~, '9000', 2026-01-01, 0x10, null]";
        let expected = json!([true, false, 8, 1000, 1000.0, null, "9000", "2026-01-01", 16, null]);
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
        let root = documents(&source).into_iter().next().and_then(Result::ok).expect("it is valid");
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
