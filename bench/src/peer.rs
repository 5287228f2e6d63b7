//! The gateways that are compared.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;
use serde_json::json;

use crate::{
    certificates::{Certificates, Pair},
    network::GATEWAY,
};

/// How many workers each gateway has, in its configuration or as an argument.
const WORKERS: &str = "2";

/// A program that ends TLS sessions and forwards what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Peer {
    HAProxy,
    Nginx,
    Envoy,
    L4way,
}

/// Where the programs are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
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
}

impl Peer {
    /// The command that runs it in the foreground, in a directory that holds its files.
    pub(crate) fn command(self, programs: &Programs) -> Command {
        let (program, arguments): (&Path, &[&str]) = match self {
            Self::HAProxy => (&programs.haproxy, &["-db", "-f", "haproxy.cfg"]),
            Self::Nginx => (&programs.nginx, &["-e", "stderr", "-p", ".", "-c", "nginx.conf"]),
            Self::Envoy => {
                (&programs.envoy, &["-c", "envoy.yaml", "-l", "error", "--concurrency", WORKERS])
            }
            Self::L4way => (&programs.l4way, &["run", "-f", ".", "--workers", WORKERS]),
        };
        let mut command = Command::new(program);
        command.args(arguments);
        match self {
            Self::Envoy => command.arg("--disable-hot-restart"),
            Self::L4way => command.args(["--address", &GATEWAY.to_string()]),
            Self::HAProxy | Self::Nginx => &mut command,
        };
        command
    }

    /// The names and contents of the files it reads.
    pub(crate) fn files(self, certificates: &Certificates) -> Vec<(&'static str, String)> {
        let config = match self {
            Self::HAProxy => ("haproxy.cfg", include_str!("../peers/haproxy.cfg")),
            Self::Nginx => ("nginx.conf", include_str!("../peers/nginx.conf")),
            Self::Envoy => ("envoy.yaml", include_str!("../peers/envoy.yaml")),
            Self::L4way => ("l4way.yaml", include_str!("../peers/l4way.yaml")),
        };
        let Certificates { ecdsa, rsa, .. } = certificates;
        let mut files = vec![(config.0, config.1.to_owned())];
        if self == Self::L4way {
            files.push(("secrets.json", secrets(&[("ecdsa", ecdsa), ("rsa", rsa)])));
        } else {
            let together = |pair: &Pair| pair.certificate.clone() + &pair.key;
            files.extend([("ecdsa.pem", together(ecdsa)), ("rsa.pem", together(rsa))]);
        }
        files
    }
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
