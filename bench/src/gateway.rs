//! A gateway that runs.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    Result,
    certificates::Certificates,
    client::{Client, ECDSA_PORT, RSA_PORT},
    interrupt,
    network::Network,
    peer::{Peer, Programs},
    process,
};

/// How long a gateway may take to serve, or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the program says.
const LOG: &str = "log";

/// A peer's program, which ends when it is dropped.
pub(crate) struct Gateway {
    peer: Peer,
    child: Child,
    directory: TempDir,
}

impl Gateway {
    /// Runs a peer on the network's gateway, and waits until it serves.
    pub(crate) fn start(
        peer: Peer,
        programs: &Programs,
        certificates: &Certificates,
        network: &Network,
    ) -> Result<Self> {
        let failed = |error: io::Error| format!("{peer} can't be started: {error}");
        let directory = write(&peer.files(certificates)).map_err(failed)?;
        let log = File::create(directory.path().join(LOG)).map_err(failed)?;
        let mut command = peer.command(programs);
        command
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // Ctrl-C is for the benchmark, which then ends the gateways.
            .process_group(0);
        let child = network.gateway.run(|| command.spawn())?.map_err(failed)?;
        let mut gateway = Self { peer, child, directory };
        for port in [ECDSA_PORT, RSA_PORT] {
            let client = Client::careful(port, &certificates.authority);
            gateway.wait_for(&client.map_err(|error| error.to_string())?, network)?;
        }
        Ok(gateway)
    }

    /// The CPU time it has used since it started.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        process::cpu_of(&self.processes())
    }

    /// The memory it has, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        process::memory_of(&self.processes())
    }

    fn processes(&self) -> Vec<u32> {
        process::tree(self.child.id())
    }

    fn wait_for(&mut self, client: &Client, network: &Network) -> Result<()> {
        let started = Instant::now();
        loop {
            let tried = network.clients.run(|| client.open()?.close())?;
            let ended = self.child.try_wait().ok().flatten();
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

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let processes = self.processes();
        // Each of them takes SIGINT as the order to end without waiting for its sessions.
        if !self.has_ended() {
            signal(&processes[..1], Signal::INT);
        }
        let asked = Instant::now();
        while !self.has_ended() {
            if asked.elapsed() > PATIENCE {
                signal(&processes, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Writes files into a new directory that only its owner reads: there are private keys among them.
fn write(files: &[(&str, String)]) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let directory = builder.prefix("l4way-bench-").permissions(Permissions::from_mode(0o700));
    let directory = directory.tempdir()?;
    for (name, contents) in files {
        fs::write(directory.path().join(name), contents)?;
    }
    Ok(directory)
}

fn signal(processes: &[u32], signal: Signal) {
    for pid in processes.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        let _ = kill_process(pid, signal);
    }
}
