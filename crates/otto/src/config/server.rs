//! What the operator says about `otto serve`: who may talk to it, and under which names it is reached.
//!
//! Invariant: no secret stands in a file. A token that does is there as its SHA-256; the one that is a secret
//! comes from the environment.

use std::sync::Arc;

use super::prices::{field, required};
use crate::decode::{Decoder, Field};
use crate::diagnostic::{one_of, quoted};
use crate::yaml::Node;

/// A token of `otto serve`, as the operator's file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerToken {
    /// Its name, for logs.
    pub name: Arc<str>,
    /// What it allows.
    pub scope: ServerScope,
    /// The SHA-256 of the secret.
    pub sha256: [u8; 32],
}

/// What a token of `otto serve` allows; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerScope {
    /// Look at everything.
    Read,
    /// Start, resume and cancel invocations.
    Invoke,
    /// The kill switch.
    Admin,
}

impl ServerScope {
    const ALL: [Self; 3] = [Self::Read, Self::Invoke, Self::Admin];

    /// `read`, `invoke` or `admin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Invoke => "invoke",
            Self::Admin => "admin",
        }
    }
}

pub(super) const SERVER_FIELDS: &[Field] = &[HOSTS, TOKENS];

pub(super) const HOSTS: Field = field("hosts", "a list of host names, such as [otto.example.com]");
pub(super) const TOKENS: Field = field(
    "tokens",
    "a list of tokens such as { name: ci, scope: invoke, sha256: 64 hexadecimal digits }",
);
const NAME: Field = field("name", "1 to 64 of a-z, A-Z, 0-9, `-`, `_`");
const SCOPE: Field = field("scope", "read, invoke or admin");
const SHA256: Field = field(
    "sha256",
    "the SHA-256 of the token, as `printf %s TOKEN | sha256sum` prints it",
);
const TOKEN_FIELDS: &[Field] = &[NAME, SCOPE, SHA256];

/// One token of the operator's list.
pub(super) fn token(decoder: &mut Decoder<'_>, node: &Node) -> Option<ServerToken> {
    let fields = decoder.fields(node, "a token of `server.tokens`", TOKEN_FIELDS)?;
    let name = required(decoder, &fields, &NAME, node)
        .and_then(|node| decoder.value(node, &NAME, parse_name));
    let scope = required(decoder, &fields, &SCOPE, node)
        .and_then(|node| decoder.value(node, &SCOPE, parse_scope));
    let sha256 = required(decoder, &fields, &SHA256, node)
        .and_then(|node| decoder.value(node, &SHA256, parse_digest));
    Some(ServerToken {
        name: name?,
        scope: scope?,
        sha256: sha256?,
    })
}

/// A host name without a port.
pub(super) fn host(text: &str) -> Result<Arc<str>, String> {
    let is_name = !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if is_name {
        Ok(Arc::from(text))
    } else {
        Err(format!("{} is not the name of a host", quoted(text)))
    }
}

fn parse_name(text: &str) -> Result<Arc<str>, String> {
    let is_name = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if is_name {
        Ok(Arc::from(text))
    } else {
        Err(format!("{} is not such a name", quoted(text)))
    }
}

fn parse_scope(text: &str) -> Result<ServerScope, String> {
    ServerScope::ALL
        .into_iter()
        .find(|scope| scope.as_str() == text)
        .ok_or_else(|| {
            format!(
                "{} is not a scope, {}",
                quoted(text),
                one_of(ServerScope::ALL.into_iter().map(ServerScope::as_str))
            )
        })
}

fn parse_digest(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    // The text is not shown: it may be the token itself, put here by mistake.
    let not_one = || "this is not a SHA-256; the token itself does not belong in a file".to_owned();
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(not_one());
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| not_one())?;
    }
    Ok(digest)
}
