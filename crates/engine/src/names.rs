//! Names of the OpenTelemetry semantic conventions that Otto uses, in one place.
//!
//! Source: OpenTelemetry semantic conventions for generative AI, status "Development" in 2026, which moved to a
//! repository of their own that year; names may change there, and change here only.

/// What a span does: [`OPERATION_CHAT`], [`OPERATION_TOOL`], [`OPERATION_AGENT`].
pub const OPERATION_NAME: &str = "gen_ai.operation.name";
/// A model call.
pub const OPERATION_CHAT: &str = "chat";
/// A tool call.
pub const OPERATION_TOOL: &str = "execute_tool";
/// An invocation.
pub const OPERATION_AGENT: &str = "invoke_agent";
/// The provider.
pub const PROVIDER_NAME: &str = "gen_ai.provider.name";
/// The model that was asked.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// The output limit of a call.
pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// The model that answered.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Why the model stopped.
pub const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Which tokens a point of the token usage counts: `input` or `output`.
pub const TOKEN_TYPE: &str = "gen_ai.token.type";
/// Tokens in, those of the cache included.
pub const USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens out.
pub const USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Tokens read from the cache.
pub const USAGE_CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
/// Tokens written to the cache.
pub const USAGE_CACHE_WRITE: &str = "gen_ai.usage.cache_creation.input_tokens";
/// The agent.
pub const AGENT_NAME: &str = "gen_ai.agent.name";
/// The session.
pub const CONVERSATION_ID: &str = "gen_ai.conversation.id";
/// The tool.
pub const TOOL_NAME: &str = "gen_ai.tool.name";
/// The provider's id of the tool call.
pub const TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
/// What kind of tool; Otto's are [`TOOL_TYPE_FUNCTION`].
pub const TOOL_TYPE: &str = "gen_ai.tool.type";
/// A function that the client runs.
pub const TOOL_TYPE_FUNCTION: &str = "function";
/// The kind of an error.
pub const ERROR_TYPE: &str = "error.type";
/// Status code of a response.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// The workflow; Otto's own.
pub const WORKFLOW_ID: &str = "otto.workflow.id";
/// The task; Otto's own.
pub const TASK_ID: &str = "otto.task.id";
/// The invocation; Otto's own.
pub const INVOCATION_ID: &str = "otto.invocation.id";
/// The outcome; Otto's own.
pub const OUTCOME: &str = "otto.outcome";
/// Money charged, in picodollars; Otto's own.
pub const CHARGED_PICODOLLARS: &str = "otto.charged_picodollars";
