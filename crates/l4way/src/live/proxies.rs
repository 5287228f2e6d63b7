//! The pods of Gateways: which l4way each runs, and which configuration.

use std::{collections::BTreeMap, sync::Arc};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use l4way_resources::api::ObjectKey;
use serde_json::Value;

use crate::{
    controller::{CLASS_NAME, GATEWAY_NAME, HASH, Kind, OWNED, Owned, is_ready, pods, proxy},
    delivery::{DocumentKind, Names},
    overview::ProxyRow,
};

/// The pods of all Gateways.
///
/// # Errors
/// If they can't be listed, as a sentence.
pub(super) async fn read(client: &Client) -> Result<Vec<ProxyRow>, String> {
    let mut owned = Owned::new();
    for kind in [Kind::Pod, Kind::Lease] {
        let objects = list(client, kind).await?;
        owned.extend(objects.into_iter().map(|(key, object)| ((kind, key), object)));
    }
    Ok(rows(&owned, &indexes(client).await?))
}

async fn list(client: &Client, kind: Kind) -> Result<Vec<(ObjectKey, Arc<Value>)>, String> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
    let objects =
        api.list(&ListParams::default().labels(OWNED)).await.map_err(|e| refused(kind, &e))?;
    let object = |object: DynamicObject| {
        let metadata = &object.metadata;
        let key = key(metadata.namespace.as_deref(), metadata.name.as_deref());
        Some((key, Arc::new(serde_json::to_value(&object).ok()?)))
    };
    Ok(objects.items.into_iter().filter_map(object).collect())
}

/// The hash of the latest configuration by the key of its index. Only metadata is asked for: a
/// configuration may be large.
async fn indexes(client: &Client) -> Result<BTreeMap<ObjectKey, String>, String> {
    let kind = Kind::Secret;
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
    let list = api.list_metadata(&ListParams::default().labels(OWNED)).await;
    let list = list.map_err(|error| refused(kind, &error))?;
    let hash = |metadata: kube::core::ObjectMeta| {
        let hash = metadata.annotations?.remove(HASH)?;
        Some((key(metadata.namespace.as_deref(), metadata.name.as_deref()), hash))
    };
    Ok(list.items.into_iter().filter_map(|object| hash(object.metadata)).collect())
}

fn refused(kind: Kind, error: &kube::Error) -> String {
    let plural = kind.resource().plural;
    format!("the Gateways' {plural} can't be listed, so nothing is said of their proxies: {error}")
}

fn resource(kind: Kind) -> ApiResource {
    let kind = kind.resource();
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind),
        &kind.plural,
    )
}

fn key(namespace: Option<&str>, name: Option<&str>) -> ObjectKey {
    ObjectKey::new(namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// A row for each pod.
fn rows(owned: &Owned, latest: &BTreeMap<ObjectKey, String>) -> Vec<ProxyRow> {
    pods(owned).filter_map(|(key, pod)| row(key, pod, owned, latest)).collect()
}

fn row(
    key: &ObjectKey,
    pod: &Value,
    owned: &Owned,
    latest: &BTreeMap<ObjectKey, String>,
) -> Option<ProxyRow> {
    let label = |name: &str| pod["metadata"]["labels"][name].as_str();
    let gateway = label(GATEWAY_NAME)?;
    let names = Names::new(gateway, label(CLASS_NAME)?);
    let hash = |kind| latest.get(&ObjectKey::new(key.namespace.clone(), names.index(kind)));
    let answer = proxy::answer(&names, owned, key, pod);
    let behind = hash(DocumentKind::Config).and_then(|config| {
        let keys = hash(DocumentKind::Keys).map(String::as_str);
        proxy::why_behind(&answer, proxy::Delivered { config, keys })
    });
    Some(ProxyRow {
        name: key.to_string(),
        gateway: format!("{}/{gateway}", key.namespace),
        ready: is_ready(pod),
        version: answer.identity.map(|identity| identity.version),
        configuration: answer.acknowledgement.map(|said| said.hash),
        behind,
        endpoints: answer.endpoints,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{overview::Overview, table};

    #[test]
    fn a_pod_is_shown_with_what_it_runs_and_what_it_refuses() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "team", "uid": "1", "labels": {
                GATEWAY_NAME: "gw", CLASS_NAME: "l4way",
            }},
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
        let owned = [
            ((Kind::Pod, key("a")), Arc::new(pod)),
            ((Kind::Lease, key("gw-l4way-1")), Arc::new(lease)),
        ];
        let latest = |hash: &str| [(key("gw-l4way-config"), hash.to_owned())].into();
        let shown = rows(&owned.clone().into(), &latest("new"));
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
        assert_eq!(shown, [expected]);
        let overview = Overview { proxies: shown, ..Overview::default() };
        let complaints = overview.complaints();
        assert_eq!(complaints[1], "proxy team/a: nobody answers at Service/team/db:1");
        assert!(table::render(&overview).contains("Service/team/db:1   team/a   2           2"));
        let shown = rows(&owned.into(), &latest("old"));
        assert_eq!(shown[0].behind, None);
    }
}
