//! Real programs: servers that are stopped when they are dropped, and clients.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::super::l4way::wait_for;

/// How long a server has to stop by itself.
const STOPPING: Duration = Duration::from_secs(20);

/// A user of the machine, for the servers that refuse to run as root.
#[derive(Clone, Copy)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// A user by name (passwd(5)).
    pub(crate) fn named(name: &str) -> Self {
        let users = fs::read_to_string("/etc/passwd").expect("the machine's users");
        let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let of = |text: &str| text.parse().expect("an id");
        let user = fields.find(|fields| fields[0] == name);
        let user = user.unwrap_or_else(|| panic!("no user {name}: `make setup` installs it"));
        Self { uid: of(user[2]), gid: of(user[3]) }
    }

    /// A command of this user.
    pub(crate) fn command(self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.uid(self.uid).gid(self.gid).current_dir("/");
        command
    }

    /// Makes a file or folder this user's.
    pub(crate) fn own(self, path: impl AsRef<Path>) {
        chown(path, Some(self.uid), Some(self.gid)).expect("another owner");
    }
}

/// A running server.
pub(crate) struct Daemon {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Daemon {
    /// Starts a server that keeps its files in `folder`, and waits until it takes connections at
    /// `address`.
    pub(crate) fn start(folder: TempDir, address: SocketAddr, command: &mut Command) -> Self {
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log's second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} is installed by `make setup`: {error}"));
        let mut daemon = Self { child, address, folder };
        wait_for(format!("{command:?}"), || {
            let ended = daemon.child.try_wait().expect("a child's state");
            assert!(ended.is_none(), "{command:?} has ended: {ended:?}");
            TcpStream::connect(address).ok()
        });
        daemon
    }

    /// The address without the port.
    pub(crate) fn ip(&self) -> String {
        self.address.ip().to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + STOPPING;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- the log of {}\n{}", self.address, String::from_utf8_lossy(&log));
        }
    }
}

/// What a client has said, and whether it was content.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Said {
    /// What it printed, of which the end is trimmed; it has to be content.
    #[track_caller]
    pub(crate) fn good(&self) -> String {
        assert!(self.ok, "{}", self.all());
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// All that it printed; it has to be discontent.
    #[track_caller]
    pub(crate) fn bad(&self) -> String {
        assert!(!self.ok, "{}", self.all());
        self.all()
    }

    /// All that it printed.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }
}

/// Runs a client with `input` on its standard input, for a minute at most.
pub(crate) fn client(program: &str, args: &[&str], input: &[u8]) -> Said {
    let mut child = Command::new("timeout")
        .arg("60")
        .arg(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("timeout is on every Debian");
    let mut stdin = child.stdin.take().expect("piped");
    let output = thread::scope(|scope| {
        // One that can't connect is gone before it has read anything.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("a client's output")
    });
    let code = output.status.code();
    assert!(!matches!(code, Some(124 | 127)), "{program} {args:?} hangs or is missing: {output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Said { ok: output.status.success(), stdout: output.stdout, stderr }
}
