use std::ops::Range;

use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer as Painter, Snippet, normalize_untrusted_str,
};

use super::{Diagnostic, Place, Severity};
use crate::source::Position;

/// Shows diagnostics as rustc does, with the line that they are about.
#[derive(Clone, Debug)]
pub struct Renderer(Painter);

impl Renderer {
    /// Without colours.
    pub fn plain() -> Self {
        Self(Painter::plain())
    }

    /// With colours, as ANSI escape sequences.
    pub fn coloured() -> Self {
        Self(Painter::styled())
    }

    /// A diagnostic as several lines; the last has no end.
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Note => Level::NOTE,
            Severity::Warning => Level::WARNING,
            Severity::Error => Level::ERROR,
        };
        let title = level.primary_title(normalize_untrusted_str(&diagnostic.message));
        let title = Group::with_title(title);
        let object = diagnostic.object.as_ref().map(ToString::to_string);
        let label = object.as_ref().map(|object| format!("in {object}"));
        let mut groups = vec![match (&diagnostic.place, &object) {
            // An object out of a cluster is its own place.
            (None, Some(object)) => title.element(Origin::path(object.as_str())),
            (place, _) => show(title, place.as_ref(), label.as_deref()),
        }];
        for related in &diagnostic.related {
            let title = Level::NOTE.secondary_title(normalize_untrusted_str(&related.message));
            groups.push(show(Group::with_title(title), Some(&related.place), None));
        }
        if let Some(help) = &diagnostic.help
            && let Some(last) = groups.pop()
        {
            groups.push(last.element(Level::HELP.message(normalize_untrusted_str(help))));
        }
        self.0.render(&groups)
    }
}

/// Adds a place to a group, with its line if it has one, and a label behind what is underlined.
fn show<'a>(group: Group<'a>, place: Option<&'a Place>, label: Option<&'a str>) -> Group<'a> {
    let Some(place) = place else { return group };
    let file: &str = &place.file;
    match (&place.position, &place.snippet) {
        (Some(position), Some(line)) => {
            let underline = AnnotationKind::Primary.span(underlined(line, position)).label(label);
            let snippet = Snippet::source(line.as_str()).path(file).line_start(position.line);
            group.element(snippet.annotation(underline))
        }
        (Some(position), None) => {
            group.element(Origin::path(file).line(position.line).char_column(position.column))
        }
        (None, _) => group.element(Origin::path(file)),
    }
}

/// The bytes of a line to underline: what the position means, or all from there on.
fn underlined(line: &str, position: &Position) -> Range<usize> {
    let byte = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let start = byte(position.column.saturating_sub(1));
    let end = match position.width {
        0 => line.len(),
        width => byte((position.column.saturating_sub(1)).saturating_add(width)),
    };
    start..start + line[start..end].trim_end().len()
}
