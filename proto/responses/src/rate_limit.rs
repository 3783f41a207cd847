//! Reads rate-limit snapshots from response headers.
//!
//! A family of headers, `x-<family>-primary-used-percent` and its siblings, describes one limit; `codex` is
//! the account's own. Values that cannot be read count as missing.

use std::collections::BTreeMap;

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
            let name = name.to_ascii_lowercase();
            let Some((id, field)) = split(&name) else { continue };
            let id = id.replace('-', "_");
            if families.len() < FAMILIES_MAX || families.contains_key(&id) {
                families.entry(id).or_default().set(field, value.trim());
            }
        }
        families.into_iter().filter_map(|(id, family)| family.into_limit(id)).collect()
    }
}

/// The fields of a family, as they end a header's name.
const FIELDS: [&str; 10] = [
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
];

fn split(name: &str) -> Option<(&str, &'static str)> {
    let rest = name.strip_prefix("x-")?;
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
            _ => &mut self.balance,
        };
        *place = Some(value);
    }

    /// None when nothing but a name is left, which tells no limit.
    fn into_limit(self, limit_id: String) -> Option<RateLimit> {
        let limit = RateLimit {
            limit_id,
            limit_name: self.limit_name.filter(|name| !name.is_empty()).map(str::to_owned),
            primary: self.primary.window(),
            secondary: self.secondary.window(),
            credits: self.has_credits.and_then(flag).zip(self.unlimited.and_then(flag)).map(
                |(has_credits, unlimited)| Credits {
                    has_credits,
                    unlimited,
                    balance: self.balance.filter(|balance| !balance.is_empty()).map(str::to_owned),
                },
            ),
        };
        (limit.primary.is_some() || limit.secondary.is_some() || limit.credits.is_some()).then_some(limit)
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
