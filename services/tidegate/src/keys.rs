//! `tidegate keys`: makes, shows and takes back the keys of callers, in the file that a service follows.
//!
//! No service has to run, and none is told: a running one sees the file change.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tidegate_callers::{KeyEntry, KeysFile, NewKey};

use crate::home::Home;

/// The longest time that a key can be made for: a hundred years.
const EXPIRES_IN_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key and print it, once: the file only gets its hash.
    Create {
        /// Whose key it is.
        #[arg(long)]
        tenant: String,
        /// Who uses it.
        #[arg(long)]
        subject: String,
        /// What it is given for. Repeatable.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How long it is valid, such as 90d, 12h or 30m; for ever otherwise.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires_in: Option<Duration>,
        /// What to remember about it.
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Show all keys: not the keys themselves, which nobody can.
    List {
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Take a key back. A running service refuses it within a second.
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the keys are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The keys file.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The configuration file that names the keys file; the gateway.toml of `up` otherwise.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What is to be said: an answer, and a word to a person.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) answer: String,
    pub(crate) note: String,
}

/// Does it.
pub(crate) fn run(command: Command, now: SystemTime) -> anyhow::Result<Said> {
    match command {
        Command::Create { tenant, subject, scopes, expires_in, note, place } => {
            let expires_at = match expires_in {
                Some(time) => {
                    Some(now.checked_add(time).context("the key would be valid for too long")?.into())
                }
                None => None,
            };
            let file = place.find()?;
            let created = file.create(NewKey { tenant, subject, scopes, expires_at, note }, now)?;
            let note = format!(
                "key {} for {} of {} is in {}; this is the only time that it is shown",
                created.entry.id,
                created.entry.subject,
                created.entry.tenant,
                file.path().display()
            );
            Ok(Said { answer: format!("{}\n", created.key.expose_secret()), note })
        }
        Command::List { json, place } => {
            let keys = place.find()?.list()?;
            let answer = if json { document(&keys)? } else { table(&keys)? };
            Ok(Said { answer, note: String::new() })
        }
        Command::Revoke { id, place } => {
            let file = place.find()?;
            let before = file.list()?;
            let entry = file.revoke(&id, now)?;
            let was = before.iter().any(|key| key.id == entry.id && key.revoked_at.is_some());
            let done = if was { "was taken back before" } else { "is taken back" };
            let note = format!("key {} for {} of {} {done}", entry.id, entry.subject, entry.tenant);
            Ok(Said { answer: String::new(), note })
        }
    }
}

impl Place {
    fn find(self) -> anyhow::Result<KeysFile> {
        let config = match (self.file, self.config) {
            (Some(file), _) => return Ok(KeysFile::at(file)),
            (None, Some(config)) => config,
            (None, None) => Home::find(None)?.gateway_config().context(
                "no keys file is known; name it with --file, or with --config the configuration that does",
            )?,
        };
        named_by(&config).map(KeysFile::at)
    }
}

/// The keys file that a configuration names. The rest of the configuration may be wrong.
fn named_by(config: &Path) -> anyhow::Result<PathBuf> {
    let text =
        std::fs::read_to_string(config).with_context(|| format!("cannot read {}", config.display()))?;
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is not TOML", config.display()))?;
    let file = table.get("authentication").and_then(|table| table.get("keys_file"));
    let Some(file) = file.and_then(toml::Value::as_str) else {
        bail!(
            "{} names no keys file; set `keys_file` under [authentication], or name the file with --file",
            config.display()
        );
    };
    Ok(config.parent().unwrap_or(Path::new("")).join(file))
}

/// The entries as a service reads them, without their hashes.
fn values(keys: &[KeyEntry]) -> anyhow::Result<Vec<Value>> {
    let value = |key: &KeyEntry| {
        let mut value = serde_json::to_value(key)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("sha256");
        }
        Ok(value)
    };
    keys.iter().map(value).collect()
}

fn document(keys: &[KeyEntry]) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&json!({ "keys": values(keys)? }))?))
}

fn table(keys: &[KeyEntry]) -> anyhow::Result<String> {
    const HEADS: [&str; 8] = ["ID", "TENANT", "SUBJECT", "SCOPES", "CREATED", "EXPIRES", "REVOKED", "NOTE"];
    const FIELDS: [&str; 8] =
        ["id", "tenant", "subject", "scopes", "created_at", "expires_at", "revoked_at", "note"];
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(values(keys)?.iter().map(|key| FIELDS.map(|field| cell(key.get(field)))));
    let mut widths = [0; HEADS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}  ")?;
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    Ok(table)
}

/// A value on one line, without anything that a terminal would act on.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.chars().flat_map(char::escape_debug).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        Some(other) => other.to_string(),
    };
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A number of days, hours, minutes or seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a number with d, h, m or s after it, such as 90d".to_owned();
    let unit = match text.chars().last().ok_or_else(wrong)? {
        'd' => 86_400,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let count = text.get(..text.len() - 1).and_then(|count| count.parse::<u64>().ok()).ok_or_else(wrong)?;
    let time = count.checked_mul(unit).map(Duration::from_secs).filter(|time| *time <= EXPIRES_IN_MAX);
    match time {
        Some(time) if !time.is_zero() => Ok(time),
        Some(_) => Err("is no time at all".to_owned()),
        None => Err("is over a hundred years; leave it out for a key that does not expire".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn keys(line: &[&str]) -> anyhow::Result<Said> {
        let words = std::iter::once("keys").chain(line.iter().copied());
        run(Line::try_parse_from(words)?.command, UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    }

    #[test]
    fn a_key_is_made_shown_and_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("gateway.toml");
        std::fs::write(&config, "[authentication]\nkeys_file = \"keys.toml\"\n").unwrap();
        let (config, file) = (config.to_str().unwrap(), directory.path().join("keys.toml"));
        let file = file.to_str().unwrap();
        let made = keys(&[
            "create",
            "--tenant",
            "acme",
            "--subject",
            "ci",
            "--scope",
            "a",
            "--scope",
            "b",
            "--expires-in",
            "90d",
            "--note",
            "for\u{1b}[31m CI",
            "--config",
            config,
        ])
        .unwrap();
        let key = made.answer.trim_end();
        assert!(made.answer == format!("{key}\n") && key.starts_with("tg_") && !made.note.contains(key));
        let id = key.split('_').nth(1).unwrap();
        let shown = keys(&["list", "--file", file]).unwrap().answer;
        let expected = format!(
            "ID            TENANT  SUBJECT  SCOPES  CREATED               EXPIRES               REVOKED  NOTE\n\
             {id}  acme    ci       a,b     2027-01-15T08:00:00Z  2027-04-15T08:00:00Z  -        for\\u{{1b}}[31m CI\n"
        );
        assert_eq!(shown, expected);
        for said in ["is taken back", "was taken back before"] {
            let note = keys(&["revoke", id, "--file", file]).unwrap().note;
            assert_eq!(note, format!("key {id} for ci of acme {said}"));
        }
        let document: Value =
            serde_json::from_str(&keys(&["list", "--json", "--config", config]).unwrap().answer).unwrap();
        assert_eq!(
            document,
            json!({"keys": [{
                "id": id, "tenant": "acme", "subject": "ci", "scopes": ["a", "b"],
                "created_at": "2027-01-15T08:00:00Z", "expires_at": "2027-04-15T08:00:00Z",
                "revoked_at": "2027-01-15T08:00:00Z", "note": "for\u{1b}[31m CI",
            }]})
        );
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("empty.toml"), "").unwrap();
        let said = |line: &[&str]| keys(line).unwrap_err().to_string();
        assert!(
            said(&["list", "--config", &path("empty.toml")]).contains("names no keys file; set `keys_file`")
        );
        assert!(said(&["list", "--config", &path("none.toml")]).contains("cannot read"));
        assert!(said(&["list", "--file", &path("none.toml")]).contains("`tidegate keys create` makes it"));
        let file = path("keys.toml");
        let made = keys(&["create", "--tenant", "acme", "--subject", "ci", "--file", &file]).unwrap();
        assert!(
            said(&["revoke", "000000000000", "--file", &file]).contains("`tidegate keys list` shows the ids")
        );
        let bad = said(&["create", "--tenant", "a/b", "--subject", "ci", "--file", &file]);
        assert!(bad.contains("the tenant is not 1 to 128"), "{bad}");
        assert!(!made.answer.is_empty());
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("90d", 7_776_000), ("12h", 43_200), ("30m", 1800), ("5s", 5)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "d", "0d", "-1d", "1", "1.5h", "1w", "99999999999d", "1ä"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
