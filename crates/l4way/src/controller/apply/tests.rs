use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, body::Bytes, extract::State, http::Method, http::StatusCode, http::Uri};
use kube::Config;
use serde_json::json;

use super::*;
use crate::controller::objects::{MANAGED_BY, OWNER_HASH};

/// An API server that has objects by their paths, and remembers what it was asked to write.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Value>,
    /// Path, query and object of each request that writes.
    written: Vec<(String, String, Value)>,
    /// What requests that write are refused with, if they are.
    refusal: Option<StatusCode>,
}

impl Server {
    fn with(path: &str, metadata: Value) -> Self {
        let server = Self::default();
        server.0.lock().unwrap().objects.insert(path.to_owned(), json!({ "metadata": metadata }));
        server
    }

    /// What comes of a request.
    async fn request(&self, step: Step) -> Result<Answer, Failure> {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let answer = request(&Client::try_from(config).unwrap(), step).await;
        serving.abort();
        answer
    }

    fn written(&self) -> Vec<(String, String, Value)> {
        self.0.lock().unwrap().written.clone()
    }
}

async fn answer(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let mut held = server.0.lock().unwrap();
    let path = uri.path().to_owned();
    if method == Method::GET {
        let absent = json!({"kind": "Status", "status": "Failure", "reason": "NotFound",
            "message": "not found", "code": 404});
        return match held.objects.get(&path) {
            Some(object) => (StatusCode::OK, Json(object.clone())),
            None => (StatusCode::NOT_FOUND, Json(absent)),
        };
    }
    let object: Value = serde_json::from_slice(&body).unwrap();
    if let Some(code) = held.refusal {
        let refusal = json!({"kind": "Status", "status": "Failure", "message": "refused",
            "code": code.as_u16()});
        return (code, Json(refusal));
    }
    held.written.push((path, uri.query().unwrap_or_default().to_owned(), object.clone()));
    (StatusCode::OK, Json(object))
}

const SERVICE: &str = "/api/v1/namespaces/team/services/gw-l4way";
const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/apps/rolebindings/l4way-1";

fn owned_by(name: &str, uid: &str) -> Value {
    let version = "gateway.networking.k8s.io/v1";
    json!([{"apiVersion": version, "kind": "Gateway", "name": name, "uid": uid}])
}

fn object(kind: Kind, namespace: &str, name: &str, more: Value) -> Object {
    let mut metadata = json!({"namespace": namespace, "name": name});
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let version = kind.api_version();
    let value = json!({"apiVersion": version, "kind": kind.as_str(), "metadata": metadata});
    Object { kind, key: ObjectKey::new(namespace, name), value }
}

/// A request for the Service of Gateway `gw` of UID 1, of which this one is there.
fn service(uid: Option<&str>) -> Step {
    let more = json!({"ownerReferences": owned_by("gw", "1")});
    let object = object(Kind::Service, "team", "gw-l4way", more);
    Step::Apply { object, uid: uid.map(str::to_owned) }
}

#[track_caller]
fn assert_refused(server: &Server, answer: Result<Answer, Failure>, expected: &str) {
    assert_eq!(answer.unwrap_err().reason, expected);
    assert_eq!(server.written(), [], "it isn't ours to write");
}

#[tokio::test]
async fn what_is_somebody_elses_is_not_written_whatever_its_labels() {
    let labels = json!({MANAGED_BY: MANAGER, OWNER_HASH: "1"});
    for owners in [json!([]), owned_by("other", "0"), owned_by("other", "2")] {
        let server = Server::with(SERVICE, json!({"labels": labels, "ownerReferences": owners}));
        let answer = server.request(service(None)).await;
        assert_refused(&server, answer, FOREIGN);
    }
    let labels = json!({"labels": {OWNER_HASH: "1"}});
    let binding = object(Kind::RoleBinding, "apps", "l4way-1", labels);
    let server = Server::with(BINDING, json!({"labels": {OWNER_HASH: "2"}}));
    let answer = server.request(Step::Apply { object: binding, uid: None }).await;
    assert_refused(&server, answer, FOREIGN);
}

#[tokio::test]
async fn what_an_earlier_gateway_of_the_name_has_left_is_waited_for() {
    let server = Server::with(SERVICE, json!({"ownerReferences": owned_by("gw", "0")}));
    let answer = server.request(service(None)).await;
    assert!(!answer.as_ref().unwrap_err().is_refusal, "it passes by itself");
    assert_refused(&server, answer, "earlier");
}

#[tokio::test]
async fn what_is_ours_is_written_though_it_has_lost_its_labels() {
    let server = Server::with(SERVICE, json!({"ownerReferences": owned_by("gw", "1")}));
    server.request(service(None)).await.unwrap();
    let written = server.written();
    let [(path, query, _)] = &*written else { panic!("{written:?}") };
    assert!(path == SERVICE && query.contains("force=true"), "{path}?{query}");
}

#[tokio::test]
async fn nobody_is_overruled_by_what_is_new() {
    let server = Server::default();
    server.request(service(None)).await.unwrap();
    let written = server.written();
    let [(_, query, object)] = &*written else { panic!("{written:?}") };
    assert!(!query.contains("force=true"), "{query}");
    assert_eq!(object["metadata"]["uid"], Value::Null);
}

#[tokio::test]
async fn what_is_changed_is_the_object_that_was_seen() {
    let server = Server::default();
    let answer = server.request(service(Some("seen"))).await.unwrap();
    assert_eq!(server.written()[0].2["metadata"]["uid"], "seen");
    let Answer::Applied(object, _) = answer else { panic!("{answer:?}") };
    assert_eq!(object.value["metadata"]["uid"], Value::Null, "it isn't asked for");
}

#[tokio::test]
async fn what_is_not_there_is_deleted_and_a_conflict_is_no_deletion() {
    let refused_with = async |code| {
        let server = Server::default();
        server.0.lock().unwrap().refusal = Some(code);
        let key = ObjectKey::new("team", "gw-l4way");
        server.request(Step::Delete { kind: Kind::Service, key, uid: "1".to_owned() }).await
    };
    let gone = refused_with(StatusCode::NOT_FOUND).await;
    assert!(matches!(gone, Ok(Answer::Deleted(..))), "{gone:?}");
    let failure = refused_with(StatusCode::CONFLICT).await.unwrap_err();
    assert_eq!((failure.is_refusal, failure.reason), (false, "conflict"));
}

#[test]
fn another_object_in_the_place_of_the_one_that_was_meant_is_a_conflict() {
    let cause = json!({"reason": "FieldValueInvalid", "field": "metadata.uid",
        "message": "field is immutable"});
    let status = json!({"status": "Failure", "message": "invalid", "reason": "Invalid", "code": 422,
        "details": {"causes": [cause]}});
    let status: Status = serde_json::from_value(status).unwrap();
    let id = (Kind::Service, ObjectKey::new("team", "gw-l4way"));
    let failure = failure(&id, Error::Kube(kube::Error::Api(Box::new(status))));
    assert_eq!((failure.is_refusal, failure.reason), (false, "conflict"));
}
