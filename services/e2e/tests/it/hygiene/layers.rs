//! Only the edges of the design exist between the workspace's crates.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Each crate and the crates that it may use.
const LAYERS: [(&str, &[&str]); 16] = [
    ("tidegate-responses", &[]),
    ("tidegate-proto", &[]),
    ("tidegate-callers", &[]),
    ("gateway-policy", &["tidegate-responses"]),
    ("gateway-providers", &["tidegate-proto", "tidegate-responses"]),
    (
        "gateway-server",
        &["tidegate-proto", "tidegate-responses", "tidegate-callers", "gateway-policy", "gateway-providers"],
    ),
    ("gateway-testkit", &["tidegate-responses"]),
    ("agent-threads", &[]),
    ("agent-session", &["tidegate-proto", "tidegate-responses", "agent-threads"]),
    (
        "agent-server",
        &["tidegate-proto", "tidegate-responses", "tidegate-callers", "agent-session", "agent-threads"],
    ),
    ("service-runtime", &["tidegate-proto", "tidegate-callers"]),
    (CLOCK, &[]),
    (
        "gatewayd",
        &[
            "service-runtime",
            "gateway-server",
            "gateway-policy",
            "gateway-providers",
            "tidegate-callers",
            "tidegate-proto",
        ],
    ),
    (
        "agentd",
        &[
            "service-runtime",
            "agent-server",
            "agent-session",
            "agent-threads",
            "tidegate-callers",
            "tidegate-proto",
        ],
    ),
    (
        "tidegate",
        &[
            "gatewayd",
            "agentd",
            "gateway-policy",
            "service-runtime",
            "tidegate-callers",
            "tidegate-proto",
            "tidegate-responses",
        ],
    ),
    ("service-e2e", ANY),
];

/// Tests across the services may use whatever they need.
const ANY: &[&str] = &["*"];

/// The scripted upstream is for tests of what calls an upstream; the agent never does.
const TEST_ONLY: &str = "gateway-testkit";
const TESTS_WITH_UPSTREAM: [&str; 5] =
    ["gateway-providers", "gateway-server", "gatewayd", "tidegate", "tidegate-callers"];

/// The paused clock is for every test of sockets, and for nothing else.
const CLOCK: &str = "test-clock";

pub(super) fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(service_e2e::places::repository().unwrap().join("Cargo.toml")).no_deps();
    command.other_options(["--offline".to_owned()]).exec().unwrap()
}

struct Edge {
    from: String,
    to: String,
    tests: bool,
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let members = metadata.workspace_packages();
    let ours = |name: &str| members.iter().any(|member| member.name.as_str() == name);
    let mut edges = Vec::new();
    for member in &members {
        for dependency in member.dependencies.iter().filter(|dependency| ours(&dependency.name)) {
            let tests = dependency.kind == DependencyKind::Development;
            edges.push(Edge { from: member.name.to_string(), to: dependency.name.clone(), tests });
        }
    }
    edges
}

fn forbidden(edges: &[Edge]) -> Vec<String> {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    let allowed = |edge: &Edge| {
        let Some(below) = layers.get(edge.from.as_str()) else { return false };
        let upstream =
            edge.tests && edge.to == TEST_ONLY && TESTS_WITH_UPSTREAM.contains(&edge.from.as_str());
        let clock = edge.tests && edge.to == CLOCK;
        *below == ANY || below.contains(&edge.to.as_str()) || upstream || clock
    };
    edges
        .iter()
        .filter(|edge| !allowed(edge))
        .map(|edge| format!("{} may not depend on {}", edge.from, edge.to))
        .collect()
}

#[test]
fn crates_depend_as_the_design_says() {
    super::none(forbidden(&edges(&metadata())));
}

#[test]
fn every_member_has_a_layer_and_every_layer_a_member() {
    let members: Vec<String> =
        metadata().workspace_packages().iter().map(|member| member.name.to_string()).collect();
    let unknown = members.iter().filter(|member| !LAYERS.iter().any(|(name, _)| name == member));
    let missing = LAYERS.iter().filter(|(name, _)| !members.iter().any(|member| member == name));
    let unknown = unknown.map(|member| format!("{member} has no layer"));
    super::none(unknown.chain(missing.map(|(name, _)| format!("{name} is no member"))).collect());
}

#[test]
fn a_forbidden_edge_is_seen() {
    let edge = |from: &str, to: &str, tests| Edge { from: from.into(), to: to.into(), tests };
    let planted = [
        edge("gateway-server", "agent-threads", false),
        edge("agent-server", "gateway-testkit", true),
        edge("gateway-server", "gateway-testkit", false),
        edge("service-runtime", CLOCK, false),
        edge("stranger", "tidegate-proto", false),
    ];
    assert_eq!(forbidden(&planted).len(), planted.len());
    assert!(forbidden(&[edge("gateway-server", "gateway-testkit", true)]).is_empty());
}
