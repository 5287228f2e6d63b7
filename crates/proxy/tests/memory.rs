//! What is held for those who don't read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use common::*;
use l4way_proxy::ProxySettings;
use l4way_proxy_core::MemoryBudget;
use l4way_session::CloseReason;

/// An endpoint that sends without end to who begins with `*`, and echoes what others send.
fn flood() -> SocketAddr {
    serve(|mut stream| {
        let mut first = [0];
        if stream.peek(&mut first).is_ok() && first == *b"*" {
            let _ = stream.read(&mut first);
            while stream.write_all(&[b'x'; 64 << 10]).is_ok() {}
        } else {
            echo_all(stream);
        }
    })
}

fn stalled(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"*").unwrap();
    stream
}

#[test]
fn who_has_been_stalled_longest_goes_when_memory_is_short() {
    const READERS: usize = 100;
    let memory = Arc::new(MemoryBudget::new(NonZeroUsize::new(256 << 10).unwrap()));
    let stall = Duration::from_millis(300);
    let mut settings = ProxySettings { stalled: stall, ..settings() };
    settings.process.memory = memory.clone();
    let (proxy, address) = proxy_with(settings, vec![flood()]);
    let used = connect(address);
    ping(&used, "before");
    let readers: Vec<_> = (0..READERS).map(|_| stalled(address)).collect();
    eventually("some are reset", || ended(&proxy, CloseReason::MemoryBudget) > 0);
    eventually("there is room again", || memory.held() < memory.limit());
    ping(&used, "after");
    ping(&connect(address), "others are served");
    assert!(memory.held() > 0, "who needn't go stays");
    drop(readers);
    eventually("nothing is held", || memory.held() == 0);
}

#[test]
fn nobody_goes_as_long_as_there_is_room() {
    let memory = Arc::new(MemoryBudget::new(NonZeroUsize::new(1 << 30).unwrap()));
    let stall = Duration::from_millis(1);
    let mut settings = ProxySettings { stalled: stall, ..settings() };
    settings.process.memory = memory.clone();
    let (proxy, address) = proxy_with(settings, vec![flood()]);
    let mut readers: Vec<_> = (0..10).map(|_| stalled(address)).collect();
    eventually("all of them are stalled", || memory.held() >= 10 << 10);
    ping(&connect(address), "others are served");
    for reader in &mut readers {
        reader.read_exact(&mut [0; 1 << 20]).unwrap();
    }
    assert_eq!(ended(&proxy, CloseReason::MemoryBudget), 0);
}
