//! The images: the build file keeps its rules, and what it lays out is all that a program needs to run.

use anyhow::Context as _;
use service_e2e::{binaries, home::Home, skip, stack};
use tokio::process::Command;

use super::deploy;

/// The instructions of a build file, each in one line.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let lines = lines.replace("\\\n", " ");
    let words = lines.lines().filter_map(|line| line.trim().split_once(' '));
    words.map(|(name, rest)| (name.to_ascii_uppercase(), rest.trim().to_owned())).collect()
}

/// What a build file does that it should not.
fn careless(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut stages: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for (name, rest) in instructions(text) {
        if name == "FROM" {
            stages.push((rest, Vec::new()));
        } else if let Some((_, stage)) = stages.last_mut() {
            stage.push((name, rest));
        }
    }
    let mut targets = Vec::new();
    for (from, stage) in &stages {
        let image = from.split(' ').next().unwrap_or_default();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        if image != "scratch" && !tag.is_some_and(|tag| tag.starts_with(|first: char| first.is_ascii_digit()))
        {
            found.push(format!("{from} has no version"));
        }
        found.extend(stage.iter().filter(|(name, _)| name == "ADD").map(|(_, rest)| format!("ADD {rest}")));
        if image != "scratch" {
            continue;
        }
        targets.push(from.rsplit_once(" AS ").map_or("", |(_, name)| name).to_owned());
        let last = |wanted: &str| stage.iter().rfind(|(name, _)| name == wanted).map_or("", |(_, rest)| rest);
        let user = last("USER").split(':').next().and_then(|user| user.parse::<u32>().ok());
        if user.is_none_or(|user| user == 0) {
            found.push(format!("{from} runs as {:?}", last("USER")));
        }
        if serde_json::from_str::<Vec<String>>(last("ENTRYPOINT")).is_err() {
            found.push(format!("{from} starts a shell"));
        }
        if !last("LABEL").contains("org.opencontainers.image.version=") {
            found.push(format!("{from} does not say its version"));
        }
    }
    if targets != ["gatewayd", "agentd"] {
        found.push(format!("the images are {targets:?}"));
    }
    found
}

#[test]
fn the_build_file_keeps_its_rules() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(deploy("container/Dockerfile")?)?;
    assert_eq!(careless(&text), [""; 0]);
    for (from, to) in [
        ("rust:1.95.0-bookworm", "rust"),
        ("rust:1.95.0-bookworm", "rust:latest"),
        ("USER 65532:65532", "USER root"),
        ("USER 65532:65532", "USER 0"),
        ("USER 65532:65532", ""),
        ("COPY . .", "ADD https://example.com/a /a"),
        ("[\"/usr/bin/agentd\"]", "/usr/bin/agentd"),
        ("FROM scratch AS agentd", "FROM debian AS agentd"),
    ] {
        let planted = text.replace(from, to);
        assert!(planted != text && !careless(&planted).is_empty(), "{from} -> {to}");
    }
    Ok(())
}

#[test]
fn images_are_built_with_the_pinned_toolchain() -> anyhow::Result<()> {
    let pinned = std::fs::read_to_string(deploy("../rust-toolchain.toml")?)?;
    let pinned: toml::Table = pinned.parse()?;
    let channel = pinned["toolchain"]["channel"].as_str().context("a version")?;
    let text = std::fs::read_to_string(deploy("container/Dockerfile")?)?;
    assert!(text.contains(&format!("FROM rust:{channel}-")), "{channel}");
    assert!(
        text.contains(&format!("ENV RUSTUP_TOOLCHAIN={channel}\n")),
        "no part of another toolchain is fetched"
    );
    assert!(text.contains(&format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"))));
    Ok(())
}

/// The programs run where nothing else is: no shell, no other library, no file of this machine.
#[tokio::test]
async fn an_image_holds_all_that_its_program_needs() -> anyhow::Result<()> {
    let test = "an_image_holds_all_that_its_program_needs";
    let inside = |root: &std::path::Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--root"]).arg(root);
        command
    };
    let mut probe = inside(std::path::Path::new("/"));
    probe.arg("/bin/true");
    if !stack::run(probe).await.is_ok_and(|output| output.status.success()) {
        return skip::record(test, "unshare with user namespaces");
    }
    for program in ["gatewayd", "agentd"] {
        let home = Home::new()?;
        let root = home.path("image");
        let mut assemble = Command::new(deploy("container/assemble")?);
        assemble.arg(binaries::program(program).await?).arg(&root);
        stack::run(assemble).await?.success()?;
        assert!(root.join("etc/ssl/certs/ca-certificates.crt").metadata()?.len() > 100_000);

        let mut version = inside(&root);
        version.env_clear().arg(format!("/usr/bin/{program}")).arg("--version");
        let output = stack::run(version).await?.success()?;
        assert_eq!(output.stdout.trim(), format!("{program} {}", env!("CARGO_PKG_VERSION")));
        let mut shell = inside(&root);
        shell.args(["/bin/sh", "-c", "true"]);
        assert_eq!(stack::run(shell).await?.status.code(), Some(127), "there is no shell");
    }
    Ok(())
}
