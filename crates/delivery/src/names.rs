use super::DocumentKind;

/// How many Secrets each set of parts has.
pub const PARTS: usize = 8;

/// One of the two sets of Secrets that a document in parts is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// The set that is written first.
    A,
    /// The other one.
    B,
}

impl Set {
    /// The set that is written while this one is in force.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The set as the index names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The set that the index names.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|set| set.as_str() == text)
    }
}

/// The names of what is made for a Gateway, all in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `GATEWAY-CLASS`: of the Deployment, the Service, the ServiceAccount and what else there is
    /// once.
    pub base: String,
}

impl Names {
    /// The longest that a Service's name, or a label's value, may be.
    const LONGEST: usize = 63;

    /// The names for a Gateway of a class.
    pub fn new(gateway: &str, class: &str) -> Self {
        Self { base: shortened(&format!("{gateway}-{class}"), Self::LONGEST) }
    }

    /// The Secret that proxies watch: the document, or where it is.
    pub fn index(&self, document: DocumentKind) -> String {
        self.of(document.as_str())
    }

    /// The Secret with one part of a document.
    pub fn part(&self, document: DocumentKind, set: Set, part: usize) -> String {
        self.of(&format!("{}-{}-{part}", document.as_str(), set.as_str()))
    }

    /// Every Secret that may hold a document or a part of it.
    pub fn secrets(&self, document: DocumentKind) -> impl Iterator<Item = String> {
        let of = move |set| (0..PARTS).map(move |part| self.part(document, set, part));
        std::iter::once(self.index(document)).chain(of(Set::A)).chain(of(Set::B))
    }

    /// The Lease in which the proxy in the Pod of this UID answers.
    pub fn lease(&self, pod_uid: &str) -> String {
        self.of(pod_uid)
    }

    fn of(&self, what: &str) -> String {
        // Secrets and Leases may have names of 253 bytes.
        format!("{}-{what}", self.base)
    }
}

/// The text if it is no longer than `longest`, else its beginning with a hash of the whole.
pub fn shortened(text: &str, longest: usize) -> String {
    const HASH: usize = 10;
    if text.len() <= longest {
        return text.to_owned();
    }
    let hash = super::hash(text.as_bytes());
    let end = text.floor_char_boundary(longest - HASH - 1);
    format!("{}-{}", text[..end].trim_end_matches(['-', '.', '_']), &hash[..HASH])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_and_stay_apart() {
        assert_eq!(Names::new("gw", "l4way").base, "gw-l4way");
        let (a, b) = (format!("{}a", "g".repeat(62)), format!("{}b", "g".repeat(62)));
        let (a, b) = (Names::new(&a, "l4way"), Names::new(&b, "l4way"));
        assert_ne!(a, b);
        assert!(a.base.len() <= 63 && a.base.len() > 50, "{}", a.base);
    }

    #[test]
    fn each_part_has_a_name_of_its_own() {
        let names = Names::new("gw", "l4way");
        let (config, keys) = (DocumentKind::Config, DocumentKind::Keys);
        let mut all: Vec<_> = names.secrets(config).chain(names.secrets(keys)).collect();
        assert_eq!(all.len(), 2 * (2 * PARTS + 1));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2 * (2 * PARTS + 1));
        assert_eq!(names.index(keys), "gw-l4way-keys");
        assert_eq!(names.part(config, Set::B, 3), "gw-l4way-config-b-3");
        assert_eq!(Set::parse("b"), Some(Set::B));
    }
}
