//! What holds around a turn, in words for the model: what it may do, what its project asks for, where it works.
//!
//! Each part can be left out. Files are read where the thread works, on the machine of the service, so a service whose
//! users share a machine leaves out what comes from files.

mod git;
mod project;
mod words;

use std::path::{Path, PathBuf};

use agent_threads::{ContextPart, Git, Settings};

/// Which parts the model is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContextOptions {
    /// What it may do.
    pub permissions: bool,
    /// The `AGENTS.md` files between the root of the project and the working directory.
    pub project_docs: bool,
    /// The working directory, the date.
    pub environment: bool,
    /// The branch and commit of the repository that the working directory is in.
    pub git: bool,
    /// Whether messages may bring images by the name of a file.
    pub local_images: bool,
}

/// What holds around a turn.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    texts: Vec<(ContextPart, String)>,
    /// The state of the repository, if there is one and it may be told.
    pub(crate) git: Option<Git>,
}

impl Surroundings {
    /// The parts, in the order in which they are told.
    pub(crate) const PARTS: [ContextPart; 4] =
        [ContextPart::Permissions, ContextPart::ProjectDocs, ContextPart::Environment, ContextPart::Git];

    /// Looks around, for a turn with these settings.
    pub(crate) async fn look(options: ContextOptions, settings: &Settings, now_ms: i64) -> Self {
        let mut texts = Vec::new();
        if options.permissions {
            texts.push((ContextPart::Permissions, words::permissions(settings)));
        }
        if options.environment {
            texts.push((ContextPart::Environment, words::environment(&settings.cwd, now_ms)));
        }
        let mut git = None;
        if options.project_docs || options.git {
            let cwd = PathBuf::from(&settings.cwd);
            // Reading a few small files takes longer than a task may hold its thread when the disk is slow.
            let read = tokio::task::spawn_blocking(move || read(&cwd, options)).await;
            let Files { docs, repository } = read.unwrap_or_default();
            texts.extend(
                docs.map(|docs| (ContextPart::ProjectDocs, words::project_docs(&settings.cwd, &docs))),
            );
            if options.git {
                texts.extend(repository.as_ref().map(|found| (ContextPart::Git, words::git(found))));
                git = repository;
            }
        }
        Self { texts, git }
    }

    /// The text of a part.
    pub(crate) fn text(&self, part: ContextPart) -> Option<&str> {
        self.texts.iter().find(|(known, _)| *known == part).map(|(_, text)| text.as_str())
    }
}

/// The files that hold the project's instructions for a thread with these settings.
pub(crate) async fn sources(options: ContextOptions, settings: &Settings) -> Vec<String> {
    let cwd = PathBuf::from(&settings.cwd);
    if !options.project_docs || !cwd.is_absolute() {
        return Vec::new();
    }
    let found = tokio::task::spawn_blocking(move || project::files(&cwd, git::root_of(&cwd).as_deref()));
    let found = found.await.unwrap_or_default();
    found.into_iter().filter_map(|(path, _)| path.into_os_string().into_string().ok()).collect()
}

#[derive(Default)]
struct Files {
    docs: Option<String>,
    repository: Option<Git>,
}

fn read(cwd: &Path, options: ContextOptions) -> Files {
    if !cwd.is_absolute() {
        return Files::default();
    }
    let root = git::root_of(cwd);
    let docs = if options.project_docs { project::docs(cwd, root.as_deref()) } else { None };
    let repository = root.filter(|_| options.git).and_then(|root| git::read(&root));
    Files { docs, repository }
}

#[cfg(test)]
impl Surroundings {
    /// These texts and nothing else.
    pub(crate) fn of(texts: &[(ContextPart, &str)]) -> Self {
        Self { texts: texts.iter().map(|(part, text)| (*part, (*text).to_owned())).collect(), git: None }
    }
}
