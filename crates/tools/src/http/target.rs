//! Where a request goes.
//!
//! A URL is read twice: by a strict reader of our own and by the URL library that the rest of the world resembles.
//! Where they do not agree on host and port, somebody is meant to be misled, and the URL is refused.

use std::fmt;

use url::{Host, Url};

// BOUND: what servers accept.
const MAX_URL_BYTES: usize = 8 * 1024;

// BOUND: RFC 1035.
const MAX_HOST_BYTES: usize = 253;

/// Scheme, host, port and path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tls: bool,
    /// ASCII, lower case, without brackets and without a closing dot.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, as it is sent.
    pub(super) path: String,
    is_ipv6: bool,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_URL_BYTES {
            return Err(format!("has more than {MAX_URL_BYTES} bytes"));
        }
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err("has a space, a backslash or a control character".to_owned());
        }
        let (tls, host, port) = strict(text)?;
        let url = Url::parse(text).map_err(|error| format!("is not valid: {error}"))?;
        Self::of(&url, Some((tls, host, port)))
    }

    /// The target of a redirect, absolute or relative to this one.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        if location.len() > MAX_URL_BYTES || location.chars().any(char::is_control) {
            return Err("is too long or has a control character".to_owned());
        }
        if location.contains("://") {
            return Self::parse(location.split('#').next().unwrap_or(location));
        }
        let base =
            Url::parse(&self.to_string()).map_err(|error| format!("is not valid: {error}"))?;
        let url = base
            .join(location)
            .map_err(|error| format!("is not valid: {error}"))?;
        Self::of(&url, None)
    }

    fn of(url: &Url, strict: Option<(bool, String, u16)>) -> Result<Self, String> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither http nor https".to_owned()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user name or password; use headers".to_owned());
        }
        let (host, is_ipv6) = match url.host() {
            Some(Host::Domain(name)) => (name.trim_end_matches('.').to_owned(), false),
            Some(Host::Ipv4(address)) => (address.to_string(), false),
            Some(Host::Ipv6(address)) => (address.to_string(), true),
            None => return Err("has no host".to_owned()),
        };
        let port = url.port_or_known_default().ok_or("has no port")?;
        if let Some(strict) = strict
            && strict != (tls, host.clone(), port)
        {
            return Err("can be read as more than one host; write the host plainly".to_owned());
        }
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        Ok(Self {
            tls,
            host,
            port,
            path,
            is_ipv6,
        })
    }

    pub(super) fn same_place(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// The value of the `Host` header.
    pub(super) fn host_header(&self) -> String {
        let host = if self.is_ipv6 {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            if self.tls { "https" } else { "http" },
            self.host_header(),
            self.path
        )
    }
}

/// Reads scheme, host and port with no tolerance at all.
fn strict(text: &str) -> Result<(bool, String, u16), String> {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let (tls, rest) = if lower.starts_with("https://") {
        (true, &text[8..])
    } else if lower.starts_with("http://") {
        (false, &text[7..])
    } else {
        return Err("does not begin with `https://` or `http://`".to_owned());
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if authority.contains('@') {
        return Err("has a user name or password; use headers".to_owned());
    }
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (host, after) = inner
            .split_once(']')
            .ok_or("has an IPv6 address without `]`")?;
        let address: std::net::Ipv6Addr = host
            .parse()
            .map_err(|_| "has an IPv6 address that is not valid")?;
        (address.to_string(), after)
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        let host = authority[..end].to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
        if host.is_empty()
            || host.starts_with('.')
            || host.len() > MAX_HOST_BYTES
            || !host.bytes().all(is_plain)
            || host.contains("..")
        {
            return Err("has a host that is not a plain name; letters beyond ASCII are written as `xn--...`".to_owned());
        }
        (host, &authority[end..])
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or("has a port that is not valid")?
        }
        Some(_) => return Err("has a port that is not valid".to_owned()),
        None if port.is_empty() => {
            if tls {
                443
            } else {
                80
            }
        }
        None => return Err("has text after the host".to_owned()),
    };
    Ok((tls, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_urls_are_read() {
        for (text, shown, host, port) in [
            (
                "https://example.com",
                "https://example.com/",
                "example.com",
                443,
            ),
            (
                "HTTP://Example.COM.:8080/a%20b?c=d#e",
                "http://example.com:8080/a%20b?c=d",
                "example.com",
                8080,
            ),
            ("http://127.0.0.1/x", "http://127.0.0.1/x", "127.0.0.1", 80),
            ("https://[::1]:444/", "https://[::1]:444/", "::1", 444),
            (
                "https://xn--bcher-kva.example/ü",
                "https://xn--bcher-kva.example/%C3%BC",
                "xn--bcher-kva.example",
                443,
            ),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(
                (
                    target.to_string().as_str(),
                    target.host.as_str(),
                    target.port
                ),
                (shown, host, port)
            );
        }
    }

    #[test]
    fn spellings_that_could_mislead_are_refused() {
        for text in [
            "",
            "example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https:/example.com",
            "https:example.com",
            "https://",
            "https:///x",
            "https://user@example.com",
            "https://user:pass@example.com",
            "https://good.com@evil.com",
            "https://good.com\\@evil.com",
            "https://good.com%00.evil.com",
            "https://good.com%2f.evil.com",
            "https://good.com\0.evil.com",
            "https://good.com\t.evil.com",
            "https://good.com .evil.com",
            "https://exa\u{ad}mple.com",
            "https://ｅxample.com",
            "https://еxample.com",
            "https://example。com",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://017700000001/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://[::ffff:7f00:1%25eth0]/",
            "http://[::1",
            "http://::1/",
            "https://example.com:0",
            "https://example.com:99999",
            "https://example.com:",
            "https://example.com:80x",
            "https://example.com:+80",
            "https://.example.com",
            "https://example..com",
            "https://*.com",
        ] {
            assert!(
                Target::parse(text).is_err(),
                "{text:?}: {:?}",
                Target::parse(text)
            );
        }
        let long = format!("https://example.com/{}", "a".repeat(10_000));
        assert!(Target::parse(&long).is_err());
        assert!(Target::parse(&format!("https://{}.com", "a".repeat(300))).is_err());
    }

    #[test]
    fn redirects_are_resolved() {
        let base = Target::parse("https://a.com/x/y?z").unwrap();
        for (location, shown) in [
            ("/b", "https://a.com/b"),
            ("c?d", "https://a.com/x/c?d"),
            ("../e", "https://a.com/e"),
            ("//b.com/f", "https://b.com/f"),
            ("https://c.com/g#h", "https://c.com/g"),
            ("", "https://a.com/x/y?z"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), shown);
        }
        for location in [
            "https://u@c.com/",
            "ftp://c.com/",
            "javascript:1",
            "a\nb",
            "http://0x7f.1/",
        ] {
            assert!(base.join(location).is_err(), "{location:?}");
        }
    }
}
