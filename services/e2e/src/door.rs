//! A gateway that lets nobody in without a key: its keys are made by the command that people use, and a policy denies
//! one model and bounds one subject.

use anyhow::Context as _;
use gateway_testkit::Upstream;

use crate::home::Home;
use crate::stack::{self, CATALOG_MODEL, Gateway};
use crate::{binaries, clients};

/// The tenant of all keys.
pub const TENANT: &str = "acme";
/// Who has [`Door::key`].
pub const SUBJECT: &str = "ann";
/// The rule that denies [`CATALOG_MODEL`].
pub const DENYING_RULE: &str = "default.models.deny";
/// Who has [`Door::narrow_key`].
const NARROW_SUBJECT: &str = "narrow";

/// A running gateway with a door.
pub struct Door {
    /// The provider behind it.
    pub upstream: Upstream,
    /// The gateway.
    pub gateway: Gateway,
    /// A key that may do everything but call [`CATALOG_MODEL`].
    pub key: String,
    /// A key that may run one call at once.
    pub narrow_key: String,
}

impl Door {
    /// Starts a gateway in front of a scripted upstream, with more tables in its configuration.
    pub async fn open(tables: &str) -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        let policy = format!(
            "[default.models]\ndeny = [\"{CATALOG_MODEL}\"]\n\n\
             [tenants.{TENANT}.subjects.{NARROW_SUBJECT}]\nmax_concurrent_calls = 1\n"
        );
        let config = format!("{}{tables}", stack::provider(&upstream));
        Self::before(upstream, &config, &policy).await
    }

    /// Starts a gateway with this configuration, to which keys and policy are added.
    pub async fn before(upstream: Upstream, config: &str, policy: &str) -> anyhow::Result<Self> {
        let home = Home::new()?;
        let (key, narrow_key) = (key_of(&home, SUBJECT).await?, key_of(&home, NARROW_SUBJECT).await?);
        std::fs::write(home.path("policy.toml"), policy)?;
        let config =
            format!("policy_file = \"policy.toml\"\n{config}\n[authentication]\nkeys_file = \"keys.toml\"\n");
        let gateway = Gateway::start_with(home, &config, &[]).await?;
        Ok(Self { upstream, gateway, key, narrow_key })
    }

    /// Where clients of the HTTP API are pointed.
    pub fn base(&self) -> String {
        format!("{}/v1", self.gateway.url())
    }
}

/// Makes a key in the keys file of `home`, as an operator does.
pub async fn key_of(home: &Home, subject: &str) -> anyhow::Result<String> {
    let mut command = clients::on(home, &binaries::program("tidegate").await?);
    command.args(["keys", "create", "--tenant", TENANT, "--subject", subject, "--file"]);
    command.arg(home.path("keys.toml"));
    let key = stack::run(command).await?.success()?.stdout;
    Ok(key.lines().next().context("the key is printed")?.to_owned())
}
