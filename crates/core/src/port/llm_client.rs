//! The port for providers: a request in, a stream of model events out.
//!
//! Streaming is the only path. A provider has one owner of retries above it (the machine): it makes one
//! attempt per call and never retries by itself.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;

use crate::ToolCallId;
use crate::invocation::{ModelFailure, ModelFinish, ModelRequest, ToolFacts};
use crate::message::Block;
use crate::model::{CacheUse, ModelSpec, PriceTable, Usage};

/// A service that answers model calls.
pub trait LlmClient: Send + Sync {
    /// The models this provider can call and what they cost.
    fn prices(&self) -> Arc<PriceTable>;

    /// Makes one call, one attempt. Nothing is sent before the stream is first polled. Dropping the
    /// stream closes the connection.
    ///
    /// The stream ends with exactly one [`ModelEvent::Finished`] or [`ModelEvent::Failed`].
    fn call(&self, call: ModelCall) -> ModelStream;
}

/// What a model call yields.
pub type ModelStream = Pin<Box<dyn Stream<Item = ModelEvent> + Send>>;

/// One model call.
#[derive(Debug, Clone)]
pub struct ModelCall {
    /// What stays the same over all calls of an invocation.
    pub conversation: Arc<Conversation>,
    /// What is said now.
    pub request: ModelRequest,
    /// Time left for this attempt, from the first poll to the last event.
    pub time_left: Duration,
}

/// What stays the same over all calls of an invocation. Built once, so that prompt caches and thinking
/// blocks stay valid.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// The model.
    pub model: Arc<ModelSpec>,
    /// The standing instruction; may be empty.
    pub system_prompt: Arc<str>,
    /// The tools offered, in order.
    pub tools: Vec<ToolFacts>,
    /// Which cache markers to send.
    pub cache: CacheUse,
    /// An opaque id of the end user for the provider's abuse detection; at most 64 characters.
    pub user_id: Option<Arc<str>>,
}

/// What happens while a model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelEvent {
    /// The provider accepted the request.
    Started {
        /// The model that answers, as it names itself.
        model: Arc<str>,
        /// The prompt's usage as far as known.
        usage: Usage,
        /// The provider's id of the request, if it gave one.
        request_id: Option<Arc<str>>,
    },
    /// A piece of text. For listeners only.
    TextDelta {
        /// Position of the block.
        index: u32,
        /// The piece; whole characters.
        text: String,
    },
    /// A piece of thinking. For listeners only.
    ThinkingDelta {
        /// Position of the block.
        index: u32,
        /// The piece; whole characters.
        text: String,
    },
    /// A tool call has begun; its input is still arriving. For listeners only.
    ToolCallStarted {
        /// Position of the block.
        index: u32,
        /// The provider's id of the call.
        id: ToolCallId,
        /// The tool's name, as Otto or else as the model wrote it.
        tool: Arc<str>,
    },
    /// A block is complete.
    BlockFinished {
        /// Position of the block.
        index: u32,
        /// The block.
        block: Arc<Block>,
    },
    /// The stream has proven that the tool call at this position is whole.
    ToolCallConfirmed {
        /// Position of the block.
        index: u32,
    },
    /// The reply ended as the protocol says. Last event.
    Finished(ModelFinish),
    /// The call failed. Last event.
    Failed(ModelFailure),
}
