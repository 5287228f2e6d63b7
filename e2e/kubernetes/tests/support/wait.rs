use std::{
    fmt::Display,
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test gives up. Far more than it needs on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `check` gives a value. What it gives instead says what there is.
pub(crate) fn wait_for<T, E: Display>(
    what: impl Display,
    mut check: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match check() {
            Ok(value) => return value,
            Err(instead) if Instant::now() >= deadline => {
                panic!("gave up waiting for {what}; there is: {instead}")
            }
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Tells what was measured, also when the test succeeds.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "measured: {text}");
}
