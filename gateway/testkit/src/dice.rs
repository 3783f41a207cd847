//! Makes streams up: the same ones for the same seed, and cuts to send them in.
//!
//! Everything that a provider may send and a relay must not touch is among them: text of any script, escapes, empty
//! pieces, large ones, events and items that nobody knows, comments, lines ended in other ways.

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_responses::Usage;

use crate::turn::Turn;

/// What a text is made of; some need several bytes, some an escape.
const LETTERS: [char; 14] =
    ['a', 'Z', ' ', '"', '\\', '\n', '\r', '\t', '{', 'é', 'ß', '潮', '🌊', '\u{2028}'];
/// The most letters of a text, most of the time.
const SHORT_MAX: usize = 40;
/// The most letters of one that is long.
const LONG_MAX: usize = 20_000;
/// The largest of the small pieces that a stream is cut into.
const PIECE_MAX: usize = 200;

/// A source of numbers that look random.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `limit`; 0 if there is none.
    pub fn below(&mut self, limit: usize) -> usize {
        // Splitmix: each step of a counter is mixed until its bits have nothing in common.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let number = usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or_default();
        number.checked_rem(limit).unwrap_or_default()
    }

    /// A text, rarely a long one.
    pub fn text(&mut self) -> String {
        let most = if self.below(30) == 0 { LONG_MAX } else { SHORT_MAX };
        (0..self.below(most)).filter_map(|_| LETTERS.get(self.below(LETTERS.len())).copied()).collect()
    }

    /// The frames of a whole response, to the event that completes it.
    pub fn stream(&mut self, response_id: &str) -> Vec<Bytes> {
        let mut turn = Turn::new(response_id);
        for call in 0..1 + self.below(4) {
            turn = match self.below(5) {
                0 => {
                    let pieces = self.pieces();
                    turn.reasoning(&pieces.iter().map(String::as_str).collect::<Vec<_>>(), &self.text())
                }
                1 => {
                    turn.function_call(&format!("call_{call}"), "exec_command", &json!({"cmd": self.text()}))
                }
                2 => turn.custom_tool_call(&format!("call_{call}"), "apply_patch", &self.text()),
                3 => turn.raw_item(json!({"type": "odd_item", "deep": [self.text(), 1.5, null]})),
                _ => {
                    let pieces = self.pieces();
                    turn.text(&pieces.iter().map(String::as_str).collect::<Vec<_>>())
                }
            };
        }
        let usage = Usage {
            input_tokens: u64::try_from(self.below(100_000)).unwrap_or_default(),
            output_tokens: u64::try_from(self.below(10_000)).unwrap_or_default(),
            ..Usage::default()
        };
        let frames = turn.completed(usage);
        frames.into_iter().flat_map(|frame| self.dress(frame)).collect()
    }

    /// The sizes of the writes that a stream is sent in: for [`crate::Reply::chunks`].
    pub fn sizes(&mut self) -> Vec<usize> {
        let most = if self.below(4) == 0 { 5 } else { PIECE_MAX };
        (0..1 + self.below(20)).map(|_| 1 + self.below(most)).collect()
    }

    fn pieces(&mut self) -> Vec<String> {
        (0..1 + self.below(12)).map(|_| self.text()).collect()
    }

    /// A frame as some server may write it, and what it may send before.
    fn dress(&mut self, frame: Bytes) -> Vec<Bytes> {
        match self.below(12) {
            0 => vec![Bytes::from_static(b": keep alive\n\n"), frame],
            1 => {
                let novel = Value::from(self.text());
                let novel = format!("data: {{\"type\":\"response.novelty\",\"what\":{novel}}}\n\n");
                vec![novel.into(), frame]
            }
            2 => {
                // An encoded event has no line ends but those of its lines.
                let lines: Vec<u8> =
                    frame.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
                vec![lines.into()]
            }
            _ => vec![frame],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages;

    #[test]
    fn a_seed_has_one_stream_and_another_seed_another() {
        let stream = |seed| Dice::new(seed).stream("resp_1");
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
        for seed in 0..200 {
            let told = messages(stream(seed));
            let last = told.last().map(String::as_str).unwrap_or_default();
            assert!(last.starts_with(r#"{"type":"response.completed""#), "seed {seed}: {last}");
            let told = told.iter().filter(|message| !message.is_empty());
            assert!(
                told.map(|message| serde_json::from_str::<Value>(message)).all(|message| message.is_ok())
            );
        }
    }
}
