//! The Checkpointer's standing work: artifacts beyond the retention are removed.
//!
//! What may go is the store's decision (pins, sessions in use); this task only asks for it, once an hour.

use std::sync::Weak;
use std::time::Duration;

use otto_engine::{Child, Condition, Health, RestartRule, Ticks};
use otto_store_embedded::{EmbeddedStore, RetentionPolicy};

/// The component's name.
const NAME: &str = "checkpointer";
/// The first sweep: out of the way of a start, and soon enough for a command that runs one invocation.
pub(crate) const FIRST: Duration = Duration::from_secs(1);
/// How often.
pub(crate) const EVERY: Duration = Duration::from_secs(3_600);

/// The supervised task.
pub(crate) fn child(store: Weak<EmbeddedStore>, policy: RetentionPolicy, health: Health) -> Child {
    Child::new(NAME, RestartRule::INFRASTRUCTURE, move |stop| {
        let (store, policy, health) = (store.clone(), policy.clone(), health.clone());
        Box::pin(async move {
            let mut ticks = Ticks::after(FIRST, EVERY, store, stop);
            while let Some(store) = ticks.next().await {
                // What could not be removed is found again by the next sweep.
                let failure = match store.checkpointer().sweep(&policy).await {
                    Ok(report) => report.failures.into_iter().next().map(|(_, error)| error),
                    Err(error) => Some(error),
                };
                let condition = failure.map_or(Condition::Ready, |error| {
                    Condition::degraded(&format!("remove artifacts beyond the retention: {error}"))
                });
                health.report(NAME, condition);
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use otto_core::port::store::{ArtifactDraft, ArtifactKind, Blobs};
    use otto_core::{InvocationId, SessionId};
    use otto_store_embedded::StoreConfig;
    use secrecy::SecretString;

    use super::*;
    use crate::config::{OperatorConfig, Setting};

    /// BOUND: looks at what is left; a sweep takes a few milliseconds, a look a fraction of one.
    const LOOKS_MAX: usize = 100_000;

    #[tokio::test]
    async fn no_artifact_is_stored_beyond_the_operators_bound_on_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut operator = OperatorConfig::defaults(folder.path());
        operator.state_dir = Setting::new(folder.path().join("state"), "a test");
        operator.api_key = Some(Setting::new(SecretString::from("any"), "a test"));
        operator.artifact_bytes_max = Setting::new(250, "a test");
        let builder = crate::Builder::configured(&operator).unwrap();
        let otto = builder.open().await.unwrap();
        let put = |name: &str| {
            let draft = ArtifactDraft {
                session: SessionId::from_bytes([1; 16]),
                invocation: InvocationId::from_bytes([2; 16]),
                kind: ArtifactKind::Intermediate,
                name: Arc::from(name),
                content: Arc::from([0; 100]),
            };
            otto.inner.engine.blobs().unwrap().put(draft)
        };
        put("1").await.unwrap();
        put("2").await.unwrap();
        let error = put("3").await.unwrap_err().to_string();
        assert!(error.contains("raise `artifact_bytes_max`"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_operators_bounds_are_kept_soon_after_the_start() {
        type Bounds = (Option<u64>, Option<u64>);
        for (count, size) in [(Some(2), None), (None, Some(250))] as [Bounds; 2] {
            let folder = tempfile::tempdir().unwrap();
            let state = folder.path().join("state");
            let session = SessionId::from_bytes([1; 16]);
            let store = StoreConfig::new(state.clone(), Arc::from("before"));
            let store = EmbeddedStore::open(store).unwrap();
            for name in ["1", "2", "3", "4"] {
                let draft = ArtifactDraft {
                    session,
                    invocation: InvocationId::from_bytes([2; 16]),
                    kind: ArtifactKind::Intermediate,
                    name: Arc::from(name),
                    content: Arc::from([0; 100]),
                };
                store.put(draft).await.unwrap();
            }
            drop(store);
            let mut operator = OperatorConfig::defaults(folder.path());
            operator.state_dir = Setting::new(state, "a test");
            operator.api_key = Some(Setting::new(SecretString::from("any"), "a test"));
            operator.retention_count = Setting::new(count, "a test");
            operator.retention_size = Setting::new(size, "a test");
            let builder = crate::Builder::configured(&operator).unwrap();
            let otto = builder.open().await.unwrap();
            let mut left = Vec::new();
            for _ in 0..LOOKS_MAX {
                left = otto.artifacts(session).await.unwrap();
                if left.len() < 4 {
                    break;
                }
                tokio::time::sleep(FIRST).await;
            }
            let paths: Vec<&str> = left.iter().map(|artifact| &*artifact.path).collect();
            assert_eq!(paths.len(), 2, "{count:?}, {size:?}: {paths:?}");
            assert!(
                paths[0].ends_with('3') && paths[1].ends_with('4'),
                "{paths:?}"
            );
        }
    }
}
