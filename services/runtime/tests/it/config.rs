//! The exact texts that an operator reads, and the drift check.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use service_runtime::config::{self, Drift, Error, FILE_BYTES_MAX, Problem, Service, Source};
use service_runtime::listen::Address;
use service_runtime::log::LogConfig;
use service_runtime::serve::ServeConfig;

/// A configuration in the shape of the services' own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Root {
    #[expect(dead_code, reason = "only parsed")]
    listen: Address,
    #[serde(default)]
    model_providers: BTreeMap<String, Provider>,
    #[serde(default)]
    #[expect(dead_code, reason = "only parsed")]
    callers: Vec<Caller>,
    #[serde(default)]
    #[expect(dead_code, reason = "only parsed")]
    store: Store,
    #[serde(default)]
    #[expect(dead_code, reason = "only parsed")]
    serve: ServeConfig,
    #[serde(default)]
    #[expect(dead_code, reason = "only parsed")]
    log: LogConfig,
    #[expect(dead_code, reason = "only parsed")]
    fallback: Option<Provider>,
    #[serde(default)]
    #[expect(dead_code, reason = "only parsed")]
    opaque: Opaque,
}

/// A type whose schema says nothing about its keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(with = "BTreeMap<String, u8>")]
#[serde(deny_unknown_fields, default)]
struct Opaque {
    inside: u8,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Provider {
    #[expect(dead_code, reason = "only parsed")]
    base_url: String,
    request_max_retries: Option<u8>,
    #[expect(dead_code, reason = "only parsed")]
    #[serde(default)]
    http_headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Caller {
    #[expect(dead_code, reason = "only parsed")]
    tenant: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Store {
    #[default]
    Memory,
    Sqlite {
        #[expect(dead_code, reason = "only parsed")]
        path: String,
    },
}

fn parse(text: &str) -> Result<Root, Error> {
    Source::from_text("a.toml", text).parse()
}

fn check(text: &str, expected: &str) {
    assert_eq!(parse(text).unwrap_err().to_string(), expected, "for:\n{text}");
}

#[test]
fn a_good_file() {
    let text = "listen = 'unix:a'\nstore = { kind = 'sqlite', path = 'x' }\n[model_providers.corp]\n\
                base_url = 'http://a'\nrequest_max_retries = 3\nhttp_headers = { 'x-any' = 'b' }\n[[callers]]\ntenant = 't'\n";
    assert_eq!(parse(text).unwrap().model_providers["corp"].request_max_retries, Some(3));
}

#[test]
fn unknown_keys() {
    check(
        "listen = 'unix:a'\n\n[model_providers.corp]\nbase_ulr = 'x'\n",
        "a.toml:4:1: unknown key `model_providers.corp.base_ulr`; did you mean `base_url`?",
    );
    check("listten = 'unix:a'\n", "a.toml:1:1: unknown key `listten`; did you mean `listen`?");
    check(
        "listen = 'unix:a'\n[[callers]]\ntenant = 't'\n[[callers]]\nzzz = 1\n",
        "a.toml:5:1: unknown key `callers[1].zzz`; known keys here: `tenant`",
    );
    check(
        "listen = 'unix:a'\nserve = { http2 = { max_concurent_streams = 1 } }\n",
        "a.toml:2:21: unknown key `serve.http2.max_concurent_streams`; did you mean `max_concurrent_streams`?",
    );
    check(
        "listen = 'unix:a'\n[model_providers.'a b']\nbase-url = 'x'\n",
        "a.toml:3:1: unknown key `model_providers.\"a b\".base-url`; did you mean `base_url`?",
    );
    check(
        "listen = 'unix:a'\n[store]\nkind = 'sqlite'\npathh = 'x'\n",
        "a.toml:4:1: unknown key `store.pathh`; did you mean `path`?",
    );
    check(
        "listen = 'unix:a'\n[fallback]\nbase_urls = 'x'\n",
        "a.toml:3:1: unknown key `fallback.base_urls`; did you mean `base_url`?",
    );
    check(
        "listen = 'unix:a'\n[opaque]\ninsid = 1\n",
        "a.toml:3:1: unknown key `opaque.insid`; did you mean `inside`?",
    );
}

#[test]
fn all_unknown_keys_at_once() {
    check(
        "listen = 'unix:a'\nloog = 1\n[model_providers.corp]\nbase_url = 'x'\nhttp_header = {}\n[log]\nlevl = 'info'\n",
        "a.toml:2:1: unknown key `loog`; did you mean `log`?\n\
         a.toml:5:1: unknown key `model_providers.corp.http_header`; did you mean `http_headers`?\n\
         a.toml:7:1: unknown key `log.levl`; did you mean `level`?",
    );
}

#[test]
fn unknown_keys_and_wrong_types_at_once() {
    check(
        "listen = 5\nloog = 1\nserve = 1\n[model_providers.corp]\nbase_url = 7\nrequest_max_retries = 'x'\nhttp_header = {}\n\
         [model_providers.other]\nrequest_max_retries = 300\n[model_providers.last]\nbase_url = 'x'\n\
         http_headers = { a = 1, b = 'b', c = 2 }\n[log]\nlevel = 1\nformat = 'jsn'\n[[callers]]\n[[callers]]\ntenant = 1\n\
         [[callers]]\n[store]\nkind = 'sqlite'\npathh = 'x'\n",
        "a.toml:1:10: `listen` must be a string, not this integer\n\
         a.toml:2:1: unknown key `loog`; did you mean `log`?\n\
         a.toml:3:9: `serve` must be a table, not this integer\n\
         a.toml:5:12: `model_providers.corp.base_url` must be a string, not this integer\n\
         a.toml:6:23: `model_providers.corp.request_max_retries` must be a whole number from 0 to 255, not a string\n\
         a.toml:7:1: unknown key `model_providers.corp.http_header`; did you mean `http_headers`?\n\
         a.toml:8:18: missing key `model_providers.other.base_url`; expected a string\n\
         a.toml:9:23: `model_providers.other.request_max_retries` must be a whole number from 0 to 255, not this integer\n\
         a.toml:12:22: `model_providers.last.http_headers.a` must be a string, not this integer\n\
         a.toml:12:38: `model_providers.last.http_headers.c` must be a string, not this integer\n\
         a.toml:14:9: `log.level` must be a string, not this integer\n\
         a.toml:15:10: `log.format` must be one of `auto`, `human`, `json`, not `jsn`; did you mean `json`?\n\
         a.toml:16:1: missing key `callers[0].tenant`; expected a string\n\
         a.toml:18:10: `callers[1].tenant` must be a string, not this integer\n\
         a.toml:19:1: missing key `callers[2].tenant`; expected a string\n\
         a.toml:22:1: unknown key `store.pathh`; did you mean `path`?",
    );
}

#[test]
fn wrong_types_do_not_show_the_value() {
    check("listen = 5\n", "a.toml:1:10: `listen` must be a string, not this integer");
    check(
        "listen = 'unix:a'\n[model_providers.corp]\nbase_url = 'x'\nrequest_max_retries = 'hunter2'\n",
        "a.toml:4:23: `model_providers.corp.request_max_retries` must be a whole number from 0 to 255, not a string",
    );
    check(
        "listen = 'unix:a'\n[model_providers.corp]\nbase_url = 'x'\nrequest_max_retries = 300\n",
        "a.toml:4:23: `model_providers.corp.request_max_retries` must be a whole number from 0 to 255, not this integer",
    );
    check("listen = 'unix:a'\ncallers = {}\n", "a.toml:2:11: `callers` must be an array, not a table");
    check("listen = 'unix:a'\nlog = 'info'\n", "a.toml:2:7: `log` must be a table, not a string");
    check(
        "listen = 'unix:a'\n[log]\nformat = 'jsn'\n",
        "a.toml:3:10: `log.format` must be one of `auto`, `human`, `json`, not `jsn`; did you mean `json`?",
    );
    check(
        "listen = 'unix:a'\nlog = { level = 'loud' }\n",
        "a.toml:2:17: `log.level` is refused: there is no level or filter \"loud\"; write error, warn, info, debug, trace or off, \
         or target=level pairs",
    );
    check(
        "listen = 'localhost:80'\n",
        "a.toml:1:10: `listen` is refused: not an address: expected ip:port such as 127.0.0.1:4100 or [::1]:4100, \
         or unix:PATH",
    );
}

#[test]
fn missing_keys() {
    check("", "a.toml:1:1: missing key `listen`; expected a string");
    check("log = {}\n", "a.toml:1:1: missing key `listen`; expected a string");
    check(
        "listen = 'unix:a'\n\n[model_providers.corp]\nrequest_max_retries = 1\n",
        "a.toml:3:18: missing key `model_providers.corp.base_url`; expected a string",
    );
    check(
        "listen = 'unix:a'\n[[callers]]\n",
        "a.toml:2:1: missing key `callers[0].tenant`; expected a string",
    );
}

#[test]
fn syntax_errors() {
    check("listen = 'unix:a\n", "a.toml:1:17: not valid TOML: invalid literal string, expected `'`");
    check("listen 'unix:a'\n", "a.toml:1:8: not valid TOML: key with no value, expected `=`");
    check("listen = 'unix:a'\nlisten = 'unix:b'\n", "a.toml:2:1: not valid TOML: duplicate key");
}

#[test]
fn files_that_cannot_be_used() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.toml");
    let load = |path: &Path| config::load::<Root>(path).unwrap_err();
    let shown = path.display();
    assert_eq!(load(&path).to_string(), format!("{shown}: no such configuration file"));
    std::fs::write(&path, b"a = 1\nb = '\xff'\n").unwrap();
    assert_eq!(load(&path).to_string(), format!("{shown}:2: not UTF-8 text"));
    std::fs::write(&path, "#".repeat(FILE_BYTES_MAX + 1)).unwrap();
    assert_eq!(load(&path).to_string(), format!("{shown}: the configuration file is over 1048576 bytes"));
    assert!(matches!(load(root.path()), Error::Unreadable { .. }), "a directory cannot be read");
    std::fs::write(&path, "listen = 1\n").unwrap();
    assert!(load(&path).to_string().starts_with(&format!("{shown}:1:10: ")));
}

#[test]
fn a_services_own_findings_get_their_lines() {
    let source =
        Source::from_text("a.toml", "listen = 'unix:a'\n[model_providers.corp]\nbase_url = 'ftp://x'\n");
    source.parse::<Root>().unwrap();
    let problems = vec![
        Problem::new("model_providers.corp.base_url", "is not an http address").fix("begin it with https://"),
        Problem::new("model_providers.corp.env_key", "is needed"),
        Problem::new("", "nothing listens on TCP"),
        Problem::new("listen", "is in a directory that others can write"),
    ];
    assert_eq!(
        source.invalid(problems).to_string(),
        "a.toml: nothing listens on TCP\n\
         a.toml:1:1: `listen` is in a directory that others can write\n\
         a.toml:2:18: `model_providers.corp.env_key` is needed\n\
         a.toml:3:1: `model_providers.corp.base_url` is not an http address; begin it with https://"
    );
}

#[test]
fn a_committed_schema_must_be_the_codes() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.schema.json");
    assert!(matches!(config::check_committed::<Root>(&path), Err(Drift::Differs { .. })));
    let text = config::schema::<Root>();
    assert!(text.ends_with("}\n"));
    std::fs::write(&path, &text).unwrap();
    config::check_committed::<Root>(&path).unwrap();
    std::fs::write(&path, text.replace("base_url", "base_uri")).unwrap();
    let drift = config::check_committed::<Root>(&path).unwrap_err();
    assert!(drift.to_string().contains("UPDATE_SCHEMAS=1"), "{drift}");
}

/// What is wrong with a text that is parsed and then found wrong at these keys.
fn checked(text: &str, keys: &[&str]) -> Vec<String> {
    let source = Source::from_text("gateway.toml", text);
    let wrong = keys.iter().map(|key| Problem::new(*key, "is wrong")).collect();
    let error = source.parse_checked(|_: Root| Err::<(), _>(wrong)).unwrap_err();
    error.to_string().lines().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect()
}

#[test]
fn a_check_sees_what_can_be_parsed() {
    let text = "listn = 1\nlisten = \"127.0.0.1:1\"\n[model_providers.corp]\nbase_url = \"x\"\nretries = 1\n";
    let unknown =
        ["unknown key `listn`; did you mean `listen`?", "unknown key `model_providers.corp.retries`"];
    let told = checked(text, &["listen", "model_providers.corp.base_url", "store.path"]);
    assert_eq!(told.len(), 5, "{told:?}");
    // What is not there may be what is unknown.
    let told = checked(text, &["model_providers.corp.request_max_retries", "model_providers.corp"]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().zip(unknown).all(|(told, unknown)| told.starts_with(unknown)), "{told:?}");
    // A provider that is gone may be what others speak of.
    let text = "listen = \"127.0.0.1:1\"\n[model_providers.corp]\nbase_url = 1\n";
    assert_eq!(
        checked(text, &["store.provider"]),
        ["`model_providers.corp.base_url` must be a string, not this integer"]
    );
}

#[test]
fn a_file_is_of_one_service() {
    let is_of =
        |text: &str, service| Source::from_text("a.toml", text).is_of(service).err().map(|e| e.to_string());
    for (text, gateway, agent) in [
        ("", true, true),
        ("not toml", true, true),
        ("[log]\n[authentication]\n", true, true),
        ("[model_providers.a]\n", true, false),
        ("store = \"a\"\n", false, true),
        ("store = \"a\"\nlisten = []\n", true, true),
    ] {
        assert_eq!(is_of(text, Service::Gateway).is_none(), gateway, "{text}");
        assert_eq!(is_of(text, Service::Agent).is_none(), agent, "{text}");
    }
}
