//! The writer's statements, prepared once per connection.

use rusqlite::{Connection, Statement};

use crate::audit::{APPEND_AUDIT, AUDIT_HEAD};

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $sql:expr;)*) => {
        /// The writer's statements.
        pub(crate) struct Statements<'c> {
            $($(#[$doc])* pub(crate) $name: Statement<'c>,)*
        }

        impl<'c> Statements<'c> {
            pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Self { $($name: connection.prepare($sql)?,)* })
            }
        }
    };
}

statements! {
    begin: "BEGIN IMMEDIATE";
    commit: "COMMIT";
    data_version: "PRAGMA data_version";
    number: "SELECT value FROM meta WHERE name = ?1";
    set_number: "UPDATE meta SET value = ?2 WHERE name = ?1";

    lease: "SELECT node, epoch, until, ttl FROM sessions WHERE session = ?1";
    set_lease: "INSERT INTO sessions (session, node, epoch, until, ttl) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (session) DO UPDATE SET node = ?2, epoch = ?3, until = ?4, ttl = ?5";
    cap_leases: "UPDATE sessions SET until = ?1 + ttl WHERE node IS NOT NULL AND until > ?1 AND until - ttl > ?1";
    pin: "UPDATE sessions SET pinned = ?2 WHERE session = ?1";

    invocation: "SELECT i.session, i.finished_at IS NOT NULL, i.resumable,
            coalesce((SELECT max(sequence) FROM journal WHERE invocation = i.invocation), 0),
            (SELECT max(effect) FROM calls WHERE invocation = i.invocation AND effect < ?2),
            (SELECT max(effect) FROM calls WHERE invocation = i.invocation AND effect >= ?2 AND state = 0),
            i.hashed_from,
            (SELECT hash FROM journal WHERE invocation = i.invocation ORDER BY sequence DESC LIMIT 1)
        FROM invocations i WHERE i.invocation = ?1";
    invocation_of_key: "SELECT invocation, fingerprint FROM invocations WHERE idempotency_key = ?1";
    insert_invocation: "INSERT INTO invocations
            (invocation, session, agent, model, workflow, title, idempotency_key, fingerprint, started_at, hashed_from)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1)";
    append: "INSERT INTO journal (invocation, sequence, payload, hash) VALUES (?1, ?2, ?3, ?4)";
    payloads: "SELECT payload FROM journal WHERE invocation = ?1 ORDER BY sequence";
    set_hashed_from: "UPDATE invocations SET hashed_from = ?2 WHERE invocation = ?1";
    set_end_hash: "UPDATE invocations SET end_hash = ?2 WHERE invocation = ?1";
    end: "UPDATE invocations SET finished_at = ?2, outcome = ?3, summary = ?4, result = ?5, resumable = ?6,
            end_hash = ?7
        WHERE invocation = ?1";
    reopen: "UPDATE invocations SET finished_at = NULL, outcome = NULL, summary = '', result = '', resumable = 0,
            end_hash = NULL
        WHERE invocation = ?1";

    kill: "SELECT reason, at FROM kill";
    throw_kill: "INSERT INTO kill (id, reason, at) VALUES (1, ?1, ?2)
        ON CONFLICT (id) DO UPDATE SET reason = ?1, at = ?2";
    lift_kill: "DELETE FROM kill";

    account: "SELECT spent_cost, held_cost, spent_tokens, held_tokens, warned_cost, warned_tokens, latched
        FROM accounts WHERE scope = ?1";
    insert_account: "INSERT INTO accounts
            (scope, spent_cost, held_cost, spent_tokens, held_tokens, warned_cost, warned_tokens, latched)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    set_account: "UPDATE accounts SET spent_cost = ?2, held_cost = ?3, spent_tokens = ?4, held_tokens = ?5,
            warned_cost = ?6, warned_tokens = ?7, latched = ?8
        WHERE scope = ?1";
    call: "SELECT state, max_output_tokens, held_cost, held_tokens, scopes, day
        FROM calls WHERE invocation = ?1 AND effect = ?2";
    insert_call: "INSERT INTO calls
            (invocation, effect, state, day, max_output_tokens, held_cost, held_tokens, scopes)
        VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7)";
    delete_call: "DELETE FROM calls WHERE invocation = ?1 AND effect = ?2";
    end_leases_except: "UPDATE sessions SET until = 0 WHERE node IS NOT NULL AND until > 0
        AND node NOT IN (SELECT value FROM json_each(?1))";
    set_hold: "UPDATE calls SET held_cost = ?3, held_tokens = ?4 WHERE invocation = ?1 AND effect = ?2";
    charge_call: "UPDATE calls SET state = ?3, scopes = ?4, at = ?5, session = ?6, agent = ?7, workflow = ?8,
            model = ?9, input_tokens = ?10, output_tokens = ?11, cache_read_tokens = ?12,
            cache_write_5m_tokens = ?13, cache_write_1h_tokens = ?14, thinking_tokens = ?15, cost = ?16
        WHERE invocation = ?1 AND effect = ?2";
    release_call: "UPDATE calls SET state = ?3, scopes = ?4, at = NULL, session = NULL, agent = NULL,
            workflow = NULL, model = NULL, input_tokens = NULL, output_tokens = NULL, cache_read_tokens = NULL,
            cache_write_5m_tokens = NULL, cache_write_1h_tokens = NULL, thinking_tokens = NULL, cost = NULL
        WHERE invocation = ?1 AND effect = ?2";
    lapsed: "SELECT c.invocation, c.effect, i.session, i.agent, i.workflow, i.model
        FROM calls c INDEXED BY calls_open
        JOIN invocations i ON i.invocation = c.invocation
        JOIN sessions s ON s.session = i.session
        WHERE c.state = 0 AND (i.finished_at IS NOT NULL OR s.node IS NULL OR s.until <= ?1)
        ORDER BY c.invocation, c.effect LIMIT ?2";

    held_ahead: "SELECT c.invocation, c.effect, i.session, i.agent, i.workflow, i.model
        FROM calls c INDEXED BY calls_open
        JOIN invocations i ON i.invocation = c.invocation
        WHERE c.state = 0 AND c.effect >= ?1
        ORDER BY c.invocation, c.effect LIMIT ?2";

    artifact: "SELECT path, kind, size, sha256, deleting, derived FROM artifacts WHERE session = ?1 AND path = ?2";
    insert_artifact: "INSERT INTO artifacts (session, path, invocation, kind, size, sha256, created_at, derived)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    delete_artifact: "DELETE FROM artifacts WHERE session = ?1 AND path = ?2 RETURNING size";
    mark_deleting: "UPDATE artifacts SET deleting = 1 WHERE session = ?1 AND path = ?2
            AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session = ?1 AND s.pinned = 1)
            AND NOT EXISTS (SELECT 1 FROM invocations i WHERE i.session = ?1 AND i.finished_at IS NULL)
            AND NOT EXISTS (SELECT 1 FROM unwritten u WHERE u.invocation = artifacts.invocation)
            AND NOT EXISTS (SELECT 1 FROM contents c WHERE c.session = ?1 AND c.path = ?2)";
    insert_content: "INSERT INTO contents (session, path, node, content) VALUES (?1, ?2, ?3, ?4)";
    delete_content: "DELETE FROM contents WHERE session = ?1 AND path = ?2";
    delete_written_content: "DELETE FROM contents WHERE session = ?1 AND path = ?2 AND content = coalesce(?3, content)";
    set_unwritten: "INSERT INTO unwritten (invocation, session, node) VALUES (?1, ?2, ?3)
        ON CONFLICT (invocation) DO UPDATE SET node = ?3";
    delete_unwritten: "DELETE FROM unwritten WHERE invocation = ?1";

    audit_head: AUDIT_HEAD;
    audit_start: "SELECT sequence, hash FROM audit_start";
    audit_place: "SELECT sequence, hash FROM audit WHERE sequence = ?1";
    trim_audit: "DELETE FROM audit WHERE sequence <= ?1";
    set_audit_start: "INSERT INTO audit_start (id, sequence, hash) VALUES (1, ?1, ?2)
        ON CONFLICT (id) DO UPDATE SET sequence = ?1, hash = ?2";
    append_audit: APPEND_AUDIT;
}
