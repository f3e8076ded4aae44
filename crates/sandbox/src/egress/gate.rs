//! The decision about one connection, apart from the dialling.
//!
//! The allowlist is asked before any name is looked up: a look-up is a message to the outside, and names of
//! the agent's choice could carry data. A name is looked up once, and what is dialled is what came of that
//! look-up and passed, never the name again.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::ctx::EgressRefusal;

use super::address::is_public;
use super::rule::{EgressPolicy, Host};

// BOUND: addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Looks names up.
pub(super) trait Resolver {
    /// All addresses of a name.
    fn resolve(&mut self, name: &str, search: Search) -> io::Result<Vec<IpAddr>>;
}

/// Where a name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// The way every program on this host finds it; for names that the operator vouches for.
    HostsFileAndDomains,
    /// This name and no other.
    ExactName,
}

/// A host that may be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) host: Host,
    /// `false`: only audit mode lets it pass, and a note is due before anything else happens.
    pub(super) is_listed: bool,
}

/// Whether `host` and `port` are on the allowlist. Looks nothing up.
pub(super) fn allow(policy: &EgressPolicy, host: &str, port: u16) -> Result<Passed, EgressRefusal> {
    let shown: String = host
        .chars()
        .take(80)
        .flat_map(char::escape_default)
        .collect();
    let asked = Host::parse(host).map_err(|bad| {
        EgressRefusal::Refused(format!(
            "`{shown}` is not a host that can be reached: {bad}"
        ))
    })?;
    let is_listed = policy.allows(&asked, port);
    if !(is_listed || policy.audit && port > 0) {
        return Err(EgressRefusal::Refused(format!(
            "{asked} port {port} is not on the list of allowed hosts"
        )));
    }
    if matches!(asked, Host::Address(_)) && !policy.may_be_private(&asked, port) {
        return Err(EgressRefusal::Refused(format!(
            "{asked} is an address; only names can be reached, unless the operator lists the address with its port \
             among the private hosts"
        )));
    }
    Ok(Passed {
        host: asked,
        is_listed,
    })
}

/// Which addresses of an allowed host may be dialled, in order; at least one.
pub(super) fn vet(
    policy: &EgressPolicy,
    host: &Host,
    port: u16,
    resolver: &mut impl Resolver,
) -> Result<Vec<SocketAddr>, EgressRefusal> {
    let name = match host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
        Host::Name(name) => name,
    };
    let is_vouched_for = policy.may_be_private(host, port);
    let search = if is_vouched_for {
        Search::HostsFileAndDomains
    } else {
        Search::ExactName
    };
    let found = resolver.resolve(name, search).map_err(|error| {
        let hint = match search {
            Search::HostsFileAndDomains => "",
            Search::ExactName => {
                " (names of this host and its network are found only if the operator lists them with their port among \
                 the private hosts)"
            }
        };
        EgressRefusal::Unreachable(format!("look up {name}: {error}{hint}"))
    })?;
    let vetted: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| is_vouched_for || is_public(*address))
        .take(MAX_ADDRESSES)
        .map(|address| SocketAddr::new(address, port))
        .collect();
    if vetted.is_empty() {
        return Err(EgressRefusal::Refused(format!(
            "{name} has no public address; private addresses are reached only if the operator lists {name}:{port} among \
             the private hosts"
        )));
    }
    Ok(vetted)
}

#[cfg(test)]
mod tests {
    use super::super::rule::HostRule;
    use super::*;

    /// Answers in turn and records what it was asked.
    struct Recorder {
        answers: Vec<Vec<&'static str>>,
        asked: Vec<String>,
    }

    impl Resolver for Recorder {
        fn resolve(&mut self, name: &str, _: Search) -> io::Result<Vec<IpAddr>> {
            self.asked.push(name.to_owned());
            let answer = self.answers.remove(0);
            Ok(answer.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    fn recorder(answers: &[&[&'static str]]) -> Recorder {
        Recorder {
            answers: answers.iter().map(|answer| answer.to_vec()).collect(),
            asked: Vec::new(),
        }
    }

    fn decide(
        policy: &EgressPolicy,
        host: &str,
        port: u16,
        resolver: &mut impl Resolver,
    ) -> Result<Vec<SocketAddr>, EgressRefusal> {
        vet(policy, &allow(policy, host, port)?.host, port, resolver)
    }

    fn policy(allowed: &[&str], private: &[&str]) -> EgressPolicy {
        let parse = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| HostRule::parse(text).unwrap())
                .collect()
        };
        EgressPolicy {
            allowed: parse(allowed),
            private: parse(private),
            rate: super::super::ConnectRate::default(),
            audit: false,
        }
    }

    #[test]
    fn what_is_not_allowed_is_never_looked_up() {
        let policy = policy(&["example.com", "*.good.net"], &[]);
        // Each of these would be a message to a name server of somebody's choice.
        let long = format!("{}.example.com.evil.net", "a".repeat(60));
        for host in [
            "evil.net",
            "example.com.evil.net",
            "evilexample.com",
            "good.net",
            "xgood.net",
            "example.com\0.good.net",
            "example.com%00.good.net",
            "user@example.com",
            "example.com/",
            "example.com#",
            "exаmple.com",
            "127.1",
            "2130706433",
            "0x7f000001",
            "017700000001",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "127.0.0.1",
            "localhost",
            "",
            "example.com:443",
            "example..com",
            "-example.com",
            "*.good.net",
            "example.com\\@evil.net",
            "example.com\t",
            "\u{2460}.example.com",
            "example\u{3002}com",
            long.as_str(),
        ] {
            let mut resolver = recorder(&[]);
            let refusal = decide(&policy, host, 443, &mut resolver).unwrap_err();
            assert!(
                matches!(refusal, EgressRefusal::Refused(_)),
                "{host:?}: {refusal}"
            );
            assert_eq!(
                resolver.asked,
                Vec::<String>::new(),
                "{host:?} was looked up"
            );
        }
        for port in [0, 22, 25, 8443, 65535] {
            let mut resolver = recorder(&[]);
            assert!(
                decide(&policy, "example.com", port, &mut resolver).is_err(),
                "port {port}"
            );
            assert_eq!(resolver.asked, Vec::<String>::new());
        }
    }

    #[test]
    fn a_private_address_anywhere_in_the_answer_is_not_dialled() {
        let policy = policy(&["example.com"], &[]);
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            let mut resolver = recorder(&[&[private]]);
            assert!(
                decide(&policy, "example.com", 443, &mut resolver).is_err(),
                "{private} alone"
            );
            let mut resolver = Recorder {
                answers: vec![vec![private, "1.1.1.1", private]],
                asked: Vec::new(),
            };
            let addresses = decide(&policy, "example.com", 443, &mut resolver).unwrap();
            assert_eq!(
                addresses,
                ["1.1.1.1:443".parse().unwrap()],
                "{private} among others"
            );
        }
    }

    #[test]
    fn a_name_that_changes_its_address_is_looked_up_once() {
        let policy = policy(&["example.com"], &[]);
        let mut resolver = recorder(&[&["1.1.1.1"], &["127.0.0.1"]]);
        let addresses = decide(&policy, "example.com", 443, &mut resolver).unwrap();
        assert_eq!(addresses, ["1.1.1.1:443".parse().unwrap()]);
        assert_eq!(resolver.asked, ["example.com"]);
        // The next connection is a new decision.
        assert!(decide(&policy, "example.com", 443, &mut resolver).is_err());
    }

    #[test]
    fn the_operators_word_opens_exactly_one_host_and_port() {
        let policy = policy(
            &["127.0.0.1:8080", "localhost:3000", "10.0.0.1:80"],
            &["127.0.0.1:8080", "localhost:3000"],
        );
        let mut resolver = recorder(&[&["127.0.0.1"]]);
        assert_eq!(
            decide(&policy, "127.0.0.1", 8080, &mut resolver).unwrap(),
            ["127.0.0.1:8080".parse().unwrap()]
        );
        assert_eq!(
            decide(&policy, "localhost", 3000, &mut resolver).unwrap(),
            ["127.0.0.1:3000".parse().unwrap()]
        );
        assert!(
            decide(&policy, "10.0.0.1", 80, &mut resolver).is_err(),
            "listed by the agent only"
        );
        assert!(decide(&policy, "127.0.0.1", 8081, &mut resolver).is_err());
        // The operator's word alone allows nothing.
        let none = EgressPolicy {
            allowed: Vec::new(),
            ..policy
        };
        assert!(decide(&none, "127.0.0.1", 8080, &mut resolver).is_err());
    }

    #[test]
    fn audit_mode_lets_names_pass_and_no_private_address() {
        let policy = EgressPolicy {
            audit: true,
            ..policy(&["example.com"], &[])
        };
        let is_listed = |host| allow(&policy, host, 443).map(|passed| passed.is_listed);
        assert_eq!(is_listed("example.com"), Ok(true));
        assert_eq!(is_listed("other.org"), Ok(false));
        for host in [
            "127.0.0.1",
            "[::1]",
            "1.1.1.1",
            "other.org\0.example.com",
            "",
        ] {
            assert!(is_listed(host).is_err(), "{host:?}");
        }
        for private in ["127.0.0.1", "169.254.169.254", "fd00::1"] {
            let mut resolver = recorder(&[&[private]]);
            assert!(decide(&policy, "other.org", 443, &mut resolver).is_err());
        }
        assert!(allow(&policy, "other.org", 0).is_err());
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let many: Vec<&'static str> = vec!["1.1.1.1"; 100];
        let mut resolver = Recorder {
            answers: vec![many],
            asked: Vec::new(),
        };
        let addresses = decide(
            &policy(&["example.com"], &[]),
            "example.com",
            443,
            &mut resolver,
        )
        .unwrap();
        assert_eq!(addresses.len(), MAX_ADDRESSES);
    }
}
