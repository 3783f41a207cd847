//! An agent that reaches its gateway as in a cluster: over TLS, with a client certificate or a key of the gateway's.

use std::path::PathBuf;

use gateway_testkit::Upstream;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent, Gateway};

use super::{start_thread, start_turn};
use crate::gateway::readme;

const SPIFFE_ID: &str = "spiffe://tidegate.test/agent";

/// An authority, the gateway's certificate and the agent's, as files.
pub(super) struct Papers {
    home: Home,
}

impl Papers {
    pub(super) fn new() -> anyhow::Result<Self> {
        let home = Home::new()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(home.path("ca.pem"), authority.pem())?;
        let issue = |name: &str, mut params: CertificateParams, uri: Option<&str>| -> anyhow::Result<()> {
            if let Some(uri) = uri {
                params.subject_alt_names.push(SanType::URI(uri.try_into()?));
            }
            let key = KeyPair::generate()?;
            std::fs::write(home.path(&format!("{name}.pem")), params.signed_by(&key, &authority)?.pem())?;
            std::fs::write(home.path(&format!("{name}-key.pem")), key.serialize_pem())?;
            Ok(())
        };
        issue("gateway", CertificateParams::new(vec!["127.0.0.1".to_owned()])?, None)?;
        issue("agent", CertificateParams::new(Vec::new())?, Some(SPIFFE_ID))?;
        Ok(Self { home })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// The gateway's tables for TLS.
    pub(super) fn tls(&self) -> String {
        format!(
            "[tls]\ncertificate_file = {:?}\nkey_file = {:?}\nclient_ca_file = {:?}\n",
            self.file("gateway.pem"),
            self.file("gateway-key.pem"),
            self.file("ca.pem")
        )
    }
}

/// Holds a turn through this gateway, and finds it in the gateway's log as a call of `tenant`.
async fn holds_a_turn(gateway: &mut Gateway, access: &str, tenant: &str) -> anyhow::Result<()> {
    let home = Home::new()?;
    let config = format!("gateway = \"https://{}\"\n[gateway_access]\n{access}", gateway.at);
    let agent = Agent::configured(&home, gateway, &config).await?;
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    let thread = start_thread(&mut rpc).await?;
    start_turn(&mut rpc, &thread, "When is high tide?").await?;
    let completed = rpc.notified("turn/completed").await?;
    assert_eq!(completed["turn"]["status"], "completed", "{completed}\n{}", agent.service.output());
    let tenant = tenant.to_owned();
    gateway
        .service
        .wait_for_line("the call", |line| {
            (line.contains("call ended") && line.contains(&tenant) && line.contains(&thread)).then_some(())
        })
        .await
}

#[tokio::test]
async fn a_certificate_says_whose_agent_it_is() -> anyhow::Result<()> {
    let (upstream, papers) = (Upstream::start().await?, Papers::new()?);
    upstream.set_default(stack::says("resp_1", &["At noon."]));
    let callers = format!("[[callers]]\nspiffe = {SPIFFE_ID:?}\ntenant = \"acme\"\n");
    let config = format!("{}{}{callers}", stack::provider(&upstream), papers.tls());
    let mut gateway = Gateway::start(&config).await?;
    let access = format!(
        "ca_file = {:?}\nclient_certificate_file = {:?}\nclient_key_file = {:?}\n",
        papers.file("ca.pem"),
        papers.file("agent.pem"),
        papers.file("agent-key.pem")
    );
    holds_a_turn(&mut gateway, &access, "acme").await
}

#[tokio::test]
async fn a_key_in_a_mounted_file_says_so_too_and_none_is_refused() -> anyhow::Result<()> {
    let (upstream, papers) = (Upstream::start().await?, Papers::new()?);
    upstream.set_default(stack::says("resp_1", &["At noon."]));
    let keys = papers.file("keys.toml");
    let mut create =
        service_e2e::clients::on(&papers.home, &service_e2e::binaries::program("tidegate").await?);
    create.args(["keys", "create", "--tenant", "tide-tables", "--subject", "agents", "--file"]).arg(&keys);
    let created = stack::run(create).await?;
    assert!(created.status.success(), "{}", created.stderr);
    std::fs::write(papers.file("token"), &created.stdout)?;
    // Both files as the README shows them.
    let directory = papers.home.path("").display().to_string();
    let shown = readme::block("Run it behind TLS", "# gateway.toml")?
        .replace("/etc/tidegate/tls/tls.crt", &papers.file("gateway.pem").display().to_string())
        .replace("/etc/tidegate/tls/tls.key", &papers.file("gateway-key.pem").display().to_string())
        .replace("/etc/tidegate/tls/ca.crt", &papers.file("ca.pem").display().to_string())
        .replace("/etc/tidegate/", &directory);
    let (listen, tables) = shown.split_once("\n\n").unwrap();
    let config = format!("{listen}\n{}{tables}", stack::provider(&upstream));
    let mut gateway = Gateway::start(&config).await?;
    let trusted = format!("ca_file = {:?}\n", papers.file("ca.pem"));
    let shown = readme::block("Run it behind TLS", "# agent.toml")?
        .replace("/etc/tidegate/tls/ca.crt", &papers.file("ca.pem").display().to_string())
        .replace("/var/run/secrets/tidegate/token", &papers.file("token").display().to_string());
    let (_, access) = shown.split_once("[gateway_access]\n").unwrap();
    holds_a_turn(&mut gateway, access, "tide-tables").await?;

    let home = Home::new()?;
    let config = format!("gateway = \"https://{}\"\n[gateway_access]\n{trusted}", gateway.at);
    let mut agent = Agent::configured(&home, &gateway, &config).await?;
    agent
        .service
        .wait_for_line("the refusal", |line| line.contains("no credential of this service").then_some(()))
        .await
}
