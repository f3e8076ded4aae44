//! `http`: GET and POST to hosts on the allowlist.
//!
//! The worker that runs this has no network. It asks the egress process for a byte stream to one host and port,
//! and egress alone decides: the allowlist, the address, the rate. Here are the URL, the headers, TLS, redirects and
//! the limits. Every redirect is a new question to egress.
//!
//! Headers that the operator sets (keys, for example) are sent over TLS to exactly the host they are for, are not
//! carried along a redirect to another one, and their values are taken out of whatever comes back.
//!
//! Invariant: nothing longer than its limit is kept in memory, and no answer outlives the call's deadline.

mod exchange;
mod headers;
mod target;
mod tls;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::{
    ByteStream, Egress, EgressRefusal, FailureKind, RefusedBy, ToolFailure, WorkerCtx,
};
use serde::Deserialize;

use crate::base_tool::BaseTool;
use crate::input;
use crate::text::{count, cut, one_line, quote, reveal, size};
use exchange::{Answer, Asked};
use target::Target;

// BOUND: redirects of one call; what browsers and sandbox egress agree on as plenty.
const MAX_REDIRECTS: usize = 5;

// BOUND: time of one call.
const DEFAULT_TIMEOUT_S: u64 = 30;
const MOST_TIMEOUT_S: u64 = 120;

// BOUND: the body that is sent and the one that is read.
const MAX_SENT_BYTES: usize = 1024 * 1024;
const DEFAULT_MAX_BYTES: u64 = 1024 * 1024;
const MOST_MAX_BYTES: u64 = 4 * 1024 * 1024;

// BOUND: the answer: the largest body with characters written out, headers and a note.
const MAX_OUTPUT_BYTES: usize = 6 * 1024 * 1024;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "http",
    description: "Make an HTTP request (GET or POST) to a host on the allowlist of this agent. Answers with the status \
                  line, the important headers and the body as text. Follows up to 5 redirects, each of which must be \
                  on the allowlist as well. A status such as 404 is an answer, not an error.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "url": { "type": "string", "description": "Where to, such as `https://api.example.com/v1/items?limit=5`." },
    "method": { "enum": ["GET", "POST"], "description": "Default GET." },
    "headers": { "type": "object", "additionalProperties": { "type": "string" }, "description": "Headers to send, such as `{\"Accept\": \"application/json\"}`." },
    "body": { "type": "string", "description": "For POST: the text to send. At most 1 MiB." },
    "json": { "description": "For POST: a JSON value to send instead of `body`, with the fitting content type." },
    "timeout_s": { "type": "integer", "minimum": 1, "maximum": 120, "description": "Seconds for everything together. Default 30." },
    "all_headers": { "type": "boolean", "description": "Show every header of the answer. Default false." }
  },
  "required": ["url"],
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Net]),
    // A POST changes something, and even a GET is seen by somebody.
    side_effects: SideEffects::Some,
    repeatability: Repeatability::Unknown,
    timeout: Duration::from_secs(MOST_TIMEOUT_S + 5),
    max_output_bytes: MAX_OUTPUT_BYTES,
    check: |input| input::parse::<Input>(input).and_then(|input| Request::of(&input).map(drop)),
    check_settings: |settings| {
        input::parse_settings::<Settings>(Some(settings)).and_then(|settings| settings.check())
    },
    run: |ctx, request| input::run(ctx, request, run),
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    url: String,
    #[serde(default)]
    method: Option<Method>,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    json: Option<Box<serde_json::value::RawValue>>,
    #[serde(default)]
    timeout_s: Option<u64>,
    #[serde(default)]
    all_headers: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Method {
    #[serde(rename = "GET", alias = "get")]
    Get,
    #[serde(rename = "POST", alias = "post")]
    Post,
}

/// From the operator and the agent file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Largest body of an answer; a longer one is cut.
    max_bytes: Option<u64>,
    /// Headers by host, for keys that the model must not see.
    headers: BTreeMap<String, BTreeMap<String, String>>,
    /// Certificates (PEM) of authorities that are trusted beside the public ones.
    trusted_pem: Option<String>,
}

impl Settings {
    fn check(&self) -> Result<(), ToolFailure> {
        for values in self.headers.values() {
            for (name, value) in values {
                headers::check_own(name, value).map_err(ToolFailure::for_operator)?;
            }
        }
        self.trusted_pem.as_deref().map_or(Ok(()), |pem| {
            tls::check(pem).map_err(ToolFailure::for_operator)
        })
    }

    /// The operator's headers for a target: over TLS and to exactly that host only.
    fn headers_for(&self, target: &Target) -> impl Iterator<Item = (&str, &str)> {
        let values = self
            .headers
            .iter()
            .find(|(host, _)| target.tls && host.eq_ignore_ascii_case(&target.host));
        values.into_iter().flat_map(|(_, values)| {
            values
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
        })
    }

    /// Takes the values of the operator's headers out of a text.
    fn redact(&self, text: String) -> String {
        // BOUND: shorter values would blot out ordinary words.
        const SHORTEST_SECRET: usize = 8;
        let mut text = text;
        for value in self.headers.values().flat_map(BTreeMap::values) {
            // `Bearer abc` is found as a whole and by its last word.
            let last_word = value.rsplit(' ').next().unwrap_or(value);
            for secret in [value.as_str(), last_word] {
                if secret.len() >= SHORTEST_SECRET && text.contains(secret) {
                    text = text.replace(secret, "[redacted]");
                }
            }
        }
        text
    }
}

/// A request that has been checked.
struct Request {
    target: Target,
    method: Method,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn of(input: &Input) -> Result<Self, ToolFailure> {
        let target = Target::parse(&input.url).map_err(|reason| {
            ToolFailure::for_model(format!("the URL {} {reason}", quote(&input.url)))
        })?;
        let method = input.method.unwrap_or(Method::Get);
        if method == Method::Get && (input.body.is_some() || input.json.is_some()) {
            return Err(ToolFailure::for_model(
                "a GET has no body; set `method` to POST",
            ));
        }
        if input
            .timeout_s
            .is_some_and(|seconds| seconds == 0 || seconds > MOST_TIMEOUT_S)
        {
            return Err(ToolFailure::for_model(format!(
                "`timeout_s` is from 1 to {MOST_TIMEOUT_S}"
            )));
        }
        let mut headers =
            headers::of_model(input.headers.as_ref()).map_err(ToolFailure::for_model)?;
        let (body, kind) = match (&input.body, &input.json) {
            (Some(_), Some(_)) => {
                return Err(ToolFailure::for_model("give `body` or `json`, not both"));
            }
            (Some(body), None) => (body.as_bytes(), "text/plain; charset=utf-8"),
            (None, Some(json)) => (json.get().as_bytes(), "application/json"),
            (None, None) => (&[][..], ""),
        };
        if body.len() > MAX_SENT_BYTES {
            let found = size(body.len() as u64);
            let message = format!(
                "the body has {found}, more than the limit of {}",
                size(MAX_SENT_BYTES as u64)
            );
            return Err(ToolFailure::for_model(message));
        }
        if !body.is_empty()
            && !headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            headers.push(("Content-Type".to_owned(), kind.to_owned()));
        }
        Ok(Self {
            target,
            method,
            headers,
            body: body.to_vec(),
        })
    }

    /// What is asked after a redirect, by the rules of fetch: 303, and 301 and 302 after a POST, ask with GET.
    fn redirected(mut self, status: u16, location: &str) -> Result<Self, ToolFailure> {
        let next = self.target.join(location).map_err(|reason| {
            ToolFailure::for_model(format!(
                "the redirect to {} was not followed: it {reason}",
                quote(location)
            ))
        })?;
        if self.target.tls && !next.tls {
            let message = format!(
                "the redirect to {} was not followed: it leaves TLS",
                quote(&next.to_string())
            );
            return Err(ToolFailure::denied(RefusedBy::Policy, message));
        }
        if status == 303 || matches!(status, 301 | 302) && self.method == Method::Post {
            self.method = Method::Get;
            self.body.clear();
            self.headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        }
        if !next.same_place(&self.target) {
            if self.method == Method::Post {
                let message = format!(
                    "the redirect to {} was not followed: it would send the body to another host; ask there yourself \
                     if that is meant",
                    quote(&next.to_string()),
                );
                return Err(ToolFailure::denied(RefusedBy::Policy, message));
            }
            self.headers
                .retain(|(name, _)| !headers::is_credential(name));
        }
        self.target = next;
        Ok(self)
    }
}

fn run(ctx: &WorkerCtx, input: Input, settings: Settings) -> Result<String, ToolFailure> {
    settings.check()?;
    let mut request = Request::of(&input)?;
    let Some(egress) = &ctx.egress else {
        return Err(ToolFailure::denied(
            RefusedBy::Policy,
            "this agent has no way to the network: no hosts are allowed, or it runs without a sandbox",
        ));
    };
    let limit = Duration::from_secs(input.timeout_s.unwrap_or(DEFAULT_TIMEOUT_S));
    let deadline = ctx.deadline.min(Instant::now() + limit);
    let max = settings
        .max_bytes
        .unwrap_or(DEFAULT_MAX_BYTES)
        .clamp(1, MOST_MAX_BYTES);
    let mut redirects = 0;
    loop {
        let answer = ask(ctx, egress.as_ref(), &request, &settings, deadline, max)?;
        let location = answer.header("location").map(str::to_owned);
        match location.filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308)) {
            Some(_) if redirects >= MAX_REDIRECTS => {
                let message = format!(
                    "more than {MAX_REDIRECTS} redirects, the last from {}",
                    quote(&request.target.to_string())
                );
                return Err(ToolFailure::for_model(settings.redact(message)));
            }
            Some(location) => {
                redirects += 1;
                request = request
                    .redirected(answer.status, &location)
                    .map_err(|failure| ToolFailure {
                        message: settings.redact(failure.message),
                        ..failure
                    })?;
            }
            None => {
                let all = input.all_headers == Some(true);
                return Ok(settings.redact(show(&answer, &request.target, redirects, all, max)));
            }
        }
    }
}

fn ask(
    ctx: &WorkerCtx,
    egress: &dyn Egress,
    request: &Request,
    settings: &Settings,
    deadline: Instant,
    max: u64,
) -> Result<Answer, ToolFailure> {
    ctx.check()?;
    let target = &request.target;
    let stream = egress
        .connect(&target.host, target.port, deadline)
        .map_err(|refusal| refused(target, &refusal))?;
    let own = settings
        .headers_for(target)
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut headers: Vec<(String, String)> = own.collect();
    for (name, value) in &request.headers {
        // What the operator sets, the model cannot replace.
        if !headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            headers.push((name.clone(), value.clone()));
        }
    }
    let asked = Asked {
        method: request.method,
        host: target.host_header(),
        path: target.path.clone(),
        headers,
        body: &request.body,
    };
    let failed = |error: exchange::Failed| {
        let kind = if error.is_timeout() || Instant::now() >= deadline {
            FailureKind::TimedOut
        } else {
            FailureKind::ForModel
        };
        let message = format!("request to {}: {error}", quote(&target.to_string()));
        ToolFailure {
            kind,
            message: settings.redact(cut(one_line(&message).into_owned(), 2_000)),
        }
    };
    let mut stream: Box<dyn ByteStream> = stream;
    stream
        .set_deadline(deadline)
        .map_err(|error| failed(error.into()))?;
    if target.tls {
        let mut stream =
            tls::start(stream, target, settings.trusted_pem.as_deref()).map_err(failed)?;
        exchange::run(&mut stream, &asked, max).map_err(failed)
    } else {
        exchange::run(&mut stream, &asked, max).map_err(failed)
    }
}

fn refused(target: &Target, refusal: &EgressRefusal) -> ToolFailure {
    let kind = match refusal {
        EgressRefusal::Refused(_) => FailureKind::Denied(RefusedBy::Egress),
        EgressRefusal::TimedOut => FailureKind::TimedOut,
        EgressRefusal::RateLimited(_) | EgressRefusal::Unreachable(_) => FailureKind::ForModel,
    };
    let place = format!("{}:{}", target.host, target.port);
    ToolFailure {
        kind,
        message: one_line(&format!("connect to {}: {refusal}", quote(&place))).into_owned(),
    }
}

/// Headers that say what an answer is; the others are shown on request.
const SHOWN_HEADERS: [&str; 9] = [
    "content-type",
    "content-length",
    "location",
    "etag",
    "last-modified",
    "link",
    "retry-after",
    "www-authenticate",
    "x-ratelimit-remaining",
];

// BOUND: one header in the answer.
const MAX_HEADER_BYTES: usize = 1_000;

fn show(answer: &Answer, target: &Target, redirects: usize, all: bool, max: u64) -> String {
    let mut text = format!("HTTP {} {}\n", answer.status, one_line(&answer.reason));
    for (name, value) in &answer.headers {
        if all || SHOWN_HEADERS.contains(&name.as_str()) {
            let _ = writeln!(
                text,
                "{}: {}",
                one_line(name),
                one_line(&cut(value.clone(), MAX_HEADER_BYTES))
            );
        }
    }
    text.push('\n');
    let mut notes = Vec::new();
    if redirects > 0 {
        notes.push(format!(
            "{} to {}",
            count(redirects, "redirect", "redirects"),
            quote(&target.to_string())
        ));
    }
    let bytes = &answer.body;
    if bytes.iter().take(8 * 1024).any(|byte| *byte == 0) {
        notes.push(format!(
            "the body is not text: {}",
            size(bytes.len() as u64)
        ));
    } else {
        let body = String::from_utf8_lossy(bytes);
        if matches!(body, std::borrow::Cow::Owned(_)) {
            notes.push("the body is not all UTF-8; broken places are shown as U+FFFD".to_owned());
        }
        let (shown, hidden) = reveal(&body);
        if hidden > 0 {
            notes.push(format!(
                "{} written out as \\u{{...}}",
                count(hidden, "hidden character", "hidden characters")
            ));
        }
        text.push_str(&shown);
    }
    if answer.cut {
        notes.push(format!("the body is cut at {}", size(max)));
    }
    if !notes.is_empty() {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let _ = write!(text, "[http: {}]", notes.join("; "));
    }
    text
}
