use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

/// Runs a command with this on its standard input.
pub(super) fn run(program: &str, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make e2e` installs it"));
    // One that is refused at once, or can't connect, is gone before it has read anything.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("its output")
}

/// Runs lines of a text as its reader does, and returns what they print.
pub(crate) fn shell(lines: &str) -> String {
    let output = run("sh", &["-c", lines], "");
    String::from_utf8(output.stdout).expect("text")
}
