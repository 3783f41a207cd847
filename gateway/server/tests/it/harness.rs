//! A gateway on a loopback port in front of a scripted upstream, and the clients that the tests use.

#![expect(clippy::unwrap_used, reason = "a harness that cannot be set up fails its test")]

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use gateway_policy::{Policy, PolicyConfig};
use gateway_providers::{Providers, ProvidersConfig};
use gateway_server::{Configuration, Gateway, ServerConfig};
use gateway_testkit::Upstream;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use opentelemetry::metrics::Meter;
use tidegate_callers::{Callers, CallersConfig, Host};
use tidegate_proto::gateway::v1::model_gateway_service_client::ModelGatewayServiceClient;
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpListener, net::TcpStream, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The key that only the upstream may see.
pub(crate) const KEY: &str = "sk-canary-4d1f";
/// The longest a single test step may take.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(20);

/// A running gateway; its tasks end with it.
pub(crate) struct Gate {
    pub(crate) upstream: Upstream,
    pub(crate) at: SocketAddr,
    pub(crate) gateway: Gateway,
    pub(crate) callers: Callers,
    /// Ends the calls that run.
    pub(crate) cut: CancellationToken,
    client: Client<HttpConnector, Full<Bytes>>,
    _tasks: JoinSet<()>,
}

/// Who may call a gateway, and what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Door<'a> {
    /// The tables `[authentication]` and `[[callers]]`.
    pub(crate) callers: &'a str,
    /// The policy file.
    pub(crate) policy: &'a str,
}

impl Door<'_> {
    /// The same for a gateway that runs: what it goes on with.
    pub(crate) fn configuration(&self, limits: ServerConfig, providers: Providers) -> Configuration {
        let callers: CallersConfig = toml::from_str(self.callers).unwrap();
        let host = Host { directory: Path::new(""), environment: &|_| None, clock: SystemTime::now };
        let callers = Callers::build(&callers, &host).unwrap();
        let policy: PolicyConfig = toml::from_str(self.policy).unwrap();
        let policy = Arc::new(Policy::build(&policy).unwrap());
        Configuration { limits, providers, callers, policy }
    }
}

impl Gate {
    pub(crate) async fn start() -> Self {
        Self::with(ServerConfig::default(), "").await
    }

    /// `provider_keys` are further lines of the provider's table.
    pub(crate) async fn with(config: ServerConfig, provider_keys: &str) -> Self {
        Self::configured(config, |base_url| format!(
            "model_provider = \"scripted\"\n[model_providers.scripted]\nbase_url = \"{}\"\nenv_key = \"UPSTREAM_KEY\"\n\
             request_max_retries = 0\nmodels = [\"scripted-1\"]\n{provider_keys}",
            base_url
        )).await
    }

    /// A gateway with this configuration of providers, which is given the address of the upstream.
    pub(crate) async fn configured(config: ServerConfig, providers: impl Fn(&str) -> String) -> Self {
        Self::guarded(config, providers, &Door::default()).await
    }

    /// A gateway with this configuration of providers, behind this door.
    pub(crate) async fn guarded(
        config: ServerConfig,
        providers: impl Fn(&str) -> String,
        door: &Door<'_>,
    ) -> Self {
        Self::measured(config, providers, door, &opentelemetry::global::meter("test")).await
    }

    /// The same, whose instruments this meter makes.
    pub(crate) async fn measured(
        config: ServerConfig,
        providers: impl Fn(&str) -> String,
        door: &Door<'_>,
        meter: &Meter,
    ) -> Self {
        let upstream = Upstream::start().await.unwrap();
        let providers = providers(&upstream.base_url());
        let providers: ProvidersConfig = toml::from_str(&providers).unwrap();
        let env = |name: &str| (name == "UPSTREAM_KEY").then(|| KEY.to_owned());
        let providers = Providers::build(&providers, &env).unwrap();
        let configuration = door.configuration(config, providers);
        let callers = configuration.callers.clone();
        let cut = CancellationToken::new();
        let gateway = Gateway::new(configuration, meter, cut.clone()).await.unwrap();
        let gateway = gateway.behind(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, gateway.clone()));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { upstream, at, gateway, callers, cut, client, _tasks: tasks }
    }

    pub(crate) async fn post(&self, body: impl Into<Bytes>) -> Response<Incoming> {
        self.send(self.request(body)).await
    }

    pub(crate) fn request(&self, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::post(format!("http://{}/v1/responses", self.at))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, "Bearer sk-of-the-caller")
            .body(Full::new(body.into()))
            .unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        deadline(self.client.request(request)).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Incoming> {
        let request = Request::get(format!("http://{}{path}", self.at)).body(Full::default()).unwrap();
        self.send(request).await
    }

    pub(crate) async fn grpc(&self) -> ModelGatewayServiceClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.at)).unwrap();
        ModelGatewayServiceClient::new(deadline(channel.connect()).await.unwrap())
    }

    /// Sends raw bytes, half-closes, and returns all that comes back.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        deadline(stream.read_to_end(&mut answer)).await.unwrap();
        answer
    }

    /// A call that has to succeed whatever was done to the gateway before.
    pub(crate) async fn assert_healthy(&self) {
        self.upstream.push(gateway_testkit::Reply::sse(gateway_testkit::text_turn(&["fine"], usage())));
        let response = self.post(r#"{"model":"scripted-1","stream":true,"input":"hi"}"#).await;
        assert_eq!(response.status(), 200);
        let body = bytes_of(response).await;
        assert!(String::from_utf8_lossy(&body).contains("response.completed"));
    }
}

async fn accept(listener: TcpListener, gateway: Gateway) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let gateway = gateway.clone();
        connections.spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), gateway).await;
        });
    }
}

/// Usage with numbers that can be told apart.
pub(crate) fn usage() -> tidegate_responses::Usage {
    tidegate_responses::Usage {
        input_tokens: 11,
        cached_input_tokens: 3,
        cache_write_input_tokens: 0,
        output_tokens: 7,
        reasoning_output_tokens: 2,
        total_tokens: 18,
    }
}

pub(crate) async fn bytes_of(response: Response<Incoming>) -> Bytes {
    deadline(response.into_body().collect()).await.unwrap().to_bytes()
}

pub(crate) async fn json_of(response: Response<Incoming>) -> serde_json::Value {
    serde_json::from_slice(&bytes_of(response).await).unwrap()
}

/// Every wait of a test has an end.
pub(crate) async fn deadline<F: Future>(step: F) -> F::Output {
    tokio::time::timeout(STEP_MAX, step).await.unwrap()
}
