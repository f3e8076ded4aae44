//! How the server is bound and who may talk to it.

use std::net::SocketAddr;

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
    #[error("token `{name}` is shorter than 16 characters")]
    ShortToken {
        /// The token's name.
        name: String,
    },
}

/// BOUND: a shorter secret can be guessed.
const MIN_TOKEN_CHARS: usize = 16;

impl ServerConfig {
    /// A server on this address, without tokens.
    #[must_use]
    pub const fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            tokens: Vec::new(),
            hosts: Vec::new(),
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
        match self
            .tokens
            .iter()
            .find(|token| token.secret_chars() < MIN_TOKEN_CHARS)
        {
            Some(token) => Err(ConfigProblem::ShortToken {
                name: token.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether a `Host` header names this server. Guards against rebinding a foreign name to loopback.
    pub(crate) fn accepts_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let is_own_address = name.parse().is_ok_and(|ip: std::net::IpAddr| {
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
        let short = ServerConfig {
            tokens: vec![Token::new("ops", "short", TokenScope::Admin)],
            ..open.clone()
        };
        assert!(matches!(
            short.check(),
            Err(ConfigProblem::ShortToken { .. })
        ));
        let good = ServerConfig {
            tokens: vec![Token::new("ops", "0123456789abcdef", TokenScope::Admin)],
            ..open
        };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(
            ServerConfig::new("[::1]:80".parse().unwrap()).check(),
            Ok(())
        );
    }

    #[test]
    fn a_foreign_host_name_is_refused() {
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
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "[::2]",
        ] {
            assert!(!config.accepts_host(host), "{host}");
        }
    }
}
