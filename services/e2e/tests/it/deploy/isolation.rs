//! Only the gateway reaches out and only the gateway holds what is worth stealing: the network policies are played
//! through, and the volumes looked through.

use std::net::IpAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Manifests, list, selects, text};

/// Somewhere a pod may want to go.
enum Place<'a> {
    /// A pod of this installation.
    Pod(&'a Value),
    /// A pod with these labels in a namespace of this name.
    Elsewhere(&'a str, Value),
    /// An address outside of the cluster.
    Address(&'a str),
}

/// Whether the policies let a pod with these labels open a connection.
fn reaches(manifests: &Manifests, pod: &Value, place: &Place<'_>, protocol: &str, port: u16) -> bool {
    let policies: Vec<_> = manifests
        .of_kind("NetworkPolicy")
        .filter(|policy| selects(&policy["spec"]["podSelector"]["matchLabels"], pod))
        .filter(|policy| list(&policy["spec"]["policyTypes"]).contains(&json!("Egress")))
        .collect();
    // A pod that no policy names may go anywhere.
    policies.is_empty()
        || policies.iter().flat_map(|policy| list(&policy["spec"]["egress"])).any(|rule| {
            let ports = list(&rule["ports"]);
            let fits = |there: &Value| there["protocol"] == protocol && there["port"] == port;
            // A rule without places or ports means all of them.
            let to = rule["to"].as_array();
            (rule["ports"].is_null() || ports.iter().any(fits))
                && to.is_none_or(|peers| peers.iter().any(|peer| is_at(peer, place)))
        })
}

fn is_at(peer: &Value, place: &Place<'_>) -> bool {
    let pods = &peer["podSelector"]["matchLabels"];
    match place {
        Place::Pod(labels) => peer["namespaceSelector"].is_null() && selects(pods, labels),
        Place::Elsewhere(namespace, labels) => {
            let names = json!({"kubernetes.io/metadata.name": namespace});
            selects(&peer["namespaceSelector"]["matchLabels"], &names) && selects(pods, labels)
        }
        Place::Address(address) => {
            let block = &peer["ipBlock"];
            let within = |range: &Value| contains(text(range), address);
            within(&block["cidr"]) && !list(&block["except"]).iter().any(within)
        }
    }
}

/// Whether an address is in a range such as `10.0.0.0/8`.
fn contains(range: &str, address: &str) -> bool {
    let Some((network, length)) = range.split_once('/') else { return false };
    let (network, address): (IpAddr, IpAddr) = (network.parse().unwrap(), address.parse().unwrap());
    let length: u32 = length.parse().unwrap();
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let ((network, width), (address, other)) = (bits(network), bits(address));
    let away = (network ^ address).checked_shr(width - length).unwrap_or(0);
    width == other && away == 0
}

#[test]
fn ranges_hold_what_they_say() {
    for (range, address, expected) in [
        ("0.0.0.0/0", "203.0.113.7", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("169.254.169.254/32", "169.254.169.254", true),
        ("169.254.169.254/32", "169.254.169.253", false),
        ("2000::/3", "fd00:ec2::254", false),
        ("2000::/3", "2606:4700::1", true),
    ] {
        assert_eq!(contains(range, address), expected, "{range} {address}");
    }
}

/// Addresses that no pod has to reach: nodes' credentials, the cluster, the company, this machine, and forms that carry
/// such an address inside.
const INSIDE: [&str; 15] = [
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "127.0.0.1",
    "0.0.0.0",
    "fd00:ec2::254",
    "fe80::1",
    "::1",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
];
/// Addresses of providers.
const OUTSIDE: [&str; 2] = ["203.0.113.7", "2606:4700::1"];

#[tokio::test]
async fn only_the_gateway_reaches_out() -> anyhow::Result<()> {
    let Some(base) = Manifests::render("only_the_gateway_reaches_out", "base").await? else { return Ok(()) };
    let labels = |kind, name| anyhow::Ok(&base.named(kind, name)?["spec"]["template"]["metadata"]["labels"]);
    let (gateway, agent) = (labels("Deployment", "gateway")?, labels("StatefulSet", "agent")?);
    let dns = || Place::Elsewhere("kube-system", json!({"k8s-app": "kube-dns"}));
    let tcp = |pod, place: &Place<'_>, port| reaches(&base, pod, place, "TCP", port);

    for pod in [gateway, agent] {
        assert!(reaches(&base, pod, &dns(), "UDP", 53) && tcp(pod, &dns(), 53));
        assert!(!tcp(pod, &dns(), 443));
        assert!(!reaches(
            &base,
            pod,
            &Place::Elsewhere("default", json!({"k8s-app": "kube-dns"})),
            "UDP",
            53
        ));
        for inside in INSIDE {
            for port in [53, 80, 443, 4100, 6443, 10_250] {
                assert!(!tcp(pod, &Place::Address(inside), port), "{inside}:{port}");
            }
        }
    }
    for outside in OUTSIDE {
        assert!(tcp(gateway, &Place::Address(outside), 443), "{outside}");
        assert!(!tcp(gateway, &Place::Address(outside), 80), "{outside}");
        assert!(!tcp(agent, &Place::Address(outside), 443), "{outside}");
        assert!(!reaches(&base, agent, &Place::Address(outside), "UDP", 53), "{outside}");
    }
    assert!(tcp(agent, &Place::Pod(gateway), 4100));
    assert!(!tcp(agent, &Place::Pod(agent), 4500) && !tcp(agent, &Place::Pod(agent), 4501));
    assert!(!tcp(gateway, &Place::Pod(agent), 4501));
    // A policy that was taken out lets everything through, and so would a pod that it does not name.
    assert!(tcp(&json!({}), &Place::Address(INSIDE[0]), 80));
    Ok(())
}

/// What an installation adds opens what it names and nothing else.
#[tokio::test]
async fn the_example_opens_what_it_names() -> anyhow::Result<()> {
    let name = "the_example_opens_what_it_names";
    let Some(example) = Manifests::render(name, "overlays/example").await? else { return Ok(()) };
    let (gateway, agent) = (example.named("Deployment", "gateway")?, example.named("StatefulSet", "agent")?);
    assert!(gateway["spec"]["replicas"].is_null(), "the autoscaler has the number");
    let labels = |workload: &Value| workload["spec"]["template"]["metadata"]["labels"].clone();
    let collector = json!({"app.kubernetes.io/name": "opentelemetry-collector"});
    for workload in [gateway, agent] {
        let variables = list(&workload["spec"]["template"]["spec"]["containers"][0]["env"]);
        assert!(variables.iter().any(|variable| variable["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT"));
        let place = Place::Elsewhere("observability", collector.clone());
        assert!(reaches(&example, &labels(workload), &place, "TCP", 4317));
        let place = Place::Elsewhere("observability", json!({"app.kubernetes.io/name": "grafana"}));
        assert!(!reaches(&example, &labels(workload), &place, "TCP", 4317));
        assert!(!reaches(&example, &labels(workload), &Place::Address(INSIDE[0]), "TCP", 80));
    }
    let corp = |workload, address| reaches(&example, &labels(workload), &Place::Address(address), "TCP", 443);
    assert!(corp(gateway, "10.20.30.5") && !corp(gateway, "10.20.31.5"));
    assert!(!corp(agent, "10.20.30.5") && !corp(agent, OUTSIDE[0]));
    Ok(())
}

#[tokio::test]
async fn nobody_reaches_the_agent_and_agents_reach_the_gateway() -> anyhow::Result<()> {
    let name = "nobody_reaches_the_agent_and_agents_reach_the_gateway";
    let Some(base) = Manifests::render(name, "base").await? else { return Ok(()) };
    for workload in base.workloads() {
        let labels = &workload["spec"]["template"]["metadata"]["labels"];
        let policies = base.of_kind("NetworkPolicy");
        let selecting =
            policies.filter(|policy| selects(&policy["spec"]["podSelector"]["matchLabels"], labels));
        let mut rules = Vec::new();
        for policy in selecting {
            assert!(list(&policy["spec"]["policyTypes"]).contains(&json!("Ingress")));
            rules.extend(list(&policy["spec"]["ingress"]));
        }
        if workload["metadata"]["name"] == "agent" {
            assert_eq!(rules, [&json!(null); 0]);
        } else {
            let agents = json!({"app.kubernetes.io/name": "agent", "app.kubernetes.io/part-of": "tidegate"});
            let from = json!([{"podSelector": {"matchLabels": agents}}]);
            assert_eq!(rules, [&json!({"from": from, "ports": [{"protocol": "TCP", "port": 4100}]})]);
        }
    }
    Ok(())
}

/// Secrets that a pod gets, each as name and entry; `*` is all of them.
fn secrets(pod: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |name: &Value, items: &Value| match items.as_array() {
        Some(items) => {
            found.extend(items.iter().map(|item| (text(name).to_owned(), text(&item["key"]).to_owned())));
        }
        None => found.push((text(name).to_owned(), "*".to_owned())),
    };
    for volume in list(&pod["spec"]["volumes"]) {
        if volume["secret"].is_object() {
            add(&volume["secret"]["secretName"], &volume["secret"]["items"]);
        }
        for source in list(&volume["projected"]["sources"]) {
            if source["secret"].is_object() {
                add(&source["secret"]["name"], &source["secret"]["items"]);
            }
        }
    }
    let containers = list(&pod["spec"]["containers"]).iter().chain(list(&pod["spec"]["initContainers"]));
    for container in containers {
        for from in list(&container["envFrom"]) {
            if from["secretRef"].is_object() {
                add(&from["secretRef"]["name"], &Value::Null);
            }
        }
        for variable in list(&container["env"]) {
            let key = &variable["valueFrom"]["secretKeyRef"];
            if key.is_object() {
                add(&key["name"], &json!([key]));
            }
        }
    }
    found
}

#[tokio::test]
async fn only_the_gateway_holds_secrets() -> anyhow::Result<()> {
    for root in ["base", "overlays/example"] {
        let Some(manifests) = Manifests::render("only_the_gateway_holds_secrets", root).await? else {
            return Ok(());
        };
        assert_eq!(manifests.of_kind("Secret").count(), 0, "no secret is rendered");
        for workload in manifests.workloads() {
            let pod = &workload["spec"]["template"];
            let expected = match text(&workload["metadata"]["name"]) {
                "gateway" => vec![("tls", "*"), ("providers", "*")],
                // Whom to trust; nothing to be kept from anybody.
                _ => vec![("tls", "ca.crt")],
            };
            let found = secrets(pod);
            let found: Vec<_> = found.iter().map(|(name, key)| (name.as_str(), key.as_str())).collect();
            assert_eq!(found, expected, "{root}");
        }
        // What an agent shows is of no use anywhere else.
        let agent = manifests.named("StatefulSet", "agent")?;
        let volumes = list(&agent["spec"]["template"]["spec"]["volumes"]);
        let sources = volumes.iter().flat_map(|volume| list(&volume["projected"]["sources"]));
        let mut tokens =
            sources.map(|source| &source["serviceAccountToken"]).filter(|token| token.is_object());
        let token = tokens.next().context("a token")?;
        assert_eq!(token["audience"], "tidegate-gateway");
        assert!(tokens.next().is_none());
    }
    let planted = json!({"spec": {
        "volumes": [{"secret": {"secretName": "a"}}],
        "containers": [{"envFrom": [{"secretRef": {"name": "b"}}],
                        "env": [{"valueFrom": {"secretKeyRef": {"name": "c", "key": "d"}}}]}],
    }});
    let found = secrets(&planted);
    assert_eq!(
        found.iter().map(|(name, key)| format!("{name}/{key}")).collect::<Vec<_>>(),
        ["a/*", "b/*", "c/d"]
    );
    Ok(())
}
