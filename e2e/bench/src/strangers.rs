//! What large objects of others cost the controller, which nothing of l4way's refers to.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};

use crate::{
    Result,
    cluster::{Cluster, Kind, PATIENCE},
    memory::{self, Memory},
};

/// How much each object holds, in bytes.
const SIZE: usize = 50 << 10;

/// How many are made at once.
const AT_ONCE: usize = 16;

const CONTROLLER_NAMESPACE: &str = "l4way-system";
const CONTROLLER_LABELS: &str =
    "app.kubernetes.io/name=l4way,app.kubernetes.io/component=controller";

/// The controllers' memory, of the largest of them.
#[derive(Debug)]
pub(crate) struct Strangers {
    /// How many Secrets there were, and how many ConfigMaps.
    pub(crate) count: usize,
    /// Before there were any, in a controller that has just begun.
    pub(crate) before: Memory,
    /// After all have come.
    pub(crate) after: Memory,
    /// In a controller that begins when all are there.
    pub(crate) restarted: Memory,
    /// How long that one takes until it is ready.
    pub(crate) ready_within: Duration,
}

pub(crate) fn measure(cluster: &Cluster, count: usize) -> Result<Strangers> {
    let pods = restart(cluster)?;
    let before = memory::of_controllers(&pods)?;
    for kind in [Kind::SECRET, Kind::CONFIG_MAP] {
        cluster.run(make(cluster, kind, count))?;
    }
    let after = memory::of_controllers(&pods)?;
    let began = Instant::now();
    let pods = restart(cluster)?;
    let ready_within = began.elapsed();
    let restarted = memory::of_controllers(&pods)?;
    Ok(Strangers { count, before, after, restarted, ready_within })
}

async fn make(cluster: &Cluster, kind: Kind, count: usize) -> Result<()> {
    let api = cluster.api(kind);
    let text = "x".repeat(SIZE);
    let values = if kind == Kind::SECRET { "stringData" } else { "data" };
    let objects = stream::iter(0..count).map(|number| {
        let object = kind.object(&format!("stranger-{number}"), json!({ (values): { "a": text } }));
        let api = &api;
        async move {
            let object = serde_json::from_value(object).map_err(|error| error.to_string())?;
            let made = api.create(&PostParams::default(), &object).await;
            made.map(drop).map_err(|error| format!("can't make a stranger's object: {error}"))
        }
    });
    objects.buffer_unordered(AT_ONCE).try_collect().await
}

/// Has the controllers' pods replaced, and waits until the new ones are ready. Returns their UIDs.
fn restart(cluster: &Cluster) -> Result<Vec<String>> {
    let api = cluster.api_in(Kind::POD, CONTROLLER_NAMESPACE);
    let params = ListParams::default().labels(CONTROLLER_LABELS);
    let failed = |error: kube::Error| format!("can't restart the controllers: {error}");
    cluster.run(async {
        let old = api.list(&params).await.map_err(failed)?.items;
        let old: Vec<_> = old.into_iter().filter_map(|pod| pod.metadata.name).collect();
        for name in &old {
            api.delete(name, &DeleteParams::default().grace_period(0)).await.map_err(failed)?;
        }
        let ready = async {
            loop {
                let pods = api.list(&params).await.map_err(failed)?.items;
                let is_new = |name: Option<&String>| name.is_some_and(|name| !old.contains(name));
                let is_good =
                    |pod: &DynamicObject| is_new(pod.metadata.name.as_ref()) && is_ready(&pod.data);
                if pods.len() == old.len() && pods.iter().all(is_good) {
                    return Ok(pods.into_iter().filter_map(|pod| pod.metadata.uid).collect());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let late = |_| Err("the controllers' new pods aren't ready in time".to_owned());
        tokio::time::timeout(PATIENCE, ready).await.unwrap_or_else(late)
    })
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
