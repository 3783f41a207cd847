//! Checks what an app-server and its clients send against the JSON schema that the pinned Codex binary generates.
//!
//! Answers are checked by the method that was asked, notifications and server requests by the union of all, errors by
//! the error's own shape. Beyond the schema, a field that it does not know is refused: the generated schema is open,
//! and a misspelt optional field would otherwise pass.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use jsonschema::Validator;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::provision;

mod sample;

pub use sample::Fillings;

/// Answers whose type is not named after their method's parameters.
const NAMED_OTHERWISE: [(&str, &str); 2] =
    [("config/batchWrite", "ConfigWriteResponse"), ("config/value/write", "ConfigWriteResponse")];

/// Where the schema of everything stands, and that of what is not experimental.
const WHOLE: &str = "whole";
const STABLE: &str = "stable";

/// The pinned version's schema, once it was asked for.
static PINNED: OnceCell<Option<Arc<Protocol>>> = OnceCell::const_new();

/// The schema of one Codex version, read as it is needed.
pub struct Protocol {
    directory: PathBuf,
    requests: Value,
    stable: HashSet<String>,
    parameters: HashMap<String, Option<String>>,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Protocol {
    /// The schema of the pinned Codex, which every client of the tests goes by; `None` where Codex cannot be had.
    pub async fn pinned() -> anyhow::Result<Option<Arc<Self>>> {
        let found = PINNED.get_or_try_init(|| async {
            match provision::codex("messages of every client follow the schema").await? {
                Some(codex) => anyhow::Ok(Some(Arc::new(Self::generate(&codex).await?))),
                None => Ok(None),
            }
        });
        Ok(found.await?.clone())
    }

    /// Lets `codex` write its schema, once for its version.
    pub async fn generate(codex: &Path) -> anyhow::Result<Self> {
        let directory = provision::clients()?.join(format!("protocol-{}", provision::version("CODEX")?));
        let generate = |place: &str, options: &[&str]| {
            let mut generate = Command::new(codex);
            // Whoever runs the tests may use Codex too, and keeps their own settings to themselves.
            generate.env("HOME", &directory).env("CODEX_HOME", &directory);
            generate.args(["app-server", "generate-json-schema"]).args(options);
            generate.arg("--out").arg(directory.join(place));
            generate
        };
        let steps = vec![generate(WHOLE, &["--experimental"]), generate(STABLE, &[])];
        provision::install_once(&directory, steps).await?;
        let stable = load(&directory.join(STABLE).join("ClientRequest.json"))?;
        Self::read(directory.join(WHOLE), methods(&stable).map(str::to_owned).collect())
    }

    fn read(directory: PathBuf, stable: HashSet<String>) -> anyhow::Result<Self> {
        let requests = load(&directory.join("ClientRequest.json"))?;
        let mut parameters = HashMap::new();
        for variant in variants(&requests) {
            let method = variant.pointer("/properties/method/enum/0").and_then(Value::as_str);
            let params = variant.pointer("/properties/params").context("a request has parameters")?;
            let named =
                params.get("$ref").or_else(|| params.pointer("/anyOf/0/$ref")).and_then(Value::as_str);
            let params = named.and_then(|path| path.rsplit('/').next()).map(str::to_owned);
            parameters.insert(method.context("a request has a method")?.to_owned(), params);
        }
        Ok(Self { directory, requests, stable, parameters, validators: Mutex::default() })
    }

    /// The methods that a client can ask for, in the order of the schema.
    pub fn methods(&self) -> Vec<&str> {
        methods(&self.requests).collect()
    }

    /// Whether a client must have asked for what is experimental before it asks for this.
    pub fn is_experimental(&self, method: &str) -> bool {
        !self.stable.contains(method)
    }

    /// Parameters of a method that the schema accepts, with these values where it leaves a choice.
    pub fn sample(&self, method: &str, fillings: &Fillings<'_>) -> anyhow::Result<Value> {
        let named = |variant: &&Value| variant.pointer("/properties/method/enum/0") == Some(&method.into());
        let variant =
            variants(&self.requests).find(named).with_context(|| format!("Codex knows no {method}"))?;
        let params = variant.pointer("/properties/params").context("a request has parameters")?;
        Ok(fillings.value(&self.requests, params, "params"))
    }

    /// Checks a request of a client.
    pub fn check_request(&self, message: &Value) -> anyhow::Result<()> {
        let method = message.get("method").and_then(Value::as_str).context("a request has a method")?;
        let name = format!("ClientRequest {method}");
        self.check_with(&name, message, || self.variant("ClientRequest", method))
    }

    /// Checks a client's answer to a question of the server.
    pub fn check_answer(&self, asked: &str, result: &Value) -> anyhow::Result<()> {
        let union = load(&self.directory.join("ServerRequest.json"))?;
        let named = |variant: &&Value| variant.pointer("/properties/method/enum/0") == Some(&asked.into());
        let found = variants(&union).find(named).with_context(|| format!("no server asks {asked}"))?;
        let params = found.pointer("/properties/params/$ref").and_then(Value::as_str);
        let params = params.and_then(|path| path.rsplit('/').next()).context("a question has parameters")?;
        self.check_against(&format!("{}Response", params.trim_end_matches("Params")), result)
    }

    /// Checks a whole message of the server; `asked` is the method that an answer answers.
    pub fn check(&self, message: &Value, asked: Option<&str>) -> anyhow::Result<()> {
        if message.get("error").is_some() {
            return self.check_against("JSONRPCError", message);
        }
        if let Some(result) = message.get("result") {
            let method = asked.context("an answer to nothing")?;
            self.check_against("JSONRPCResponse", message)?;
            return self.check_against(&self.response(method)?, result).with_context(|| method.to_owned());
        }
        let union = if message.get("id").is_some() { "ServerRequest" } else { "ServerNotification" };
        let method = message.get("method").and_then(Value::as_str).context("a message without a method")?;
        self.check_with(method, message, || self.variant(union, method))
    }

    fn response(&self, method: &str) -> anyhow::Result<String> {
        if let Some((_, name)) = NAMED_OTHERWISE.iter().find(|(known, _)| *known == method) {
            return Ok((*name).to_owned());
        }
        let parameters = self.parameters.get(method).with_context(|| format!("Codex knows no {method}"))?;
        let stem = match parameters {
            Some(parameters) => {
                parameters.trim_start_matches("Nullable").trim_end_matches("Params").to_owned()
            }
            None => method.split('/').map(capitalized).collect(),
        };
        Ok(format!("{stem}Response"))
    }

    fn check_against(&self, name: &str, value: &Value) -> anyhow::Result<()> {
        self.check_with(name, value, || {
            let file = format!("{name}.json");
            let places = [self.directory.join("v2").join(&file), self.directory.join("v1").join(&file)];
            let found = places.into_iter().find(|path| path.exists());
            load(&found.unwrap_or_else(|| self.directory.join(&file)))
        })
    }

    fn check_with(
        &self,
        name: &str,
        value: &Value,
        schema: impl FnOnce() -> anyhow::Result<Value>,
    ) -> anyhow::Result<()> {
        let validator = self.validator(name, schema)?;
        let said: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("at {}: {}", error.instance_path(), shortened(&error.to_string())))
            .collect();
        anyhow::ensure!(said.is_empty(), "not a {name}\n{}", said.join("\n"));
        Ok(())
    }

    /// The schema of one member of a union of messages, together with the fields that all members have.
    fn variant(&self, union: &str, method: &str) -> anyhow::Result<Value> {
        let mut schema = load(&self.directory.join(format!("{union}.json")))?;
        let shared = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let variants =
            schema.get_mut("oneOf").and_then(Value::as_array_mut).context("messages are a union")?;
        let named =
            |variant: &&mut Value| variant.pointer("/properties/method/enum/0") == Some(&method.into());
        let found = variants.iter_mut().find(named).with_context(|| format!("not a {union}: {method}"))?;
        let mut found = found.take();
        let properties =
            found.get_mut("properties").and_then(Value::as_object_mut).context("a message has fields")?;
        properties.extend(shared);
        let members = found.as_object_mut().context("a schema is an object")?;
        for key in ["$schema", "definitions"] {
            members.insert(key.to_owned(), schema.get_mut(key).map(Value::take).unwrap_or_default());
        }
        Ok(found)
    }

    fn validator(
        &self,
        name: &str,
        schema: impl FnOnce() -> anyhow::Result<Value>,
    ) -> anyhow::Result<Arc<Validator>> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(validator) = validators.get(name) {
            return Ok(Arc::clone(validator));
        }
        let mut schema = schema()?;
        close(&mut schema);
        let validator =
            jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        Ok(Arc::clone(validators.entry(name.to_owned()).or_insert(Arc::new(validator))))
    }
}

fn variants(union: &Value) -> impl Iterator<Item = &Value> {
    union.get("oneOf").and_then(Value::as_array).into_iter().flatten()
}

fn methods(union: &Value) -> impl Iterator<Item = &str> {
    variants(union).filter_map(|variant| variant.pointer("/properties/method/enum/0")?.as_str())
}

/// Makes every object with named properties refuse others, unless it says what others it takes. The fields that all
/// members of a union have are named beside the union, and become fields of each member.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let named = object.get("properties").and_then(Value::as_object).cloned();
            match (named, object.get_mut("oneOf").and_then(Value::as_array_mut)) {
                (Some(shared), Some(variants)) => {
                    for variant in variants {
                        if let Some(Value::Object(properties)) = variant.get_mut("properties") {
                            properties.extend(shared.clone());
                        }
                    }
                }
                (Some(_), None) => {
                    object.entry("additionalProperties").or_insert(Value::Bool(false));
                }
                (None, _) => {}
            }
            object.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

fn load(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn shortened(text: &str) -> String {
    text.chars().take(600).collect()
}
