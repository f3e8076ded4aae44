//! The schema and its versions.
//!
//! `user_version` counts the steps of [`STEPS`] that a file has gone through. A step is frozen once it was
//! released: a golden file of every version is opened by a test.
//!
//! Times are microseconds since 1970 on the clock named beside the column, money is whole picodollars, ids
//! are their sixteen bytes. All tables are strict.

use rusqlite::Connection;

/// Marks a file as Otto's: `OTTO` in ASCII.
pub(crate) const APPLICATION_ID: i32 = 0x4F54_544F;

/// The version that this Otto writes.
pub(crate) const VERSION: i32 = 6;

/// `STEPS[n]` leads from version `n` to `n + 1`.
const STEPS: [&str; VERSION as usize] = [V1, V2, V3, V4, V5, V6];

const V1: &str = "
-- Single numbers: highest_day, artifact_bytes, syncs.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('highest_day', 0), ('artifact_bytes', 0), ('syncs', 0);

-- The kill switch, while it is thrown.
CREATE TABLE kill (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- Leases, on the store's clock. Without a node the lease was given back.
CREATE TABLE sessions (
    session BLOB PRIMARY KEY CHECK (length(session) = 16),
    node TEXT,
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    until INTEGER NOT NULL,
    ttl INTEGER NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_held ON sessions (until, ttl, node) WHERE node IS NOT NULL;

CREATE TABLE invocations (
    invocation BLOB PRIMARY KEY CHECK (length(invocation) = 16),
    session BLOB NOT NULL REFERENCES sessions,
    agent TEXT NOT NULL,
    model TEXT NOT NULL,
    workflow BLOB CHECK (length(workflow) = 16),
    title TEXT NOT NULL,
    idempotency_key TEXT UNIQUE,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    outcome TEXT,
    summary TEXT NOT NULL DEFAULT '',
    result TEXT NOT NULL DEFAULT '',
    resumable INTEGER NOT NULL DEFAULT 0 CHECK (resumable IN (0, 1)),
    CHECK ((finished_at IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX invocations_by_start ON invocations (started_at, invocation);
CREATE INDEX invocations_by_session ON invocations (session);
CREATE INDEX invocations_unfinished ON invocations (started_at, invocation) WHERE finished_at IS NULL;

CREATE TABLE journal (
    invocation BLOB NOT NULL REFERENCES invocations,
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    payload TEXT NOT NULL,
    PRIMARY KEY (invocation, sequence)
) STRICT, WITHOUT ROWID;

-- Running totals by scope. Tokens and money as the ledger counts them.
CREATE TABLE accounts (
    scope TEXT PRIMARY KEY,
    spent_cost INTEGER NOT NULL CHECK (spent_cost >= 0),
    held_cost INTEGER NOT NULL CHECK (held_cost >= 0),
    spent_tokens INTEGER NOT NULL CHECK (spent_tokens >= 0),
    held_tokens INTEGER NOT NULL CHECK (held_tokens >= 0),
    warned_cost INTEGER NOT NULL CHECK (warned_cost IN (0, 1)),
    warned_tokens INTEGER NOT NULL CHECK (warned_tokens IN (0, 1)),
    latched INTEGER NOT NULL CHECK (latched IN (0, 1))
) STRICT, WITHOUT ROWID;

-- One row per model call that money was held for, in the order of the holds.
-- state: 0 open, 1 forfeited, 2 settled. scopes: JSON, see `codec`.
-- The columns from `at` on are the usage row; they are null unless the call was charged.
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    invocation BLOB NOT NULL REFERENCES invocations,
    effect INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
    day INTEGER NOT NULL,
    max_output_tokens INTEGER NOT NULL,
    held_cost INTEGER NOT NULL CHECK (held_cost >= 0),
    held_tokens INTEGER NOT NULL CHECK (held_tokens >= 0),
    scopes TEXT NOT NULL,
    at INTEGER,
    session BLOB,
    agent TEXT,
    workflow BLOB,
    model TEXT,
    input_tokens INTEGER CHECK (input_tokens >= 0),
    output_tokens INTEGER CHECK (output_tokens >= 0),
    cache_read_tokens INTEGER CHECK (cache_read_tokens >= 0),
    cache_write_5m_tokens INTEGER CHECK (cache_write_5m_tokens >= 0),
    cache_write_1h_tokens INTEGER CHECK (cache_write_1h_tokens >= 0),
    thinking_tokens INTEGER CHECK (thinking_tokens >= 0),
    cost INTEGER CHECK (cost >= 0),
    UNIQUE (invocation, effect)
) STRICT;
CREATE INDEX calls_open ON calls (invocation) WHERE state = 0;
CREATE INDEX calls_charged ON calls (at) WHERE at IS NOT NULL;

-- Files below sessions/<session>/. A row with `deleting` stands for a file that retention is removing.
CREATE TABLE artifacts (
    session BLOB NOT NULL,
    path TEXT NOT NULL,
    invocation BLOB NOT NULL,
    kind TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    sha256 TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleting INTEGER NOT NULL DEFAULT 0 CHECK (deleting IN (0, 1)),
    PRIMARY KEY (session, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_by_age ON artifacts (created_at);
CREATE INDEX artifacts_deleting ON artifacts (session, path) WHERE deleting = 1;

-- The hash chain: each hash covers the one before.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY CHECK (sequence >= 1),
    at INTEGER NOT NULL,
    record TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
";

const V2: &str = "
-- The journal entry up to which an artifact follows from its invocation's journal; 0 when it does not.
ALTER TABLE artifacts ADD COLUMN derived INTEGER NOT NULL DEFAULT 0 CHECK (derived >= 0);

-- Invocations whose derived artifacts may not all have durable files yet, and the node that writes them.
CREATE TABLE unwritten (
    invocation BLOB PRIMARY KEY CHECK (length(invocation) = 16),
    session BLOB NOT NULL CHECK (length(session) = 16),
    node TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The start of the machine under which money held ahead is as the database says; 0 before the first.
INSERT INTO meta (name, value) VALUES ('boot', 0);
";

const V3: &str = "
-- A digest of what was asked under the idempotency key.
ALTER TABLE invocations ADD COLUMN fingerprint TEXT;
";

const V4: &str = "
-- The last record that was removed from the front of the audit log; no row while none was.
CREATE TABLE audit_start (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
";

// Without CHECKs: SQLite would read every row of a large database to see whether they hold.
const V5: &str = "
-- SHA-256 over the hash of the entry before, the invocation, the sequence and the payload; null in entries that
-- were written before there were hashes.
ALTER TABLE journal ADD COLUMN hash BLOB;

-- The first entry with a hash of its own; null while there is none.
ALTER TABLE invocations ADD COLUMN hashed_from INTEGER;

-- The hash of the last entry, once it has ended; null while it has not, and if it did before there were hashes.
ALTER TABLE invocations ADD COLUMN end_hash BLOB;
";

// SQLite makes a table of its own for a list of three each time a row is checked against it; a range costs nothing.
// Source of the way to change a CHECK: SQLite, ALTER TABLE, section 7.
const V6: &str = "
-- Short artifacts that are durable here until they have a durable file, and the node that writes it.
CREATE TABLE contents (
    session BLOB NOT NULL CHECK (length(session) = 16),
    path TEXT NOT NULL,
    node TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (session, path)
) STRICT, WITHOUT ROWID;

PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (state IN (0, 1, 2))', 'CHECK (state BETWEEN 0 AND 2)')
    WHERE type = 'table' AND name = 'calls';
PRAGMA writable_schema = RESET;
";

/// The tables of the newest version.
pub(crate) const TABLES: [&str; 12] = [
    "accounts",
    "artifacts",
    "audit",
    "audit_start",
    "calls",
    "contents",
    "invocations",
    "journal",
    "kill",
    "meta",
    "sessions",
    "unwritten",
];

/// Leads a file from `version` to the newest one, in one transaction per step.
pub(crate) fn migrate(connection: &Connection, version: i32) -> rusqlite::Result<()> {
    for (from, step) in (0..).zip(STEPS).skip_while(|(from, _)| *from < version) {
        let to: i32 = from + 1;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {to}; COMMIT;"
        ))?;
    }
    Ok(())
}
