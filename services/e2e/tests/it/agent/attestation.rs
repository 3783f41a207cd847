//! A client that attests for its model calls: what it says reaches OpenAI in one header, and stays nowhere.

use std::time::Duration;

use gateway_testkit::Upstream;
use serde_json::{Value, json};
use service_e2e::rpc::Rpc;
use service_e2e::schema::Protocol;
use service_e2e::stack::{self, Agent, CATALOG_MODEL, Gateway, STOP_TIME_MAX};
use service_e2e::{canary, home::Home, http, provision};
use tokio::time::Instant;

use super::{start_thread, start_turn};

const TOKEN: &str = "v1.attestation-canary-5f19.e0b7";
const HEADER: &str = "x-oai-attestation";
const TIMED_OUT: &str = r#"{"v":1,"s":1}"#;
/// How often a client may be too slow for its 100 ms on a busy machine.
const SLOW_ANSWERS_MAX: usize = 10;
/// A turn whose client says nothing is over by then.
const SILENT_TURN_MAX: Duration = Duration::from_secs(10);

struct House {
    upstream: Upstream,
    gateway: Gateway,
    home: Home,
    agent: Agent,
}

impl House {
    /// An agent before OpenAI with a ChatGPT account that the gateway holds; everything is logged.
    async fn new() -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        upstream.set_default(stack::says("resp_tide", &["At noon."]));
        let trace = "[log]\nlevel = \"trace\"\n";
        let config = format!(
            "model_provider = \"openai\"\nmodel = \"{CATALOG_MODEL}\"\n[model_providers.openai]\n\
             base_url = \"{}\"\nenv_key = \"E2E_UPSTREAM_KEY\"\nsupports_websockets = false\n\
             models = [\"{CATALOG_MODEL}\"]\nhttp_headers = {{ chatgpt-account-id = \"acc-1\" }}\n{trace}",
            upstream.base_url()
        );
        let gateway = Gateway::start(&config).await?;
        let home = Home::new()?;
        let agent = Agent::configured(&home, &gateway, trace).await?;
        Ok(Self { upstream, gateway, home, agent })
    }

    async fn client(&self, attests: bool) -> anyhow::Result<Rpc> {
        let mut rpc = Rpc::connect(&self.agent.url).await?;
        rpc.initialize_with(json!({"experimentalApi": true, "requestAttestation": attests})).await?;
        Ok(rpc)
    }

    /// Waits for the turn's end, and returns the header that its call had.
    async fn attested(&self, rpc: &mut Rpc) -> anyhow::Result<Option<String>> {
        let ended = rpc.notified("turn/completed").await?;
        assert_eq!(ended["turn"]["status"], "completed", "{ended}");
        let seen = self.upstream.requests().pop().unwrap();
        Ok(seen.header(HEADER).map(str::to_owned))
    }
}

/// Starts a turn, answers the question, and says it again if that came too late.
async fn answered(house: &House, rpc: &mut Rpc, thread: &str, answer: &Value) -> anyhow::Result<String> {
    for _ in 0..SLOW_ANSWERS_MAX {
        start_turn(rpc, thread, "When does the tide turn?").await?;
        let question = rpc.asked("attestation/generate").await?;
        // Not checked: one of the answers is wrong on purpose.
        rpc.send_text(json!({"id": question, "result": answer}).to_string()).await?;
        match house.attested(rpc).await? {
            Some(header) if header != TIMED_OUT => return Ok(header),
            Some(_) => {}
            None => anyhow::bail!("the call had no {HEADER}"),
        }
    }
    anyhow::bail!("no answer of {SLOW_ANSWERS_MAX} came in time")
}

#[tokio::test]
async fn an_attestation_reaches_openai_and_stays_nowhere() -> anyhow::Result<()> {
    let name = "an_attestation_reaches_openai_and_stays_nowhere";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let protocol = Protocol::generate(&codex).await?;
    let mut house = House::new().await?;
    let mut rpc = house.client(true).await?;
    let thread = start_thread(&mut rpc).await?;

    let header = answered(&house, &mut rpc, &thread, &json!({"token": TOKEN})).await?;
    assert_eq!(serde_json::from_str::<Value>(&header)?, json!({"v": 1, "s": 0, "t": TOKEN}));
    let header = answered(&house, &mut rpc, &thread, &json!({"token": 7})).await?;
    assert_eq!(header, r#"{"v":1,"s":4}"#);

    // A client that says nothing costs the turn a moment.
    start_turn(&mut rpc, &thread, "And who is silent?").await?;
    rpc.asked("attestation/generate").await?;
    let silence = Instant::now();
    assert_eq!(house.attested(&mut rpc).await?.as_deref(), Some(TIMED_OUT));
    assert!(silence.elapsed() < SILENT_TURN_MAX, "{:?}", silence.elapsed());

    // A client that cannot attest is not asked.
    let mut other = house.client(false).await?;
    let thread = start_thread(&mut other).await?;
    start_turn(&mut other, &thread, "And who cannot?").await?;
    assert_eq!(house.attested(&mut other).await?, None);
    let asked = other.received().iter().any(|received| received.message["method"] == "attestation/generate");
    assert!(!asked);

    for received in rpc.received() {
        protocol.check(&received.message, received.asked.as_deref())?;
    }
    for at in [house.gateway.at, house.agent.at()?] {
        let metrics = http::get(at, "/metrics").await?;
        assert_eq!(metrics.status, 200);
        canary::check(&[TOKEN], "metrics", metrics.text.as_bytes())?;
    }
    for service in [&mut house.agent.service, &mut house.gateway.service] {
        service.signal(rustix::process::Signal::TERM)?;
        service.ended(STOP_TIME_MAX).await?;
        let log = service.output();
        assert!(log.lines().count() > 10, "{log}");
        canary::check(&[TOKEN], "a log", log.as_bytes())?;
    }
    canary::check_files(&[TOKEN], &house.home.path("tidegate"))
}
