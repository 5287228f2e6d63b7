//! Clients of one connection each.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) type Body = Empty<Bytes>;

/// An answer, with its body as text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(Self { status, text: String::from_utf8(bytes.into()).unwrap() })
    }

    /// The first line of the body: the name of the endpoint that answered.
    pub(crate) fn name(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.text.lines().next().unwrap_or_default()
    }
}

pub(crate) async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> http1::SendRequest<Body> {
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    client
}

pub(crate) async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> http2::SendRequest<Body> {
    let executor = TokioExecutor::new();
    let (client, connection) = http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// A request in HTTP/1.1's usual form.
pub(crate) fn request(host: &str, path: &str) -> Request<Body> {
    Request::get(path).header("host", host).body(Body::new()).unwrap()
}

/// The answer to a GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, host: &str, path: &str) -> Answer {
    send(address, request(host, path)).await
}

/// The answer to a request on a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Body>) -> Answer {
    let mut client = http1(connect(address).await).await;
    Answer::read(client.send_request(request).await.unwrap()).await.unwrap()
}

/// What comes back for these bytes until the end of the connection.
pub(crate) async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = connect(address).await;
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request for another protocol.
pub(crate) fn upgrade_request(protocol: &str) -> Request<Body> {
    let mut wanted = request("any", "/");
    wanted.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    wanted.headers_mut().insert("upgrade", protocol.parse().unwrap());
    wanted
}
