//! Issuers on real sockets: discovery, rotation, failures of every kind, and how often they are asked.

use std::time::Duration;

use futures_util::future::join_all;
use gateway_testkit::{Gate, Reply, TlsOptions, Upstream};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_callers::{Caller, Callers, Refusal};
use tokio::time::{advance, pause, resume};

use crate::{
    signer::{Signer, claims_with, jwks},
    support::{in_time, named, show, try_build, until, watch, who},
};

const KEYS: &str = "/keys";
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const ROW: &str = "[[callers]]\nissuer = \"corp\"\ntenant_claim = \"tenant\"\n";

struct Issuer {
    upstream: Upstream,
}

impl Issuer {
    async fn start() -> Self {
        Self { upstream: Upstream::start().await.unwrap() }
    }

    fn publish(&self, signers: &[&Signer]) {
        self.answer(Reply::json(200, &jwks(signers)));
    }

    fn answer(&self, reply: Reply) {
        self.upstream.route(Method::GET, KEYS, reply);
    }

    fn asked(&self, path: &str) -> usize {
        self.upstream.all_requests().iter().filter(|request| request.path == path).count()
    }

    fn config(&self, keys: &str) -> String {
        format!(
            "[[authentication.issuers]]\nname = \"corp\"\nissuer = \"{}\"\naudience = \"tidegate\"\n{keys}\n{ROW}",
            self.upstream.url("")
        )
    }

    fn by_url(&self) -> String {
        self.config(&format!("jwks_url = \"{}\"", self.upstream.url(KEYS)))
    }

    /// A token that was never shown before.
    fn token(&self, signer: &Signer) -> String {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        signer.token(&claims_with(json!({"iss": self.upstream.url(""), "jti": number})))
    }
}

fn callers(text: &str) -> Callers {
    try_build(None, text, std::path::Path::new(".")).unwrap()
}

/// In how many seconds an issuer is asked again for the key of a refused token.
fn unpublished(shown: Result<Caller, Refusal>) -> u64 {
    match shown {
        Err(Refusal::UnpublishedSigningKey { seconds }) => seconds,
        shown => unreachable!("{shown:?}"),
    }
}

/// Lets time pass at once. Sockets are at rest meanwhile.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn discovery_finds_the_keys_and_the_first_callers_wait_for_them() {
    in_time(async {
        let issuer = Issuer::start().await;
        let signer = Signer::rsa("r");
        issuer.publish(&[&signer]);
        let document = json!({"issuer": issuer.upstream.url(""), "jwks_uri": issuer.upstream.url(KEYS)});
        issuer.upstream.route(Method::GET, WELL_KNOWN, Reply::json(200, &document));
        let callers = callers(&issuer.config("discovery = true"));
        let _watch = watch(&callers);
        let tokens: Vec<_> = (0..20).map(|_| issuer.token(&signer)).collect();
        for caller in join_all(tokens.iter().map(|token| show(&callers, token))).await {
            assert_eq!(who(caller), named("acme", "ada"));
        }
        assert_eq!((issuer.asked(WELL_KNOWN), issuer.asked(KEYS)), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_discovery_document_of_somebody_else_is_not_believed() {
    in_time(async {
        let issuer = Issuer::start().await;
        let signer = Signer::p256("p");
        issuer.publish(&[&signer]);
        for (document, complaint) in [
            (json!({"issuer": "https://other.example", "jwks_uri": issuer.upstream.url(KEYS)}), "issuer"),
            (json!({"issuer": issuer.upstream.url(""), "jwks_uri": "http://other.example/keys"}), "jwks_uri"),
            (json!({"issuer": issuer.upstream.url("")}), "discovery document"),
        ] {
            issuer.upstream.route(Method::GET, WELL_KNOWN, Reply::json(200, &document));
            let callers = callers(&issuer.config("discovery = true"));
            let _watch = watch(&callers);
            let refused = show(&callers, &issuer.token(&signer)).await.unwrap_err();
            assert_eq!((refused.is_retryable(), refused), (true, Refusal::KeysUnavailable));
            assert!(callers.troubles()[0].message.contains(complaint), "{:?}", callers.troubles());
        }
        assert_eq!(issuer.asked(KEYS), 0);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_most_once_a_minute() {
    in_time(async {
        let issuer = Issuer::start().await;
        let (first, second, third) = (Signer::p256("1"), Signer::p256("2"), Signer::p256("3"));
        issuer.publish(&[&first]);
        let callers = callers(&issuer.by_url());
        let _watch = watch(&callers);
        let old = issuer.token(&first);
        assert!(show(&callers, &old).await.is_ok());
        assert_eq!(issuer.asked(KEYS), 1);
        // The first rotation is found at once, and what the old key has signed is over.
        issuer.publish(&[&second]);
        assert!(show(&callers, &issuer.token(&second)).await.is_ok());
        assert_eq!(unpublished(show(&callers, &old).await), 60);
        assert_eq!(issuer.asked(KEYS), 2);
        // The next one has to wait for the rest of the minute.
        issuer.publish(&[&second, &third]);
        // A slow machine adds time of its own.
        pass(Duration::from_secs(30)).await;
        let seconds = unpublished(show(&callers, &issuer.token(&third)).await);
        assert!((20..=30).contains(&seconds), "{seconds}");
        assert_eq!(issuer.asked(KEYS), 2);
        pass(Duration::from_secs(seconds)).await;
        assert!(show(&callers, &issuer.token(&third)).await.is_ok());
        assert_eq!(issuer.asked(KEYS), 3);
    })
    .await;
}

#[tokio::test]
async fn a_thousand_callers_with_unknown_keys_cost_one_fetch() {
    in_time(async {
        let issuer = Issuer::start().await;
        let signer = Signer::p256("p");
        issuer.publish(&[&signer]);
        let callers = callers(&issuer.by_url());
        let _watch = watch(&callers);
        assert!(show(&callers, &issuer.token(&signer)).await.is_ok());
        let before = issuer.asked(KEYS);
        let payload = claims_with(json!({"iss": issuer.upstream.url("")})).to_string();
        let tokens: Vec<_> = (0..1000)
            .map(|n| signer.sign(&json!({"alg": "ES256", "kid": format!("k{n}")}).to_string(), &payload))
            .collect();
        for _ in 0..2 {
            for refused in join_all(tokens.iter().map(|token| show(&callers, token))).await {
                assert!(unpublished(refused) <= 60);
            }
        }
        assert_eq!(issuer.asked(KEYS), before + 1);
    })
    .await;
}

#[tokio::test]
async fn a_fetch_does_not_end_with_the_caller_that_wanted_it() {
    in_time(async {
        let issuer = Issuer::start().await;
        let (first, second) = (Signer::p256("1"), Signer::p256("2"));
        issuer.publish(&[&first]);
        let callers = callers(&issuer.by_url());
        let _watch = watch(&callers);
        assert!(show(&callers, &issuer.token(&first)).await.is_ok());
        let gate = Gate::closed();
        issuer.answer(Reply::json(200, &jwks(&[&second])).delay_headers(&gate));
        let token = issuer.token(&second);
        {
            let impatient = show(&callers, &token);
            tokio::select! {
                _ = impatient => unreachable!("nothing was fetched yet"),
                () = until(|| issuer.asked(KEYS) == 2) => {}
            }
        }
        gate.open();
        assert_eq!(who(show(&callers, &token).await), named("acme", "ada"));
        assert_eq!(issuer.asked(KEYS), 2);
    })
    .await;
}

#[tokio::test]
async fn keys_stay_for_a_day_while_fetching_fails() {
    in_time(async {
        let issuer = Issuer::start().await;
        let signer = Signer::ed25519("e");
        issuer.publish(&[&signer]);
        let callers = callers(&issuer.by_url());
        let _watch = watch(&callers);
        let seen = issuer.token(&signer);
        assert!(show(&callers, &seen).await.is_ok());
        issuer.answer(Reply::bytes(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "no"));
        pass(Duration::from_secs(5 * 60)).await;
        until(|| !callers.troubles().is_empty()).await;
        assert!(issuer.asked(KEYS) >= 2);
        assert!(show(&callers, &issuer.token(&signer)).await.is_ok());
        // An unknown key may be a new one, which nobody can tell now.
        let refused = show(&callers, &issuer.token(&Signer::ed25519("new"))).await;
        assert_eq!(refused.map(drop), Err(Refusal::KeysUnavailable));
        pass(Duration::from_secs(24 * 60 * 60)).await;
        for token in [&seen, &issuer.token(&signer)] {
            assert_eq!(show(&callers, token).await.map(drop), Err(Refusal::KeysUnavailable));
        }
        issuer.publish(&[&signer]);
        pass(Duration::from_secs(61)).await;
        until(|| callers.troubles().is_empty()).await;
        assert!(show(&callers, &seen).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn whatever_an_issuer_answers_callers_get_an_answer() {
    in_time(async {
        let signer = Signer::p256("p");
        let hold = Gate::closed();
        let keys = jwks(&[&signer]);
        let huge: Value = json!({"keys": [signer.jwk()], "padding": "x".repeat(300 << 10)});
        let many: Vec<Value> = std::iter::repeat_n(signer.jwk(), 129).collect();
        let cases = [
            (Reply::bytes(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "no"), "status 500"),
            (Reply::json(200, &keys).status(StatusCode::FOUND).header("location", KEYS), "status 302"),
            (Reply::json(200, &huge), "over 262144 bytes"),
            (Reply::json(200, &json!({"keys": many})), "over 128 keys"),
            (Reply::json(200, &json!({"keys": []})), "no key"),
            (Reply::json(200, &json!({"keys": [Signer::secret().jwk()]})), "no key"),
            (Reply::bytes(StatusCode::OK, "text/html", "<html>"), "not a JWKS document"),
            (Reply::reset(), "cannot be reached"),
            (Reply::json(200, &keys).reset_after(20), "cannot be reached"),
            (Reply::json(200, &keys).delay_headers(&hold), "no answer within 4 seconds"),
            (Reply::json(200, &keys).stall_after(20, &hold), "no answer within 4 seconds"),
        ];
        for (reply, complaint) in cases {
            let issuer = Issuer::start().await;
            issuer.answer(reply);
            let callers = callers(&issuer.by_url());
            let _watch = watch(&callers);
            let token = issuer.token(&signer);
            let asked = async {
                until(|| issuer.asked(KEYS) == 1).await;
                if complaint.starts_with("no answer") {
                    pass(Duration::from_secs(4)).await;
                }
            };
            let (refused, ()) = tokio::join!(show(&callers, &token), asked);
            assert_eq!(refused.map(drop), Err(Refusal::KeysUnavailable), "{complaint}");
            // On a slow machine the caller may be told before the fetch is given up.
            until(|| !callers.troubles().is_empty()).await;
            let troubles = callers.troubles();
            assert!(
                troubles.len() == 1 && troubles[0].message.contains(complaint),
                "{complaint}: {troubles:?}"
            );
            // It recovers by itself.
            issuer.publish(&[&signer]);
            pass(Duration::from_secs(2)).await;
            until(|| callers.troubles().is_empty()).await;
            assert!(show(&callers, &token).await.is_ok(), "{complaint}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_generation_keeps_what_was_fetched() {
    in_time(async {
        let issuer = Issuer::start().await;
        let signer = Signer::p256("p");
        issuer.publish(&[&signer]);
        let before = callers(&issuer.by_url());
        let old_watch = watch(&before);
        assert!(show(&before, &issuer.token(&signer)).await.is_ok());
        let text = issuer.by_url().replace("tenant_claim = \"tenant\"", "tenant = \"fixed\"");
        let after = try_build(Some(&before), &text, std::path::Path::new(".")).unwrap();
        let _watch = watch(&after);
        drop(old_watch);
        assert_eq!(who(show(&after, &issuer.token(&signer)).await), named("fixed", "ada"));
        assert_eq!(issuer.asked(KEYS), 1);
        // The new generation's task goes on where the old one stopped.
        let next = Signer::p256("next");
        issuer.publish(&[&next]);
        assert!(show(&after, &issuer.token(&next)).await.is_ok());
        assert_eq!(issuer.asked(KEYS), 2);
    })
    .await;
}

#[tokio::test]
async fn a_private_authority_and_a_token_are_used_for_the_configured_host_alone() {
    in_time(async {
        let directory = tempfile::tempdir().unwrap();
        let upstream = Upstream::start_tls(&TlsOptions::new()).await.unwrap();
        let issuer = Issuer { upstream };
        let elsewhere = Issuer::start().await;
        let signer = Signer::p256("p");
        issuer.publish(&[&signer]);
        elsewhere.publish(&[&signer]);
        let authority = issuer.upstream.tls().unwrap().authority_pem();
        std::fs::write(directory.path().join("ca.pem"), authority).unwrap();
        std::fs::write(directory.path().join("token"), "pod-token\n").unwrap();
        let without = issuer.by_url();
        let with =
            without.replace(ROW, &format!("ca_file = \"ca.pem\"\nbearer_token_file = \"token\"\n{ROW}"));
        let untrusting = try_build(None, &without, directory.path()).unwrap();
        let _watch = watch(&untrusting);
        assert_eq!(show(&untrusting, &issuer.token(&signer)).await.map(drop), Err(Refusal::KeysUnavailable));
        let callers = try_build(None, &with, directory.path()).unwrap();
        let _watch = watch(&callers);
        assert!(show(&callers, &issuer.token(&signer)).await.is_ok());
        let sent: Vec<_> = issuer.upstream.all_requests();
        assert_eq!(sent.last().unwrap().headers["authorization"], "Bearer pod-token");
        // A document that leads to another host gets no token there.
        let document = json!({"issuer": issuer.upstream.url(""), "jwks_uri": elsewhere.upstream.url(KEYS)});
        issuer.upstream.route(Method::GET, WELL_KNOWN, Reply::json(200, &document));
        let found =
            with.replace(&format!("jwks_url = \"{}\"", issuer.upstream.url(KEYS)), "discovery = true");
        let callers = try_build(None, &found, directory.path()).unwrap();
        let _watch = watch(&callers);
        assert!(show(&callers, &issuer.token(&signer)).await.is_ok());
        let elsewhere = elsewhere.upstream.all_requests();
        assert!(elsewhere.len() == 1 && !elsewhere[0].headers.contains_key("authorization"));
    })
    .await;
}
