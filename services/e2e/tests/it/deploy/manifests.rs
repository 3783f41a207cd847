//! Every manifest fits Kubernetes' own schema, and manifests that name each other mean the same thing.

use anyhow::Context as _;

use super::{Manifests, ROOTS, list, selects, text};

/// Kinds that come with an operator of their own; Kubernetes' schemas do not know them.
const FOREIGN_GROUPS: [&str; 1] = ["cert-manager.io/"];

#[tokio::test]
async fn every_manifest_fits_its_schema() -> anyhow::Result<()> {
    for root in ROOTS {
        let Some(manifests) = Manifests::render("every_manifest_fits_its_schema", root).await? else {
            return Ok(());
        };
        assert!(manifests.0.len() >= 5, "{root}");
        for checked in &manifests.0 {
            assert!(checked["wrong"].is_null(), "{root}: {}\n{:#}", checked["wrong"], checked["document"]);
            let group = text(&checked["document"]["apiVersion"]);
            let foreign = FOREIGN_GROUPS.iter().any(|foreign| group.starts_with(foreign));
            assert_eq!(checked["known"], !foreign, "{root}: {group}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_does_not_fit_is_seen() -> anyhow::Result<()> {
    let name = "a_manifest_that_does_not_fit_is_seen";
    let wrong = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {}, template: {}, replicas: two}\n---\n\
                 apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {prots: []}\n";
    let Some(manifests) = Manifests::check(name, wrong).await? else { return Ok(()) };
    let wrong: Vec<&str> = manifests.0.iter().map(|checked| text(&checked["wrong"])).collect();
    assert!(wrong[0].contains("replicas") && wrong[1].contains("prots"), "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn what_refers_to_pods_and_ports_finds_them() -> anyhow::Result<()> {
    for root in ROOTS {
        let Some(manifests) = Manifests::render("what_refers_to_pods_and_ports_finds_them", root).await?
        else {
            return Ok(());
        };
        let pods: Vec<_> =
            manifests.workloads().iter().map(|workload| &workload["spec"]["template"]).collect();
        for kind in ["Service", "PodDisruptionBudget", "NetworkPolicy"] {
            for document in manifests.of_kind(kind) {
                let selector = match kind {
                    "Service" => &document["spec"]["selector"],
                    "NetworkPolicy" => &document["spec"]["podSelector"]["matchLabels"],
                    _ => &document["spec"]["selector"]["matchLabels"],
                };
                let selected = pods.iter().filter(|pod| selects(selector, &pod["metadata"]["labels"]));
                let selected: Vec<_> = selected.collect();
                assert!(!selected.is_empty(), "{root}: {document:#}");
                for port in list(&document["spec"]["ports"]) {
                    let named = selected.iter().all(|pod| {
                        let containers = list(&pod["spec"]["containers"]);
                        let mut ports = containers.iter().flat_map(|container| list(&container["ports"]));
                        ports.any(|there| there["name"] == port["targetPort"])
                    });
                    assert!(named, "{root}: {port}");
                }
            }
        }
        for workload in manifests.workloads() {
            let template = &workload["spec"]["template"];
            let own = &workload["spec"]["selector"]["matchLabels"];
            assert!(selects(own, &template["metadata"]["labels"]), "{workload:#}");
            let account = text(&template["spec"]["serviceAccountName"]);
            let account = manifests.named("ServiceAccount", account)?;
            assert_eq!(account["automountServiceAccountToken"], false);
        }
    }
    Ok(())
}

#[tokio::test]
async fn images_are_those_of_this_version() -> anyhow::Result<()> {
    for root in ROOTS {
        let Some(manifests) = Manifests::render("images_are_those_of_this_version", root).await? else {
            return Ok(());
        };
        for workload in manifests.workloads() {
            let image = text(&workload["spec"]["template"]["spec"]["containers"][0]["image"]);
            let (_, tag) = image.rsplit_once(':').with_context(|| format!("{image} has a tag"))?;
            assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{root}: {image}");
        }
    }
    Ok(())
}
