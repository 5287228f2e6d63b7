//! A running l4way, and the manifests it runs from.

use std::{
    fmt::Debug,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::ioctl_fionread,
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use tempfile::TempDir;

use super::manifests::Manifests;

/// How long anything may take before a test gives up. Far more than it needs on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary that is tested.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_l4way");

/// A file or folder of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Waits until `check` gives a value.
pub(crate) fn wait_for<T>(what: impl Debug, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A loopback address that no other test of this run uses.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, 200 + (high & 0x1f), low, n as u8)
}

/// A running `l4way run`, which is ended when it is dropped.
pub(crate) struct L4way {
    child: Child,
    /// Where its admin endpoint is.
    pub(crate) admin: SocketAddr,
    /// Where its admin socket is.
    pub(crate) socket: PathBuf,
    _folder: TempDir,
    log: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
}

impl L4way {
    /// Runs these manifests on `address`, and waits until they are in force.
    pub(crate) fn run(manifests: &Manifests, address: Ipv4Addr, args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("run").arg("-f").arg(manifests.path()).args(args);
        command.args(["--address", &address.to_string(), "--admin-address", "127.0.0.1:0"]);
        let l4way = Self::start(command);
        let none = serde_json::json!([]);
        l4way.wait("the first configuration", |report| {
            report["objects"] != none || report["problems"] != none
        });
        l4way
    }

    /// Starts `command`, which is an `l4way run`, with an admin socket of its own, and waits for its admin
    /// endpoint.
    pub(crate) fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("admin.sock");
        command.arg("--admin-socket").arg(&socket);
        Self::spawn(command, folder, socket)
    }

    /// The same with the admin socket where l4way itself has it.
    pub(crate) fn start_plain(command: Command) -> Self {
        let mut l4way =
            Self::spawn(command, tempfile::tempdir().expect("a folder"), PathBuf::new());
        l4way.socket = wait_for("the admin socket's path", || {
            let log = l4way.log();
            let (_, rest) = log.split_once("admin socket path=")?;
            rest.split_whitespace().next().map(PathBuf::from)
        });
        l4way
    }

    /// The same with the admin socket that `command` names.
    pub(crate) fn start_plain_at(command: Command, socket: PathBuf) -> Self {
        Self::spawn(command, tempfile::tempdir().expect("a folder"), socket)
    }

    fn spawn(mut command: Command, folder: TempDir, socket: PathBuf) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("l4way started");
        let stdout = collect(child.stdout.take().expect("piped"));
        let log = collect(child.stderr.take().expect("piped"));
        let admin = wait_for("the admin endpoint's address", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("l4way has ended ({status}): {}", text(&log));
            }
            let log = text(&log);
            let line = log.lines().find(|line| line.contains("admin endpoint"))?;
            let (_, address) = line.split_once("address=")?;
            address.split_whitespace().next()?.parse().ok()
        });
        Self { child, admin, socket, _folder: folder, log, stdout }
    }

    /// Starts `command`, which is an `l4way run` with its admin endpoint there, and reads nothing of
    /// what it says.
    pub(crate) fn unread(mut command: Command, admin: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("admin.sock");
        command.arg("--admin-socket").arg(&socket);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("l4way started");
        let (log, stdout) = Default::default();
        let l4way = Self { child, admin, socket, _folder: folder, log, stdout };
        wait_for("the admin endpoint", || TcpStream::connect(admin).ok());
        l4way
    }

    /// How many bytes of what an [`unread`](Self::unread) one says wait for a reader: of standard
    /// output, and of standard error.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let output = self.child.stdout.as_ref().expect("piped");
        let error = self.child.stderr.as_ref().expect("piped");
        let waiting = |bytes: rustix::io::Result<u64>| bytes.expect("a pipe");
        (waiting(ioctl_fionread(output)), waiting(ioctl_fionread(error)))
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        text(&self.log)
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gets a page of the admin endpoint: its status code and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(TcpStream::connect(self.admin).expect("the admin endpoint"), path)
    }

    /// Gets a page of the admin socket, as soon as that is there: its status code and body.
    pub(crate) fn get_privately(&self, path: &str) -> (u16, String) {
        let stream = wait_for("the admin socket", || UnixStream::connect(&self.socket).ok());
        get(stream, path)
    }

    /// Its report.
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.get_privately("/status").1).expect("a report")
    }

    /// Waits until its report is as `check` wants it.
    pub(crate) fn wait(&self, what: &str, mut check: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.report();
            if check(&last) {
                return last;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("gave up waiting for {what}: {last:#}\nlog: {}", self.log());
    }

    /// The sum of a metric's samples whose labels hold all of `labels`; 0 if there are none.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.get("/metrics");
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a signal sent");
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("the end of l4way", || self.child.try_wait().expect("a child's state"))
    }

    /// What `l4way status` says of it: its exit code, and what it prints.
    pub(crate) fn status(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(BINARY)
            .args(["status", "--admin-socket"])
            .arg(&self.socket)
            .args(args)
            .output()
            .expect("l4way status");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    }

    /// Its resident memory in bytes (proc_pid_status(5), VmRSS).
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its state");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("KiB");
        kib * 1024
    }
}

impl Drop for L4way {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- l4way's answer\n{}\n--- and log\n{}", self.stdout(), self.log());
        }
    }
}

fn get(mut stream: impl Read + Write, path: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: l4way\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, body.to_owned())
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let into = collected.clone();
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            into.lock().expect("no panic").push_str(&line);
            line.clear();
        }
    });
    collected
}

fn text(collected: &Mutex<String>) -> String {
    collected.lock().expect("no panic").clone()
}
