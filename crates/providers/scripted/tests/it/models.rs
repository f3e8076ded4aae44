//! The model list and token counting.

use otto_scripted::{ServerOptions, Tokenizer};
use serde_json::json;

use crate::client::{HEADERS, ask, post, prices, request, serve, serve_with, with_tools};

#[tokio::test]
async fn models_are_listed_newest_first_and_by_pages() {
    let server = serve("turns: [{ text: hi }]").await;
    let get = |path: String| {
        let server = &server;
        async move { ask(server, "GET", &path, &HEADERS, "").await.json() }
    };
    let all = get("/v1/models".to_owned()).await;
    let ids: Vec<&str> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        [
            "claude-haiku-5-5",
            "claude-sonnet-5-5",
            "claude-opus-5",
            "claude-opus-4-6",
            "tiny",
            "claude-sonnet-4-5-20250929"
        ]
    );
    assert_eq!(
        (&all["has_more"], &all["first_id"], &all["last_id"]),
        (&json!(false), &json!(ids[0]), &json!(ids[5]))
    );
    let first = get("/v1/models?limit=2".to_owned()).await;
    assert_eq!(
        (first["data"].as_array().unwrap().len(), &first["has_more"]),
        (2, &json!(true))
    );
    let second = get(format!("/v1/models?limit=4&after_id={}", ids[1])).await;
    assert_eq!(
        (&second["first_id"], &second["has_more"]),
        (&json!(ids[2]), &json!(false))
    );
    let before = get(format!("/v1/models?limit=1&before_id={}", ids[2])).await;
    assert_eq!(
        (&before["first_id"], &before["has_more"]),
        (&json!(ids[1]), &json!(true))
    );
    let active = get("/v1/models?lifecycle%5B%5D=active".to_owned()).await;
    assert!(!active.to_string().contains("sonnet-4-5"));
    assert_eq!(
        ask(&server, "GET", "/v1/models?limit=0", &HEADERS, "")
            .await
            .status,
        400
    );
    assert_eq!(ask(&server, "GET", "/v1/models", &[], "").await.status, 401);
}

#[tokio::test]
async fn one_model_says_what_it_can() {
    let server = serve("turns: [{ text: hi }]").await;
    // An alias finds its model.
    let model = ask(&server, "GET", "/v1/models/claude-sonnet-4-5", &HEADERS, "")
        .await
        .json();
    assert_eq!(model["id"], "claude-sonnet-4-5-20250929");
    assert_eq!(
        (&model["lifecycle"], &model["retires_at"]),
        (&json!("deprecated"), &json!("2026-11-30T00:00:00Z"))
    );
    let types = &model["capabilities"]["thinking"]["types"];
    assert_eq!(
        (
            &types["enabled"]["supported"],
            &types["adaptive"]["supported"]
        ),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (
            &model["max_input_tokens"],
            &model["max_tokens"],
            &model["line"]
        ),
        (&json!(200_000), &json!(64_000), &json!("sonnet"))
    );
}

#[tokio::test]
async fn counting_agrees_with_the_bill() {
    for tokenizer in [Tokenizer::Quarter, Tokenizer::WorstCase] {
        let options = ServerOptions {
            tokenizer,
            ..ServerOptions::new(prices())
        };
        let server = serve_with("turns: [{ text: hi }]", options).await;
        let body = with_tools(request("How many tokens are these words?"), &["a", "b"]);
        let mut counted = body.clone();
        for field in ["max_tokens", "stream"] {
            counted.as_object_mut().unwrap().remove(field);
        }
        let count = ask(
            &server,
            "POST",
            "/v1/messages/count_tokens",
            &HEADERS,
            &counted.to_string(),
        )
        .await
        .json();
        let message = post(&server, &body).await.message();
        assert_eq!(count["input_tokens"], message["usage"]["input_tokens"]);
        assert_eq!(server.billed().calls, 1, "counting is free");
    }
}
