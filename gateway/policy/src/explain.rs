//! Explains a verdict: which rule decided, and what every table says that was looked at.
//!
//! For operators, with the policy file at hand: unlike [`Denied`], an explanation shows what the rules contain. It asks
//! the same functions as a call does, so the two cannot disagree.

use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;
use tidegate_responses::{Request, Tool, request, tools};

use crate::config::RulesConfig;
use crate::denied::{Denied, shown};
use crate::policy::Policy;
use crate::rules::{Passed, Rules};
use crate::table::{Table, dotted};

mod text;

#[cfg(test)]
mod tests;

/// A call to explain; what is not there is not judged.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// The request itself. Its tools, tier and limits are judged besides what else is named here.
    pub request: Option<&'a Request>,
    /// How many bytes the body has.
    pub body_bytes: Option<u64>,
    /// The model as it is asked for.
    pub model: Option<String>,
    /// The provider that the call goes to.
    pub provider: Option<String>,
    /// The model as the provider knows it.
    pub model_at_provider: Option<String>,
    /// The service tier.
    pub tier: Option<String>,
    /// Tools, as `type` or `type:name`.
    pub tools: Vec<String>,
    /// The limit of output tokens that the call names.
    pub max_output_tokens: Option<u64>,
}

impl<'a> Asked<'a> {
    /// What a request asks for. Fails for one that the gateway refuses before any rule is asked.
    pub fn of(request: &'a Request) -> Result<Asked<'a>, request::Error> {
        Ok(Asked {
            request: Some(request),
            body_bytes: u64::try_from(request.body().len()).ok(),
            model: request.model()?.map(Into::into),
            ..Asked::default()
        })
    }
}

/// Why a call is allowed or denied. Its `Display` form is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who calls, for whom.
    pub tenant: String,
    /// Who calls.
    pub subject: String,
    /// Whether every check is passed.
    pub allowed: bool,
    /// The tables that speak of the caller, or would: from general to specific, then the requirements.
    pub tables: Vec<Looked>,
    /// What was judged and what holds, in the order in which a call meets it.
    pub sections: Vec<Section>,
}

/// A table that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Its dotted name.
    pub table: String,
    /// Whether the policy has it.
    pub known: bool,
}

/// One kind of rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The key of its rules, such as `models`.
    pub about: &'static str,
    /// The verdicts.
    pub checks: Vec<Check>,
    /// What holds, where there is nothing to judge.
    pub setting: Option<Setting>,
    /// What the tables say of it, in their order.
    pub path: Vec<Saying>,
}

/// One verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was judged.
    pub asked: String,
    /// The verdict.
    pub allowed: bool,
    /// The rule that decided; none if no rule is against it.
    pub rule: Option<String>,
    /// What the caller is told.
    pub message: Option<String>,
}

/// A value that holds for the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The value; none if there is no limit.
    pub value: Option<String>,
    /// The rule that says so; none if no rule does.
    pub rule: Option<String>,
}

/// What one table says of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Saying {
    /// The table.
    pub table: String,
    /// The key, such as `models.deny`.
    pub key: String,
    /// The value as it was written.
    pub value: String,
    /// Whether a more specific table says something else.
    pub replaced: bool,
}

impl Policy {
    /// Explains what the policy says to a call, and why.
    pub fn explain(
        &self,
        tenant: &str,
        subject: &str,
        scopes: &[Box<str>],
        asked: &Asked<'_>,
    ) -> Explanation {
        let rules = self.rules_of(tenant, subject);
        let path = self.path(tenant, subject);
        let mut sections =
            vec![section("scopes_required", &path, vec![row(listed(scopes), rules.judge_scopes(scopes))])];
        let checks = [
            ("request", fields(rules, asked)),
            (
                "max_body_bytes",
                asked.body_bytes.map(|bytes| row(bytes, rules.judge_body(bytes))).into_iter().collect(),
            ),
            ("models", models(rules, asked)),
            ("providers", providers(rules, asked)),
            ("tiers", tiers(rules, asked)),
            ("tools", tools_of(rules, asked)),
            ("max_output_tokens", output_tokens(rules, asked)),
        ];
        let judged = checks.into_iter().filter(|(_, checks)| !checks.is_empty());
        sections.extend(judged.map(|(about, checks)| section(about, &path, checks)));
        for (about, value, rule) in rules.held() {
            if !sections.iter().any(|section| section.about == about) {
                let setting = Setting { value, rule: rule.map(str::to_owned) };
                sections.push(Section { setting: Some(setting), ..section(about, &path, Vec::new()) });
            }
        }
        let allowed = sections.iter().flat_map(|section| &section.checks).all(|check| check.allowed);
        let looked = |(table, content): (String, Option<&Table>)| Looked { table, known: content.is_some() };
        let tables = path.into_iter().map(looked).collect();
        Explanation { tenant: tenant.to_owned(), subject: subject.to_owned(), allowed, tables, sections }
    }

    /// The tables that speak of a principal, or would if they were there.
    fn path(&self, tenant: &str, subject: &str) -> Path<'_> {
        let name = dotted(&["tenants", tenant]);
        let known = self.tenants.get(tenant);
        let own = known.and_then(|tenant| tenant.subjects.get(subject)).map(|subject| &subject.own);
        vec![
            ("default".to_owned(), Some(&self.default)),
            (name.clone(), known.map(|tenant| &tenant.own)),
            (format!("{name}.{}", dotted(&["subjects", subject])), own),
            ("requirements".to_owned(), Some(&self.requirements)),
            (format!("{name}.requirements"), known.map(|tenant| &tenant.requirements)),
        ]
    }
}

type Path<'a> = Vec<(String, Option<&'a Table>)>;

/// The tables after these are requirements, which replace nothing.
const LAYERS: usize = 3;

fn section(about: &'static str, tables: &Path<'_>, checks: Vec<Check>) -> Section {
    let mut path: Vec<Saying> = Vec::new();
    for (index, (table, content)) in tables.iter().enumerate() {
        let new = content.map_or_else(Vec::new, |content| says(table, &content.config, about));
        if index < LAYERS {
            for saying in &mut path {
                saying.replaced |= new.iter().any(|new| new.key == saying.key);
            }
        }
        path.extend(new);
    }
    Section { about, checks, setting: None, path }
}

/// What a table says of one kind of rule.
fn says(table: &str, config: &RulesConfig, about: &str) -> Vec<Saying> {
    let Ok(Value::Object(keys)) = serde_json::to_value(config) else { return Vec::new() };
    let saying = |key: String, value: &Value| Saying {
        table: table.to_owned(),
        key,
        value: value.to_string(),
        replaced: false,
    };
    match keys.get(about) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(lists)) => {
            let said = lists.iter().filter(|(_, list)| !list.is_null());
            said.map(|(key, list)| saying(format!("{about}.{key}"), list)).collect()
        }
        Some(value) => vec![saying(about.to_owned(), value)],
    }
}

fn row(asked: impl Display, verdict: Result<Passed<'_>, Denied>) -> Check {
    let asked = asked.to_string();
    match verdict {
        Ok(rule) => Check { asked, allowed: true, rule: rule.map(str::to_owned), message: None },
        Err(denied) => {
            let message = Some(denied.to_string());
            Check { asked, allowed: false, rule: Some(denied.rule), message }
        }
    }
}

fn listed(scopes: &[Box<str>]) -> String {
    if scopes.is_empty() { "no scopes".to_owned() } else { scopes.join(", ") }
}

fn fields(rules: &Rules, asked: &Asked<'_>) -> Vec<Check> {
    let verdict = asked.request.map(|request| rules.check_fields(request).map(|()| None));
    verdict.filter(Result::is_err).map(|denied| row("fields", denied)).into_iter().collect()
}

fn models(rules: &Rules, asked: &Asked<'_>) -> Vec<Check> {
    let names = [(&asked.model, ""), (&asked.model_at_provider, " at the provider")];
    let named = names.into_iter().filter_map(|(name, place)| Some((name.as_ref()?, place)));
    named.map(|(name, place)| row(format_args!("{}{place}", shown(name)), rules.judge_model(name))).collect()
}

fn providers(rules: &Rules, asked: &Asked<'_>) -> Vec<Check> {
    asked.provider.iter().map(|id| row(shown(id), rules.judge_provider(id))).collect()
}

fn tiers(rules: &Rules, asked: &Asked<'_>) -> Vec<Check> {
    let of = |tier: Option<&str>| row(tier.map_or("none".to_owned(), shown), rules.judge_tier(tier));
    let named = asked.tier.iter().map(|tier| of(Some(tier)));
    let in_request = asked.request.map(|request| match request.service_tier() {
        Ok(tier) => of(tier.as_deref()),
        Err(_) => row("service_tier", rules.check_asked_tier(request).map(|()| None)),
    });
    named.chain(in_request).collect()
}

fn tools_of(rules: &Rules, asked: &Asked<'_>) -> Vec<Check> {
    let of = |kind: &str, name: Option<&str>| {
        let tool = name.map_or_else(|| kind.to_owned(), |name| format!("{kind}:{name}"));
        row(shown(&tool), rules.judge_tool(kind, name))
    };
    let split = |tool: &str| tool.split_once(':').map_or(of(tool, None), |(kind, name)| of(kind, Some(name)));
    let mut checks: Vec<Check> = asked.tools.iter().map(|tool| split(tool)).collect();
    let Some(request) = asked.request else { return checks };
    let read = tools::read(request, &mut |tool: Tool<'_>| {
        checks.push(of(&tool.kind, tool.name.as_deref()));
        Ok::<(), tools::Unclear>(())
    });
    if let Err(unclear) = read {
        checks.push(row("the tools of the request", rules.judge_unclear_tools(&unclear)));
    }
    checks
}

fn output_tokens(rules: &Rules, asked: &Asked<'_>) -> Vec<Check> {
    let named = asked.max_output_tokens.map(|tokens| row(tokens, rules.judge_tokens(tokens)));
    let in_request = asked.request.map(|request| {
        let tokens = match (request.raw("max_output_tokens"), rules.output_tokens_to_insert(request)) {
            (_, Some(inserted)) => format!("none, {inserted} is inserted"),
            (Some(raw), None) => String::from_utf8_lossy(raw).into_owned(),
            (None, None) => "none".to_owned(),
        };
        row(shown_number(&tokens), rules.judge_output_tokens(request))
    });
    named.into_iter().chain(in_request).collect()
}

/// What stands where a number should be may be anything.
fn shown_number(text: &str) -> String {
    let plain = text.len() <= 40
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || ", ".contains(letter));
    if plain { text.to_owned() } else { shown(text) }
}
