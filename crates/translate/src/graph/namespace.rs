use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use l4way_resources::{
    Store,
    api::{FromNamespaces, Namespace, RouteNamespaces},
};

type Labels = BTreeMap<String, String>;

/// The label that the API server puts on each namespace; its value is the namespace's name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespaces and their labels.
pub(crate) struct Namespaces<'a>(HashMap<&'a str, Labels>);

impl<'a> Namespaces<'a> {
    pub(crate) fn new(namespaces: &'a Store<Namespace>) -> Self {
        let labelled = namespaces.values().map(|namespace| {
            let mut labels = namespace.metadata.labels.clone();
            labels.extend(name_label(&namespace.metadata.name));
            (namespace.metadata.name.as_ref(), labels)
        });
        Self(labelled.collect())
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
            FromNamespaces::Selector => choice
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&self.labels(other))),
        }
    }

    /// The labels of a namespace. One that no manifest describes has just its name's.
    fn labels(&self, namespace: &str) -> Cow<'_, Labels> {
        self.0
            .get(namespace)
            .map_or_else(|| Cow::Owned(name_label(namespace).into_iter().collect()), Cow::Borrowed)
    }
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
