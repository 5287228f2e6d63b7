//! What Secrets and ConfigMaps hold is read where it is wanted, and nowhere else.

use std::collections::BTreeSet;

use l4way_resources::{
    Snapshot,
    api::{ObjectKey, ObjectRef},
};
use l4way_source_kube::{Source, Wants};
use serde_json::json;
use tokio::time::timeout;

use crate::{PATIENCE, fake_api::FakeApi, wait};

const SECRETS: &str = "/api/v1/secrets";
const CONFIG_MAPS: &str = "/api/v1/configmaps";

fn secret(name: &str) -> ObjectRef {
    ObjectRef::new("Secret", ObjectKey::new("apps", name))
}

fn put_secret(api: &FakeApi, name: &str, value: &str) {
    let data = json!({"tls.crt": value, "password": "cGFzc3dvcmQ="});
    api.put(SECRETS, "apps", name, json!({"type": "kubernetes.io/tls", "data": data}));
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/apps/secrets/{name}")
}

fn value_of(snapshot: &Snapshot, name: &str) -> Option<String> {
    snapshot.secrets.get(&secret(name).key).map(|secret| secret.data["tls.crt"].to_string())
}

/// Wants these Secrets, and waits until they have been read.
async fn want(source: &mut Source, names: &[&str]) -> Snapshot {
    let wanted: BTreeSet<_> = names.iter().map(|name| secret(name)).collect();
    let waiting = async {
        while !source.want(&wanted) {
            source.changed().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("what is wanted is read in time");
    source.snapshot().unwrap()
}

#[tokio::test]
async fn what_nobody_wants_is_never_asked_for() {
    let (api, client) = FakeApi::start().await;
    for number in 0..120 {
        put_secret(&api, &format!("other-{number}"), "eA==");
        let data = json!({"data": {"a": "x".repeat(1000)}});
        api.put(CONFIG_MAPS, "apps", &format!("other-{number}"), data);
    }
    put_secret(&api, "tls", "b25l");
    let mut source = Source::start(client, Wants::default());
    let snapshot = wait(&mut source, |_| true).await;
    assert!(snapshot.secrets.is_empty() && snapshot.config_maps.is_empty());
    let snapshot = want(&mut source, &["tls"]).await;
    assert_eq!(value_of(&snapshot, "tls").as_deref(), Some("b25l"));
    assert_eq!(snapshot.secrets.len(), 1);
    let held = &snapshot.secrets[&secret("tls").key].data;
    assert!(!held.contains_key("password"), "only what is read of it is kept");

    for kind in [SECRETS, CONFIG_MAPS] {
        let asked = api.asked(kind);
        assert!(asked.iter().all(|asked| asked.metadata_only), "{asked:?}");
        let pages = asked.iter().filter(|asked| !asked.query.contains_key("watch"));
        assert_eq!(pages.count(), 3, "of 50 objects each");
    }
    let read = api.asked("/api/v1/namespaces/");
    assert_eq!(read.iter().map(|asked| &*asked.path).collect::<Vec<_>>(), [path("tls")]);
}

#[tokio::test]
async fn a_change_is_read_and_what_was_known_stays_until_then() {
    let (api, client) = FakeApi::start().await;
    put_secret(&api, "tls", "b25l");
    let mut source = Source::start(client, Wants::default());
    wait(&mut source, |_| true).await;
    want(&mut source, &["tls", "late"]).await;

    api.refuse(&path("tls"), true);
    put_secret(&api, "tls", "dHdv");
    // Refusals go on while something else that is wanted comes and is read.
    put_secret(&api, "late", "bGF0ZQ==");
    let snapshot = wait(&mut source, |snapshot| value_of(snapshot, "late").is_some()).await;
    assert_eq!(value_of(&snapshot, "tls").as_deref(), Some("b25l"));
    api.refuse(&path("tls"), false);
    wait(&mut source, |snapshot| value_of(snapshot, "tls").as_deref() == Some("dHdv")).await;

    api.delete(SECRETS, "apps", "tls");
    wait(&mut source, |snapshot| value_of(snapshot, "tls").is_none()).await;
    put_secret(&api, "tls", "dGhyZWU=");
    wait(&mut source, |snapshot| value_of(snapshot, "tls").as_deref() == Some("dGhyZWU=")).await;

    let snapshot = want(&mut source, &[]).await;
    assert!(snapshot.secrets.is_empty(), "it is dropped when nobody wants it");
}

#[tokio::test]
async fn one_that_cannot_be_read_is_told_and_holds_nobody_up() {
    let (api, client) = FakeApi::start().await;
    for name in ["a", "b"] {
        put_secret(&api, name, "eA==");
    }
    api.refuse(&path("a"), true);
    let mut source = Source::start(client, Wants::default());
    wait(&mut source, |_| true).await;
    let snapshot = want(&mut source, &["a", "b"]).await;
    assert!(value_of(&snapshot, "b").is_some());
    assert!(snapshot.unread[&secret("a")].contains("Forbidden"), "{:?}", snapshot.unread);
    api.refuse(&path("a"), false);
    let snapshot = wait(&mut source, |snapshot| value_of(snapshot, "a").is_some()).await;
    assert!(snapshot.unread.is_empty());
}
