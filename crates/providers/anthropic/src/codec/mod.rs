//! The wire format, without I/O: requests to bytes, bytes to model events.
//!
//! ```text
//! bytes -> SseParser -> wire structs -> Reply (blocks by index, usage, stop) -> ModelEvent
//! Conversation + ModelRequest -> encode -> bytes
//! ```
//!
//! Decisions where the protocol leaves room, each held by a test:
//!
//! | what comes | what happens |
//! | --- | --- |
//! | an unknown event, delta or block type | skipped; an unknown block keeps its place and its raw form |
//! | an event name that disagrees with the type in its data | protocol error |
//! | invalid UTF-8, or half of a surrogate pair, in an event | protocol error, never a replacement |
//! | a step out of order or a second time, a delta for a block that is not open | protocol error |
//! | blocks that interleave | put together by index |
//! | a tool call with the id of an earlier one | left out: it could not be answered or sent back |
//! | a tool input that is no object, names a key twice or is too deep or too long | an invalid call, told to the model |
//! | an end after the stop reason but without `message_stop` | a good end |
//! | a usage that is missing, nonsense, too small for what came or not priced by tokens alone | none: the hold is charged |
//! | more output than the output limit can hold | protocol error; the connection is closed |
//!
//! Nothing here reads a clock, opens a socket or knows the key; simulators and fuzzers drive it directly.
//!
//! Invariant: the events depend on the bytes alone, never on how they were cut into chunks.

mod block;
mod decode;
mod encode;
mod json_text;
mod reply;
mod sse;
mod tool_input;
mod usage;
mod wire;
mod wire_tools;

pub use block::MAX_TOOL_INPUT_BYTES;
pub use decode::{DecodeContext, Decoder, StreamEnd};
pub use encode::{EncodeError, EncodeOptions, MAX_REQUEST_BYTES, encode};
pub use reply::{MAX_BLOCKS, MAX_BYTES_PER_TOKEN, MAX_REPLY_BYTES};
pub use sse::{MAX_EVENT_BYTES, SseError, SseEvent, SseParser};
pub use tool_input::{InvalidToolInput, check_tool_input};
pub use wire_tools::WireTools;

pub(crate) use wire::ErrorBody;
