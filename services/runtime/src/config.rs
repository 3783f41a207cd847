//! Loads a TOML configuration file into a typed struct, and says precisely what is wrong with it.
//!
//! Every message names the file, line, column and dotted key. Unknown keys are found by walking the JSON
//! schema of the target type, so that all of them are reported at once with the nearest known key; types,
//! missing keys and values are serde's business, which reads again without what it refused. Values are not quoted in messages about wrong types, because
//! a secret may have been put in the wrong place.

mod explain;
mod schema;
mod tree;
mod whose;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use explain::Parsed;
pub use schema::{Drift, check_committed, keys, schema};
pub use whose::{AGENT_KEYS, GATEWAY_KEYS, Service};

/// The largest configuration file that is read.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Why a configuration cannot be used. It is always the operator's to fix; a retry does not help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{}: no such configuration file", file.display())]
    NotFound {
        /// The path as it was given.
        file: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("{}: cannot read the configuration file", file.display())]
    Unreadable {
        /// The path as it was given.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than [`FILE_BYTES_MAX`].
    #[error("{}: the configuration file is over {FILE_BYTES_MAX} bytes", file.display())]
    TooLarge {
        /// The path as it was given.
        file: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("{}:{line}: not UTF-8 text", file.display())]
    NotUtf8 {
        /// The path as it was given.
        file: PathBuf,
        /// The line of the first bad byte, from 1.
        line: usize,
    },
    /// The text was read but its content is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The content of a file is wrong, and so is that of another one that it names.
    #[error("{0}\n{1}")]
    Both(Invalid, Invalid),
}

impl Error {
    /// Both errors as one, where both are about content; the first otherwise.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid(one), Self::Invalid(other)) => Self::Both(one, other),
            (one, _) => one,
        }
    }
}

/// Everything that is wrong with the content of one configuration file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// The path as it was given.
    pub file: PathBuf,
    /// At least one problem, in the order of the file where known.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match problem.position {
                // A flag stands in no file.
                None if problem.key.starts_with("--") => {}
                None => write!(f, "{}: ", self.file.display())?,
                Some(Position { line, column }) => write!(f, "{}:{line}:{column}: ", self.file.display())?,
            }
            f.write_str(&problem.message)?;
            if let Some(fix) = &problem.fix {
                write!(f, "; {fix}")?;
            }
        }
        Ok(())
    }
}

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, such as `model_providers.corp.base_url` or `callers[1].tenant`; empty for the whole file. A flag of the
    /// command line with its dashes.
    pub key: String,
    /// What is wrong: a short sentence that names the key.
    pub message: String,
    /// What to do about it, if that is known.
    pub fix: Option<String>,
    /// Where it stands in the file; [`Source::invalid`] fills it in.
    pub position: Option<Position>,
}

impl Problem {
    /// A problem with the value at `key`; the message is put after the key: `` `key` <message>``.
    pub fn new(key: impl Into<String>, message: impl fmt::Display) -> Self {
        let key = key.into();
        let message = if key.is_empty() { message.to_string() } else { format!("`{key}` {message}") };
        Self { key, message, fix: None, position: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// A place in a file; both numbers count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { line: before.matches('\n').count() + 1, column }
    }
}

/// The text of a configuration with the name it is reported under; kept by callers that validate further.
#[derive(Debug, Clone)]
pub struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file, at most [`FILE_BYTES_MAX`] bytes of it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = path.to_owned();
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
        match read {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Err(Error::NotFound { file }),
            Err(source) => Err(Error::Unreadable { file, source }),
            Ok(_) if bytes.len() > FILE_BYTES_MAX => Err(Error::TooLarge { file }),
            Ok(_) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Self { file, text }),
                Err(error) => {
                    let valid = error.utf8_error().valid_up_to();
                    let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
                    Err(Error::NotUtf8 { file, line })
                }
            },
        }
    }

    /// Takes text that does not come from a file, such as a built-in default.
    pub fn from_text(name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { file: name.into(), text: text.into() }
    }

    /// The name that the text is reported under.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Parses the text into `T`; unknown keys are refused whether or not `T` says so.
    pub fn parse<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Error> {
        self.parse_checked(Ok)
    }

    /// Parses the text into `T` and checks it, and tells at once what is wrong with either: what cannot be parsed is left
    /// out, and `check` sees the rest.
    pub fn parse_checked<T: DeserializeOwned + JsonSchema, U>(
        &self,
        check: impl FnOnce(T) -> Result<U, Vec<Problem>>,
    ) -> Result<U, Error> {
        let Parsed { value, mut problems, gone } = explain::parse(&self.text);
        match value.map(check) {
            Some(Ok(checked)) if problems.is_empty() => return Ok(checked),
            Some(Ok(_)) | None => {}
            Some(Err(found)) => {
                let nodes = tree::nodes(&self.text);
                problems.extend(found.into_iter().filter(|problem| !gone.may_cause(&problem.key, &nodes)));
            }
        }
        Err(self.invalid(problems))
    }

    /// Where the relative paths of the text start: the directory that its file is in.
    pub fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Lets the paths of a configuration start there. An empty one is left for whoever checks it.
    pub fn resolve<'a>(&self, paths: impl IntoIterator<Item = &'a mut PathBuf>) {
        for path in paths.into_iter().filter(|path| !path.as_os_str().is_empty()) {
            *path = self.directory().join(&*path);
        }
    }

    /// Turns the problems that a service's own validation found into one error, each with its place in the file.
    pub fn invalid(&self, mut problems: Vec<Problem>) -> Error {
        let nodes = tree::nodes(&self.text);
        for problem in &mut problems {
            let offset = tree::locate(&nodes, &problem.key);
            problem.position = problem.position.or(offset.map(|at| Position::of(&self.text, at)));
        }
        self.refuse(problems)
    }

    fn refuse(&self, mut problems: Vec<Problem>) -> Error {
        problems.sort_by_key(|problem| problem.position);
        Error::Invalid(Invalid { file: self.file.clone(), problems })
    }
}

/// Reads and parses a configuration file.
pub fn load<T: DeserializeOwned + JsonSchema>(path: &Path) -> Result<T, Error> {
    Source::read(path)?.parse()
}
