//! A small API server on a real socket: get, list in pages, and watch.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    header::ACCEPT,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The server; it ends with the runtime.
#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Id, Value>,
    events: Vec<Event>,
    /// The paths of objects that nobody may get.
    refused: BTreeSet<String>,
    asked: Vec<Asked>,
}

/// An object: its kind's URL, such as `/api/v1/secrets`, its namespace and its name.
type Id = (String, String, String);

struct Event {
    version: u64,
    id: Id,
    what: &'static str,
    object: Value,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) metadata_only: bool,
}

impl Asked {
    /// Whether it asks for an object of this name, by the field selector if it has one.
    fn selects(&self, id: &Id) -> bool {
        let fields = self.query.get("fieldSelector").map_or("", String::as_str);
        fields.strip_prefix("metadata.name%3D").is_none_or(|name| name == id.2)
    }
}

impl FakeApi {
    pub(crate) async fn start() -> (Self, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let version = watch::channel(0).0;
        let api = Self(Arc::new(Shared { state: Mutex::default(), version }));
        let serving = api.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let api = serving.clone();
                let answer = service_fn(move |request| {
                    let answer = api.answer(&request);
                    async { Ok::<_, Infallible>(answer) }
                });
                let connection = http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(socket), answer));
            }
        });
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.default_retry = false;
        (api, Client::try_from(config).unwrap())
    }

    /// Makes or changes an object of the kind with this URL.
    pub(crate) fn put(&self, kind: &str, namespace: &str, name: &str, mut object: Value) {
        self.change(kind, namespace, name, |version, old| {
            let what = if old.is_some() { "MODIFIED" } else { "ADDED" };
            let metadata = &mut object["metadata"];
            metadata["name"] = name.into();
            if !namespace.is_empty() {
                metadata["namespace"] = namespace.into();
            }
            metadata["uid"] = format!("{namespace}/{name}").into();
            metadata["resourceVersion"] = version.to_string().into();
            (what, object)
        });
    }

    pub(crate) fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.change(kind, namespace, name, |version, old| {
            let mut object = old.unwrap();
            object["metadata"]["resourceVersion"] = version.to_string().into();
            ("DELETED", object)
        });
    }

    fn change(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(u64, Option<Value>) -> (&'static str, Value),
    ) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        let id = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        let (what, object) = change(version, state.objects.remove(&id));
        if what != "DELETED" {
            state.objects.insert(id.clone(), object.clone());
        }
        state.events.push(Event { version, id, what, object });
        drop(state);
        self.0.version.send_replace(version);
    }

    /// Whether nobody may get this object.
    pub(crate) fn refuse(&self, path: &str, refuse: bool) {
        let refused = &mut self.lock().refused;
        if refuse {
            refused.insert(path.to_owned());
        } else {
            refused.remove(path);
        }
    }

    /// The requests so far for paths that begin so.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.lock();
        state.asked.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let query = request.uri().query().unwrap_or_default();
        let asked = Asked {
            path: request.uri().path().to_owned(),
            query: query.split('&').filter_map(pair).collect(),
            metadata_only: accept.is_some_and(|accept| accept.contains("as=PartialObject")),
        };
        self.lock().asked.push(asked.clone());
        if asked.path == "/version" {
            return whole(200, &version());
        }
        let (kind, namespace, name) = split(&asked.path);
        match name {
            Some(name) => self.get(&asked, &(kind, namespace, name)),
            None if asked.query.contains_key("watch") => self.watch(asked, kind, namespace),
            None => self.list(&asked, &kind, &namespace),
        }
    }

    fn get(&self, asked: &Asked, id: &Id) -> Response<Body> {
        let state = self.lock();
        if state.refused.contains(&asked.path) {
            return status(403, "Forbidden", &asked.path);
        }
        match state.objects.get(id) {
            Some(object) => whole(200, &shown(asked, object)),
            None => status(404, "NotFound", &asked.path),
        }
    }

    fn list(&self, asked: &Asked, kind: &str, namespace: &str) -> Response<Body> {
        let number = |name: &str| asked.query.get(name).map(|text| text.parse::<usize>().unwrap());
        let (start, limit) = (number("continue").unwrap_or(0), number("limit").unwrap());
        let state = self.lock();
        let objects =
            state.objects.iter().filter(|(id, _)| is_in(id, kind, namespace) && asked.selects(id));
        let objects: Vec<_> = objects.map(|(_, object)| shown(asked, object)).collect();
        let mut metadata = json!({ "resourceVersion": state.version.to_string() });
        if start + limit < objects.len() {
            metadata["continue"] = (start + limit).to_string().into();
        }
        let page: Vec<_> = objects.into_iter().skip(start).take(limit).collect();
        let list =
            json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page });
        whole(200, &list)
    }

    fn watch(&self, asked: Asked, kind: String, namespace: String) -> Response<Body> {
        let since = asked.query["resourceVersion"].parse().unwrap();
        let changes = self.0.version.subscribe();
        let watched = Watched { api: self.clone(), asked, kind, namespace, since, changes };
        let events = stream::unfold(watched, async |mut watched| {
            let text = watched.next().await;
            Some((Ok(Frame::data(Bytes::from(text))), watched))
        });
        Response::new(StreamBody::new(events).boxed_unsync())
    }
}

struct Watched {
    api: FakeApi,
    asked: Asked,
    kind: String,
    namespace: String,
    since: u64,
    changes: watch::Receiver<u64>,
}

impl Watched {
    async fn next(&mut self) -> String {
        loop {
            self.changes.borrow_and_update();
            let text = self.events();
            if !text.is_empty() {
                return text;
            }
            self.changes.changed().await.unwrap();
        }
    }

    fn events(&mut self) -> String {
        let state = self.api.lock();
        let new = state.events.iter().filter(|event| {
            event.version > self.since
                && is_in(&event.id, &self.kind, &self.namespace)
                && self.asked.selects(&event.id)
        });
        let lines = new.map(|event| {
            let object = shown(&self.asked, &event.object);
            format!("{}\n", json!({ "type": event.what, "object": object }))
        });
        let text = lines.collect();
        self.since = state.version;
        text
    }
}

/// Splits a path into the kind's URL, a namespace and a name.
fn split(path: &str) -> (String, String, Option<String>) {
    let parts: Vec<_> = path.split('/').collect();
    let (group, rest) = parts.split_at(if parts[1] == "api" { 3 } else { 4 });
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let kind = format!("{}/{}", group.join("/"), rest[0]);
    (kind, namespace.to_owned(), rest.get(1).map(|name| (*name).to_owned()))
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

fn is_in(id: &Id, kind: &str, namespace: &str) -> bool {
    id.0 == kind && (namespace.is_empty() || id.1 == namespace)
}

/// An object in the form that was asked for.
fn shown(asked: &Asked, object: &Value) -> Value {
    if asked.metadata_only {
        json!({ "kind": "PartialObjectMetadata", "metadata": object["metadata"] })
    } else {
        object.clone()
    }
}

fn whole(code: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn status(code: u16, reason: &str, path: &str) -> Response<Body> {
    let message = format!("{path}: {reason}");
    let value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    whole(code, &value)
}

fn version() -> Value {
    let mut version = json!({ "major": "1", "minor": "35", "gitVersion": "v1.35.0" });
    let others = ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
    for field in others {
        version[field] = "".into();
    }
    version
}
