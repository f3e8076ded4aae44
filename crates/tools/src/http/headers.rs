//! Which headers may be sent.

use std::collections::BTreeMap;

// BOUND: headers of one request, and bytes of each.
const MAX_HEADERS: usize = 50;
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Headers that belong to the connection and not to whoever asks.
const OURS: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers that a model wants, checked.
pub(super) fn of_model(
    headers: Option<&BTreeMap<String, String>>,
) -> Result<Vec<(String, String)>, String> {
    let Some(headers) = headers else {
        return Ok(Vec::new());
    };
    if headers.len() > MAX_HEADERS {
        return Err(format!("at most {MAX_HEADERS} headers are accepted"));
    }
    for (name, value) in headers {
        check_own(name, value)?;
    }
    Ok(headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect())
}

/// Checks one header. The value does not appear in the error, since it may be a key.
pub(super) fn check_own(name: &str, value: &str) -> Result<(), String> {
    let quoted = crate::text::quote(name);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() + value.len() > MAX_HEADER_BYTES || !name.bytes().all(is_token)
    {
        return Err(format!(
            "the header {quoted} has a name that is not valid, or is too long"
        ));
    }
    if !value
        .bytes()
        .all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte))
    {
        return Err(format!(
            "the value of the header {quoted} has a line break or is not ASCII"
        ));
    }
    if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        return Err(format!("the header {quoted} is set by the tool itself"));
    }
    Ok(())
}

/// Whether a header says who asks, so that another host must not get it.
pub(super) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie"].contains(&name.as_str())
        || ["key", "token", "secret", "auth"]
            .iter()
            .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_cannot_carry_other_headers() {
        for (name, value) in [
            ("A\r\nB", "x"),
            ("A", "x\r\nB: y"),
            ("A", "x\ny"),
            ("A", "x\0"),
            ("A", "ü"),
            ("A:", "x"),
            ("A B", "x"),
            ("", "x"),
            ("Host", "evil"),
            ("content-length", "5"),
            ("Transfer-Encoding", "chunked"),
        ] {
            assert!(check_own(name, value).is_err(), "{name:?}: {value:?}");
        }
        assert!(check_own("Accept", "application/json, */*;q=0.1").is_ok());
        assert!(
            is_credential("Authorization")
                && is_credential("X-Api-Key")
                && !is_credential("Accept")
        );
    }
}
