//! What the API costs by itself: a write until a watch sees it.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::{
    Result,
    changes::PAUSE,
    cluster::{Cluster, Kind, PATIENCE},
    stats::Stats,
};

const NAME: &str = "watched";

pub(crate) fn measure(cluster: &Cluster, count: usize) -> Result<Stats> {
    cluster.apply(&Kind::CONFIG_MAP.object(NAME, json!({})), Kind::CONFIG_MAP)?;
    cluster.run(changes(cluster, count)).map(Stats::new)
}

async fn changes(cluster: &Cluster, count: usize) -> Result<Vec<Duration>> {
    let api = cluster.api(Kind::CONFIG_MAP);
    let (tell, mut seen) = mpsc::unbounded_channel();
    let objects = watcher::watch_object(api.clone(), NAME).default_backoff();
    let follow = async move {
        let mut objects = pin!(objects);
        while let Some(object) = objects.next().await {
            let now = Instant::now();
            let object = object.ok().flatten();
            let number =
                object.and_then(|object| object.data["data"]["number"].as_str()?.parse().ok());
            let _ = tell.send((number.unwrap_or(0), now));
        }
    };
    let write = async {
        let mut durations = Vec::new();
        for number in 1..=count {
            sleep(PAUSE).await;
            let began = Instant::now();
            let patch = Patch::Merge(json!({ "data": { "number": number.to_string() } }));
            let params = PatchParams::default();
            let write = api.patch(NAME, &params, &patch);
            let watch = async {
                while let Some((seen, at)) = seen.recv().await {
                    if seen == number {
                        return Some(at);
                    }
                }
                None
            };
            let (write, at) = futures::join!(write, timeout(PATIENCE, watch));
            write.map_err(|error| format!("can't write a ConfigMap: {error}"))?;
            let at = at.ok().flatten().ok_or("a watch doesn't see a ConfigMap that was written")?;
            durations.push(at - began);
        }
        Ok(durations)
    };
    tokio::select! {
        durations = write => durations,
        () = follow => Err("a watch has ended".to_owned()),
    }
}
