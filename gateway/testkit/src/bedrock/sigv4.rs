//! Computes the AWS Signature Version 4 of a request as it came over the wire.
//!
//! Written from AWS's description alone, so that it shares no mistake with the signer under test. Decides nothing:
//! what is wrong with a request is for the rules to say.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};

use crate::percent::{decode, encode};
use crate::state::Recorded;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";

/// An `Authorization` header, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorization {
    pub(crate) access_key: String,
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    /// The names of the signed headers, in the order of the header.
    pub(crate) signed: Vec<String>,
    pub(crate) signature: String,
}

impl Authorization {
    /// Takes the header apart; none when it is not exactly of SigV4's form.
    pub(crate) fn parse(value: &str) -> Option<Authorization> {
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for field in value.strip_prefix(ALGORITHM)?.strip_prefix(' ')?.split(',') {
            let (name, value) = field.trim().split_once('=')?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let mut scope = credential?.split('/').map(str::to_owned);
        let (access_key, date, region, service) =
            (scope.next()?, scope.next()?, scope.next()?, scope.next()?);
        if scope.next()? != TERMINATOR || scope.next().is_some() {
            return None;
        }
        let signed: Vec<_> = signed?.split(';').map(str::to_owned).collect();
        let in_order = signed.is_sorted() && signed.iter().all(|name| *name == name.to_ascii_lowercase());
        let signature = signature?.to_owned();
        in_order.then_some(Authorization { access_key, date, region, service, signed, signature })
    }

    pub(crate) fn signs(&self, name: &str) -> bool {
        self.signed.iter().any(|signed| signed == name)
    }

    /// The signature that the request should have; none when a header is missing that it says was signed.
    pub(crate) fn expected(&self, request: &Recorded, secret: &str) -> Option<String> {
        let scope = format!("{}/{}/{}/{TERMINATOR}", self.date, self.region, self.service);
        let moment = request.header("x-amz-date")?;
        let canonical = canonical_request(request, &self.signed)?;
        let to_sign = format!(
            "{ALGORITHM}\n{moment}\n{scope}\n{}",
            hex(digest(&SHA256, canonical.as_bytes()).as_ref())
        );
        let mut key = mac(format!("AWS4{secret}").as_bytes(), &self.date);
        for part in [self.region.as_str(), &self.service, TERMINATOR, &to_sign] {
            key = mac(key.as_ref(), part);
        }
        Some(hex(key.as_ref()))
    }
}

/// The hash of a body, as signatures take it.
pub(crate) fn body_hash(body: &[u8]) -> String {
    hex(digest(&SHA256, body).as_ref())
}

fn mac(key: &[u8], text: &str) -> Tag {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to memory cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn canonical_request(request: &Recorded, signed: &[String]) -> Option<String> {
    let mut headers = String::new();
    for name in signed {
        headers += &format!("{name}:{}\n", canonical_value(request, name)?);
    }
    Some(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        request.method,
        encode(normal_path(&request.path).as_bytes(), b"/"),
        canonical_query(request.query.as_deref().unwrap_or_default()),
        signed.join(";"),
        body_hash(&request.body),
    ))
}

/// All values of a header, trimmed, with runs of spaces joined to one.
fn canonical_value(request: &Recorded, name: &str) -> Option<String> {
    if name == "host" {
        return request.authority.clone();
    }
    let values = request.headers.get_all(name).iter().map(|value| {
        let words = std::str::from_utf8(value.as_bytes()).ok()?.split(' ').filter(|word| !word.is_empty());
        Some(words.collect::<Vec<_>>().join(" "))
    });
    let values = values.collect::<Option<Vec<_>>>()?;
    (!values.is_empty()).then(|| values.join(","))
}

/// The path without empty and dotted segments. It is encoded again although it is encoded already, as AWS has it
/// for all services but S3.
fn normal_path(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

/// The parameters, decoded and encoded in the one canonical way, sorted by their bytes.
fn canonical_query(query: &str) -> String {
    let again = |text: &str| encode(&decode(text), b"");
    let mut parameters: Vec<_> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .map(|(name, value)| (again(name), again(value)))
        .collect();
    parameters.sort();
    parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests;
