//! gatewayd finds AWS credentials wherever AWS puts them: each source alone, against a service that checks every signature.
//!
//! Every endpoint that hands them out is a fake on loopback, reached as AWS's own tools would be told to reach it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gateway_testkit::{AwsCredentials, AwsEndpoint, AwsEndpoints, Bedrock, Refusal, Reply};
use serde_json::json;
use service_e2e::home::Home;
use service_e2e::http;
use service_e2e::stack::{Gateway, STOP_TIME_MAX};

const MODEL: &str = "openai.gpt-oss-20b";
const REGION: &str = "eu-west-1";
const ID: &str = "AKIDOFTHESOURCE";
const SECRET: &str = "canary-aws-secret-4a19";
const TOKEN: &str = "canary-aws-session-77c2";
/// Any time after the tests, in seconds since the epoch.
const LATE: i64 = 4_102_444_800;

/// A machine, the service, and the places that hand out credentials.
struct World {
    home: Home,
    service: Bedrock,
    endpoints: AwsEndpoints,
}

impl World {
    async fn new() -> anyhow::Result<World> {
        let service = Bedrock::start(REGION).await?;
        service.serve(MODEL, "/v1", "bedrock-mantle");
        service.allow_key(ID, SECRET, Some(TOKEN));
        service.upstream().set_default(Reply::json(200, &json!({"id": "resp_1", "status": "completed"})));
        let endpoints = AwsEndpoints::start().await?;
        let home = Home::new()?;
        std::fs::create_dir_all(home.path("home/.aws/sso/cache"))?;
        Ok(World { home, service, endpoints })
    }

    fn give(&self, endpoint: AwsEndpoint) {
        let (access_key, secret, token) = (ID.to_owned(), SECRET.to_owned(), TOKEN.to_owned());
        self.endpoints.give(endpoint, AwsCredentials { access_key, secret, token, expires_at_unix: LATE });
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.home.path(&format!("home/.aws/{name}"));
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Makes two calls through a gateway on this machine, and looks for what must not be in its log.
    async fn calls_pass(self, aws: &str, variables: &[(&str, String)]) -> anyhow::Result<AwsEndpoints> {
        let World { home, service, endpoints } = self;
        let config = format!(
            "[model_providers.amazon-bedrock]\nbase_url = \"http://{}\"\n\
             [model_providers.amazon-bedrock.aws]\nregion = \"{REGION}\"\n{aws}\n[log]\nlevel = \"trace\"\n",
            service.upstream().address()
        );
        let mut variables = variables.to_vec();
        // A machine of the tests may be one of AWS's.
        if !variables.iter().any(|(name, _)| *name == "AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            variables.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
        }
        let mut gateway = Gateway::start_with(home, &config, &variables).await?;
        let body = json!({"model": MODEL, "input": "hi"}).to_string();
        for _ in 0..2 {
            let call = http::post(gateway.at, "/v1/responses", "", body.as_bytes());
            let answer = http::send(gateway.at, &call).await?;
            anyhow::ensure!(
                answer.status == 200,
                "{answer:?}\n{:?}\n{}",
                service.refusals(),
                gateway.service.output()
            );
        }
        gateway.service.signal(rustix::process::Signal::TERM)?;
        gateway.service.ended(STOP_TIME_MAX).await?;
        let log = gateway.service.output();
        anyhow::ensure!(log.contains("region eu-west-1 (aws.region)"), "{log}");
        for secret in [SECRET, TOKEN] {
            let line = log.lines().find(|line| line.contains(secret));
            anyhow::ensure!(line.is_none(), "{secret} was logged: {line:?}");
        }
        Ok(endpoints)
    }
}

#[tokio::test]
async fn the_environment() -> anyhow::Result<()> {
    let variables = [
        ("AWS_ACCESS_KEY_ID", ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_SESSION_TOKEN", TOKEN.to_owned()),
    ];
    World::new().await?.calls_pass("", &variables).await?;
    Ok(())
}

/// The configured profile, although the environment has keys of somebody else.
#[tokio::test]
async fn a_profile() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.write(
        "credentials",
        &format!(
            "[work]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
        ),
    )?;
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIDOFSOMEBODYELSE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "wrong".to_owned()),
    ];
    world.calls_pass("profile = \"work\"", &variables).await?;
    Ok(())
}

#[tokio::test]
async fn a_process() -> anyhow::Result<()> {
    let world = World::new().await?;
    let program = world.write(
        "print",
        &format!(
            "#!/bin/sh\necho '{{\"Version\":1,\"AccessKeyId\":\"{ID}\",\"SecretAccessKey\":\"{SECRET}\",\
             \"SessionToken\":\"{TOKEN}\",\"Expiration\":\"2100-01-01T00:00:00Z\"}}'\n"
        ),
    )?;
    std::fs::set_permissions(Path::new(&program), std::fs::Permissions::from_mode(0o700))?;
    world.write("config", &format!("[default]\ncredential_process = {program}\n"))?;
    world.calls_pass("", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn single_sign_on() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.give(AwsEndpoint::Sso);
    world.endpoints.require(AwsEndpoint::Sso, "canary-sso-token");
    world.write(
        "config",
        "[profile desk]\nsso_start_url = https://sso.example/start\nsso_region = eu-west-1\n\
         sso_account_id = 123456789012\nsso_role_name = Coder\n",
    )?;
    // The name is the SHA-1 of the start address.
    let cached = json!({"accessToken": "canary-sso-token", "expiresAt": "2100-01-01T00:00:00Z",
        "region": "eu-west-1", "startUrl": "https://sso.example/start"});
    world.write("sso/cache/98df91031e87f97bfc088c045be6442dc5d70b2a.json", &cached.to_string())?;
    let variables = [("AWS_ENDPOINT_URL_SSO", world.endpoints.url())];
    let endpoints = world.calls_pass("profile = \"desk\"", &variables).await?;
    assert_eq!(endpoints.served(AwsEndpoint::Sso), 1);
    Ok(())
}

#[tokio::test]
async fn a_web_identity() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.give(AwsEndpoint::Sts);
    world.endpoints.require(AwsEndpoint::Sts, "canary.web.identity");
    let file = world.write("web-identity", "canary.web.identity")?;
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/coder".to_owned()),
        ("AWS_ENDPOINT_URL_STS", world.endpoints.url()),
    ];
    let endpoints = world.calls_pass("", &variables).await?;
    assert_eq!(endpoints.served(AwsEndpoint::Sts), 1);
    Ok(())
}

#[tokio::test]
async fn a_container() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.give(AwsEndpoint::Container);
    world.endpoints.require(AwsEndpoint::Container, "canary-pod-token");
    let file = world.write("pod-token", "canary-pod-token")?;
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/creds", world.endpoints.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file),
    ];
    let endpoints = world.calls_pass("", &variables).await?;
    assert_eq!(endpoints.served(AwsEndpoint::Container), 1);
    Ok(())
}

#[tokio::test]
async fn a_machine() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.give(AwsEndpoint::Instance);
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", world.endpoints.url())];
    let endpoints = world.calls_pass("", &variables).await?;
    assert_eq!(endpoints.served(AwsEndpoint::Instance), 1);
    Ok(())
}

/// Without any, a call says which sources were asked; nothing goes to the service.
#[tokio::test]
async fn no_source_at_all() -> anyhow::Result<()> {
    let World { home, service, .. } = World::new().await?;
    let config =
        format!("[model_providers.amazon-bedrock]\nbase_url = \"http://{}\"\n", service.upstream().address());
    let variables = [
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_PROFILE", "missing".to_owned()),
    ];
    let mut gateway = Gateway::start_with(home, &config, &variables).await?;
    let body = json!({"model": MODEL, "input": "hi"}).to_string();
    let answer =
        http::send(gateway.at, &http::post(gateway.at, "/v1/responses", "", body.as_bytes())).await?;
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(service.upstream().requests().len(), 0);
    assert_eq!(service.refused(Refusal::Unsigned), 0);
    let told = |line: &str| line.contains("environment: has none") && line.contains("profile: ");
    assert!(told(&answer.text), "{answer:?}");
    gateway.service.wait_for_line("the sources that were asked", |line| told(line).then_some(())).await?;
    Ok(())
}
