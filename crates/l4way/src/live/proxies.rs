//! The pods of Gateways: which l4way each runs, and which configuration.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::Arc,
};

use kube::{
    Api, Client, Resource,
    api::{ApiResource, ListParams},
    core::{DynamicObject, DynamicResourceScope, PartialObjectMeta},
};
use l4way_delivery::{DocumentKind, Names};
use l4way_observe::ProxyRow;
use l4way_resources::{
    Store,
    api::{Gateway, ObjectKey},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::controller::{HASH, Kind, OWNED, Owned, Owner, is_ready, pods, proxy, sort};

/// The pods of these Gateways, which are in these namespaces; in any if none is named.
///
/// # Errors
/// If they can't be listed, as a sentence.
pub(super) async fn read(
    client: &Client,
    gateways: &Store<Gateway>,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<ProxyRow>, String> {
    let mut objects = HashMap::new();
    let whole = [Kind::Pod, Kind::Lease];
    // A configuration may be large, and of the others only whose they are is wanted.
    let metadata = [Kind::Deployment, Kind::ReplicaSet, Kind::Secret];
    let named = namespaces.iter().map(|namespace| Some(&**namespace));
    let everywhere = namespaces.is_empty().then_some(None);
    for namespace in named.chain(everywhere) {
        for kind in whole {
            objects.extend(list::<DynamicObject>(client, namespace, kind).await?);
        }
        for kind in metadata {
            objects.extend(list::<PartialObjectMeta>(client, namespace, kind).await?);
        }
    }
    let sorted = sort(&objects, gateways);
    let owners = gateways
        .iter()
        .filter_map(|(key, gateway)| Some((key, sorted.owned.get(&Owner::of(&gateway.metadata))?)));
    Ok(owners.flat_map(|(key, owned)| rows(key, owned)).collect())
}

/// The objects of a kind that may be Gateways', in one namespace or all, in the form of `K`.
async fn list<K>(
    client: &Client,
    namespace: Option<&str>,
    kind: Kind,
) -> Result<Vec<((Kind, ObjectKey), Arc<Value>)>, String>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let resource = kind.resource();
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let objects = api.list(&ListParams::default().labels(OWNED)).await.map_err(|error| {
        let plural = &resource.plural;
        format!(
            "the Gateways' {plural} can't be listed, so nothing is said of their proxies: {error}"
        )
    })?;
    let object = |object: K| {
        let metadata = object.meta();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let key = ObjectKey::new(text(&metadata.namespace), text(&metadata.name));
        Some(((kind, key), Arc::new(serde_json::to_value(&object).ok()?)))
    };
    Ok(objects.items.into_iter().filter_map(object).collect())
}

/// A row for each pod of a Gateway.
fn rows(gateway: &ObjectKey, owned: &Owned) -> Vec<ProxyRow> {
    let names = names(owned);
    let names = names.as_ref();
    pods(owned).map(|(key, pod)| row(gateway, names, key, pod, owned)).collect()
}

/// What the Gateway's Secrets and Leases begin with, as the Secret with its configuration shows.
fn names(owned: &Owned) -> Option<Names> {
    let secrets = owned.keys().filter(|(kind, _)| *kind == Kind::Secret);
    let mut bases = secrets.filter_map(|(_, key)| {
        let base = key.name.strip_suffix(DocumentKind::Config.as_str())?.strip_suffix('-')?;
        Some(Names { base: base.to_owned() })
    });
    bases.next()
}

fn row(
    gateway: &ObjectKey,
    names: Option<&Names>,
    key: &ObjectKey,
    pod: &Value,
    owned: &Owned,
) -> ProxyRow {
    let answer = names.map(|names| proxy::answer(names, owned, key, pod)).unwrap_or_default();
    let hash = |kind| {
        let index = ObjectKey::new(key.namespace.clone(), names?.index(kind));
        owned.get(&(Kind::Secret, index))?["metadata"]["annotations"][HASH].as_str()
    };
    let behind = hash(DocumentKind::Config).and_then(|config| {
        let keys = hash(DocumentKind::Keys);
        proxy::why_behind(&answer, proxy::Delivered { config, keys })
    });
    ProxyRow {
        name: key.to_string(),
        gateway: gateway.to_string(),
        ready: is_ready(pod),
        version: answer.identity.map(|identity| identity.version),
        configuration: answer.acknowledgement.map(|said| said.hash),
        behind,
        endpoints: answer.endpoints,
    }
}

#[cfg(test)]
mod tests {
    use l4way_observe::{Overview, table};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_shown_with_what_it_runs_and_what_it_refuses() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "team", "uid": "1"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let identity =
            r#"{"version":"0.1.0","refused":{"config":{"hash":"new","message":"it is too old"}}}"#;
        let endpoints = r#"{"backends":[{"backend":{"kind":"Service","namespace":"team","name":"db",
            "port":1,"transport":"TCP"},"endpoints":2,"passedOver":2,"reason":"refused"}]}"#;
        let lease = json!({"metadata": {"annotations": {
            "l4way.dev/proxy": identity, "l4way.dev/applied": r#"{"hash":"old","bound":1}"#,
            "l4way.dev/endpoints": endpoints,
        }}});
        let key = |name: &str| ObjectKey::new("team", name);
        let mut owned: Owned = [
            ((Kind::Pod, key("a")), Arc::new(pod)),
            ((Kind::Lease, key("gw-l4way-1")), Arc::new(lease)),
        ]
        .into();
        let mut shown = |latest: &str| {
            let index = json!({"metadata": {"annotations": {HASH: latest}}});
            owned.insert((Kind::Secret, key("gw-l4way-config")), Arc::new(index));
            rows(&key("gw"), &owned)
        };
        let expected = ProxyRow {
            name: "team/a".to_owned(),
            gateway: "team/gw".to_owned(),
            ready: true,
            version: Some("0.1.0".to_owned()),
            configuration: Some("old".to_owned()),
            behind: Some(
                "runs l4way 0.1.0, which refuses the configuration because it is too old"
                    .to_owned(),
            ),
            endpoints: serde_json::from_str(endpoints).unwrap(),
        };
        let overview = Overview { proxies: shown("new"), ..Overview::default() };
        assert_eq!(overview.proxies, [expected]);
        let complaints = overview.complaints();
        assert_eq!(complaints[1], "proxy team/a: nobody answers at Service/team/db:1");
        assert!(table::render(&overview).contains("Service/team/db:1   team/a   2           2"));
        assert_eq!(shown("old")[0].behind, None);
    }
}
