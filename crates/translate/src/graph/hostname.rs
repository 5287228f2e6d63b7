//! Hostnames, exact (`a.example.com`) or with a wildcard in front (`*.example.com`), which stands
//! for one or more labels.

use std::sync::Arc;

use l4way_model::Hostname;

/// The hostnames of a route as far as they are the listener's, too. `None` is any of the listener's.
pub(crate) fn common(of_listener: Option<&str>, of_route: &[Arc<str>]) -> Vec<Option<Hostname>> {
    if of_route.is_empty() {
        return vec![None];
    }
    let common = of_route.iter().filter_map(|of_route| match of_listener {
        Some(of_listener) => intersection(of_route, of_listener),
        None => Some(&**of_route),
    });
    common.map(|hostname| Some(Hostname::new(hostname))).collect()
}

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
fn intersection<'a>(left: &'a str, right: &'a str) -> Option<&'a str> {
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
