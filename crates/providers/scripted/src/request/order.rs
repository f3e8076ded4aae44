//! Second pass: the order of messages, the pairing of tool calls and results, the cache markers.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::object::Checked;
use super::{BlockKind, Entry, Request, Role, Ttl};
use crate::error::ApiError;

const MARKERS: usize = 4;

/// Checks what no single block can know.
pub(super) fn check(request: &Request<'_>) -> Checked<()> {
    check_roles(&request.entries)?;
    check_tool_ids(&request.entries)?;
    check_pairs(&request.entries)?;
    check_markers(request)
}

/// Consecutive entries of one role: one turn.
struct Turn<'r, 'a> {
    role: Role,
    /// Index of the turn's first entry in `messages`.
    first: usize,
    entries: &'r [Entry<'a>],
}

impl<'r, 'a> Turn<'r, 'a> {
    /// The blocks with the index of their entry and their index in it.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, &'r BlockKind<'a>)> + use<'r, 'a> {
        let first = self.first;
        self.entries
            .iter()
            .enumerate()
            .flat_map(move |(offset, entry)| {
                entry
                    .blocks
                    .iter()
                    .enumerate()
                    .map(move |(index, block)| (first + offset, index, &block.kind))
            })
    }

    const fn last(&self) -> usize {
        self.first + self.entries.len() - 1
    }
}

fn turns<'r, 'a>(entries: &'r [Entry<'a>]) -> Vec<Turn<'r, 'a>> {
    let mut first = 0;
    entries
        .chunk_by(|a, b| a.role == b.role)
        .map(|entries| {
            let turn = Turn {
                role: entries[0].role,
                first,
                entries,
            };
            first += entries.len();
            turn
        })
        .collect()
}

fn check_roles(entries: &[Entry<'_>]) -> Checked<()> {
    let turns = turns(entries);
    match turns.first() {
        Some(turn) if turn.role == Role::User => {}
        _ => {
            return Err(ApiError::invalid(
                "messages: first message must use the \"user\" role",
            ));
        }
    }
    for (before, system) in turns
        .iter()
        .zip(&turns[1..])
        .filter(|(_, turn)| turn.role == Role::System)
    {
        let after_server_tool = before
            .blocks()
            .last()
            .is_some_and(|(_, _, kind)| matches!(kind, BlockKind::Other { name, .. } if name.ends_with("_tool_result")));
        if before.role != Role::User && !after_server_tool {
            return Err(ApiError::invalid(format!(
                "messages.{}: a `system` message must directly follow a `user` message or a server tool result",
                system.first
            )));
        }
    }
    for (system, after) in turns
        .iter()
        .zip(&turns[1..])
        .filter(|(turn, _)| turn.role == Role::System)
    {
        if after.role != Role::Assistant {
            return Err(ApiError::invalid(format!(
                "messages.{}: a `system` message must be last or be followed by an `assistant` message",
                system.first
            )));
        }
    }
    Ok(())
}

fn check_tool_ids(entries: &[Entry<'_>]) -> Checked<()> {
    let mut seen = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        for (position, block) in entry.blocks.iter().enumerate() {
            if let BlockKind::ToolUse { id, .. } = block.kind
                && !seen.insert(id)
            {
                return Err(ApiError::invalid(format!(
                    "messages.{index}.content.{position}: `tool_use` ids must be unique"
                )));
            }
        }
    }
    Ok(())
}

/// Every call has exactly one result at the head of the next user turn, and every result has a call.
fn check_pairs(entries: &[Entry<'_>]) -> Checked<()> {
    let turns = turns(entries);
    let mut called: HashSet<&str> = HashSet::new();
    for (position, turn) in turns.iter().enumerate() {
        match turn.role {
            Role::System => {}
            Role::Assistant => {
                called = turn
                    .blocks()
                    .filter_map(|(_, _, kind)| call_id(kind))
                    .collect();
                let answered: HashSet<&str> = match turns.get(position + 1) {
                    Some(next) if next.role == Role::User => next
                        .blocks()
                        .map_while(|(_, _, kind)| result_id(kind))
                        .collect(),
                    _ => HashSet::new(),
                };
                let open: Vec<&str> = turn
                    .blocks()
                    .filter_map(|(_, _, kind)| call_id(kind))
                    .filter(|id| !answered.contains(id))
                    .collect();
                if !open.is_empty() {
                    return Err(ApiError::invalid(format!(
                        "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. \
                         Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
                        turn.last(),
                        open.join(", ")
                    )));
                }
            }
            Role::User => {
                let mut answered = HashSet::new();
                for (entry, index, id) in turn
                    .blocks()
                    .filter_map(|(entry, index, kind)| Some((entry, index, result_id(kind)?)))
                {
                    if !called.contains(id) {
                        return Err(ApiError::invalid(format!(
                            "messages.{entry}.content.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. \
                             Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                        )));
                    }
                    if !answered.insert(id) {
                        return Err(ApiError::invalid(format!(
                            "messages.{entry}.content.{index}: each tool_use must have a single result. \
                             Found multiple `tool_result` blocks with id: {id}"
                        )));
                    }
                }
                check_server_tools(&turns, position)?;
                called.clear();
            }
        }
    }
    Ok(())
}

/// After an open server tool call the user turn may hold only the results of the client's calls.
fn check_server_tools(turns: &[Turn<'_, '_>], position: usize) -> Checked<()> {
    let Some(before) = position.checked_sub(1).and_then(|index| turns.get(index)) else {
        return Ok(());
    };
    let finished: HashSet<&str> = before
        .blocks()
        .filter_map(|(_, _, kind)| match kind {
            BlockKind::Other { name, json } if name.ends_with("_tool_result") => {
                json.get("tool_use_id")?.as_str()
            }
            _ => None,
        })
        .collect();
    let open = before.blocks().find_map(|(_, _, kind)| match kind {
        BlockKind::Other {
            name: "server_tool_use",
            json,
        } => {
            let id = json.get("id")?.as_str()?;
            if finished.contains(id) {
                None
            } else {
                Some((id, json.get("name")?.as_str()?))
            }
        }
        _ => None,
    });
    let only_results = turns[position]
        .blocks()
        .all(|(_, _, kind)| result_id(kind).is_some());
    match open {
        Some((id, tool)) if !only_results => Err(ApiError::invalid(format!(
            "`{tool}` tool use with id `{id}` was found without a corresponding `{tool}_tool_result` block"
        ))),
        _ => Ok(()),
    }
}

const fn call_id<'a>(kind: &BlockKind<'a>) -> Option<&'a str> {
    match kind {
        BlockKind::ToolUse { id, .. } => Some(id),
        _ => None,
    }
}

const fn result_id<'a>(kind: &BlockKind<'a>) -> Option<&'a str> {
    match kind {
        BlockKind::ToolResult { id, .. } => Some(id),
        _ => None,
    }
}

fn check_markers(request: &Request<'_>) -> Checked<()> {
    let tools = request
        .tools
        .iter()
        .enumerate()
        .map(|(index, tool)| (tool.cache, ("tools", index, None)));
    let system = request
        .system
        .iter()
        .enumerate()
        .map(|(index, block)| (block.cache, ("system", index, None)));
    let messages = request
        .entries
        .iter()
        .enumerate()
        .flat_map(|(index, entry)| {
            entry
                .blocks
                .iter()
                .enumerate()
                .map(move |(position, block)| (block.cache, ("messages", index, Some(position))))
        });
    let mut found = usize::from(request.automatic_cache.is_some());
    let mut five_minutes_before = false;
    for (ttl, (level, index, position)) in tools
        .chain(system)
        .chain(messages)
        .filter_map(|(ttl, at)| Some((ttl?, at)))
    {
        found += 1;
        if ttl == Ttl::OneHour && five_minutes_before {
            let mut place = format!("{level}.{index}");
            if let Some(position) = position {
                write!(place, ".content.{position}").expect("writing to a String cannot fail");
            }
            return Err(ApiError::invalid(format!(
                "{place}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. \
                 Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )));
        }
        five_minutes_before |= ttl == Ttl::FiveMinutes;
    }
    if found > MARKERS {
        return Err(ApiError::invalid(format!(
            "A maximum of 4 blocks with cache_control may be provided. Found {found}."
        )));
    }
    Ok(())
}
