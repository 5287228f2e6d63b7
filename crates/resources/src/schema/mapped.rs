//! IPv4-mapped addresses (RFC 4291, section 2.5.5.2), which API servers take for none.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

use crate::path::Path;

/// What would be right, if a value that an address is in has one that is IPv4's and written as IPv6's.
pub(super) fn help(object: &Value, path: &Path) -> Option<String> {
    let value = path.value_in(object)?;
    let (text, address) = find(value)?;
    Some(format!("`{text}` is the IPv4 address {address}, mapped into IPv6: write `{address}`"))
}

fn find(value: &Value) -> Option<(&str, IpAddr)> {
    match value {
        Value::String(text) => {
            let address = IpAddr::from(text.parse::<Ipv6Addr>().ok()?).to_canonical();
            address.is_ipv4().then_some((text, address))
        }
        Value::Array(items) => items.iter().find_map(find),
        Value::Object(fields) => fields.values().find_map(find),
        _ => None,
    }
}
