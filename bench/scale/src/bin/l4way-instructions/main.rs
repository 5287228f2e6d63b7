//! `make instructions`: how many instructions the hot paths take, against their budgets.
//!
//! Instructions are the same on a noisy machine as on a quiet one, nearly, so a path that has become
//! slower is seen before it is merged. Sessions are those of a real proxy, through real sockets.

mod carried;
mod count;
mod operation;

use std::{
    io::{self, Write},
    num::NonZeroUsize,
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::operation::Operation;

/// What went wrong, for a person.
type Result<T> = std::result::Result<T, String>;

/// Counts the instructions of the hot paths. Needs root, for network namespaces, and valgrind.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// What is counted
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Operation::value_variants().to_vec())]
    operations: Vec<Operation>,
    /// How often; the median counts
    #[arg(long, default_value = "1")]
    runs: NonZeroUsize,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Does something so many times: what valgrind is to count
    Do { operation: Operation, times: usize },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.part {
        Some(Part::Do { operation, times }) => operation.run(times).map(|()| true),
        None => check(&args.operations, args.runs.get()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "can't count: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts, and says what it finds. Whether everything is as it should be.
fn check(operations: &[Operation], runs: usize) -> Result<bool> {
    say(&format!("{:<16} {:>12} {:>12} {:>9}", "instructions of", "median", "budget", "spread"));
    let mut good = true;
    for &operation in operations {
        let mut counts = (0..runs).map(|_| count::count(operation)).collect::<Result<Vec<_>>>()?;
        counts.sort_unstable();
        let (least, median, most) = (counts[0], counts[runs / 2], counts[runs - 1]);
        let spread = (most - least) as f64 / median.max(1) as f64 * 100.0;
        let value = operation.to_possible_value();
        let name = value.as_ref().map(|value| value.get_name()).unwrap_or_default();
        let budget = operation.budget();
        say(&format!("{name:<16} {median:>12} {budget:>12} {spread:>8.2}%"));
        if let Some(verdict) = verdict(median, budget) {
            good = false;
            say(&format!("{name}: {verdict}"));
        }
    }
    Ok(good)
}

/// What is to be done about a count, if something is.
fn verdict(count: u64, budget: u64) -> Option<String> {
    if count > budget {
        Some(format!(
            "{count} instructions are more than its budget of {budget}: make it faster again, or say \
             in the commit why it has to be slower, and raise the budget in operation.rs"
        ))
    } else if count < budget / 10 * 8 {
        Some(format!(
            "{count} instructions are far less than its budget of {budget}: well done; set the budget \
             in operation.rs to {}, so that it stays so",
            count + count / 10
        ))
    } else {
        None
    }
}

/// Tells what was found.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_has_to_be_near_its_budget() {
        assert!(verdict(1_001, 1_000).is_some_and(|text| text.contains("1001")));
        assert_eq!(verdict(1_000, 1_000), None);
        assert_eq!(verdict(800, 1_000), None);
        assert!(verdict(700, 1_000).is_some_and(|text| text.contains("to 770")));
    }
}
