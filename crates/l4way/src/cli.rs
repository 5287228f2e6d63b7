//! The command line.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{AddrParseError, IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{FalseyValueParser, NonEmptyStringValueParser},
};
use ipnet::IpNet;
use l4way_model::{AtLimit, HttpTerms, SessionTerms};
use l4way_resources::Channel;
use l4way_source_file::look_for;
use l4way_translate::{AddressPool, Addresses, Settings};

use crate::{admin::AdminPlaces, controller::MetricsFrom};

/// Kubernetes Gateway API for TCP, UDP and TLS: one binary, with or without a cluster.
#[derive(Debug, Parser)]
#[command(name = "l4way", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Let core dumps, and debuggers of the same user, have the memory: private keys are in it
    #[arg(long, env = "L4WAY_CORE_DUMPS", value_parser = FalseyValueParser::new())]
    pub(crate) core_dumps: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gateway from manifests, without a cluster
    ///
    /// Reads Gateway API manifests, listens as they say, forwards, and follows every change of the
    /// files. SIGHUP reads them again; SIGTERM drains, and a second one or Ctrl-C ends at once.
    Run(Box<RunArgs>),
    /// Give every Gateway of a cluster its proxies, and say how they are
    ///
    /// Follows the API server's objects and writes, for each Gateway of l4way's classes, a Deployment
    /// of proxies, what they need, and their configuration; and the status of everything that is
    /// l4way's. Of several replicas one does so.
    Controller(Box<ControllerArgs>),
    /// Carry the sessions of one Gateway, in a pod that the controller made
    ///
    /// Follows the configuration that the controller writes, and the endpoints of its backends, and
    /// answers in the pod's Lease. SIGTERM takes it out of its Service and drains; a second one ends
    /// at once. The timeouts and logs that are given here hold until a configuration says otherwise.
    #[command(mut_arg("log_format", |arg| arg.default_value("json")))]
    Proxy(Box<ProxyArgs>),
    /// Check manifests as the API server would, and whether every route gets traffic
    ///
    /// Exits with 0 if all is well, 1 if there are problems, 2 if it could not check.
    Check(CheckArgs),
    /// Show what a running l4way, or a cluster, serves, and what is wrong
    ///
    /// Exits with 0 if every listener and route is in force, 1 if not, or if a route leads to a
    /// backend of which no endpoint answers, 2 if nobody can be asked.
    Status(StatusArgs),
    /// Print the CustomResourceDefinitions of l4way's own kinds
    ///
    /// For kubectl apply --server-side -f -
    Crds,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which manifests to read, and how strictly.
#[derive(Args, Debug)]
pub(crate) struct ManifestArgs {
    /// Which CRDs of Gateway API v1.6.1 the manifests have to fit; either, if not given
    #[arg(long, value_enum, default_value_t = ChannelArg::Any)]
    pub(crate) channel: ChannelArg,
}

/// What shapes the graph beside the manifests.
#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    /// An address of Gateways that name none in spec.addresses; may be given several times
    #[arg(long, value_name = "IP", default_values = ["127.0.0.1"], value_parser = address)]
    pub(crate) address: Vec<IpAddr>,

    /// Give each Gateway that names none an address of its own out of these: 127.0.1.0/24,192.0.2.7
    #[arg(long, value_name = "ADDRESSES", conflicts_with = "address")]
    pub(crate) address_pool: Option<AddressPool>,

    /// The zone that this host is in, for topology-aware endpoints
    #[arg(long, value_name = "ZONE", env = "L4WAY_ZONE")]
    pub(crate) zone: Option<String>,
}

/// A release channel of the Gateway API's CRDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelArg {
    /// Each kind and version from whichever channel has it, standard first
    Any,
    Standard,
    Experimental,
}

impl From<ChannelArg> for Channel {
    fn from(channel: ChannelArg) -> Self {
        match channel {
            ChannelArg::Any => Self::Any,
            ChannelArg::Standard => Self::Standard,
            ChannelArg::Experimental => Self::Experimental,
        }
    }
}

impl GraphArgs {
    /// The translation's settings.
    pub(crate) fn settings(&self) -> Settings {
        let addresses = match &self.address_pool {
            Some(pool) => Addresses::Pool { pool: pool.clone(), held: BTreeMap::new() },
            None => Addresses::Shared(self.address.clone()),
        };
        Settings { addresses, zone: self.zone.as_deref().map(Into::into), ..Settings::default() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Manifests: a file, a directory (searched for .yaml, .yml and .json), or - for standard input
    #[arg(short, long = "filename", value_name = "PATH", required = true, value_parser = existing)]
    pub(crate) filenames: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,

    #[command(flatten)]
    pub(crate) graph: GraphArgs,

    /// Answer in place of Deployments whose containers listen as an echo (-listen :PORT, -text, -udp)
    #[arg(long)]
    pub(crate) demo_backends: bool,

    /// The proxies in front of this one that are believed for whom they forward HTTP requests, as networks
    /// between commas: 192.0.2.0/24,2001:db8::/32. What anybody else says is taken away. Nobody is trusted
    /// if not given
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    pub(crate) http_trusted_proxies: Vec<IpNet>,

    /// Where to serve /metrics, /healthz and /readyz; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value_t = crate::admin::DEFAULT_ADDRESS)]
    pub(crate) admin_address: SocketAddr,

    #[command(flatten)]
    pub(crate) admin_socket: AdminSocketArg,

    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(flatten)]
    pub(crate) sessions: SessionArgs,
}

impl RunArgs {
    /// What holds for all HTTP requests.
    pub(crate) fn http_terms(&self) -> HttpTerms {
        HttpTerms { trusted_proxies: self.http_trusted_proxies.iter().copied().collect() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// What the controller named the Gateway's objects: GATEWAY-CLASS
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) pod: PodArgs,

    /// The zone that this pod is in, for topology-aware endpoints
    #[arg(long, value_name = "ZONE", env = "L4WAY_ZONE")]
    pub(crate) zone: Option<String>,

    /// Where to serve /metrics, /healthz and /readyz; port 0 takes a free one. 0.0.0.0
    /// means every address of the pod, IPv6 too
    #[arg(long, value_name = "IP:PORT", default_value_t = crate::admin::POD_ADDRESS)]
    pub(crate) admin_address: SocketAddr,

    #[command(flatten)]
    pub(crate) admin_socket: AdminSocketArg,

    /// How long new sessions are still taken after SIGTERM, until the Service has dropped the pod, in
    /// seconds; a part of --drain-timeout
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds_or_zero)]
    pub(crate) shutdown_delay: Duration,

    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(flatten)]
    pub(crate) sessions: SessionArgs,
}

/// Which pod this is, as the downward API tells.
#[derive(Args, Debug)]
pub(crate) struct PodArgs {
    /// The pod's namespace, which is the Gateway's
    #[arg(long, value_name = "NAMESPACE", env = "L4WAY_NAMESPACE")]
    pub(crate) namespace: String,

    /// The pod's name
    #[arg(long, value_name = "NAME", env = "L4WAY_POD_NAME")]
    pub(crate) pod_name: String,

    /// The pod's UID, which names the Lease in which it answers
    #[arg(long, value_name = "UID", env = "L4WAY_POD_UID")]
    pub(crate) pod_uid: String,

    /// The pod's addresses, comma-separated: they say whether it has IPv4, IPv6 or both
    #[arg(long, value_name = "IPS", env = "L4WAY_POD_IPS", value_delimiter = ',')]
    pub(crate) pod_ips: Vec<IpAddr>,
}

/// Where what not everybody may see is served.
#[derive(Args, Debug)]
pub(crate) struct AdminSocketArg {
    /// Where to serve /status, and all else: a Unix socket of mode 0600. If not given, it is called after
    /// the admin address, in /run/l4way or the user's own runtime directory; in a pod it is
    /// /dev/shm/l4way/admin.sock
    #[arg(long, value_name = "PATH", value_parser = crate::admin::check_path)]
    admin_socket: Option<PathBuf>,
}

impl AdminSocketArg {
    /// Where to serve, with the admin endpoint there.
    pub(crate) fn places(&self, address: SocketAddr) -> AdminPlaces {
        AdminPlaces { address, socket: self.admin_socket.clone() }
    }
}

/// Our own log.
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// Our own log: a level (error, warn, info, debug, trace) or tracing directives
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "L4WAY_LOG")]
    pub(crate) log_level: String,

    /// The form of our own log, which goes to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How sessions are carried and recorded.
#[derive(Args, Debug)]
pub(crate) struct SessionArgs {
    /// Write one JSON line for each session that ends: to a file, or to - for standard output, which
    /// then has nothing else
    #[arg(long, value_name = "PATH")]
    pub(crate) access_log: Option<PathBuf>,

    /// Worker threads; one per core if not given
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<NonZeroUsize>,

    /// How long to try to connect to an endpoint, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) connect_timeout: Duration,

    /// How long a UDP session may be silent before it ends, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) udp_session_timeout: Duration,

    /// What becomes of TCP sessions that were used and have been silent for 30 s, where there are as many
    /// sessions as there may be
    #[arg(long, value_enum, default_value_t = AtLimitArg::Wait)]
    pub(crate) at_limit: AtLimitArg,

    /// Who carries TCP and UDP sessions: the proxy; or the kernel by NAT, wherever it can, with
    /// auto if it can at all
    #[arg(long, value_enum, default_value_t = DataPathArg::Proxy)]
    pub(crate) data_path: DataPathArg,

    /// What endpoints see of clients whose sessions the kernel carries
    #[arg(long, value_enum, default_value_t = SourceAddressArg::Masquerade)]
    pub(crate) kernel_source_address: SourceAddressArg,

    /// How long sessions may go on after SIGTERM or after their listener is gone, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds_or_zero)]
    pub(crate) drain_timeout: Duration,

    /// How much sessions may hold of what one side has sent and the other not taken, in bytes or with Ki,
    /// Mi or Gi; a quarter of the cgroup's memory limit or of the machine's memory if not given
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) memory_budget: Option<NonZeroUsize>,
}

impl SessionArgs {
    /// What holds for all sessions.
    pub(crate) fn terms(&self) -> SessionTerms {
        SessionTerms {
            connect_timeout: self.connect_timeout,
            udp_session_timeout: self.udp_session_timeout,
            at_limit: match self.at_limit {
                AtLimitArg::Wait => AtLimit::Wait,
                AtLimitArg::Evict => AtLimit::Evict,
            },
        }
    }
}

/// What becomes of sessions that were used, where there are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AtLimitArg {
    /// They stay, and clients wait for sessions to end
    Wait,
    /// The client that has most sessions makes room with the one that has been silent longest
    Evict,
}

/// Who carries TCP and UDP sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataPathArg {
    /// The kernel each listener that it can, the proxy the others, or all if the kernel path is
    /// missing something; `l4way status` says which and why
    Auto,
    /// The proxy
    Proxy,
    /// As auto, but don't run if the kernel path is missing something
    Kernel,
}

/// What endpoints see of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceAddressArg {
    /// An address of this host
    Masquerade,
    /// The client's own: packets back have to come by this host
    Keep,
}

#[derive(Args, Debug)]
pub(crate) struct ControllerArgs {
    /// The proxies' image, where no GatewayParameters name one
    #[arg(long, value_name = "IMAGE", env = "L4WAY_PROXY_IMAGE")]
    pub(crate) image: String,

    /// How the proxies' image is pulled, where no GatewayParameters say so: Always, IfNotPresent or
    /// Never
    #[arg(long, value_name = "POLICY", env = "L4WAY_PROXY_IMAGE_PULL_POLICY")]
    pub(crate) image_pull_policy: Option<String>,

    /// The ClusterRole that lets proxies follow EndpointSlices, where they are bound to it
    #[arg(long, value_name = "NAME", default_value = "l4way-proxy-endpoints")]
    pub(crate) endpoints_role: String,

    /// Give each Gateway's proxies a NetworkPolicy: listeners are for everybody, metrics for these
    /// NetworkPolicyPeers, a JSON list such as '[{"namespaceSelector": {}}]'
    #[arg(long, value_name = "PEERS", value_parser = MetricsFrom::parse)]
    pub(crate) network_policy_metrics_from: Option<MetricsFrom>,

    /// The controller's own namespace, where the Lease is by which one replica leads
    #[arg(long, value_name = "NAMESPACE", env = "L4WAY_NAMESPACE", default_value = "l4way-system")]
    pub(crate) namespace: String,

    /// What tells this replica from the others, such as its pod's name
    #[arg(long, value_name = "NAME", env = "L4WAY_POD_NAME", default_value_t = own_name())]
    #[arg(hide_default_value = true)]
    pub(crate) identity: String,

    /// Features that every configuration requires of proxies beside those that it needs: to see what
    /// proxies without them do
    #[arg(long, value_name = "NAMES", env = "L4WAY_REQUIRE_FEATURES", value_delimiter = ',')]
    #[arg(hide = true)]
    pub(crate) require_features: Vec<String>,

    /// Lead without asking: for a single controller outside of the cluster
    #[arg(long)]
    pub(crate) no_leader_election: bool,

    /// Where to serve /metrics, /healthz and /readyz; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:9902")]
    pub(crate) admin_address: SocketAddr,

    #[command(flatten)]
    pub(crate) admin_socket: AdminSocketArg,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Which cluster is meant, and what of it.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// The controllerName of the GatewayClasses that are l4way's
    #[arg(long, value_name = "NAME", default_value = l4way_resources::CONTROLLER_NAME)]
    pub(crate) controller_name: String,

    /// A context of the kubeconfig; its current one, or the cluster that this pod is in, if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// A namespace to watch; may be given several times. If it isn't given, all are. What is in others isn't
    /// seen, so nothing there can be used
    #[arg(long = "watch-namespace", value_name = "NAMESPACE", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) watch_namespaces: Vec<String>,
}

impl ControllerArgs {
    /// What shapes the objects that Gateways are given.
    pub(crate) fn objects(&self) -> crate::controller::ObjectSettings {
        crate::controller::ObjectSettings {
            image: self.image.clone(),
            image_pull_policy: self.image_pull_policy.clone(),
            endpoints_role: self.endpoints_role.clone(),
            metrics_from: self.network_policy_metrics_from.clone(),
            requires: self.require_features.iter().cloned().collect(),
        }
    }
}

impl ClusterArgs {
    /// The translation's settings.
    pub(crate) fn translation(&self) -> Settings {
        let watched: BTreeSet<_> =
            self.watch_namespaces.iter().map(|name| name.as_str().into()).collect();
        Settings {
            controller_name: self.controller_name.as_str().into(),
            watched: (!watched.is_empty()).then_some(watched),
            ..Settings::in_cluster()
        }
    }

    /// The namespaces to watch; all if there are none.
    pub(crate) fn watched(&self) -> BTreeSet<String> {
        self.watch_namespaces.iter().cloned().collect()
    }
}

/// What no other process on this host is called at this time.
fn own_name() -> String {
    format!("l4way-{}", std::process::id())
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Manifests: files, directories (searched for .yaml, .yml and .json), or - for standard input
    #[arg(value_name = "PATH", required_unless_present = "kube", value_parser = existing)]
    pub(crate) paths: Vec<PathBuf>,

    /// Check what is in the cluster, in place of files
    #[arg(long, conflicts_with_all = ["paths", "channel", "address", "address_pool", "zone"])]
    pub(crate) kube: bool,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,

    #[command(flatten)]
    pub(crate) graph: GraphArgs,

    /// Count warnings as problems
    #[arg(long)]
    pub(crate) strict: bool,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t = CheckOutput::Text)]
    pub(crate) output: CheckOutput,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Show what is in the cluster, in place of asking one l4way
    #[arg(long, conflicts_with_all = ["admin_address", "admin_socket"])]
    pub(crate) kube: bool,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// The admin address of the l4way to ask, on this host and of this user
    #[arg(long, value_name = "IP:PORT", default_value_t = crate::admin::DEFAULT_ADDRESS)]
    pub(crate) admin_address: SocketAddr,

    /// Show every endpoint; otherwise 10 of a backend and 100 in all, those that are passed over first
    #[arg(long, conflicts_with = "kube")]
    pub(crate) all_endpoints: bool,
    /// The admin socket of the l4way to ask, if it isn't where that address has it
    #[arg(long, value_name = "PATH", value_parser = crate::admin::check_path)]
    #[arg(conflicts_with = "admin_address")]
    pub(crate) admin_socket: Option<PathBuf>,

    /// The form of the answer: tables, or every object's status as the API has it
    #[arg(short, long, value_enum, default_value_t = StatusOutput::Table)]
    pub(crate) output: StatusOutput,
}

/// The forms of `l4way check`'s answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckOutput {
    Text,
    Json,
    Yaml,
}

/// The forms of `l4way status`'s answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusOutput {
    Table,
    Json,
    Yaml,
}

/// The forms of our own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// A path to read from: one that is there, or - for standard input.
fn existing(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match look_for(&path) {
        Err(error) if text != "-" => Err(error.to_string()),
        _ => Ok(path),
    }
}

/// An IP address; an IPv4-mapped one is that of IPv4.
fn address(text: &str) -> Result<IpAddr, AddrParseError> {
    text.parse().map(|address: IpAddr| address.to_canonical())
}

/// A network, or an address as a network of its own.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse().ok().or_else(address);
    network.ok_or_else(|| "is no network: write, say, 192.0.2.0/24 or 2001:db8::/32".to_owned())
}

/// A number of threads.
fn workers(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1_024;
    match text.parse::<NonZeroUsize>() {
        Ok(workers) if workers.get() <= MOST => Ok(workers),
        _ => Err(format!("has to be a number from 1 to {MOST}")),
    }
}

/// Bytes, as Kubernetes writes quantities of memory: at least 1 MiB.
fn bytes(text: &str) -> Result<NonZeroUsize, String> {
    const LEAST: usize = 1 << 20;
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[number.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err("has to be a number of bytes, or one with Ki, Mi or Gi".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| "isn't a number of bytes")?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes >= LEAST);
    bytes.and_then(NonZeroUsize::new).ok_or_else(|| "has to be at least 1Mi".to_owned())
}

/// Seconds, as a decimal number from 0.001 to a year.
fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_zero(text)? {
        Duration::ZERO => Err("has to be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// Seconds, as a decimal number from 0 to a year.
fn seconds_or_zero(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    let number: f64 =
        text.trim_end_matches('s').parse().map_err(|_| "isn't a number of seconds")?;
    if !(0.0..=YEAR).contains(&number) {
        return Err(format!("has to be from 0 to {YEAR} seconds"));
    }
    Ok(Duration::from_millis((number * 1000.0) as u64))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn bytes_are_written_as_in_kubernetes() {
        let parsed = |text| bytes(text).map(NonZeroUsize::get).ok();
        assert_eq!(parsed("1048576"), Some(1 << 20));
        assert_eq!(parsed("2048Ki"), Some(2 << 20));
        assert_eq!(parsed("64Mi"), Some(64 << 20));
        assert_eq!(parsed("2Gi"), Some(2 << 30));
        for bad in [
            "",
            "Mi",
            "1023Ki",
            "64M",
            "64 Mi",
            "-1Mi",
            "1.5Gi",
            "99999999999999999999",
            "17179869184Gi",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pod_logs_json_and_a_host_text() {
        let pod = ["--namespace=ns", "--pod-name=pod", "--pod-uid=uid"];
        let of = |command: &[&str]| match Cli::parse_from(command).command {
            Command::Proxy(args) => args.log.log_format,
            Command::Run(args) => args.log.log_format,
            _ => unreachable!("no other is parsed"),
        };
        let proxy = ["l4way", "proxy", "--name=gw"];
        assert_eq!(of(&[&proxy[..], &pod].concat()), LogFormat::Json);
        assert_eq!(of(&[&proxy[..], &pod, &["--log-format=text"]].concat()), LogFormat::Text);
        assert_eq!(of(&["l4way", "run", "-f", "-"]), LogFormat::Text);
    }

    #[test]
    fn trusted_proxies_are_networks_between_commas() {
        let of = |networks: &str| {
            let args = ["l4way", "run", "-f", "-", "--http-trusted-proxies", networks];
            match Cli::try_parse_from(args).ok()?.command {
                Command::Run(args) => Some(args.http_terms().trusted_proxies),
                _ => unreachable!("no other is parsed"),
            }
        };
        let trusted = of("192.0.2.0/24, 2001:db8::1").unwrap();
        let networks: Vec<_> = trusted.networks().iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["192.0.2.0/24", "2001:db8::1/128"]);
        for bad in ["", "192.0.2.0/33", "example.com", "192.0.2.0/24,"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_seconds_in_range() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(seconds("30s"), Ok(Duration::from_secs(30)));
        for bad in ["0", "-1", "1e12", "NaN", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds_or_zero("0"), Ok(Duration::ZERO));
    }
}
