//! `/v1/verify`, `/v1/backup`: everything that is stored, checked or copied.
//!
//! Invariant: no path comes from the network. A backup is sent, and its file has no name by then.

use std::fs::File;
use std::io::Read;

use axum::Json;
use axum::body::{Body as Content, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use otto::Anchor;
use otto::upkeep::{self, Repair, UnnamedBackup};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::{ANCHOR_PATTERN, anchor};
use super::extract::OptionalBody;
use super::{ADMIN, Route};
use crate::problem::Problem;
use crate::state::AppState;

/// BOUND: bytes of a backup that are read at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// What a database of SQLite is called.
const KIND: &str = "application/vnd.sqlite3";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/verify", ADMIN, "verify_state", verify)
            .summary("Read and check everything that is stored")
            .may_take::<Verify>()
            .answers::<VerifiedView>(StatusCode::OK, "What was read, and what is wrong with it."),
        Route::post("/v1/backup", ADMIN, "back_up", backup)
            .summary("Copy the database while it is in use, verify the copy and send it; `Otto-Audit-Anchor` is the end of the audit log, `Otto-Damaged-Journals` how many journals in it are damaged, as in the store")
            .answers_text(StatusCode::OK, "The database; artifacts are not in it.", KIND),
    ]
}

/// How everything is checked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    /// An end of the audit log that was kept elsewhere, as `SEQUENCE:HASH`.
    #[schemars(extend("pattern" = ANCHOR_PATTERN))]
    anchor: Option<String>,
    /// Move damaged artifacts aside and make those again that follow from the journal.
    #[serde(default)]
    repair: bool,
}

/// What a verification read and found.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Verified")]
struct VerifiedView {
    /// Whether nothing is wrong, or all that was is repaired.
    sound: bool,
    damages: Vec<DamageView>,
    /// There is more damage than is listed.
    more: bool,
    journals: u64,
    /// How many of these are from before entries had checksums: whether one of them was changed is not known.
    journals_without_checksums: u64,
    /// Model calls whose sums were compared with the accounts.
    calls: u64,
    accounts: u64,
    artifacts: u64,
    artifact_bytes: u64,
    /// The end of the audit log, to be kept elsewhere.
    anchor: String,
    /// The record after which the audit log begins, because its retention removed what came before; 0 if it has
    /// removed nothing.
    audit_begins_after: u64,
}

/// One thing that is wrong.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Damage")]
struct DamageView {
    /// `database`, `ledger`, `journal`, `audit`, `anchor`, `artifact`, `foreign` or `clock`.
    kind: &'static str,
    what: String,
    advice: String,
    /// What was done about it, if it was repaired.
    repaired: Option<String>,
}

async fn verify(
    State(state): State<AppState>,
    OptionalBody(body): OptionalBody<Verify>,
) -> Result<Json<VerifiedView>, Problem> {
    let anchor = body.anchor.as_deref().map(anchor).transpose()?;
    let state_dir = state.otto.state_dir().ok_or_else(Problem::no_state_dir)?;
    let _one = state
        .upkeep
        .try_lock()
        .map_err(|_| Problem::conflict("another verification is under way; wait for its end"))?;
    let repair = if body.repair { Repair::Yes } else { Repair::No };
    let verified = upkeep::verify(state_dir, anchor, repair).await?;
    Ok(Json(VerifiedView {
        sound: verified.is_sound(),
        more: verified.more,
        journals: verified.journals,
        journals_without_checksums: verified.journals_without_checksums,
        calls: verified.calls,
        accounts: verified.accounts,
        artifacts: verified.artifacts,
        artifact_bytes: verified.artifact_bytes,
        anchor: verified.audit.to_string(),
        audit_begins_after: verified.audit_begins_after,
        damages: verified
            .damages
            .into_iter()
            .map(|damage| DamageView {
                kind: damage.kind.as_str(),
                what: damage.what,
                advice: damage.advice,
                repaired: damage.repaired,
            })
            .collect(),
    }))
}

async fn backup(State(state): State<AppState>) -> Result<Response, Problem> {
    let state_dir = state.otto.state_dir().ok_or_else(Problem::no_state_dir)?;
    let unnamed = upkeep::unnamed_backup(state_dir).await?;
    let head = [
        (header::CONTENT_TYPE, KIND.to_owned()),
        (header::CONTENT_LENGTH, unnamed.backup.bytes.to_string()),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"otto-backup.db\"".to_owned(),
        ),
    ];
    let anchor: Anchor = unnamed.backup.audit;
    let damaged = unnamed.backup.damaged_journals.len();
    let told = [
        ("otto-audit-anchor", anchor.to_string()),
        ("otto-damaged-journals", damaged.to_string()),
    ];
    let chunks = futures_util::stream::try_unfold(unnamed, |unnamed| async move {
        let (chunk, unnamed) = next(unnamed).await?;
        std::io::Result::Ok((!chunk.is_empty()).then_some((chunk, unnamed)))
    });
    Ok((head, told, Content::from_stream(chunks)).into_response())
}

/// The next piece of a backup; empty at its end.
async fn next(unnamed: UnnamedBackup) -> std::io::Result<(Bytes, UnnamedBackup)> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut file: &File = &unnamed.file;
        (&mut file)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)?;
        Ok((Bytes::from(chunk), unnamed))
    });
    reading.await.map_err(std::io::Error::other)?
}
