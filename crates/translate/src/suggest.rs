//! What somebody may have meant who wrote a name that isn't there, and what there is instead.

use std::fmt;

/// How many names are looked at: an object with thousands of neighbours gets no better hint.
const CANDIDATES: usize = 256;

/// The name that is most like `wrong`, if one is close enough to be a slip of the pen.
pub(crate) fn closest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .take(CANDIDATES)
        .filter(|name| name.len().abs_diff(wrong.len()) <= 4 * most)
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// `: did you mean x?` or nothing.
pub(crate) fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    closest(wrong, names).map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"))
}

/// The names in quotes, as a sentence lists them; a few of them if there are many.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    join(names.into_iter().map(|name| format!("{name:?}")))
}

/// What a sentence lists; a few of them if there are many, as a condition's message is bounded.
pub(crate) fn join(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    const SHOWN: usize = 8;
    let mut items = items.into_iter();
    let shown: Vec<_> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    match (shown.is_empty(), items.count()) {
        (true, _) => "none".into(),
        (false, 0) => shown.join(", "),
        (false, rest) => format!("{} and {rest} more", shown.join(", ")),
    }
}

/// The Levenshtein distance of two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised() {
        let names = ["tcp-listener", "udp-listener"];
        assert_eq!(closest("tcp-listner", names), Some("tcp-listener"));
        assert_eq!(closest("https", names), None);
    }

    #[test]
    fn the_distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
        assert!(list(names.iter().map(String::as_str)).ends_with("\"n7\" and 2 more"));
        assert_eq!(list([]), "none");
    }
}
