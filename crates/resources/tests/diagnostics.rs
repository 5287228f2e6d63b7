//! What diagnostics look like: each `diagnostics/*.yaml` is a mistake, the `.txt` beside it what is
//! said about it. `L4WAY_GOLDEN=refresh` writes the latter anew.

use std::{env, fs, path::Path};

use l4way_resources::{ReadOptions, Renderer, SourceText, read};

#[test]
fn diagnostics_look_as_they_should() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut seen = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let source = SourceText::new(name, fs::read_to_string(&path).unwrap());
        let result = read(&source, ReadOptions::default());
        let all = result.diagnostics.into_iter().chain(result.passed_over.diagnostics());
        let rendered = all.map(|said| Renderer::plain().render(&said) + "\n\n");
        let rendered: String = rendered.collect();
        let golden = path.with_extension("txt");
        if env::var("L4WAY_GOLDEN").is_ok_and(|value| value == "refresh") {
            fs::write(&golden, &rendered).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(rendered, expected, "{} differs", golden.display());
        seen += 1;
    }
    assert!(seen > 10, "only {seen} cases found");
}
