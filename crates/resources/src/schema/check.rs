use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use chrono::DateTime;
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{
    message::{meaning, one_of, range, shown, type_help},
    value::{Format, ListType, Schema, Type},
};
use crate::{path::Path, suggest::nearest};

/// Something in a value that its schema doesn't allow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    /// Where in the object.
    pub(crate) path: Path,
    pub(crate) spot: Spot,
    /// What is wrong, without the path.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) help: Option<String>,
}

/// What of a mapping's entry a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Key,
    Value,
}

impl Problem {
    pub(crate) fn new(path: Path, message: impl Into<String>) -> Self {
        Self { path, spot: Spot::Value, message: message.into(), help: None }
    }

    pub(crate) fn at_key(mut self) -> Self {
        self.spot = Spot::Key;
        self
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Checks a value and puts the schema's defaults in.
pub(super) fn check(schema: &Schema, value: &mut Value, secret: bool) -> Vec<Problem> {
    let mut check = Check { problems: Vec::new(), alternative: false, secret };
    check.value(schema, value, &Path::default());
    check.problems
}

struct Check {
    problems: Vec<Problem>,
    /// Whether this is about one of several alternatives, which only restrict: defaults and the
    /// names of fields are for the schema around them.
    alternative: bool,
    /// Whether no problem may tell what a value is.
    secret: bool,
}

impl Check {
    fn report(&mut self, path: &Path, message: impl Into<String>) {
        self.problems.push(Problem::new(path.clone(), message));
    }

    fn report_help(&mut self, path: &Path, message: String, help: impl Into<String>) {
        self.problems.push(Problem::new(path.clone(), message).with_help(help));
    }

    fn value(&mut self, schema: &Schema, value: &mut Value, path: &Path) {
        if value.is_null() && schema.nullable || !self.has_type(schema, value, path) {
            return;
        }
        self.one_of_allowed(schema, value, path);
        if let Some(format) = schema.format {
            self.format(format, value, path);
        }
        match value {
            Value::Number(_) => self.number(schema, value, path),
            Value::String(text) => self.text(schema, text, path),
            Value::Array(items) => self.list(schema, items, path),
            Value::Object(fields) => self.mapping(schema, fields, path),
            Value::Null | Value::Bool(_) => {}
        }
        self.alternatives(schema, value, path);
    }

    fn has_type(&mut self, schema: &Schema, value: &Value, path: &Path) -> bool {
        let (fits, expected) = match schema.kind {
            _ if schema.int_or_string => {
                (is_integer(value) || value.is_string(), "an integer or a text")
            }
            None => return true,
            Some(Type::Object) => (value.is_object(), "a mapping (`key: value`)"),
            Some(Type::Array) => (value.is_array(), "a list"),
            Some(Type::String) => (value.is_string(), "a text"),
            Some(Type::Integer) => (is_integer(value), "an integer"),
            Some(Type::Number) => (value.is_number(), "a number"),
            Some(Type::Boolean) => (value.is_boolean(), "true or false"),
        };
        if !fits {
            let mut problem =
                Problem::new(path.clone(), format!("must be {expected}{}", self.not(value)));
            problem.help = type_help(schema.kind, value, self.secret);
            self.problems.push(problem);
        }
        fits
    }

    fn one_of_allowed(&mut self, schema: &Schema, value: &Value, path: &Path) {
        if schema.allowed.is_empty() || schema.allowed.contains(value) {
            return;
        }
        let allowed: Vec<_> = schema.allowed.iter().map(Value::to_string).collect();
        let message = format!("must be {}{}", one_of(&allowed), self.not(value));
        let texts = schema.allowed.iter().filter_map(Value::as_str);
        match value.as_str().and_then(|text| nearest(text, texts)) {
            Some(meant) => self.report_help(path, message, format!("did you mean `{meant}`?")),
            None => self.report(path, message),
        }
    }

    fn format(&mut self, format: Format, value: &Value, path: &Path) {
        let text = value.as_str();
        let fits = match format {
            Format::Int32 => value.as_i64().is_none_or(|number| i32::try_from(number).is_ok()),
            Format::Int64 => !value.is_u64() || value.is_i64(),
            Format::Ipv4 => text.is_none_or(|text| text.parse::<Ipv4Addr>().is_ok()),
            Format::Ipv6 => text.is_none_or(|text| text.parse::<Ipv6Addr>().is_ok()),
            Format::Cidr => text.is_none_or(|text| text.parse::<IpNet>().is_ok()),
            Format::DateTime => text.is_none_or(|text| DateTime::parse_from_rfc3339(text).is_ok()),
            Format::Byte => text.is_none_or(is_base64),
        };
        if !fits {
            let message = format!("must be {}{}", format.meaning(), self.not(value));
            self.report(path, message);
        }
    }

    fn number(&mut self, schema: &Schema, value: &Value, path: &Path) {
        // An integer beyond i64 is more than any maximum.
        let number = value.as_i64().unwrap_or(i64::MAX);
        let below = schema.minimum.is_some_and(|minimum| number < minimum);
        let above = schema.maximum.is_some_and(|maximum| number > maximum);
        if below || above {
            let range = range(schema.minimum, schema.maximum);
            let message = format!("must be {range}{}", self.not(value));
            self.report(path, message);
        }
    }

    fn text(&mut self, schema: &Schema, text: &str, path: &Path) {
        let length = text.chars().count();
        if schema.max_length.is_some_and(|max| length > max)
            || schema.min_length.is_some_and(|min| length < min)
        {
            let allowed = range(schema.min_length, schema.max_length);
            self.report(path, format!("must be {allowed} characters long, not {length}"));
        } else if let Some(pattern) = &schema.pattern
            && !pattern.0.is_match(text)
        {
            let not = self.not(&Value::from(text));
            self.report(
                path,
                match meaning(pattern.0.as_str()) {
                    Some(meaning) => format!("must be {meaning}{not}"),
                    None => format!("must match the regular expression `{}`{not}", pattern.0),
                },
            );
        }
    }

    fn list(&mut self, schema: &Schema, items: &mut [Value], path: &Path) {
        let length = items.len();
        if schema.max_items.is_some_and(|max| length > max)
            || schema.min_items.is_some_and(|min| length < min)
        {
            let allowed = range(schema.min_items, schema.max_items);
            self.report(path, format!("must have {allowed} items, not {length}"));
        }
        if let Some(item_schema) = &schema.items {
            for (index, item) in items.iter_mut().enumerate() {
                self.value(item_schema, item, &path.index(index));
            }
        }
        self.unique(schema, items, path);
    }

    /// Reports items that are there twice, in a list whose items have to differ.
    fn unique(&mut self, schema: &Schema, items: &[Value], path: &Path) {
        let key = |item: &Value| -> Option<Value> {
            match schema.list_type {
                ListType::Atomic => None,
                ListType::Set => Some(item.clone()),
                ListType::Map => {
                    let keys = schema.list_map_keys.iter();
                    let part = |key: &String| Some((key.clone(), item.get(key)?.clone()));
                    Some(Value::Object(keys.filter_map(part).collect()))
                }
            }
        };
        let mut seen = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let Some(key) = key(item) else { continue };
            let text = key.to_string();
            if let Some(first) = seen.get(&text) {
                let first = path.index(*first);
                let message = match schema.list_type {
                    ListType::Map => format!("has the same {} as {first}", self.key_shown(&key)),
                    _ => format!("is the same as {first}"),
                };
                self.report(&path.index(index), message);
            } else {
                seen.insert(text, index);
            }
        }
    }

    fn mapping(&mut self, schema: &Schema, fields: &mut Map<String, Value>, path: &Path) {
        let property = |name: &str| schema.properties.get(name);
        if !self.alternative {
            put_defaults(schema, fields);
        }
        for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
            self.missing(schema, fields, name, path);
        }
        let length = fields.len();
        if schema.max_properties.is_some_and(|max| length > max) {
            let allowed = range(None, schema.max_properties);
            self.report(path, format!("must have {allowed} keys, not {length}"));
        }
        for (name, value) in fields.iter_mut() {
            match property(name).or_else(|| schema.additional()) {
                Some(schema) => self.value(schema, value, &path.field(name)),
                None if self.alternative || schema.is_open() => {}
                None => self.problems.push(unknown(schema, name, path)),
            }
        }
    }

    fn missing(&mut self, schema: &Schema, fields: &Map<String, Value>, name: &str, path: &Path) {
        // A misspelt name is reported as unknown, with the right one.
        let misspelt = |field: &String| {
            !schema.properties.contains_key(field) && suggestion(schema, field) == Some(name)
        };
        let closed = !self.alternative && !schema.is_open();
        if !closed || !fields.keys().any(misspelt) {
            self.report(&path.field(name), "is required, and missing");
        }
    }

    fn alternatives(&mut self, schema: &Schema, value: &Value, path: &Path) {
        let tried = |alternative: &Schema, secret: bool| {
            let mut check = Self { problems: Vec::new(), alternative: true, secret };
            check.value(alternative, &mut value.clone(), path);
            check.problems
        };
        if let Some(not) = &schema.not
            && tried(not, self.secret).is_empty()
        {
            self.report(path, "is what it must not be here");
        }
        for (alternatives, exactly_one) in [(&schema.any_of, false), (&schema.one_of, true)] {
            let failed: Vec<_> =
                alternatives.iter().map(|alternative| tried(alternative, self.secret)).collect();
            match failed.iter().filter(|problems| problems.is_empty()).count() {
                0 => self.problems.extend(no_alternative(alternatives, failed)),
                1 => {}
                _ if exactly_one => self.report(path, "fits more than one of its alternatives"),
                _ => {}
            }
        }
    }

    /// What a value is, as the end of a message that says what it should be.
    fn not(&self, value: &Value) -> String {
        if self.secret && !value.is_array() && !value.is_object() {
            String::new()
        } else {
            format!(", not {}", shown(value))
        }
    }

    /// The fields of a list's key, with their values: `name "tcp"`.
    fn key_shown(&self, key: &Value) -> String {
        let part = |(name, value): (&String, &Value)| match self.secret {
            true => name.clone(),
            false => format!("{name} {value}"),
        };
        let parts: Vec<_> = key.as_object().into_iter().flatten().map(part).collect();
        parts.join(" and ")
    }
}

/// Puts defaults where nothing is; as with an API server, a null that isn't allowed is nothing.
fn put_defaults(schema: &Schema, fields: &mut Map<String, Value>) {
    let nullable = |name: &str| schema.properties.get(name).is_some_and(|field| field.nullable);
    fields.retain(|name, value| !value.is_null() || nullable(name));
    for (name, property) in &schema.properties {
        if let Some(default) = &property.default
            && !fields.contains_key(name)
        {
            fields.insert(name.clone(), default.clone());
        }
    }
}

fn unknown(schema: &Schema, name: &str, path: &Path) -> Problem {
    let problem = Problem::new(path.field(name), "unknown field").at_key();
    match suggestion(schema, name) {
        Some(meant) => problem.with_help(format!("did you mean `{meant}`?")),
        None => {
            let names: Vec<_> = schema.properties.keys().map(|name| format!("`{name}`")).collect();
            problem.with_help(format!("known here: {}", names.join(", ")))
        }
    }
}

/// What to say if a value fits no alternative: what is least wrong with it, and all that would do if
/// that is one thing each.
fn no_alternative(alternatives: &[Schema], failed: Vec<Vec<Problem>>) -> Vec<Problem> {
    let mut least = failed.into_iter().min_by_key(Vec::len).unwrap_or_default();
    let formats: Option<Vec<_>> =
        alternatives.iter().map(|alternative| Some(alternative.format?.meaning())).collect();
    if let (Some(formats), [only]) = (formats, &mut *least)
        && let Some(first) = formats.first()
    {
        only.message = only.message.replacen(first, &formats.join(" or "), 1);
    }
    least
}

fn suggestion<'a>(schema: &'a Schema, name: &str) -> Option<&'a str> {
    nearest(name, schema.properties.keys().map(String::as_str))
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let alphabet = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    // Go's decoder, which API servers use, passes over the ends of lines.
    let length = text.chars().filter(|c| !matches!(c, '\r' | '\n')).count();
    length % 4 == 0
        && text.len() - digits.len() <= 2
        && digits.chars().filter(|c| !matches!(c, '\r' | '\n')).all(alphabet)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The value with defaults, and `path: message` of each problem.
    fn checked(schema: Value, mut value: Value) -> (Value, Vec<String>) {
        let schema: Schema = serde_json::from_value(schema).expect("the schema is structural");
        let problems = check(&schema, &mut value, false);
        let line = |problem: Problem| format!("{}: {}", problem.path, problem.message);
        (value, problems.into_iter().map(line).collect())
    }

    #[test]
    fn defaults_are_put_in_and_nulls_count_as_missing() {
        let schema = json!({
            "type": "object",
            "properties": {
                "list": {"type": "array", "items": {
                    "type": "object",
                    "properties": {
                        "weight": {"type": "integer", "default": 1},
                        "nested": {"type": "object", "default": {}, "properties": {
                            "from": {"type": "string", "default": "Same"},
                        }},
                    },
                }},
                "text": {"type": "string"},
                "open": {"type": "string", "nullable": true},
            },
        });
        let (value, problems) =
            checked(schema, json!({"list": [{}, {"weight": null}], "text": null, "open": null}));
        let item = json!({"weight": 1, "nested": {"from": "Same"}});
        assert_eq!(value, json!({"list": [item, item], "open": null}));
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn items_of_lists_have_to_differ_as_the_list_says() {
        let set = json!({"type": "array", "x-kubernetes-list-type": "set"});
        assert_eq!(checked(set, json!([1, 2, 1])).1, ["[2]: is the same as [0]"]);
        let map = json!({
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {"type": "object", "properties": {
                "port": {"type": "integer"},
                "protocol": {"type": "string", "default": "TCP"},
            }},
        });
        let ports =
            json!([{"port": 1}, {"port": 1, "protocol": "UDP"}, {"port": 1, "protocol": "TCP"}]);
        assert_eq!(checked(map, ports).1, ["[2]: has the same port 1 and protocol \"TCP\" as [0]"]);
    }

    #[test]
    fn bounds_hold_at_both_ends() {
        let port = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535});
        for (value, valid) in [(0, false), (1, true), (65_535, true), (65_536, false)] {
            assert_eq!(checked(port.clone(), json!(value)).1.is_empty(), valid, "{value}");
        }
        assert_eq!(
            checked(port, json!(u64::MAX)).1,
            [format!(": must be from 1 to 65535, not {}", u64::MAX)]
        );
        let text = json!({"type": "string", "minLength": 1, "maxLength": 2});
        for (value, valid) in [("", false), ("é", true), ("éé", true), ("ééé", false)] {
            assert_eq!(checked(text.clone(), json!(value)).1.is_empty(), valid, "{value}");
        }
    }

    #[test]
    fn unknown_fields_are_problems_unless_the_schema_is_open() {
        let closed = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        assert_eq!(checked(closed.clone(), json!({"other": 1})).1, ["other: unknown field"]);
        for (keyword, value) in [
            ("x-kubernetes-preserve-unknown-fields", json!(true)),
            ("additionalProperties", json!({"type": "integer"})),
        ] {
            let mut open = closed.clone();
            open[keyword] = value;
            assert!(checked(open, json!({"other": 1})).1.is_empty());
        }
    }

    #[test]
    fn a_misspelt_required_field_is_one_problem() {
        let schema = json!({
            "type": "object",
            "required": ["sectionName"],
            "properties": {"sectionName": {"type": "string"}},
        });
        let given = json!({"sectioName": "a"});
        assert_eq!(checked(schema.clone(), given.clone()).1, ["sectioName: unknown field"]);
        // Where unknown fields aren't reported, the missing one is.
        let mut open = schema;
        open["x-kubernetes-preserve-unknown-fields"] = json!(true);
        assert_eq!(checked(open, given).1, ["sectionName: is required, and missing"]);
    }

    #[test]
    fn base64_is_as_strict_as_go() {
        for text in ["", "YQ==", "YWI=", "YWJj", "YW\nJj"] {
            assert!(is_base64(text), "{text}");
        }
        for text in ["YQ", "YQ=", "Y Q=", "YQ==YQ==", "====", "Y-_="] {
            assert!(!is_base64(text), "{text}");
        }
    }
}
