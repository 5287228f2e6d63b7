//! Hostnames, exact (`a.example.com`) or with a wildcard in front (`*.example.com`), which stands
//! for one or more labels.

/// Whether some name matches both.
pub(crate) fn intersect(left: &str, right: &str) -> bool {
    match (left.strip_prefix('*'), right.strip_prefix('*')) {
        (None, None) => left == right,
        (Some(suffix), None) => right.ends_with(suffix),
        (None, Some(suffix)) => left.ends_with(suffix),
        (Some(left), Some(right)) => left.ends_with(right) || right.ends_with(left),
    }
}

/// The hostname of all names that match both, if there are any: the more specific of the two.
pub(crate) fn intersection<'a>(left: &'a str, right: &'a str) -> Option<&'a str> {
    let narrower = match (left.starts_with('*'), right.starts_with('*')) {
        (true, false) => right,
        (false, true) => left,
        _ if left.len() < right.len() => right,
        _ => left,
    };
    intersect(left, right).then_some(narrower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intersection_is_the_more_specific_of_the_two() {
        assert_eq!(intersection("*.example.com", "a.example.com"), Some("a.example.com"));
        assert_eq!(intersection("*.b.example.com", "*.example.com"), Some("*.b.example.com"));
        assert_eq!(intersection("a.example.com", "b.example.com"), None);
    }

    #[test]
    fn wildcards_stand_for_one_label_or_more() {
        assert!(intersect("a.example.com", "a.example.com"));
        assert!(intersect("*.example.com", "a.example.com"));
        assert!(intersect("*.example.com", "a.b.example.com"));
        assert!(intersect("a.example.com", "*.com"));
        assert!(intersect("*.example.com", "*.b.example.com"));
        assert!(!intersect("*.example.com", "example.com"));
        assert!(!intersect("*.example.com", "a.example.net"));
        assert!(!intersect("*.example.com", "aexample.com"));
        assert!(!intersect("*.example.com", "*.example.net"));
    }
}
