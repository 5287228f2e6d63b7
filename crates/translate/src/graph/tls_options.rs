//! What `listener.tls.options` ask for. What can't be had is told, never passed over.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, sync::Arc, time::Duration};

use l4way_model::{CipherSuite, TlsVersion};
use l4way_resources::api::TlsMode;
use l4way_tls::check_options;

use super::{Protocol, tls::TlsNode};
use crate::suggest;

const MIN_VERSION: &str = "l4way.dev/min-version";
const MAX_VERSION: &str = "l4way.dev/max-version";
const CIPHER_SUITES: &str = "l4way.dev/cipher-suites";
const ALPN: &str = "l4way.dev/alpn";
const SESSION_RESUMPTION: &str = "l4way.dev/session-resumption";
const HANDSHAKE_TIMEOUT: &str = "l4way.dev/handshake-timeout";

const KEYS: [&str; 6] =
    [MIN_VERSION, MAX_VERSION, CIPHER_SUITES, ALPN, SESSION_RESUMPTION, HANDSHAKE_TIMEOUT];

const LONGEST_HANDSHAKE: Duration = Duration::from_secs(60 * 60);

/// The application protocols that an HTTPS listener speaks.
const OF_HTTP: [&str; 2] = ["h2", "http/1.1"];

/// An option that can't be had, or none if it is about all of them, and why.
pub(crate) type Refusal<'a> = (Option<&'a str>, String);

/// Reads the options of a listener of this protocol into `tls`.
pub(crate) fn read<'a>(
    tls: &mut TlsNode,
    protocol: Protocol,
    asked: &'a BTreeMap<String, String>,
) -> Vec<Refusal<'a>> {
    let mut refusals: Vec<Refusal<'a>> = Vec::new();
    for (key, value) in asked {
        if let Err(why) = read_one(tls, protocol, key, value) {
            refusals.push((Some(key), format!("TLS option {key:?} {why}")));
        }
    }
    if refusals.is_empty()
        && let Err(why) = check_options(&tls.options)
    {
        refusals.push((None, format!("the TLS options contradict each other: {why}")));
    }
    refusals
}

fn read_one(tls: &mut TlsNode, protocol: Protocol, key: &str, value: &str) -> Result<(), String> {
    let TlsNode { options, handshake_timeout, .. } = tls;
    let is_known = KEYS.contains(&key);
    if is_known && protocol == Protocol::Tls(TlsMode::Passthrough) && key != HANDSHAKE_TIMEOUT {
        return Err("is for mode Terminate: in mode Passthrough the client and the backend \
                    negotiate; remove it"
            .to_owned());
    }
    match key {
        MIN_VERSION => options.min_version = version(value)?,
        MAX_VERSION => options.max_version = version(value)?,
        CIPHER_SUITES => options.cipher_suites = cipher_suites(value)?,
        ALPN => options.alpn = application_protocols(protocol, value)?,
        SESSION_RESUMPTION => {
            options.resumption = match value {
                "enabled" => true,
                "disabled" => false,
                _ => return Err(unknown(value, &["enabled", "disabled"])),
            }
        }
        HANDSHAKE_TIMEOUT => *handshake_timeout = timeout(value)?,
        _ => {
            return Err(format!(
                "is not known{}; l4way's are {}",
                suggest::did_you_mean(key, KEYS),
                KEYS.join(", ")
            ));
        }
    }
    Ok(())
}

fn version(value: &str) -> Result<TlsVersion, String> {
    named(value, TlsVersion::ALL)
}

fn cipher_suites(value: &str) -> Result<Vec<CipherSuite>, String> {
    list(value)?.map(|name| named(name, CipherSuite::ALL)).collect()
}

fn application_protocols(protocol: Protocol, value: &str) -> Result<Vec<Arc<str>>, String> {
    let known = |name: &str| match protocol {
        Protocol::Https if !OF_HTTP.contains(&name) => Err(unknown(name, &OF_HTTP)),
        _ => Ok(name.into()),
    };
    list(value)?.map(known).collect()
}

fn timeout(value: &str) -> Result<Duration, String> {
    let timeout = duration(value)
        .ok_or_else(|| format!("is {value:?}, which is no duration; write, say, 10s or 500ms"))?;
    if timeout.is_zero() || timeout > LONGEST_HANDSHAKE {
        return Err(format!("is {value}; it has to be more than 0 and at most 1h"));
    }
    Ok(timeout)
}

/// A duration as the Gateway API has it (GEP-2257): `1h30m`, `10s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut left = text;
    let mut parts = 0;
    while !left.is_empty() {
        let digits = left.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = left.split_at_checked(digits)?;
        let units = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, rest) = rest.split_at_checked(units)?;
        let number: u64 = (digits <= 5).then(|| number.parse().ok())??;
        sum += match unit {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        left = rest;
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(sum)
}

/// The items between commas; there is one at least.
fn list(value: &str) -> Result<impl Iterator<Item = &str>, String> {
    let items = value.split(',').map(str::trim);
    match items.clone().find(|item| item.is_empty()) {
        Some(_) => Err(format!("is {value:?}: write names with a comma between each two")),
        None => Ok(items),
    }
}

fn named<T: FromStr + Copy + Display>(name: &str, all: &[T]) -> Result<T, String> {
    name.parse().map_err(|_| {
        let names: Vec<_> = all.iter().map(T::to_string).collect();
        unknown(name, &names.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

fn unknown(value: &str, known: &[&str]) -> String {
    let hint = suggest::did_you_mean(value, known.iter().copied());
    format!("has no value {value:?}{hint}; use {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_gateway_api() {
        for (text, millis) in
            [("10s", 10_000), ("500ms", 500), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "1d", "100000s", "1h1m1s1ms1s", "1s ", "1µs"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn lists_have_no_gaps() {
        assert_eq!(list("a, b").unwrap().collect::<Vec<_>>(), ["a", "b"]);
        assert!(list("").is_err());
        assert!(list("a,,b").is_err());
    }
}
