//! How gatewayd starts, refuses to start, and stops.

use gateway_testkit::{Gate, Upstream};
use service_e2e::home::Home;
use tidegate_proto::gateway::v1::model_gateway_service_client::ModelGatewayServiceClient;
use tidegate_proto::gateway::v1::respond_response::Message as Event;
use tonic::transport::Endpoint;

use super::grpc;
use service_e2e::http::{self, Raw};
use service_e2e::stack::{self, Gateway, MODEL, STOP_TIME_MAX};

/// The exit codes that the README promises.
const UNAVAILABLE: Option<i32> = Some(69);
const CONFIG: Option<i32> = Some(78);

fn streaming_call(at: std::net::SocketAddr) -> Vec<u8> {
    let body = format!(r#"{{"model":"{MODEL}","stream":true,"input":"hi"}}"#);
    http::post(at, "/v1/responses", "", body.as_bytes())
}

#[tokio::test]
async fn a_live_stream_finishes_before_the_gateway_stops() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let mut gateway = Gateway::before(&upstream).await?;
    let held = Gate::closed();
    let reply = stack::says("resp_last", &["Before ", "after."]);
    let half = reply.body().len() / 2;
    upstream.push(reply.stall_after(half, &held));
    let mut caller = Raw::connect(gateway.at).await?;
    caller.send(&streaming_call(gateway.at)).await?;
    caller.read_until("response.created").await?;

    gateway.service.signal(rustix::process::Signal::TERM)?;
    gateway.service.wait_for_line("its drain", |line| line.contains("drain").then_some(())).await?;
    assert!(gateway.service.is_running()?);
    held.open();
    let rest = caller.finish().await?;
    assert!(rest.text.contains("event: response.completed"), "{rest:?}");
    assert!(rest.text.ends_with("0\r\n\r\n"), "{rest:?}");
    let status = gateway.service.ended(STOP_TIME_MAX).await?;
    assert_eq!(status.code(), Some(0), "{}", gateway.service.output());
    Ok(())
}

#[tokio::test]
async fn a_stream_that_outlasts_the_grace_period_ends_with_a_typed_event() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let config = format!("{}\n[drain]\ngrace_ms = 200\n", stack::provider(&upstream));
    let mut gateway = Gateway::start(&config).await?;
    let reply = stack::says("resp_never", &["Before ", "never."]);
    let half = reply.body().len() / 2;
    upstream.set_default(reply.stall_after(half, &Gate::closed()));
    let mut caller = Raw::connect(gateway.at).await?;
    caller.send(&streaming_call(gateway.at)).await?;
    caller.read_until("response.created").await?;
    let channel = Endpoint::from_shared(gateway.url())?.connect().await?;
    let call = tokio_stream::iter(grpc::call(format!(r#"{{"model":"{MODEL}","stream":true}}"#).as_bytes()));
    let mut events = ModelGatewayServiceClient::new(channel).respond(call).await?.into_inner();
    assert!(matches!(events.message().await?.unwrap().message, Some(Event::Head(_))));
    upstream.push(stack::says("resp_late", &["Late."]).delay_headers(&Gate::closed()));
    let mut waiting = Raw::connect(gateway.at).await?;
    waiting.send(&streaming_call(gateway.at)).await?;
    upstream.wait_for_request(3).await?;

    gateway.service.signal(rustix::process::Signal::TERM)?;
    let rest = caller.finish().await?;
    assert!(rest.text.contains("event: response.failed"), "{rest:?}");
    assert!(rest.text.contains("gateway_stopping"), "{rest:?}");
    assert!(rest.text.ends_with("0\r\n\r\n"), "{rest:?}");
    let mut last = None;
    while let Some(event) = tokio::time::timeout(STOP_TIME_MAX, events.message()).await?? {
        last = event.message;
    }
    let Some(Event::Failed(failed)) = last else { anyhow::bail!("the last event was {last:?}") };
    assert_eq!(failed.failure.unwrap().reason, "gateway_stopping");
    let refused = waiting.finish().await?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.json()?["error"]["code"], "gateway_stopping");
    upstream.wait_cancelled(3).await?;
    gateway.service.ended(STOP_TIME_MAX).await?;
    Ok(())
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_call_upstream() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::before(&upstream).await?;
    let reply = stack::says("resp_left", &["Before ", "never."]);
    let half = reply.body().len() / 2;
    upstream.push(reply.stall_after(half, &Gate::closed()));
    let mut caller = Raw::connect(gateway.at).await?;
    caller.send(&streaming_call(gateway.at)).await?;
    caller.read_until("response.created").await?;
    drop(caller);
    upstream.wait_cancelled(1).await?;
    Ok(())
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() -> anyhow::Result<()> {
    let gateway = Gateway::start("").await?;
    // A connection that nobody uses does not hold it up.
    let idle = Raw::connect(gateway.at).await?;
    assert_eq!(gateway.service.stop(STOP_TIME_MAX).await?.code(), Some(0));
    assert_eq!(idle.finish().await?.text, "");
    Ok(())
}

#[tokio::test]
async fn a_wrong_configuration_is_told_as_a_whole() -> anyhow::Result<()> {
    let wrong = "listen = [\"0.0.0.0:1\"]\nmodel_provider = \"nobody\"\n\n[model_providers.corp]\n\
        base_url = \"ftp://x/v1\"\nenv_key = \"NOT_SET_ANYWHERE\"\n";
    for (config, expected) in [
        (wrong, vec!["gateway.toml:1:", "listen[0]", "nobody", "base_url", "NOT_SET_ANYWHERE"]),
        ("[limits]\nbody_byte_max = 1\n", vec!["gateway.toml:2:", "body_byte_max", "`body_bytes_max`"]),
        ("listen = 7\n", vec!["gateway.toml:1:", "listen"]),
        ("listen = [\n", vec!["gateway.toml:"]),
    ] {
        let home = Home::new()?;
        let output = stack::run(stack::gatewayd(&home, Some(config)).await?).await?;
        assert_eq!(output.status.code(), CONFIG, "{config}: {output:?}");
        for word in expected {
            assert!(output.stderr.contains(word), "{word} in {}", output.stderr);
        }
        assert_eq!(output.stdout, "");
    }
    let home = Home::new()?;
    let mut absent = stack::gatewayd(&home, None).await?;
    absent.args(["--config", "absent.toml"]);
    assert_eq!(stack::run(absent).await?.status.code(), CONFIG);
    Ok(())
}

#[tokio::test]
async fn a_taken_address_is_told_as_such() -> anyhow::Result<()> {
    let first = Gateway::start("").await?;
    let home = Home::new()?;
    let at = first.at.to_string();
    for address in [at.clone(), format!("unix:{}", first.socket.display())] {
        let mut second = stack::gatewayd(&home, None).await?;
        second.args(["--listen", &address]);
        let output = stack::run(second).await?;
        assert_eq!(output.status.code(), UNAVAILABLE, "{output:?}");
        assert!(output.stderr.contains(&address), "{output:?}");
    }
    // The first one was not disturbed.
    assert_eq!(http::get(first.at, "/readyz").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn open_websockets_are_counted() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway =
        Gateway::start(&format!("{}supports_websockets = true\n", stack::provider(&upstream))).await?;
    let url = format!("ws://{}/v1/responses", gateway.at);
    let mut sockets = Vec::new();
    for _ in 0..2 {
        sockets.push(tokio_tungstenite::connect_async(&url).await?.0);
        counts_sockets(&gateway, sockets.len()).await?;
    }
    sockets.pop();
    counts_sockets(&gateway, 1).await?;
    drop(sockets);
    counts_sockets(&gateway, 0).await
}

/// Waits until the gateway says that so many sockets are open.
async fn counts_sockets(gateway: &Gateway, expected: usize) -> anyhow::Result<()> {
    let counted = async {
        loop {
            let text = http::get(gateway.at, "/metrics").await?.text;
            let line = text.lines().find(|line| line.starts_with("tidegate_gateway_sockets"));
            if line.and_then(|line| line.rsplit(' ').next()?.parse().ok()) == Some(expected) {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(STOP_TIME_MAX, counted).await?
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_told_with_its_address() -> anyhow::Result<()> {
    let provider = "model_provider = \"gone\"\n[model_providers.gone]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodels = [\"m\"]\n";
    let mut gateway = Gateway::start(provider).await?;
    let cold = |line: &str| line.contains("ahead of its first call").then(|| line.to_owned());
    let line = gateway.service.wait_for_line("the line", cold).await?;
    assert!(line.contains("127.0.0.1") && line.contains(r#""port":1"#), "{line}");
    Ok(())
}
