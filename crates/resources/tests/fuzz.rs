//! Any text at all as manifests.

use l4way_fuzz::Target;
use l4way_resources::{ReadOptions, ReadResult, Renderer, SourceText};

/// An object that is valid, wherever it is.
const VALID: &str = "apiVersion: v1
kind: Namespace
metadata: {name: of-the-fuzz-target}
";

fn read(text: &str) -> ReadResult {
    l4way_resources::read(&SourceText::new("fuzz.yaml", text), ReadOptions::default())
}

/// Reading may find fault with a text, says the same each time, can show what it says, and leaves what stands
/// before it alone.
#[test]
fn manifests() {
    Target::new("manifests").seeds("examples").seeds("crates/translate/tests/scenarios").run(
        |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let result = read(text);
            let renderer = Renderer::plain();
            for diagnostic in &result.diagnostics {
                renderer.render(diagnostic);
            }
            for manifest in &result.manifests {
                manifest.place_at("/spec/rules/0/backendRefs/0/port");
            }
            let again = read(text);
            assert_eq!(format!("{:?}", result.diagnostics), format!("{:?}", again.diagnostics));
            assert_eq!(result.manifests.len(), again.manifests.len());

            let behind = read(&format!("{VALID}---\n{text}"));
            let mut names =
                behind.manifests.iter().map(|manifest| manifest.reference().key.name.clone());
            assert!(names.any(|name| &*name == "of-the-fuzz-target"), "{behind:?}");
        },
    );
}
