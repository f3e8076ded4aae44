//! Reading requests: ids of the path, query parameters, JSON bodies, each within its bounds and refused with words
//! that say what was wrong.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use axum::RequestPartsExt;
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use otto::{ExportForm, InvalidId};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::problem::Problem;
use crate::state::AppState;

/// BOUND: a task with its input is text; a larger body is a mistake or an attack.
pub(crate) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// The only parameter of the path, as an id.
pub(crate) struct Id<T>(pub(crate) T);

impl<T> FromRequestParts<AppState> for Id<T>
where
    T: FromStr<Err = InvalidId>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let Text(text) = parts.extract().await?;
        Ok(Self(id(&text)?))
    }
}

/// The only parameter of the path.
pub(crate) struct Text(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Text {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extract().await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(Problem::bad_request("the path is not UTF-8 text")),
        }
    }
}

/// The query.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::bad_request(format!(
                "the query is not what this path takes: {}",
                error.body_text()
            ))),
        }
    }
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        if kind_of(request.headers()) != "application/json" {
            return Err(Problem::with_status(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send `Content-Type: application/json`",
            ));
        }
        let bytes = read(request, state).await?;
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body = object(&mut json).and_then(|body| json.end().map(|()| body));
    body.map_err(|error| {
        Problem::bad_request(format!("the body is not what this path takes: {error}"))
    })
}

/// A JSON body of which every field may be left out: no body at all is an empty object.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        if !request.body().is_end_stream() {
            let Body(body) = Body::from_request(request, state).await?;
            return Ok(Self(body));
        }
        parse(b"{}").map(Self)
    }
}

/// Reads a struct from a JSON object. What serde derives would take its fields as a list as well, in an order that
/// nobody promised.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

/// A body that is an export of the provider, in the form that its media type says.
pub(crate) struct Export(pub(crate) String, pub(crate) ExportForm);

impl FromRequest<AppState> for Export {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let form = match &*kind_of(request.headers()) {
            "application/json" => ExportForm::Json,
            "text/csv" => ExportForm::Csv,
            _ => {
                return Err(Problem::with_status(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "send `Content-Type: text/csv` or `application/json`",
                ));
            }
        };
        let bytes = read(request, state).await?;
        String::from_utf8(bytes.into())
            .map(|text| Self(text, form))
            .map_err(|_| Problem::bad_request("the body is not UTF-8 text"))
    }
}

/// The whole body, within the bounds on its size and time.
async fn read(request: Request, state: &AppState) -> Result<Bytes, Problem> {
    let patience = state.config.bounds.body;
    let reading = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES);
    match tokio::time::timeout(patience, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::with_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 4 MiB, or it broke off",
        )),
        Err(_) => Err(Problem::with_status(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {patience:?}"),
        )),
    }
}

/// Whether a client names this media type as one that it takes.
pub(crate) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(',')
                .any(|one| one.split(';').next().unwrap_or_default().trim() == kind)
        })
}

/// The media type of a request's body without its parameters, in lower case; empty if it has none.
fn kind_of(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|kind| kind.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Reads an id.
pub(crate) fn id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error: InvalidId| Problem::bad_request(error.to_string()))
}
