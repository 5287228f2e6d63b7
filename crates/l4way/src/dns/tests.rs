use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A, rdata::AAAA},
};
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};

use super::{Addresses, Resolver, Sources};

/// How long to wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a name server says about every name.
#[derive(Clone, Debug)]
struct Zone {
    addresses: Vec<IpAddr>,
    ttl: u32,
    code: ResponseCode,
}

impl Zone {
    fn of(addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Self { addresses, ttl: 1, code: ResponseCode::NoError }
    }

    fn failing() -> Self {
        Self { addresses: Vec::new(), ttl: 1, code: ResponseCode::ServFail }
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let request = Message::from_vec(query).unwrap();
        let query = request.queries[0].clone();
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata.response_code = self.code;
        response.metadata.recursion_available = true;
        for address in &self.addresses {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
            };
            if data.record_type() == query.query_type() {
                response.add_answer(Record::from_rdata(query.name().clone(), self.ttl, data));
            }
        }
        response.add_query(query);
        response.to_vec().unwrap()
    }
}

/// A name server on a loopback address, and the files that lead to it.
struct Server {
    zone: Arc<Mutex<Zone>>,
    queries: watch::Receiver<Vec<(String, RecordType)>>,
    files: TempDir,
    port: u16,
}

impl Server {
    fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let zone = Arc::new(Mutex::new(zone));
        let (seen, queries) = watch::channel(Vec::new());
        let served = zone.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let query = Message::from_vec(&buffer[..length]).unwrap().queries[0].clone();
                let answer = served.lock().unwrap().answer(&buffer[..length]);
                seen.send_modify(|seen| seen.push((query.name().to_ascii(), query.query_type())));
                let _ = socket.send_to(&answer, client);
            }
        });
        let files = tempfile::tempdir().unwrap();
        let server = Self { zone, queries, files, port };
        server.write("resolv.conf", "search example.org\nnameserver 127.0.0.1\n");
        server.write("hosts", "127.0.0.1 localhost\n");
        server
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.files.path().join(file), text).unwrap();
    }

    fn set(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }

    fn resolver(&self) -> Resolver {
        Resolver::start(Sources {
            hosts: self.files.path().join("hosts"),
            resolv_conf: self.files.path().join("resolv.conf"),
            nameserver_port: self.port,
        })
    }

    /// Waits until the server has been asked more often than before.
    async fn next_query(&mut self) {
        let before = self.queries.borrow().len();
        let more = self.queries.wait_for(|queries| queries.len() > before);
        timeout(PATIENCE, more).await.expect("a query").unwrap();
    }
}

fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn of(addresses: &Addresses, name: &str) -> Vec<String> {
    addresses
        .of(name)
        .map_or_else(Vec::new, |found| found.iter().map(ToString::to_string).collect())
}

/// Waits until `name` has these addresses.
async fn expect(changes: &mut watch::Receiver<Addresses>, name: &str, expected: &[&str]) {
    let found = changes.wait_for(|addresses| of(addresses, name) == expected);
    timeout(PATIENCE, found).await.expect("the addresses").unwrap();
}

#[tokio::test]
async fn a_name_is_looked_up_again_when_its_ttl_is_over() {
    let server = Server::start(Zone::of(&["10.0.0.2", "10.0.0.1", "2001:db8::1"]));
    let mut resolver = server.resolver();
    let mut changes = resolver.subscribe();
    resolver.set_names(names(&["db.example"]));
    expect(&mut changes, "db.example", &["10.0.0.1", "10.0.0.2", "2001:db8::1"]).await;
    server.set(Zone::of(&["10.0.0.3"]));
    expect(&mut changes, "db.example", &["10.0.0.3"]).await;
    let asked = server.queries.borrow().clone();
    assert!(asked.iter().all(|(name, _)| name == "db.example."), "{asked:?}");
}

#[tokio::test]
async fn the_last_good_addresses_stay_while_the_name_servers_fail() {
    let mut server = Server::start(Zone::of(&["10.0.0.1"]));
    let mut resolver = server.resolver();
    let mut changes = resolver.subscribe();
    resolver.set_names(names(&["db.example"]));
    expect(&mut changes, "db.example", &["10.0.0.1"]).await;

    server.set(Zone::failing());
    server.next_query().await;
    // The next lookup begins when the failed one has been taken in.
    server.next_query().await;
    server.next_query().await;
    assert_eq!(of(&changes.borrow(), "db.example"), ["10.0.0.1"]);

    server.set(Zone::of(&["10.0.0.9"]));
    expect(&mut changes, "db.example", &["10.0.0.9"]).await;
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_is_read_again() {
    let server = Server::start(Zone::of(&["10.0.0.1"]));
    server.write("hosts", "192.0.2.1 db.example alias\n2001:db8::2 db.example\n");
    let mut resolver = server.resolver();
    let mut changes = resolver.subscribe();
    resolver.set_names(names(&["DB.example", "alias"]));
    expect(&mut changes, "DB.example", &["192.0.2.1", "2001:db8::2"]).await;
    expect(&mut changes, "alias", &["192.0.2.1"]).await;
    assert_eq!(*server.queries.borrow(), []);
    server.write("hosts", "192.0.2.99 alias\n");
    expect(&mut changes, "alias", &["192.0.2.99"]).await;
    expect(&mut changes, "DB.example", &["10.0.0.1"]).await;
}

#[tokio::test]
async fn name_servers_may_come_later() {
    let server = Server::start(Zone::of(&["10.0.0.1"]));
    fs::remove_file(server.files.path().join("resolv.conf")).unwrap();
    let mut resolver = server.resolver();
    let mut changes = resolver.subscribe();
    resolver.set_names(names(&["db.example"]));
    server.write("resolv.conf", "nameserver 127.0.0.1\n");
    expect(&mut changes, "db.example", &["10.0.0.1"]).await;
}

#[tokio::test]
async fn names_come_and_go() {
    let server = Server::start(Zone::of(&["10.0.0.1"]));
    let mut resolver = server.resolver();
    let mut changes = resolver.subscribe();
    resolver.set_names(names(&["a.example", "not..a name"]));
    expect(&mut changes, "a.example", &["10.0.0.1"]).await;
    resolver.set_names(names(&["a.example", "b.example"]));
    assert_eq!(of(&changes.borrow(), "a.example"), ["10.0.0.1"]);
    expect(&mut changes, "b.example", &["10.0.0.1"]).await;
    resolver.set_names(names(&["b.example"]));
    assert_eq!(changes.borrow_and_update().of("a.example"), None);
}
