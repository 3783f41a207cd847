//! `doctor`, as people and as machines read it, and the warnings that it shares with `check` and the start.

use gateway_testkit::{Reply, Upstream};
use http::Method;
use serde_json::{Value, json};
use service_e2e::home::Home;
use service_e2e::process::Output;
use service_e2e::service::Service;
use service_e2e::stack::{self, CALLER_KEY, UPSTREAM_KEY};
use service_e2e::{binaries, clients};

/// Providers that are met in every way which needs no network but the loopback one.
async fn upstream() -> anyhow::Result<(Upstream, String)> {
    let upstream = Upstream::start().await?;
    let error = |status: u16, message: &str| Reply::json(status, &json!({"error": {"message": message}}));
    let quoted = format!("Incorrect API key provided: {CALLER_KEY}");
    for (method, path, reply) in [
        (Method::POST, "/good/responses", error(400, "input: expected a string")),
        (Method::GET, "/listed/models", Reply::json(200, &json!({"data": [{"id": "big-1"}]}))),
        (Method::POST, "/listed/responses", error(429, "too many")),
        (Method::POST, "/refused/responses", error(401, &quoted)),
        (Method::GET, "/lost/models", error(404, "nothing here")),
        (Method::POST, "/lost/responses", error(404, "nothing here")),
    ] {
        upstream.route(method, path, reply);
    }
    let at = |path: &str| format!("base_url = \"{}\"", upstream.url(path));
    let config = format!(
        "model_provider = \"good\"\n\
         [model_providers.good]\n{}\nenv_key = \"E2E_UPSTREAM_KEY\"\nmodels = [\"m\"]\n\
         [model_providers.listed]\n{}\n\
         [model_providers.refused]\n{}\nexperimental_bearer_token = \"{CALLER_KEY}\"\nmodels = [\"m\"]\n\
         [model_providers.lost]\n{}\n\
         [model_providers.closed]\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         [model_providers.own]\n{}\npass_through = true\n\
         [model_providers.rehearsal]\n",
        at("/good"),
        at("/listed"),
        at("/refused"),
        at("/lost"),
        at("/own"),
    );
    Ok((upstream, config))
}

/// What was printed, with names for what is different each time. Nothing of it is a secret.
fn printed(output: &Output, upstream: &Upstream) -> String {
    let all = format!("exit {:?}\n{}{}", output.status.code(), output.stdout, output.stderr);
    for secret in [UPSTREAM_KEY, CALLER_KEY] {
        assert!(!all.contains(secret), "{all}");
    }
    let all = all.replace(&upstream.address().to_string(), "UPSTREAM:ADDRESS");
    let lines = all.lines().map(|line| match line.split_once(" ms") {
        Some((before, after)) => {
            format!("{}TIME{after}", before.trim_end_matches(|it: char| it.is_ascii_digit()))
        }
        None => line.to_owned(),
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_doctor_tells_what_is_wrong_and_what_to_do() -> anyhow::Result<()> {
    let (upstream, config) = upstream().await?;
    let home = Home::new()?;
    let mut command = stack::gatewayd(&home, Some(&config)).await?;
    command.arg("doctor");
    let told = printed(&stack::run(command).await?, &upstream);
    insta::assert_snapshot!(told);
    // No call was made that a model could answer, and none twice.
    let calls = upstream.requests();
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|call| call.json()["input"] == 0));

    // The same by way of the desk's program, which finds the file of `up`.
    let mut command = clients::on(&home, &binaries::program("tidegate").await?);
    std::fs::rename(home.path("gateway.toml"), home.path("home").join("gateway.toml"))?;
    command.env("E2E_UPSTREAM_KEY", UPSTREAM_KEY).args(["doctor", "--data-dir"]).arg(home.path("home"));
    assert_eq!(printed(&stack::run(command).await?, &upstream), told);
    Ok(())
}

#[tokio::test]
async fn a_doctor_tells_machines_and_knows_its_providers() -> anyhow::Result<()> {
    let (upstream, config) = upstream().await?;
    let home = Home::new()?;
    let mut command = stack::gatewayd(&home, Some(&config)).await?;
    command.args(["doctor", "--json", "refused", "good", "rehearsal"]);
    let output = stack::run(command).await?;
    assert_eq!(output.status.code(), Some(1));
    let mut document: Value = serde_json::from_str(&output.stdout)?;
    for probe in document["probes"].as_array_mut().unwrap() {
        assert!(probe["took_ms"].is_u64());
        probe["took_ms"] = json!(0);
    }
    let document = Output { stdout: format!("{document:#}\n"), ..output };
    insta::assert_snapshot!(printed(&document, &upstream));

    let mut command = stack::gatewayd(&home, Some(&config)).await?;
    command.args(["doctor", "good", "absent"]);
    insta::assert_snapshot!(printed(&stack::run(command).await?, &upstream));

    // A file that cannot be used is told as everywhere else.
    let mut command = stack::gatewayd(&home, Some("model_provider = \"absent\"\n")).await?;
    command.arg("doctor");
    assert_eq!(stack::run(command).await?.status.code(), Some(78));
    // Without a file and without an account there is nothing to complain about.
    let mut command = stack::gatewayd(&home, None).await?;
    command.arg("doctor");
    insta::assert_snapshot!(printed(&stack::run(command).await?, &upstream));
    Ok(())
}

#[tokio::test]
async fn what_should_be_changed_is_told_by_check_and_doctor_and_at_the_start() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.set_default(Reply::json(400, &json!({"error": {"message": "input"}})));
    let home = Home::new()?;
    let file = home.path("gateway.toml");
    std::fs::write(&file, "[model_providers.openai]\nmodels = [\"gpt-6-sol\"]\n")?;
    let with = |command: &mut tokio::process::Command| {
        command.env("OPENAI_BASE_URL", upstream.base_url()).env("OPENAI_API_KEY", UPSTREAM_KEY);
    };
    let deprecated = "OPENAI_BASE_URL, which is deprecated";

    let mut check = stack::gatewayd(&home, None).await?;
    with(check.arg("check").arg(&file));
    let output = stack::run(check).await?.success()?;
    assert!(output.stdout.contains(deprecated) && output.stdout.contains("good"), "{output:?}");

    let mut doctor = stack::gatewayd(&home, None).await?;
    with(doctor.args(["doctor", "--config"]).arg(&file));
    let output = stack::run(doctor).await?.success()?;
    assert!(output.stdout.contains(deprecated), "{output:?}");

    let mut start = stack::gatewayd(&home, None).await?;
    with(start.args(["--listen", "127.0.0.1:0", "--config"]).arg(&file));
    let warned = |line: &str| line.contains(deprecated).then_some(());
    let (mut service, ()) = Service::start("gatewayd", start, warned).await?;
    let serving = |line: &str| line.contains("serving a provider").then_some(());
    service.wait_for_line("its providers", serving).await?;
    assert_eq!(service.stop(stack::STOP_TIME_MAX).await?.code(), Some(0));
    Ok(())
}
