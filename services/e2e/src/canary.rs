//! Looks for secrets where none may be, also in the forms in which programs write bytes down without meaning to.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Fails if `bytes` of `place` hold one of the secrets in any form.
pub fn check(secrets: &[&str], place: &str, bytes: &[u8]) -> anyhow::Result<()> {
    for secret in secrets {
        for form in forms(secret) {
            let Some(at) = bytes.windows(form.len()).position(|window| window == form.as_bytes()) else {
                continue;
            };
            let around = bytes.get(at.saturating_sub(300)..bytes.len().min(at + form.len() + 100));
            let around = String::from_utf8_lossy(around.unwrap_or_default());
            anyhow::bail!("{place} holds {secret} as {form}:\n{around}");
        }
    }
    Ok(())
}

/// The same for every file below `root`, of which there must be one at least.
pub fn check_files(secrets: &[&str], root: &Path) -> anyhow::Result<()> {
    let mut files = 0;
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.is_file() {
                files += 1;
                check(secrets, &path.display().to_string(), &std::fs::read(&path)?)?;
            }
        }
    }
    anyhow::ensure!(files > 0, "nothing was written to {}", root.display());
    Ok(())
}

/// What a secret looks like in a text: as it is, in hexadecimal, as a list of numbers, in a URL, in base64.
fn forms(secret: &str) -> Vec<String> {
    let each = |form: fn(u8) -> String| secret.bytes().map(form).collect::<String>();
    let mut forms = vec![
        secret.to_owned(),
        each(|byte| format!("{byte:02x}")),
        each(|byte| format!("{byte:02X}")),
        each(|byte| format!("%{byte:02X}")),
        each(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        }),
        secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", "),
    ];
    // Base64 of a longer text holds the secret in one of three forms, as it may begin anywhere in a group of three bytes.
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        let partial = usize::from(bytes.len() % 3 != 0);
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            let own = (before * 8).div_ceil(6)..text.len() - partial;
            forms.extend(text.get(own).map(str::to_owned));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search that finds nothing proves nothing.
    #[test]
    fn a_secret_is_recognized_in_every_form() {
        let secret = "canary-7/a+\u{e9}~";
        let bytes = secret.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let mut texts =
            vec![format!("a{secret}b"), hex, format!("{bytes:?}"), "canary%2D7%2Fa%2B%C3%A9%7E".into()];
        texts.extend(["", "u", "us", "use"].map(|user| STANDARD_NO_PAD.encode(format!("{user}{secret}!"))));
        texts.extend(["", "u", "us", "use"].map(|user| URL_SAFE_NO_PAD.encode(format!("{user}{secret}"))));
        for text in texts {
            assert!(check(&[secret], "the test", text.as_bytes()).is_err(), "{text}");
        }
        assert!(check(&[secret], "the test", b"canary-7").is_ok());
    }
}
