//! Public corpora as what callers send, over the real HTTP surface: texts that are JSON, that are not, and that only some
//! take for it; and strings that programs choke on, in every field that a caller fills.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use gateway_testkit::{Reply, Turn, Upstream};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use service_e2e::http::ANSWER_TIME_MAX;
use service_e2e::stack::{self, Gateway, MODEL, STOP_TIME_MAX};
use service_e2e::{binaries, clients, home::Home, process, provision};

/// How many programs run at once.
const PROGRAMS: usize = 4;
/// A program that makes a key and is slow because the machine is.
const PROGRAM_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);
/// The headers of a call that hold text of the caller's, and go on to the provider.
const HEADERS: [&str; 5] = ["thread-id", "session-id", "originator", "user-agent", "x-codex-turn-state"];

/// What no text can be: the package that has the suite writes its files as text, and so lost these.
const NO_TEXT: [&[u8]; 17] = [
    b"\"\xff\"",
    b"\"\xfe\"",
    b"\"\x80\"",
    b"\"\xc0\x80\"",
    b"\"\xc0\xaf\"",
    b"\"\xe0\x80\xaf\"",
    b"\"\xf0\x80\x80\x80\"",
    b"\"\xfc\x83\xbf\xbf\xbf\xbf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xed\xbf\xbf\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe2\x82\"",
    b"\"\xf0\x9f\x98\"",
    b"{\"\xff\":1}",
    b"[1\xe5]",
    b"\xef\xbb\xbf\"after a mark\"",
    b"\x00\"\x00a\x00\"",
];

/// What the list of naughty strings leaves out: what ends a line or a text, and what a terminal acts on.
const CONTROLS: [&str; 9] = [
    "\0",
    "one\ntwo",
    "one\r\nx-two: three",
    "\u{7f}",
    "\u{85}",
    "\u{9b}31mred",
    "\u{9d}0;title\u{9c}",
    "\u{2028}",
    "{\"message\":\"call ended\"}\n{\"message\":\"call ended\"}",
];

async fn corpora(test: &str) -> anyhow::Result<Option<Value>> {
    let Some(packages) = provision::node(test).await? else { return Ok(None) };
    let home = Home::new()?;
    let script = clients::node(&packages, &home, "", "corpora.mjs", &[]);
    let output = clients::run(script).await?.success()?;
    Ok(Some(serde_json::from_str(&output.stdout)?))
}

struct House {
    upstream: Upstream,
    gateway: Gateway,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl House {
    /// A gateway whose provider takes any model.
    async fn new() -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        let document = Turn::new("resp_fine").model(MODEL).text(&["Fine."]).json(stack::usage());
        upstream.set_default(Reply::json(200, &document));
        let config = format!(
            "model_provider = \"open\"\nmodel = \"{MODEL}\"\n\n[model_providers.open]\nbase_url = \"{}\"\n\
             env_key = \"E2E_UPSTREAM_KEY\"\nrequest_max_retries = 0\n\n[log]\nformat = \"json\"\n",
            upstream.base_url()
        );
        let gateway = Gateway::start(&config).await?;
        Ok(Self { upstream, gateway, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    /// The status of one call, and the body that the provider got if it got one.
    async fn call(
        &self,
        body: &[u8],
        headers: &[(&'static str, HeaderValue)],
    ) -> anyhow::Result<(u16, Option<Bytes>)> {
        let at: SocketAddr = self.gateway.at;
        let mut request = Request::post(format!("http://{at}/v1/responses"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body)))?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.clone());
        }
        let before = self.upstream.calls();
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, self.client.request(request)).await??;
        let status = answer.status().as_u16();
        let told = tokio::time::timeout(ANSWER_TIME_MAX, answer.into_body().collect()).await??.to_bytes();
        // Whatever was asked, the answer is a document that programs can read.
        serde_json::from_slice::<Value>(&told)
            .with_context(|| String::from_utf8_lossy(&told).into_owned())?;
        let sent = if self.upstream.calls() > before { self.upstream.last_call() } else { None };
        Ok((status, sent.map(|request| request.body)))
    }

    async fn passes(&self, what: &str, body: &[u8]) -> anyhow::Result<()> {
        let (status, sent) = self.call(body, &[]).await?;
        assert_eq!(status, 200, "{what}");
        assert!(sent.as_deref() == Some(body), "{what}: the provider got other bytes");
        Ok(())
    }

    async fn stays(&self, what: &str, body: &[u8]) -> anyhow::Result<()> {
        let (status, sent) = self.call(body, &[]).await?;
        assert_eq!((status, sent), (400, None), "{what}");
        Ok(())
    }

    /// What the log has to show for the calls so far: one line a call, and no line that is more than its JSON.
    async fn stop(mut self) -> anyhow::Result<usize> {
        assert!(self.gateway.service.is_running()?);
        self.gateway.service.signal(rustix::process::Signal::TERM)?;
        self.gateway.service.ended(STOP_TIME_MAX).await?;
        let log = self.gateway.service.output();
        let mut calls = 0;
        for line in log.lines() {
            assert!(!line.contains(char::is_control), "{line:?}");
            let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            calls += usize::from(line["message"] == "call ended");
        }
        assert_eq!(calls, self.upstream.calls());
        Ok(calls)
    }
}

fn within(input: &[u8]) -> Vec<u8> {
    [format!("{{\"model\":\"{MODEL}\",\"input\":").as_bytes(), input, b"}"].concat()
}

#[tokio::test]
async fn what_is_json_passes_as_it_is_and_nothing_else_does() -> anyhow::Result<()> {
    let name = "what_is_json_passes_as_it_is_and_nothing_else_does";
    let Some(corpora) = corpora(name).await? else { return Ok(()) };
    let house = House::new().await?;
    let (mut must, mut must_not, mut may) = (0, 0, 0);
    for case in corpora["json"].as_array().context("cases")? {
        let (case, text) = (case["name"].as_str().unwrap(), case["input"].as_str().unwrap());
        let body = within(text.as_bytes());
        match case.get(..2) {
            Some("y_") => {
                house.passes(case, &body).await?;
                must += 1;
            }
            Some("n_") => {
                house.stays(case, &body).await?;
                must_not += 1;
            }
            Some("i_") => {
                let (status, sent) = house.call(&body, &[]).await?;
                let whole = status == 200 && sent.as_deref() == Some(body.as_slice());
                assert!(whole || (status == 400 && sent.is_none()), "{case}: {status}");
                may += 1;
            }
            other => anyhow::bail!("a case of another kind: {other:?}"),
        }
        // None of them is a request by itself.
        house.stays(case, text.as_bytes()).await?;
    }
    assert!(must >= 90 && must_not >= 180 && may >= 30, "{must} {must_not} {may}");
    for bytes in NO_TEXT {
        let what = String::from_utf8_lossy(bytes);
        house.stays(&what, &within(bytes)).await?;
        house.stays(&what, bytes).await?;
    }
    assert!(house.stop().await? >= must);
    Ok(())
}

#[tokio::test]
async fn strings_that_choke_programs_pass_through_every_field() -> anyhow::Result<()> {
    let name = "strings_that_choke_programs_pass_through_every_field";
    let Some(corpora) = corpora(name).await? else { return Ok(()) };
    let mut strings: Vec<&str> =
        corpora["strings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(strings.len() >= 485, "{}", strings.len());
    strings.extend(CONTROLS);
    let house = House::new().await?;
    let (mut as_model, mut as_header) = (0, 0);
    for text in &strings {
        let body = json!({
            "model": MODEL, "instructions": text, "input": [{"role": "user", "content": text}],
            "metadata": {"a": text}, "client_metadata": {"b": text}, "user": text, "prompt_cache_key": text,
        });
        let value = HeaderValue::from_bytes(text.as_bytes()).ok();
        let headers: Vec<_> =
            value.iter().flat_map(|value| HEADERS.map(|name| (name, value.clone()))).collect();
        let body = body.to_string();
        let (status, sent) = house.call(body.as_bytes(), &headers).await?;
        assert_eq!(status, 200, "{text:?}");
        assert!(sent.as_deref() == Some(body.as_bytes()), "{text:?}: the provider got other bytes");
        if value.is_some() {
            let sent = house.upstream.last_call().unwrap();
            let trimmed = text.trim_matches([' ', '\t']).as_bytes();
            for name in HEADERS {
                let got = sent.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
                assert!(got == trimmed, "{name}: {text:?} became {got:?}");
            }
            as_header += 1;
        }

        let body = json!({"model": text, "input": "When does the tide turn?"}).to_string();
        let (status, sent) = house.call(body.as_bytes(), &[]).await?;
        assert!((status == 200) == sent.is_some() && [200, 400].contains(&status), "{text:?}: {status}");
        assert!(sent.is_none_or(|sent| sent == body), "{text:?}: the provider got other bytes");
        as_model += usize::from(status == 200);
    }
    assert!(as_model >= 480 && as_header >= 400, "{as_model} {as_header}");
    assert_eq!(house.stop().await?, strings.len() + as_model);
    Ok(())
}

/// Whether the rule for names, as its message tells it, lets `name` be one.
fn may_be_named(name: &str, marks: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || marks.contains(letter))
}

#[tokio::test]
async fn strings_that_choke_programs_name_nobody() -> anyhow::Result<()> {
    let Some(corpora) = corpora("strings_that_choke_programs_name_nobody").await? else { return Ok(()) };
    let strings = corpora["strings"].as_array().context("strings")?;
    let home = Home::new()?;
    let (program, file) = (binaries::program("tidegate").await?, home.path("keys.toml"));
    let create = async |tenant: &str, subject: &str, note: &str| -> anyhow::Result<bool> {
        let mut command = clients::on(&home, &program);
        command.args(["keys", "create", "--file"]).arg(&file);
        command.args([
            format!("--tenant={tenant}"),
            format!("--subject={subject}"),
            format!("--note={note}"),
        ]);
        let output = process::run(command, PROGRAM_TIME_MAX).await?;
        let said = output.stdout.replace('\n', "");
        assert!(output.status.success() == said.starts_with("tg_"), "{tenant:?}: {output:?}");
        assert!(!output.stderr.contains("panicked"), "{tenant:?}: {output:?}");
        assert!(!output.stderr.replace('\n', "").contains(char::is_control), "{tenant:?}: {output:?}");
        Ok(output.status.success())
    };
    // Each string is a tenant or a subject; every eighth is a note too.
    let made = futures_util::stream::iter(strings.iter().filter_map(Value::as_str).enumerate())
        .map(async |(number, text)| {
            let (made, expected) = match number % 2 {
                0 => (create(text, "ci", "").await?, may_be_named(text, "._-:@")),
                _ => (create("acme", text, "").await?, may_be_named(text, "._-:@/|+=")),
            };
            assert_eq!(made, expected, "{text:?}");
            let noted = number % 8 == 0 && create("acme", "ci", text).await?;
            anyhow::Ok(usize::from(made) + usize::from(noted))
        })
        .buffer_unordered(PROGRAMS)
        .try_fold(0, async |sum, made| Ok(sum + made))
        .await?;
    assert!(made > 60, "{made}");
    let listed = list(&home, &program, &file, &["--json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    assert_eq!(listed["keys"].as_array().context("keys")?.len(), made);
    let table = list(&home, &program, &file, &[]).await?;
    assert_eq!(table.lines().count(), made + 1);
    assert!(!table.replace('\n', "").contains(char::is_control), "{table:?}");
    Ok(())
}

async fn list(home: &Home, program: &Path, file: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = clients::on(home, program);
    command.args(["keys", "list"]).args(arguments).arg("--file").arg(file);
    Ok(process::run(command, PROGRAM_TIME_MAX).await?.success()?.stdout)
}
