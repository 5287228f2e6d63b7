//! How problems are put into words.

use std::fmt;

use serde_json::Value;

use super::value::Type;

/// A value as messages show it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::String(text) if text.is_empty() => "an empty text".to_owned(),
        Value::String(text) if text.chars().count() > 60 => {
            format!("the text {:?}…", text.chars().take(60).collect::<String>())
        }
        Value::String(text) => format!("the text {text:?}"),
        value => value.to_string(),
    }
}

/// What would be right, where the type isn't.
pub(super) fn type_help(expected: Option<Type>, value: &Value, secret: bool) -> Option<String> {
    match (expected?, value) {
        (Type::Integer | Type::Number | Type::Boolean, Value::String(text))
            if text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok() =>
        {
            Some(if secret {
                "remove the quotes".to_owned()
            } else {
                format!("write {text}, without quotes")
            })
        }
        (Type::String, Value::Bool(_) | Value::Number(_)) => Some(
            "put it in quotes: YAML takes digits for a number, and yes, no, on and off for a \
             boolean"
                .to_owned(),
        ),
        (Type::Array, _) => Some("start each item with `- `".to_owned()),
        (Type::Object, Value::Array(items)) if !items.is_empty() => {
            Some("remove the `- `".to_owned())
        }
        _ => None,
    }
}

/// The numbers that a range allows.
pub(super) fn range<T: fmt::Display + PartialEq>(minimum: Option<T>, maximum: Option<T>) -> String {
    match (minimum, maximum) {
        (Some(minimum), Some(maximum)) if minimum == maximum => format!("exactly {minimum}"),
        (Some(minimum), Some(maximum)) => format!("from {minimum} to {maximum}"),
        (Some(minimum), None) => format!("at least {minimum}"),
        (None, Some(maximum)) => format!("at most {maximum}"),
        (None, None) => "anything".to_owned(),
    }
}

pub(super) fn one_of(allowed: &[String]) -> String {
    match allowed {
        [only] => only.clone(),
        allowed => format!("one of {}", allowed.join(", ")),
    }
}

/// What the regular expressions that the Gateway API uses most say.
pub(super) fn meaning(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" => {
            "a DNS name (lower-case letters, digits, `-` and `.`)"
        }
        r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" => {
            "empty or a DNS name (lower-case letters, digits, `-` and `.`)"
        }
        r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" => {
            "a DNS name in lower case, which may start with `*.`"
        }
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" => {
            "a DNS label (lower-case letters, digits and `-`, no dot)"
        }
        r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$" => {
            "a kind (letters, digits and `-`, a letter first)"
        }
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$" => {
            "a DNS name, `/` and a path, such as example.com/name"
        }
        r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$" => {
            "a quantity, such as 500m or 64Mi"
        }
        "^/" => "an absolute path",
        _ => return None,
    })
}
