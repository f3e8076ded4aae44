//! A base tool as the main process sees it: check the input, name the grant, hand over.
//!
//! It opens no path and resolves no name; the host does that on the other side of the boundary.
//!
//! Invariant: the host is told of nothing that the tool's permissions do not need.

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::ToolName;
use otto_core::policy::{Permission, Permissions};
use otto_core::port::BoxFuture;
use otto_core::port::tool::{Tool, ToolContext, ToolDefinition, ToolError, ToolOutput};
use otto_core::port::tool_host::{HostGrant, HostRequest, ToolHost};

use crate::base_tool::BaseTool;
use crate::text::cut;
use crate::tool_policy::ToolPolicy;

pub(crate) struct HostedTool {
    tool: &'static BaseTool,
    definition: ToolDefinition,
    policy: ToolPolicy,
    host: Arc<dyn ToolHost>,
}

impl HostedTool {
    pub(crate) fn new(
        tool: &'static BaseTool,
        host: Arc<dyn ToolHost>,
        policies: &BTreeMap<ToolName, ToolPolicy>,
    ) -> Self {
        let definition = tool.definition();
        let policy = policies.get(&definition.name).cloned().unwrap_or_default();
        Self {
            tool,
            definition: policy.narrowed(definition),
            policy,
            host,
        }
    }

    /// What the host is told. Whether the call may run at all was decided on the ToolBus; here a right that
    /// is missing is not handed out, so the worker refuses. In audit mode it is handed out and marked, so that
    /// a host outside of audit mode still refuses.
    fn grant(&self, ctx: &ToolContext) -> HostGrant {
        let needed = self.definition.permissions;
        let beyond = match ctx.audit {
            Some(_) => needed.without(ctx.granted),
            None => Permissions::NONE,
        };
        let permissions = needed.intersection(ctx.granted).union(beyond);
        let reads = permissions.contains(Permission::Read);
        let files = reads
            || permissions.contains(Permission::Write)
            || permissions.contains(Permission::Exec);
        let net = permissions.contains(Permission::Net);
        let roots = ctx
            .agent
            .roots
            .iter()
            .map(|(name, root)| (Arc::clone(name), root.path.clone()));
        HostGrant {
            permissions,
            beyond,
            working_dir: ctx.agent.working_dir.clone().filter(|_| files),
            roots: if reads { roots.collect() } else { Vec::new() },
            allowed_hosts: if net {
                ctx.agent.allowed_hosts.clone()
            } else {
                Vec::new()
            },
        }
    }
}

impl Tool for HostedTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn call<'a>(
        &'a self,
        ctx: &'a ToolContext,
        input: &'a str,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            (self.tool.check)(input)?;
            let request = HostRequest {
                agent: ctx.agent.name.clone(),
                tool: self.definition.name.clone(),
                input: Arc::from(input),
                grant: self.grant(ctx),
                settings: self
                    .policy
                    .over(ctx.agent.tool_settings.get(&self.definition.name)),
                time_left: ctx.time_left.min(self.definition.timeout),
                cancellation: Arc::clone(&ctx.cancellation),
                audit: ctx.audit.clone(),
            };
            let max = self.definition.max_output_bytes;
            match self.host.run(request).await {
                Ok(output) => Ok(ToolOutput {
                    content: cut(output.content, max),
                }),
                Err(error) => Err(ToolError {
                    message: cut(error.message, max),
                    ..error
                }),
            }
        })
    }
}
