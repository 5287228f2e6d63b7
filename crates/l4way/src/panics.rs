//! A panic in any thread ends the process: what the thread did would be done by nobody, or from a state
//! that nobody has thought of. Whoever started the process starts it again.

use std::{
    panic::{self, PanicHookInfo},
    process,
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::logging;

/// How long the process goes on to tell of the panic, whoever reads it or doesn't.
const PATIENCE: Duration = Duration::from_secs(3);

/// Has a panic end the process by SIGABRT, with its message in the log.
pub(crate) fn end_the_process() {
    static IS_ENDING: AtomicBool = AtomicBool::new(false);
    panic::set_hook(Box::new(|panic| {
        if IS_ENDING.swap(true, Relaxed) {
            // There is one that is being told.
            thread::sleep(PATIENCE);
        } else {
            tell(panic);
        }
        process::abort();
    }));
}

/// Tells of a panic in another thread, as this one may hold what that takes.
fn tell(panic: &PanicHookInfo<'_>) {
    let thread = thread::current().name().unwrap_or("without a name").to_owned();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message").to_owned();
    let (telling, told) = mpsc::channel::<()>();
    let tell = move || {
        tracing::error!(thread, place, "a thread has panicked, the process ends: {message}");
        logging::finish();
        drop(telling);
    };
    if thread::Builder::new().name("panic".to_owned()).spawn(tell).is_ok() {
        let _ = told.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{self, Read},
        os::unix::process::ExitStatusExt,
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::cli::{LogArgs, LogFormat};

    /// Tells the process of [`a_thread_panics`] what to do: how much to log before.
    const LINES: &str = "L4WAY_TEST_LINES_BEFORE_PANIC";

    /// A process of its own, which ends by a panic. The test harness runs it, too, and then it does nothing.
    #[test]
    fn a_thread_panics() {
        let Ok(lines) = env::var(LINES) else { return };
        let log = LogArgs { log_level: "info".to_owned(), log_format: LogFormat::Json };
        logging::start(&log).unwrap();
        end_the_process();
        (0..lines.parse().unwrap()).for_each(|line| tracing::info!(line, "said before"));
        let panicking = || panic!("a {} of ours", "thread");
        let _ = thread::Builder::new().name("worker-7".to_owned()).spawn(panicking).unwrap().join();
        unreachable!("the process has ended");
    }

    fn process(lines: u32) -> Child {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "panics::tests::a_thread_panics", "--nocapture"]);
        command.env(LINES, lines.to_string()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn aborted(child: &mut Child) -> bool {
        let status = child.wait().unwrap();
        status.signal() == Some(6)
    }

    #[test]
    fn it_ends_the_process_and_is_told() {
        let mut child = process(0);
        let log = io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(aborted(&mut child), "{log}");
        let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["thread"], "worker-7");
        assert!(line["place"].as_str().unwrap().contains("panics.rs"), "{log}");
        assert!(line["message"].as_str().unwrap().ends_with(": a thread of ours"), "{log}");
    }

    #[test]
    fn it_ends_the_process_though_nobody_reads_the_log() {
        // More than a pipe holds.
        let mut child = process(5_000);
        let mut stderr = child.stderr.take().unwrap();
        assert!(aborted(&mut child));
        let mut byte = [0];
        assert_eq!(stderr.read(&mut byte).unwrap(), 1);
    }
}
