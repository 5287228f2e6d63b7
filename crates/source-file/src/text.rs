//! The characters of a file: manifests are UTF-8, as YAML that an API server takes and as JSON.

use std::sync::Arc;

use l4way_resources::Position;

use crate::refusal::Refusal;

/// The text that these bytes are, without a byte order mark.
///
/// # Errors
/// If they are no UTF-8: with what they are instead, or where they cease to be it.
pub(crate) fn text(bytes: Vec<u8>) -> Result<Arc<str>, Refusal> {
    if let Some(encoding) = wide_encoding(&bytes) {
        let refusal = Refusal::lasting(format!("is {encoding}; manifests have to be UTF-8"));
        return Err(refusal.with_help(
            "save it as UTF-8: in PowerShell `Out-File -Encoding utf8`, elsewhere \
             `iconv -f UTF-16 -t UTF-8`",
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).into()),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            Err(not_utf8(&error.as_bytes()[..valid], error.as_bytes()[valid]))
        }
    }
}

/// What the first bytes show that have two or four for each character. A manifest's first character
/// is ASCII (RFC 8259 and YAML 1.2.2, 5.2 "Character Encodings", tell them apart in the same way).
fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [0, 0, 0, byte, ..] | [byte, 0, 0, 0, ..] if *byte != 0 => Some("UTF-32"),
        [0, byte, ..] | [byte, 0, ..] if *byte != 0 => Some("UTF-16"),
        _ => None,
    }
}

fn not_utf8(before: &[u8], byte: u8) -> Refusal {
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let starts_character = |byte: &&u8| **byte & 0xc0 != 0x80;
    let position = Position {
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: before[line_start..].iter().filter(starts_character).count() + 1,
        width: 1,
    };
    let message = format!("manifests have to be UTF-8, and the byte 0x{byte:02X} is none here");
    Refusal::lasting(message)
        .at(position)
        .with_help("save it as UTF-8: from Latin-1, `iconv -f ISO-8859-1 -t UTF-8`")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn said(bytes: &[u8]) -> String {
        let refusal = text(bytes.to_vec()).expect_err("it is no UTF-8");
        refusal.diagnostic(Path::new("a.yaml")).to_string()
    }

    #[test]
    fn a_byte_order_mark_is_no_character() {
        assert_eq!(text(b"\xef\xbb\xbfa: \xc3\xa9".to_vec()).as_deref(), Ok("a: \u{e9}"));
        assert_eq!(text(Vec::new()).as_deref(), Ok(""));
    }

    #[test]
    fn other_encodings_are_told_with_the_cure() {
        for bytes in [b"\xff\xfea\0".as_slice(), b"\xfe\xff\0a", b"a\0b\0", b"\0a\0b"] {
            let said = said(bytes);
            assert!(said.contains("is UTF-16") && said.contains("save it as UTF-8"), "{said}");
        }
        for bytes in [b"\xff\xfe\0\0".as_slice(), b"a\0\0\0", b"\0\0\0a"] {
            assert!(said(bytes).contains("is UTF-32"), "{}", said(bytes));
        }
    }

    #[test]
    fn latin_1_is_told_where_it_is() {
        let said = said(b"a: 1\n# \xc3\xa9 caf\xe9\n");
        assert!(said.starts_with("a.yaml:2:8: ") && said.contains("0xE9"), "{said}");
        assert!(said.contains("ISO-8859-1"), "{said}");
    }
}
