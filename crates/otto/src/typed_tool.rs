//! Own tools from a typed input: a struct, its derived schema, and an async function.
//!
//! Such a tool runs in this process as trusted code; permissions it states are compared with the agent's grant,
//! the kernel is not involved.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use otto_core::ToolName;
use otto_core::id::InvalidId;
use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::Permissions;
use otto_core::port::BoxFuture;
use otto_core::port::tool::{Tool, ToolContext, ToolDefinition, ToolError, ToolOutput};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// A tool made of an input type and a function.
///
/// ```
/// use otto::{ToolError, TypedTool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Add {
///     /// First number.
///     a: i64,
///     /// Second number.
///     b: i64,
/// }
///
/// let tool = TypedTool::looking("add", "Adds two whole numbers.", |input: Add| async move {
///     let sum = input.a.checked_add(input.b);
///     sum.map(|sum| sum.to_string()).ok_or_else(|| ToolError::for_model("the sum is too large"))
/// })?;
/// # Ok::<(), otto::InvalidId>(())
/// ```
pub struct TypedTool {
    definition: ToolDefinition,
    call: Function,
}

type Call = BoxFuture<'static, Result<ToolOutput, ToolError>>;
type Function = Box<dyn Fn(&ToolContext, &str) -> Call + Send + Sync>;

/// How long a call may take unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
/// BOUND: output the model gets unless said otherwise.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

impl TypedTool {
    /// A tool that only looks: it may run in parallel, while the model still streams, and again after a crash.
    ///
    /// # Errors
    /// When the name is not a tool name.
    pub fn looking<I, F, R>(name: &str, description: &str, function: F) -> Result<Self, InvalidId>
    where
        I: DeserializeOwned + JsonSchema,
        F: Fn(I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, ToolError>> + Send + 'static,
    {
        Self::of(
            name,
            description,
            SideEffects::None,
            Repeatability::Repeatable,
            move |_context, input| function(input),
        )
    }

    /// A tool that changes something: its intent is durable before it runs, and after a crash in the middle
    /// `repeatability` decides what happens.
    ///
    /// # Errors
    /// When the name is not a tool name.
    pub fn changing<I, F, R>(
        name: &str,
        description: &str,
        repeatability: Repeatability,
        function: F,
    ) -> Result<Self, InvalidId>
    where
        I: DeserializeOwned + JsonSchema,
        F: Fn(I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, ToolError>> + Send + 'static,
    {
        Self::of(
            name,
            description,
            SideEffects::Some,
            repeatability,
            move |_context, input| function(input),
        )
    }

    /// As [`TypedTool::looking`], for a function that is told who calls and what is left, and that shares data with
    /// the other tools of its invocation ([`ToolContext::data`]).
    ///
    /// # Errors
    /// When the name is not a tool name.
    pub fn looking_in_context<I, F, R>(
        name: &str,
        description: &str,
        function: F,
    ) -> Result<Self, InvalidId>
    where
        I: DeserializeOwned + JsonSchema,
        F: Fn(I, ToolContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, ToolError>> + Send + 'static,
    {
        Self::of(
            name,
            description,
            SideEffects::None,
            Repeatability::Repeatable,
            move |context: &ToolContext, input| function(input, context.clone()),
        )
    }

    /// As [`TypedTool::changing`], for a function that is told who calls and what is left, and that shares data with
    /// the other tools of its invocation ([`ToolContext::data`]).
    ///
    /// # Errors
    /// When the name is not a tool name.
    pub fn changing_in_context<I, F, R>(
        name: &str,
        description: &str,
        repeatability: Repeatability,
        function: F,
    ) -> Result<Self, InvalidId>
    where
        I: DeserializeOwned + JsonSchema,
        F: Fn(I, ToolContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, ToolError>> + Send + 'static,
    {
        Self::of(
            name,
            description,
            SideEffects::Some,
            repeatability,
            move |context: &ToolContext, input| function(input, context.clone()),
        )
    }

    /// A tool whose function is called with the context as it comes.
    fn of<I, F, R>(
        name: &str,
        description: &str,
        side_effects: SideEffects,
        repeatability: Repeatability,
        function: F,
    ) -> Result<Self, InvalidId>
    where
        I: DeserializeOwned + JsonSchema,
        F: Fn(&ToolContext, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, ToolError>> + Send + 'static,
    {
        let schema = schemars::schema_for!(I);
        let schema = serde_json::to_string(&schema).expect("a schema is a JSON value");
        Ok(Self {
            definition: ToolDefinition {
                name: ToolName::new(name)?,
                description: Arc::from(description),
                input_schema: Arc::from(schema),
                permissions: Permissions::NONE,
                side_effects,
                repeatability,
                timeout: TIMEOUT,
                max_output_bytes: MAX_OUTPUT_BYTES,
            },
            call: Box::new(
                move |context, input| match serde_json::from_str::<I>(input) {
                    Ok(input) => {
                        let running = function(context, input);
                        Box::pin(async move { running.await.map(|content| ToolOutput { content }) })
                    }
                    Err(error) => Box::pin(std::future::ready(Err(ToolError::for_model(format!(
                        "the input does not fit the tool's schema: {error}"
                    ))))),
                },
            ),
        })
    }

    /// States the permissions that each call needs.
    #[must_use]
    pub const fn permissions(mut self, permissions: Permissions) -> Self {
        self.definition.permissions = permissions;
        self
    }

    /// Ends a call that takes longer.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.definition.timeout = timeout;
        self
    }

    /// Cuts longer output, with a note to the model.
    #[must_use]
    pub const fn max_output_bytes(mut self, bytes: usize) -> Self {
        self.definition.max_output_bytes = bytes;
        self
    }
}

impl Tool for TypedTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn call<'a>(
        &'a self,
        ctx: &'a ToolContext,
        input: &'a str,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        (self.call)(ctx, input)
    }
}
