//! The rules that hold for one principal, and the verdicts that they give.
//!
//! A value of a more specific layer replaces that of a more general one. Requirements come on top and only take away:
//! each of their lists must be passed as well, their lower numbers and safer choices win.

use std::sync::Arc;

use tidegate_responses::{Request, Tool, service_tier::Tier, tools};

use crate::denied::{Denied, shown};
use crate::pattern::{Pattern, ToolPattern};
use crate::table::{Names, Said, Saying, Table};

#[cfg(test)]
mod tests;

/// The rules that hold for one principal.
#[derive(Debug, Default)]
pub struct Rules {
    providers: Lists<Pattern>,
    models: Lists<Pattern>,
    tiers: Lists<Pattern>,
    tools: Lists<ToolPattern>,
    max_output_tokens: Saying<u64>,
    insert_max_output_tokens: Saying<bool>,
    max_body_bytes: Saying<u64>,
    max_concurrent_calls: Saying<usize>,
    redact_workspaces: Saying<bool>,
    log_content: Saying<bool>,
    scopes_required: Vec<Arc<Said<Vec<String>>>>,
}

/// The lists that a name must pass.
#[derive(Debug)]
struct Lists<P> {
    deny: Vec<Arc<Said<Vec<P>>>>,
    allow: Vec<Arc<Said<Vec<P>>>>,
}

impl<P> Default for Lists<P> {
    fn default() -> Self {
        Lists { deny: Vec::new(), allow: Vec::new() }
    }
}

/// Why a call passes a check: the rule that lets it, or none if no rule speaks of it.
pub(crate) type Passed<'a> = Option<&'a str>;

impl<P> Lists<P> {
    fn of(tables: &Tables<'_>, names: impl Fn(&Table) -> &Names<P>) -> Lists<P> {
        Lists { deny: tables.all(|table| &names(table).deny), allow: tables.all(|table| &names(table).allow) }
    }

    /// The name of a rule of these lists; none if there is no list.
    fn any_rule(&self) -> Option<&str> {
        self.deny.iter().chain(&self.allow).map(|list| list.rule.as_str()).next()
    }

    /// The verdict on a name that `denies` and `allows` compare with a pattern; the error is the rule's name.
    fn judge(&self, denies: impl Fn(&P) -> bool, allows: impl Fn(&P) -> bool) -> Result<Passed<'_>, &str> {
        if let Some(list) = self.deny.iter().find(|list| list.value.iter().any(&denies)) {
            return Err(&list.rule);
        }
        match self.allow.iter().find(|list| !list.value.iter().any(&allows)) {
            Some(list) => Err(&list.rule),
            None => Ok(self.allow.first().map(|list| list.rule.as_str())),
        }
    }
}

impl Lists<Pattern> {
    fn judge_name(&self, name: &str, what: &str) -> Result<Passed<'_>, Denied> {
        self.judge(|pattern| pattern.matches_any_case(name), |pattern| pattern.matches(name))
            .map_err(|rule| Denied::new(rule, format_args!("{what} {} is not allowed", shown(name))))
    }
}

/// The tables that speak of one principal, from general to specific.
pub(crate) struct Tables<'a> {
    pub(crate) layers: Vec<&'a Table>,
    pub(crate) requirements: Vec<&'a Table>,
}

impl<'a> Tables<'a> {
    /// With a more specific layer.
    pub(crate) fn and(&self, layer: &'a Table) -> Tables<'a> {
        let layers = self.layers.iter().copied().chain([layer]).collect();
        Tables { layers, requirements: self.requirements.clone() }
    }

    /// With one more table of requirements.
    pub(crate) fn requiring(mut self, table: &'a Table) -> Tables<'a> {
        self.requirements.push(table);
        self
    }

    /// What the most specific layer says.
    fn chosen<T>(&self, key: impl Fn(&Table) -> &Saying<T>) -> Saying<T> {
        self.layers.iter().rev().find_map(|table| key(table).clone())
    }

    fn required<T>(&self, key: impl Fn(&Table) -> &Saying<T>) -> Vec<Arc<Said<T>>> {
        self.requirements.iter().filter_map(|table| key(table).clone()).collect()
    }

    /// What the most specific layer says, and every requirement.
    fn all<T>(&self, key: impl Fn(&Table) -> &Saying<T>) -> Vec<Arc<Said<T>>> {
        self.chosen(&key).into_iter().chain(self.required(key)).collect()
    }

    fn least<T: Ord>(&self, key: impl Fn(&Table) -> &Saying<T>) -> Saying<T> {
        self.all(key).into_iter().min_by(|a, b| a.value.cmp(&b.value))
    }

    /// The safe choice if a requirement says so, else what the layers say.
    fn switch(&self, safe: bool, key: impl Fn(&Table) -> &Saying<bool>) -> Saying<bool> {
        self.required(&key).into_iter().find(|said| said.value == safe).or_else(|| self.chosen(key))
    }
}

impl Rules {
    pub(crate) fn of(tables: &Tables<'_>) -> Rules {
        Rules {
            providers: Lists::of(tables, |table| &table.providers),
            models: Lists::of(tables, |table| &table.models),
            tiers: Lists::of(tables, |table| &table.tiers),
            tools: Lists::of(tables, |table| &table.tools),
            max_output_tokens: tables.least(|table| &table.max_output_tokens),
            insert_max_output_tokens: tables.switch(true, |table| &table.insert_max_output_tokens),
            max_body_bytes: tables.least(|table| &table.max_body_bytes),
            max_concurrent_calls: tables.least(|table| &table.max_concurrent_calls),
            redact_workspaces: tables.switch(true, |table| &table.redact_workspaces),
            log_content: tables.switch(false, |table| &table.log_content),
            scopes_required: tables.all(|table| &table.scopes_required),
        }
    }

    /// The most bytes that a request's body may have; an upper bound for reading it.
    pub fn max_body_bytes(&self) -> Option<u64> {
        self.max_body_bytes.as_ref().map(|said| said.value)
    }

    /// Whether a body of this size, after decompression, is allowed.
    pub fn check_body(&self, bytes: u64) -> Result<(), Denied> {
        self.judge_body(bytes).map(drop)
    }

    /// How many calls the principal may have at once.
    pub fn max_concurrent_calls(&self) -> Option<usize> {
        self.max_concurrent_calls.as_ref().map(|said| said.value)
    }

    /// What to tell a principal that has as many calls as it may have.
    pub fn too_many_calls(&self) -> Option<Denied> {
        let said = self.max_concurrent_calls.as_ref()?;
        Some(Denied::new(&said.rule, "as many calls as are allowed at once are under way"))
    }

    /// Whether local paths are taken out of a request's metadata, whatever the provider.
    pub fn redacts_workspaces(&self) -> bool {
        self.redact_workspaces.as_ref().is_some_and(|said| said.value)
    }

    /// Whether prompts and answers may be logged.
    pub fn logs_content(&self) -> bool {
        self.log_content.as_ref().is_some_and(|said| said.value)
    }

    /// Whether a model may be asked for by this name.
    pub fn check_model(&self, asked: &str) -> Result<(), Denied> {
        self.judge_model(asked).map(drop)
    }

    /// Whether a model is shown in lists of models.
    pub fn visible_model(&self, name: &str) -> bool {
        self.judge_model(name).is_ok()
    }

    /// Whether a provider is shown in lists of providers.
    pub fn visible_provider(&self, id: &str) -> bool {
        self.judge_provider(id).is_ok()
    }

    /// Whether a rule hides models from lists of them.
    pub fn hides_models(&self) -> bool {
        self.models.any_rule().or_else(|| self.providers.any_rule()).is_some()
    }

    /// Whether a call may go to a provider, for a model as the provider knows it.
    pub fn check_route(&self, provider: &str, model_at_provider: &str) -> Result<(), Denied> {
        self.judge_provider(provider)?;
        self.judge_model(model_at_provider).map(drop)
    }

    /// Whether a service tier may be used; none counts as `default`. To be asked once the tier is decided.
    pub fn check_tier(&self, tier: Option<&str>) -> Result<(), Denied> {
        self.judge_tier(tier).map(drop)
    }

    /// Whether a rule speaks of tools, so that they are read.
    pub fn reads_tools(&self) -> bool {
        self.tools.any_rule().is_some()
    }

    /// Whether a request may bring what it brings: tools, a limit of output tokens, a service tier. Reads only what a
    /// rule speaks of, and refuses what readers could understand differently.
    pub fn check_request(&self, request: &Request) -> Result<(), Denied> {
        self.check_fields(request)?;
        self.check_asked_tier(request)?;
        self.check_tools(request)?;
        self.judge_output_tokens(request).map(drop)
    }

    /// The limit that a request gets as its `max_output_tokens`, because it names none and a rule wants one. A request
    /// can have the field with the value null.
    pub fn output_tokens_to_insert(&self, request: &Request) -> Option<u64> {
        let wanted = self.insert_max_output_tokens.as_ref().is_some_and(|said| said.value);
        let limit = self.max_output_tokens.as_ref().filter(|_| wanted)?;
        matches!(request.max_output_tokens(), Ok(None)).then_some(limit.value)
    }

    /// The rule that wants a limit inserted, and whether there is a limit.
    pub(crate) fn insertion(&self) -> Option<(&str, bool)> {
        let wanted = self.insert_max_output_tokens.as_ref().filter(|said| said.value)?;
        Some((&wanted.rule, self.max_output_tokens.is_some()))
    }

    /// Refuses a field that some readers take for one that a rule speaks of.
    pub(crate) fn check_fields(&self, request: &Request) -> Result<(), Denied> {
        let fields = [
            ("model", self.models.any_rule()),
            ("service_tier", self.tiers.any_rule()),
            ("max_output_tokens", self.max_output_tokens.as_ref().map(|said| said.rule.as_str())),
        ];
        for (field, rule) in fields {
            if let Some(rule) = rule
                && request.lookalike(&[field]).is_some()
            {
                let message = format_args!("the request has a field that can be taken for `{field}`");
                return Err(Denied::new(rule, message));
            }
        }
        Ok(())
    }

    /// The tier as the request asks for it; what it gets is judged by [`Rules::check_tier`].
    pub(crate) fn check_asked_tier(&self, request: &Request) -> Result<(), Denied> {
        let Some(rule) = self.tiers.any_rule() else { return Ok(()) };
        match request.service_tier() {
            Ok(None) => Ok(()),
            Ok(Some(tier)) => self.judge_tier(Some(&tier)).map(drop),
            Err(error) => Err(Denied::new(rule, error)),
        }
    }

    fn check_tools(&self, request: &Request) -> Result<(), Denied> {
        let Some(rule) = self.tools.any_rule() else { return Ok(()) };
        tools::read(request, &mut |tool: Tool<'_>| {
            self.judge_tool(&tool.kind, tool.name.as_deref()).map(drop).map_err(Refusal::Denied)
        })
        .map_err(|refusal| match refusal {
            Refusal::Denied(denied) => denied,
            Refusal::Unclear(unclear) => unclear_tools(rule, &unclear),
        })
    }

    /// The verdict on a request of which it cannot be told which tools it brings.
    pub(crate) fn judge_unclear_tools(&self, unclear: &tools::Unclear) -> Result<Passed<'_>, Denied> {
        self.tools.any_rule().map_or(Ok(None), |rule| Err(unclear_tools(rule, unclear)))
    }
}

enum Refusal {
    Denied(Denied),
    Unclear(tools::Unclear),
}

impl From<tools::Unclear> for Refusal {
    fn from(unclear: tools::Unclear) -> Refusal {
        Refusal::Unclear(unclear)
    }
}

fn unclear_tools(rule: &str, unclear: &tools::Unclear) -> Denied {
    Denied::new(rule, format_args!("it cannot be told which tools the request brings: {unclear}"))
}

/// What holds where there is nothing to judge: key, value, rule.
pub(crate) type Held<'a> = (&'static str, Option<String>, Option<&'a str>);

impl Rules {
    pub(crate) fn held(&self) -> [Held<'_>; 6] {
        [
            limit("max_body_bytes", &self.max_body_bytes),
            limit("max_concurrent_calls", &self.max_concurrent_calls),
            limit("max_output_tokens", &self.max_output_tokens),
            switch("insert_max_output_tokens", &self.insert_max_output_tokens),
            switch("redact_workspaces", &self.redact_workspaces),
            switch("log_content", &self.log_content),
        ]
    }
}

fn limit<'a, T: ToString>(key: &'static str, saying: &'a Saying<T>) -> Held<'a> {
    let said = saying.as_deref();
    (key, said.map(|said| said.value.to_string()), said.map(|said| said.rule.as_str()))
}

fn switch<'a>(key: &'static str, saying: &'a Saying<bool>) -> Held<'a> {
    let (_, value, rule) = limit(key, saying);
    (key, value.or_else(|| Some(false.to_string())), rule)
}

/// Single verdicts; what lets a call pass is told to those who explain it.
impl Rules {
    pub(crate) fn judge_scopes(&self, scopes: &[Box<str>]) -> Result<Passed<'_>, Denied> {
        let has = |wanted: &String| scopes.iter().any(|scope| **scope == **wanted);
        match self.scopes_required.iter().find(|said| !said.value.iter().all(has)) {
            Some(said) => Err(Denied::new(&said.rule, "the caller lacks a scope")),
            None => Ok(self.scopes_required.first().map(|said| said.rule.as_str())),
        }
    }

    pub(crate) fn judge_body(&self, bytes: u64) -> Result<Passed<'_>, Denied> {
        let Some(limit) = &self.max_body_bytes else { return Ok(None) };
        match bytes <= limit.value {
            true => Ok(Some(&limit.rule)),
            false => Err(Denied::new(&limit.rule, "the body is longer than is allowed")),
        }
    }

    pub(crate) fn judge_model(&self, name: &str) -> Result<Passed<'_>, Denied> {
        self.models.judge_name(name, "the model")
    }

    pub(crate) fn judge_provider(&self, id: &str) -> Result<Passed<'_>, Denied> {
        self.providers.judge_name(id, "the provider")
    }

    pub(crate) fn judge_tier(&self, tier: Option<&str>) -> Result<Passed<'_>, Denied> {
        let tier = tier.map_or(Tier::Standard, Tier::from_name);
        self.tiers.judge_name(tier.name(), "the service tier")
    }

    pub(crate) fn judge_tool(&self, kind: &str, name: Option<&str>) -> Result<Passed<'_>, Denied> {
        let denies = |pattern: &ToolPattern| pattern.matches_any_case(kind, name);
        let allows = |pattern: &ToolPattern| pattern.matches(kind, name);
        self.tools.judge(denies, allows).map_err(|rule| {
            let tool = name.map_or_else(|| kind.to_owned(), |name| format!("{kind}:{name}"));
            Denied::new(rule, format_args!("the tool {} is not allowed", shown(&tool)))
        })
    }

    pub(crate) fn judge_output_tokens(&self, request: &Request) -> Result<Passed<'_>, Denied> {
        let Some(limit) = &self.max_output_tokens else { return Ok(None) };
        match request.max_output_tokens() {
            Ok(Some(tokens)) => self.judge_tokens(tokens),
            Ok(None) => Ok(Some(&limit.rule)),
            Err(error) => Err(Denied::new(&limit.rule, error)),
        }
    }

    pub(crate) fn judge_tokens(&self, tokens: u64) -> Result<Passed<'_>, Denied> {
        let Some(limit) = &self.max_output_tokens else { return Ok(None) };
        match tokens <= limit.value {
            true => Ok(Some(&limit.rule)),
            false => Err(Denied::new(&limit.rule, "max_output_tokens is more than is allowed")),
        }
    }
}
