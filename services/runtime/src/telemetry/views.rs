//! Histogram buckets by unit: the defaults fit neither coding turns nor tokens.

use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, MeterProviderBuilder, Stream};

/// From a local decision to a turn of ten minutes.
const SECONDS: [f64; 17] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 360.0, 600.0];
/// A turn of an agent: from one short answer to two hours of work.
const TURN_SECONDS: [f64; 16] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0,
];
/// The histograms of turns.
const TURNS: [&str; 1] = ["gen_ai.invoke_agent.duration"];
/// Model calls of a turn.
const CALLS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// What the gateway itself takes, and a store: from microseconds on.
const FINE_SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0, 120.0, 600.0,
];
/// The histograms of short times.
const FINE: [&str; 3] =
    ["tidegate.gateway.overhead", "tidegate.gateway.phase.duration", "tidegate.agent.store.commit.duration"];
/// Powers of four, as the GenAI conventions have them.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Powers of four from a small frame to the largest body.
const BYTES: [f64; 10] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Gives histograms in seconds (`s`), tokens (`{token}`), calls (`{inference_call}`) and bytes (`By`) their buckets.
pub(super) fn install(builder: MeterProviderBuilder) -> MeterProviderBuilder {
    builder.with_view(|instrument: &Instrument| {
        let boundaries = match (instrument.kind(), instrument.unit()) {
            (InstrumentKind::Histogram, "s") if FINE.contains(&instrument.name()) => FINE_SECONDS.to_vec(),
            (InstrumentKind::Histogram, "s") if TURNS.contains(&instrument.name()) => TURN_SECONDS.to_vec(),
            (InstrumentKind::Histogram, "s") => SECONDS.to_vec(),
            (InstrumentKind::Histogram, "{inference_call}") => CALLS.to_vec(),
            (InstrumentKind::Histogram, "{token}") => TOKENS.to_vec(),
            (InstrumentKind::Histogram, "By") => BYTES.to_vec(),
            _ => return None,
        };
        let buckets = Aggregation::ExplicitBucketHistogram { boundaries, record_min_max: true };
        Stream::builder().with_aggregation(buckets).build().ok()
    })
}
