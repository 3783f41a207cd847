//! Reads rate-limit snapshots from response headers.
//!
//! A family of headers, `x-<family>-primary-used-percent` and its siblings, describes one limit; `codex` is
//! the account's own. OpenAI's API tells limits as `x-ratelimit-remaining-<what>` and siblings; each becomes a
//! limit called `<what>`, as in `requests`. Values that cannot be read count as missing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::retry_after;

#[cfg(test)]
mod tests;

/// Families kept from one response, so that an upstream cannot fill memory.
const FAMILIES_MAX: usize = 16;

/// One limit as the upstream last told it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RateLimit {
    /// The family in lower case with underscores, as in `codex`.
    pub limit_id: String,
    /// A name for people.
    pub limit_name: Option<String>,
    /// The shorter window.
    pub primary: Option<Window>,
    /// The longer window.
    pub secondary: Option<Window>,
    /// Credits beside the windows.
    pub credits: Option<Credits>,
    /// Which kind of limit was reached, in the upstream's words.
    pub reached_type: Option<String>,
    /// The count behind a limit of OpenAI's API; its share of use is then also the primary window.
    pub bucket: Option<Bucket>,
}

/// How much of something may be used until it is refilled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How much a full bucket has.
    pub limit: Option<u64>,
    /// How much is left.
    pub remaining: Option<u64>,
    /// When it is full again, counted from the response.
    pub reset_after: Option<Duration>,
}

/// How far a limit is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// From 0 to 100.
    pub used_percent: f64,
    /// How long the window is.
    pub window_minutes: Option<u64>,
    /// When it starts anew, in seconds since 1970.
    pub resets_at: Option<i64>,
}

/// What an account can spend beyond its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credits {
    /// Whether there are any.
    pub has_credits: bool,
    /// Whether they never end.
    pub unlimited: bool,
    /// How many are left, as the upstream writes it.
    pub balance: Option<String>,
}

#[derive(Default)]
struct Family<'a> {
    limit_name: Option<&'a str>,
    primary: Parts<'a>,
    secondary: Parts<'a>,
    has_credits: Option<&'a str>,
    unlimited: Option<&'a str>,
    balance: Option<&'a str>,
    reached_type: Option<&'a str>,
    bucket: Bucket,
}

#[derive(Default)]
struct Parts<'a> {
    used_percent: Option<&'a str>,
    window_minutes: Option<&'a str>,
    reset_at: Option<&'a str>,
}

impl RateLimit {
    /// Reads all limits that the headers tell of, ordered by family. Names may be in any case.
    pub fn from_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<RateLimit> {
        let mut families = BTreeMap::<String, Family<'a>>::new();
        for (name, value) in headers {
            // Most headers of most answers speak of something else.
            if !name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-")) {
                continue;
            }
            let name = lowercase(name);
            let Some((id, field)) = split(&name) else { continue };
            let id = id.replace('-', "_");
            if families.len() < FAMILIES_MAX || families.contains_key(&id) {
                families.entry(id).or_default().set(field, value.trim());
            }
        }
        families.into_iter().filter_map(|(id, family)| family.into_limit(id)).collect()
    }
}

fn lowercase(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

/// The fields of a family, as they end a header's name.
const FIELDS: [&str; 11] = [
    "-primary-used-percent",
    "-primary-window-minutes",
    "-primary-reset-at",
    "-secondary-used-percent",
    "-secondary-window-minutes",
    "-secondary-reset-at",
    "-limit-name",
    "-credits-has-credits",
    "-credits-unlimited",
    "-credits-balance",
    "-rate-limit-reached-type",
];

/// What OpenAI's API tells of a bucket, as it starts a header's name; the bucket's name follows.
const BUCKET_FIELDS: [&str; 3] = ["ratelimit-limit-", "ratelimit-remaining-", "ratelimit-reset-"];

/// The limit that a header belongs to, and which of its fields it is.
fn split(name: &str) -> Option<(&str, &'static str)> {
    let rest = name.strip_prefix("x-")?;
    let bucket = BUCKET_FIELDS.iter().find_map(|field| Some((rest.strip_prefix(field)?, *field)));
    if let Some((what, field)) = bucket {
        return (!what.is_empty()).then_some((what, field));
    }
    let (family, field) = FIELDS.iter().find_map(|field| Some((rest.strip_suffix(field)?, *field)))?;
    (!family.is_empty()).then_some((family, field))
}

impl<'a> Family<'a> {
    fn set(&mut self, field: &str, value: &'a str) {
        let place = match field {
            "-primary-used-percent" => &mut self.primary.used_percent,
            "-primary-window-minutes" => &mut self.primary.window_minutes,
            "-primary-reset-at" => &mut self.primary.reset_at,
            "-secondary-used-percent" => &mut self.secondary.used_percent,
            "-secondary-window-minutes" => &mut self.secondary.window_minutes,
            "-secondary-reset-at" => &mut self.secondary.reset_at,
            "-limit-name" => &mut self.limit_name,
            "-credits-has-credits" => &mut self.has_credits,
            "-credits-unlimited" => &mut self.unlimited,
            "-credits-balance" => &mut self.balance,
            "-rate-limit-reached-type" => &mut self.reached_type,
            "ratelimit-limit-" => return self.bucket.limit = value.parse().ok(),
            "ratelimit-remaining-" => return self.bucket.remaining = value.parse().ok(),
            "ratelimit-reset-" => return self.bucket.reset_after = retry_after::duration(value),
            _ => return,
        };
        *place = Some(value);
    }

    /// None when nothing but a name is left, which tells no limit.
    fn into_limit(self, limit_id: String) -> Option<RateLimit> {
        let limit = RateLimit {
            limit_id,
            limit_name: self.limit_name.filter(|name| !name.is_empty()).map(str::to_owned),
            primary: self.primary.window().or(self.bucket.window()),
            secondary: self.secondary.window(),
            credits: self.has_credits.and_then(flag).zip(self.unlimited.and_then(flag)).map(
                |(has_credits, unlimited)| Credits {
                    has_credits,
                    unlimited,
                    balance: self.balance.filter(|balance| !balance.is_empty()).map(str::to_owned),
                },
            ),
            reached_type: self.reached_type.filter(|kind| !kind.is_empty()).map(str::to_owned),
            bucket: (self.bucket != Bucket::default()).then_some(self.bucket),
        };
        let told = limit.primary.is_some()
            || limit.secondary.is_some()
            || limit.credits.is_some()
            || limit.reached_type.is_some()
            || limit.bucket.is_some();
        told.then_some(limit)
    }
}

impl Bucket {
    /// The share that is used; none when a number is missing or makes no sense.
    fn window(&self) -> Option<Window> {
        let limit = u32::try_from(self.limit?).ok().filter(|limit| *limit > 0)?;
        let used = limit.checked_sub(u32::try_from(self.remaining?).ok()?)?;
        let used_percent = 100.0 * f64::from(used) / f64::from(limit);
        // A header without a clock tells no point in time; see `reset_after`.
        Some(Window { used_percent, window_minutes: None, resets_at: None })
    }
}

impl Parts<'_> {
    fn window(&self) -> Option<Window> {
        let used_percent: f64 = self.used_percent?.parse().ok()?;
        used_percent.is_finite().then(|| Window {
            used_percent,
            window_minutes: self.window_minutes.and_then(|value| value.parse().ok()),
            resets_at: self.reset_at.and_then(|value| value.parse().ok()),
        })
    }
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
