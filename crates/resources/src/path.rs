use std::fmt;

use serde_json::Value;

/// Where a value is inside an object. Shown as kubectl shows it: `spec.listeners[0].port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The value of a mapping's key.
    Field(String),
    /// An item of a list.
    Index(usize),
}

impl Path {
    pub(crate) fn field(&self, name: &str) -> Self {
        self.with(Step::Field(name.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The value that it leads to.
    pub(crate) fn value_in<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(object, |value, step| match step {
            Step::Field(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }

    /// Reads a path as kube-cel writes it: `spec.listeners[0].port`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let (name, indices) = part.split_once('[').unwrap_or((part, ""));
            if !name.is_empty() {
                steps.push(Step::Field(name.to_owned()));
            }
            let indices = indices.split(['[', ']']).filter_map(|index| index.parse().ok());
            steps.extend(indices.map(Step::Index));
        }
        Self(steps)
    }

    /// Reads a JSON pointer (RFC 6901). Digits are taken for an item of a list.
    pub(crate) fn from_pointer(pointer: &str) -> Self {
        let step = |part: &str| match part.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Field(part.replace("~1", "/").replace("~0", "~")),
        };
        Self(pointer.split('/').skip(1).map(step).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) if !name.is_empty() && name.chars().all(plain) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(name)?;
                }
                Step::Field(name) => write!(f, "[{name}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_kubectl_shows_them() {
        let path = Path::default().field("spec").field("listeners").index(0).field("port");
        assert_eq!(path.to_string(), "spec.listeners[0].port");
        assert_eq!(Path::parse("spec.listeners[0].port"), path);
        assert_eq!(Path::from_pointer("/spec/listeners/0/port"), path);
        let label = Path::default().field("metadata").field("labels").field("a.b/c");
        assert_eq!(label.to_string(), "metadata.labels[a.b/c]");
        assert_eq!(Path::from_pointer("/metadata/labels/a.b~1c"), label);
    }
}
