//! The documentation says what the program does.

use std::{fs, process::Command};

use super::l4way::{BINARY, project};

/// `docs/commands.md` is the commands' own help. `L4WAY_GOLDEN=refresh` writes it.
#[test]
fn the_commands_are_documented_as_they_are() {
    let mut text = String::from(
        "# Commands\n\nWhat `l4way help` and `l4way COMMAND --help` print. Exit codes: 0 all is well, 1 \
         something is wrong,\n2 the command could not do its work.\n",
    );
    for command in ["", "run", "check", "status", "completions"] {
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
