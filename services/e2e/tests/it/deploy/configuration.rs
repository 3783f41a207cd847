//! The configuration files that the manifests mount are good ones, as they stand and at the places where they are mounted.

use anyhow::Context as _;
use gateway_testkit::{TlsOptions, Upstream};
use serde_json::Value;
use service_e2e::{home::Home, stack};

use super::{Manifests, list, text};

/// Where pods have their files, and where a test has them.
const MOUNTED: [(&str, &str); 2] = [("/etc/tidegate", "etc"), ("/run/tidegate", "run")];

/// The public key of RFC 7517, appendix A.1.
const ISSUER_KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","use":"sig",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// Lays out what the pods of a workload find, and returns their configuration file with the places changed.
fn lay_out(
    home: &Home,
    manifests: &Manifests,
    workload: &Value,
    tls: &gateway_testkit::Tls,
) -> anyhow::Result<String> {
    let name = text(&workload["metadata"]["name"]);
    let identity = tls.client("gateway")?;
    for (file, contents) in [
        ("run/tls/tls.crt", identity.certificate_pem.as_str()),
        ("run/tls/tls.key", identity.key_pem.as_str()),
        ("run/providers/openai", "sk-of-openai\n"),
        ("run/providers/corp", "sk-of-corp\n"),
        ("run/issuers/jwks.json", ISSUER_KEYS),
        ("run/gateway/ca.crt", tls.authority_pem().as_str()),
        ("run/gateway/token", "a.b.c"),
    ] {
        let file = home.path(file);
        std::fs::create_dir_all(file.parent().context("a directory")?)?;
        std::fs::write(file, contents)?;
    }
    // Each directory that the file may name is one that the pod mounts.
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    let mounts: Vec<&str> =
        list(&container["volumeMounts"]).iter().map(|mount| text(&mount["mountPath"])).collect();
    let here = |contents: &str| {
        let mut contents = contents.to_owned();
        for (there, here) in MOUNTED {
            contents = contents.replace(there, &home.path(here).display().to_string());
        }
        contents
    };
    let main = format!("{name}.toml");
    std::fs::create_dir_all(home.path("etc"))?;
    for file in ["gateway.toml", "policy.toml", "agent.toml"] {
        if let Ok(contents) = manifests.configuration(workload, file) {
            for place in
                contents.split('"').filter(|text| MOUNTED.iter().any(|(there, _)| text.starts_with(there)))
            {
                let directory = place.rsplit_once('/').context("a path")?.0;
                assert!(mounts.contains(&directory), "{main}: {place} is in none of {mounts:?}");
            }
            std::fs::write(home.path("etc").join(file), here(&contents))?;
        }
    }
    Ok(home.path("etc").join(main).display().to_string())
}

#[tokio::test]
async fn mounted_configurations_are_good() -> anyhow::Result<()> {
    let upstream = Upstream::start_tls(&TlsOptions::new()).await?;
    let tls = upstream.tls().context("an upstream with TLS")?;
    for root in ["base", "overlays/example"] {
        let name = "mounted_configurations_are_good";
        let Some(manifests) = Manifests::render(name, root).await? else { return Ok(()) };
        for workload in manifests.workloads() {
            let home = Home::new()?;
            let file = lay_out(&home, &manifests, workload, tls)?;
            let mut check = match text(&workload["metadata"]["name"]) {
                "gateway" => stack::gatewayd(&home, None).await?,
                _ => stack::agentd(&home, &home.path("gateway.sock")).await?,
            };
            check.args(["check", &file]);
            let output = stack::run(check).await?;
            assert_eq!(output.status.code(), Some(0), "{root}: {file}\n{}", output.stderr);
        }
    }
    Ok(())
}

/// The programs are started as their command lines say.
#[tokio::test]
async fn arguments_are_understood() -> anyhow::Result<()> {
    let Some(base) = Manifests::render("arguments_are_understood", "base").await? else { return Ok(()) };
    for workload in base.workloads() {
        let home = Home::new()?;
        let mut command = match text(&workload["metadata"]["name"]) {
            "gateway" => stack::gatewayd(&home, None).await?,
            _ => stack::agentd(&home, &home.path("gateway.sock")).await?,
        };
        let arguments = list(&workload["spec"]["template"]["spec"]["containers"][0]["args"]);
        // The file is not there on this machine, and the program gets as far as looking for it.
        let absent = home.path("absent").display().to_string();
        command.args(arguments.iter().map(|argument| text(argument).replace("/etc/tidegate", &absent)));
        let output = stack::run(command).await?;
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        assert!(output.stderr.contains(&absent), "{output:?}");
    }
    Ok(())
}
