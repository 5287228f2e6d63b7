use std::{cell::Cell, fmt};

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

    pub(crate) fn items(&self) -> Option<&[Node]> {
        match &self.data {
            Data::List(items) => Some(items),
            _ => None,
        }
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

    /// Puts an entry in front, if there is none of this key, as one that is written where another
    /// is. Nothing but mappings has entries.
    pub(crate) fn put_missing(&mut self, key: &str, value: &str, position: Position) {
        let is_missing = self.entry(key).is_none();
        if let Data::Mapping(entries) = &mut self.data
            && is_missing
        {
            let value = Self { position, data: Data::Scalar(value.into()) };
            entries.insert(0, Entry { key: key.to_owned(), key_position: position, value });
        }
    }

    /// The keys that begin on a line, each with its position, the keys that it is under, and its
    /// value.
    pub(crate) fn keys_on(&self, line: usize) -> Vec<KeyOnLine<'_>> {
        let mut found = Vec::new();
        self.add_keys_on(line, &mut Vec::new(), &mut found);
        found
    }

    fn add_keys_on<'a>(
        &'a self,
        line: usize,
        path: &mut Vec<&'a str>,
        found: &mut Vec<KeyOnLine<'a>>,
    ) {
        match &self.data {
            Data::Scalar(_) => {}
            Data::List(items) => items.iter().for_each(|item| {
                path.push("");
                item.add_keys_on(line, path, found);
                path.pop();
            }),
            Data::Mapping(entries) => entries.iter().for_each(|entry| {
                path.push(&entry.key);
                if entry.key_position.line == line {
                    let (position, value) = (entry.key_position, &entry.value);
                    found.push(KeyOnLine { path: path.clone(), position, value });
                }
                entry.value.add_keys_on(line, path, found);
                path.pop();
            }),
        }
    }

    /// Moves every position, for a document that isn't its file's first.
    pub(crate) fn shift(&mut self, lines: usize, columns: usize) {
        self.position.shift(lines, columns);
        match &mut self.data {
            Data::Scalar(_) => {}
            Data::List(items) => items.iter_mut().for_each(|item| item.shift(lines, columns)),
            Data::Mapping(entries) => entries.iter_mut().for_each(|entry| {
                entry.key_position.shift(lines, columns);
                entry.value.shift(lines, columns);
            }),
        }
    }
}

/// A key that begins on a line.
pub(crate) struct KeyOnLine<'a> {
    /// The keys that it is under, and itself; an item of a list has an empty one.
    pub(crate) path: Vec<&'a str>,
    pub(crate) position: Position,
    pub(crate) value: &'a Node,
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

/// Integers below this are exact as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a value costs beside its text: about what it takes in memory.
const VALUE: usize = 64;

/// What the aliases of a file may come to, in bytes.
const ALIASES: usize = 8 << 20;

thread_local! {
    /// What the values that are parsed on this thread may still come to, in bytes.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Parses with the budget of a whole file: what it says without aliases fits, for a text is no longer
/// than it is written and a value begins behind one of these marks, and what its aliases may add.
pub(super) fn with_budget<T>(file: &str, parse: impl FnOnce() -> T) -> T {
    let marks = file.bytes().filter(|byte| b",:-?[{\n".contains(byte)).count();
    let values = 2 * VALUE * (marks + 1);
    LEFT.set(2 * file.len() + values + ALIASES);
    let parsed = parse();
    LEFT.set(usize::MAX);
    parsed
}

fn spend<E: de::Error>(bytes: usize) -> Result<(), E> {
    let left = LEFT.get().checked_sub(bytes);
    let left = left.ok_or_else(|| {
        E::custom("the aliases (`*name`) of this file come to too much; write less of them")
    })?;
    LEFT.set(left);
    Ok(())
}

fn scalar<E: de::Error>(value: Value) -> Result<Data, E> {
    spend(VALUE)?;
    Ok(Data::Scalar(value))
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Data, E> {
        scalar(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Data, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Data, E> {
        scalar(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Data, E> {
        scalar(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Data, E> {
        scalar(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Data, E> {
        // As kubectl hands on what Helm prints: `1e+06` and `80.0` are integers in JSON.
        if value.fract() == 0.0 && value.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "it is an integer that fits")]
            return scalar(Value::from(value as i64));
        }
        let number = Number::from_f64(value)
            .ok_or_else(|| E::custom("an infinite number, or none at all, can't be a value"))?;
        scalar(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Data, E> {
        spend(value.len())?;
        scalar(Value::from(value))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Data, E> {
        spend(value.len())?;
        scalar(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Data, A::Error> {
        spend(VALUE)?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Data::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Data, A::Error> {
        spend(VALUE)?;
        let mut entries = Vec::new();
        while let Some((key, value)) = mapping.next_entry::<Spanned<String>, Node>()? {
            spend(key.value.len())?;
            let key_position = position(key.referenced);
            entries.push(Entry { key: key.value, key_position, value });
        }
        Ok(Data::Mapping(entries))
    }
}
