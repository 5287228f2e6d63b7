use std::{
    fs, io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use tokio::sync::Semaphore;
use tracing::warn;

use super::known::Answer;

/// How long an entry of the hosts file is used before the file is looked at again.
const HOSTS_TTL: Duration = Duration::from_secs(2);
/// The most names that are looked up at a time.
const CONCURRENCY: usize = 64;

/// Where names are looked up.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// hosts(5). A name in it isn't asked for elsewhere.
    pub(crate) hosts: PathBuf,
    /// resolv.conf(5): the name servers. Names are taken as fully qualified, so its search list
    /// isn't used.
    pub(crate) resolv_conf: PathBuf,
    /// The name servers' port.
    pub(crate) nameserver_port: u16,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            nameserver_port: 53,
        }
    }
}

/// Looks names up in the [`Sources`], whose files are read again when they change.
#[derive(Debug)]
pub(super) struct Lookups {
    hosts: Watched<Hosts>,
    nameservers: Watched<Result<TokioResolver, String>>,
    nameserver_port: u16,
    permits: Semaphore,
}

impl Lookups {
    pub(super) fn new(sources: Sources) -> Self {
        Self {
            hosts: Watched::new(sources.hosts),
            nameservers: Watched::new(sources.resolv_conf),
            nameserver_port: sources.nameserver_port,
            permits: Semaphore::new(CONCURRENCY),
        }
    }

    /// The addresses of `name`, IPv4 and IPv6. If only one kind can't be looked up, those of that
    /// kind among the `last` ones stay.
    pub(super) async fn resolve(&self, name: &str, last: Option<&Arc<[IpAddr]>>) -> Answer {
        let name = match Name::from_utf8(name) {
            Ok(mut name) => {
                name.set_fqdn(true);
                name
            }
            Err(error) => return Answer::Failed(error.to_string()),
        };
        if let Some(answer) = self.in_hosts(&name) {
            return answer;
        }
        let nameservers = match &*self.nameservers() {
            Ok(nameservers) => nameservers.clone(),
            Err(error) => return Answer::Failed(error.clone()),
        };
        let Ok(_permit) = self.permits.acquire().await else {
            return Answer::Failed("no more lookups".to_owned());
        };
        let (v4, v6) = tokio::join!(
            nameservers.lookup(name.clone(), RecordType::A),
            nameservers.lookup(name, RecordType::AAAA)
        );
        let last = last.map_or(&[][..], |last| last);
        combine([(v4, IpAddr::is_ipv4), (v6, IpAddr::is_ipv6)], last, Instant::now())
    }

    /// What the hosts file says of the name, if anything.
    fn in_hosts(&self, name: &Name) -> Option<Answer> {
        let hosts = self.hosts.get(|file| {
            let mut hosts = Hosts::default();
            if let Err(error) = file.and_then(|bytes| hosts.read_hosts_conf(&*bytes)) {
                warn!(path = %self.hosts.path.display(), %error, "the hosts file can't be read");
            }
            hosts
        });
        let kinds = [RecordType::A, RecordType::AAAA];
        let lookups = kinds.map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
        let found: Vec<IpAddr> = lookups.iter().flatten().flat_map(addresses).collect();
        (!found.is_empty()).then(|| Answer::Found { addresses: sorted(found), ttl: HOSTS_TTL })
    }

    fn nameservers(&self) -> Arc<Result<TokioResolver, String>> {
        self.nameservers.get(|file| {
            let path = self.nameservers.path.display();
            let bytes = file.map_err(|error| format!("{path}: {error}"))?;
            let (config, options) =
                parse_resolv_conf(bytes).map_err(|error| format!("{path}: {error}"))?;
            client(config, options, self.nameserver_port)
                .map_err(|error| format!("{path}: {error}"))
        })
    }
}

/// A client of these name servers that keeps nothing: answers are used as long as they may be.
fn client(
    config: ResolverConfig,
    options: ResolverOpts,
    port: u16,
) -> Result<TokioResolver, NetError> {
    let (domain, search, mut nameservers) = config.into_parts();
    for connection in nameservers.iter_mut().flat_map(|server| &mut server.connections) {
        connection.port = port;
    }
    let config = ResolverConfig::from_parts(domain, search, nameservers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options);
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// A lookup of one kind of address, and which addresses are of that kind.
type OfKind = (Result<Lookup, NetError>, fn(&IpAddr) -> bool);

/// One answer from a lookup of each kind.
fn combine(lookups: [OfKind; 2], last: &[IpAddr], now: Instant) -> Answer {
    let (mut found, mut kept, mut ttl, mut failure) = (Vec::new(), Vec::new(), None, None);
    for (lookup, is_of_kind) in lookups {
        match lookup {
            Ok(lookup) => {
                found.extend(addresses(&lookup));
                let left = lookup.valid_until().saturating_duration_since(now);
                ttl = Some(ttl.map_or(left, |ttl: Duration| ttl.min(left)));
            }
            Err(error) if error.is_no_records_found() => {}
            Err(error) => {
                kept.extend(last.iter().filter(|address| is_of_kind(address)));
                failure = Some(error);
            }
        }
    }
    match (ttl, failure) {
        (Some(ttl), _) if !found.is_empty() => {
            found.append(&mut kept);
            Answer::Found { addresses: sorted(found), ttl }
        }
        (_, Some(failure)) => Answer::Failed(failure.to_string()),
        (_, None) => Answer::Missing,
    }
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> + '_ {
    lookup.answers().iter().filter_map(|record| record.data.ip_addr())
}

/// Sorted, so that name servers that rotate their answers don't look like a change.
fn sorted(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into()
}

/// What is made of a file, and made again when the file has changed.
#[derive(Debug)]
struct Watched<T> {
    path: PathBuf,
    made: Mutex<Option<(Stamp, Arc<T>)>>,
}

/// When a file was written last, and how long it is; `None` if there is none.
type Stamp = Option<(SystemTime, u64)>;

impl<T> Watched<T> {
    fn new(path: PathBuf) -> Self {
        Self { path, made: Mutex::default() }
    }

    fn get(&self, make: impl FnOnce(io::Result<Vec<u8>>) -> T) -> Arc<T> {
        let stamp = fs::metadata(&self.path)
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
            .ok();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((known, value)) if *known == stamp => value.clone(),
            _ => {
                let value = Arc::new(make(fs::read(&self.path)));
                *made = Some((stamp, value.clone()));
                value
            }
        }
    }
}
