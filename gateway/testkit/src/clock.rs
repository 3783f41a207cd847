//! A clock that a test sets, and the forms in which AWS writes its time.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_SECONDS: i64 = 86_400;
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What a fake service takes for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The machine's time plus so many seconds.
    Shifted(i64),
    /// Always this second since the epoch.
    Fixed(i64),
}

impl Clock {
    /// Seconds since the epoch.
    pub(crate) fn now(self) -> i64 {
        match self {
            Clock::Fixed(now) => now,
            Clock::Shifted(by) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                i64::try_from(now).unwrap_or(i64::MAX).saturating_add(by)
            }
        }
    }
}

/// A second, taken apart: year, month, day, hour, minute, second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil(i64, i64, i64, i64, i64, i64);

impl Civil {
    /// Works with years that begin in March, so that a leap day is a year's last.
    fn of(unix: i64) -> Civil {
        let (days, second) = (unix.div_euclid(DAY_SECONDS) + 719_468, unix.rem_euclid(DAY_SECONDS));
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        Civil(year, month, day, second / 3_600, second / 60 % 60, second % 60)
    }

    fn unix(self) -> i64 {
        let Civil(year, month, day, hour, minute, second) = self;
        let year = year - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        (era * 146_097 + day_of_era - 719_468) * DAY_SECONDS + hour * 3_600 + minute * 60 + second
    }
}

/// As in `20261120T095944Z`.
pub(crate) fn basic(unix: i64) -> String {
    let Civil(year, month, day, hour, minute, second) = Civil::of(unix);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// As in `2026-11-20T09:59:44Z`.
pub(crate) fn extended(unix: i64) -> String {
    let Civil(year, month, day, hour, minute, second) = Civil::of(unix);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// As in `Fri, 20 Nov 2026 09:59:44 GMT`.
pub(crate) fn http(unix: i64) -> String {
    let Civil(year, month, day, hour, minute, second) = Civil::of(unix);
    let name = |names: &[&'static str], index: i64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or_default()
    };
    let (weekday, month) =
        (name(&DAYS, unix.div_euclid(DAY_SECONDS).rem_euclid(7)), name(&MONTHS, month - 1));
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads the basic form, and nothing else.
pub(crate) fn parse_basic(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let unix =
        Civil(digits(0, 4)?, digits(4, 6)?, digits(6, 8)?, digits(9, 11)?, digits(11, 13)?, digits(13, 15)?)
            .unix();
    // A text that names a moment in another way, the 31st of June for example, does not come back the same.
    (basic(unix) == text).then_some(unix)
}

#[cfg(test)]
mod tests {
    use super::{Clock, basic, extended, http, parse_basic};

    #[test]
    fn moments_are_written_and_read() {
        for (unix, text, date) in [
            (0, "19700101T000000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "20000229T000000Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_440_938_160, "20150830T123600Z", "Sun, 30 Aug 2015 12:36:00 GMT"),
            (1_795_168_784, "20261120T095944Z", "Fri, 20 Nov 2026 09:59:44 GMT"),
            (4_107_542_399, "21000228T235959Z", "Sun, 28 Feb 2100 23:59:59 GMT"),
        ] {
            assert_eq!((basic(unix).as_str(), http(unix).as_str()), (text, date));
            assert_eq!(parse_basic(text), Some(unix));
        }
        assert_eq!(extended(1_795_168_784), "2026-11-20T09:59:44Z");
        for text in
            ["", "20260631T000000Z", "20261120T095944", "2026-11-20T09:59:44Z", "20261120t095944Z", "é"]
        {
            assert_eq!(parse_basic(text), None, "{text}");
        }
    }

    #[test]
    fn clocks_are_shifted_or_stand_still() {
        assert_eq!(Clock::Fixed(7).now(), 7);
        let ahead = Clock::Shifted(1_000).now() - Clock::Shifted(0).now();
        assert!((995..=1_000).contains(&ahead), "{ahead}");
    }
}
