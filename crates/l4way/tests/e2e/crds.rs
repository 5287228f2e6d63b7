//! The CustomResourceDefinitions, as `l4way crds` prints them and the Helm chart carries them.

use std::{fs, process::Command};

use super::l4way::{BINARY, project};

#[test]
fn the_printed_definitions_are_those_of_the_chart() {
    let output = Command::new(BINARY).arg("crds").output().expect("l4way crds");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");
    let chart = ["backends", "gatewayparameters"].map(|plural| {
        let file = format!("charts/l4way/charts/crds/crds/l4way.dev_{plural}.yaml");
        let definition = fs::read_to_string(project(&file)).expect(&file);
        assert!(definition.contains(&format!("\n  name: {plural}.l4way.dev\n")), "{file}");
        definition
    });
    assert_eq!(printed.split("---\n").collect::<Vec<_>>(), chart, "refresh it: make manifests");
}
