//! A gateway under each attack that one hostile client can make, with a good client beside it: its memory stays, the good
//! client is answered, and afterwards everything is as it was.
//!
//! Each attack meets a process of its own: what an attack makes one grow by, the next would find there and hide in.
//!
//! Times are measured and told, and judged by nobody here: they depend on the machine. Payloads that hide one request in another
//! are a test of their own, because what counts there is not how the gateway bears them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::caller::body;
use super::gauges;
use super::replica::{self, MODEL, Replica};
use super::row::{Row, Run, Table, Tally};
use super::scale::Scale;
use super::spoiler::{Spoil, Spoiler};
use super::upstream::{Asked, Step, Upstream};
use super::vitals::Course;
use crate::attacks::{self, Attack, Bomb, Calls, Fired, Good, Observed, Pace, Siege, sink};
use crate::certificate;
use crate::home::Home;
use crate::http;

/// How much the gateway's memory may grow under an attack.
const GROWTH_BYTES_MAX: u64 = 16 << 20;
/// How much of that may stay when the attack is over: caches that it has filled, not what it was given.
const LEFT_BYTES_MAX: u64 = 4 << 20;
/// Open files that come and go with the gateway's own connections to its provider.
const POOLED_MAX: usize = 4;
const FRAMES: u64 = 100_000;
const HEADS: u64 = 1_000;
const CONNECTIONS: u64 = 500;
const HANDSHAKES: u64 = 5_000;
/// An attack goes on for at least so long, and the good client calls for as long before it.
const TIME_MIN_MS: u64 = 10_000;
const REST_TIME_MAX: Duration = Duration::from_secs(10);
const ENHANCE_YOUR_CALM: u32 = 11;
/// What a caller of the good kind asks for, and one whose answer is stalled.
const ORDERS: [&str; 2] = ["good", "stalled"];
const LIMITS: &str = "\n[limits]\nbody_timeout_ms = 1000\n\n\
    [connections]\nheader_read_timeout_ms = 1000\nidle_timeout_ms = 1000\n";
const TITLES: &[&str] = &[
    "attack",
    "fired",
    "in",
    "what came back",
    "good calls before, p50 / p99 / longest",
    "during",
    "while the attack hits a sink",
    "memory at most, and after it",
    "the gateway computed",
    "descriptors",
];

/// An attack and what has to come of it.
struct Planned {
    name: &'static str,
    /// What a shot is.
    shots: &'static str,
    least: u64,
    attack: Attack,
    /// Whether the gateway did what it should.
    is_met: fn(&Fired) -> bool,
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["attacks", "good calls", "frames, heads, bytes and handshakes"], scale);
    let upstream = Upstream::start(play).await?;
    // Tests share the machine with others.
    let size = Size { scale, first: scale.is_full() && attacks::go_first(std::process::id())? };
    if scale.is_spoiled() {
        let house = House::plain(&upstream).await?;
        let spoiler = Spoiler::before(house.gateway.at, Spoil::StayOpen).await?;
        let at = spoiler.at();
        let attack: Attack = Arc::new(move |_| attacks::ping_flood(at, 100).boxed_local());
        let planned = Planned { name: "ping flood", shots: "PINGs", least: 1, attack, is_met: |_| true };
        let (_, course) = house.bears(planned, size, &run.tally).await?;
        return Ok(run.end(course, Vec::new()));
    }
    let mut borne = Vec::new();
    for planned in over_http2(scale).into_iter().chain(over_http1(scale)) {
        borne.push(House::plain(&upstream).await?.bears(planned, size, &run.tally).await?);
    }
    let authority = Home::new()?;
    let client = certificate::client(&certificate::certify(&authority, "authority.crt")?)?;
    for planned in over_tls(scale, &client) {
        let house = House::secure(&upstream, &authority, &client).await?;
        borne.push(house.bears(planned, size, &run.tally).await?);
    }
    let (lines, courses): (Vec<_>, Vec<_>) = borne.into_iter().unzip();
    let worst =
        courses.into_iter().max_by_key(|course| course.end.peak_kib.saturating_sub(course.start.rss_kib));
    let strange = upstream.orders().into_iter().filter(|order| !ORDERS.contains(&order.as_str())).count();
    run.tally.expect(strange == 0, || format!("{strange} calls of nobody reached the provider"));
    let facts = vec![format!(
        "{} attacks, each for at least {} ms on a process of its own; attacker, sink, good client and provider on the gateway's \
         own machine, the attacker and the sink on a thread that computes only while nobody else wants to; {}; descriptors and \
         memory are those of the process that grew most",
        lines.len(),
        scale.of(TIME_MIN_MS),
        match size.first {
            true =>
                "gateway, good client and provider in the kernel's class for real time, or the attacker would have a part \
                     of their processors",
            false =>
                "the others in the ordinary class, beside which the attacker has a part of the processors",
        }
    )];
    let row = run.end(worst.unwrap_or_default(), facts);
    Ok(Row { table: Some(Table { titles: TITLES, lines }), ..row })
}

fn play(asked: &Asked) -> Vec<Step> {
    // Who attacks is to leave no connection that waits for the next call.
    let head = if asked.order() == "good" { Step::Head } else { Step::LastHead };
    let piece = Step::Send("event: a\ndata: {\"type\":\"a\"}\n\n".into());
    let event = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;
    let last = Step::Send(format!("event: response.completed\ndata: {event}\n\n").into());
    vec![head, piece, last]
}

fn over_http2(scale: Scale) -> Vec<Planned> {
    let calm = |fired: &Fired| fired.sent_away.contains_key(&ENHANCE_YOUR_CALM);
    let (frames, heads, streams) = (scale.of(FRAMES), scale.of(HEADS), scale.of(CONNECTIONS));
    let plan = |name, shots, least, is_met, attack| Planned { name, shots, least, attack, is_met };
    vec![
        plan("rapid reset", "streams", frames, calm, {
            Arc::new(move |at| attacks::rapid_reset(at, frames).boxed_local())
        }),
        plan("MadeYouReset", "streams", frames / 6, |fired| fired.resets > 0, {
            Arc::new(move |at| attacks::made_you_reset(at, frames / 2).boxed_local())
        }),
        plan("CONTINUATION flood", "frames", frames, calm, {
            Arc::new(move |at| attacks::continuation_flood(at, frames).boxed_local())
        }),
        // Half of these are sent by somebody who reads no answer, so that less of them is taken.
        plan("SETTINGS flood", "frames", frames / 4, |_| true, {
            Arc::new(move |at| attacks::settings_flood(at, frames / 2).boxed_local())
        }),
        plan("PING flood", "frames", frames / 4, |_| true, {
            Arc::new(move |at| attacks::ping_flood(at, frames / 2).boxed_local())
        }),
        plan("empty DATA flood", "frames", frames, calm, {
            Arc::new(move |at| attacks::empty_data_flood(at, frames).boxed_local())
        }),
        plan("HPACK bomb", "heads", heads, |fired| fired.ended == fired.connections, {
            Arc::new(move |at| attacks::hpack_bomb(at, heads).boxed_local())
        }),
        plan("zero window", "streams", streams, |fired| fired.statuses.get(&200) == Some(&fired.shots), {
            let body = body("stalled").into_bytes();
            Arc::new(move |at| {
                let body = body.clone();
                async move { attacks::zero_window_stall(at, streams, &body).await }.boxed_local()
            })
        }),
    ]
}

fn over_http1(scale: Scale) -> Vec<Planned> {
    let ended = |fired: &Fired| fired.ended == fired.connections && !fired.statuses.contains_key(&200);
    let late = |fired: &Fired| fired.statuses.get(&408) == Some(&fired.connections);
    let too_large = |fired: &Fired| fired.statuses.keys().all(|status| [431, 414].contains(status));
    let wrong = |fired: &Fired| fired.statuses.keys().all(|status| (400..500).contains(status));
    let (connections, heads) = (scale.of(CONNECTIONS), scale.of(HEADS));
    let pace = Pace {
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        every: Duration::from_millis(100),
        give_up: Duration::from_secs(60),
    };
    let plan = |name, shots, least, is_met, attack| Planned { name, shots, least, attack, is_met };
    vec![
        plan("slow heads", "bytes", connections, ended, {
            Arc::new(move |at| attacks::slow_heads(at, pace).boxed_local())
        }),
        plan("slow bodies", "bytes", connections, late, {
            Arc::new(move |at| attacks::slow_bodies(at, pace).boxed_local())
        }),
        plan("header bombs", "heads", heads, too_large, {
            Arc::new(move |at| {
                let bombs = [Bomb::ManyFields(101), Bomb::LongValue(1 << 20), Bomb::LongTarget(100 << 10)];
                async move { attacks::header_bombs(at, &bombs, heads.div_ceil(3)).await }.boxed_local()
            })
        }),
        plan("lying lengths", "requests", heads, wrong, {
            Arc::new(move |at| attacks::lying_lengths(at, heads.div_ceil(10)).boxed_local())
        }),
    ]
}

fn over_tls(scale: Scale, client: &Arc<ClientConfig>) -> Vec<Planned> {
    let ended = |fired: &Fired| fired.ended == fired.connections;
    let (connections, heads, handshakes) = (scale.of(CONNECTIONS * 4), scale.of(HEADS), scale.of(HANDSHAKES));
    let pace = Pace {
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        every: Duration::from_millis(100),
        give_up: Duration::from_secs(60),
    };
    let plan = |name, shots, least, is_met, attack| Planned { name, shots, least, attack, is_met };
    vec![
        plan("unfinished TLS handshakes", "bytes", connections / 3, ended, {
            let client = Arc::clone(client);
            Arc::new(move |at| attacks::unfinished_handshakes(at, Arc::clone(&client), pace).boxed_local())
        }),
        plan("TLS handshake flood", "handshakes", handshakes, |_| true, {
            let client = Arc::clone(client);
            Arc::new(move |at| attacks::handshake_flood(at, Arc::clone(&client), handshakes).boxed_local())
        }),
        plan("false TLS handshakes", "connections", heads, ended, {
            Arc::new(move |at| attacks::false_handshakes(at, heads.div_ceil(6)).boxed_local())
        }),
    ]
}

/// A gateway and its good client.
struct House {
    gateway: Replica,
    good: Good,
    sink: sink::Kind,
}

/// How much an attack is, and whether the attacker is kept from the processors that everybody else wants.
#[derive(Clone, Copy)]
struct Size {
    scale: Scale,
    first: bool,
}

impl House {
    async fn plain(upstream: &Upstream) -> anyhow::Result<Self> {
        let gateway = Replica::before(upstream, "", LIMITS).await?;
        Self::of(gateway, None, sink::Kind::Plain)
    }

    /// The same behind TLS, with the certificate that is in this home and a client that trusts it.
    async fn secure(
        upstream: &Upstream,
        authority: &Home,
        client: &Arc<ClientConfig>,
    ) -> anyhow::Result<Self> {
        let sink = sink::Kind::Tls(TlsAcceptor::from(certificate::server(authority)?));
        let home = Home::new()?;
        let file = home.path("gateway.toml");
        let config = replica::config(upstream);
        let table = certificate::table(authority);
        std::fs::write(&file, format!("{config}models = [\"{MODEL}\"]\n{LIMITS}{table}"))?;
        let gateway = Replica::with_file(home, &file).await?;
        Self::of(gateway, Some(TlsConnector::from(Arc::clone(client))), sink)
    }

    fn of(gateway: Replica, tls: Option<TlsConnector>, sink: sink::Kind) -> anyhow::Result<Self> {
        let process = gateway.service.id().context("the gateway runs")?;
        let at = gateway.at;
        let request = http::post(at, "/v1/responses", "", body("good").as_bytes());
        Ok(Self { gateway, good: Good { process, at, request, tls }, sink })
    }

    /// Attacks, and finds the gateway as it should be. Tells the line of the table, and how its process fared.
    async fn bears(
        &self,
        planned: Planned,
        Size { scale, first }: Size,
        tally: &Tally,
    ) -> anyhow::Result<(Vec<String>, Course)> {
        let siege = Siege {
            time_min: Duration::from_millis(scale.of(TIME_MIN_MS)),
            sink: (!scale.is_spoiled()).then(|| self.sink.clone()),
            first,
        };
        anyhow::ensure!(
            !first || attacks::go_first(self.good.process)?,
            "the gateway is kept behind the attacker"
        );
        let name = planned.name;
        let process = self.gateway.process()?;
        let start = process.look()?;
        let seen = attacks::observe(&self.good, &siege, &planned.attack).await.context(name)?;
        tally.add(u64::try_from(seen.before.made + seen.during.made)?, seen.fired.shots);
        tally.expect(seen.fired.shots >= planned.least, || format!("{name}: too little was fired: {seen}"));
        tally.expect((planned.is_met)(&seen.fired), || format!("{name}: it was not met: {seen}"));
        tally.expect(seen.during.failed == 0, || format!("{name}: good calls failed: {seen}"));
        tally.expect(seen.grown_bytes < GROWTH_BYTES_MAX, || format!("{name}: memory grew: {seen}"));
        tally.expect(seen.left_bytes < LEFT_BYTES_MAX, || format!("{name}: memory stays: {seen}"));
        tally
            .expect(seen.files.1 <= seen.files.0 + POOLED_MAX, || format!("{name}: files stay open: {seen}"));
        tally.expect(self.is_at_rest().await?, || format!("{name}: an idle gateway still counts calls"));
        Ok((line(&planned, &seen), Course { start, end: process.look()? }))
    }

    /// Whether the gateway counts no call and holds no byte, soon.
    async fn is_at_rest(&self) -> anyhow::Result<bool> {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.good.at);
        let began = Instant::now();
        loop {
            let metrics = self.good.ask(request.as_bytes()).await?;
            let all = ["tidegate_gateway_calls_running", "tidegate_gateway_held_bytes"];
            if all.iter().all(|name| gauges::sum(&metrics, name, &[]) == 0) {
                return Ok(true);
            }
            if began.elapsed() > REST_TIME_MAX {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn line(planned: &Planned, seen: &Observed) -> Vec<String> {
    let ms = |time: Duration| {
        let micros = time.as_micros();
        format!("{}.{}", micros / 1000, micros % 1000 / 100)
    };
    let times = |calls: &Calls| {
        format!("{} / {} / {} ms of {}", ms(calls.p50), ms(calls.p99), ms(calls.longest), calls.made)
    };
    let mib = |bytes: u64| format!("{}.{}", bytes >> 20, (bytes >> 10) % 1024 * 10 / 1024);
    vec![
        planned.name.to_owned(),
        format!("{} {} on {} connections", seen.fired.shots, planned.shots, seen.fired.connections),
        format!("{} ms", seen.took.as_millis()),
        seen.fired.came_back(),
        times(&seen.before),
        times(&seen.during),
        seen.beside.as_ref().map(times).unwrap_or_default(),
        format!("+{}, +{} MiB", mib(seen.grown_bytes), mib(seen.left_bytes)),
        format!("{} ms", seen.computed.as_millis()),
        format!("{} → {}", seen.files.0, seen.files.1),
    ]
}
