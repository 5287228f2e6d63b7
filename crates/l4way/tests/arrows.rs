//! The crates use each other as ARCHITECTURE.md says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The crates that each crate uses, by their names without the prefix `l4way-`.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The table of crates in ARCHITECTURE.md.
fn drawn() -> Arrows {
    let text = fs::read_to_string(Path::new(PROJECT).join("ARCHITECTURE.md")).expect("a document");
    let (_, table) =
        text.split_once("| crate | job | may use |\n|---|---|---|\n").expect("a table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<_>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let all: BTreeSet<String> = rows.iter().flat_map(|row| names(row[1])).collect();
    let arrows = rows.iter().map(|row| {
        let name = row[1].trim_matches('`').to_owned();
        let uses = match row[3] {
            "all" => all.iter().filter(|other| **other != name).cloned().collect(),
            uses => names(uses),
        };
        (name, uses)
    });
    arrows.collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("l4way-").unwrap_or(name).to_owned()
}

/// What the manifests of the crates below `crates/` have, except for tests.
fn real() -> Arrows {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(PROJECT)
        .output()
        .expect("cargo");
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let folder = format!("{}/crates/", text(&metadata["workspace_root"]));
    let crates = packages.iter().filter(|of| text(&of["manifest_path"]).starts_with(&folder));
    let arrows = crates.map(|of| {
        let dependencies = of["dependencies"].as_array().expect("dependencies").iter();
        let names = dependencies.filter(|to| to["kind"] != "dev").map(|to| text(&to["name"]));
        let uses = names.filter(|name| name.starts_with("l4way-")).map(|name| short(&name));
        (short(&text(&of["name"])), uses.collect())
    });
    arrows.collect()
}

/// A new arrow, or one that is gone, is a change of the design: it is drawn, or it isn't made.
#[test]
fn crates_use_what_the_architecture_says() {
    let (drawn, real) = (drawn(), real());
    let names = |arrows: &Arrows| arrows.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&real), names(&drawn), "the table of crates in ARCHITECTURE.md");
    for (name, uses) in real {
        assert_eq!(uses, drawn[&name], "what ARCHITECTURE.md says that `{name}` may use");
    }
}
