//! What each form of a rule matches.

use super::*;

/// Rule, host, port, whether the host is reached directly.
const TABLE: &[(&str, &str, u16, bool)] = &[
    ("*", "example.com", 443, true),
    ("*", "10.0.0.1", 80, true),
    ("*", "::1", 80, true),
    ("example.com", "example.com", 443, true),
    ("example.com", "example.com", 80, true),
    ("example.com", "EXAMPLE.com", 443, true),
    ("EXAMPLE.Com", "example.com", 443, true),
    ("example.com", "example.com.", 443, true),
    ("example.com.", "example.com", 443, true),
    ("example.com.", "a.example.com.", 443, true),
    ("example.com", "api.example.com", 443, true),
    ("example.com", "a.b.example.com", 443, true),
    ("example.com", "badexample.com", 443, false),
    ("example.com", "example.com.evil.net", 443, false),
    ("example.com", "example.org", 443, false),
    ("example.com", "com", 443, false),
    ("com", "example.com", 443, true),
    (".example.com", "api.example.com", 443, true),
    (".example.com", "a.b.example.com", 443, true),
    (".example.com", "example.com", 443, false),
    (".example.com", "badexample.com", 443, false),
    ("*.example.com", "api.example.com", 443, true),
    ("*.example.com", "example.com", 443, false),
    (".EXAMPLE.com.", "api.example.com", 443, true),
    ("example.com:8443", "example.com", 8443, true),
    ("example.com:8443", "api.example.com", 8443, true),
    ("example.com:8443", "example.com", 443, false),
    (".example.com:8443", "api.example.com", 8443, true),
    (".example.com:8443", "api.example.com", 443, false),
    ("bücher.example", "xn--bcher-kva.example", 443, true),
    ("localhost", "localhost", 80, true),
    ("localhost", "127.0.0.1", 80, false),
    ("127.0.0.1", "localhost", 80, false),
    ("127.0.0.1", "127.0.0.1", 80, true),
    ("127.0.0.1", "127.0.0.2", 80, false),
    ("127.0.0.0/8", "127.99.0.1", 80, true),
    ("10.1.2.3", "10.1.2.3", 443, true),
    ("10.1.2.3", "10.1.2.30", 443, false),
    ("10.1.2.3:443", "10.1.2.3", 443, true),
    ("10.1.2.3:443", "10.1.2.3", 80, false),
    ("10.1.2.3", "10.1.2.3.example.com", 443, false),
    ("10.0.0.0/8", "10.255.255.255", 443, true),
    ("10.0.0.0/8", "11.0.0.0", 443, false),
    ("10.9.9.9/8", "10.0.0.1", 443, true),
    ("192.168.4.0/22", "192.168.7.255", 443, true),
    ("192.168.4.0/22", "192.168.8.0", 443, false),
    ("10.1.2.3/32", "10.1.2.3", 443, true),
    ("10.1.2.3/32", "10.1.2.4", 443, false),
    ("0.0.0.0/0", "203.0.113.9", 443, true),
    ("0.0.0.0/0", "::1", 443, false),
    ("0.0.0.0/0", "example.com", 443, false),
    ("10.0.0.0/8", "::ffff:10.0.0.1", 443, true),
    ("::ffff:10.0.0.1", "10.0.0.1", 443, true),
    ("::1", "::1", 443, true),
    ("[::1]", "::1", 443, true),
    ("[::1]", "0:0:0:0:0:0:0:1", 443, true),
    ("[::1]:8443", "::1", 8443, true),
    ("[::1]:8443", "::1", 443, false),
    ("::1", "::2", 443, false),
    ("fd00::/8", "fd12:3456::1", 443, true),
    ("fd00::/8", "fe80::1", 443, false),
    ("fd00::/8", "10.0.0.1", 443, false),
    ("2001:db8::1/128", "2001:db8::1", 443, true),
    ("::/0", "2001:db8::1", 443, true),
    (" example.com ", "example.com", 443, true),
    ("xn--bcher-kva.example", "xn--bcher-kva.example", 443, true),
    ("my_host", "my_host", 80, true),
];

#[test]
fn each_rule_matches_what_the_table_says() {
    for (rule, host, port, direct) in TABLE {
        let rules: NoProxy = [Rule::parse(rule).unwrap()].into_iter().collect();
        assert_eq!(rules.matches(host, *port), *direct, "{rule:?} and {host}:{port}");
    }
    assert!(TABLE.len() >= 40, "{}", TABLE.len());
}

#[test]
fn without_rules_nothing_is_reached_directly_and_one_that_matches_is_enough() {
    for host in ["localhost", "127.0.0.1", "::1", "example.com"] {
        assert!(!NoProxy::default().matches(host, 80), "{host}");
    }
    let rules = ["a.example", "10.0.0.0/8", "b.example:1"].map(|rule| Rule::parse(rule).unwrap());
    let rules: NoProxy = rules.into_iter().collect();
    assert!(rules.matches("10.1.1.1", 9) && rules.matches("b.example", 1) && !rules.matches("b.example", 2));
}

#[test]
fn what_could_mean_something_else_is_no_rule() {
    for text in [
        "",
        " ",
        ".",
        "*.",
        "..",
        "a,b",
        "a b",
        "http://a",
        "a:0",
        "a:x",
        "a:99999",
        "a:",
        "*:80",
        "a.*",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "::/129",
        "example.com/8",
        "10.1",
        "10.",
        "192.168.",
        "0x7f.1",
        "2130706433",
        "[::1",
        "::1]",
        "[10.0.0.1.2]",
        "[example.com]",
        "a/b/c",
        "a@b",
        "a\u{0}b",
    ] {
        assert!(Rule::parse(text).is_err(), "{text:?} is {:?}", Rule::parse(text));
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_odd_to_be_read(text in ".{0,40}", host in "[ -~]{0,40}") {
        if let Ok(rule) = Rule::parse(&text) {
            let rules: NoProxy = [rule].into_iter().collect();
            rules.matches(&host, 443);
        }
    }
}
