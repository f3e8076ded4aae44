//! How the server is bound and who may talk to it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::auth::Token;

/// The bind address, the tokens and the bounds.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen. Anything but loopback needs a token.
    pub bind: SocketAddr,
    /// Who may do what. Empty: everything is open, on loopback only.
    pub tokens: Vec<Token>,
    /// Names beside the bind address and `localhost` that the `Host` header may carry (a proxy's name).
    pub hosts: Vec<String>,
    /// What a client may take.
    pub bounds: Bounds,
}

/// What clients may take of the server, in connections and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections at a time; the next one is told "busy" and closed. Lowered to what the process's limit on
    /// open files leaves room for.
    pub connections: usize,
    /// How long a client may take to send the head of a request, and how long an idle connection is kept.
    pub head: Duration,
    /// How long a client may take to send a body.
    pub body: Duration,
    /// How long a client may leave what was sent to it unread.
    pub unread: Duration,
    /// How long a shutdown waits for running steps, and then again for open responses.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            unread: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// Open to the network without a token.
    #[error(
        "refusing to listen on {bind} without a token: it is reachable from other machines; set OTTO_SERVER_TOKEN \
         or listen on 127.0.0.1"
    )]
    OpenToNetwork {
        /// The address.
        bind: SocketAddr,
    },
    /// A token that can be guessed.
    #[error("token `{name}` is shorter than 16 characters; make one with `openssl rand -hex 32`")]
    ShortToken {
        /// The token's name.
        name: String,
    },
    /// Two tokens that a log could not tell apart.
    #[error("two tokens are named `{name}`; give each its own name")]
    SameName {
        /// The name.
        name: String,
    },
}

impl ServerConfig {
    /// A server on this address, without tokens.
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            tokens: Vec::new(),
            hosts: Vec::new(),
            bounds: Bounds::default(),
        }
    }

    /// Checks what must hold before a socket is opened.
    ///
    /// # Errors
    /// Every rule that is broken is one problem; the first is told.
    pub fn check(&self) -> Result<(), ConfigProblem> {
        if self.tokens.is_empty() && !self.bind.ip().is_loopback() {
            return Err(ConfigProblem::OpenToNetwork { bind: self.bind });
        }
        for (index, token) in self.tokens.iter().enumerate() {
            let name = || token.name.clone();
            if token.is_short() {
                return Err(ConfigProblem::ShortToken { name: name() });
            }
            if self.tokens[..index]
                .iter()
                .any(|earlier| earlier.name == token.name)
            {
                return Err(ConfigProblem::SameName { name: name() });
            }
        }
        Ok(())
    }

    /// Whether a `Host` header names this server. Guards against rebinding a foreign name to loopback.
    pub(crate) fn accepts_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let is_own_address = name.parse().is_ok_and(|ip: IpAddr| {
            ip == self.bind.ip()
                || (self.bind.ip().is_unspecified() && !self.tokens.is_empty())
                || ip.is_loopback()
        });
        is_own_address
            || name.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether a page of this `Origin` may send requests: only one that this server itself would have served.
    pub(crate) fn accepts_origin(&self, origin: &str) -> bool {
        origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(|host| self.accepts_host(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenScope;

    #[test]
    fn the_network_needs_a_token() {
        let open = ServerConfig::new("0.0.0.0:80".parse().unwrap());
        assert!(matches!(
            open.check(),
            Err(ConfigProblem::OpenToNetwork { .. })
        ));
        let with = |tokens| ServerConfig {
            tokens,
            ..open.clone()
        };
        let token = |name, secret| Token::new(name, secret, TokenScope::Admin);
        assert!(matches!(
            with(vec![token("ops", "short")]).check(),
            Err(ConfigProblem::ShortToken { .. })
        ));
        let good = token("ops", "0123456789abcdef");
        assert_eq!(with(vec![good.clone()]).check(), Ok(()));
        assert!(matches!(
            with(vec![good.clone(), good]).check(),
            Err(ConfigProblem::SameName { .. })
        ));
        assert_eq!(
            ServerConfig::new("[::1]:80".parse().unwrap()).check(),
            Ok(())
        );
    }

    #[test]
    fn a_foreign_host_or_origin_is_refused() {
        let config = ServerConfig {
            hosts: vec!["otto.example".to_owned()],
            ..ServerConfig::new("127.0.0.1:8080".parse().unwrap())
        };
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8080",
            "otto.example",
        ] {
            assert!(config.accepts_host(host), "{host}");
            assert!(config.accepts_origin(&format!("http://{host}")), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "[::2]",
        ] {
            assert!(!config.accepts_host(host), "{host}");
            assert!(!config.accepts_origin(&format!("https://{host}")), "{host}");
        }
        assert!(!config.accepts_origin("null"));
    }
}
