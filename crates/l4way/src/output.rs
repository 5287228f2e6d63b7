//! What a command answers, on standard output.

use std::io::{self, IsTerminal, Write};

use l4way_resources::Renderer;
use serde::Serialize;

/// Prints a text. A reader that has gone away, such as `head`, is no error.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).map_or_else(|error| error.to_string(), |text| text + "\n")
}

/// A value as YAML.
pub(crate) fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|error| error.to_string())
}

/// Renders diagnostics, in colour where standard output is a terminal that doesn't say
/// [NO_COLOR](https://no-color.org).
pub(crate) fn renderer() -> Renderer {
    if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        Renderer::coloured()
    } else {
        Renderer::plain()
    }
}
