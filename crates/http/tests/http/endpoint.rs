//! Endpoints.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt, Either, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::HeaderValue,
    server::conn::http1,
    service::service_fn,
    upgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};

pub(crate) type Body = Either<Full<Bytes>, Incoming>;

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Either::Left(Full::new(text.into())))
}

/// An endpoint: each connection is served by `serve`.
pub(crate) async fn connections<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An endpoint that answers each request as `answer` does.
pub(crate) async fn requests<F: Future<Output = Response<Body>> + Send + 'static>(
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr {
    connections(move |stream| {
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        async {
            let server = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = server.with_upgrades().await;
        }
    })
    .await
}

/// An endpoint that answers with its name, the request's first line and its headers, each a line.
pub(crate) async fn named(name: &'static str) -> SocketAddr {
    requests(move |request| async move {
        let mut lines = format!("{name}\n{} {}\n", request.method(), request.uri());
        for (header, value) in request.headers() {
            lines += &format!("{header}: {}\n", value.to_str().unwrap());
        }
        let _ = request.into_body().collect().await;
        text(lines)
    })
    .await
}

/// An endpoint that answers with the request's first line and its headers, each a line, an empty line, and its
/// body. Trailers are lines behind that.
pub(crate) async fn mirror() -> SocketAddr {
    requests(|request| async move {
        let lines = |headers: &HeaderMap| -> String {
            let line =
                |(name, value): (_, &HeaderValue)| format!("{name}: {}\n", value.to_str().unwrap());
            headers.iter().map(line).collect()
        };
        let head = format!("{} {}\n{}", request.method(), request.uri(), lines(request.headers()));
        let Ok(body) = request.into_body().collect().await else { return text("broken") };
        let trailers = body.trailers().map(lines).unwrap_or_default();
        let body = String::from_utf8(body.to_bytes().into()).unwrap();
        text(format!("{head}\n{body}{trailers}"))
    })
    .await
}

/// An endpoint that sends these bytes for each head that comes.
pub(crate) async fn answering(bytes: &'static [u8]) -> SocketAddr {
    connections(move |mut stream| async move {
        let mut came = Vec::new();
        while stream.read_buf(&mut came).await.is_ok_and(|read| read > 0) {
            while let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") {
                came.drain(..end + 4);
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// An endpoint that tells of each request, and answers when it may: a permit for each answer.
pub(crate) async fn patient() -> (SocketAddr, mpsc::UnboundedReceiver<()>, Arc<Semaphore>) {
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let may_answer = Arc::new(Semaphore::new(0));
    let permits = may_answer.clone();
    let address = requests(move |_| {
        arrived.send(()).unwrap();
        let permits = permits.clone();
        async move {
            permits.acquire().await.unwrap().forget();
            text("patient")
        }
    })
    .await;
    (address, arrivals, may_answer)
}

/// An endpoint that changes to the protocol that it is asked for, in which it sends back what comes.
pub(crate) async fn upgrading() -> SocketAddr {
    requests(|mut request| async move {
        let Some(protocol) = request.headers().get("upgrade").cloned() else {
            return text("none");
        };
        let upgrade = upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = split(TokioIo::new(upgrade.await.unwrap()));
            let _ = copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
        let mut response = text("");
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", protocol);
        response
    })
    .await
}
