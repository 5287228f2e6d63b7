//! With real sockets, and a server of a few lines in the place of the API server.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api, Config,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{Clients, Leader, fence::boot_time, follow::Cause};

/// What a server answers: the status, and headers.
type Said = (u16, &'static str);

const WELL: Said = (200, "");
const LATER: Said = (429, "Retry-After: 1\r\n");

/// An HTTP server that answers as it is told, and remembers what it was asked.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    /// The next answers; [`WELL`] when there are none.
    next: VecDeque<Said>,
    /// Method and path of each request.
    asked: Vec<String>,
}

impl Server {
    /// Serves on a free port, with clients of it.
    async fn start() -> (Self, Clients, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clients = clients(listener.local_addr().unwrap());
        let server = Self::default();
        let serving = server.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (server, clients, task)
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Ok(Some(asked)) = read(&mut stream).await {
            let (status, headers) = {
                let mut script = self.0.lock().unwrap();
                script.asked.push(asked);
                script.next.pop_front().unwrap_or(WELL)
            };
            let body = match status {
                200 => json!({"metadata": {"name": "a"}}),
                _ => json!({"status": "Failure", "code": status, "message": "no", "reason": "no"}),
            };
            let body = body.to_string();
            let text = format!(
                "HTTP/1.1 {status} said\r\n{headers}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn say(&self, answers: impl IntoIterator<Item = Said>) {
        self.0.lock().unwrap().next = answers.into_iter().collect();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

/// Reads a request with its body; nothing at the end of the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut length = 0;
    let mut asked = None;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse().map_err(|_| ErrorKind::InvalidData)?;
        }
        let (method_and_path, _) = line.rsplit_once(' ').unwrap_or((line, ""));
        asked.get_or_insert_with(|| method_and_path.to_owned());
    }
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(asked)
}

fn clients(address: SocketAddr) -> Clients {
    Clients::new(Config::new(format!("http://{address}").parse().unwrap())).unwrap()
}

fn secrets(clients: &Clients) -> Api<Secret> {
    Api::namespaced(clients.ordinary.clone(), "team")
}

fn leases(clients: &Clients) -> Api<Lease> {
    Api::namespaced(clients.lease.clone(), "team")
}

async fn write(clients: &Clients) -> kube::Result<Secret> {
    let patch = Patch::Merge(json!({"data": {"a": "Yg=="}}));
    secrets(clients).patch("a", &PatchParams::default(), &patch).await
}

const WROTE: &str = "PATCH /api/v1/namespaces/team/secrets/a?";

#[tokio::test]
async fn what_comes_too_early_is_repeated_after_the_pause() {
    let (server, clients, _task) = Server::start().await;
    server.say([LATER]);
    let begun = Instant::now();
    write(&clients).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(server.asked(), [WROTE, WROTE]);
}

#[tokio::test]
async fn while_the_server_is_in_need_only_leases_are_asked_for() {
    let (server, clients, _task) = Server::start().await;
    server.say([(503, "Retry-After: 300\r\n")]);
    let writing = tokio::spawn({
        let clients = clients.clone();
        async move { write(&clients).await }
    });
    let wait = async {
        while server.0.lock().unwrap().asked.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    wait.await;
    server.asked();
    let reading = tokio::spawn({
        let clients = clients.clone();
        async move { secrets(&clients).get("a").await }
    });
    // Its own answer is its sender's to heed.
    server.say([LATER]);
    let refused = leases(&clients).get("l").await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 429));
    assert_eq!(server.asked(), ["GET /apis/coordination.k8s.io/v1/namespaces/team/leases/l"]);
    assert!(!writing.is_finished() && !reading.is_finished());
    // One that succeeds says that the server is well, long before the pause has passed.
    leases(&clients).get("l").await.unwrap();
    writing.await.unwrap().unwrap();
    reading.await.unwrap().unwrap();
    let mut asked = server.asked();
    asked.sort();
    assert_eq!(asked[1..], ["GET /apis/coordination.k8s.io/v1/namespaces/team/leases/l", WROTE]);
    assert_eq!(asked[0], "GET /api/v1/namespaces/team/secrets/a");
}

#[tokio::test]
async fn who_leads_no_longer_changes_nothing() {
    let (server, clients, _task) = Server::start().await;
    clients.fence.close();
    let error = write(&clients).await.unwrap_err();
    assert!(matches!(Cause::of(&error), Cause::Other(_)), "{error}");
    assert_eq!(server.asked(), [""; 0]);
    secrets(&clients).get("a").await.expect("everybody may look");
    leases(&clients).get("l").await.expect("everybody may stand for election");
    clients.fence.open_until(boot_time() + Duration::from_secs(60));
    write(&clients).await.expect("it leads again");
}

#[tokio::test]
async fn a_leader_changes_things_as_long_as_it_leads() {
    let (_server, clients, _task) = Server::start().await;
    let leader = Leader::start(&clients, "team", "l", "me");
    assert!(!clients.fence.is_open(), "it doesn't lead yet");
    leader.watch().wait_for(|leads| *leads).await.unwrap();
    write(&clients).await.unwrap();
    leader.release().await;
    assert!(is_fenced(&write(&clients).await.unwrap_err()));
}

#[tokio::test]
async fn a_request_that_has_waited_is_not_begun_by_who_leads_no_longer() {
    let (server, clients, _task) = Server::start().await;
    clients.fence.open_until(boot_time() + Duration::from_millis(500));
    server.say([LATER]);
    let error = write(&clients).await.unwrap_err();
    assert!(matches!(Cause::of(&error), Cause::Other(_)), "{error}");
    assert_eq!(server.asked(), [WROTE], "not again when the pause was over");
}

#[tokio::test]
async fn refused_connections_fail_at_once() {
    let (_server, clients, task) = Server::start().await;
    task.abort();
    let _ended = task.await;
    for _ in 0..20 {
        let error = write(&clients).await.unwrap_err();
        assert!(matches!(Cause::of(&error), Cause::Connection(_)), "{error}");
    }
}

#[test]
fn a_path_says_what_it_is_about() {
    for (path, plural, is_one) in [
        ("/version", "", true),
        ("/api/v1/nodes", "nodes", false),
        ("/api/v1/namespaces/team", "namespaces", true),
        ("/api/v1/namespaces/team/secrets", "secrets", false),
        ("/api/v1/namespaces/team/secrets/a", "secrets", true),
        ("/apis/apps/v1/deployments", "deployments", false),
        ("/apis/apps/v1/namespaces/team/deployments/a/status", "deployments", true),
    ] {
        assert_eq!(Target::of(path), Target { plural, is_one }, "{path}");
    }
}

#[test]
fn answers_say_how_the_server_is() {
    let answer = |status: u16, after: &str| {
        let mut reply = Response::builder().status(status);
        if !after.is_empty() {
            reply = reply.header(RETRY_AFTER, after);
        }
        answer_of(&Ok(reply.body(Body::empty()).unwrap()), "roles")
    };
    let later = |seconds| Answer::Later(Some(Duration::from_secs(seconds)));
    assert_eq!(answer(429, "3"), later(3));
    assert_eq!(answer(429, ""), Answer::Later(None));
    assert_eq!(answer(503, "3"), later(3));
    assert_eq!(answer(503, ""), Answer::Failed("roles"));
    assert_eq!(answer(500, "3"), Answer::Failed("roles"));
    for well in [200, 201, 403, 404, 409, 410, 422] {
        assert_eq!(answer(well, ""), Answer::Well);
    }
    assert_eq!(answer_of(&Err(NoAnswer.into()), "roles"), Answer::Failed("roles"));
    assert_eq!(answer_of(&Err("refused".into()), "roles"), Answer::None);
}
