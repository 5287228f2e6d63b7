//! Who is compared: ways from clients to backends.

use std::{fmt, path::PathBuf, process::Command};

use clap::ValueEnum;
use serde_json::json;

use crate::{
    Result,
    certificates::{Certificates, Pair},
    mode::{Mode, Protocol},
    network::{BACKENDS, GATEWAY},
    routes,
};

/// How many workers each gateway has, in its configuration or as an argument.
const WORKERS: &str = "2";

/// A way from clients to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Routing alone: what nobody can surpass
    Direct,
    /// NAT by rules written by hand
    Nftables,
    #[value(name = "haproxy")]
    HAProxy,
    Nginx,
    Envoy,
    /// Its proxy
    L4way,
    /// Its proxy, with an access log
    L4wayLog,
    /// Its kernel path
    L4wayKernel,
    /// Its kernel path, with an access log
    L4wayKernelLog,
    /// Its proxy, with a thousand other listeners and routes
    #[value(name = "l4way-1000-routes")]
    L4way1000Routes,
    /// The proxy of the program that `--before` names
    L4wayBefore,
    /// The kernel path of the program that `--before` names
    L4wayKernelBefore,
}

/// Where the programs are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The program that loads nftables' rules
    #[arg(long, value_name = "PATH", default_value = "nft")]
    nft: PathBuf,
    /// The program of HAProxy
    #[arg(long, value_name = "PATH", default_value = "haproxy")]
    haproxy: PathBuf,
    /// The program of nginx
    #[arg(long, value_name = "PATH", default_value = "nginx")]
    nginx: PathBuf,
    /// The program of Envoy
    #[arg(long, value_name = "PATH", default_value = "envoy")]
    envoy: PathBuf,
    /// The program of l4way
    #[arg(long, value_name = "PATH", default_value = "l4way")]
    l4way: PathBuf,
    /// Another l4way, which the first one's proxy and kernel path are compared with, round by round
    #[arg(long, value_name = "PATH")]
    before: Option<PathBuf>,
}

impl Programs {
    /// Adds the other l4way's lane after each of this one's that is compared with it.
    ///
    /// # Errors
    /// If a lane of the other l4way is asked for, and there is no other l4way.
    pub(crate) fn complete(&self, peers: &[Peer]) -> Result<Vec<Peer>> {
        let asked = peers.iter().find(|peer| peer.is_before());
        if let (None, Some(peer)) = (&self.before, asked) {
            return Err(format!("{peer} needs --before PATH, with the path of another l4way"));
        }
        let with_before = |peer: &Peer| [Some(*peer), self.before.as_ref().and(peer.before())];
        let others = peers.iter().filter(|peer| !peer.is_before());
        Ok(others.flat_map(with_before).flatten().collect())
    }

    /// The l4way that runs for a peer.
    fn l4way_of(&self, peer: Peer) -> &PathBuf {
        self.before.as_ref().filter(|_| peer.is_before()).unwrap_or(&self.l4way)
    }
}

/// What is run for a peer.
pub(crate) enum Program {
    /// The kernel does it.
    Nothing,
    /// Tells the kernel what to do, and ends.
    Once(Command),
    /// Serves until it is ended.
    Lasting(Command),
}

impl Peer {
    /// Those that are compared unless others are asked for.
    pub(crate) fn usual() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|peer| *peer != Self::L4way1000Routes && !peer.is_before()).collect()
    }

    /// What it is compared with, if there is another l4way.
    pub(crate) fn before(self) -> Option<Self> {
        match self {
            Self::L4way => Some(Self::L4wayBefore),
            Self::L4wayKernel => Some(Self::L4wayKernelBefore),
            _ => None,
        }
    }

    fn is_before(self) -> bool {
        matches!(self, Self::L4wayBefore | Self::L4wayKernelBefore)
    }

    /// Whether others are compared with it: a proxy that isn't l4way.
    pub(crate) fn is_rival(self) -> bool {
        matches!(self, Self::HAProxy | Self::Nginx | Self::Envoy)
    }

    /// Whether packets go through the kernel alone.
    pub(crate) fn is_kernel_path(self) -> bool {
        match self {
            Self::Direct | Self::Nftables => true,
            Self::L4wayKernel | Self::L4wayKernelLog | Self::L4wayKernelBefore => true,
            Self::HAProxy | Self::Nginx | Self::Envoy => false,
            Self::L4way | Self::L4wayLog | Self::L4way1000Routes | Self::L4wayBefore => false,
        }
    }

    /// Whether it can do that at all, and has something to measure.
    pub(crate) fn does(self, mode: Mode) -> bool {
        match self {
            Self::HAProxy => mode.protocol() != Protocol::Udp,
            // A log has nothing to say of sessions that go on.
            Self::L4wayLog => !mode.is_idle(),
            _ if self.is_kernel_path() => mode.protocol() != Protocol::Tls && !mode.is_idle(),
            _ => true,
        }
    }

    /// The address that clients know.
    pub(crate) fn target(self) -> std::net::Ipv4Addr {
        if self == Self::Direct { BACKENDS } else { GATEWAY }
    }

    /// What runs it in a directory that holds its files.
    pub(crate) fn program(self, programs: &Programs, mode: Mode) -> Program {
        let command = |program: &PathBuf, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        };
        Program::Lasting(match self {
            Self::Direct => return Program::Nothing,
            Self::Nftables => return Program::Once(command(&programs.nft, &["-f", "nat.nft"])),
            Self::HAProxy => command(&programs.haproxy, &["-db", "-f", "haproxy.cfg"]),
            Self::Nginx => {
                command(&programs.nginx, &["-e", "stderr", "-p", ".", "-c", "nginx.conf"])
            }
            Self::Envoy => {
                let mut envoy = command(&programs.envoy, &["-c", "envoy.yaml", "-l", "error"]);
                envoy.args(["--concurrency", WORKERS, "--disable-hot-restart"]);
                envoy
            }
            _ => {
                let mut l4way = command(programs.l4way_of(self), &["run", "-f", "manifests"]);
                l4way.args(["--workers", WORKERS, "--address", &GATEWAY.to_string()]);
                l4way.args(["--data-path", if self.is_kernel_path() { "kernel" } else { "proxy" }]);
                l4way.args(["--udp-session-timeout", udp_timeout(mode)]);
                if matches!(self, Self::L4wayLog | Self::L4wayKernelLog) {
                    l4way.args(["--access-log", "access.log"]);
                }
                l4way
            }
        })
    }

    /// The names and contents of the files it reads.
    pub(crate) fn files(self, certificates: &Certificates) -> Vec<(&'static str, String)> {
        let Certificates { ecdsa, rsa, .. } = certificates;
        let config = match self {
            Self::Direct => return Vec::new(),
            Self::Nftables => {
                return vec![("nat.nft", include_str!("../peers/nat.nft").to_owned())];
            }
            Self::HAProxy => ("haproxy.cfg", include_str!("../peers/haproxy.cfg")),
            Self::Nginx => ("nginx.conf", include_str!("../peers/nginx.conf")),
            Self::Envoy => ("envoy.yaml", include_str!("../peers/envoy.yaml")),
            _ => return self.manifests(certificates),
        };
        let together = |pair: &Pair| pair.certificate.clone() + &pair.key;
        vec![
            (config.0, config.1.to_owned()),
            ("ecdsa.pem", together(ecdsa)),
            ("rsa.pem", together(rsa)),
        ]
    }

    /// What l4way reads. It watches the directory, where no log is.
    fn manifests(self, certificates: &Certificates) -> Vec<(&'static str, String)> {
        let mut files =
            vec![("manifests/l4way.yaml", include_str!("../peers/l4way.yaml").to_owned())];
        if !self.is_kernel_path() {
            let Certificates { ecdsa, rsa, .. } = certificates;
            files.push(("manifests/tls.yaml", include_str!("../peers/l4way-tls.yaml").to_owned()));
            files.push(("manifests/secrets.json", secrets(&[("ecdsa", ecdsa), ("rsa", rsa)])));
        }
        if self == Self::L4way1000Routes {
            files.push(("manifests/routes.json", routes::manifests(1000)));
        }
        files
    }
}

/// How long a UDP session may be silent, in seconds: idle sessions stay, and in the mode with a new
/// flow for each datagram they go before ports and descriptors run out. [`Mode::afterlife`] is longer.
fn udp_timeout(mode: Mode) -> &'static str {
    if mode == Mode::UdpFlows { "0.2" } else { "3600" }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

fn secrets(pairs: &[(&str, &Pair)]) -> String {
    let secret = |(name, pair): &(&str, &Pair)| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key},
        })
    };
    let items: Vec<_> = pairs.iter().map(secret).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_do_what_they_can() {
        let who = |mode| {
            let usual = Peer::usual().into_iter().filter(|peer| peer.does(mode));
            usual.map(|peer| peer.to_string()).collect::<Vec<_>>().join(" ")
        };
        let logged = "l4way l4way-log l4way-kernel l4way-kernel-log";
        assert_eq!(who(Mode::TcpRr), format!("direct nftables haproxy nginx envoy {logged}"));
        assert_eq!(who(Mode::UdpFlows), format!("direct nftables nginx envoy {logged}"));
        assert_eq!(who(Mode::TlsBulk), "haproxy nginx envoy l4way l4way-log");
        assert_eq!(who(Mode::UdpIdle), "nginx envoy l4way");
    }

    #[test]
    fn another_l4way_is_beside_the_one_that_is_compared_with_it() {
        let programs = |before: Option<&str>| Programs {
            nft: "nft".into(),
            haproxy: "haproxy".into(),
            nginx: "nginx".into(),
            envoy: "envoy".into(),
            l4way: "new".into(),
            before: before.map(Into::into),
        };
        let asked = [Peer::Nginx, Peer::L4way, Peer::L4wayKernel];
        assert_eq!(programs(None).complete(&asked).unwrap(), asked);
        let compared = programs(Some("old")).complete(&asked).unwrap();
        let kernel = [Peer::L4wayKernel, Peer::L4wayKernelBefore];
        assert_eq!(
            compared,
            [&[Peer::Nginx, Peer::L4way, Peer::L4wayBefore], &kernel[..]].concat()
        );
        assert_eq!(programs(Some("old")).l4way_of(Peer::L4wayKernelBefore), &PathBuf::from("old"));
        assert_eq!(programs(Some("old")).l4way_of(Peer::L4way), &PathBuf::from("new"));
        assert!(programs(None).complete(&[Peer::L4wayBefore]).is_err());
    }
}
