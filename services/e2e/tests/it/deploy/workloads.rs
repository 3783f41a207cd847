//! Pods run with as few rights as Kubernetes can take away, are probed where they answer, and are given the time that
//! they take to stop.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Manifests, list, text};

/// What a process takes at most after its grace period: typed last events, then the last telemetry.
const AFTER_GRACE: Duration = Duration::from_secs(6);

/// What a pod may do that it has no need of.
fn rights(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut require = |holds: bool, rule: &str| {
        if !holds {
            found.push(rule.to_owned());
        }
    };
    let spec = &pod["spec"];
    require(spec["automountServiceAccountToken"] == false, "no token of the API server");
    for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        require(spec[shared].as_bool() != Some(true), shared);
    }
    require(spec["securityContext"]["runAsNonRoot"] == true, "no root");
    require(spec["securityContext"]["runAsUser"].as_u64() > Some(0), "a user's number");
    require(spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", "seccomp");
    require(list(&spec["volumes"]).iter().all(|volume| volume["hostPath"].is_null()), "no path of the node");
    let init = list(&spec["initContainers"]);
    let containers: Vec<_> = list(&spec["containers"]).iter().chain(init).collect();
    require(!containers.is_empty(), "a container");
    for container in containers {
        let context = &container["securityContext"];
        require(context["allowPrivilegeEscalation"] == false, "no escalation");
        require(context["readOnlyRootFilesystem"] == true, "nothing to write to");
        require(context["capabilities"] == json!({"drop": ["ALL"]}), "no capabilities");
        require(context["privileged"].as_bool() != Some(true), "not privileged");
        require(
            list(&container["ports"]).iter().all(|port| port["hostPort"].is_null()),
            "no port of the node",
        );
        for (kind, what) in [
            ("requests", "cpu"),
            ("requests", "memory"),
            ("limits", "memory"),
            ("limits", "ephemeral-storage"),
        ] {
            require(container["resources"][kind][what].is_string(), &format!("{kind} of {what}"));
        }
    }
    found
}

#[tokio::test]
async fn pods_have_no_rights() -> anyhow::Result<()> {
    for root in ["base", "overlays/example"] {
        let Some(manifests) = Manifests::render("pods_have_no_rights", root).await? else { return Ok(()) };
        assert_eq!(manifests.workloads().len(), 2);
        for workload in manifests.workloads() {
            let pod = &workload["spec"]["template"];
            assert_eq!(rights(pod), [""; 0], "{root}: {}", workload["metadata"]["name"]);

            let planted: [(&str, Value); 6] = [
                ("/spec/automountServiceAccountToken", json!(true)),
                ("/spec/securityContext/runAsNonRoot", json!(false)),
                ("/spec/securityContext/seccompProfile/type", json!("Unconfined")),
                ("/spec/containers/0/securityContext/readOnlyRootFilesystem", json!(false)),
                (
                    "/spec/containers/0/securityContext/capabilities",
                    json!({"drop": ["ALL"], "add": ["NET_RAW"]}),
                ),
                ("/spec/containers/0/resources/limits", json!({})),
            ];
            for (place, value) in planted {
                let mut pod = pod.clone();
                *pod.pointer_mut(place).with_context(|| place.to_owned())? = value;
                assert!(!rights(&pod).is_empty(), "{place}");
            }
        }
    }
    Ok(())
}

/// The drain of a configuration file, as far as the file says it.
fn drain(toml: &str) -> anyhow::Result<Duration> {
    let table: toml::Table = toml.parse()?;
    let key = |key: &str| table["drain"].get(key).and_then(toml::Value::as_integer).unwrap_or(0);
    Ok(Duration::from_millis(u64::try_from(key("pre_stop_delay_ms") + key("grace_ms"))?))
}

#[tokio::test]
async fn pods_are_given_the_time_that_they_take() -> anyhow::Result<()> {
    for root in ["base", "overlays/example"] {
        let name = "pods_are_given_the_time_that_they_take";
        let Some(manifests) = Manifests::render(name, root).await? else { return Ok(()) };
        for (kind, name) in [("Deployment", "gateway"), ("StatefulSet", "agent")] {
            let workload = manifests.named(kind, name)?;
            let drain = drain(&manifests.configuration(workload, &format!("{name}.toml"))?)?;
            let given = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
            let given = Duration::from_secs(given.context("a grace period")?);
            assert!(
                drain > Duration::ZERO && given >= drain + AFTER_GRACE,
                "{root}: {name}: {given:?} for {drain:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn probes_ask_where_somebody_answers() -> anyhow::Result<()> {
    for root in ["base", "overlays/example"] {
        let name = "probes_ask_where_somebody_answers";
        let Some(manifests) = Manifests::render(name, root).await? else { return Ok(()) };
        for (kind, name, listen, scheme) in [
            ("Deployment", "gateway", "listen", Some("HTTPS")),
            ("StatefulSet", "agent", "health_listen", None),
        ] {
            let workload = manifests.named(kind, name)?;
            let table: toml::Table = manifests.configuration(workload, &format!("{name}.toml"))?.parse()?;
            let told = match &table[listen] {
                toml::Value::Array(addresses) => addresses[0].as_str(),
                address => address.as_str(),
            };
            let port = told.and_then(|told| told.strip_prefix("0.0.0.0:")).context("an address")?;
            let container = &workload["spec"]["template"]["spec"]["containers"][0];
            for (probe, path) in
                [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
            {
                let get = &container[probe]["httpGet"];
                assert_eq!((text(&get["path"]), get["scheme"].as_str()), (path, scheme), "{probe}");
                let there = list(&container["ports"]).iter().find(|there| there["name"] == get["port"]);
                let there = there.with_context(|| format!("{probe} names a port that is there"))?;
                assert_eq!(there["containerPort"].to_string(), port, "{probe}");
            }
        }
    }
    Ok(())
}
