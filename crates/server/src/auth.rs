//! Who may do what: named tokens with a scope, compared in constant time.
//!
//! Invariant: a token's secret never appears in a `Debug` output, an error or a log.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::state::AppState;

/// What a token allows; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenScope {
    /// Look at everything.
    Read,
    /// Start, resume and cancel invocations.
    Invoke,
    /// The kill switch.
    Admin,
}

/// A named secret with a scope.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its name, for logs.
    pub name: String,
    /// What it allows.
    pub scope: TokenScope,
    secret: SecretString,
}

impl Token {
    /// A token.
    #[must_use]
    pub fn new(name: &str, secret: &str, scope: TokenScope) -> Self {
        Self {
            name: name.to_owned(),
            scope,
            secret: SecretString::from(secret.to_owned()),
        }
    }

    pub(crate) fn secret_chars(&self) -> usize {
        self.secret.expose_secret().chars().count()
    }

    /// Compares digests, so that neither length nor content can be learned from the time it takes.
    fn matches(&self, given: &str) -> bool {
        let expected = Sha256::digest(self.secret.expose_secret().as_bytes());
        let given = Sha256::digest(given.as_bytes());
        expected
            .iter()
            .zip(given.iter())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
    }
}

/// Checks the `Host` header of every request.
pub(crate) async fn check_host(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(axum::http::uri::Authority::as_str)
        });
    match host {
        Some(host) if state.config.accepts_host(host) => Ok(next.run(request).await),
        _ => Err(Problem::forbidden(
            "the Host header names another server; add the name to the server's hosts",
        )),
    }
}

/// Lets a request pass if its token allows `needed`.
pub(crate) fn authorize(
    state: &AppState,
    request: &Request,
    needed: TokenScope,
) -> Result<(), Problem> {
    if state.config.tokens.is_empty() {
        return Ok(());
    }
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
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
            "the token allows {scope:?}, this needs {needed:?}"
        ))),
        Some(_) => Ok(()),
    }
}

macro_rules! scope_layer {
    ($name:ident, $scope:expr, $doc:literal) => {
        #[doc = $doc]
        pub(crate) async fn $name(
            State(state): State<AppState>,
            request: Request,
            next: Next,
        ) -> Result<Response, Problem> {
            authorize(&state, &request, $scope)?;
            Ok(next.run(request).await)
        }
    };
}

scope_layer!(needs_read, TokenScope::Read, "Routes that look.");
scope_layer!(
    needs_invoke,
    TokenScope::Invoke,
    "Routes that start, resume and cancel."
);
scope_layer!(needs_admin, TokenScope::Admin, "Routes of the kill switch.");

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
    }
}
