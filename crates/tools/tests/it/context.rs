//! What the host is and is not told, and how it ends calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otto_core::policy::{Permission, Permissions, RefusedBy};
use otto_core::port::BoxFuture;
use otto_core::port::tool::{Cancellation, ToolError, ToolErrorKind, ToolOutput};
use otto_core::port::tool_host::{Enforcement, HostRequest, ToolHost};
use otto_sandbox::{InProcessHost, WorkerAnswer, WorkerCtx, WorkerRequest};
use serde_json::json;

use crate::world::World;

/// Keeps what it is asked.
#[derive(Default)]
struct Recorder(Mutex<Vec<HostRequest>>);

impl ToolHost for Recorder {
    fn run(&self, request: HostRequest) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        self.0.lock().unwrap().push(request);
        Box::pin(async {
            Ok(ToolOutput {
                content: String::new(),
            })
        })
    }

    fn enforcement(&self) -> Enforcement {
        Enforcement::None
    }
}

#[tokio::test]
async fn the_host_is_told_of_nothing_that_the_tool_does_not_need() {
    let recorder = Arc::new(Recorder::default());
    let host: Arc<dyn ToolHost> = recorder.clone();
    let world = tokio::task::spawn_blocking(World::new).await.unwrap();
    let all = Permissions::of(&Permission::ALL);
    for tool in otto_tools::catalog(&host, &BTreeMap::new()) {
        let input = match tool.definition().name.as_str() {
            "fs.read" => json!({"path": "a"}),
            "fs.write" => json!({"path": "a", "content": ""}),
            "fs.edit" => json!({"path": "a", "old": "a", "new": "b"}),
            "http" => json!({"url": "http://a.test/"}),
            "json" | "yaml" => json!({"action": "parse", "value": 1}),
            "grep" => json!({"pattern": "a"}),
            _ => json!({}),
        };
        if tool
            .call(&world.context(all), &input.to_string())
            .await
            .is_err()
        {
            continue;
        }
        let request = recorder.0.lock().unwrap().pop().unwrap();
        let needs = tool.definition().permissions;
        assert_eq!(request.grant.permissions, needs, "{}", request.tool);
        let files = needs.contains(Permission::Read) || needs.contains(Permission::Write);
        assert_eq!(
            request.grant.working_dir.is_some(),
            files || needs.contains(Permission::Exec)
        );
        assert_eq!(
            !request.grant.roots.is_empty(),
            needs.contains(Permission::Read),
            "{}",
            request.tool
        );
    }
    // A right that was not granted is not handed on, whatever the tool states.
    let write = otto_tools::catalog(&host, &BTreeMap::new()).remove(1);
    write
        .call(
            &world.context(Permissions::NONE),
            r#"{"path":"a","content":""}"#,
        )
        .await
        .unwrap();
    let request = recorder.0.lock().unwrap().pop().unwrap();
    assert_eq!(request.grant.permissions, Permissions::NONE);
    assert_eq!(request.grant.working_dir, None);
    tokio::task::spawn_blocking(move || drop(world))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bad_input_does_not_reach_the_host() {
    let recorder = Arc::new(Recorder::default());
    let host: Arc<dyn ToolHost> = recorder.clone();
    let world = tokio::task::spawn_blocking(World::new).await.unwrap();
    let read = otto_tools::catalog(&host, &BTreeMap::new()).remove(0);
    let ctx = world.context(Permissions::of(&[Permission::Read]));
    for input in [
        "",
        "{}",
        "[]",
        "nonsense",
        r#"{"path": 1}"#,
        r#"{"path": "a", "extra": 1}"#,
        "{\"path\": \"a",
    ] {
        let error = read.call(&ctx, input).await.unwrap_err();
        assert_eq!(error.kind, ToolErrorKind::ForModel, "{input}");
        assert!(error.message.contains("the input is not valid"), "{error}");
    }
    assert!(recorder.0.lock().unwrap().is_empty());
    tokio::task::spawn_blocking(move || drop(world))
        .await
        .unwrap();
}

fn request(time: Duration, cancellation: Arc<dyn Cancellation>) -> HostRequest {
    HostRequest {
        agent: otto_core::AgentName::new("a").unwrap(),
        tool: otto_core::ToolName::new("t").unwrap(),
        input: Arc::from("{}"),
        grant: otto_core::port::tool_host::HostGrant::default(),
        settings: None,
        time_left: time,
        cancellation,
        audit: None,
    }
}

/// Ends only when it is told to.
fn endless(ctx: &WorkerCtx, _: &WorkerRequest) -> WorkerAnswer {
    loop {
        if let Err(failure) = ctx.check() {
            return WorkerAnswer::Failed(failure);
        }
        std::thread::yield_now();
    }
}

struct Already;

impl Cancellation for Already {
    fn is_cancelled(&self) -> bool {
        true
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Never;

impl Cancellation for Never {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_when_it_is_cancelled() {
    let host = InProcessHost::new(endless);
    let error = host
        .run(request(Duration::from_millis(20), Arc::new(Never)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::TimedOut);
    let error = host
        .run(request(Duration::from_secs(3600), Arc::new(Already)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::Cancelled);
    // The runtime waits for its blocking threads when it is dropped: that it ends shows that they did.
}

#[tokio::test]
async fn a_panic_is_one_failed_call() {
    let host = InProcessHost::new(|_, _| panic!("on purpose"));
    let error = host
        .run(request(Duration::from_secs(60), Arc::new(Never)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::ForModel);
    assert!(error.message.contains("crashed"), "{error}");
}

#[tokio::test]
async fn a_program_is_refused_without_a_sandbox() {
    let host = InProcessHost::new(|_, _| {
        WorkerAnswer::Exec(otto_sandbox::ExecRequest {
            program: "true".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            dir: String::new(),
            time_limit: Duration::from_secs(1),
            max_output_bytes: 1,
        })
    });
    let error = host
        .run(request(Duration::from_secs(60), Arc::new(Never)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::Denied(RefusedBy::Policy));
}
