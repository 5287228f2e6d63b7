use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::{
    path::{Path, Step},
    source::Position,
};

/// A value with its position in its document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    position: Position,
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: String,
    key_position: Position,
    value: Node,
}

impl Node {
    /// The value without its positions.
    pub(crate) fn to_value(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Data::Mapping(entries) => {
                let pair = |entry: &Entry| (entry.key.clone(), entry.value.to_value());
                Value::Object(entries.iter().map(pair).collect::<Map<_, _>>())
            }
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(value) => value.as_str(),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.data == Data::Scalar(Value::Null)
    }

    /// Whether it has no text of its own.
    fn is_block(&self) -> bool {
        !matches!(self.data, Data::Scalar(_)) || self.is_null()
    }

    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.data, Data::Mapping(_))
    }

    pub(crate) fn into_items(self) -> Option<Vec<Node>> {
        match self.data {
            Data::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn take(self, key: &str) -> Option<Node> {
        match self.data {
            Data::Mapping(entries) => {
                entries.into_iter().find(|entry| entry.key == key).map(|entry| entry.value)
            }
            _ => None,
        }
    }

    /// Where a value is; if it isn't there, the innermost thing around it that is.
    pub(crate) fn locate(&self, path: &Path) -> Position {
        let mut node = self;
        let mut position = self.position;
        for step in path.steps() {
            let (next, at) = match node.step(step) {
                Some(next) => next,
                None => return position,
            };
            // A block's own position is its first line; the key before it says more.
            position = if next.is_block() { at } else { next.position };
            node = next;
        }
        position
    }

    /// Where the key of a value is.
    pub(crate) fn locate_key(&self, path: &Path) -> Position {
        let Some((last, parents)) = path.steps().split_last() else { return self.position };
        let mut node = self;
        for step in parents {
            match node.step(step) {
                Some((next, _)) => node = next,
                None => return self.locate(path),
            }
        }
        node.step(last).map_or_else(|| self.locate(path), |(_, position)| position)
    }

    /// The value that a step leads to, and the position of its key or of the item.
    fn step(&self, step: &Step) -> Option<(&Node, Position)> {
        match (&self.data, step) {
            (Data::Mapping(_), Step::Field(name)) => {
                self.entry(name).map(|entry| (&entry.value, entry.key_position))
            }
            (Data::Mapping(_), Step::Index(index)) => {
                self.entry(&index.to_string()).map(|entry| (&entry.value, entry.key_position))
            }
            (Data::List(items), Step::Index(index)) => {
                items.get(*index).map(|item| (item, item.position))
            }
            _ => None,
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Moves every position down, for a document that isn't its file's first.
    pub(crate) fn shift(&mut self, lines: usize) {
        self.position.line += lines;
        match &mut self.data {
            Data::Scalar(_) => {}
            Data::List(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Data::Mapping(entries) => entries.iter_mut().for_each(|entry| {
                entry.key_position.line += lines;
                entry.value.shift(lines);
            }),
        }
    }
}

/// The position of a location as the parser reports it.
pub(super) fn position(location: Location) -> Position {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Position {
        line: count(location.line()).max(1),
        column: count(location.column()).max(1),
        width: count(location.span().len()),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Data>::deserialize(deserializer)?;
        let mut position = position(spanned.referenced);
        if !matches!(spanned.value, Data::Scalar(_)) {
            position.width = 0;
        }
        Ok(Self { position, data: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Data, E> {
        Ok(Data::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Data, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Scalar(Value::from(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Scalar(Value::from(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Data, E> {
        let number = Number::from_f64(value)
            .ok_or_else(|| E::custom("an infinite number, or none at all, can't be a value"))?;
        Ok(Data::Scalar(Value::Number(number)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Scalar(Value::from(value)))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Data, E> {
        Ok(Data::Scalar(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Data::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Data, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = mapping.next_entry::<Spanned<String>, Node>()? {
            let key_position = position(key.referenced);
            entries.push(Entry { key: key.value, key_position, value });
        }
        Ok(Data::Mapping(entries))
    }
}
