//! The dashboard asks for what both services really show, and the collector's configuration is whole and goes by what the
//! gateway really sends.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::{Value, json};
use service_e2e::collector::Collector;
use service_e2e::home::Home;
use service_e2e::http;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{Agent, Gateway, STOP_TIME_MAX};

use super::{deploy, list, text, yaml};

/// Words of PromQL that stand where a metric's name could.
const WORDS: [&str; 12] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "inf",
];
/// Labels that a scrape adds.
const OF_THE_SCRAPE: [&str; 2] = ["instance", "job"];

/// What a query asks for: metrics, and labels of any of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// Reads a query as far as that is needed.
fn asked(query: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = query;
    // The word before a parenthesis tells whether labels or an expression are inside.
    let mut word = String::new();
    while let Some(first) = rest.chars().next() {
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
        if first == '{' || first == '[' || (first == '(' && WORDS.contains(&word.as_str())) {
            let close = [('{', '}'), ('[', ']'), ('(', ')')].into_iter().find(|(open, _)| *open == first);
            let (inside, after) = rest[1..].split_once(close.unwrap().1).unwrap();
            if first != '[' {
                let names = inside.split(',').map(|part| part.split(['=', '!']).next().unwrap().trim());
                asked.labels.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            }
            rest = after;
            word.clear();
        } else if is_name(first) {
            let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
            word = rest[..end].to_owned();
            rest = &rest[end..];
            let next = rest.trim_start();
            let is_call = ["(", "by ", "without "].iter().any(|start| next.starts_with(start));
            let is_number = first.is_ascii_digit();
            if !is_call && !is_number && !WORDS.contains(&word.as_str()) {
                asked.metrics.insert(word.clone());
            }
        } else {
            rest = &rest[first.len_utf8()..];
            if !first.is_whitespace() {
                word.clear();
            }
        }
    }
    asked
}

#[test]
fn queries_are_read() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (query, metrics, labels) in [
        ("a", &["a"][..], &[][..]),
        (
            "sum by (le, x) (rate(a_b:c{x=~\"$y\", z!=\"w\"}[$__rate_interval])) / 60 * b",
            &["a_b:c", "b"],
            &["le", "x", "z"],
        ),
        ("a / on (x) group_left () b", &["a", "b"], &["x"]),
        ("histogram_quantile(0.9, c)", &["c"], &[]),
    ] {
        assert_eq!(asked(query), Asked { metrics: names(metrics), labels: names(labels) }, "{query}");
    }
}

/// The metrics of a Prometheus text with their labels.
fn shown(metrics: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut shown = BTreeMap::<String, BTreeSet<String>>::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#') && line.contains(' ')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let labels = rest.split("=\"").filter_map(|part| part.rsplit([',', '"', '{']).next());
        shown.entry(name.to_owned()).or_default().extend(labels.map(|label| label.trim().to_owned()));
    }
    shown
}

fn call(prompt: &str) -> Value {
    json!({"model": "rehearsal", "stream": true, "input": prompt})
}

async fn make_calls(gateway: &Gateway) -> anyhow::Result<()> {
    for prompt in ["Hello", "rehearse: error rate_limit"] {
        let body = call(prompt).to_string();
        http::send(gateway.at, &http::post(gateway.at, "/v1/responses", "", body.as_bytes())).await?;
    }
    Ok(())
}

/// A turn that is answered after its stream broke once, and one that fails.
async fn run_turns(agent: &Agent) -> anyhow::Result<()> {
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    for prompt in ["rehearse: cut", "Hello", "rehearse: error rate_limit"] {
        let opened = rpc.call("thread/start", json!({})).await?;
        let thread = text(&opened["thread"]["id"]).to_owned();
        let input = json!([{"type": "text", "text": prompt}]);
        rpc.call("turn/start", json!({"threadId": thread, "input": input})).await?;
        if prompt == "rehearse: cut" {
            // It breaks each time; the first retry is all that is needed here.
            rpc.notified("error").await?;
            let turn = rpc.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
            let turn = turn["thread"]["turns"][0]["id"].clone();
            rpc.notified("error").await?;
            rpc.call("turn/interrupt", json!({"threadId": thread, "turnId": turn})).await?;
        }
        rpc.notified("turn/completed").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_dashboard_asks_for_what_is_there() -> anyhow::Result<()> {
    let gateway = Gateway::start("").await?;
    make_calls(&gateway).await?;
    let home = Home::new()?;
    let agent = Agent::start(&home, &gateway).await?;
    run_turns(&agent).await?;
    let mut metrics = http::get(gateway.at, "/metrics").await?.text;
    metrics.push_str(&http::get(agent.at()?, "/metrics").await?.text);
    let shown = shown(&metrics);

    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(deploy("telemetry/dashboard.json")?)?)?;
    let panels: Vec<&Value> = list(&dashboard["panels"]).iter().collect();
    let mut queries: Vec<String> = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = list(&panel["targets"]);
        assert!(!targets.is_empty(), "{panel:#}");
        queries.extend(targets.iter().map(|target| text(&target["expr"]).to_owned()));
    }
    assert!(queries.len() >= 15);
    for variable in
        list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query")
    {
        let query = text(&variable["query"]["query"]);
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).context("label_values")?;
        queries.push(format!("sum by ({label}) ({metric})"));
    }
    for query in queries {
        let asked = asked(&query);
        assert!(!asked.metrics.is_empty(), "{query}");
        let mut there: BTreeSet<&str> = OF_THE_SCRAPE.into();
        for metric in &asked.metrics {
            let labels =
                shown.get(metric).with_context(|| format!("{query}: neither service shows {metric}"))?;
            there.extend(labels.iter().map(String::as_str));
        }
        for label in &asked.labels {
            assert!(there.contains(label.as_str()), "{query}: there is no label {label}");
        }
    }
    Ok(())
}

#[test]
fn panels_do_not_lie_on_each_other() -> anyhow::Result<()> {
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(deploy("telemetry/dashboard.json")?)?)?;
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["title"]);
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} lies on another", panel["title"]);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_collector_s_pipelines_are_whole() -> anyhow::Result<()> {
    let name = "the_collector_s_pipelines_are_whole";
    let Some(config) = yaml(name, &deploy("telemetry/collector.yaml")?).await? else { return Ok(()) };
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    assert_eq!(
        keys(&config),
        ["exporters", "extensions", "processors", "receivers", "service"].map(str::to_owned).into()
    );
    let pipelines = &config["service"]["pipelines"];
    assert_eq!(keys(pipelines), ["logs", "metrics", "traces"].map(str::to_owned).into());
    for kind in ["receivers", "processors", "exporters"] {
        let all = pipelines.as_object().context("pipelines")?.values();
        let used: BTreeSet<String> =
            all.flat_map(|pipeline| list(&pipeline[kind])).map(|name| text(name).to_owned()).collect();
        assert_eq!(used, keys(&config[kind]), "{kind}: declared is what is used");
    }
    let used: BTreeSet<String> =
        list(&config["service"]["extensions"]).iter().map(|name| text(name).to_owned()).collect();
    assert_eq!(used, keys(&config["extensions"]));
    for pipeline in pipelines.as_object().context("pipelines")?.values() {
        let processors = list(&pipeline["processors"]);
        assert_eq!(processors.first(), Some(&json!("memory_limiter")), "{pipeline}");
        assert_eq!(processors.last(), Some(&json!("batch")), "{pipeline}");
        assert_eq!(pipeline["receivers"], json!(["otlp"]));
    }
    Ok(())
}

/// A sampling rule on an attribute that nothing carries would keep nothing.
#[tokio::test]
async fn the_collector_samples_by_what_spans_carry() -> anyhow::Result<()> {
    let name = "the_collector_samples_by_what_spans_carry";
    let Some(config) = yaml(name, &deploy("telemetry/collector.yaml")?).await? else { return Ok(()) };
    let collector = Collector::start().await?;
    let gateway = Gateway::start(&format!(
        "[telemetry]\nlog_level = \"info\"\notlp_endpoint = \"{}\"\n",
        collector.endpoint()
    ))
    .await?;
    make_calls(&gateway).await?;
    let status = gateway.service.stop(STOP_TIME_MAX).await?;
    assert!(status.success());
    let sent = collector.received("TraceService")?;
    let carried = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
    let mut checked = 0;
    for policy in list(&config["processors"]["tail_sampling"]["policies"]) {
        let kind = text(&policy["type"]);
        assert!(policy[kind].is_object(), "{policy}");
        if kind == "string_attribute" {
            let values = list(&policy[kind]["values"]);
            assert!(carried(text(&policy[kind]["key"])), "{policy}");
            assert!(values.iter().any(|value| carried(text(value))), "{policy}");
            checked += 1;
        }
    }
    assert_eq!(checked, 1);
    Ok(())
}
