//! Any text at all as manifests: reading it may find fault with it, and must not panic.
#![no_main]

use l4way_resources::{ReadOptions, Renderer, SourceText, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let result = read(&SourceText::new("fuzz.yaml", text), ReadOptions::default());
    let renderer = Renderer::plain();
    for diagnostic in &result.diagnostics {
        renderer.render(diagnostic);
    }
});
