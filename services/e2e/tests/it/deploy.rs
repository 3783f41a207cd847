//! What stands in `deploy/`, rendered as an operator renders it and held against schemas, against rules, and against the
//! services themselves.

mod configuration;
mod container;
mod isolation;
mod manifests;
mod telemetry;
mod workloads;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use service_e2e::{places, provision, stack};
use tokio::process::Command;

/// Everything that is applied as a whole.
const ROOTS: [&str; 4] = ["base", "base/gateway", "base/agent", "overlays/example"];

/// A path below `deploy/`.
fn deploy(path: &str) -> anyhow::Result<PathBuf> {
    Ok(places::repository()?.join("deploy").join(path))
}

/// Rendered manifests, each with what the schema says of it.
struct Manifests(Vec<Value>);

impl Manifests {
    /// What `kubectl apply -k` would apply, or nothing if this machine cannot render it and `test` was listed as skipped.
    async fn render(test: &str, root: &str) -> anyhow::Result<Option<Self>> {
        if !provision::kubectl(test).await? {
            return Ok(None);
        }
        let mut kustomize = Command::new("kubectl");
        kustomize.arg("kustomize").arg(deploy("kubernetes")?.join(root));
        let rendered = stack::run(kustomize).await?.success()?;
        Self::check(test, &rendered.stdout).await
    }

    /// The documents of a text.
    async fn check(test: &str, yaml: &str) -> anyhow::Result<Option<Self>> {
        let Some(python) = provision::kubernetes(test).await? else { return Ok(None) };
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("rendered.yaml");
        std::fs::write(&file, yaml)?;
        let mut check = Command::new(python);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/kubernetes_check.py");
        check.arg("-B").arg(script).arg(&file);
        let checked = stack::run(check).await?.success()?;
        Ok(Some(Self(serde_json::from_str(&checked.stdout)?)))
    }

    fn documents(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|checked| &checked["document"])
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.documents().filter(move |document| document["kind"] == kind)
    }

    fn named(&self, kind: &str, name: &str) -> anyhow::Result<&Value> {
        let mut found = self.of_kind(kind).filter(|document| document["metadata"]["name"] == name);
        found.next().with_context(|| format!("a {kind} named {name}"))
    }

    /// What runs pods.
    fn workloads(&self) -> Vec<&Value> {
        let kinds = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"];
        self.documents().filter(|document| kinds.iter().any(|kind| document["kind"] == *kind)).collect()
    }

    /// A file of the config map that this workload mounts as its configuration.
    fn configuration(&self, workload: &Value, file: &str) -> anyhow::Result<String> {
        let volumes = list(&workload["spec"]["template"]["spec"]["volumes"]);
        let volume = volumes.iter().find(|volume| volume["name"] == "configuration").context("a volume")?;
        let map = self.named("ConfigMap", text(&volume["configMap"]["name"]))?;
        Ok(map["data"][file].as_str().with_context(|| format!("{file} in the map"))?.to_owned())
    }
}

/// The elements of a list that may be missing.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text that may be missing.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether everything that a selector asks for is in these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let asked = selector.as_object();
    asked.is_some_and(|asked| asked.iter().all(|(name, value)| labels.get(name) == Some(value)))
}

/// A YAML file as JSON.
async fn yaml(test: &str, file: &Path) -> anyhow::Result<Option<Value>> {
    let Some(python) = provision::kubernetes(test).await? else { return Ok(None) };
    let mut convert = Command::new(python);
    convert.args(["-c", "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)"]);
    convert.arg(file);
    let converted = stack::run(convert).await?.success()?;
    Ok(Some(serde_json::from_str(&converted.stdout)?))
}
