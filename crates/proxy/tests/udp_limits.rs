//! Out of descriptors: alone in its process, as the limit is the process's.

mod udp_support;

use std::{fs, num::NonZeroUsize};

use l4way_proxy::ProxySettings;
use l4way_session::CloseReason;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use udp_support::*;

#[test]
fn out_of_descriptors_the_longest_idle_session_makes_room() {
    let settings = ProxySettings { workers: NonZeroUsize::MIN, ..settings() };
    let (bench, endpoint) = Bench::with_backend(settings);
    let clients = [(); 8].map(|()| bench.client());
    let open = fs::read_dir("/proc/self/fd").expect("procfs").count() as u64;
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 2), ..before }).expect("lower");
    for client in &clients {
        round_trip(client, &endpoint, b"hello");
    }
    let (active, evicted) = (bench.active(), bench.count(CloseReason::Evicted));
    assert!(
        (1..=4).contains(&active),
        "{active} sessions fit into 2 descriptors and what was freed"
    );
    assert_eq!((bench.opened(), evicted), (8, 8 - active));
    assert_eq!(bench.record().downstream, clients[0].local_addr().expect("bound"));
}
