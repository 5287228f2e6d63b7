//! Certificates, manifests with them, and programs.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::l4way::wait_for;

/// A folder with an authority, and what it signs: `NAME.crt` and `NAME.key`.
pub(crate) struct Pki {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        // Servers that run as users of their own read it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("rights");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let ca = params.self_signed(&key).expect("an authority");
        fs::write(folder.path().join("ca.crt"), ca.pem()).expect("a file");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate for this name.
    pub(crate) fn sign(&self, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        for (kind, text) in [("crt", certificate.pem()), ("key", key.serialize_pem())] {
            fs::write(self.file(&format!("{name}.{kind}")), text).expect("a file");
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn text(&self, name: &str, indent: &str) -> String {
        let text = fs::read_to_string(self.file(name)).expect("a file");
        text.lines().map(|line| format!("{indent}{line}\n")).collect()
    }

    /// The Secret of a certificate, named as the certificate.
    pub(crate) fn secret(&self, name: &str) -> String {
        self.sign(name);
        let (crt, key) = (format!("{name}.crt"), format!("{name}.key"));
        format!(
            "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}}}\n\
             stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
            self.text(&crt, "    "),
            self.text(&key, "    ")
        )
    }

    /// A ConfigMap `ca` of the authority.
    pub(crate) fn config_map(&self) -> String {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |\n{}",
            self.text("ca.crt", "    ")
        )
    }
}

/// A Gateway `gw` with these listeners, written as they are; `tls` is its own.
pub(crate) fn gateway(tls: &str, listeners: &[&str]) -> String {
    let listeners: String = listeners.iter().map(|listener| format!("  - {listener}\n")).collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  \
         gatewayClassName: l4way\n{tls}  listeners:\n{listeners}"
    )
}

/// A listener that ends TLS.
pub(crate) fn terminate(name: &str, port: u16, certificate: &str, options: &str) -> String {
    format!(
        "{{name: {name}, protocol: TLS, port: {port}, tls: {{certificateRefs: [{{name: \
         {certificate}}}], options: {{{options}}}}}}}"
    )
}

/// A route of this kind to a Backend of its name, from the listener of this name.
pub(crate) fn route(kind: &str, name: &str, listener: &str, hostname: &str) -> String {
    let hostnames = match hostname {
        "" => String::new(),
        hostname => format!("  hostnames: ['{hostname}']\n"),
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{name: gw, sectionName: {listener}}}]\n{hostnames}  rules:\n  - backendRefs: \
         [{{group: l4way.dev, kind: Backend, name: {name}}}]\n"
    )
}

pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}

pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A server, which is ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    _folder: TempDir,
}

impl Server {
    /// Starts what `command` makes for a port and a folder, and waits until it listens.
    pub(crate) fn start(command: impl FnOnce(u16, &Path) -> Command) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("rights");
        let port = free_port();
        let mut command = command(port, folder.path());
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}: run make setup"));
        wait_for(&command, || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                panic!("{command:?} has ended ({status}): {log}");
            }
            TcpStream::connect(local(port)).ok()
        });
        Self { child, port, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // A server of databases has children of its own, which it ends itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, with this input.
pub(crate) fn run(program: &str, args: &[&str], input: &[u8]) -> Output {
    run_with(Command::new(program).args(args), input)
}

pub(crate) fn run_with(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: run make setup"));
    // It may end before it has read all of it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("its output")
}

/// All that it printed.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
