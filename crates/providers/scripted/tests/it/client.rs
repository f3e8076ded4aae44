//! A raw HTTP/1.1 client: it shows what is on the wire, and how the wire ended.

use std::sync::Arc;
use std::time::Duration;

use otto_core::model::{LongContextTier, ModelSpec, PriceTable, TokenPrices};
use otto_core::{ModelId, Money, Timestamp};
use otto_scripted::{Clock, Script, ScriptedServer, ServerOptions};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test may hang: whoever waits longer than this has found a defect.
const PATIENCE: Duration = Duration::from_secs(60);

/// USD per million tokens, in thousandths.
fn price(thousandths: u64) -> Money {
    Money::from_picodollars(thousandths * 1_000).unwrap()
}

fn spec(id: &str, context_window: u64, max_output_tokens: u64) -> ModelSpec {
    ModelSpec {
        id: ModelId::new(id).unwrap(),
        aliases: Vec::new(),
        context_window,
        max_output_tokens,
        prices: TokenPrices {
            input: price(2_000),
            output: price(10_000),
            cache_write_5m: price(2_500),
            cache_write_1h: price(4_000),
            cache_read: price(100),
        },
        long_context: None,
        surcharge_percent: 100,
        hidden_prompt_tokens: 1_024,
    }
}

/// A few models: one that binds thinking, one that does not, old ones, one with a dearer tier, one unheard of.
pub(crate) fn prices() -> Arc<PriceTable> {
    let haiku = spec("claude-haiku-5-5", 1_000_000, 128_000);
    let dear = TokenPrices {
        input: price(10_000),
        output: price(50_000),
        ..haiku.prices
    };
    let haiku = ModelSpec {
        long_context: Some(LongContextTier {
            threshold_prompt_tokens: 1_000,
            prices: dear,
        }),
        ..haiku
    };
    let old = ModelSpec {
        aliases: vec![ModelId::new("claude-sonnet-4-5").unwrap()],
        ..spec("claude-sonnet-4-5-20250929", 200_000, 64_000)
    };
    Arc::new(PriceTable::new(
        "test",
        [
            spec("claude-sonnet-5-5", 1_000_000, 128_000),
            spec("claude-opus-5", 1_000_000, 128_000),
            spec("claude-opus-4-6", 1_000_000, 128_000),
            old,
            haiku,
            spec("tiny", 3_000, 1_000),
        ],
    ))
}

/// A server that plays `yaml`.
pub(crate) async fn serve(yaml: &str) -> ScriptedServer {
    serve_with(yaml, ServerOptions::new(prices())).await
}

/// A server that plays `yaml` with these options.
pub(crate) async fn serve_with(yaml: &str, options: ServerOptions) -> ScriptedServer {
    let script = Script::parse(yaml, "test.yml").unwrap_or_else(|errors| panic!("{errors}"));
    ScriptedServer::start(script, options).await.unwrap()
}

/// A clock that stands until a test moves it.
pub(crate) fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_795_392_000_000))
}

/// A response, and whether it ended as HTTP says.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) whole: bool,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `error.message` of an error answer with the vendor's shape.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        assert_eq!(body["type"], "error");
        assert_eq!(body["request_id"].as_str(), self.header("request-id"));
        let text = |pointer: &str| body.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (self.status, text("/error/type"), text("/error/message"))
    }

    /// The events: name and data.
    pub(crate) fn events(&self) -> Vec<(String, Json)> {
        self.text()
            .split_terminator("\n\n")
            .map(|event| {
                let (name, data) = event
                    .split_once('\n')
                    .unwrap_or_else(|| panic!("no event: {event:?}"));
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                (name.strip_prefix("event: ").unwrap().to_owned(), data)
            })
            .collect()
    }

    /// The final message of a stream, put together as the protocol says.
    pub(crate) fn message(&self) -> Json {
        let mut message = Json::Null;
        let mut fragments = String::new();
        for (name, data) in self.events() {
            match name.as_str() {
                "message_start" => message = data["message"].clone(),
                "content_block_start" => {
                    fragments.clear();
                    assert_eq!(data["index"], message["content"].as_array().unwrap().len());
                    message["content"]
                        .as_array_mut()
                        .unwrap()
                        .push(data["content_block"].clone());
                }
                "content_block_delta" => {
                    let block = message["content"]
                        .as_array_mut()
                        .unwrap()
                        .last_mut()
                        .unwrap();
                    let delta = &data["delta"];
                    let mut append = |field: &str| {
                        let text = format!(
                            "{}{}",
                            block[field].as_str().unwrap(),
                            delta[field].as_str().unwrap()
                        );
                        block[field] = text.into();
                    };
                    match delta["type"].as_str().unwrap() {
                        "text_delta" => append("text"),
                        "thinking_delta" => append("thinking"),
                        "signature_delta" => block["signature"] = delta["signature"].clone(),
                        "input_json_delta" => {
                            fragments.push_str(delta["partial_json"].as_str().unwrap())
                        }
                        _ => {}
                    }
                }
                "content_block_stop" => {
                    if let Ok(input) = serde_json::from_str(&fragments) {
                        message["content"]
                            .as_array_mut()
                            .unwrap()
                            .last_mut()
                            .unwrap()["input"] = input;
                    }
                }
                "message_delta" => {
                    for (pointer, value) in data["delta"].as_object().unwrap().iter() {
                        message[pointer] = value.clone();
                    }
                    for (field, value) in data["usage"].as_object().into_iter().flatten() {
                        message["usage"][field] = value.clone();
                    }
                }
                _ => {}
            }
        }
        message
    }
}

/// A connection to a server.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(server: &ScriptedServer) -> Self {
        Self {
            stream: TcpStream::connect(server.address()).await.unwrap(),
            unread: Vec::new(),
        }
    }

    /// Sends a request without waiting for the answer.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads one response; `None` if the connection ended before a whole head.
    pub(crate) async fn receive(&mut self) -> Option<Response> {
        tokio::time::timeout(PATIENCE, self.read_response())
            .await
            .expect("the server did not answer in time")
    }

    async fn read_response(&mut self) -> Option<Response> {
        let head = self.read_until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
            whole: true,
        };
        match response
            .header("content-length")
            .map(|length| length.parse::<usize>().unwrap())
        {
            Some(length) => {
                response.whole = self.read_exactly(length, &mut response.body).await;
            }
            None => response.whole = self.read_chunks(&mut response.body).await,
        }
        Some(response)
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.read_until(b"\r\n").await else {
                return false;
            };
            let size =
                usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            if !self.read_exactly(size, body).await || self.read_until(b"\r\n").await.is_none() {
                return false;
            }
            if size == 0 {
                return true;
            }
        }
    }

    /// More bytes into `unread`; false at the end or when the connection is reset.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }

    async fn read_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self
                .unread
                .windows(end.len())
                .position(|window| window == end)
            {
                return Some(self.unread.drain(..at + end.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn read_exactly(&mut self, length: usize, into: &mut Vec<u8>) -> bool {
        while self.unread.len() < length {
            if !self.more().await {
                into.append(&mut self.unread);
                return false;
            }
        }
        into.extend(self.unread.drain(..length));
        true
    }
}

pub(crate) const HEADERS: [(&str, &str); 3] = [
    ("authorization", "Bearer sk-ant-test"),
    ("anthropic-version", "2026-10-21"),
    ("content-type", "application/json"),
];

/// Sends a request on a new connection and reads the answer.
pub(crate) async fn ask(
    server: &ScriptedServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut client = Client::connect(server).await;
    client.send(method, path, headers, body).await;
    client.receive().await.expect("an answer")
}

/// Sends a message request.
pub(crate) async fn post(server: &ScriptedServer, body: &Json) -> Response {
    ask(server, "POST", "/v1/messages", &HEADERS, &body.to_string()).await
}

/// A streaming request for a text.
pub(crate) fn request(text: &str) -> Json {
    json!({"model": "claude-opus-5", "max_tokens": 1_000, "stream": true, "messages": [{"role": "user", "content": text}]})
}

/// A request with the tools of these names.
pub(crate) fn with_tools(mut body: Json, names: &[&str]) -> Json {
    body["tools"] = names
        .iter()
        .map(|name| json!({"name": name, "description": "A tool.", "input_schema": {"type": "object", "properties": {}}}))
        .collect();
    body
}

/// The request that follows a message: its content as it came, and results for all of its calls.
pub(crate) fn follow_up(body: &Json, message: &Json, results: &[&str]) -> Json {
    let mut next = body.clone();
    let messages = next["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": message["content"]}));
    let ids = message["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|block| block["type"] == "tool_use")
        .map(|block| block["id"].clone());
    let results: Vec<Json> = ids
        .zip(results)
        .map(|(id, result)| json!({"type": "tool_result", "tool_use_id": id, "content": result}))
        .collect();
    messages.push(json!({"role": "user", "content": results}));
    next
}
