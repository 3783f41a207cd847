//! A connection that its gateway ends while a call is on it: the next call is put on it all the same, never leaves, and
//! goes out on another one.

use std::{net::SocketAddr, pin::Pin, pin::pin, sync::Arc};

use agent_session::{Access, CallEvent, GrpcGateway, ModelGateway as _, ModelStream};
use bytes::Bytes;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tidegate_proto::gateway::v1::model_gateway_service_server::ModelGatewayServiceServer;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::{Notify, watch},
    task::JoinSet,
};
use tonic::service::Routes;

use crate::grpc::{DEADLINE, Scripted, call, next};

const PREFACE_BYTES: usize = 24;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// What has passed between client and server.
#[derive(Debug, Default)]
struct Passed {
    connections: usize,
    goaways: usize,
    /// Pings that the client answered after a goodbye: it has read it by then.
    heard: usize,
}

/// A gateway that says goodbye when it is told to, behind a line on which every frame is seen.
struct Ending {
    at: SocketAddr,
    service: Scripted,
    leave: Arc<Notify>,
    passed: watch::Receiver<Passed>,
    _tasks: JoinSet<()>,
}

impl Ending {
    async fn start() -> Self {
        let (service, leave) = (Scripted::default(), Arc::new(Notify::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, at) = (listener.local_addr().unwrap(), line.local_addr().unwrap());
        let (tell, passed) = watch::channel(Passed::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, service.clone(), Arc::clone(&leave)));
        tasks.spawn(watch_line(line, server, tell));
        Self { at, service, leave, passed, _tasks: tasks }
    }

    /// A client with a call under way whose connection has been told to end, and that knows it.
    async fn client(&mut self) -> (GrpcGateway, Pin<Box<dyn ModelStream>>) {
        let gateway = GrpcGateway::connect_lazy(&format!("http://{}", self.at), &Access::default()).unwrap();
        let mut held = gateway.open();
        held.as_mut().call(call("hang", Bytes::from_static(b"{}")));
        assert!(matches!(next(&mut held).await, Some(Ok(CallEvent::Head { .. }))));
        assert!(matches!(next(&mut held).await, Some(Ok(CallEvent::Event { .. }))));
        self.leave.notify_waiters();
        let heard = self.passed.wait_for(|passed| passed.heard > 0);
        assert!(tokio::time::timeout(DEADLINE, heard).await.unwrap().unwrap().goaways > 0);
        (gateway, held)
    }

    fn connections(&self) -> usize {
        self.passed.borrow().connections
    }
}

async fn serve(listener: TcpListener, service: Scripted, leave: Arc<Notify>) {
    let routes = Routes::new(ModelGatewayServiceServer::new(service)).prepare();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (service, leave) = (TowerToHyperService::new(routes.clone()), Arc::clone(&leave));
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = leave.notified() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
}

async fn watch_line(line: TcpListener, server: SocketAddr, tell: watch::Sender<Passed>) {
    let tell = Arc::new(tell);
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = line.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        tell.send_modify(|passed| passed.connections += 1);
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let (down, up) = (Arc::clone(&tell), Arc::clone(&tell));
        connections.spawn(pass(from_server, to_client, 0, move |kind, _| {
            down.send_if_modified(|passed| {
                passed.goaways += usize::from(kind == GOAWAY);
                kind == GOAWAY
            });
        }));
        connections.spawn(pass(from_client, to_server, PREFACE_BYTES, move |kind, flags| {
            up.send_if_modified(|passed| {
                let heard = kind == PING && flags & ACK == ACK && passed.goaways > 0;
                passed.heard += usize::from(heard);
                heard
            });
        }));
    }
}

/// Passes on what comes, frame by frame after a preface, and shows each frame's kind and flags once it has passed.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: OwnedWriteHalf,
    preface: usize,
    seen: impl Fn(u8, u8),
) -> std::io::Result<()> {
    let mut bytes = vec![0; preface];
    from.read_exact(&mut bytes).await?;
    to.write_all(&bytes).await?;
    loop {
        let mut head = [0; 9];
        from.read_exact(&mut head).await?;
        let [high, middle, low, kind, flags, ..] = head;
        bytes.resize(usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low), 0);
        from.read_exact(&mut bytes).await?;
        to.write_all(&head).await?;
        to.write_all(&bytes).await?;
        seen(kind, flags);
    }
}

#[tokio::test]
async fn a_call_that_never_left_goes_out_on_another_connection() {
    let mut ending = Ending::start().await;
    let (gateway, _held) = ending.client().await;
    let body = Bytes::from(vec![b'x'; 300_000]);
    let mut stream = gateway.open();
    stream.as_mut().call(call("p", body.clone()));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Head { .. }))));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Event { .. }))));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Completed { .. }))));
    // What follows on the stream goes to the same gateway, and nothing was asked twice.
    stream.as_mut().call(call("p", Bytes::from_static(b"{}")));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Completed { .. }))));
    let bodies: Vec<Bytes> =
        ending.service.bodies.lock().await.iter().map(|(body, _)| body.clone()).collect();
    assert_eq!(bodies, [Bytes::from_static(b"{}"), body, Bytes::from_static(b"{}")]);
    assert_eq!(ending.connections(), 2);
}

#[tokio::test]
async fn so_does_a_question_with_one_answer() {
    let mut ending = Ending::start().await;
    let (gateway, _held) = ending.client().await;
    let models = tokio::time::timeout(DEADLINE, gateway.models()).await.unwrap().unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!(ending.connections(), 2);
}
