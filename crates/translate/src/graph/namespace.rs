use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use l4way_resources::{
    Refused, Snapshot,
    api::{FromNamespaces, ObjectKey, RouteNamespaces},
};

use super::refused;
use crate::Settings;

type Labels = BTreeMap<String, String>;

/// The label that the API server puts on each namespace; its value is the namespace's name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespaces and their labels.
pub(crate) struct Namespaces<'a> {
    labelled: HashMap<&'a str, Labels>,
    snapshot: &'a Snapshot,
    in_cluster: bool,
}

impl<'a> Namespaces<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, settings: &Settings) -> Self {
        let labelled = snapshot.namespaces.values().map(|namespace| {
            let mut labels = namespace.metadata.labels.clone();
            labels.extend(name_label(&namespace.metadata.name));
            (namespace.metadata.name.as_ref(), labels)
        });
        Self { labelled: labelled.collect(), snapshot, in_cluster: settings.in_cluster }
    }

    /// The object that keeps the labels of a namespace from being known, if one does.
    fn refused(&self, namespace: &str) -> Option<&Refused> {
        if self.labelled.contains_key(namespace) {
            return None;
        }
        self.snapshot.refused("Namespace", &ObjectKey::new("", namespace))
    }

    /// That the labels of a namespace can't be known, as the end of a message about a choice.
    pub(crate) fn labels_unknown(&self, namespace: &str) -> String {
        self.refused(namespace).map_or_else(String::new, |refused| {
            format!(
                "; no label of it is known: Namespace {namespace} {}",
                refused::invalid(refused)
            )
        })
    }

    /// Whether `choice`, made by an object in `home`, takes in the namespace `other`. `default` is
    /// what a choice of no kind means.
    pub(crate) fn chosen(
        &self,
        choice: &RouteNamespaces,
        default: FromNamespaces,
        home: &str,
        other: &str,
    ) -> bool {
        match choice.from.unwrap_or(default) {
            FromNamespaces::All => true,
            FromNamespaces::Same => home == other,
            FromNamespaces::None => false,
            FromNamespaces::Selector => {
                choice.selector.as_ref().zip(self.labels(other)).is_some_and(
                    |(selector, labels)| match self.refused(other) {
                        Some(_) => selector.surely_matches(&labels),
                        None => selector.matches(&labels),
                    },
                )
            }
        }
    }

    /// The labels of a namespace, if they are known. One that no manifest describes has just its name's;
    /// but in a cluster it may have any, and a selector can also ask for what isn't there.
    fn labels(&self, namespace: &str) -> Option<Cow<'_, Labels>> {
        let known = self.labelled.get(namespace).map(Cow::Borrowed);
        let named = || Cow::Owned(name_label(namespace).into_iter().collect());
        known.or_else(|| (!self.in_cluster || self.refused(namespace).is_some()).then(named))
    }
}

/// What to say of an object that is in a namespace of which nothing is known.
pub(crate) fn unwatched(kind: &str, object: &ObjectKey) -> String {
    format!(
        "{kind} {object} is in a namespace that l4way doesn't watch, so it can't be used; let the controller \
         watch {} (watchNamespaces of the chart)",
        object.namespace
    )
}

fn name_label(namespace: &str) -> [(String, String); 1] {
    [(NAME_LABEL.into(), namespace.into())]
}

/// What is wrong with a choice of namespaces, if something is.
pub(crate) fn defect(choice: &RouteNamespaces) -> Option<String> {
    if choice.from != Some(FromNamespaces::Selector) {
        return None;
    }
    let Some(selector) = &choice.selector else {
        return Some("from: Selector needs a selector; give one, or use from: Same".into());
    };
    selector.unknown_operator().map(|operator| {
        format!("operator {operator:?} is unknown; use In, NotIn, Exists or DoesNotExist")
    })
}
