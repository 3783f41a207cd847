//! The OpenAI SDKs for Python and for Node at a gateway that asks for a key: what programs catch, what they repeat, and
//! what happens to a call that they give up.

use std::path::PathBuf;

use anyhow::Context as _;
use gateway_testkit::{Gate, Reply, Turn};
use serde_json::{Value, json};
use service_e2e::door::{DENYING_RULE, Door};
use service_e2e::http::{self, Raw};
use service_e2e::stack::{self, CATALOG_MODEL, MODEL, UPSTREAM_KEY};
use service_e2e::{clients, home::Home, provision};

/// The gateway asks to wait for a whole second.
const ASKED_SECONDS: f64 = 1.0;

/// What the provider refuses, and what the SDKs make of it.
const THEIRS: [(u16, &str); 10] = [
    (400, "BadRequestError"),
    (401, "AuthenticationError"),
    (403, "PermissionDeniedError"),
    (404, "NotFoundError"),
    (409, "ConflictError"),
    (422, "UnprocessableEntityError"),
    (429, "RateLimitError"),
    (500, "InternalServerError"),
    (502, "InternalServerError"),
    (503, "InternalServerError"),
];

#[derive(Clone, Copy)]
enum Language {
    Python,
    Node,
}

struct Sdk {
    language: Language,
    /// The interpreter of Python, the packages of Node.
    at: PathBuf,
    home: Home,
}

impl Sdk {
    async fn of(test: &str, language: Language) -> anyhow::Result<Option<Self>> {
        let at = match language {
            Language::Python => provision::python(test).await?,
            Language::Node => provision::node(test).await?,
        };
        let Some(at) = at else { return Ok(None) };
        Ok(Some(Self { language, at, home: Home::new()? }))
    }

    /// What the SDK made of each act, with this key where an act has none of its own.
    async fn told(&self, key: &str, acts: &[Value]) -> anyhow::Result<Vec<Value>> {
        let acts = serde_json::to_string(acts)?;
        let (at, home, arguments) = (&self.at, &self.home, [acts.as_str()]);
        let script = match self.language {
            Language::Python => clients::python(at, home, key, "openai_acts.py", &arguments),
            Language::Node => clients::node(at, home, key, "openai_acts.mjs", &arguments),
        };
        let output = clients::run(script).await?.success()?;
        serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
    }
}

fn document(id: &str) -> Reply {
    Reply::json(200, &Turn::new(id).model(MODEL).text(&["High ", "water."]).json(stack::usage()))
}

fn refusal(status: u16) -> Reply {
    let body = json!({"error": {"message": "no", "type": "t", "code": "told", "param": null}});
    // Only so that nobody waits for the SDKs' own patience.
    Reply::json(status, &body).header("retry-after-ms", "10")
}

fn error_of(told: &Value) -> (&Value, &Value, &Value) {
    (&told["error"], &told["status"], &told["code"])
}

/// What the gateway refuses: how a call differs from a good one, and what the SDK makes of it.
fn refused() -> [(Value, &'static str, u16, &'static str); 5] {
    [
        (json!({"key": "tg_0123456789ab_0000", "repeats": 2}), "AuthenticationError", 401, "unauthenticated"),
        (json!({"key": "sk-of-somebody", "do": "stream"}), "AuthenticationError", 401, "unauthenticated"),
        (json!({"key": "sk-of-somebody", "do": "models"}), "AuthenticationError", 401, "unauthenticated"),
        (json!({"model": CATALOG_MODEL, "repeats": 2}), "BadRequestError", 400, "policy_denied"),
        (json!({"model": "nobody-s", "do": "stream"}), "BadRequestError", 400, "model_not_found"),
    ]
}

/// What every program meets: answers, streams, lists, refusals of the gateway's and of the provider's, repeats.
async fn meets_the_door(test: &str, language: Language) -> anyhow::Result<()> {
    let Some(sdk) = Sdk::of(test, language).await? else { return Ok(()) };
    let door = Door::open("").await?;
    let (base, upstream) = (door.base(), &door.upstream);
    let call = |more: Value| {
        let mut act = json!({"base": base, "do": "create", "model": MODEL});
        act.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        act
    };
    let refused = refused();
    let mut acts = vec![call(json!({})), call(json!({"do": "stream"})), call(json!({"do": "models"}))];
    acts.extend(refused.iter().map(|(more, ..)| call(more.clone())));
    acts.extend(THEIRS.iter().map(|_| call(json!({}))));
    let broken = acts.len();
    acts.extend([
        call(json!({"do": "stream"})),
        call(json!({"repeats": 2})),
        call(json!({"repeats": 2})),
        call(json!({"repeats": 1})),
    ]);

    upstream.push(document("resp_one"));
    upstream.push(stack::says("resp_two", &["Low ", "water."]));
    THEIRS.iter().for_each(|(status, _)| upstream.push(refusal(*status)));
    let cut = stack::says("resp_cut", &["One ", "two."]);
    let half = cut.body().len() / 2;
    upstream.push(cut.reset_after(half));
    for reply in [refusal(500), refusal(429), document("resp_third")] {
        upstream.push(reply);
    }
    (0..3).for_each(|_| upstream.push(refusal(429)));
    (0..2).for_each(|_| upstream.push(refusal(502)));
    let told = sdk.told(&door.key, &acts).await?;

    assert_eq!((&told[0]["id"], &told[0]["text"]), (&json!("resp_one"), &json!("High water.")), "{told:?}");
    assert_eq!(told[0]["output"], 70);
    let streamed = (&told[1]["first"], &told[1]["last"], &told[1]["text"]);
    let expected = ["response.created", "response.completed", "Low water."].map(|text| json!(text));
    assert_eq!(streamed, (&expected[0], &expected[1], &expected[2]));
    assert_eq!(told[2]["models"], json!([MODEL]), "a list without what a rule denies");
    for ((more, kind, status, code), told) in refused.iter().zip(&told[3..]) {
        assert_eq!(error_of(told), (&json!(kind), &json!(status), &json!(code)), "{more}: {told}");
    }
    assert!(told[6]["message"].as_str().unwrap().contains(DENYING_RULE), "{}", told[6]);
    for ((status, kind), told) in THEIRS.iter().zip(&told[3 + refused.len()..]) {
        assert_eq!(error_of(told), (&json!(kind), &json!(status), &json!("told")), "{told}");
    }
    assert_eq!(told[broken]["last"], "response.failed", "{told:?}");
    assert_eq!(told[broken + 1]["id"], "resp_third", "{told:?}");
    assert_eq!(told[broken + 2]["error"], "RateLimitError");
    assert_eq!(told[broken + 3]["error"], "InternalServerError");
    // Two that were answered, what the provider refused once, the broken one, and what the SDK repeated; no refusal of
    // the gateway's own, and no repeat of its own.
    assert_eq!(upstream.requests().len(), 2 + THEIRS.len() + 1 + 3 + 3 + 2);
    assert_eq!(upstream.unplayed(), 0);
    for request in upstream.requests() {
        assert_eq!(request.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    }
    Ok(())
}

/// A call of `key` that runs until its connection is dropped.
async fn hold(door: &Door, key: &str) -> anyhow::Result<Raw> {
    let reply = stack::says("resp_held", &["One ", "two."]);
    let half = reply.body().len() / 2;
    door.upstream.push(reply.stall_after(half, &Gate::closed()));
    let body = format!(r#"{{"model":"{MODEL}","stream":true,"input":"hold"}}"#);
    let headers = format!("authorization: Bearer {key}\r\n");
    let mut raw = Raw::connect(door.gateway.at).await?;
    raw.send(&http::post(door.gateway.at, "/v1/responses", &headers, body.as_bytes())).await?;
    raw.read_until("response.created").await?;
    Ok(raw)
}

/// What has no room is refused in a way that the SDK repeats, after the wait that the gateway asks for; what the SDK gives
/// up is given up at the provider too.
async fn waits_and_gives_up(test: &str, language: Language) -> anyhow::Result<()> {
    let Some(sdk) = Sdk::of(test, language).await? else { return Ok(()) };
    let narrow = Door::open("").await?;
    let small = Door::open("\n[limits]\nconcurrent_calls_max = 1\n").await?;
    let slow = Door::open("").await?;
    let _held = (hold(&narrow, &narrow.narrow_key).await?, hold(&small, &small.key).await?);
    let never = Gate::closed();
    let stalled = || stack::says("resp_slow", &["One ", "two ", "three."]);
    let late = stalled().body().len() - 10;
    slow.upstream.push(document("resp_never").delay_headers(&never));
    slow.upstream.push(document("resp_never").delay_headers(&never));
    slow.upstream.push(stalled().stall_after(late, &never));
    slow.upstream.push(stalled().stall_after(late, &never));
    let act = |door: &Door, key: &str, more: Value| {
        let mut act = json!({"base": door.base(), "key": key, "do": "create", "model": MODEL});
        act.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        act
    };
    let acts = [
        act(&narrow, &narrow.narrow_key, json!({"repeats": 1})),
        act(&small, &small.key, json!({"repeats": 1})),
        act(&slow, &slow.key, json!({"seconds_max": 0.5, "repeats": 1})),
        act(&slow, &slow.key, json!({"seconds_max": 1, "do": "stream"})),
        act(&slow, &slow.key, json!({"leave": true, "do": "stream"})),
    ];
    let told = sdk.told("no key", &acts).await?;

    let full = |kind: &str, status: u16, code: &str| (json!(kind), json!(status), json!(code));
    let expected =
        [full("RateLimitError", 429, "too_many_calls"), full("InternalServerError", 503, "gateway_busy")];
    for (told, (kind, status, code)) in told.iter().zip(&expected) {
        assert_eq!(error_of(told), (kind, status, code), "{told}");
        assert!(told["seconds"].as_f64().unwrap() >= ASKED_SECONDS, "{told}");
    }
    assert_eq!((narrow.upstream.requests().len(), small.upstream.requests().len()), (1, 1));
    let timed_out = match language {
        Language::Python => "APITimeoutError",
        Language::Node => "APIConnectionTimeoutError",
    };
    assert_eq!(told[2]["error"], timed_out, "{told:?}");
    assert_ne!(told[3]["last"], "response.completed", "{told:?}");
    assert!(told[3]["seconds"].as_f64().unwrap() < 20.0, "{told:?}");
    assert_eq!(told[4]["text"], "One ", "{told:?}");
    slow.upstream.wait_cancelled(4).await?;
    assert_eq!(slow.upstream.requests().len(), 4);
    Ok(())
}

#[tokio::test]
async fn the_python_sdk_meets_the_door() -> anyhow::Result<()> {
    meets_the_door("the_python_sdk_meets_the_door", Language::Python).await
}

#[tokio::test]
async fn the_node_sdk_meets_the_door() -> anyhow::Result<()> {
    meets_the_door("the_node_sdk_meets_the_door", Language::Node).await
}

#[tokio::test]
async fn the_python_sdk_waits_and_gives_up() -> anyhow::Result<()> {
    waits_and_gives_up("the_python_sdk_waits_and_gives_up", Language::Python).await
}

#[tokio::test]
async fn the_node_sdk_waits_and_gives_up() -> anyhow::Result<()> {
    waits_and_gives_up("the_node_sdk_waits_and_gives_up", Language::Node).await
}
