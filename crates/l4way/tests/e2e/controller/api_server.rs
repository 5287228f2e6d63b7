//! A store behind a real socket, with the URLs of an API server.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use super::store::{Change, Id, Part, Refusal, Store};

/// A running one; it ends when this is dropped.
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    _end: oneshot::Sender<()>,
}

struct Shared {
    store: Mutex<Store>,
    changed: watch::Sender<u64>,
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared { store: Mutex::default(), changed: watch::channel(0).0 });
        let app = Router::new().fallback(answer).with_state(shared.clone());
        let (end, ends) = oneshot::channel();
        let (told, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
                let _ = told.send(listener.local_addr().expect("an address"));
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.expect("it serves"),
                    _ = ends => {}
                }
            });
        });
        Self { shared, address: address.recv().expect("it listens"), _end: end }
    }

    /// Reads or changes what there is; watches are told.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        self.shared.with(change)
    }

    /// Writes a kubeconfig for it into `folder`.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        fs::write(&path, config.to_string()).expect("a kubeconfig");
        path
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no panic")
    }

    fn with<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_modify(|number| *number += 1);
        result
    }
}

/// What a URL names.
#[derive(Debug)]
struct Address {
    id: Id,
    api_version: String,
    part: Part,
    query: BTreeMap<String, String>,
}

impl Address {
    /// `/api/v1/...` and `/apis/GROUP/VERSION/...`.
    fn parse(path: &str, query: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            _ => parts.next()?,
        };
        let version = parts.next()?;
        let mut rest: Vec<_> = parts.collect();
        let mut namespace = "";
        if let ["namespaces", name, _, ..] = *rest {
            namespace = name;
            rest.drain(..2);
        }
        let resource = format!("{group}/{}", rest.first()?);
        let name = rest.get(1).copied().unwrap_or_default();
        let part = if rest.get(2) == Some(&"status") { Part::Status } else { Part::All };
        let api_version =
            if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = query.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
        Some(Self { id: Id::new(&resource, namespace, name), api_version, part, query })
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether an object is among those that are asked for.
    fn selects(&self, id: &Id, object: &Value) -> bool {
        id.resource == self.id.resource
            && (self.id.namespace.is_empty() || self.id.namespace == id.namespace)
            && terms(self.query("labelSelector")).all(|term| {
                let label = |name: &str| object["metadata"]["labels"][name].as_str();
                match term.split_once('=') {
                    None => label(term).is_some(),
                    Some((name, value)) => holds(name, value, label),
                }
            })
            && terms(self.query("fieldSelector")).all(|term| {
                let field =
                    |name: &str| object.pointer(&format!("/{}", name.replace('.', "/")))?.as_str();
                term.split_once('=').is_none_or(|(name, value)| holds(name, value, field))
            })
    }
}

fn terms(selector: Option<&str>) -> impl Iterator<Item = &str> {
    selector.unwrap_or_default().split(',').filter(|term| !term.is_empty())
}

/// `name=value`, `name==value` or `name!=value`, cut at the first `=`.
fn holds<'a>(name: &str, value: &str, of: impl Fn(&str) -> Option<&'a str>) -> bool {
    match name.strip_suffix('!') {
        Some(name) => of(name) != Some(value),
        None => of(name) == Some(value.trim_start_matches('=')),
    }
}

/// A value of a query, percent-decoded.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'%'));
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/version" {
        let version = json!({
            "major": "1", "minor": "35", "gitVersion": "v1.35.0", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        });
        return said(StatusCode::OK, &version);
    }
    let Some(address) = Address::parse(head.uri.path(), head.uri.query().unwrap_or_default())
    else {
        return refused(Refusal::new(404, "there is nothing here"));
    };
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let form = Form::of(&head.headers);
    if head.method == Method::GET && address.query("watch").is_some_and(|value| value != "false") {
        return watching(&shared, address, form);
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let result = shared.with(|store| match head.method {
        Method::GET if address.id.name.is_empty() => Ok(form.list(&address, store)),
        Method::GET => get(&address.id, store).map(|object| form.one(&object)),
        method => write(&method, address, kind.unwrap_or_default(), &body, store)
            .map(|object| form.one(&object)),
    });
    result.map_or_else(refused, |value| said(StatusCode::OK, &value))
}

fn get(id: &Id, store: &Store) -> Result<Value, Refusal> {
    let missing = || Refusal::new(404, format!("{} \"{}\" not found", id.resource, id.name));
    store.get(id).cloned().ok_or_else(missing)
}

fn write(
    method: &Method,
    address: Address,
    kind: &str,
    body: &Bytes,
    store: &mut Store,
) -> Result<Value, Refusal> {
    if let Some(code) = store.failures.pop_front() {
        return Err(Refusal::new(code, "this one was to fail"));
    }
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let manager = address.query("fieldManager").unwrap_or_default().to_owned();
    let Address { id, part, .. } = address;
    match *method {
        Method::POST => store.create(id, value),
        Method::PUT => store.replace(id, value, part, None),
        Method::DELETE => store.delete(&id, value["preconditions"]["uid"].as_str()),
        _ if kind.contains("apply") => store.apply(id, &manager, value, part),
        _ => store.patch(id, &value, part),
    }
}

/// In which form objects are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Whole,
    Metadata,
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let is_partial = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        if is_partial { Self::Metadata } else { Self::Whole }
    }

    fn one(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": object["metadata"],
            }),
        }
    }

    fn list(self, address: &Address, store: &Store) -> Value {
        let items = store.all().filter(|(id, object)| address.selects(id, object));
        let items: Vec<_> = items.map(|(_, object)| self.one(object)).collect();
        let (api_version, kind) = match self {
            Self::Whole => (&*address.api_version, "List"),
            Self::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadataList"),
        };
        let version = json!({"resourceVersion": store.version.to_string()});
        json!({"apiVersion": api_version, "kind": kind, "metadata": version, "items": items})
    }
}

/// A watch, until all are cut or the client goes.
struct Watch {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    address: Address,
    form: Form,
    cuts: u64,
    since: u64,
    ended: bool,
}

fn watching(shared: &Arc<Shared>, address: Address, form: Form) -> Response {
    let asked = address.query("resourceVersion").and_then(|version| version.parse().ok());
    let changed = shared.changed.subscribe();
    let (cuts, version) = {
        let store = shared.lock();
        (store.cuts, store.version)
    };
    let shared = shared.clone();
    let since = asked.unwrap_or(version);
    let watch = Watch { shared, changed, address, form, cuts, since, ended: false };
    let events = stream::unfold(watch, |mut watch| async move {
        let bytes = watch.next().await?;
        Some((Ok::<_, Infallible>(bytes), watch))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response()
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changed.mark_unchanged();
            if self.ended {
                return None;
            }
            if let Some(lines) = self.lines() {
                return Some(lines.into());
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// What is to be told now.
    fn lines(&mut self) -> Option<String> {
        let store = self.shared.lock();
        if self.since < store.oldest {
            self.ended = true;
            let status = status(&Refusal::new(410, "too old resource version"));
            return Some(format!("{}\n", json!({"type": "ERROR", "object": status})));
        }
        let new = store.changes.partition_point(|change| change.version <= self.since);
        let events = store.changes[new..].iter().filter_map(|change| self.event(change));
        let lines: String = events.map(|event| format!("{event}\n")).collect();
        self.since = store.version;
        self.ended = self.cuts != store.cuts;
        (!lines.is_empty() || self.ended).then_some(lines)
    }

    /// An object that no longer is among those that are asked for is as good as gone.
    fn event(&self, change: &Change) -> Option<Value> {
        let selected = |object: &Option<Value>| {
            object.as_ref().is_some_and(|object| self.address.selects(&change.id, object))
        };
        let (kind, object) = match (selected(&change.before), selected(&change.after)) {
            (false, false) => return None,
            (false, true) => ("ADDED", &change.after),
            (true, true) => ("MODIFIED", &change.after),
            (true, false) => ("DELETED", &change.before),
        };
        let mut object = self.form.one(object.as_ref()?);
        object["metadata"]["resourceVersion"] = change.version.to_string().into();
        Some(json!({"type": kind, "object": object}))
    }
}

fn status(refusal: &Refusal) -> Value {
    let Refusal { code, reason, message } = refusal;
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": {}, "code": code,
    })
}

fn refused(refusal: Refusal) -> Response {
    let code = StatusCode::from_u16(refusal.code).expect("a code of HTTP");
    said(code, &status(&refusal))
}

fn said(code: StatusCode, value: &Value) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
