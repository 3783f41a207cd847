//! Reads the credentials that a command has printed.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// The form of `aws sts assume-role`: the credentials are a member among others.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sts {
    credentials: Exported,
}

/// The form of `aws configure export-credentials` and of credential processes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    access_key_id: SecretString,
    secret_access_key: SecretString,
    session_token: Option<SecretString>,
    expiration: Option<String>,
}

/// The credentials, in either form. An error never repeats what was printed.
pub(super) fn parse(printed: &[u8], now: SystemTime) -> Result<Credentials, &'static str> {
    let nested = serde_json::from_slice::<Sts>(printed).map(|sts| sts.credentials);
    let exported = nested.or_else(|_| serde_json::from_slice::<Exported>(printed));
    let exported = exported.map_err(|_| {
        "did not print AWS credentials: a JSON object with AccessKeyId and SecretAccessKey, or such an object as Credentials"
    })?;
    let (id, key) = (exported.access_key_id.expose_secret(), exported.secret_access_key.expose_secret());
    let (id, key) = (id.trim(), key.trim());
    if id.is_empty() || key.is_empty() {
        return Err("printed an empty key");
    }
    let end = match exported.expiration.as_deref().filter(|end| !end.is_empty()) {
        None => None,
        Some(text) => {
            let end = DateTime::from_str(text, Format::DateTimeWithOffset);
            let end = end.ok().and_then(|end| SystemTime::try_from(end).ok());
            Some(end.ok_or("printed an Expiration that is no RFC 3339 time")?)
        }
    };
    if end.is_some_and(|end| end <= now) {
        return Err("printed credentials that have expired");
    }
    let session = exported.session_token.as_ref().map(|token| token.expose_secret().trim());
    let session = session.filter(|token| !token.is_empty()).map(str::to_owned);
    Ok(Credentials::new(id, key, session, end, "command"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const NOW: u64 = 1_795_168_784;

    fn of(text: &str) -> Result<Credentials, &'static str> {
        parse(text.as_bytes(), UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn both_forms() {
        let flat = r#""AccessKeyId":"AKID","SecretAccessKey":"k","SessionToken":"t","Expiration":"2026-11-20T11:59:45+02:00""#;
        for text in [
            format!("{{\"Version\":1,{flat}}}"),
            format!("{{\"Credentials\":{{{flat}}},\"AssumedRoleUser\":{{}}}}\n"),
        ] {
            let credentials = of(&text).unwrap();
            assert_eq!((credentials.access_key_id(), credentials.secret_access_key()), ("AKID", "k"));
            assert_eq!(credentials.session_token(), Some("t"));
            assert_eq!(credentials.expiry(), Some(UNIX_EPOCH + Duration::from_secs(NOW + 1)));
        }
        let plain = of(r#"{"AccessKeyId":"AKID","SecretAccessKey":"k","SessionToken":""}"#).unwrap();
        assert_eq!((plain.session_token(), plain.expiry()), (None, None));
    }

    #[test]
    fn what_is_no_good() {
        for (text, part) in [
            ("", "did not print"),
            ("AKID canary", "did not print"),
            (r#"{"AccessKeyId":"canary"}"#, "did not print"),
            (r#"{"AccessKeyId":"canary","SecretAccessKey":" "}"#, "empty"),
            (r#"{"AccessKeyId":"a","SecretAccessKey":"k","Expiration":"canary"}"#, "no RFC 3339"),
            (r#"{"AccessKeyId":"a","SecretAccessKey":"k","Expiration":"2026-11-20T09:59:44Z"}"#, "expired"),
        ] {
            let why = of(text).unwrap_err();
            assert!(why.contains(part) && !why.contains("canary"), "{why}");
        }
    }
}
