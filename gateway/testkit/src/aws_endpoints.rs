//! The places from which AWS hands out credentials, in one fake server: the instance's metadata (IMDSv2), the
//! container endpoint of ECS and EKS, STS with a web identity, and the portal of IAM Identity Center.
//!
//! Each checks what proves the caller to it and answers in its own format. Credentials are not checked here.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde_json::json;

use crate::clock;
use crate::percent::decode;
use crate::reply::Reply;
use crate::state::{Handler, Recorded};
use crate::upstream::Upstream;

const IMDS_TOKEN: &str = "testkit-imds-token";
const IMDS_ROLE: &str = "testkit-role";
const IMDS_ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// One of the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AwsEndpoint {
    /// The metadata of an instance; its proof is a session token that it gives out itself.
    Instance,
    /// The endpoint of a container, at `/creds`; its proof is the `Authorization` header.
    Container,
    /// STS `AssumeRoleWithWebIdentity`; its proof is the form field `WebIdentityToken`.
    Sts,
    /// The portal's `GetRoleCredentials`; its proof is the header `x-amz-sso_bearer_token`.
    Sso,
}

/// What is handed out.
#[derive(Clone)]
pub struct AwsCredentials {
    /// The access key id.
    pub access_key: String,
    /// The secret.
    pub secret: String,
    /// The session token.
    pub token: String,
    /// When they expire, in seconds since the epoch.
    pub expires_at_unix: i64,
}

/// A running server with all the endpoints. Each answers 404 until it is given credentials.
pub struct AwsEndpoints {
    upstream: Upstream,
    desk: Arc<Desk>,
}

impl std::fmt::Debug for AwsEndpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsEndpoints").field("address", &self.upstream.address()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Place {
    credentials: Option<AwsCredentials>,
    proof: Option<String>,
    instead: Option<Reply>,
    asked: usize,
    served: usize,
}

#[derive(Default)]
struct Desk {
    places: Mutex<HashMap<AwsEndpoint, Place>>,
}

impl Desk {
    fn places(&self) -> MutexGuard<'_, HashMap<AwsEndpoint, Place>> {
        // A panic elsewhere in a test must not hide behind a second one here.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, endpoint: AwsEndpoint, change: impl FnOnce(&mut Place) -> R) -> R {
        change(self.places().entry(endpoint).or_default())
    }
}

impl AwsEndpoints {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<AwsEndpoints> {
        let desk = Arc::new(Desk::default());
        let upstream = Upstream::start_handled(desk.clone(), None).await?;
        Ok(AwsEndpoints { upstream, desk })
    }

    /// Its address, as in `http://127.0.0.1:1234`; the container endpoint is `/creds` below it.
    pub fn url(&self) -> String {
        format!("http://{}", self.upstream.address())
    }

    /// What an endpoint hands out from now on.
    pub fn give(&self, endpoint: AwsEndpoint, credentials: AwsCredentials) {
        self.desk.with(endpoint, |place| place.credentials = Some(credentials));
    }

    /// What a caller has to prove itself with; without it any proof is taken. The instance has its own.
    pub fn require(&self, endpoint: AwsEndpoint, proof: &str) {
        self.desk.with(endpoint, |place| place.proof = Some(proof.to_owned()));
    }

    /// Answers with this instead, until told otherwise: outages, refusals, delays.
    pub fn answer(&self, endpoint: AwsEndpoint, instead: Option<Reply>) {
        self.desk.with(endpoint, |place| place.instead = instead);
    }

    /// How many requests an endpoint had, of any kind.
    pub fn asked(&self, endpoint: AwsEndpoint) -> usize {
        self.desk.with(endpoint, |place| place.asked)
    }

    /// How often an endpoint handed out credentials.
    pub fn served(&self, endpoint: AwsEndpoint) -> usize {
        self.desk.with(endpoint, |place| place.served)
    }

    /// Every request as it came.
    pub fn requests(&self) -> Vec<Recorded> {
        self.upstream.all_requests()
    }
}

impl Handler for Desk {
    fn handle(&self, request: &Recorded) -> Option<Reply> {
        let endpoint = endpoint(request)?;
        Some(self.with(endpoint, |place| {
            place.asked += 1;
            if let Some(instead) = &place.instead {
                return instead.clone();
            }
            let Some(credentials) = &place.credentials else { return plain(404, "not here") };
            let proof = place.proof.as_deref();
            let given = match endpoint {
                AwsEndpoint::Instance => instance(request, credentials),
                AwsEndpoint::Container => container(request, credentials, proof),
                AwsEndpoint::Sts => sts(request, credentials, proof),
                AwsEndpoint::Sso => sso(request, credentials, proof),
            };
            match given {
                Answer::Credentials(reply) => {
                    place.served += 1;
                    reply
                }
                Answer::Other(reply) => reply,
            }
        }))
    }

    fn stamp(&self, reply: Reply) -> Reply {
        reply
    }
}

enum Answer {
    Credentials(Reply),
    Other(Reply),
}

fn endpoint(request: &Recorded) -> Option<AwsEndpoint> {
    match request.path.as_str() {
        path if path.starts_with("/latest/") => Some(AwsEndpoint::Instance),
        "/creds" => Some(AwsEndpoint::Container),
        "/" if request.method == Method::POST => Some(AwsEndpoint::Sts),
        "/federation/credentials" => Some(AwsEndpoint::Sso),
        _ => None,
    }
}

fn plain(status: u16, text: &'static str) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::bytes(status, "text/plain", text)
}

/// The form that instances and containers share.
fn document(credentials: &AwsCredentials) -> Reply {
    let AwsCredentials { access_key, secret, token, expires_at_unix } = credentials;
    let expiration = clock::extended(*expires_at_unix);
    Reply::json(
        200,
        &json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-11-20T00:00:00Z", "AccessKeyId": access_key,
            "SecretAccessKey": secret, "Token": token, "Expiration": expiration,
        }),
    )
}

fn instance(request: &Recorded, credentials: &AwsCredentials) -> Answer {
    const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
    if request.path == "/latest/api/token" {
        return Answer::Other(match request.header(TTL) {
            Some(ttl) if request.method == Method::PUT => {
                Reply::bytes(StatusCode::OK, "text/plain", IMDS_TOKEN).header(TTL, ttl)
            }
            _ => plain(400, "a token is asked for with PUT and a time to live"),
        });
    }
    if request.header("x-aws-ec2-metadata-token") != Some(IMDS_TOKEN) {
        return Answer::Other(plain(401, "a session token is needed"));
    }
    match request.path.strip_prefix(IMDS_ROLES) {
        Some("") => Answer::Other(Reply::bytes(StatusCode::OK, "text/plain", IMDS_ROLE)),
        Some(IMDS_ROLE) => Answer::Credentials(document(credentials)),
        _ => Answer::Other(plain(404, "not here")),
    }
}

fn container(request: &Recorded, credentials: &AwsCredentials, proof: Option<&str>) -> Answer {
    if proof.is_some() && request.header("authorization") != proof {
        let body = json!({"code": "AccessDenied", "message": "the authorization token is wrong"});
        return Answer::Other(Reply::json(401, &body));
    }
    Answer::Credentials(document(credentials))
}

fn sts(request: &Recorded, credentials: &AwsCredentials, proof: Option<&str>) -> Answer {
    let form = String::from_utf8_lossy(&request.body).replace('+', " ");
    let field = |name: &str| {
        let value = form.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?;
        String::from_utf8(decode(value)).ok()
    };
    let refused = |code: &str, message: &str| {
        let xml = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>testkit</RequestId></ErrorResponse>"
        );
        Answer::Other(Reply::bytes(StatusCode::BAD_REQUEST, "text/xml", xml))
    };
    if field("Action").as_deref() != Some("AssumeRoleWithWebIdentity") {
        return refused("InvalidAction", "only AssumeRoleWithWebIdentity is known");
    }
    let (Some(role), Some(token)) = (field("RoleArn"), field("WebIdentityToken")) else {
        return refused("ValidationError", "a role and a token are needed");
    };
    if proof.is_some_and(|proof| proof != token) {
        return refused("InvalidIdentityToken", "the web identity token is not known");
    }
    let expiration = clock::extended(credentials.expires_at_unix);
    let xml = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
         <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials><AssumedRoleUser><Arn>{role}/testkit</Arn>\
         <AssumedRoleId>AROATESTKIT:testkit</AssumedRoleId></AssumedRoleUser></AssumeRoleWithWebIdentityResult>\
         <ResponseMetadata><RequestId>testkit</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>",
        credentials.access_key, credentials.secret, credentials.token
    );
    Answer::Credentials(Reply::bytes(StatusCode::OK, "text/xml", xml))
}

fn sso(request: &Recorded, credentials: &AwsCredentials, proof: Option<&str>) -> Answer {
    let token = request.header("x-amz-sso_bearer_token");
    if token.is_none() || proof.is_some() && token != proof {
        let body = json!({"message": "Session token not found or invalid"});
        return Answer::Other(Reply::json(401, &body).header("x-amzn-errortype", "UnauthorizedException"));
    }
    let query = request.query.as_deref().unwrap_or_default();
    if !["role_name=", "account_id="].iter().all(|name| query.split('&').any(|field| field.starts_with(name)))
    {
        let body = json!({"message": "a role and an account are needed"});
        return Answer::Other(Reply::json(400, &body).header("x-amzn-errortype", "InvalidRequestException"));
    }
    let AwsCredentials { access_key, secret, token, expires_at_unix } = credentials;
    Answer::Credentials(Reply::json(
        200,
        &json!({"roleCredentials": {
            "accessKeyId": access_key, "secretAccessKey": secret, "sessionToken": token,
            "expiration": expires_at_unix.saturating_mul(1_000),
        }}),
    ))
}
