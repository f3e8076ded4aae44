//! Which hosts may be reached: patterns and names, each parsed into a form that cannot be misread.
//!
//! A name is compared label by label in one spelling: ASCII, lower case, without a trailing dot. What is not
//! clearly a name or clearly an address is refused instead of guessed at, because the resolver or the
//! connection might read it differently.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::ConnectRate;

// BOUND: RFC 1035, section 2.3.4.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Ports that a pattern without a port stands for.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// A host as it is asked for: a name or an address, never something in between.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

/// Why a text is not a host or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHost {
    #[error("the host is empty")]
    Empty,
    #[error(
        "the host is longer than {MAX_NAME_BYTES} bytes or has a label longer than {MAX_LABEL_BYTES}"
    )]
    TooLong,
    #[error(
        "only ASCII letters, digits, `-` and `.` can be in a host; write other letters in their `xn--` form"
    )]
    Character,
    #[error("a label of the host is empty, or begins or ends with `-`")]
    Label,
    #[error(
        "the host looks like a number but is no address in its usual form (`192.0.2.1`, `[2001:db8::1]`)"
    )]
    Number,
    #[error("the port is not a number between 1 and 65535")]
    Port,
    #[error("`*` can only stand for whole labels at the beginning, as in `*.example.com`")]
    Wildcard,
}

/// A pattern of the allowlist: `host`, `*.host`, either with `:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct HostRule {
    /// Without the `*.`.
    host: Host,
    /// Whether names below `host` match, instead of `host` itself.
    below: bool,
    /// `None`: the default ports.
    port: Option<u16>,
}

/// What an egress process may do, fixed at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EgressPolicy {
    /// What the agent may reach.
    pub(crate) allowed: Vec<HostRule>,
    /// What may have a private address or be an address, by the operator's word. It does not allow anything
    /// by itself: it must be in `allowed` too.
    pub(crate) private: Vec<HostRule>,
    /// How often one host may be connected to.
    pub(crate) rate: ConnectRate,
    /// Audit mode: a name that is in no list passes, on any port, if a note of it could be written first. Its
    /// address has to be public all the same.
    pub(crate) audit: bool,
}

impl EgressPolicy {
    /// Whether the agent may reach this host and port at all.
    pub(crate) fn allows(&self, host: &Host, port: u16) -> bool {
        self.allowed.iter().any(|rule| rule.matches(host, port))
    }

    /// Whether the operator vouches for this very host and port, so that its address may be private. A
    /// pattern with `*` never does: who controls any name below it would choose the address.
    pub(crate) fn may_be_private(&self, host: &Host, port: u16) -> bool {
        self.private
            .iter()
            .any(|rule| !rule.below && rule.matches(host, port))
    }

    /// Every port that can be connected to.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.allowed.iter().flat_map(HostRule::ports).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

impl HostRule {
    /// Parses a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, BadHost> {
        let (host, port) = split_port(text)?;
        let (host, below) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host, false),
        };
        if host.contains('*') {
            return Err(BadHost::Wildcard);
        }
        let host = Host::parse(host)?;
        if below && matches!(host, Host::Address(_)) {
            return Err(BadHost::Wildcard);
        }
        Ok(Self { host, below, port })
    }

    fn matches(&self, host: &Host, port: u16) -> bool {
        let port_matches = match self.port {
            Some(only) => only == port,
            None => DEFAULT_PORTS.contains(&port),
        };
        let host_matches = match (&self.host, host) {
            (Host::Address(rule), Host::Address(asked)) => rule == asked,
            (Host::Name(rule), Host::Name(asked)) if self.below => asked
                .strip_suffix(rule.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Host::Name(rule), Host::Name(asked)) => rule == asked,
            _ => false,
        };
        port_matches && host_matches
    }

    fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        let defaults: &[u16] = if self.port.is_none() {
            &DEFAULT_PORTS
        } else {
            &[]
        };
        self.port.into_iter().chain(defaults.iter().copied())
    }
}

impl Host {
    /// Parses a host without port. An IPv6 address may be in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, BadHost> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(BadHost::Number)?;
            return inner
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(IpAddr::V6(address)))
                .map_err(|_| BadHost::Number);
        }
        if text.contains(':') {
            return text
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(IpAddr::V6(address)))
                .map_err(|_| BadHost::Number);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(BadHost::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(BadHost::TooLong);
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        {
            return Err(BadHost::Character);
        }
        for label in text.split('.') {
            if label.len() > MAX_LABEL_BYTES {
                return Err(BadHost::TooLong);
            }
            if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
                return Err(BadHost::Label);
            }
        }
        let name = text.to_ascii_lowercase();
        // Resolvers and URL parsers read `1`, `0x7f.1` and `127.1` as addresses: a last label that is a number
        // makes the whole an address or nothing.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last
                .strip_prefix("0x")
                .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_number {
            return name
                .parse::<Ipv4Addr>()
                .map(|address| Self::Address(IpAddr::V4(address)))
                .map_err(|_| BadHost::Number);
        }
        Ok(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Takes `:port` off the end, if it is there.
fn split_port(text: &str) -> Result<(&str, Option<u16>), BadHost> {
    let parse = |port: &str| -> Result<Option<u16>, BadHost> {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if digits && port > 0 => Ok(Some(port)),
            _ => Err(BadHost::Port),
        }
    };
    if text.starts_with('[') {
        let end = text.find(']').ok_or(BadHost::Number)?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, parse(port)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(BadHost::Number),
        };
    }
    match text.split_once(':') {
        // More than one colon without brackets: an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, parse(port)?)),
        None => Ok((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str]) -> EgressPolicy {
        let parse = |text: &&str| HostRule::parse(text).unwrap();
        EgressPolicy {
            allowed: allowed.iter().map(parse).collect(),
            private: Vec::new(),
            rate: ConnectRate::default(),
            audit: false,
        }
    }

    #[track_caller]
    fn check(allowed: &[&str], host: &str, port: u16, expected: bool) {
        let host = Host::parse(host).unwrap();
        assert_eq!(
            policy(allowed).allows(&host, port),
            expected,
            "{host} {port} under {allowed:?}"
        );
    }

    #[test]
    fn a_name_matches_exactly_and_on_the_default_ports() {
        check(&["example.com"], "example.com", 443, true);
        check(&["example.com"], "EXAMPLE.com.", 80, true);
        check(&["example.com"], "example.com", 8443, false);
        check(&["example.com:8443"], "example.com", 8443, true);
        check(&["example.com:8443"], "example.com", 443, false);
        for other in [
            "www.example.com",
            "example.com.evil.net",
            "evilexample.com",
            "example.co",
            "xample.com",
        ] {
            check(&["example.com"], other, 443, false);
        }
    }

    #[test]
    fn a_wildcard_stands_for_whole_labels_and_at_least_one() {
        check(&["*.example.com"], "a.example.com", 443, true);
        check(&["*.example.com"], "a.b.example.com", 443, true);
        check(&["*.example.com"], "example.com", 443, false);
        check(&["*.example.com"], "evilexample.com", 443, false);
        check(&["*.example.com"], "example.com.evil.net", 443, false);
    }

    #[test]
    fn what_is_neither_clearly_a_name_nor_clearly_an_address_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "-a.com",
            "a-.com",
            "exa mple.com",
            "example.com\0.evil.net",
            "ex\u{e4}mple.com",
            "a/b",
            "user@example.com",
            "example.com?x",
            "example.com#x",
            "a\\b",
            "%61.com",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "1.2.3.4.5",
            "a.1",
            "0x7f.1",
            "[::1",
            "::g",
            "example.com\t",
            "\u{ff11}.1.1.1",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(Host::parse(&"a".repeat(64)).is_err());
        assert!(Host::parse(&format!("{}com", "a.".repeat(200))).is_err());
    }

    #[test]
    fn addresses_match_only_themselves() {
        check(&["127.0.0.1:8080"], "127.0.0.1", 8080, true);
        check(&["127.0.0.1:8080"], "127.0.0.1", 80, false);
        check(&["[::1]:8080"], "[::1]", 8080, true);
        check(&["[::1]:8080"], "::1", 8080, true);
        check(&["*.com"], "127.0.0.1", 443, false);
    }

    #[test]
    fn patterns_that_could_be_misread_are_refused() {
        for text in [
            "*",
            "*.",
            "a.*.com",
            "*a.com",
            "*.127.0.0.1",
            "*.[::1]",
            "a:0",
            "a:65536",
            "a:",
            "a:+1",
            "a:80x",
            "a:8 0",
            "[::1]x",
        ] {
            assert!(HostRule::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn the_operator_vouches_for_hosts_and_never_for_patterns() {
        let parse = |text: &str| HostRule::parse(text).unwrap();
        let policy = EgressPolicy {
            allowed: vec![parse("*.internal"), parse("localhost:8080")],
            private: vec![parse("*.internal"), parse("localhost:8080")],
            rate: ConnectRate::default(),
            audit: false,
        };
        assert!(policy.may_be_private(&Host::parse("localhost").unwrap(), 8080));
        assert!(!policy.may_be_private(&Host::parse("localhost").unwrap(), 8081));
        assert!(!policy.may_be_private(&Host::parse("a.internal").unwrap(), 443));
    }

    #[test]
    fn the_ports_of_a_policy_are_all_that_can_be_dialled() {
        assert_eq!(
            policy(&["a.com", "*.b.com:8443", "c.com:443"]).ports(),
            [80, 443, 8443]
        );
        assert_eq!(policy(&[]).ports(), Vec::<u16>::new());
    }
}
