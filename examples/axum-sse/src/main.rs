//! An axum application that streams an agent's answer as server-sent events: `cargo run -p example-axum-sse`.

use std::convert::Infallible;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use otto::testing::ScriptedModel;
use otto::{AgentBuilder, ListenerEvent, Otto};

#[derive(serde::Deserialize)]
struct Question {
    task: String,
}

type Answer<S> = Result<Sse<S>, (StatusCode, String)>;

/// The invocation goes on when the browser goes away; keep `handle.canceller()` to end it then.
async fn ask(
    State(otto): State<Otto>,
    Query(question): Query<Question>,
) -> Answer<impl Stream<Item = Result<Event, Infallible>>> {
    let failed = |status, error: String| (status, error);
    let agent = otto
        .agent("guide")
        .map_err(|error| failed(StatusCode::NOT_FOUND, error.to_string()))?;
    let started = agent.invoke_stream(question.task).await;
    let mut handle =
        started.map_err(|error| failed(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let events = handle.take_stream().filter_map(|event| async move {
        match event {
            ListenerEvent::Text(text) => Some(Ok(Event::default().data(text))),
            ListenerEvent::Finished(outcome) => Some(Ok(Event::default()
                .event("end")
                .data(outcome.kind().as_str()))),
            _ => None,
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a real model, put this in the place of `.client(...)` below:
    // `.anthropic(otto::AnthropicConfig::new(std::env::var("ANTHROPIC_API_KEY")?.into()))?`
    let model = ScriptedModel::start("turns: [{ text: 'You asked: {{ task }}' }]").await?;
    let otto = Otto::builder()
        .enabled(true)
        .client(model.client())
        .agent(AgentBuilder::new("guide", "claude-haiku-4-5").build()?)
        .open()
        .await?;
    let app = axum::Router::new()
        .route("/ask", axum::routing::get(ask))
        .with_state(otto);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("curl -N 'http://{}/ask?task=hello'", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
