//! Runs every scenario in `tests/scenarios`. With `L4WAY_GOLDEN=refresh` in the environment, what
//! comes of each is written into it instead of compared: review the difference.

mod support;

use std::{env, fs, path::PathBuf};

use support::{EXPECT, Scenario};

fn scenarios() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(directory).expect("the scenarios can be listed");
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    paths.sort();
    paths
}

/// The first line that differs, with those before it.
fn difference(expected: &str, actual: &str) -> String {
    let same = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(6);
    let excerpt = |text: &str| -> String {
        text.lines().skip(from).take(12).map(|line| format!("    {line}\n")).collect()
    };
    format!("  expected:\n{}  actual:\n{}", excerpt(expected), excerpt(actual))
}

#[test]
fn every_scenario_comes_out_as_expected() {
    let refresh = env::var("L4WAY_GOLDEN").is_ok_and(|value| value == "refresh");
    let mut differences = Vec::new();
    let paths = scenarios();
    assert!(!paths.is_empty());
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (scenario, expected) = match Scenario::read(&path) {
            Ok(read) => read,
            Err(error) => {
                differences.push(format!("{name}\n  {error}"));
                continue;
            }
        };
        let actual = scenario.run(scenario.objects.clone());
        if actual == expected {
            continue;
        }
        if refresh {
            let text = fs::read_to_string(&path).unwrap();
            let input = text.split_once(EXPECT).map_or(text.as_str(), |(input, _)| input);
            fs::write(&path, format!("{}\n{EXPECT}{actual}", input.trim_end())).unwrap();
        } else {
            differences.push(format!("{name}\n{}", difference(&expected, &actual)));
        }
    }
    assert!(
        differences.is_empty(),
        "{} scenarios come out differently; L4WAY_GOLDEN=refresh takes over what comes out\n{}",
        differences.len(),
        differences.join("\n"),
    );
}

#[test]
fn the_order_of_reading_does_not_matter() {
    for path in scenarios() {
        let (scenario, _) = Scenario::read(&path).unwrap();
        let forwards = scenario.run(scenario.objects.clone());
        let backwards = scenario.run(scenario.objects.iter().rev().cloned());
        assert_eq!(forwards, backwards, "{}", path.display());
    }
}
