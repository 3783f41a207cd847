//! Nothing that can be printed holds a credential.

use std::error::Error;

use gateway_testkit::{Reply, Upstream};
use test_clock::paused;

use crate::harness::{SECRET, build, parse, provider, send};

pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = format!("{error:?} {error}");
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(" {error:?} {error}"));
        next = error.source();
    }
    text
}

#[test]
fn no_debug_form_and_no_error_holds_a_secret() {
    paused(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.push(Reply::reset());
        let keys = format!(
            "experimental_bearer_token = \"{SECRET}\"\nrequest_max_retries = 0\n
         http_headers = {{ \"api-key\" = \"{SECRET}\" }}\nquery_params = {{ key = \"{SECRET}\" }}"
        );
        let base_url = upstream.base_url();
        let text = format!("[model_providers.up]\nbase_url = {base_url:?}\n{keys}");
        let config = parse(&text);
        let one = provider(&base_url, &keys);
        let mut printed = format!("{config:?} {:?} {one:?}", build(&text).unwrap());
        printed.push_str(&chain(&send(&one).await.unwrap_err()));
        assert_eq!(
            upstream.requests()[0].query.as_deref(),
            Some(&*format!("key={SECRET}")),
            "it was really sent"
        );
        upstream.push(Reply::json(200, &serde_json::json!({})));
        printed.push_str(&format!("{:?}", send(&one).await.unwrap()));
        upstream.shutdown().await;
        printed.push_str(&chain(&send(&one).await.unwrap_err()));
        assert!(!printed.contains("canary"), "{printed}");
    })
    .unwrap();
}

#[test]
fn no_problem_holds_a_secret() {
    let text = format!(
        "[model_providers.a]\nbase_url = \"https://u:{SECRET}@host\"\nexperimental_bearer_token = \"{SECRET}\\n{SECRET}\"
         http_headers = {{ a = \"{SECRET}\\n{SECRET}\", authorization = \"{SECRET}\" }}\nenv_key = \"TEST_KEY\""
    );
    let problems = build(&text).unwrap_err();
    assert!(problems.len() >= 3, "{problems:?}");
    assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
}
