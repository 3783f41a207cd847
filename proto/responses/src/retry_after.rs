//! Reads when to come back, in every form that upstreams use, and writes it in the one that all clients read.
//!
//! What is negative, unreadable or more than a day away counts as missing: nobody holds a call for so long,
//! and a delay that is cut would send the caller back too early.

use std::time::{Duration, SystemTime};

use crate::headers::{RETRY_AFTER, RETRY_AFTER_MS};

#[cfg(test)]
mod tests;

/// The longest delay that is believed.
pub const DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What a limit of OpenAI's API counts: the header with what is left, and the one with when it is refilled.
const RESETS: [(&str, &str); 2] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
];

/// What stands before a delay in an error's message.
const LEAD_INS: [&str; 4] = ["try again in", "try again after", "retry in", "retry after"];

/// The delay that response headers ask for; `get` takes names in lower case.
///
/// `retry-after-ms` counts before the coarser `retry-after` (seconds, decimal seconds or an HTTP date; a date
/// that has passed means now). Without either it is the latest refill of an `x-ratelimit` of which nothing is
/// left.
pub fn from_headers<'a>(get: impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    let milliseconds = get(RETRY_AFTER_MS).and_then(|value| scaled(value.trim(), 1e-3));
    let told = milliseconds.filter(believed).or_else(|| {
        let value = get(RETRY_AFTER)?.trim();
        scaled(value, 1.0).or_else(|| until(value, now)).filter(believed)
    });
    told.or_else(|| {
        let used_up = |remaining: &str| get(remaining).is_some_and(|left| left.trim().parse() == Ok(0_u64));
        let resets = RESETS.iter().filter(|(remaining, _)| used_up(remaining));
        resets.filter_map(|(_, reset)| duration(get(reset)?)).filter(believed).max()
    })
}

/// The delay that an error's message tells, as in "try again in 1.5s" or "in 2 minutes".
pub fn from_text(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    LEAD_INS.iter().find_map(|lead_in| {
        let mut places = memchr::memmem::find_iter(message.as_bytes(), lead_in.as_bytes());
        places.find_map(|at| leading_duration(message.get(at + lead_in.len()..)?).filter(believed))
    })
}

/// The value of a `retry-after` header: whole seconds, never less than the delay.
pub fn header_value(delay: Duration) -> u64 {
    delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0))
}

/// A duration as Go writes it, `1m30s` or `6ms`; a bare number is seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    scaled(text, 1.0).or_else(|| {
        let (total, rest) = parts(text);
        total.filter(|_| rest.is_empty())
    })
}

fn believed(delay: &Duration) -> bool {
    *delay <= DELAY_MAX
}

/// How long until an HTTP date, in any of its three forms.
fn until(date: &str, now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(date).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The duration at the start of a text, whatever follows it.
fn leading_duration(text: &str) -> Option<Duration> {
    parts(text.trim_start()).0
}

/// Adds up numbers with units from the start of a text; returns the sum, if there was any, and what is left.
fn parts(text: &str) -> (Option<Duration>, &str) {
    let mut total = None::<Duration>;
    let mut rest = text;
    while let Some((part, after)) = part(rest) {
        total = Some(total.unwrap_or_default().saturating_add(part));
        rest = after;
    }
    (total, rest)
}

/// One number with its unit, blanks allowed before each.
fn part(text: &str) -> Option<(Duration, &str)> {
    let text = text.trim_start_matches(' ');
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(number_end)?;
    let rest = rest.trim_start_matches(' ');
    let unit_end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(unit_end)?;
    let seconds = match unit {
        "h" | "hour" | "hours" => 3600.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Some((scaled(number, seconds)?, rest))
}

/// Digits with at most one point, times so many seconds.
fn scaled(number: &str, seconds: f64) -> Option<Duration> {
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}
