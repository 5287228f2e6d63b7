//! The documentation says what the program does.

use std::{fs, process::Command};

use l4way_session::CloseReason;
use serde_json::Value;

use super::l4way::{BINARY, project};

/// `docs/commands.md` is the commands' own help. `L4WAY_GOLDEN=refresh` writes it.
#[test]
fn the_commands_are_documented_as_they_are() {
    let mut text = String::from(
        "# Commands\n\nWhat `l4way help` and `l4way COMMAND --help` print. Exit codes: 0 all is well, 1 \
         something is wrong,\n2 the command could not do its work.\n",
    );
    for command in ["", "run", "controller", "proxy", "check", "status", "crds", "completions"] {
        let output = Command::new(BINARY)
            .args(command.split_whitespace().chain(["--help"]))
            .env("COLUMNS", "100")
            .output()
            .expect("the help");
        let help = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        let title = format!("l4way {command}");
        text += &format!("\n## {}\n```\n{}\n```\n", title.trim(), lines.join("\n"));
    }
    let path = project("docs/commands.md");
    if std::env::var_os("L4WAY_GOLDEN").is_some_and(|golden| golden == "refresh") {
        fs::write(&path, &text).expect("written");
    }
    let documented = fs::read_to_string(&path).expect("docs/commands.md");
    assert_eq!(documented, text, "refresh it with L4WAY_GOLDEN=refresh");
}

/// The paths of the fields of a JSON schema, down to those that hold no fields of their own.
fn fields(schema: &Value, path: &str) -> Vec<String> {
    let properties = schema["properties"].as_object();
    let below = properties.into_iter().flatten().flat_map(|(name, field)| {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let below = fields(field, &path);
        if below.is_empty() { vec![path] } else { below }
    });
    below.collect()
}

/// Those that a document names neither themselves nor by the field that they are in.
fn unnamed(fields: Vec<String>, document: &str) -> Vec<String> {
    let text = fs::read_to_string(project(document)).expect(document);
    let named = |field: &str| text.contains(&format!("`{field}`"));
    let is_unnamed =
        |field: &String| !named(field) && !field.rsplit_once('.').is_some_and(|(of, _)| named(of));
    fields.into_iter().filter(is_unnamed).collect()
}

#[test]
fn the_values_of_the_chart_are_documented() {
    let schema = fs::read_to_string(project("charts/l4way/values.schema.json")).expect("a schema");
    let schema = serde_json::from_str(&schema).expect("JSON");
    // What Helm adds for the charts within the chart.
    let by_helm = |value: &String| value.ends_with("global") || value.starts_with("gateway-api-");
    let values = fields(&schema, "").into_iter().filter(|value| !by_helm(value)).collect();
    assert_eq!(unnamed(values, "docs/kubernetes.md"), Vec::<String>::new());
}

#[test]
fn the_fields_of_gateway_parameters_are_documented() {
    let definition: Value =
        serde_saphyr::from_str(l4way_resources::DEFINITIONS[1]).expect("a definition");
    let version = &definition["spec"]["versions"][0];
    let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let fields = fields(spec, "");
    assert!(fields.len() > 10, "{fields:?}");
    assert_eq!(unnamed(fields, "docs/gateway-parameters.md"), Vec::<String>::new());
}

#[test]
fn every_close_reason_is_documented() {
    let text = fs::read_to_string(project("docs/access-log.md")).expect("docs/access-log.md");
    let is_missing = |reason: &&CloseReason| !text.contains(&format!("\n| `{reason}` | "));
    let missing: Vec<_> = CloseReason::ALL.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "docs/access-log.md has no row for {missing:?}");
}

/// The tests that SECURITY.md names, `FILE::NAME` or a scenario's file, are there, and each promise has one.
#[test]
fn what_security_promises_has_a_test() {
    let text = fs::read_to_string(project("SECURITY.md")).expect("SECURITY.md");
    let (_, promises) = text.split_once("## Which test holds each line").expect("the promises");
    let is_row = |line: &&str| {
        line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| promise |")
    };
    let rows: Vec<_> = promises.lines().filter(is_row).collect();
    assert!(rows.len() > 20, "{rows:#?}");
    for row in rows {
        let tests = row.split('`').skip(1).step_by(2).filter(|name| name.contains('/'));
        let tests: Vec<_> = tests.collect();
        assert!(!tests.is_empty(), "nothing holds this: {row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            let source = fs::read_to_string(project(file));
            let source = source.unwrap_or_else(|error| panic!("SECURITY.md: {file}: {error}"));
            let is_there = name.is_empty() || source.contains(&format!("fn {name}("));
            assert!(is_there, "SECURITY.md: {file} has no test {name}");
        }
    }
}
