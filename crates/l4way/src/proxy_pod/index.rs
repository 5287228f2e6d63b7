//! The configuration, as the controller has written it into Secrets.

use std::{fmt, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    runtime::watcher::{Config, Event},
};
use l4way_source_kube::Backoff;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::api_server::ApiServer;
use crate::delivery::{Delivery, Names, PARTS, Set, unpack};

/// A configuration that has arrived.
pub(super) struct Delivered {
    /// What names it.
    pub(super) hash: Arc<str>,
    /// The configuration.
    pub(super) delivery: Delivery,
}

/// Follows the index and what it names; the receiver always has the latest configuration that could
/// be read.
pub(super) fn follow(
    server: ApiServer,
    namespace: &str,
    names: Names,
) -> watch::Receiver<Option<Arc<Delivered>>> {
    let api: Api<Secret> = Api::namespaced(server.client(), namespace);
    let (indexes, receiver) = watch::channel(None);
    let indexes = Arc::new(indexes);
    tokio::spawn(follow_index(server.clone(), api.clone(), names.clone(), indexes.clone()));
    let (deliveries, delivered) = watch::channel(None);
    tokio::spawn(Reader { server, api, names, indexes, deliveries }.read(receiver));
    delivered
}

async fn follow_index(
    server: ApiServer,
    api: Api<Secret>,
    names: Names,
    indexes: Arc<watch::Sender<Option<Index>>>,
) {
    let name = names.index();
    let config = Config::default().fields(&format!("metadata.name={name}"));
    let mut events = server.follow(format!("Secret {name}"), api, config);
    let (mut is_there, mut told) = (false, false);
    loop {
        match events.next().await {
            Event::Init => is_there = false,
            Event::InitApply(secret) | Event::Apply(secret) => {
                (is_there, told) = (true, false);
                match Index::parse(secret) {
                    Ok(index) => drop(indexes.send_replace(Some(index))),
                    Err(error) => tracing::error!(
                        secret = name,
                        "the configuration can't be read, and what is in force stays: {error}"
                    ),
                }
            }
            Event::InitDone if is_there || told => {}
            Event::InitDone | Event::Delete(_) => {
                told = true;
                tracing::warn!(
                    secret = name,
                    "there is no configuration; what is in force stays until the controller has \
                     written one"
                );
            }
        }
    }
}

/// Reads what an index names.
struct Reader {
    server: ApiServer,
    api: Api<Secret>,
    names: Names,
    indexes: Arc<watch::Sender<Option<Index>>>,
    deliveries: watch::Sender<Option<Arc<Delivered>>>,
}

impl Reader {
    async fn read(self, mut changes: watch::Receiver<Option<Index>>) {
        let mut retry = Backoff::following();
        let mut delivered: Option<Arc<str>> = None;
        let mut told: Option<Arc<str>> = None;
        let mut failed: Option<Index> = None;
        loop {
            changes.mark_unchanged();
            // Taken out: a configuration isn't kept in memory twice.
            let mut index = failed.take();
            self.indexes.send_if_modified(|latest| {
                index = latest.take().or(index.take());
                false
            });
            let Some(index) = index.filter(|index| delivered.as_ref() != Some(&index.hash)) else {
                // The sender is this task's own.
                let _ = changes.changed().await;
                continue;
            };
            match self.fetch(&index).await {
                Ok(delivery) => {
                    retry.reset();
                    delivered = Some(index.hash.clone());
                    let hash = index.hash;
                    self.deliveries.send_replace(Some(Arc::new(Delivered { hash, delivery })));
                }
                Err(error) => {
                    if told.as_ref() != Some(&index.hash) {
                        tracing::warn!(
                            hash = &*index.hash,
                            "a configuration can't be taken yet, and what is in force stays: {error}"
                        );
                        told = Some(index.hash.clone());
                    }
                    failed = Some(index);
                    let wait = retry.delay(Instant::now());
                    let _ = time::timeout(wait, changes.changed()).await;
                }
            }
        }
    }

    async fn fetch(&self, index: &Index) -> Result<Delivery, String> {
        let parts;
        let packed = match &index.place {
            Place::Inline(packed) => packed,
            Place::Parts(set, count) => {
                parts = self.parts(*set, *count).await?;
                &parts
            }
        };
        unpack(packed, &index.hash).map_err(|error| error.to_string())
    }

    async fn parts(&self, set: Set, count: usize) -> Result<Vec<u8>, String> {
        let mut packed = Vec::new();
        for part in 0..count {
            let name = self.names.part(set, part);
            let secret = self
                .server
                .answer(self.api.get(&name))
                .await
                .map_err(|error| format!("Secret {name}: {error}"))?;
            let ByteString(bytes) = secret
                .data
                .and_then(|mut data| data.remove("part"))
                .ok_or_else(|| format!("Secret {name} has no part"))?;
            packed.extend(bytes);
        }
        Ok(packed)
    }
}

/// What the index Secret says.
#[derive(PartialEq, Eq)]
struct Index {
    hash: Arc<str>,
    place: Place,
}

/// Where the configuration is.
#[derive(PartialEq, Eq)]
enum Place {
    /// In the index itself.
    Inline(Vec<u8>),
    /// In so many Secrets of this set.
    Parts(Set, usize),
}

impl fmt::Debug for Index {
    /// Not the configuration itself: private keys are in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Index {
    fn parse(secret: Secret) -> Result<Self, String> {
        let mut data = secret.data.unwrap_or_default();
        let packed = data.remove("config");
        let mut text = |key: &str| match data.remove(key) {
            Some(ByteString(bytes)) => {
                String::from_utf8(bytes).map_err(|_| format!("its {key} is no text"))
            }
            None => Err(format!("it has no {key}")),
        };
        let hash = text("hash")?.into();
        if let Some(ByteString(packed)) = packed {
            return Ok(Self { hash, place: Place::Inline(packed) });
        }
        let set = text("set")?;
        let set = Set::parse(&set).ok_or_else(|| format!("there is no set {set:?}"))?;
        let parts = text("parts")?;
        match parts.parse() {
            Ok(count @ 1..=PARTS) => Ok(Self { hash, place: Place::Parts(set, count) }),
            _ => Err(format!("{parts:?} is no number of parts from 1 to {PARTS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[(&str, &str)]) -> Result<Index, String> {
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Index::parse(Secret { data: Some(data.collect()), ..Secret::default() })
    }

    #[test]
    fn an_index_says_where_the_configuration_is() {
        let hash: Arc<str> = "abc".into();
        assert_eq!(
            parse(&[("hash", "abc"), ("config", "packed")]),
            Ok(Index { hash: hash.clone(), place: Place::Inline(b"packed".to_vec()) })
        );
        assert_eq!(
            parse(&[("hash", "abc"), ("set", "b"), ("parts", "3")]),
            Ok(Index { hash, place: Place::Parts(Set::B, 3) })
        );
    }

    #[test]
    fn a_broken_index_says_what_is_missing() {
        for (data, error) in [
            (&[][..], "it has no hash"),
            (&[("hash", "abc")], "it has no set"),
            (&[("hash", "abc"), ("set", "c"), ("parts", "1")], "there is no set \"c\""),
            (
                &[("hash", "abc"), ("set", "a"), ("parts", "0")],
                "\"0\" is no number of parts from 1 to 8",
            ),
            (
                &[("hash", "abc"), ("set", "a"), ("parts", "99")],
                "\"99\" is no number of parts from 1 to 8",
            ),
        ] {
            assert_eq!(parse(data).unwrap_err(), error);
        }
    }
}
