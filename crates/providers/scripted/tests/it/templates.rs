//! Scripts that depend on the conversation: conditions, repeats, `for_each`, results by name.

use serde_json::{Value as Json, json};

use crate::client::{follow_up, post, request, serve, with_tools};

fn calls(message: &Json) -> Vec<(String, Json)> {
    let blocks = message["content"].as_array().unwrap().iter();
    blocks
        .filter(|block| block["type"] == "tool_use")
        .map(|block| {
            (
                block["name"].as_str().unwrap().to_owned(),
                block["input"].clone(),
            )
        })
        .collect()
}

#[tokio::test]
async fn one_call_for_each_entry_of_a_result() {
    let yaml = r#"
let:
  files: 'result.find | lines | capture "^([^:]+):" | unique'
turns:
  - tool: { name: grep, as: find, input: { pattern: "{{ task }}" } }
  - when: 'files'
    tool: { name: fs.read, as: read, for_each: files, limit: 2, input: { path: "{{ item }}", at: "{{ index }}" } }
  - text: "{{ results.read | length }} of {{ files | length }}: {{ inputs.read | pluck '/path' | join ' and ' }} have {{ results.read | line_count | sum }} lines"
"#;
    let server = serve(yaml).await;
    let first = with_tools(request("TODO"), &["grep", "fs_read"]);
    let message = post(&server, &first).await.message();
    assert_eq!(
        calls(&message),
        [("grep".to_owned(), json!({"pattern": "TODO"}))]
    );
    let second = follow_up(
        &first,
        &message,
        &["a.rs:1:TODO\nb.rs:2:TODO\na.rs:9:TODO\nc.rs:1:TODO"],
    );
    let message = post(&server, &second).await.message();
    assert_eq!(
        calls(&message),
        [
            ("fs_read".to_owned(), json!({"path": "a.rs", "at": 0})),
            ("fs_read".to_owned(), json!({"path": "b.rs", "at": 1}))
        ]
    );
    let third = follow_up(&second, &message, &["one\ntwo", "three"]);
    let message = post(&server, &third).await.message();
    assert_eq!(
        message["content"][0]["text"],
        "2 of 3: a.rs and b.rs have 3 lines"
    );
    // Without matches the turn is passed over.
    let message = post(&server, &first).await.message();
    let second = follow_up(&first, &message, &[""]);
    let message = post(&server, &second).await.message();
    assert_eq!(message["content"][0]["text"], "0 of 0:  have 0 lines");
}

#[tokio::test]
async fn turns_repeat_while_a_condition_holds() {
    let yaml = r#"
turns:
  - tool: { name: poll, input: { round: "{{ turn }}" } }
    when: 'result.poll | default "wait" | has "wait"'
    repeat: forever
  - text: "ready after {{ results | length }}"
"#;
    let server = serve(yaml).await;
    let mut body = with_tools(request("go"), &["poll"]);
    for round in 1..=4 {
        let message = post(&server, &body).await.message();
        assert_eq!(
            calls(&message),
            [("poll".to_owned(), json!({"round": round}))]
        );
        body = follow_up(&body, &message, &[if round < 4 { "wait" } else { "now" }]);
    }
    assert_eq!(
        post(&server, &body).await.message()["content"][0]["text"],
        "ready after 4"
    );
}

#[tokio::test]
async fn a_conversation_is_chosen_by_what_is_asked() {
    let yaml = r#"
conversations:
  - { name: weather, when: 'task | has "(?i)weather"', turns: [{ text: Sunny }] }
  - { name: terse, when: ['system | has "brief"', 'task | not | not'], turns: [{ text: Ok }] }
  - { name: cheap, when: 'model | is "claude-haiku-5-5"', turns: [{ text: Cheap }] }
"#;
    let server = serve(yaml).await;
    let said = |body: Json| {
        let server = &server;
        async move { post(server, &body).await.message()["content"][0]["text"].clone() }
    };
    assert_eq!(said(request("How is the Weather?")).await, "Sunny");
    let mut brief = request("x");
    brief["system"] = json!("Be brief");
    assert_eq!(said(brief).await, "Ok");
    let mut cheap = request("x");
    cheap["model"] = json!("claude-haiku-5-5");
    assert_eq!(said(cheap).await, "Cheap");
    let answer = post(&server, &request("nothing of it")).await;
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let (status, _, text) = answer.error();
    assert_eq!(status, 500);
    assert_eq!(
        text,
        "scripted model: no conversation of script `test.yml` applies to the task `nothing of it`: their `when` all failed \
         (weather, terse, cheap)"
    );
}

#[tokio::test]
async fn a_failed_call_can_be_seen() {
    let yaml = r#"
turns:
  - tool: { name: fs.read, as: secret, input: { path: /etc/passwd } }
  - { when: 'failed.secret', text: "Refused: {{ result.secret }}" }
  - { when: 'failed.secret | not', text: "Read it." }
"#;
    let server = serve(yaml).await;
    let first = with_tools(request("x"), &["fs_read"]);
    let message = post(&server, &first).await.message();
    let mut second = follow_up(&first, &message, &["not yours"]);
    assert_eq!(
        post(&server, &second).await.message()["content"][0]["text"],
        "Read it."
    );
    second["messages"][2]["content"][0]["is_error"] = json!(true);
    assert_eq!(
        post(&server, &second).await.message()["content"][0]["text"],
        "Refused: not yours"
    );
}

#[tokio::test]
async fn names_go_out_as_they_were_offered() {
    let server =
        serve("turns: [{ tools: [{ name: fs.read }, { name: fs_write }, { name: no.such }] }]")
            .await;
    let message = post(&server, &with_tools(request("x"), &["fs_read", "fs_write"]))
        .await
        .message();
    let names: Vec<String> = calls(&message).into_iter().map(|(name, _)| name).collect();
    // A tool that was not offered is called all the same: models do that, and clients must cope.
    assert_eq!(names, ["fs_read", "fs_write", "no_such"]);
}

#[tokio::test]
async fn a_value_that_is_missing_is_an_error_and_not_a_guess() {
    let server =
        serve("turns: [{ tool: { name: t } }, { text: 'got {{ result.t | capture \"(x)\" }}' }]")
            .await;
    let first = with_tools(request("x"), &["t"]);
    let message = post(&server, &first).await.message();
    let (status, _, text) = post(&server, &follow_up(&first, &message, &["no such letter"]))
        .await
        .error();
    assert_eq!(status, 500);
    assert!(
        text.contains("`{{ result.t | capture \"(x)\" }}` has no value for this request"),
        "{text}"
    );
    assert_eq!(
        post(&server, &follow_up(&first, &message, &["x"]))
            .await
            .message()["content"][0]["text"],
        "got x"
    );
}

#[tokio::test]
async fn earlier_turns_are_seen_as_they_were() {
    // The second turn's condition looks at the latest user text; it must not be judged by a later one.
    let yaml = r#"
turns:
  - text: one
  - { when: 'user | is "more"', text: two }
  - text: three
  - text: four
"#;
    let server = serve(yaml).await;
    let mut body = request("start");
    let say = |body: &mut Json, message: &Json, text: &str| {
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": message["content"]}));
        messages.push(json!({"role": "user", "content": text}));
    };
    let mut said = Vec::new();
    for next in ["more", "other", "more"] {
        let message = post(&server, &body).await.message();
        said.push(message["content"][0]["text"].as_str().unwrap().to_owned());
        say(&mut body, &message, next);
    }
    said.push(
        post(&server, &body).await.message()["content"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    assert_eq!(said, ["one", "two", "three", "four"]);
}
