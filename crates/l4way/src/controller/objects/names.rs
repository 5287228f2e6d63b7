//! The names of what a Gateway has. No I/O.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
};

use l4way_delivery::{DocumentKind, Names, hash};
use l4way_resources::api::ObjectKey;

use super::Kind;
use crate::controller::ownership::Owned;

/// The kinds of which there is one object, or one set of Secrets, that the Gateway's name is for.
const NAMED: [Kind; 8] = [
    Kind::ServiceAccount,
    Kind::Role,
    Kind::RoleBinding,
    Kind::Secret,
    Kind::Service,
    Kind::PodDisruptionBudget,
    Kind::NetworkPolicy,
    Kind::Deployment,
];

/// The longest that a Service's name may be.
const LONGEST: usize = 63;

/// The names of what a Gateway has, all in its namespace: `GATEWAY-CLASS` (GEP-1762), and a hash with it for a
/// kind for which that isn't valid or somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectNames {
    plain: String,
    hashed: String,
    /// The kinds whose names have the hash.
    with_hash: BTreeSet<Kind>,
    /// The kinds of which the Gateway has an object with the plain name.
    there: BTreeSet<Kind>,
    /// The kinds whose plain name is somebody else's, as far as that is known.
    taken: BTreeSet<Kind>,
    /// Of Secrets and Leases, which proxies are told when they start.
    pub(crate) documents: Names,
}

impl ObjectNames {
    /// The names for a Gateway of a class that has nothing yet, and nobody else either.
    pub(crate) fn new(gateway: &str, class: &str) -> Self {
        let documents = Names::new(gateway, class);
        let plain = documents.base.clone();
        let hashed = hashed(&plain, &format!("{gateway}/{class}"));
        let [with_hash, there, taken] = [const { BTreeSet::new() }; 3];
        let mut names = Self { plain, hashed, with_hash, there, taken, documents };
        names.choose(&Owned::new(), false);
        names
    }

    /// `GATEWAY-CLASS`, with a hash only if that is too long.
    pub(crate) fn plain(&self) -> &str {
        &self.plain
    }

    /// The name of the object of this kind.
    pub(crate) fn of(&self, kind: Kind) -> &str {
        if self.with_hash.contains(&kind) { &self.hashed } else { &self.plain }
    }

    /// Chooses anew, by what the Gateway has: that keeps its name. `comes_second` is whether another Gateway has
    /// the same plain name and goes first. Whether the names are others than before.
    pub(crate) fn choose(&mut self, owned: &Owned, comes_second: bool) -> bool {
        let (plain, hashed) =
            (Names { base: self.plain.clone() }, Names { base: self.hashed.clone() });
        let [there, there_hashed] = [plain, hashed].map(|names| {
            let index = names.index(DocumentKind::Config);
            let is_it = |(kind, key): &&(Kind, ObjectKey)| match kind {
                Kind::Secret => *key.name == *index,
                _ => *key.name == *names.base,
            };
            owned.keys().filter(is_it).map(|(kind, _)| *kind).collect::<BTreeSet<_>>()
        });
        let needs_hash = |kind: &Kind| {
            !there.contains(kind)
                && (there_hashed.contains(kind)
                    || comes_second
                    || self.taken.contains(kind)
                    || !is_valid(*kind, &self.plain))
        };
        let with_hash = NAMED.into_iter().filter(needs_hash).collect();
        let is_new = self.with_hash != with_hash;
        self.with_hash = with_hash;
        self.there = there;
        self.documents = Names { base: self.of(Kind::Secret).to_owned() };
        is_new
    }

    /// The object of this kind and name is somebody else's: what is in the name's place from now on, if the Gateway's
    /// can have another one.
    pub(crate) fn give_up(&mut self, kind: Kind, name: &str) -> Option<&str> {
        let is_plain = match kind {
            Kind::Secret => {
                let kinds = [DocumentKind::Config, DocumentKind::Keys];
                let plain = Names { base: self.plain.clone() };
                kinds.into_iter().any(|kind| plain.secrets(kind).any(|secret| secret == name))
            }
            _ => name == self.plain,
        };
        let has_another = is_plain && NAMED.contains(&kind) && !self.there.contains(&kind);
        has_another.then(|| {
            self.taken.insert(kind);
            &*self.hashed
        })
    }
}

/// The Gateways that would have the plain name of another one which goes first, being older.
pub(crate) fn second<'a, Age: PartialOrd>(
    gateways: impl Iterator<Item = (&'a ObjectKey, &'a ObjectNames)>,
    age: impl Fn(&'a ObjectKey) -> Age,
) -> BTreeSet<ObjectKey> {
    let mut first: HashMap<_, &ObjectKey> = HashMap::new();
    let mut second = BTreeSet::new();
    for (key, names) in gateways {
        let holder = first.entry((&key.namespace, names.plain())).or_insert(key);
        if *holder != key {
            let later = if age(key) < age(holder) { mem::replace(holder, key) } else { key };
            second.insert(later.clone());
        }
    }
    second
}

/// Whether a name that is a DNS subdomain is valid for this kind.
fn is_valid(kind: Kind, name: &str) -> bool {
    match kind {
        // RFC 1035, 2.3.1: a label, which begins with a letter.
        Kind::Service => name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('.'),
        _ => true,
    }
}

/// The name with a hash of the whole, which is valid for every kind.
fn hashed(plain: &str, whole: &str) -> String {
    const HASH: usize = 10;
    const FIRST: &str = "gw-";
    let mut name = plain.replace('.', "-");
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, FIRST);
    }
    name.truncate(name.floor_char_boundary(LONGEST - HASH - 1));
    format!("{}-{}", name.trim_end_matches('-'), &hash(whole.as_bytes())[..HASH])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn owned(objects: &[(Kind, &str)]) -> Owned {
        let object = |(kind, name): &(Kind, &str)| {
            ((*kind, ObjectKey::new("team", *name)), Arc::new(json!({})))
        };
        objects.iter().map(object).collect()
    }

    #[test]
    fn a_name_has_a_hash_only_for_the_kind_for_which_it_is_invalid() {
        let names = ObjectNames::new("gw", "l4way");
        assert!(NAMED.iter().all(|kind| names.of(*kind) == "gw-l4way"), "{names:?}");
        for (gateway, class, begins) in
            [("3cx", "l4way", "gw-3cx-l4way-"), ("voip.example", "l4way", "voip-example-l4way-")]
        {
            let names = ObjectNames::new(gateway, class);
            let service = names.of(Kind::Service);
            assert!(service.starts_with(begins) && service.len() <= LONGEST, "{service}");
            let others = NAMED.iter().filter(|kind| **kind != Kind::Service);
            let plain = format!("{gateway}-{class}");
            assert!(others.into_iter().all(|kind| names.of(*kind) == plain), "{names:?}");
            assert_eq!(names.documents.base, plain);
        }
    }

    #[test]
    fn names_of_services_are_labels_of_dns() {
        for gateway in ["a", "3", "3.4", "a.b", &"x".repeat(200), &"9.".repeat(40)] {
            let gateway = gateway.trim_end_matches('.');
            let mut names = ObjectNames::new(gateway, "some.class");
            for _ in 0..2 {
                let name = names.of(Kind::Service);
                let is_label = name.len() <= LONGEST
                    && name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.ends_with(|c: char| c.is_ascii_alphanumeric())
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
                assert!(is_label, "{name}");
                names.choose(&Owned::new(), true);
            }
        }
    }

    #[test]
    fn names_that_run_together_are_apart_with_their_hashes() {
        let [mut one, mut other] = [("web-l4way", "edge"), ("web", "l4way-edge")]
            .map(|(gateway, class)| ObjectNames::new(gateway, class));
        assert_eq!(one.plain(), other.plain());
        one.choose(&Owned::new(), true);
        other.choose(&Owned::new(), true);
        assert!(NAMED.iter().all(|kind| one.of(*kind) != other.of(*kind)), "{one:?} {other:?}");
    }

    #[test]
    fn of_gateways_whose_names_run_together_the_oldest_goes_first() {
        let gateways = [
            ("team", "web-l4way", "edge"),
            ("team", "web", "l4way-edge"),
            ("team", "other", "edge"),
            ("elsewhere", "web", "l4way-edge"),
        ];
        let gateways = gateways.map(|(namespace, gateway, class)| {
            (ObjectKey::new(namespace, gateway), ObjectNames::new(gateway, class))
        });
        let second_by = |oldest: &str| {
            let all = gateways.iter().map(|(key, names)| (key, names));
            let second = second(all, |key| *key.name != *oldest);
            second.into_iter().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(second_by("web"), ["team/web-l4way"]);
        assert_eq!(second_by("web-l4way"), ["team/web"]);
    }

    #[test]
    fn what_is_there_keeps_its_name() {
        let mut names = ObjectNames::new("gw", "l4way");
        names.choose(&Owned::new(), true);
        let hashed = names.of(Kind::Service).to_owned();
        assert_ne!(hashed, "gw-l4way");

        let there = owned(&[(Kind::Service, &hashed), (Kind::Deployment, "gw-l4way")]);
        for comes_second in [false, true] {
            names.choose(&there, comes_second);
            assert_eq!(
                (names.of(Kind::Service), names.of(Kind::Deployment)),
                (&*hashed, "gw-l4way")
            );
        }
        let secrets = owned(&[(Kind::Secret, "gw-l4way-config")]);
        names.choose(&secrets, true);
        assert_eq!(names.documents.base, "gw-l4way");
        let given_up = names.give_up(Kind::Secret, "gw-l4way-config-a-0");
        assert_eq!(given_up, None, "proxies know them by name");
    }

    #[test]
    fn names_that_were_too_long_for_earlier_releases_stay() {
        let long = "n".repeat(200);
        let before = Names::new(&long, "l4way").base;
        let names = ObjectNames::new(&long, "l4way");
        assert!(NAMED.iter().all(|kind| names.of(*kind) == before), "{names:?}");
    }

    #[test]
    fn a_name_that_is_somebody_elses_is_given_up() {
        let mut names = ObjectNames::new("gw", "l4way");
        for part in ["a-3", "a-4"] {
            assert!(names.give_up(Kind::Secret, &format!("gw-l4way-config-{part}")).is_some());
        }
        assert!(names.choose(&Owned::new(), false));
        let base = names.documents.base.clone();
        assert_ne!(base, "gw-l4way");
        assert_eq!(names.of(Kind::Deployment), "gw-l4way");
        let third = names.give_up(Kind::Secret, &format!("{base}-config"));
        assert_eq!(third, None, "there is no third name");
        assert_eq!(names.give_up(Kind::Lease, "gw-l4way-uid"), None, "nor for what isn't chosen");
        assert!(!names.choose(&Owned::new(), false), "it is chosen already");
    }
}
