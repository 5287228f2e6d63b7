//! A gateway that runs.

use std::{
    fs::{self, File, Permissions},
    io,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    Result,
    certificates::Certificates,
    interrupt,
    mode::{Mode, Protocol},
    network::{FIRST_PORT, Network, PORT},
    peer::{Peer, Program, Programs},
    process, tcp,
    tls::{Client, ECDSA_PORT, RSA_PORT},
    udp,
};

/// How long a gateway may take to serve, or to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a gateway that serves may take for a datagram's answer.
const ANSWER: Duration = Duration::from_millis(300);

/// What the program says.
const LOG: &str = "log";

/// A peer's program, which ends when it is dropped.
pub(crate) struct Gateway {
    peer: Peer,
    /// None if the kernel alone serves.
    child: Option<Child>,
    directory: TempDir,
}

impl Gateway {
    /// Runs a peer on the network's gateway for a mode, and waits until it serves.
    pub(crate) fn start(
        peer: Peer,
        mode: Mode,
        programs: &Programs,
        certificates: &Certificates,
        network: &Network,
    ) -> Result<Self> {
        let failed = |error: io::Error| format!("{peer} can't be started: {error}");
        let directory = write(&peer.files(certificates)).map_err(failed)?;
        if peer.is_kernel_path() {
            prepare(mode, network)?;
        }
        let log = File::create(directory.path().join(LOG)).map_err(failed)?;
        let run = |command: &mut Command| -> io::Result<Child> {
            let command = command
                .current_dir(&directory)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log.try_clone()?)
                // Ctrl-C is for the benchmark, which then ends the gateways.
                .process_group(0);
            network.gateway.run(|| command.spawn()).map_err(io::Error::other)?
        };
        let child = match peer.program(programs, mode) {
            Program::Nothing => None,
            Program::Once(mut command) => {
                let status =
                    run(&mut command).and_then(|mut child| child.wait()).map_err(failed)?;
                if !status.success() {
                    let said = fs::read_to_string(directory.path().join(LOG)).unwrap_or_default();
                    return Err(format!("{peer} can't be set up, {status}:\n{said}"));
                }
                None
            }
            Program::Lasting(mut command) => Some(run(&mut command).map_err(failed)?),
        };
        let mut gateway = Self { peer, child, directory };
        gateway.wait_until_it_serves(mode, certificates, network)?;
        Ok(gateway)
    }

    /// The CPU time it has used since it started, if it has processes.
    pub(crate) fn cpu(&self) -> Result<Option<Duration>> {
        self.child.as_ref().map(|child| process::cpu_of(&process::tree(child.id()))).transpose()
    }

    /// The memory it has, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.child.as_ref().map_or(Ok(0), |child| process::memory_of(&process::tree(child.id())))
    }

    /// Waits for what the mode needs.
    fn wait_until_it_serves(
        &mut self,
        mode: Mode,
        certificates: &Certificates,
        network: &Network,
    ) -> Result<()> {
        let target = self.peer.target();
        let at = |port| SocketAddr::from((target, port));
        match mode.protocol() {
            Protocol::Tcp => {
                self.wait_for(|| tcp::Session::open(at(PORT)).map(drop), network)?;
                self.wait_for(|| tcp::Session::listen(at(FIRST_PORT)).map(drop), network)?;
            }
            Protocol::Udp => {
                for port in [PORT, FIRST_PORT] {
                    self.wait_for(|| udp::Session::open(at(port), ANSWER).map(drop), network)?;
                }
            }
            Protocol::Tls => {
                for port in [ECDSA_PORT, RSA_PORT] {
                    let client = Client::careful(port, &certificates.authority);
                    let client = client.map_err(|error| error.to_string())?;
                    self.wait_for(|| client.open()?.close(), network)?;
                }
            }
        }
        Ok(())
    }

    fn wait_for(
        &mut self,
        attempt: impl Fn() -> io::Result<()> + Sync,
        network: &Network,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let tried = network.clients.run(&attempt)?;
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            match tried {
                Ok(()) => return Ok(()),
                Err(error) if ended.is_some() || started.elapsed() > PATIENCE => {
                    return Err(self.fault(&error, ended));
                }
                Err(_) => interrupt::sleep(Duration::from_millis(50))?,
            }
        }
    }

    fn fault(&self, error: &io::Error, ended: Option<ExitStatus>) -> String {
        let peer = self.peer;
        let state = ended.map_or("runs".to_owned(), |status| format!("ended with {status}"));
        let said = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
        format!("{peer} doesn't serve: {error}; it {state} and said:\n{said}")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let processes = process::tree(child.id());
        let mut has_ended = || !matches!(child.try_wait(), Ok(None));
        // Each of them takes SIGINT as the order to end without waiting for its sessions.
        if !has_ended() {
            signal(&processes[..1], Signal::INT);
        }
        let asked = Instant::now();
        while !has_ended() {
            if asked.elapsed() > PATIENCE {
                signal(&processes, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Lets the gateway's kernel pass packets on, and forget flows as early as it can where each datagram
/// has its own.
fn prepare(mode: Mode, network: &Network) -> Result<()> {
    network.gateway.set("ipv4/ip_forward", "1")?;
    let seconds = if mode == Mode::UdpFlows { "1" } else { "120" };
    for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
        network.gateway.set(&format!("netfilter/{name}"), seconds)?;
    }
    Ok(())
}

/// Writes files into a new directory that only its owner reads: there are private keys among them.
fn write(files: &[(&str, String)]) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let directory = builder.prefix("l4way-bench-").permissions(Permissions::from_mode(0o700));
    let directory = directory.tempdir()?;
    for (name, contents) in files {
        let path = directory.path().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, contents)?;
    }
    Ok(directory)
}

fn signal(processes: &[u32], signal: Signal) {
    for pid in processes.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        let _ = kill_process(pid, signal);
    }
}
