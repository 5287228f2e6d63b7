//! Manifests that nobody has rendered.

/// What to do about a line of which something is wrong, if it is a template's: Helm's and Jinja's have
/// `{{` and `{%`, envsubst's and many shells' `${`.
pub(crate) fn cure(line: &str) -> Option<&'static str> {
    let has = |open: &str, close: &str| {
        line.split_once(open).is_some_and(|(_, rest)| rest.contains(close))
    };
    if has("{{", "}}") || has("{%", "%}") {
        Some("this is a template: render it first, a Helm chart with `helm template`")
    } else if has("${", "}") {
        Some("this is a template: put in the value first, such as with `envsubst`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_their_cure() {
        for line in ["{{- if .Values.x }}", "  name: a-{{ .Release.Name }}", "{% if a %}"] {
            assert!(cure(line).is_some_and(|cure| cure.contains("helm template")), "{line}");
        }
        assert!(cure("  port: ${PORT}").is_some_and(|cure| cure.contains("envsubst")));
        for line in ["spec: {ports: [{port: 80}]}", "  - {", "cost: $5 }", "}} {{"] {
            assert_eq!(cure(line), None, "{line}");
        }
    }
}
