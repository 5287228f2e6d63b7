//! A running `l4way run`.

use std::{
    io::{Read, Result as IoResult, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// Where l4way tells whether it is ready: nobody else is in this network namespace.
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_900);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running l4way, which ends when it is dropped.
pub(crate) struct L4way(Child);

impl L4way {
    /// Runs these manifests until every listener is there.
    ///
    /// # Errors
    /// If that doesn't come about.
    pub(crate) fn start(program: &Path, manifests: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg("-f").arg(manifests).arg("--admin-address").arg(ADMIN.to_string());
        command.args(["--workers", "2", "--udp-session-timeout", "3600"]);
        // What it lists is long, and nobody's business here.
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let cannot = |error| format!("can't run {}: {error}", program.display());
        let l4way = child.map(Self).map_err(cannot)?;
        let deadline = Instant::now() + PATIENCE;
        while !is_ready().unwrap_or(false) {
            if Instant::now() > deadline {
                return Err(format!("l4way wasn't ready within {PATIENCE:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(l4way)
    }

    /// Its process, as proc(5) names it.
    pub(crate) fn process(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for L4way {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready() -> IoResult<bool> {
    let mut stream = TcpStream::connect(ADMIN)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: l4way\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
