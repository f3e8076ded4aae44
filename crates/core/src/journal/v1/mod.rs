//! Version 1 of the journal: which event becomes which record.
//!
//! Invariant: frozen. What is written here today is read for ever; a change of meaning or shape is a new
//! version beside this one. Golden files in `tests/golden/journal-v1/` hold it to that.

mod money;
mod reply;
mod spec;
mod value;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Timestamp;
use crate::id::EffectId;
use crate::invocation::{CancelReason, Event};
use crate::journal::{JournalError, write_line};

use money::{DenialRecord, GrantRecord};
use reply::{BlockRecord, FailureRecord, FinishRecord, ToolResultRecord};
use spec::{ResumptionRecord, SpecRecord};
use value::Word;

const STARTED: &str = "started";
const RESUMED: &str = "resumed";
const RESERVATION_GRANTED: &str = "reservation_granted";
const RESERVATION_DENIED: &str = "reservation_denied";
const RESERVATION_REFUSED: &str = "reservation_refused";
const BLOCK_RECEIVED: &str = "block_received";
const TOOL_CALL_RECEIVED: &str = "tool_call_received";
const MODEL_FINISHED: &str = "model_finished";
const MODEL_FAILED: &str = "model_failed";
const TOOL_FINISHED: &str = "tool_finished";
const TIMER_FIRED: &str = "timer_fired";
const CANCEL_REQUESTED: &str = "cancel_requested";

pub(super) fn encode(line: &mut Vec<u8>, at: Timestamp, event: &Event) {
    match event {
        Event::Started(spec) => write_line(line, at, STARTED, &SpecRecord::of(spec)),
        Event::Resumed(resumption) => {
            write_line(line, at, RESUMED, &ResumptionRecord::of(resumption))
        }
        Event::ReservationGranted { effect, grant } => write_line(
            line,
            at,
            RESERVATION_GRANTED,
            &Granted {
                effect: effect.0,
                grant: GrantRecord::of(grant),
            },
        ),
        Event::ReservationDenied { effect, denial } => write_line(
            line,
            at,
            RESERVATION_DENIED,
            &Denied {
                effect: effect.0,
                denial: DenialRecord::of(denial),
            },
        ),
        Event::ReservationRefused { effect, reason } => write_line(
            line,
            at,
            RESERVATION_REFUSED,
            &Refused {
                effect: effect.0,
                reason: Word(*reason),
            },
        ),
        Event::BlockReceived {
            effect,
            index,
            block,
        } => write_line(
            line,
            at,
            BLOCK_RECEIVED,
            &Received {
                effect: effect.0,
                index: *index,
                block: BlockRecord::of(block),
            },
        ),
        Event::ToolCallReceived { effect, index } => write_line(
            line,
            at,
            TOOL_CALL_RECEIVED,
            &Confirmed {
                effect: effect.0,
                index: *index,
            },
        ),
        Event::ModelFinished { effect, finish } => write_line(
            line,
            at,
            MODEL_FINISHED,
            &Finished {
                effect: effect.0,
                finish: FinishRecord::of(finish),
            },
        ),
        Event::ModelFailed { effect, failure } => write_line(
            line,
            at,
            MODEL_FAILED,
            &Failed {
                effect: effect.0,
                failure: FailureRecord::of(failure),
            },
        ),
        Event::ToolFinished { effect, result } => write_line(
            line,
            at,
            TOOL_FINISHED,
            &Answered {
                effect: effect.0,
                result: ToolResultRecord::of(result),
            },
        ),
        Event::TimerFired { effect } => {
            write_line(line, at, TIMER_FIRED, &Due { effect: effect.0 })
        }
        Event::CancelRequested(reason) => write_line(
            line,
            at,
            CANCEL_REQUESTED,
            &CancelRequested {
                reason: Word(*reason),
            },
        ),
    }
}

pub(super) fn decode(kind: &str, event: &RawValue) -> Result<Event, JournalError> {
    let json = event.get();
    Ok(match kind {
        STARTED => Event::Started(Arc::new(read::<SpecRecord<'_>>(json)?.restore()?)),
        RESUMED => Event::Resumed(Arc::new(read::<ResumptionRecord<'_>>(json)?.restore()?)),
        RESERVATION_GRANTED => {
            let Granted { effect, grant } = read(json)?;
            Event::ReservationGranted {
                effect: EffectId(effect),
                grant: grant.restore(),
            }
        }
        RESERVATION_DENIED => {
            let Denied { effect, denial } = read(json)?;
            Event::ReservationDenied {
                effect: EffectId(effect),
                denial: Box::new(denial.restore()),
            }
        }
        RESERVATION_REFUSED => {
            let Refused { effect, reason } = read(json)?;
            Event::ReservationRefused {
                effect: EffectId(effect),
                reason: reason.0,
            }
        }
        BLOCK_RECEIVED => {
            let Received {
                effect,
                index,
                block,
            } = read(json)?;
            Event::BlockReceived {
                effect: EffectId(effect),
                index,
                block: Arc::new(block.restore()),
            }
        }
        TOOL_CALL_RECEIVED => {
            let Confirmed { effect, index } = read(json)?;
            Event::ToolCallReceived {
                effect: EffectId(effect),
                index,
            }
        }
        MODEL_FINISHED => {
            let Finished { effect, finish } = read(json)?;
            Event::ModelFinished {
                effect: EffectId(effect),
                finish: finish.restore(),
            }
        }
        MODEL_FAILED => {
            let Failed { effect, failure } = read(json)?;
            Event::ModelFailed {
                effect: EffectId(effect),
                failure: failure.restore()?,
            }
        }
        TOOL_FINISHED => {
            let Answered { effect, result } = read(json)?;
            Event::ToolFinished {
                effect: EffectId(effect),
                result: result.restore()?,
            }
        }
        TIMER_FIRED => {
            let Due { effect } = read(json)?;
            Event::TimerFired {
                effect: EffectId(effect),
            }
        }
        CANCEL_REQUESTED => {
            let CancelRequested { reason } = read(json)?;
            Event::CancelRequested(reason.0)
        }
        unknown => return Err(JournalError::unknown_type(unknown)),
    })
}

fn read<'a, R: Deserialize<'a>>(json: &'a str) -> Result<R, JournalError> {
    serde_json::from_str(json).map_err(|error| JournalError::malformed(&error))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    effect: u64,
    grant: GrantRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Denied<'a> {
    effect: u64,
    #[serde(borrow)]
    denial: DenialRecord<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    effect: u64,
    reason: Word<CancelReason>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Received<'a> {
    effect: u64,
    index: u32,
    #[serde(borrow)]
    block: BlockRecord<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    effect: u64,
    index: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finished<'a> {
    effect: u64,
    #[serde(borrow)]
    finish: FinishRecord<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed<'a> {
    effect: u64,
    #[serde(borrow)]
    failure: FailureRecord<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered<'a> {
    effect: u64,
    #[serde(borrow)]
    result: ToolResultRecord<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Due {
    effect: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelRequested {
    reason: Word<CancelReason>,
}
