//! The documents that a proxy is given, as the controller has written them into Secrets.

use std::{fmt, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    runtime::watcher::{Config, Event},
};
use l4way_delivery::{
    Document, DocumentKind, Names, PARTS, Refusal, Set, UnpackError, Wiped, unpack,
};
use l4way_source_kube::Backoff;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::api_server::ApiServer;

/// A document that has arrived.
#[derive(Debug)]
pub(super) struct Arrival<D> {
    /// What names it.
    pub(super) hash: Arc<str>,
    /// The document, or why this l4way can't take it.
    pub(super) document: Result<Arc<D>, Refusal>,
}

impl<D> Clone for Arrival<D> {
    fn clone(&self) -> Self {
        Self { hash: self.hash.clone(), document: self.document.clone() }
    }
}

/// The latest of a kind of document that has arrived, if any has.
pub(super) type Latest<D> = Option<Arrival<D>>;

/// The way to a Gateway's documents.
#[derive(Clone)]
pub(super) struct Deliveries {
    server: ApiServer,
    api: Api<Secret>,
    names: Names,
}

impl Deliveries {
    /// To the documents of these names.
    pub(super) fn new(server: ApiServer, namespace: &str, names: Names) -> Self {
        let api = Api::namespaced(server.client(), namespace);
        Self { server, api, names }
    }

    /// Follows the index of a kind of document and what it names, and sends the latest one.
    pub(super) fn follow<D: Document>(&self, latest: watch::Sender<Latest<D>>) {
        let (indexes, changes) = watch::channel(None);
        let indexes = Arc::new(indexes);
        tokio::spawn(self.clone().follow_index(D::KIND, indexes.clone()));
        tokio::spawn(Reader { deliveries: self.clone(), indexes, latest }.read(changes));
    }

    async fn follow_index(self, kind: DocumentKind, indexes: Arc<watch::Sender<Option<Index>>>) {
        let name = self.names.index(kind);
        let config = Config::default().fields(&format!("metadata.name={name}"));
        let mut events = self.server.follow(format!("Secret {name}"), self.api, config);
        let (mut is_there, mut told) = (false, false);
        loop {
            match events.next().await {
                Event::Init => is_there = false,
                Event::InitApply(secret) | Event::Apply(secret) => {
                    (is_there, told) = (true, false);
                    match Index::parse(secret, kind) {
                        Ok(index) => drop(indexes.send_replace(Some(index))),
                        Err(error) => tracing::error!(
                            secret = name,
                            "it can't be read, and what is in force stays: {error}"
                        ),
                    }
                }
                Event::InitDone if is_there || told => {}
                Event::InitDone | Event::Delete(_) => {
                    told = true;
                    tracing::warn!(
                        secret = name,
                        "there is no {}; what is in force stays until the controller has written one",
                        kind.noun()
                    );
                }
            }
        }
    }
}

/// Reads what an index names.
struct Reader<D> {
    deliveries: Deliveries,
    indexes: Arc<watch::Sender<Option<Index>>>,
    latest: watch::Sender<Latest<D>>,
}

impl<D: Document> Reader<D> {
    async fn read(self, mut changes: watch::Receiver<Option<Index>>) {
        let mut retry = Backoff::following();
        let mut arrived: Option<Arc<str>> = None;
        let mut told: Option<Arc<str>> = None;
        let mut failed: Option<Index> = None;
        loop {
            changes.mark_unchanged();
            // Taken out: a document isn't kept in memory twice.
            let mut index = failed.take();
            self.indexes.send_if_modified(|latest| {
                index = latest.take().or(index.take());
                false
            });
            let Some(index) = index.filter(|index| arrived.as_ref() != Some(&index.hash)) else {
                // The sender is this task's own.
                let _ = changes.changed().await;
                continue;
            };
            match self.fetch(&index).await {
                Ok(document) => {
                    retry.reset();
                    arrived = Some(index.hash.clone());
                    let hash = index.hash;
                    self.latest.send_replace(Some(Arrival { hash, document }));
                }
                Err(error) => {
                    if told.as_ref() != Some(&index.hash) {
                        tracing::warn!(
                            hash = &*index.hash,
                            "a {} can't be taken yet, and what is in force stays: {error}",
                            D::KIND.noun()
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

    /// The document, or why this l4way can't take it.
    ///
    /// # Errors
    /// What may be different when it is tried again.
    async fn fetch(&self, index: &Index) -> Result<Result<Arc<D>, Refusal>, String> {
        let parts;
        let packed = match &index.place {
            Place::Inline(packed) => packed,
            Place::Parts(set, count) => {
                parts = self.parts(*set, *count).await?;
                &parts
            }
        };
        match unpack(packed, &index.hash) {
            Ok(document) => Ok(Ok(Arc::new(document))),
            Err(UnpackError::Refused(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn parts(&self, set: Set, count: usize) -> Result<Wiped, String> {
        let Deliveries { server, api, names } = &self.deliveries;
        let mut packed = Wiped::default();
        for part in 0..count {
            let name = names.part(D::KIND, set, part);
            let secret = api
                .get(&name)
                .await
                .map_err(|error| format!("Secret {name}: {}", server.failed(&error)))?;
            let ByteString(bytes) = secret
                .data
                .and_then(|mut data| data.remove("part"))
                .ok_or_else(|| format!("Secret {name} has no part"))?;
            packed.add(&Wiped::from(bytes));
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

/// Where the document is.
#[derive(PartialEq, Eq)]
enum Place {
    /// In the index itself.
    Inline(Wiped),
    /// In so many Secrets of this set.
    Parts(Set, usize),
}

impl fmt::Debug for Index {
    /// Not the document itself: private keys may be in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Index {
    fn parse(secret: Secret, kind: DocumentKind) -> Result<Self, String> {
        let mut data = secret.data.unwrap_or_default();
        let packed = data.remove(kind.as_str());
        let mut text = |key: &str| match data.remove(key) {
            Some(ByteString(bytes)) => {
                String::from_utf8(bytes).map_err(|_| format!("its {key} is no text"))
            }
            None => Err(format!("it has no {key}")),
        };
        let hash = text("hash")?.into();
        if let Some(ByteString(packed)) = packed {
            return Ok(Self { hash, place: Place::Inline(packed.into()) });
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
        let secret = Secret { data: Some(data.collect()), ..Secret::default() };
        Index::parse(secret, DocumentKind::Config)
    }

    #[test]
    fn an_index_says_where_the_document_is() {
        let hash: Arc<str> = "abc".into();
        assert_eq!(
            parse(&[("hash", "abc"), ("config", "packed")]),
            Ok(Index { hash: hash.clone(), place: Place::Inline(b"packed".to_vec().into()) })
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
