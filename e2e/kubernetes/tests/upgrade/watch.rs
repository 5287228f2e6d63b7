//! Which proxy carries a session, and when proxies end.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use crate::{
    support::{Gateway, shell},
    traffic::Transport,
};

/// Follows the proxies of a Gateway.
pub(super) struct Watch {
    kubectl: Child,
    ending: Arc<Mutex<BTreeMap<String, SystemTime>>>,
}

impl Watch {
    pub(super) fn start(gateway: Gateway<'_>) -> Self {
        let selector = gateway.selector();
        let format = concat!(
            "jsonpath={.status.podIP} {.metadata.deletionTimestamp} ",
            "{.metadata.deletionGracePeriodSeconds}{\"\\n\"}"
        );
        let args = ["get", "pods", "--watch", "--namespace", gateway.namespace()];
        let mut kubectl = Command::new("kubectl")
            .args(args)
            .args(["--selector", &selector, "--output", format])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let lines = BufReader::new(kubectl.stdout.take().expect("piped")).lines();
        let ending = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let seen = ending.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // A pod that goes on has no more than its address.
                if let [ip, by, grace] = line.split_whitespace().collect::<Vec<_>>()[..] {
                    let mut ending = seen.lock().expect("no panic");
                    ending.entry(ip.to_owned()).or_insert_with(|| told_to_end(by, grace));
                }
            }
        });
        Self { kubectl, ending }
    }

    /// The proxies that have been told to end, by their addresses, and when, to the second before.
    pub(super) fn ending(&self) -> BTreeMap<String, SystemTime> {
        self.ending.lock().expect("no panic").clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

/// When a pod was told to end that has to by then, and was given so many seconds. Not when that is seen: on a
/// busy machine it is seconds later.
fn told_to_end(by: &str, grace: &str) -> SystemTime {
    let seconds = |text: &str| text.trim().parse().map(Duration::from_secs).expect("seconds");
    let by = seconds(&shell(&format!("date --date={by} +%s")));
    SystemTime::UNIX_EPOCH + by - seconds(grace)
}

/// The addresses of the pods that clients' sessions with a Service lead to, by the clients' ports, as this
/// machine's connection tracking has them.
pub(super) fn pods_of(to: SocketAddr) -> BTreeMap<(Transport, u16), String> {
    let table = fs::read_to_string("/proc/net/nf_conntrack").expect("connection tracking's table");
    let (ip, port) = (to.ip().to_string(), to.port().to_string());
    let entries = table.lines().filter_map(|line| {
        let transport = match line.split_whitespace().nth(2)? {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return None,
        };
        let all = |field: &str| {
            line.split_whitespace().filter_map(|word| word.strip_prefix(field)).collect::<Vec<_>>()
        };
        // Of the packets to the Service, and of the answers to them.
        let (sources, targets) = (all("src="), all("dst="));
        let (source_ports, target_ports) = (all("sport="), all("dport="));
        let is_it = *targets.first()? == ip && *target_ports.first()? == port;
        let from = source_ports.first()?.parse().ok()?;
        is_it.then(|| ((transport, from), sources.get(1).copied().unwrap_or_default().to_owned()))
    });
    entries.collect()
}
