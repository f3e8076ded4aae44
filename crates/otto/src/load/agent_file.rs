//! One agent file: from its tree to an [`AgentConfig`], with every problem in it.
//!
//! What concerns several files (names used twice, overlapping directories) is checked by the caller.
//!
//! Invariant: limits come out no wider than the operator's ceilings, and every limit is set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use otto_core::agent::{AgentConfig, Budgets, DEFAULTS, Root};
use otto_core::compaction::CompactionRule;
use otto_core::model::ModelSpec;
use otto_core::policy::{Permission, Permissions};
use otto_core::{AgentName, ModelId, ToolName};

use super::dirs::{self, Author, Purpose};
use super::fields as f;
use super::hosts;
use super::interpolate::Reader;
use super::{KnownTool, LoadRequest, credentials, hidden_text};
use crate::decode::{Decoder, Field, Fields};
use crate::diagnostic::{Diagnostic, Place, one_of, quoted};
use crate::limits;
use crate::suggest::closest;
use crate::text::visible;
use crate::yaml::{self, Node};

/// BOUND: characters of a description; it stands in lists.
const MAX_DESCRIPTION_CHARS: usize = 500;
/// BOUND: bytes of a system prompt; it is paid for with every call.
const MAX_PROMPT_BYTES: usize = 256 * 1024;
/// BOUND: entries of the lists of an agent file.
const MAX_TOOLS: usize = 64;
const MAX_ROOTS: usize = 16;
const MAX_HOSTS: usize = 256;
/// BOUND: bytes of one tool's settings as JSON.
const MAX_SETTINGS_BYTES: usize = 64 * 1024;

/// A decoded file.
#[derive(Debug)]
pub(crate) struct AgentFile {
    pub(crate) config: AgentConfig,
    /// Where each key of the file stands.
    pub(crate) places: BTreeMap<&'static str, Place>,
}

/// Decodes a file. The agent is there if the file has no error; its name, if that much could be read.
pub(crate) fn decode(
    decoder: &mut Decoder<'_>,
    author: Author,
    request: &LoadRequest<'_>,
) -> (Option<AgentName>, Option<AgentFile>) {
    let Some(tree) = decoder.tree() else {
        return (None, None);
    };
    let Some(fields) = decoder.fields(&tree, "the agent file", f::AGENT_FIELDS) else {
        return (None, None);
    };
    let mut reader = AgentReader {
        decoder,
        author,
        request,
        fields: &fields,
    };

    let name = reader
        .required(&f::NAME)
        .and_then(|node| reader.decoder.value(node, &f::NAME, AgentName::new));
    let model = reader.model();
    let description = reader.description();
    let system_prompt = reader.system_prompt();
    let tools = reader.tools();
    let working_dir = reader.working_dir();
    let roots = reader.roots();
    let shared = reader.flag(&f::SHARED);
    let budgets = reader.budgets();
    let max_output_tokens = reader.max_output_tokens(model.as_ref().map(|(_, spec)| &**spec));
    let compaction = reader.compaction();
    let tell_limits = reader.flag(&f::TELL_LIMITS);
    let allowed_hosts = reader.allowed_hosts();
    let tool_settings = reader.tool_settings(tools.as_deref());
    reader.check_needs(tools.as_deref(), working_dir.as_ref(), roots.as_ref());

    let places = f::AGENT_FIELDS
        .iter()
        .filter_map(|field| {
            fields
                .value(field.name)
                .map(|node| (field.name, decoder.place(node)))
        })
        .collect();
    let origin = decoder.file.whole().origin();
    let assemble = || {
        Some(AgentFile {
            config: AgentConfig {
                name: name.clone()?,
                description: description?,
                model: model?.0,
                system_prompt: system_prompt?,
                tools: tools?,
                working_dir: working_dir?,
                roots: roots?,
                budgets: budgets?,
                max_output_tokens: max_output_tokens?,
                compaction: compaction?,
                tell_limits: tell_limits?,
                allowed_hosts: allowed_hosts?,
                shared: shared?,
                tool_settings: tool_settings?,
                origin,
            },
            places,
        })
    };
    let file = assemble();
    (name, file)
}

struct AgentReader<'a, 'd, 'n> {
    decoder: &'a mut Decoder<'d>,
    author: Author,
    request: &'a LoadRequest<'a>,
    fields: &'a Fields<'n>,
}

impl<'n> AgentReader<'_, '_, 'n> {
    fn optional(&self, field: &Field) -> Option<&'n Node> {
        self.fields.value(field.name)
    }

    /// Off where nothing is said.
    fn flag(&mut self, field: &Field) -> Option<bool> {
        self.optional(field)
            .map_or(Some(false), |node| self.decoder.boolean(node, field))
    }

    fn required(&mut self, field: &Field) -> Option<&'n Node> {
        let node = self.optional(field);
        if node.is_none() {
            self.decoder.missing(field, "the agent");
        }
        node
    }

    /// The model as the file names it, which may be an alias, with what is known of it.
    fn model(&mut self) -> Option<(ModelId, Arc<ModelSpec>)> {
        let node = self.required(&f::MODEL)?;
        let id = self.decoder.value(node, &f::MODEL, ModelId::new)?;
        let prices = self.request.prices;
        let found = prices.find(&id).cloned();
        if found.is_none() {
            let known: Vec<&str> = prices.models().map(|model| model.id.as_str()).collect();
            let aliases = prices
                .models()
                .flat_map(|model| model.aliases.iter().map(ModelId::as_str));
            let place = self.decoder.place(node);
            let diagnostic = Diagnostic::error(
                place,
                format!("no price is known for the model {}", quoted(id.as_str())),
            )
            .expected(format!(
                "{}; a model without a price cannot be held to a budget",
                one_of(known.iter().copied())
            ))
            .suggest(closest(id.as_str(), known.into_iter().chain(aliases)));
            self.decoder.report(diagnostic);
        }
        Some((id, found?))
    }

    fn description(&mut self) -> Option<Arc<str>> {
        let Some(node) = self.optional(&f::DESCRIPTION) else {
            return Some(Arc::from(""));
        };
        let text = self.decoder.text(node, &f::DESCRIPTION, Reader::Model)?;
        let length = text.chars().count();
        if length > MAX_DESCRIPTION_CHARS {
            self.decoder.error(
                node,
                format!("`description` has {length} characters"),
                f::DESCRIPTION.form,
            );
            return None;
        }
        self.warn_if_hidden(&f::DESCRIPTION, self.decoder.place(node), &text);
        Some(Arc::from(text.trim()))
    }

    fn system_prompt(&mut self) -> Option<Arc<str>> {
        match (
            self.optional(&f::SYSTEM_PROMPT),
            self.optional(&f::SYSTEM_PROMPT_FILE),
        ) {
            (None, None) => Some(Arc::from("")),
            (Some(inline), Some(file)) => {
                let place = self.decoder.place(file);
                let diagnostic = Diagnostic::error(
                    place,
                    "`system_prompt` and `system_prompt_file` are both set",
                )
                .related(self.decoder.place(inline), "the other")
                .expected("one of them");
                self.decoder.report(diagnostic);
                None
            }
            (Some(node), None) => {
                let text = self.decoder.text(node, &f::SYSTEM_PROMPT, Reader::Model)?;
                if text.len() > MAX_PROMPT_BYTES {
                    self.decoder.error(
                        node,
                        format!("`system_prompt` has {} bytes", text.len()),
                        f::SYSTEM_PROMPT.form,
                    );
                    return None;
                }
                self.warn_if_hidden(&f::SYSTEM_PROMPT, self.decoder.place(node), &text);
                Some(Arc::from(text.trim_end()))
            }
            (None, Some(node)) => self.prompt_file(node),
        }
    }

    /// The prompt from a file. The model reads it, so a project file may only name what is inside the project.
    fn prompt_file(&mut self, node: &Node) -> Option<Arc<str>> {
        let field = &f::SYSTEM_PROMPT_FILE;
        let name = self.decoder.text(node, field, Reader::Otto)?;
        let path = dirs::normalised(&self.request.project.join(&name));
        let text = match read_prompt(&path, self.author, self.request.project) {
            Ok(text) => text,
            Err(problem) => {
                self.decoder
                    .error(node, format!("{} {problem}", quoted(&name)), field.form);
                return None;
            }
        };
        if let Some(found) = credentials::find(&text).first() {
            self.decoder.error(
                node,
                format!("{} holds {}", quoted(&name), found.kind),
                "a prompt without credentials",
            );
            return None;
        }
        self.warn_if_hidden(field, Place::whole(&path.to_string_lossy()), &text);
        Some(Arc::from(text.trim_end()))
    }

    fn warn_if_hidden(&mut self, field: &Field, place: Place, text: &str) {
        if let Some(hidden) = hidden_text::find(text) {
            let code = u32::from(hidden.first);
            let diagnostic = Diagnostic::warning(
                place,
                format!(
                    "`{}` holds {} invisible characters, the first is U+{code:04X}",
                    field.name, hidden.count
                ),
            )
            .help("the model reads what you do not see; remove them unless you put them there");
            self.decoder.report(diagnostic);
        }
    }

    fn tools(&mut self) -> Option<Vec<ToolName>> {
        let Some(node) = self.optional(&f::TOOLS) else {
            return Some(Vec::new());
        };
        let items = self.decoder.items(node, &f::TOOLS, MAX_TOOLS)?;
        let mut tools = Vec::new();
        let mut is_whole = true;
        for item in items {
            match self.tool(item) {
                Some(tool) if tools.contains(&tool) => {
                    self.decoder.error(
                        item,
                        format!("tool `{tool}` is listed twice"),
                        "each tool once",
                    );
                    is_whole = false;
                }
                Some(tool) => tools.push(tool),
                None => is_whole = false,
            }
        }
        is_whole.then_some(tools)
    }

    fn tool(&mut self, item: &Node) -> Option<ToolName> {
        let name = self.decoder.value(item, &f::TOOLS, ToolName::new)?;
        if self.known_tool(&name).is_none() {
            let known: Vec<&str> = self
                .request
                .tools
                .iter()
                .map(|tool| tool.name.as_str())
                .collect();
            let place = self.decoder.place(item);
            let diagnostic =
                Diagnostic::error(place, format!("unknown tool {}", quoted(name.as_str())))
                    .expected(one_of(known.iter().copied()))
                    .suggest(closest(name.as_str(), known));
            self.decoder.report(diagnostic);
            return None;
        }
        if let Some(allowed) = &self.request.operator.tools
            && !allowed.value.contains(&name)
        {
            let message = format!("tool `{name}` is not on the operator's allowlist");
            let diagnostic = self
                .not_allowed(item, message)
                .expected(one_of(allowed.value.iter().map(ToolName::as_str)))
                .help(format!(
                    "the operator adds it to `tools` at {}",
                    allowed.origin
                ));
            self.decoder.report(diagnostic);
            return self.request.operator.audit.value.then_some(name);
        }
        Some(name)
    }

    fn known_tool(&self, name: &ToolName) -> Option<&KnownTool> {
        self.request.tools.iter().find(|tool| tool.name == *name)
    }

    fn directory(&mut self, node: &Node, field: &Field, purpose: Purpose) -> Option<PathBuf> {
        let text = self.decoder.text(node, field, Reader::Otto)?;
        match dirs::check(&text, purpose, self.author, &self.request.surroundings()) {
            Ok(path) => Some(path),
            Err(refusal) => {
                let diagnostic = Diagnostic {
                    help: refusal.help,
                    ..Diagnostic::error(
                        self.decoder.place(node),
                        format!("`{}`: {}", field.name, refusal.message),
                    )
                    .expected(refusal.expected)
                };
                self.decoder.report(diagnostic);
                None
            }
        }
    }

    /// The outer option is "no error", the inner one "set".
    #[expect(
        clippy::option_option,
        reason = "an absent directory is not a broken one"
    )]
    fn working_dir(&mut self) -> Option<Option<PathBuf>> {
        match self.optional(&f::WORKING_DIR) {
            None => Some(None),
            Some(node) => self
                .directory(node, &f::WORKING_DIR, Purpose::WorkingDir)
                .map(Some),
        }
    }

    fn roots(&mut self) -> Option<BTreeMap<Arc<str>, Root>> {
        let Some(node) = self.optional(&f::ROOTS) else {
            return Some(BTreeMap::new());
        };
        let entries = self
            .decoder
            .unique_entries(node, "`roots`", f::ROOTS.form)?;
        if entries.len() > MAX_ROOTS {
            self.decoder.error(
                node,
                format!("`roots` has {} entries", entries.len()),
                format!("at most {MAX_ROOTS}"),
            );
            return None;
        }
        let mut roots = BTreeMap::new();
        let mut is_whole = true;
        for (key, value) in entries {
            if !is_root_name(&key.name) {
                let place = key.at.in_file(self.decoder.file);
                let diagnostic = Diagnostic::error(place, format!("{} cannot name a root", quoted(&key.name)))
                    .expected("1 to 32 of a-z, A-Z, 0-9, `-` and `_`, beginning with a letter or digit; without the `@`");
                self.decoder.report(diagnostic);
                is_whole = false;
            }
            match self.directory(value, &f::ROOTS, Purpose::Root) {
                Some(path) => {
                    roots.insert(Arc::from(key.name.as_str()), Root { path });
                }
                None => is_whole = false,
            }
        }
        is_whole.then_some(roots)
    }

    /// The file's limits, with the defaults where it says nothing, narrowed by the operator's ceilings.
    fn budgets(&mut self) -> Option<Budgets> {
        let mut own = Budgets::default();
        if let Some(node) = self.optional(&f::BUDGETS) {
            let fields = self.decoder.fields(node, "`budgets`", f::BUDGET_FIELDS)?;
            own = read_budgets(self.decoder, &fields)?;
        }
        let effective = own
            .or(&DEFAULTS.budgets())
            .narrowed_by(&self.request.operator.ceilings);
        self.warn_if_narrowed(&own, &effective);
        Some(effective)
    }

    fn warn_if_narrowed(&mut self, own: &Budgets, effective: &Budgets) {
        let differs = |name: &'static str,
                       own: Option<(String, bool)>,
                       effective: String,
                       origin: String| match own {
            Some((given, true)) => Some(format!(
                "`{name}`: {given} is above the operator's ceiling; {effective} applies, set by {origin}"
            )),
            _ => None,
        };
        let notes = [
            effective.time.as_ref().and_then(|limit| {
                let given = own
                    .time
                    .as_ref()
                    .map(|own| (limits::show_duration(own.value), own.value > limit.value));
                differs(
                    "time",
                    given,
                    limits::show_duration(limit.value),
                    limit.origin.to_string(),
                )
            }),
            effective.tokens.as_ref().and_then(|limit| {
                let given = own
                    .tokens
                    .as_ref()
                    .map(|own| (limits::show_count(own.value), own.value > limit.value));
                differs(
                    "tokens",
                    given,
                    limits::show_count(limit.value),
                    limit.origin.to_string(),
                )
            }),
            effective.cost.as_ref().and_then(|limit| {
                let given = own
                    .cost
                    .as_ref()
                    .map(|own| (own.value.to_string(), own.value > limit.value));
                differs(
                    "cost",
                    given,
                    limit.value.to_string(),
                    limit.origin.to_string(),
                )
            }),
            effective.turns.as_ref().and_then(|limit| {
                let given = own
                    .turns
                    .as_ref()
                    .map(|own| (own.value.to_string(), own.value > limit.value));
                differs(
                    "turns",
                    given,
                    limit.value.to_string(),
                    limit.origin.to_string(),
                )
            }),
        ];
        if let Some(node) = self.optional(&f::BUDGETS) {
            for note in notes.into_iter().flatten() {
                let place = self.decoder.place(node);
                self.decoder.report(Diagnostic::warning(place, note));
            }
        }
    }

    fn max_output_tokens(&mut self, model: Option<&ModelSpec>) -> Option<u64> {
        let model_max = model.map_or(u64::MAX, |model| model.max_output_tokens);
        let Some(node) = self.optional(&f::MAX_OUTPUT_TOKENS) else {
            return Some(DEFAULTS.max_output_tokens.min(model_max));
        };
        let limit = self
            .decoder
            .limit(node, &f::MAX_OUTPUT_TOKENS, limits::parse_count)?;
        if limit.value > model_max {
            self.decoder.error(
                node,
                format!(
                    "`max_output_tokens`: {} is more than the model can write",
                    limit.value
                ),
                format!("at most {model_max}"),
            );
            return None;
        }
        Some(limit.value)
    }

    /// `Some(None)`: never.
    fn compaction(&mut self) -> Option<Option<CompactionRule>> {
        let Some(node) = self.optional(&f::COMPACT_AT) else {
            return Some(Some(CompactionRule::DEFAULT));
        };
        let rule = self
            .decoder
            .limit(node, &f::COMPACT_AT, limits::parse_compaction)?;
        Some(rule.value)
    }

    fn allowed_hosts(&mut self) -> Option<Vec<Arc<str>>> {
        let Some(node) = self.optional(&f::ALLOWED_HOSTS) else {
            return Some(Vec::new());
        };
        let items = self.decoder.items(node, &f::ALLOWED_HOSTS, MAX_HOSTS)?;
        let mut allowed = Vec::new();
        let mut is_whole = true;
        for item in items {
            match self.allowed_host(item) {
                Some(host) => allowed.extend(host),
                None => is_whole = false,
            }
        }
        is_whole.then_some(allowed)
    }

    /// The host of an entry. In audit mode one that the operator does not allow is left out, so that the egress
    /// process notes each time it is reached.
    fn allowed_host(&mut self, item: &Node) -> Option<Option<Arc<str>>> {
        let host = self
            .decoder
            .value(item, &f::ALLOWED_HOSTS, hosts::parse_host)?;
        let Some(wide) = &self.request.operator.allowed_hosts else {
            return Some(Some(host));
        };
        if wide.value.iter().any(|wide| hosts::covers(wide, &host)) {
            return Some(Some(host));
        }
        let message = format!("host {} is not on the operator's allowlist", quoted(&host));
        let diagnostic = self
            .not_allowed(item, message)
            .expected(one_of(wide.value.iter().map(|host| &**host)))
            .help(format!(
                "the operator adds it to `allowed_hosts` at {}",
                wide.origin
            ));
        self.decoder.report(diagnostic);
        self.request.operator.audit.value.then_some(None)
    }

    /// An error, or in audit mode a warning: what policy refuses is noted when it is used.
    fn not_allowed(&self, item: &Node, message: String) -> Diagnostic {
        let place = self.decoder.place(item);
        if self.request.operator.audit.value {
            Diagnostic::warning(place, format!("{message}; audit mode lets it pass"))
        } else {
            Diagnostic::error(place, message)
        }
    }

    fn tool_settings(
        &mut self,
        tools: Option<&[ToolName]>,
    ) -> Option<BTreeMap<ToolName, Arc<str>>> {
        let Some(node) = self.optional(&f::TOOL_SETTINGS) else {
            return Some(BTreeMap::new());
        };
        let entries =
            self.decoder
                .unique_entries(node, "`tool_settings`", f::TOOL_SETTINGS.form)?;
        let mut settings = BTreeMap::new();
        let mut is_whole = true;
        for (key, value) in entries {
            let listed =
                tools.is_none_or(|tools| tools.iter().any(|tool| tool.as_str() == key.name));
            match ToolName::new(&key.name) {
                Ok(name) if listed => match self.settings_of(&name, value) {
                    Some(json) => {
                        settings.insert(name, json);
                    }
                    None => is_whole = false,
                },
                _ => {
                    let place = key.at.in_file(self.decoder.file);
                    let listed: Vec<&str> = tools
                        .unwrap_or_default()
                        .iter()
                        .map(ToolName::as_str)
                        .collect();
                    let diagnostic = Diagnostic::error(
                        place,
                        format!(
                            "settings for {}, which is not in `tools`",
                            quoted(&key.name)
                        ),
                    )
                    .expected(if listed.is_empty() {
                        "no settings: `tools` is empty".to_owned()
                    } else {
                        one_of(listed.iter().copied())
                    })
                    .suggest(closest(&key.name, listed));
                    self.decoder.report(diagnostic);
                    is_whole = false;
                }
            }
        }
        is_whole.then_some(settings)
    }

    fn settings_of(&mut self, tool: &ToolName, value: &Node) -> Option<Arc<str>> {
        self.decoder.entries(
            value,
            &format!("the settings of `{tool}`"),
            "keys and values as the tool documents them",
        )?;
        let repeated = yaml::duplicate_keys(self.decoder.file, value);
        let is_clean = repeated.is_empty();
        for diagnostic in repeated {
            self.decoder.report(diagnostic);
        }
        let json = yaml::to_json(value).to_string();
        if json.len() > MAX_SETTINGS_BYTES {
            self.decoder.error(
                value,
                format!("the settings of `{tool}` have {} bytes", json.len()),
                format!("at most {MAX_SETTINGS_BYTES}"),
            );
            return None;
        }
        if let Some(problem) = self
            .known_tool(tool)
            .and_then(|known| known.settings_problem(&json))
        {
            self.decoder.error(
                value,
                format!("the settings of `{tool}`: {}", visible(&problem)),
                format!("settings as `otto tools {tool}` documents them"),
            );
            return None;
        }
        is_clean.then(|| Arc::from(json))
    }

    /// Tools need something to work on.
    fn check_needs(
        &mut self,
        tools: Option<&[ToolName]>,
        working_dir: Option<&Option<PathBuf>>,
        roots: Option<&BTreeMap<Arc<str>, Root>>,
    ) {
        let (Some(tools), Some(working_dir), Some(roots)) = (tools, working_dir, roots) else {
            return;
        };
        let node = self.optional(&f::TOOLS);
        for tool in tools {
            let Some(needs) = self.known_tool(tool).map(|tool| tool.permissions) else {
                continue;
            };
            let has_place = working_dir.is_some()
                || (!roots.is_empty()
                    && !needs.contains(Permission::Write)
                    && !needs.contains(Permission::Exec));
            let works_on_files = !needs
                .intersection(Permissions::of(&[
                    Permission::Read,
                    Permission::Write,
                    Permission::Exec,
                ]))
                .is_empty();
            if works_on_files && !has_place {
                let place = node.map_or_else(
                    || self.decoder.file.whole(),
                    |node| self.decoder.place(node),
                );
                let diagnostic = Diagnostic::error(
                    place,
                    format!("tool `{tool}` works on files, and the agent has no `working_dir`"),
                )
                .expected(format!(
                    "{}: {}",
                    f::WORKING_DIR.name,
                    f::WORKING_DIR.form
                ));
                self.decoder.report(diagnostic);
            }
        }
    }
}

/// The limits in a `budgets` mapping.
pub(crate) fn read_budgets(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Option<Budgets> {
    let mut is_whole = true;
    let mut keep = |result: Option<()>| is_whole &= result.is_some();
    let mut budgets = Budgets::default();
    if let Some(node) = fields.value(f::TIME.name) {
        keep(
            decoder
                .limit(node, &f::TIME, limits::parse_duration)
                .map(|limit| budgets.time = Some(limit)),
        );
    }
    if let Some(node) = fields.value(f::TOKENS.name) {
        keep(
            decoder
                .limit(node, &f::TOKENS, limits::parse_count)
                .map(|limit| budgets.tokens = Some(limit)),
        );
    }
    if let Some(node) = fields.value(f::COST.name) {
        keep(
            decoder
                .limit(node, &f::COST, limits::parse_money)
                .map(|limit| budgets.cost = Some(limit)),
        );
    }
    if let Some(node) = fields.value(f::TURNS.name) {
        keep(
            decoder
                .limit(node, &f::TURNS, limits::parse_turns)
                .map(|limit| budgets.turns = Some(limit)),
        );
    }
    is_whole.then_some(budgets)
}

fn is_root_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=32).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Reads a prompt file. The error continues a sentence that begins with the file's name.
fn read_prompt(path: &Path, author: Author, project: &Path) -> Result<String, String> {
    let real = std::fs::canonicalize(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be opened: {error}"),
    })?;
    if author == Author::Project && !real.starts_with(project) {
        return Err(format!(
            "is outside of the project ({})",
            visible(&real.to_string_lossy())
        ));
    }
    super::read_text(&real, MAX_PROMPT_BYTES as u64).map_err(|error| error.to_string())
}
