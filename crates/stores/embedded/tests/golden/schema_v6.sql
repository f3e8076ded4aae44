PRAGMA application_id = 1330926671;
PRAGMA user_version = 6;
PRAGMA foreign_keys = OFF;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE kill (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
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
    resumable INTEGER NOT NULL DEFAULT 0 CHECK (resumable IN (0, 1)), fingerprint TEXT, hashed_from INTEGER, end_hash BLOB,
    CHECK ((finished_at IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX invocations_by_start ON invocations (started_at, invocation);
CREATE INDEX invocations_by_session ON invocations (session);
CREATE INDEX invocations_unfinished ON invocations (started_at, invocation) WHERE finished_at IS NULL;
CREATE TABLE journal (
    invocation BLOB NOT NULL REFERENCES invocations,
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    payload TEXT NOT NULL, hash BLOB,
    PRIMARY KEY (invocation, sequence)
) STRICT, WITHOUT ROWID;
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
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    invocation BLOB NOT NULL REFERENCES invocations,
    effect INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
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
CREATE TABLE artifacts (
    session BLOB NOT NULL,
    path TEXT NOT NULL,
    invocation BLOB NOT NULL,
    kind TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    sha256 TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleting INTEGER NOT NULL DEFAULT 0 CHECK (deleting IN (0, 1)), derived INTEGER NOT NULL DEFAULT 0 CHECK (derived >= 0),
    PRIMARY KEY (session, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_by_age ON artifacts (created_at);
CREATE INDEX artifacts_deleting ON artifacts (session, path) WHERE deleting = 1;
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY CHECK (sequence >= 1),
    at INTEGER NOT NULL,
    record TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TABLE unwritten (
    invocation BLOB PRIMARY KEY CHECK (length(invocation) = 16),
    session BLOB NOT NULL CHECK (length(session) = 16),
    node TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE audit_start (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TABLE contents (
    session BLOB NOT NULL CHECK (length(session) = 16),
    path TEXT NOT NULL,
    node TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (session, path)
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('artifact_bytes', 5);
INSERT INTO meta VALUES ('boot', 7495128114986681297);
INSERT INTO meta VALUES ('highest_day', 20780);
INSERT INTO meta VALUES ('syncs', 0);
INSERT INTO sessions VALUES (x'01a20846fe0071018000000000000001', 'a', 1, 1795435230000000, 30000000, 0);
INSERT INTO sessions VALUES (x'01a20846fe0072018000000000000001', 'a', 1, 1795435230000000, 30000000, 0);
INSERT INTO invocations VALUES (x'01a20846fe0071028000000000000002', x'01a20846fe0071018000000000000001', 'reviewer', 'model-1', NULL, 'Review src/', NULL, 1795435200000000, NULL, NULL, '', '', 0, NULL, 1, NULL);
INSERT INTO invocations VALUES (x'01a20846fe0072028000000000000002', x'01a20846fe0072018000000000000001', 'reviewer', 'model-1', NULL, 'Review src/', NULL, 1795435200000000, 1795435200000000, 'failed', 'failed', '', 1, NULL, 1, x'8df8cc1b10c78683ee646b9db13c72f12c029151805640c18557a14ecc208240');
INSERT INTO journal VALUES (x'01a20846fe0071028000000000000002', 1, '{"entry":1}', x'87ba64e6777ad18a69a91be9a9ad545e1088c982f6125c0dbd3d7c6b9f3e7d08');
INSERT INTO journal VALUES (x'01a20846fe0071028000000000000002', 2, '{"entry":2}', x'10261d1fb47feaf6e41b19030f0f6c7a56632782c70162d0399725e3feace3a5');
INSERT INTO journal VALUES (x'01a20846fe0072028000000000000002', 1, '{"entry":1}', x'6dd07cf5217cd0eb854504439b03c929e6500f69be3e4f7ee2038ded6ed92376');
INSERT INTO journal VALUES (x'01a20846fe0072028000000000000002', 2, '{"entry":2}', x'8df8cc1b10c78683ee646b9db13c72f12c029151805640c18557a14ecc208240');
INSERT INTO accounts VALUES ('day 2026-11-23', 3300, 2000, 230, 150, 0, 0, 0);
INSERT INTO accounts VALUES ('invocation 01a20846-fe00-7102-8000-000000000002', 3300, 2000, 230, 150, 0, 0, 0);
INSERT INTO accounts VALUES ('session 01a20846-fe00-7101-8000-000000000001', 3300, 2000, 230, 150, 0, 0, 0);
INSERT INTO calls VALUES (1, x'01a20846fe0071028000000000000002', 1, 2, 20780, 100, 2000, 150, '[["invocation",null,null,null],["session",null,null,null],["day",null,null,null]]', 1795435200000000, x'01a20846fe0071018000000000000001', 'reviewer', NULL, 'model-1', 50, 30, 0, 0, 0, 0, 1300);
INSERT INTO calls VALUES (2, x'01a20846fe0071028000000000000002', 2, 1, 20780, 100, 2000, 150, '[["invocation",null,[10000000000000,"a test"],null],["session",null,[10000000000000,"a test"],null],["day",null,[10000000000000,"a test"],null]]', 1795435200000000, x'01a20846fe0071018000000000000001', 'reviewer', NULL, 'model-1', 0, 0, 0, 0, 0, 0, 2000);
INSERT INTO calls VALUES (3, x'01a20846fe0071028000000000000002', 3, 0, 20780, 100, 2000, 150, '[["invocation",null,[10000000000000,"a test"],null],["session",null,[10000000000000,"a test"],null],["day",null,[10000000000000,"a test"],null]]', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO artifacts VALUES (x'01a20846fe0071018000000000000001', '01a20846-fe00-7102-8000-000000000002-result-note.md', x'01a20846fe0071028000000000000002', 'result', 5, '41954b2a68ec0170b074b54f609a87de5bf08220a1ba5436a992679b4714b626', 1795435200000000, 0, 0);
INSERT INTO audit VALUES (2, 1795435200000000, 'granted', x'2bc6b9b63e224e86830f1a20af8b403b84bb908bf68f0c5aba7753088d3192da');
INSERT INTO audit VALUES (3, 1795435200000000, '{"at_us":1795435200000000,"what":"audit_log_trimmed","through":1,"hash":"d83585b6be6ccc0f193ddc52520053667c43de4b4ef587bd640fd4483b77b588"}
', x'2f732e7f1ed814cb0fcb0570ac70e40b8d5be2eb79cfc6fb5b3d395f45331f31');
INSERT INTO audit_start VALUES (1, 1, x'd83585b6be6ccc0f193ddc52520053667c43de4b4ef587bd640fd4483b77b588');
INSERT INTO contents VALUES (x'01a20846fe0071018000000000000001', '01a20846-fe00-7102-8000-000000000002-result-note.md', 'a', x'6e6f746564');
