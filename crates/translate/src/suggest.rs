//! What somebody may have meant who wrote a name that isn't there, and what there is instead.

use std::fmt;

use l4way_resources::nearest;

/// How many names are looked at: an object with thousands of neighbours gets no better hint.
const CANDIDATES: usize = 256;

/// What to say of `group: core`, which is what people call it and no API server takes it for.
pub(crate) const CORE_GROUP: &str = "group \"core\" is nobody's: the core group is written as \"\"";

/// The end of a message about an object's group that has no such kind.
pub(crate) fn of_group(group: &str) -> String {
    if group == "core" { format!("; {CORE_GROUP}") } else { String::new() }
}

/// ` (did you mean "x"?)` or nothing.
pub(crate) fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, names.into_iter().take(CANDIDATES))
        .map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"))
}

/// The names in quotes, as a sentence lists them; a few of them if there are many.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    join(names.into_iter().map(|name| format!("{name:?}")))
}

/// What a sentence lists; a few of them if there are many, as a condition's message is bounded.
pub(crate) fn join(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    join_with(", ", items)
}

/// The same with something else than commas between them.
pub(crate) fn join_with(
    between: &str,
    items: impl IntoIterator<Item = impl fmt::Display>,
) -> String {
    const SHOWN: usize = 8;
    let mut items = items.into_iter();
    let shown: Vec<_> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    match (shown.is_empty(), items.count()) {
        (true, _) => "none".into(),
        (false, 0) => shown.join(between),
        (false, rest) => format!("{} and {rest} more", shown.join(between)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised() {
        let names = ["tcp-listener", "udp-listener"];
        assert_eq!(did_you_mean("tcp-listner", names), " (did you mean \"tcp-listener\"?)");
        assert_eq!(did_you_mean("https", names), "");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
        assert!(list(names.iter().map(String::as_str)).ends_with("\"n7\" and 2 more"));
        assert_eq!(list([]), "none");
    }
}
