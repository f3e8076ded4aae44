//! Rules of tool calls: which may run, when, and how often.

use otto_core::id::EffectId;
use otto_core::invocation::{Repeatability, SideEffects, ToolRequest, UnknownCallDecision};

use crate::oracle::{Circumstances, Known, Running, Sight};
use crate::rule::{Held, Rule, require};

impl Sight {
    pub(super) fn runs_tool(
        &mut self,
        known: &mut Known,
        effect: EffectId,
        request: &ToolRequest,
        at: Circumstances,
    ) -> Held {
        let id = (request.call.clone(), request.input.clone());
        let whole = |holds: bool, what: &str| {
            require(holds, Rule::OnlyWholeCalls, || {
                format!("call {}: {what}", request.call)
            })
        };
        let facts = known.calls.get(&id);
        whole(facts.is_some(), "the model never made it with this input")?;
        let Some(facts) = facts else { return Ok(()) };
        whole(facts.is_runnable, "its tool or its input does not exist")?;
        whole(&*facts.tool == request.tool.as_str(), "another tool is run")?;
        whole(
            facts.side_effects == request.side_effects,
            "its side effects are denied",
        )?;
        let has_side_effects = facts.side_effects == SideEffects::Some;
        if has_side_effects {
            whole(facts.is_whole, "it was cut off")?;
            whole(known.proven.contains(&id), "it was not proven whole")?;
            require(at.is_durable, Rule::DurableIntent, || {
                format!("call {} begins, and a crash would forget it", request.call)
            })?;
        }
        self.stands_alone(request, has_side_effects)?;
        self.runs_once(known, request, has_side_effects)?;
        let running = Running {
            call: request.call.clone(),
            has_side_effects,
            is_stopped: false,
        };
        self.running.insert(effect, running);
        Ok(())
    }

    fn stands_alone(&self, request: &ToolRequest, has_side_effects: bool) -> Held {
        let others = || self.running.values().filter(|running| !running.is_stopped);
        let alone = |holds: bool, what: &str| {
            require(holds, Rule::Barrier, || {
                format!("call {}: {what}", request.call)
            })
        };
        alone(
            !others().any(|running| running.has_side_effects),
            "it begins beside one with side effects",
        )?;
        alone(
            !has_side_effects || others().count() == 0,
            "with side effects, it begins beside others",
        )?;
        let limit = self.spec.limits.parallel_tools.max(1) as usize;
        alone(others().count() < limit, "too many run at once")
    }

    fn runs_once(
        &mut self,
        known: &mut Known,
        request: &ToolRequest,
        has_side_effects: bool,
    ) -> Held {
        let again = |what: &str| format!("call {} runs again: {what}", request.call);
        let is_first_here = self.started.insert(request.call.clone());
        require(is_first_here, Rule::RunsOnce, || {
            again("in the same stretch")
        })?;
        if !has_side_effects {
            return Ok(());
        }
        let count = known.executed.entry(request.call.clone()).or_insert(0);
        *count += 1;
        let tool = self
            .spec
            .tools
            .iter()
            .find(|tool| tool.name == request.tool);
        let may_repeat = match tool.map(|tool| tool.repeatability) {
            Some(Repeatability::Repeatable) => true,
            Some(Repeatability::AskPerson) => self.decision == Some(UnknownCallDecision::RunAgain),
            Some(Repeatability::Unknown) | None => false,
        };
        require(*count == 1 || may_repeat, Rule::RunsOnce, || {
            again("its tool does not allow it")
        })
    }
}
