use std::{collections::BTreeSet, sync::Arc};

/// What a document that can't be parsed is made of: runs of the characters that names and kinds have.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    words: Arc<BTreeSet<Arc<str>>>,
    /// The kinds that it has, in the order of the text: the first is likely its own.
    kinds: Vec<Arc<str>>,
    /// Some words may be hidden: escaped, or to be put in by a template.
    hidden: bool,
}

/// What the name of a kind or field may be made of, and that of an object.
fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '.' || c == '-'
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty())
}

impl Words {
    pub(crate) fn of(text: &str) -> Self {
        let words: BTreeSet<Arc<str>> = split(text).map(Into::into).collect();
        let behind = text.match_indices("kind").map(|(at, kind)| &text[at + kind.len()..]);
        let kinds = behind.filter_map(|rest| {
            let value = rest.trim_start_matches(['"', '\'', ' ']).strip_prefix(':')?;
            split(value.lines().next()?).next()
        });
        let hidden = ["{{", "$", "\\"].iter().any(|mark| text.contains(mark));
        Self { kinds: kinds.map(Into::into).collect(), words: Arc::new(words), hidden }
    }

    pub(crate) fn kinds(&self) -> &[Arc<str>] {
        &self.kinds
    }

    /// All words; `None` if there may be others.
    pub(crate) fn all(&self) -> Option<&Arc<BTreeSet<Arc<str>>>> {
        (!self.hidden).then_some(&self.words)
    }

    /// Whether it may be a Secret, or have one in it: it says so, or has the fields of one.
    pub(crate) fn may_be_secret(&self) -> bool {
        let marks = ["Secret", "SecretList", "data", "stringData"];
        marks.iter().any(|mark| self.words.contains(*mark))
    }

    /// Whether some text has one of the words.
    pub(super) fn are_in(&self, text: &str) -> bool {
        split(text).any(|word| self.words.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_what_says_so() {
        let kinds = |text: &str| Words::of(text).kinds().iter().map(ToString::to_string).collect();
        let found: Vec<String> =
            kinds("kind: A\n- {\"kind\":\"B\", kind : 'C'}\nkindly: D\n# kinds\n");
        assert_eq!(found, ["A", "B", "C"]);
        let none: Vec<String> = kinds("kind:\nkind: {{ x }}kind");
        assert_eq!(none, ["x"]);
    }

    #[test]
    fn hidden_words_are_not_all() {
        assert!(Words::of("name: a-b").all().is_some_and(|words| words.contains("a-b")));
        for text in ["name: {{ .x }}", "name: $NAME", "name: \"\\x61\""] {
            assert!(Words::of(text).all().is_none(), "{text}");
        }
    }
}
