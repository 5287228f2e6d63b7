//! What is put in the way among manifests, by mistake or on purpose.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::AsRawFd, unix::fs::symlink, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Signal,
};

use super::{
    client::{ask, echo_server},
    l4way::{BINARY, L4way, own_address, wait_for},
    manifests::{Manifests, backend, gateway, route},
};

/// A TCP listener on `port`, and a route to a Backend.
fn serving(port: u16, endpoint: SocketAddr) -> Vec<String> {
    vec![gateway(&[("tcp", "TCP", port)]), route("TCPRoute", &[("a", 1)]), backend("a", endpoint)]
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
}

/// A file system in user space of which the server never answers: who asks for anything in it waits
/// until it is dropped (fuse(4): the kernel waits for the answer to FUSE_INIT).
struct SilentFileSystem {
    root: PathBuf,
    server: Option<File>,
}

impl SilentFileSystem {
    /// # Panics
    /// If it can't be mounted, which takes root: a test that needs it has not passed.
    fn mount(root: PathBuf) -> Self {
        fs::create_dir(&root).expect("a folder");
        let server = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = CString::new(options).expect("no NUL");
        mount("fuse", &root, "fuse", MountFlags::empty(), Some(&*options)).expect("a mount");
        Self { root, server: Some(server) }
    }
}

impl Drop for SilentFileSystem {
    fn drop(&mut self) {
        // Who waits gets an error now, and the folder may be left.
        drop(self.server.take());
        let _ = unmount(&self.root, UnmountFlags::DETACH);
    }
}

#[test]
fn what_cannot_be_read_is_named_by_check() {
    let address = own_address();
    let manifests = Manifests::of(&serving(9000, (address, 1).into()));
    let at = |name: &str| manifests.path().join(name);
    fifo(&at("fifo.yaml"));
    symlink("/dev/zero", at("zero.yaml")).expect("a link");
    symlink("loop.yaml", at("loop.yaml")).expect("a link");
    symlink(manifests.path(), at("again")).expect("a link");
    let _socket = UnixListener::bind(at("socket.yaml")).expect("a socket");
    File::create(at("huge.yaml")).expect("a file").set_len(1 << 30).expect("a size");
    fs::write(at("utf-16.yaml"), b"\xff\xfea\0:\0").expect("a file");
    fs::write(at("latin-1.yaml"), b"# caf\xe9\n").expect("a file");
    let output = check(&[manifests.path()], Stdio::null()).wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).expect("text");
    for named in [
        "fifo.yaml",
        "zero.yaml",
        "loop.yaml",
        "socket.yaml",
        "huge.yaml",
        "utf-16.yaml",
        "latin-1.yaml:1:6",
        "7 errors",
    ] {
        assert!(out.contains(named), "no {named} in\n{out}");
    }
}

#[test]
fn nothing_in_a_directory_stops_the_loop() {
    let address = own_address();
    let endpoint = echo_server(address);
    let manifests = Manifests::of(&serving(9000, endpoint));
    let at = |name: &str| manifests.path().join(name);
    let mut l4way = L4way::run(&manifests, address, &["--drain-timeout", "1"]);
    answers(address, 9000);

    fifo(&at("fifo.yaml"));
    is_named(&l4way, "fifo.yaml");
    symlink("/dev/zero", at("zero.yaml")).expect("a link");
    is_named(&l4way, "zero.yaml");
    manifests.write_all(&serving(9100, endpoint));
    answers(address, 9100);
    for name in ["fifo.yaml", "zero.yaml"] {
        manifests.remove(name);
    }
    l4way.wait("no error", |report| report["problems"].as_array().is_some_and(Vec::is_empty));

    l4way.signal(Signal::TERM);
    assert!(l4way.ended().success());
}

#[test]
fn a_file_system_that_does_not_answer_stops_neither_files_nor_signals() {
    let address = own_address();
    let endpoint = echo_server(address);
    let manifests = Manifests::of(&serving(9000, endpoint));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let silent = SilentFileSystem::mount(elsewhere.path().join("silent"));
    let inside = SilentFileSystem::mount(manifests.path().join("inside"));
    symlink(silent.root.join("b.yaml"), manifests.path().join("link.yaml")).expect("a link");

    // It comes up, although one of its paths is there, too.
    let mut command = Command::new(BINARY);
    command.args(["run", "--drain-timeout", "1", "--address", &address.to_string()]);
    command.args(["--admin-address", "127.0.0.1:0", "-f"]).arg(manifests.path());
    command.arg("-f").arg(&silent.root);
    let mut l4way = L4way::start(command);
    answers(address, 9000);
    for named in ["inside: can't be read", "link.yaml: can't be read", "silent: can't be read"] {
        is_named(&l4way, named);
    }
    // Files are followed meanwhile, whether they come late or not.
    manifests.write_all(&serving(9100, endpoint));
    answers(address, 9100);
    l4way.signal(Signal::HUP);
    manifests.write_all(&serving(9200, endpoint));
    answers(address, 9200);

    // What answers at last is taken up.
    drop(inside);
    fs::write(manifests.path().join("inside/late.yaml"), "kind: [").expect("a file");
    is_named(&l4way, "inside/late.yaml: this is not valid YAML");

    l4way.signal(Signal::TERM);
    assert!(l4way.ended().success());
    let output = check(&[manifests.path()], Stdio::null()).wait_with_output().expect("its output");
    assert!(String::from_utf8_lossy(&output.stdout).contains("link.yaml"));
}

#[test]
fn what_is_named_itself_may_be_a_stream() {
    let address = own_address();
    let text = serving(9000, (address, 1).into()).join("---\n");
    let piped = |path: &str| {
        let mut child = check(&[Path::new(path)], Stdio::piped());
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("input");
        child.wait_with_output().expect("its output")
    };
    passes(piped("-"));
    passes(piped("/dev/stdin"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, &text).expect("a file");
    let redirected = File::open(&file).expect("the file");
    passes(
        check(&[Path::new("/dev/stdin")], redirected.into()).wait_with_output().expect("output"),
    );
    let substituted = format!("{BINARY} check <(cat {})", file.display());
    passes(Command::new("bash").args(["-c", &substituted]).output().expect("bash"));
}

#[test]
fn signals_end_who_waits_for_a_stream() {
    let address = own_address();
    let endpoint = echo_server(address);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fifo");
    fifo(&path);
    let run = || {
        let mut command = Command::new(BINARY);
        command.args(["run", "--address", &address.to_string(), "--admin-address", "127.0.0.1:0"]);
        command.arg("-f").arg(&path);
        L4way::start(command)
    };
    let mut waiting = run();
    assert_eq!(waiting.get("/readyz").0, 503);
    waiting.signal(Signal::TERM);
    assert!(waiting.ended().success());

    let l4way = run();
    fs::write(&path, serving(9000, endpoint).join("---\n")).expect("a reader");
    answers(address, 9000);
    assert_eq!(l4way.get("/readyz").0, 200);
}

#[test]
fn a_refused_document_freezes_no_other() {
    let address = own_address();
    let endpoint = echo_server(address);
    let manifests = Manifests::of(&serving(9000, endpoint));
    let l4way = L4way::run(&manifests, address, &[]);
    answers(address, 9000);
    let mut documents = serving(9100, endpoint);
    documents[1] = documents[1].replace("backendRefs", "backendRef");
    manifests.write_all(&documents);
    is_named(&l4way, "the last good version of TCPRoute default/route stays in force");
    answers(address, 9100);
    assert_eq!(l4way.metric("l4way_invalid_objects", &[]), 1.0);
}

fn answers(address: Ipv4Addr, port: u16) {
    let answer = || ask((address, port).into()).ok();
    assert_eq!(wait_for(format!("an answer at {port}"), answer), "Hello TCP\n");
}

fn is_named(l4way: &L4way, what: &str) {
    l4way.wait(what, |report| {
        report["problems"].as_array().is_some_and(|problems| {
            problems.iter().any(|problem| {
                let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", text("file"), text("message")).contains(what)
            })
        })
    });
}

fn check(paths: &[&Path], stdin: Stdio) -> Child {
    let mut command = Command::new(BINARY);
    command.arg("check").args(paths).stdin(stdin);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("l4way check")
}

fn passes(output: Output) {
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("no problems"), "{output:?}");
}
