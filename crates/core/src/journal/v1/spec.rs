//! Records of version 1 about what an invocation is told: its spec, its model, its limits.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::money::ScopeLimitsRecord;
use super::value::{LimitRecord, Picodollars, Span, Text, Word, arc};
use crate::compaction::CompactionRule;
use crate::invocation::{
    InvocationLimits, InvocationSpec, Repeatability, Resumption, SideEffects, ToolFacts,
    UnknownCallDecision,
};
use crate::journal::JournalError;
use crate::model::{CacheUse, LongContextTier, ModelSpec, TokenPrices};
use crate::transcript::DEFAULT_MESSAGES;
use crate::{AgentName, InvocationId, ModelId, SessionId, TaskId, ToolName, WorkflowId};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpecRecord<'a> {
    invocation: Text<InvocationId>,
    session: Text<SessionId>,
    task: Text<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workflow: Option<Text<WorkflowId>>,
    agent: Text<AgentName>,
    model: ModelRecord,
    cache: Word<CacheUse>,
    #[serde(borrow)]
    system_prompt: Cow<'a, str>,
    #[serde(borrow)]
    tools: Vec<ToolFactsRecord<'a>>,
    #[serde(borrow)]
    input: Cow<'a, str>,
    #[serde(borrow)]
    limits: LimitsRecord<'a>,
    #[serde(borrow)]
    scopes: Vec<ScopeLimitsRecord<'a>>,
    seed: u64,
    /// Left out where the history is never compacted, as in every journal from before there was compaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compaction: Option<CompactionRecord>,
    /// Left out where it is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transcript_messages: Option<u32>,
    /// Left out where the model is told nothing of its limits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tells_limits: bool,
}

impl<'a> SpecRecord<'a> {
    pub(super) fn of(spec: &'a InvocationSpec) -> Self {
        Self {
            invocation: Text(spec.invocation),
            session: Text(spec.session),
            task: Text(spec.task),
            workflow: spec.workflow.map(Text),
            agent: Text(spec.agent.clone()),
            model: ModelRecord::of(&spec.model),
            cache: Word(spec.cache),
            system_prompt: Cow::Borrowed(&spec.system_prompt),
            tools: spec.tools.iter().map(ToolFactsRecord::of).collect(),
            input: Cow::Borrowed(&spec.input),
            limits: LimitsRecord::of(&spec.limits),
            scopes: spec.scopes.iter().map(ScopeLimitsRecord::of).collect(),
            seed: spec.seed,
            compaction: spec.compaction.map(CompactionRecord::of),
            transcript_messages: (spec.transcript_messages != DEFAULT_MESSAGES)
                .then(|| u32::try_from(spec.transcript_messages).unwrap_or(u32::MAX)),
            tells_limits: spec.tells_limits,
        }
    }

    pub(super) fn restore(self) -> Result<InvocationSpec, JournalError> {
        Ok(InvocationSpec {
            invocation: self.invocation.0,
            session: self.session.0,
            task: self.task.0,
            workflow: self.workflow.map(|workflow| workflow.0),
            agent: self.agent.0,
            model: Arc::new(self.model.restore()),
            cache: self.cache.0,
            system_prompt: arc(&self.system_prompt),
            tools: self
                .tools
                .into_iter()
                .map(ToolFactsRecord::restore)
                .collect(),
            input: arc(&self.input),
            limits: self.limits.restore()?,
            scopes: self
                .scopes
                .into_iter()
                .map(ScopeLimitsRecord::restore)
                .collect::<Result<_, _>>()?,
            seed: self.seed,
            compaction: self.compaction.map(CompactionRecord::restore).transpose()?,
            transcript_messages: self
                .transcript_messages
                .map_or(DEFAULT_MESSAGES, |messages| messages as usize),
            tells_limits: self.tells_limits,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompactionRecord {
    threshold_percent: u8,
}

impl CompactionRecord {
    const fn of(rule: CompactionRule) -> Self {
        Self {
            threshold_percent: rule.threshold_percent(),
        }
    }

    fn restore(self) -> Result<CompactionRule, JournalError> {
        CompactionRule::at_percent(self.threshold_percent).ok_or_else(|| {
            JournalError::impossible(&format!(
                "a compaction at {} % of the window",
                self.threshold_percent
            ))
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumptionRecord<'a> {
    #[serde(borrow)]
    limits: LimitsRecord<'a>,
    #[serde(borrow)]
    scopes: Vec<ScopeLimitsRecord<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<Word<UnknownCallDecision>>,
}

impl<'a> ResumptionRecord<'a> {
    pub(super) fn of(resumption: &'a Resumption) -> Self {
        Self {
            limits: LimitsRecord::of(&resumption.limits),
            scopes: resumption
                .scopes
                .iter()
                .map(ScopeLimitsRecord::of)
                .collect(),
            decision: resumption.decision.map(Word),
        }
    }

    pub(super) fn restore(self) -> Result<Resumption, JournalError> {
        Ok(Resumption {
            limits: self.limits.restore()?,
            scopes: self
                .scopes
                .into_iter()
                .map(ScopeLimitsRecord::restore)
                .collect::<Result<_, _>>()?,
            decision: self.decision.map(|decision| decision.0),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelRecord {
    id: Text<ModelId>,
    aliases: Vec<Text<ModelId>>,
    context_window: u64,
    max_output_tokens: u64,
    prices: PricesRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long_context: Option<TierRecord>,
    surcharge_percent: u32,
    hidden_prompt_tokens: u64,
}

impl ModelRecord {
    fn of(model: &ModelSpec) -> Self {
        Self {
            id: Text(model.id.clone()),
            aliases: model.aliases.iter().cloned().map(Text).collect(),
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            prices: PricesRecord::of(&model.prices),
            long_context: model.long_context.as_ref().map(TierRecord::of),
            surcharge_percent: model.surcharge_percent,
            hidden_prompt_tokens: model.hidden_prompt_tokens,
        }
    }

    fn restore(self) -> ModelSpec {
        ModelSpec {
            id: self.id.0,
            aliases: self.aliases.into_iter().map(|alias| alias.0).collect(),
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            prices: self.prices.restore(),
            long_context: self.long_context.map(TierRecord::restore),
            surcharge_percent: self.surcharge_percent,
            hidden_prompt_tokens: self.hidden_prompt_tokens,
        }
    }
}

/// Picodollars per token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PricesRecord {
    input: Picodollars,
    output: Picodollars,
    cache_write_5m: Picodollars,
    cache_write_1h: Picodollars,
    cache_read: Picodollars,
}

impl PricesRecord {
    const fn of(prices: &TokenPrices) -> Self {
        let TokenPrices {
            input,
            output,
            cache_write_5m,
            cache_write_1h,
            cache_read,
        } = *prices;
        Self {
            input: Picodollars(input),
            output: Picodollars(output),
            cache_write_5m: Picodollars(cache_write_5m),
            cache_write_1h: Picodollars(cache_write_1h),
            cache_read: Picodollars(cache_read),
        }
    }

    const fn restore(self) -> TokenPrices {
        TokenPrices {
            input: self.input.0,
            output: self.output.0,
            cache_write_5m: self.cache_write_5m.0,
            cache_write_1h: self.cache_write_1h.0,
            cache_read: self.cache_read.0,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierRecord {
    threshold_prompt_tokens: u64,
    prices: PricesRecord,
}

impl TierRecord {
    const fn of(tier: &LongContextTier) -> Self {
        Self {
            threshold_prompt_tokens: tier.threshold_prompt_tokens,
            prices: PricesRecord::of(&tier.prices),
        }
    }

    const fn restore(self) -> LongContextTier {
        LongContextTier {
            threshold_prompt_tokens: self.threshold_prompt_tokens,
            prices: self.prices.restore(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolFactsRecord<'a> {
    name: Text<ToolName>,
    #[serde(borrow)]
    description: Cow<'a, str>,
    #[serde(borrow)]
    input_schema: Cow<'a, str>,
    side_effects: Word<SideEffects>,
    repeatability: Word<Repeatability>,
}

impl<'a> ToolFactsRecord<'a> {
    fn of(facts: &'a ToolFacts) -> Self {
        Self {
            name: Text(facts.name.clone()),
            description: Cow::Borrowed(&facts.description),
            input_schema: Cow::Borrowed(&facts.input_schema),
            side_effects: Word(facts.side_effects),
            repeatability: Word(facts.repeatability),
        }
    }

    fn restore(self) -> ToolFacts {
        ToolFacts {
            name: self.name.0,
            description: arc(&self.description),
            input_schema: arc(&self.input_schema),
            side_effects: self.side_effects.0,
            repeatability: self.repeatability.0,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsRecord<'a> {
    #[serde(borrow)]
    time: LimitRecord<'a, Span>,
    #[serde(borrow)]
    turns: LimitRecord<'a, u32>,
    repetitions: u32,
    attempts: u32,
    max_output_tokens: u64,
    floor_output_tokens: u64,
    parallel_tools: u32,
}

impl<'a> LimitsRecord<'a> {
    fn of(limits: &'a InvocationLimits) -> Self {
        Self {
            time: LimitRecord::of(&limits.time, Span::of),
            turns: LimitRecord::of(&limits.turns, |turns| turns),
            repetitions: limits.repetitions,
            attempts: limits.attempts,
            max_output_tokens: limits.max_output_tokens,
            floor_output_tokens: limits.floor_output_tokens,
            parallel_tools: limits.parallel_tools,
        }
    }

    fn restore(self) -> Result<InvocationLimits, JournalError> {
        Ok(InvocationLimits {
            time: self.time.restore(Span::restore)?,
            turns: self.turns.restore(Ok)?,
            repetitions: self.repetitions,
            attempts: self.attempts,
            max_output_tokens: self.max_output_tokens,
            floor_output_tokens: self.floor_output_tokens,
            parallel_tools: self.parallel_tools,
        })
    }
}
