//! The fake AWS endpoints answer in AWS's formats and want the proofs that AWS wants.

use gateway_testkit::{AwsCredentials, AwsEndpoint, AwsEndpoints, Reply};
use serde_json::{Value, json};

use crate::client::{Client, within_deadline};

async fn ask(endpoints: &AwsEndpoints, head: &str, body: &str) -> (u16, String) {
    let address = endpoints.url().strip_prefix("http://").unwrap().parse().unwrap();
    let mut client = Client::connect_to(address).await;
    let (line, headers) = head.split_once('|').unwrap_or((head, ""));
    let headers = headers.replace('|', "\r\n");
    let rest = format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let separator = if headers.is_empty() { "" } else { "\r\n" };
    client.send(&format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}{separator}{rest}")).await;
    client.read_to_end().await.unwrap();
    let (head, body) = client.answer();
    (head[9..12].parse().unwrap(), String::from_utf8(body.to_vec()).unwrap())
}

fn credentials(name: &str) -> AwsCredentials {
    AwsCredentials {
        access_key: format!("ASIA{name}"),
        secret: format!("secret-{name}"),
        token: format!("token-{name}"),
        expires_at_unix: 1_795_168_784,
    }
}

#[tokio::test]
async fn instances_need_a_session_token() {
    within_deadline(async {
        let endpoints = AwsEndpoints::start().await.unwrap();
        let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 21600";
        assert_eq!(ask(&endpoints, &format!("PUT /latest/api/token|{ttl}"), "").await.0, 404);
        endpoints.give(AwsEndpoint::Instance, credentials("IMDS"));
        assert_eq!(ask(&endpoints, "PUT /latest/api/token", "").await.0, 400);
        let (status, token) = ask(&endpoints, &format!("PUT /latest/api/token|{ttl}"), "").await;
        assert_eq!(status, 200);
        let roles = "/latest/meta-data/iam/security-credentials/";
        assert_eq!(ask(&endpoints, &format!("GET {roles}"), "").await.0, 401);
        let token = format!("x-aws-ec2-metadata-token: {token}");
        let (status, role) = ask(&endpoints, &format!("GET {roles}|{token}"), "").await;
        assert_eq!(status, 200);
        assert_eq!(ask(&endpoints, &format!("GET {roles}other|{token}"), "").await.0, 404);
        let (status, document) = ask(&endpoints, &format!("GET {roles}{role}|{token}"), "").await;
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!((status, &document["AccessKeyId"]), (200, &json!("ASIAIMDS")));
        assert_eq!(document["Expiration"], "2026-11-20T09:59:44Z");
        assert_eq!((endpoints.asked(AwsEndpoint::Instance), endpoints.served(AwsEndpoint::Instance)), (7, 1));
        assert_eq!(endpoints.requests().len(), 7);
    })
    .await;
}

#[tokio::test]
async fn containers_send_their_token() {
    within_deadline(async {
        let endpoints = AwsEndpoints::start().await.unwrap();
        endpoints.give(AwsEndpoint::Container, credentials("ECS"));
        endpoints.require(AwsEndpoint::Container, "pod-token");
        assert_eq!(ask(&endpoints, "GET /creds", "").await.0, 401);
        let (status, document) = ask(&endpoints, "GET /creds|authorization: pod-token", "").await;
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!((status, &document["Token"]), (200, &json!("token-ECS")));
        endpoints.answer(AwsEndpoint::Container, Some(Reply::json(503, &json!({}))));
        assert_eq!(ask(&endpoints, "GET /creds|authorization: pod-token", "").await.0, 503);
        endpoints.answer(AwsEndpoint::Container, None);
        endpoints.give(AwsEndpoint::Container, credentials("NEXT"));
        assert!(ask(&endpoints, "GET /creds|authorization: pod-token", "").await.1.contains("ASIANEXT"));
        assert_eq!(
            (endpoints.asked(AwsEndpoint::Container), endpoints.served(AwsEndpoint::Container)),
            (4, 2)
        );
    })
    .await;
}

#[tokio::test]
async fn sts_wants_the_web_identity() {
    within_deadline(async {
        let endpoints = AwsEndpoints::start().await.unwrap();
        endpoints.give(AwsEndpoint::Sts, credentials("STS"));
        endpoints.require(AwsEndpoint::Sts, "a.jwt+/=");
        let form = |token: &str| {
            format!(
                "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr\
                 &RoleSessionName=s&WebIdentityToken={token}"
            )
        };
        let (status, xml) = ask(&endpoints, "POST /", &form("a.jwt%2B%2F%3D")).await;
        assert_eq!(status, 200);
        for part in [
            "<AccessKeyId>ASIASTS</AccessKeyId>",
            "<SessionToken>token-STS</SessionToken>",
            "<Expiration>2026-11-20T09:59:44Z</Expiration>",
            "<Arn>arn:aws:iam::1:role/r/testkit</Arn>",
        ] {
            assert!(xml.contains(part), "{xml}");
        }
        let (status, xml) = ask(&endpoints, "POST /", &form("other")).await;
        assert!(status == 400 && xml.contains("<Code>InvalidIdentityToken</Code>"), "{xml}");
        assert_eq!(ask(&endpoints, "POST /", "Action=GetCallerIdentity").await.0, 400);
        assert_eq!(ask(&endpoints, "POST /", "Action=AssumeRoleWithWebIdentity").await.0, 400);
        assert_eq!((endpoints.asked(AwsEndpoint::Sts), endpoints.served(AwsEndpoint::Sts)), (4, 1));
    })
    .await;
}

#[tokio::test]
async fn the_portal_wants_its_token() {
    within_deadline(async {
        let endpoints = AwsEndpoints::start().await.unwrap();
        endpoints.give(AwsEndpoint::Sso, credentials("SSO"));
        endpoints.require(AwsEndpoint::Sso, "portal");
        let target = "GET /federation/credentials?role_name=r&account_id=1";
        assert_eq!(ask(&endpoints, target, "").await.0, 401);
        assert_eq!(ask(&endpoints, &format!("{target}|x-amz-sso_bearer_token: other"), "").await.0, 401);
        let (status, body) = ask(&endpoints, &format!("{target}|x-amz-sso_bearer_token: portal"), "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["roleCredentials"]["expiration"]), (200, &json!(1_795_168_784_000_i64)));
        let bare = "GET /federation/credentials|x-amz-sso_bearer_token: portal";
        assert_eq!(ask(&endpoints, bare, "").await.0, 400);
        assert_eq!(ask(&endpoints, "GET /nothing", "").await.0, 404);
        assert_eq!((endpoints.asked(AwsEndpoint::Sso), endpoints.served(AwsEndpoint::Sso)), (4, 1));
    })
    .await;
}
