//! What is held for those who don't read.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use hyper::{Request, body::Bytes};
use l4way_http::{ErrorReason, HttpSettings, Timeouts};
use l4way_proxy_core::MemoryBudget;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    client::{Answer, Body, connect, http2, request, send},
    endpoint::{connections, requests, text},
    support::{all_to, errors, eventually, listener, proxy_with_settings},
};

/// More than sockets hold.
const BIG: usize = 16 << 20;
const KIBIBYTE: usize = 1 << 10;

fn budget(bytes: usize) -> (Arc<MemoryBudget>, HttpSettings) {
    let memory = Arc::new(MemoryBudget::new(NonZeroUsize::new(bytes).unwrap()));
    let mut settings = HttpSettings::default();
    settings.process.memory = memory.clone();
    (memory, settings)
}

/// A client that takes little at a time.
async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(to).await.unwrap()
}

/// An endpoint with `BIG` bytes for whoever asks for `/big`.
async fn big() -> SocketAddr {
    let bytes = Bytes::from(vec![b'x'; BIG]);
    requests(move |request| {
        let is_big = request.uri().path() == "/big";
        let answer = if is_big { bytes.clone() } else { Bytes::from_static(b"small") };
        async move { text(answer) }
    })
    .await
}

#[tokio::test]
async fn a_reader_that_stalls_costs_one_chunk() {
    const READERS: usize = 200;
    let (memory, settings) = budget(1 << 30);
    let address = big().await;
    let listeners = vec![listener("", all_to("b"))];
    let (_proxy, address) = proxy_with_settings(settings, listeners, [("b", vec![address])]);
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut stream = narrow(address).await;
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: any\r\n\r\n").await.unwrap();
        stalled.push(stream);
    }
    eventually("all of them are stalled", || memory.held() >= READERS * 8 * KIBIBYTE).await;
    assert_eq!(send(address, request("any", "/")).await.text, "small", "others are served");
    let held = memory.held();
    // Of the first ones more is read at a time.
    assert!(held <= READERS * 16 * KIBIBYTE + (2 << 20), "{held} bytes for {READERS}");

    // One that reads again gets all of it.
    let mut stream = stalled.pop().unwrap();
    let mut got = 0;
    let mut buffer = vec![0; 64 * KIBIBYTE];
    while got < BIG {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "after {got} bytes");
        got += read;
    }
    drop(stalled);
    eventually("nothing is held", || memory.held() == 0).await;
}

#[tokio::test]
async fn a_stalled_stream_of_http2_costs_one_chunk_too() {
    const STREAMS: usize = 20;
    let (memory, settings) = budget(1 << 30);
    let address = big().await;
    let listeners = vec![listener("", all_to("b"))];
    let (_proxy, address) = proxy_with_settings(settings, listeners, [("b", vec![address])]);
    let mut client = http2(connect(address).await).await;
    let mut stalled = Vec::new();
    for _ in 0..STREAMS {
        let ask = Request::get("http://any/big").body(Body::new()).unwrap();
        stalled.push(client.send_request(ask).await.unwrap());
    }
    eventually("all of them are stalled", || memory.held() >= STREAMS * 8 * KIBIBYTE).await;
    let held = memory.held();
    // Of those that were taken of for long, more is read at a time.
    assert!(held <= STREAMS * 64 * KIBIBYTE + (1 << 20), "{held} bytes for {STREAMS}");
    let answer = Answer::read(stalled.pop().unwrap());
    drop(stalled);
    assert_eq!(answer.await.unwrap().text.len(), BIG);
    eventually("nothing is held", || memory.held() == 0).await;
}

#[tokio::test]
async fn an_endpoint_that_stalls_costs_one_chunk() {
    let (memory, settings) = budget(1 << 30);
    // It accepts, and reads nothing.
    let address = connections(|stream| async {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    let listeners = vec![listener("", all_to("b"))];
    let (_proxy, address) = proxy_with_settings(settings, listeners, [("b", vec![address])]);
    let mut stream = connect(address).await;
    let head = format!("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: {BIG}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let writing = tokio::spawn(async move {
        let _ = stream.write_all(&vec![b'x'; BIG]).await;
    });
    eventually("it is stalled", || memory.held() > 0 && !writing.is_finished()).await;
    let held = memory.held();
    assert!(held <= 256 * KIBIBYTE, "{held} bytes");
    writing.abort();
}

#[tokio::test]
async fn who_has_been_stalled_longest_goes_when_memory_is_short() {
    const READERS: usize = 20;
    let limit = (READERS - 4) * 16 * KIBIBYTE;
    let (memory, settings) = budget(limit);
    let timeouts = Timeouts { stalled: Duration::from_millis(200), ..Timeouts::default() };
    let settings = HttpSettings { timeouts, ..settings };
    let address = big().await;
    let listeners = vec![listener("", all_to("b"))];
    let (proxy, address) = proxy_with_settings(settings, listeners, [("b", vec![address])]);
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut stream = narrow(address).await;
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: any\r\n\r\n").await.unwrap();
        stalled.push(stream);
    }
    eventually("some are reset", || errors(&proxy, ErrorReason::MemoryBudget) > 0).await;
    eventually("there is room again", || memory.held() < limit).await;
    assert_eq!(send(address, request("any", "/")).await.text, "small", "others are served");
    assert!(memory.held() > 0, "who needn't go stays");
}
