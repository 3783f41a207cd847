//! Every form of a delay.

use proptest::prelude::*;

use super::*;

/// 1994-11-06 08:49:37 UTC, the moment that RFC 9110 writes in all three forms.
const NOW: Duration = Duration::from_secs(784_111_777);

fn read(headers: &[(&str, &str)]) -> Option<Duration> {
    let now = SystemTime::UNIX_EPOCH + NOW;
    from_headers(|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value), now)
}

fn ms(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds))
}

#[test]
fn retry_after_in_seconds_and_dates() {
    for (value, expected) in [
        ("0", ms(0)),
        ("7", ms(7_000)),
        (" 7 ", ms(7_000)),
        ("1.5", ms(1_500)),
        ("86400", ms(86_400_000)),
        ("86401", None),
        ("-1", None),
        ("1e3", None),
        ("inf", None),
        ("NaN", None),
        ("", None),
        (".", None),
        ("1.2.3", None),
        ("99999999999999999999999999999", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:50:37 GMT", ms(60_000)),
        ("Sunday, 06-Nov-94 08:50:37 GMT", ms(60_000)),
        ("Sun Nov  6 08:50:37 1994", ms(60_000)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", ms(0)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", ms(0)),
        ("Tue, 08 Nov 1994 08:49:37 GMT", None),
    ] {
        assert_eq!(read(&[("retry-after", value)]), expected, "{value}");
    }
}

#[test]
fn the_more_exact_header_counts() {
    assert_eq!(read(&[("retry-after", "2"), ("retry-after-ms", "1500")]), ms(1_500));
    assert_eq!(read(&[("retry-after", "2"), ("retry-after-ms", "-5")]), ms(2_000));
    assert_eq!(read(&[("retry-after-ms", "0.5")]), Some(Duration::from_micros(500)));
}

#[test]
fn a_used_up_limit_tells_its_refill() {
    let requests = ("x-ratelimit-reset-requests", "1m30s");
    let tokens = ("x-ratelimit-reset-tokens", "6ms");
    let left = |requests: &'static str, tokens: &'static str| {
        [("x-ratelimit-remaining-requests", requests), ("x-ratelimit-remaining-tokens", tokens)]
    };
    let read_with = |left: [(&'static str, &'static str); 2]| read(&[requests, tokens, left[0], left[1]]);
    assert_eq!(read_with(left("0", "12")), ms(90_000));
    assert_eq!(read_with(left("3", "0")), ms(6));
    assert_eq!(read_with(left("0", "0")), ms(90_000));
    assert_eq!(read_with(left("1", "1")), None);
    assert_eq!(read(&[requests, tokens]), None);
    assert_eq!(read(&[requests, ("x-ratelimit-remaining-requests", "0"), ("retry-after", "3")]), ms(3_000));
}

#[test]
fn durations_as_go_writes_them() {
    for (text, expected) in [
        ("1h2m3.5s", ms(3_723_500)),
        ("6m0s", ms(360_000)),
        ("150ms", ms(150)),
        ("20\u{b5}s", Some(Duration::from_micros(20))),
        ("5ns", Some(Duration::from_nanos(5))),
        ("2.5", ms(2_500)),
        ("-1s", None),
        ("1x", None),
        ("s", None),
        ("1s and more", None),
        ("", None),
    ] {
        assert_eq!(duration(text), expected, "{text}");
    }
}

#[test]
fn delays_in_messages() {
    for (message, expected) in [
        ("Rate limit reached. Please try again in 1.5s. Visit the docs.", ms(1_500)),
        ("Please try again in 20ms.", ms(20)),
        ("TRY AGAIN IN 2 minutes", ms(120_000)),
        ("try again in 1 hour 5 minutes.", ms(3_900_000)),
        ("try again in 1m30s or later", ms(90_000)),
        ("try again in a moment; retry after 5 seconds", ms(5_000)),
        ("try again in 1.898s", ms(1_898)),
        ("try again in 5", None),
        ("try again in 3 days", None),
        ("try again in 30h", None),
        ("try again in", None),
        ("slow down for 5s", None),
    ] {
        assert_eq!(from_text(message), expected, "{message}");
    }
}

#[test]
fn a_header_never_says_less_than_the_delay() {
    for (delay, expected) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(1_500), 2),
        (Duration::from_secs(3), 3),
        (Duration::MAX, u64::MAX),
    ] {
        assert_eq!(header_value(delay), expected);
    }
}

proptest! {
    #[test]
    fn any_text_is_taken(text in ".{0,60}", number in "[0-9.]{0,40}", unit in "( |ms|s|m|h|µs|é)*") {
        let composed = format!("{number}{unit}");
        for text in [&text, &composed] {
            let all = from_headers(|_| Some(text), SystemTime::UNIX_EPOCH);
            prop_assert!(all.is_none_or(|delay| delay <= DELAY_MAX));
            let told = from_text(&format!("try again in {text}"));
            prop_assert!(told.is_none_or(|delay| delay <= DELAY_MAX));
            let _ = duration(text);
        }
    }

    #[test]
    fn whole_seconds_are_read_as_written(seconds in 0_u64..=86_400) {
        let text = seconds.to_string();
        prop_assert_eq!(read(&[("retry-after", text.as_str())]), Some(Duration::from_secs(seconds)));
        let message = format!("try again in {seconds}s");
        prop_assert_eq!(from_text(&message), Some(Duration::from_secs(seconds)));
    }
}
