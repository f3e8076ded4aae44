//! A server for one test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use otto::config::OperatorConfig;
use otto::{AgentBuilder, AnthropicConfig, Otto};
use otto_scripted::{Script, ScriptedServer, ServerOptions};
use otto_server::{Leftovers, Server, ServerConfig, Surroundings};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::sse::{self, Told};

/// BOUND: nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, the model behind it and a client.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) model: ScriptedServer,
    pub(crate) otto: Otto,
    client: Client,
    stop: watch::Sender<bool>,
    serving: Option<JoinHandle<Leftovers>>,
    /// Removed at the end.
    state: Option<tempfile::TempDir>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl World {
    /// A server whose model plays this script, with an agent named `helper`.
    pub(crate) async fn new(script: &str) -> Self {
        Self::with(script, |_| ()).await
    }

    /// As [`World::new`], with a state directory.
    pub(crate) async fn in_directory(script: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut world = Self::make(script, |_| (), Some(state.path())).await;
        world.state = Some(state);
        world
    }

    pub(crate) async fn with(script: &str, change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::make(script, change, None).await
    }

    async fn make(
        script: &str,
        change: impl FnOnce(&mut ServerConfig),
        state: Option<&Path>,
    ) -> Self {
        let prices = Arc::new(otto::prices(&OperatorConfig::defaults("/".as_ref())));
        let script = Script::parse(script, "test.yml").unwrap();
        let model = ScriptedServer::start(script, ServerOptions::new(prices))
            .await
            .unwrap();
        let mut provider = AnthropicConfig::new("any".into());
        provider.base_url = model.base_url().parse().unwrap();
        let agent = AgentBuilder::new("helper", "claude-haiku-4-5").cost("$0.50");
        let builder = match state {
            Some(path) => Otto::builder().state_dir(path),
            None => Otto::builder(),
        };
        let otto = builder
            .enabled(true)
            .anthropic(provider)
            .unwrap()
            .agent(agent.build().unwrap())
            .open()
            .await
            .unwrap();
        let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let server = Server::bind(config).unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = server.serve(otto.clone(), Surroundings::default(), stopping);
        Self {
            address,
            model,
            otto,
            client: Client::builder().timeout(PATIENCE).build().unwrap(),
            stop,
            serving: Some(tokio::spawn(async move { serving.await.unwrap() })),
            state: None,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// The state directory of [`World::in_directory`].
    pub(crate) fn state_dir(&self) -> &Path {
        self.state.as_ref().unwrap().path()
    }

    /// Asks without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Answer {
        Answer::of(self.request(method, path)).await
    }

    /// Orders the end and waits for it.
    pub(crate) async fn stop(&mut self) -> Leftovers {
        self.stop.send_replace(true);
        self.serving.take().unwrap().await.unwrap()
    }

    /// Orders the end.
    pub(crate) fn begin_to_stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        Self::read(request.send().await.unwrap()).await
    }

    pub(crate) async fn read(response: Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_str()
            .unwrap()
    }

    /// The answer is a problem document with this word.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, word: &str) -> Self {
        let told = self.expect(status);
        assert_eq!(told.header("content-type"), "application/problem+json");
        let document = told.json();
        assert_eq!(
            document["type"],
            format!("urn:otto:problem:{word}"),
            "{told:?}"
        );
        assert_eq!(document["status"], status);
        assert!(!document["detail"].as_str().unwrap().is_empty(), "{told:?}");
        told
    }
}

/// Reads events until the stream ends, or `enough` says so.
pub(crate) async fn read_events(
    response: Response,
    mut enough: impl FnMut(&Told) -> bool,
) -> Vec<Told> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut told = Vec::new();
    sse::read(response, |event| {
        let is_enough = enough(&event);
        told.push(event);
        is_enough
    })
    .await;
    told
}
