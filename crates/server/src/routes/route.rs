//! One route: where it is, who may use it, what it takes and answers, and the function that does it.
//!
//! The router and the OpenAPI document are made from the same list of these, so that they cannot differ.

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::auth::{self, TokenScope};
use crate::openapi::Schemas;
use crate::problem::Problem;
use crate::state::AppState;

/// The schema of a type, entered into the document's components.
pub(crate) type SchemaOf = fn(&mut Schemas) -> Value;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody who reaches the server.
    Open,
    /// Whoever has a token of this scope, if there are tokens.
    Token(TokenScope),
}

/// One route.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    /// The object whose properties are query parameters.
    pub(crate) query: Option<SchemaOf>,
    /// The kinds of body it takes.
    pub(crate) bodies: Vec<(&'static str, SchemaOf)>,
    /// Whether a request without a body is refused, where there are bodies.
    pub(crate) needs_body: bool,
    pub(crate) answers: Vec<Answer>,
    handler: MethodRouter<AppState>,
}

/// A parameter of the path or a header.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: &'static str,
    pub(crate) description: &'static str,
    pub(crate) schema: Value,
    pub(crate) example: Option<&'static str>,
}

/// An answer that is not a problem.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) description: &'static str,
    pub(crate) content: Option<(&'static str, SchemaOf)>,
}

macro_rules! method {
    ($name:ident, $filter:ident, $word:literal) => {
        pub(crate) fn $name<H, T>(
            path: &'static str,
            access: Access,
            id: &'static str,
            handler: H,
        ) -> Self
        where
            H: Handler<T, AppState>,
            T: 'static,
        {
            Self::new($word, path, access, id, on(MethodFilter::$filter, handler))
        }
    };
}

impl Route {
    method!(get, GET, "get");
    method!(post, POST, "post");
    method!(put, PUT, "put");
    method!(delete, DELETE, "delete");

    fn new(
        method: &'static str,
        path: &'static str,
        access: Access,
        id: &'static str,
        handler: MethodRouter<AppState>,
    ) -> Self {
        Self {
            method,
            path,
            access,
            id,
            summary: "",
            parameters: Vec::new(),
            query: None,
            bodies: Vec::new(),
            needs_body: true,
            answers: Vec::new(),
            handler,
        }
    }

    pub(crate) fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// A path parameter that is a UUID.
    pub(crate) fn uuid(mut self, name: &'static str, description: &'static str) -> Self {
        self.parameters.push(Parameter {
            name,
            place: "path",
            description,
            schema: json!({"type": "string", "format": "uuid"}),
            example: None,
        });
        self
    }

    /// A path parameter that is a text.
    pub(crate) fn text(mut self, name: &'static str, description: &'static str) -> Self {
        self.parameters.push(Parameter {
            name,
            place: "path",
            description,
            schema: json!({"type": "string", "minLength": 1}),
            example: None,
        });
        self
    }

    /// A header that may be sent.
    pub(crate) fn header(
        mut self,
        name: &'static str,
        description: &'static str,
        schema: Value,
        example: &'static str,
    ) -> Self {
        self.parameters.push(Parameter {
            name,
            place: "header",
            description,
            schema,
            example: Some(example),
        });
        self
    }

    /// Query parameters: the properties of `T`.
    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(|schemas| schemas.given_inline::<T>());
        self
    }

    /// A JSON body.
    pub(crate) fn takes<T: JsonSchema>(mut self) -> Self {
        self.bodies
            .push(("application/json", |schemas| schemas.given::<T>()));
        self
    }

    /// A JSON body that may be left out: every field of it may.
    pub(crate) fn may_take<T: JsonSchema>(mut self) -> Self {
        self.needs_body = false;
        self.takes::<T>()
    }

    /// A body that is some text.
    pub(crate) fn takes_text(mut self, kind: &'static str) -> Self {
        self.bodies.push((kind, |_| json!({"type": "string"})));
        self
    }

    /// A JSON answer.
    pub(crate) fn answers<T: JsonSchema>(
        self,
        status: StatusCode,
        description: &'static str,
    ) -> Self {
        self.answers_with(status, description, "application/json", |schemas| {
            schemas.told::<T>()
        })
    }

    /// An answer that is some text or bytes.
    pub(crate) fn answers_text(
        self,
        status: StatusCode,
        description: &'static str,
        kind: &'static str,
    ) -> Self {
        self.answers_with(status, description, kind, |_| json!({"type": "string"}))
    }

    /// An answer that is a stream of events, each of this form.
    pub(crate) fn answers_events<T: JsonSchema>(
        self,
        status: StatusCode,
        description: &'static str,
        kind: &'static str,
    ) -> Self {
        self.answers_with(status, description, kind, |schemas| schemas.told::<T>())
    }

    /// An answer without a body.
    pub(crate) fn answers_nothing(mut self, status: StatusCode, description: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: None,
        });
        self
    }

    fn answers_with(
        mut self,
        status: StatusCode,
        description: &'static str,
        kind: &'static str,
        schema: SchemaOf,
    ) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: Some((kind, schema)),
        });
        self
    }

    /// The function behind the check of who may use it.
    pub(crate) fn handler(self, state: &AppState) -> MethodRouter<AppState> {
        match self.access {
            Access::Open => self.handler,
            Access::Token(scope) => self
                .handler
                .route_layer(from_fn_with_state((state.clone(), scope), guard)),
        }
    }
}

async fn guard(
    State((state, scope)): State<(AppState, TokenScope)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    auth::authorize(&state, request.headers(), scope)?;
    Ok(next.run(request).await)
}
