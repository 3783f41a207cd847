//! Checks the two tables as a whole and tells every problem at once.

mod issuers;
mod rows;

use std::path::{Path, PathBuf};

use http::{HeaderName, header};

use crate::{
    callers::Host,
    config::{CallersConfig, HEADER_DEFAULT, Problem},
    issuer::{Issuer, Remote},
    keys::KeyRing,
    rows::Rows,
    websocket::{self, Flags, WebSocketAuth},
};

/// Tables that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) anonymous: bool,
    pub(crate) header: HeaderName,
    pub(crate) keys: Option<KeyRing>,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) rows: Rows,
    /// How the app-server's own flags let clients in.
    pub(crate) websocket: Option<WebSocketAuth>,
    /// Whether whoever these let in stands for the desk, because no rows say otherwise.
    pub(crate) websocket_is_desk: bool,
}

/// Headers that mean something else to clients or servers.
const TAKEN: [HeaderName; 5] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::HOST, header::CONTENT_TYPE];

/// Checks everything; issuers that did not change keep the keys that `before` has fetched.
pub(crate) fn check(
    config: &CallersConfig,
    flags: Flags<'_>,
    host: &Host<'_>,
    before: &[&std::sync::Arc<Remote>],
) -> Result<Checked, Vec<Problem>> {
    let authentication = &config.authentication;
    let mut problems = Vec::new();
    let header = separate_header(&authentication.header, &mut problems);
    let issuers = issuers::check(&authentication.issuers, host, before, &mut problems);
    let names = authentication.issuers.iter().map(|issuer| issuer.name.as_str());
    // Whoever the flags let in comes after all issuers. A file may name them for a process that was started without.
    let (own, websocket) = match flags {
        Flags::Foreign => (None, None),
        Flags::Own(websocket) => (Some(websocket::ISSUER), websocket),
    };
    let mut rows = rows::check(&config.callers, &names.chain(own).collect::<Vec<_>>(), &mut problems);
    problems.extend(websocket.and_then(|_| unnamed(config)));
    let overrides = std::mem::take(&mut rows.keys);
    if authentication.keys_file.is_none()
        && let Some(index) = config.callers.iter().position(|row| row.key.is_some())
    {
        problems.push(Problem::new(
            format!("callers[{index}].key"),
            "names a key, but there is no keys file",
            "set `keys_file` under [authentication] to the file that `tidegate keys create` writes",
        ));
    }
    let keys = authentication.keys_file.as_ref().and_then(|file| {
        let path = host.path(file);
        KeyRing::open(path.clone(), overrides).map_err(|error| problems.push(no_keys(&path, &error))).ok()
    });
    match header {
        Some(header) if problems.is_empty() => {
            let anonymous = anonymous(config, websocket.is_some());
            let websocket_is_desk = config.callers.is_empty();
            let websocket = websocket.cloned();
            Ok(Checked { anonymous, header, keys, issuers, rows, websocket, websocket_is_desk })
        }
        _ => Err(problems),
    }
}

/// Without a word about it, callers are only anonymous where nothing would know them.
fn anonymous(config: &CallersConfig, websocket: bool) -> bool {
    let authentication = &config.authentication;
    let nothing = !websocket
        && config.callers.is_empty()
        && authentication.keys_file.is_none()
        && authentication.issuers.is_empty();
    authentication.anonymous.unwrap_or(nothing)
}

/// What is wrong if the flags let somebody in of whom the rows know nothing.
fn unnamed(config: &CallersConfig) -> Option<Problem> {
    let name = websocket::ISSUER;
    if config.authentication.issuers.iter().any(|issuer| issuer.name == name) {
        let fix = "give the issuer another name";
        return Some(Problem::new(
            "authentication.issuers",
            format!("has one that is called `{name}`, as whoever `--ws-auth` lets in is"),
            fix,
        ));
    }
    let named =
        config.callers.is_empty() || config.callers.iter().any(|row| row.issuer.as_deref() == Some(name));
    (!named).then(|| {
        let fix = format!("add a row with `issuer = \"{name}\"` and a tenant");
        Problem::new("callers", "does not say whom clients that `--ws-auth` lets in stand for", fix)
    })
}

fn separate_header(name: &str, problems: &mut Vec<Problem>) -> Option<HeaderName> {
    let fix = format!("choose a name of its own, such as {HEADER_DEFAULT}");
    let Ok(name) = name.parse::<HeaderName>() else {
        problems.push(Problem::new("authentication.header", "is not the name of a header", fix));
        return None;
    };
    if TAKEN.contains(&name) {
        problems.push(Problem::new(
            "authentication.header",
            format!("is `{name}`, which already means something else"),
            fix,
        ));
        return None;
    }
    Some(name)
}

fn no_keys(path: &Path, error: &str) -> Problem {
    let file = path.display();
    Problem::new(
        "authentication.keys_file",
        format!("names {file}, which cannot be used: {error}"),
        format!(
            "make a first key with `tidegate keys create --file {file} --tenant TENANT --subject SUBJECT`"
        ),
    )
}

impl Host<'_> {
    /// Where a path of the configuration leads.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }
}

#[cfg(test)]
mod tests;
