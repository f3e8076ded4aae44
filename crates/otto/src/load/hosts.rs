//! Hosts that the `http` tool may reach, as they are written in files: `example.com`, `*.example.com`,
//! `example.com:8443`.
//!
//! It checks the form and compares one list with another. Which address a name stands for is decided, and
//! refused, at connection time in the sandbox.
//!
//! Invariant: a pattern accepted here names at least two labels or an address, never a whole top-level domain
//! or everything.

use std::sync::Arc;

/// The form of a host, for messages and the schema.
pub(crate) const HOST_FORM: &str = "host names without scheme or path, such as `example.com`, `*.example.com` or `example.com:8443`";

/// Checks a host pattern and gives it in lower case.
pub(crate) fn parse_host(text: &str) -> Result<Arc<str>, String> {
    let quoted = crate::diagnostic::quoted(text);
    if text.contains("://") {
        return Err(format!("{quoted} is a URL, not a host"));
    }
    let lower = text.to_ascii_lowercase();
    let (host, port) = split_port(&lower);
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(format!("{quoted} has no valid port"));
    }
    let (name, is_wildcard) = host
        .strip_prefix("*.")
        .map_or((host, false), |name| (name, true));
    let is_address = !is_wildcard
        && (name.parse::<std::net::Ipv4Addr>().is_ok()
            || name
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()));
    let is_name = name.len() <= 253 && name.split('.').all(is_label);
    if !is_address && !is_name {
        return Err(format!("{quoted} is not a host"));
    }
    if is_wildcard && !name.contains('.') {
        return Err(format!("{quoted} would open a whole top-level domain"));
    }
    Ok(Arc::from(lower.as_str()))
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        // A colon inside brackets belongs to an address.
        Some((_, port)) if port.contains(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

/// Whether every address that `narrow` allows is also allowed by `wide`.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    let ((wide_host, wide_port), (host, port)) = (split_port(wide), split_port(narrow));
    let port_fits = wide_port.is_none() || wide_port == port;
    let host_fits = match wide_host.strip_prefix('*') {
        // `*.example.com` covers `a.example.com` and `*.a.example.com`, not `example.com` itself.
        Some(suffix) => {
            host.strip_prefix('*').unwrap_or(host).ends_with(suffix) && host != &suffix[1..]
        }
        None => wide_host == host,
    };
    port_fits && host_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_form() {
        for (text, expected) in [
            ("Example.com", "example.com"),
            ("*.example.com", "*.example.com"),
            ("example.com:8443", "example.com:8443"),
            ("localhost:9", "localhost:9"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(parse_host(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "*",
            "*.com",
            "https://example.com",
            "example.com/path",
            "a b",
            "example.com:0",
            "example.com:99999",
            "example.com:",
            "-a.com",
            "a..b",
            "*.*.com",
            "exa\u{0}mple.com",
            "bücher.example",
            "user@example.com",
            "[::1",
            "*.1.2.3.4:x",
        ] {
            assert!(parse_host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_list_covers_what_is_narrower() {
        for (wide, narrow, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "example.com:443", true),
            ("example.com:443", "example.com", false),
            ("example.com:443", "example.com:443", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com:8", true),
            ("*.example.com", "*.b.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("a.example.com", "*.example.com", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} covers {narrow}");
        }
    }
}
