//! How many instructions an operation takes, by valgrind's callgrind.

use std::{env, fs, path::Path, process::Command, thread};

use clap::ValueEnum;

use crate::{
    Result,
    operation::{Counted, Operation},
};

/// The instructions of one operation: of twice as many, less those of the first half, so that what
/// happens once doesn't count.
pub(crate) fn count(operation: Operation) -> Result<u64> {
    let times = operation.times();
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| run(operation, times));
        let two = run(operation, 2 * times);
        let one = one.join().unwrap_or_else(|_| Err("the first run panicked".to_owned()));
        (one, two)
    });
    let (one, two) = (one?, two?);
    Ok(two.saturating_sub(one) / times as u64)
}

/// The instructions of a process that does it so many times.
fn run(operation: Operation, times: usize) -> Result<u64> {
    let program = env::current_exe().map_err(|error| format!("where is this program: {error}"))?;
    let directory = tempfile::tempdir().map_err(|error| format!("no place for files: {error}"))?;
    let value = operation.to_possible_value();
    let name = value.as_ref().map(|value| value.get_name()).unwrap_or_default();
    // Ports that are others' on this machine are free there.
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    command.args(["valgrind", "--tool=callgrind", "--separate-threads=yes", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", directory.path().join("out").display()));
    command.arg(program).arg("do").arg(name).arg(times.to_string());
    let output = command.output().map_err(|error| format!("can't run unshare: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{name} under valgrind ended with {}; is valgrind installed (`make setup`)? It says: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    instructions(directory.path(), operation.counted())
}

/// Adds up what callgrind wrote: a file for each thread, by its number.
fn instructions(directory: &Path, counted: Counted) -> Result<u64> {
    let names: &[_] = match counted {
        Counted::Control => &["out-01"],
        Counted::Worker => &["out-02"],
    };
    let of_thread = |name: &&str| {
        let path = directory.join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        total(&text).ok_or_else(|| format!("callgrind's {name} has no total"))
    };
    names.iter().map(of_thread).sum()
}

/// What a file of callgrind's has in total.
fn total(text: &str) -> Option<u64> {
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    totals.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_that_of_the_file() {
        assert_eq!(total("events: Ir\nfn=main\n1 2\ntotals: 123\n"), Some(123));
        assert_eq!(total("events: Ir\n"), None);
    }
}
