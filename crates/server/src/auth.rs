//! Who may do what: named tokens with a scope, compared in constant time.
//!
//! Invariant: a token's secret never appears in a `Debug` output, an error or a log.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

pub use otto::config::ServerScope as TokenScope;

use crate::problem::Problem;
use crate::state::AppState;

/// A named secret with a scope.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its name, for logs.
    pub name: String,
    /// What it allows.
    pub scope: TokenScope,
    secret: Secret,
}

/// A secret, or what is kept of one that never reaches this process's configuration.
#[derive(Debug, Clone)]
enum Secret {
    Text(SecretString),
    /// Its SHA-256.
    Digest([u8; 32]),
}

/// BOUND: a shorter secret can be guessed.
const MIN_TOKEN_CHARS: usize = 16;

impl Token {
    /// A token.
    #[must_use]
    pub fn new(name: &str, secret: &str, scope: TokenScope) -> Self {
        Self {
            name: name.to_owned(),
            scope,
            secret: Secret::Text(SecretString::from(secret.to_owned())),
        }
    }

    /// A token of whose secret only the SHA-256 is known.
    #[must_use]
    pub fn of_digest(name: &str, sha256: [u8; 32], scope: TokenScope) -> Self {
        Self {
            name: name.to_owned(),
            scope,
            secret: Secret::Digest(sha256),
        }
    }

    /// Whether the secret can be guessed. Of a digest nobody can say.
    pub(crate) fn is_short(&self) -> bool {
        match &self.secret {
            Secret::Text(secret) => secret.expose_secret().chars().count() < MIN_TOKEN_CHARS,
            Secret::Digest(_) => false,
        }
    }

    /// Compares digests, so that neither length nor content can be learned from the time it takes.
    fn matches(&self, given: &str) -> bool {
        let expected: [u8; 32] = match &self.secret {
            Secret::Text(secret) => Sha256::digest(secret.expose_secret().as_bytes()).into(),
            Secret::Digest(digest) => *digest,
        };
        let given = Sha256::digest(given.as_bytes());
        expected
            .iter()
            .zip(given.iter())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
    }
}

/// Checks that the `Host` header of a request, and its `Origin` if it has one, name this server.
pub(crate) async fn check_host(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or_default())
    };
    let host = text(header::HOST).or_else(|| {
        request
            .uri()
            .authority()
            .map(axum::http::uri::Authority::as_str)
    });
    if !host.is_some_and(|host| state.config.accepts_host(host)) {
        return Err(Problem::forbidden(
            "the Host header names another server; add the name to the server's hosts",
        ));
    }
    if !text(header::ORIGIN).is_none_or(|origin| state.config.accepts_origin(origin)) {
        return Err(Problem::forbidden(
            "the Origin header names another site; this server takes no requests from other sites' pages",
        ));
    }
    Ok(next.run(request).await)
}

/// Lets a request pass if its token allows `needed`.
pub(crate) fn authorize(
    state: &AppState,
    headers: &HeaderMap,
    needed: TokenScope,
) -> Result<(), Problem> {
    if state.config.tokens.is_empty() {
        return Ok(());
    }
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(given) = given else {
        return Err(Problem::unauthorized("send `Authorization: Bearer TOKEN`"));
    };
    // Every token is compared, so that the time does not tell which one came close.
    let found = state
        .config
        .tokens
        .iter()
        .filter(|token| token.matches(given))
        .map(|token| token.scope)
        .max();
    match found {
        None => Err(Problem::unauthorized("the token is not known here")),
        Some(scope) if scope < needed => Err(Problem::forbidden(&format!(
            "the token allows `{}`, this needs `{}`",
            scope.as_str(),
            needed.as_str()
        ))),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_secret_matches() {
        let token = Token::new("ops", "0123456789abcdef", TokenScope::Read);
        assert!(token.matches("0123456789abcdef"));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdeff",
            "0123456789abcdeF",
        ] {
            assert!(!token.matches(other), "{other}");
        }
        assert!(!format!("{token:?}").contains("0123456789abcdef"));
        let digest = Sha256::digest("0123456789abcdef").into();
        let token = Token::of_digest("ops", digest, TokenScope::Read);
        assert!(token.matches("0123456789abcdef"));
        assert!(!token.matches("0123456789abcdeF"));
    }
}
