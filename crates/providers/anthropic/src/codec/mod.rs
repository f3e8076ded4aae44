//! The wire format, without I/O: requests to bytes, bytes to model events.
//!
//! ```text
//! bytes -> SseParser -> wire structs -> Reply (blocks by index, usage, stop) -> ModelEvent
//! Conversation + ModelRequest -> encode -> bytes
//! ```
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
