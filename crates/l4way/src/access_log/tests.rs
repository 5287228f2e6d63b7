use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use l4way_model::{BackendId, GatewayId, ListenerId, RouteId, Transport};
use l4way_session::{CloseReason, Labels, SessionRecord};
use serde_json::{Value, json};

use super::{AccessLog, Output, Switch};

fn tcp(bytes_upstream: u64) -> SessionRecord {
    let gateway = GatewayId::new("default", "edge");
    SessionRecord {
        transport: Transport::Tcp,
        labels: Arc::new(Labels {
            transport: Transport::Tcp,
            listener: ListenerId { gateway, listener_set: None, name: "db".into() },
            route: Some(RouteId {
                kind: "TCPRoute".into(),
                namespace: "default".into(),
                name: "db".into(),
            }),
            backend: Some(BackendId {
                kind: "Service".into(),
                namespace: "default".into(),
                name: "postgres".into(),
                port: Some(5432),
                transport: Transport::Tcp,
            }),
        }),
        endpoint: Some(l4way_model::EndpointAddress::Ip("10.0.0.7:5432".parse().unwrap())),
        attempts: 2,
        downstream: "192.0.2.1:40000".parse().unwrap(),
        local: "[2001:db8::1]:5432".parse().unwrap(),
        bytes_upstream,
        bytes_downstream: 2_048,
        datagrams_upstream: 0,
        datagrams_downstream: 0,
        started: UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
        duration: Duration::from_micros(1_500_042),
        connect_time: Some(Duration::from_nanos(350_900)),
        reason: CloseReason::Closed,
        tls: None,
    }
}

fn refused_udp() -> SessionRecord {
    let tcp = tcp(0);
    let listener = ListenerId {
        gateway: GatewayId::new("default", "edge"),
        listener_set: Some(("team".into(), "extra".into())),
        name: "dns".into(),
    };
    SessionRecord {
        transport: Transport::Udp,
        labels: Arc::new(Labels {
            transport: Transport::Udp,
            listener,
            route: None,
            backend: None,
        }),
        endpoint: None,
        attempts: 0,
        bytes_downstream: 0,
        datagrams_upstream: 1,
        duration: Duration::ZERO,
        connect_time: None,
        reason: CloseReason::NoRoute,
        ..tcp
    }
}

fn start(path: &Path) -> (AccessLog, SyncSender<SessionRecord>) {
    AccessLog::start(Output::File(path.to_owned()), Arc::default()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "gave up waiting");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn each_record_is_a_line_whose_fields_are_always_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, records) = start(&path);
    records.send(tcp(512)).unwrap();
    records.send(refused_udp()).unwrap();
    drop(records);
    log.finish();
    let expected = [
        json!({
            "time": "2023-11-14T22:13:20.250Z",
            "protocol": "TCP",
            "gateway": "default/edge",
            "listener": "db",
            "route": "TCPRoute/default/db",
            "backend": "Service/default/postgres:5432",
            "endpoint": "10.0.0.7:5432",
            "attempts": 2,
            "downstream": "192.0.2.1:40000",
            "local": "[2001:db8::1]:5432",
            "bytes_upstream": 512,
            "bytes_downstream": 2048,
            "datagrams_upstream": null,
            "datagrams_downstream": null,
            "duration_seconds": 1.500042,
            "connect_seconds": 0.00035,
            "first_reply_seconds": null,
            "reason": "closed",
            "class": "normal",
            "tls": null,
        }),
        json!({
            "time": "2023-11-14T22:13:20.250Z",
            "protocol": "UDP",
            "gateway": "default/edge",
            "listener": "team/extra/dns",
            "route": null,
            "backend": null,
            "endpoint": null,
            "attempts": null,
            "downstream": "192.0.2.1:40000",
            "local": "[2001:db8::1]:5432",
            "bytes_upstream": 0,
            "bytes_downstream": 0,
            "datagrams_upstream": 1,
            "datagrams_downstream": 0,
            "duration_seconds": 0.0,
            "connect_seconds": null,
            "first_reply_seconds": null,
            "reason": "no_route",
            "class": "refused",
            "tls": null,
        }),
    ];
    assert_eq!(lines(&path), expected);
}

#[test]
fn an_idle_log_is_written_and_goes_on_at_the_end_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    fs::write(&path, "{}\n").unwrap();
    let (_log, records) = start(&path);
    records.send(tcp(1)).unwrap();
    wait_until(|| lines(&path).len() == 2);
}

#[test]
fn after_a_rotation_records_go_to_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (log, records) = start(&path);
    records.send(tcp(1)).unwrap();
    wait_until(|| lines(&path).len() == 1);
    fs::rename(&path, &rotated).unwrap();
    log.reopen().unwrap();
    assert!(path.exists(), "the file is there before the next record");
    records.send(tcp(2)).unwrap();
    drop(records);
    log.finish();
    assert_eq!(lines(&rotated)[0]["bytes_upstream"], 1);
    assert_eq!(lines(&path)[0]["bytes_upstream"], 2);
}

/// A named pipe in a folder of its own.
fn fifo() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    (folder, path)
}

#[test]
fn the_reader_of_a_fifo_may_come_late_and_come_and_go() {
    let (_folder, path) = fifo();
    let (log, records) = start(&path);
    records.send(tcp(1)).unwrap();
    for bytes_upstream in [1, 2, 3] {
        let mut reader = BufReader::new(fs::File::open(&path).unwrap());
        if bytes_upstream > 1 {
            records.send(tcp(bytes_upstream)).unwrap();
        }
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["bytes_upstream"], bytes_upstream);
        log.reopen().unwrap();
    }
    drop(records);
    log.finish();
}

#[test]
fn a_fifo_that_is_full_keeps_nobody_from_a_new_file() {
    let (_folder, path) = fifo();
    let (log, records) = start(&path);
    let mut reader = fs::File::open(&path).unwrap();
    // Far more than a pipe holds.
    (0..1_000).for_each(|sent| records.send(tcp(sent)).unwrap());
    wait_until(|| rustix::io::ioctl_fionread(&reader).unwrap() > 60_000);
    fs::remove_file(&path).unwrap();
    log.reopen().unwrap();
    drop(records);
    log.finish();
    let mut piped = vec![0; rustix::io::ioctl_fionread(&reader).unwrap() as usize];
    reader.read_exact(&mut piped).unwrap();
    let piped = String::from_utf8(piped).unwrap();
    // What the pipe has only a part of, the file has as a whole.
    let whole = piped.matches('\n').count();
    let first = &lines(&path)[0]["bytes_upstream"];
    assert_eq!(first.as_u64().unwrap(), whole as u64);
    assert_eq!(lines(&path).len(), 1_000 - whole);
}

#[test]
fn a_full_disk_costs_records_but_not_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    symlink("/dev/full", &path).unwrap();
    let log = Switch::new(Some(&path)).unwrap();
    let (tap, unwritten) = (log.tap(), log.unwritten());
    assert!(tap.end(|| tcp(1)) && tap.end(|| tcp(2)));
    wait_until(|| unwritten() == 2);
    fs::remove_file(&path).unwrap();
    log.reopen().unwrap();
    assert!(tap.end(|| tcp(3)));
    wait_until(|| lines(&path).len() == 1);
    assert_eq!(unwritten(), 2);
}

#[test]
fn it_is_switched_off_and_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut log = Switch::new(Some(&path)).unwrap();
    let tap = log.tap();
    for (bytes_upstream, on) in [(1, true), (2, false), (3, true)] {
        log.set(on).unwrap();
        assert_eq!(tap.wants_records(), on);
        tap.end(|| tcp(bytes_upstream));
    }
    drop(tap);
    log.finish();
    let written: Vec<_> = lines(&path).iter().map(|line| line["bytes_upstream"].clone()).collect();
    assert_eq!(written, [1, 3]);
}

#[test]
fn without_a_path_it_is_off() {
    let log = Switch::new(None).unwrap();
    assert!(!log.tap().wants_records());
    log.finish();
}

#[test]
fn a_torn_line_is_ended_before_the_next() {
    struct Tight(Arc<std::sync::Mutex<Vec<u8>>>, usize);
    impl std::io::Write for Tight {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let length = bytes.len().min(self.1);
            if length == 0 {
                self.1 = usize::MAX;
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.1 -= length;
            self.0.lock().unwrap().extend_from_slice(&bytes[..length]);
            Ok(length)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Arc::default();
    let shared =
        Arc::new(super::Shared { reopened: Default::default(), unwritten: Default::default() });
    let sink = super::Sink { writer: Box::new(Tight(Arc::clone(&written), 30)), torn: false };
    let (done, _progress) = sync_channel(1);
    let mut writer = super::Writer { shared: shared.clone(), sink, written: done, failing: false };
    for bytes_upstream in [1, 2] {
        let (sender, records) = sync_channel(1);
        sender.send(tcp(bytes_upstream)).unwrap();
        drop(sender);
        writer.write_all(&records);
    }
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0].len()), (2, 30), "{text}");
    assert_eq!(serde_json::from_str::<Value>(lines[1]).unwrap()["bytes_upstream"], 2);
    assert_eq!(shared.unwritten.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let error = AccessLog::start(Output::File("/nonexistent/access.log".into()), Arc::default())
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/access.log"), "{error}");
}
