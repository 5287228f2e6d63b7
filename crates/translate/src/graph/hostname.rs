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

#[cfg(test)]
mod tests {
    use super::*;

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
