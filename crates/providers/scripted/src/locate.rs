//! Which turn of which conversation answers a request.
//!
//! The number of assistant messages says how many turns were played. Conditions and repeats of earlier turns
//! are evaluated again for the state they saw, so the answer is a function of the request alone. A compacted
//! history says how many it stands for; a request for a summary is answered by the conversation's `summary`.
//!
//! Invariant: equal requests get the same turn, on this server and on any other with the same script.

use crate::expr::{Failure, Scope, Work};
use crate::history::History;
use crate::script::{Conversation, Repeat, Script, Turn, shown};

/// The turn that answers a request.
pub(crate) struct Located<'s> {
    pub(crate) conversation: &'s Conversation,
    pub(crate) turn: &'s Turn,
    /// Which scripted turn each assistant message so far played.
    pub(crate) played: Vec<usize>,
}

/// Finds the turn.
///
/// # Errors
/// When no conversation applies or the one that does has no turn left.
pub(crate) fn locate<'s>(
    script: &'s Script,
    history: &History<'_>,
    work: &Work,
) -> Result<Located<'s>, Failure> {
    for conversation in &script.conversations {
        let scope = Scope {
            conversation,
            history,
            turn: 0,
            played: &[],
            item: None,
            work,
        };
        if all_hold(&conversation.when, &scope)? {
            if history.asks_for_summary {
                return Ok(Located {
                    conversation,
                    turn: &conversation.summary,
                    played: (0..history.assistant_messages).collect(),
                });
            }
            let (played, turn) = turn_of(conversation, history, work)?;
            return Ok(Located {
                conversation,
                turn,
                played,
            });
        }
    }
    let names: Vec<&str> = script
        .conversations
        .iter()
        .map(|conversation| conversation.name.as_str())
        .take(20)
        .collect();
    Err(Failure(format!(
        "no conversation of script `{}` applies to the task `{}`: their `when` all failed ({})",
        shown(&script.name),
        shown(&history.task()),
        names.join(", ")
    )))
}

fn turn_of<'s>(
    conversation: &'s Conversation,
    history: &History<'_>,
    work: &Work,
) -> Result<(Vec<usize>, &'s Turn), Failure> {
    let messages = history.assistant_messages;
    let exhausted = || {
        Failure(format!(
            "`{}` has no turn for message {} of this conversation: add a turn, or `repeat: forever` to the last one",
            shown(&conversation.name),
            messages.saturating_add(1)
        ))
    };
    if conversation.is_straight() {
        let turn = conversation.turns.get(messages).ok_or_else(exhausted)?;
        return Ok(((0..messages).collect(), turn));
    }
    let mut played = Vec::with_capacity(messages);
    let mut index = 0;
    let mut times = 0;
    loop {
        let turn = loop {
            let turn = conversation.turns.get(index).ok_or_else(exhausted)?;
            let scope = Scope {
                conversation,
                history,
                turn: played.len(),
                played: &played,
                item: None,
                work,
            };
            let left = match turn.repeat {
                Repeat::Forever => true,
                Repeat::Times(most) => times < most,
            };
            if left && all_hold(&turn.when, &scope)? {
                break turn;
            }
            index += 1;
            times = 0;
        };
        if played.len() == messages {
            return Ok((played, turn));
        }
        played.push(index);
        times += 1;
    }
}

fn all_hold(conditions: &[crate::expr::Expr], scope: &Scope<'_>) -> Result<bool, Failure> {
    for condition in conditions {
        if !condition.holds(scope)? {
            return Ok(false);
        }
    }
    Ok(true)
}
