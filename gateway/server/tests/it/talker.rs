//! A client at the other end of the gateway's WebSocket.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails its test"
)]

use futures_util::{SinkExt as _, StreamExt as _};
use gateway_server::ServerConfig;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

use crate::harness::{Gate, deadline};

/// An open WebSocket to a gateway.
pub(crate) struct Talker {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Talker {
    pub(crate) async fn open(gate: &Gate) -> Talker {
        Talker::open_with(gate, &[]).await.unwrap()
    }

    /// Opens a socket with these headers in its handshake.
    pub(crate) async fn open_with(gate: &Gate, headers: &[(&'static str, &str)]) -> Result<Talker, Error> {
        let mut request = format!("ws://{}/v1/responses", gate.at).into_client_request()?;
        request.headers_mut().insert("authorization", "Bearer sk-of-the-caller".parse().unwrap());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(gate.at).await.unwrap();
        let (socket, answer) = deadline(client_async(request, stream)).await?;
        assert!(!answer.headers().contains_key("sec-websocket-extensions"));
        Ok(Talker { socket })
    }

    pub(crate) async fn say(&mut self, message: &str) {
        self.send(Message::text(message)).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        deadline(self.socket.send(message)).await.unwrap();
    }

    /// The next event as it came.
    pub(crate) async fn event(&mut self) -> String {
        loop {
            match deadline(self.socket.next()).await.unwrap().unwrap() {
                Message::Text(text) => return text.as_str().to_owned(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} instead of an event"),
            }
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.event().await).unwrap()
    }

    /// The events up to the one that ends a response.
    pub(crate) async fn response(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let kind = serde_json::from_str::<Value>(&event).unwrap()["type"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            events.push(event);
            if ["response.completed", "response.failed", "response.incomplete", "error"].contains(&&*kind) {
                return events;
            }
        }
    }

    /// The close frame that comes next.
    pub(crate) async fn closed(&mut self) -> (CloseCode, String) {
        loop {
            match deadline(self.socket.next()).await.unwrap().unwrap() {
                Message::Close(Some(frame)) => return (frame.code, frame.reason.as_str().to_owned()),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} instead of a goodbye"),
            }
        }
    }
}

/// A gateway with two providers at one upstream: `wired` with WebSockets, for the model `wired-1`, and `plain` without.
pub(crate) async fn gate() -> Gate {
    gate_with(ServerConfig::default()).await
}

pub(crate) async fn gate_with(config: ServerConfig) -> Gate {
    Gate::configured(config, providers).await
}

/// The two providers.
pub(crate) fn providers(base_url: &str) -> String {
    let provider = |id: &str, model: &str, keys: &str| {
        format!(
            "[model_providers.{id}]\nbase_url = \"{base_url}\"\nenv_key = \"UPSTREAM_KEY\"\n\
             request_max_retries = 0\nmodels = [\"{model}\"]\n{keys}"
        )
    };
    let wired = provider("wired", "wired-1", "supports_websockets = true\n");
    format!("model_provider = \"wired\"\n{wired}{}", provider("plain", "scripted-1", ""))
}
