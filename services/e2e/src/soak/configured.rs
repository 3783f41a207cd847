//! A gateway's configuration as files that are rewritten: one file by an atomic rename, or all of them at once by a swapped
//! link, as mounted config maps are. Each state carries marks that show in the calls made under it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::scale::Dice;

/// What shows in a call: the mark of the configuration file, and that of the policy file.
pub(super) type Marks = (u64, u64);

/// Names of models, over and over: each name that ever was has its own metrics.
const MODELS: u64 = 16;

/// The model's name in a state with this mark.
pub(super) fn model(mark: u64) -> String {
    format!("tide-{}", mark % MODELS)
}

/// How a state is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// Another configuration file takes the place of the old one.
    Rename,
    /// Both files, by one link.
    Swap,
}

/// Every state that was whole and right at some moment. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct States(Arc<Mutex<HashSet<Marks>>>);

impl States {
    pub(super) fn have(&self, marks: Marks) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&marks)
    }

    fn add(&self, marks: Marks) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(marks);
    }
}

/// The files.
pub(super) struct Files {
    directory: PathBuf,
    /// The configuration without its marks.
    base: String,
    states: States,
    marks: Marks,
    folder: u64,
}

impl Files {
    /// Writes the first state below `directory`.
    pub(super) fn begin(directory: PathBuf, base: String) -> anyhow::Result<Self> {
        fs::create_dir_all(&directory)?;
        for name in ["gateway.toml", "policy.toml"] {
            symlink(Path::new("..data").join(name), directory.join(name))?;
        }
        let mut files = Self { directory, base, states: States::default(), marks: (0, 0), folder: 0 };
        files.write(Write::Swap)?;
        Ok(files)
    }

    /// The configuration file as the gateway is told of it.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.join("gateway.toml")
    }

    pub(super) fn states(&self) -> States {
        self.states.clone()
    }

    /// Writes a further state.
    pub(super) fn write(&mut self, how: Write) -> anyhow::Result<()> {
        let next = self.marks.0.max(self.marks.1) + 1;
        self.marks = match how {
            // What the link led to may be wrong by now; then one file alone does not mend it.
            Write::Rename => (next, self.marks.1),
            Write::Swap => (next, next),
        };
        // Known before it can be seen.
        self.states.add(self.marks);
        match how {
            Write::Rename => self.rename(&self.configuration()),
            Write::Swap => self.swap(&self.configuration(), &self.policy()),
        }
    }

    /// Writes a state that cannot be taken over, in one of several ways.
    pub(super) fn write_wrong(&mut self, dice: &mut Dice) -> anyhow::Result<()> {
        let right = self.configuration();
        let wrong = match dice.below(5) {
            0 => "listen = [\n".to_owned(),
            1 => format!("{right}\n[model_providers.sea.nothing]\nof = \"that\"\n"),
            2 => right.replace("http://", "ftp://"),
            3 => right.replace("provider = \"sea\"", "provider = \"nobody\""),
            _ => return self.swap(&right, "[default]\nmax_output_tokens = \"many\"\n"),
        };
        self.swap(&wrong, &self.policy())
    }

    fn configuration(&self) -> String {
        let (mark, _) = self.marks;
        let model = model(mark);
        format!(
            "policy_file = \"policy.toml\"\n{}models = [\"{model}\"]\nhttp_headers = {{ x-soak-mark = \"{mark}\" }}\n\n\
             [model_aliases.tide]\nprovider = \"sea\"\nmodel = \"{model}\"\n",
            self.base
        )
    }

    fn policy(&self) -> String {
        format!("[default]\nmax_output_tokens = {}\ninsert_max_output_tokens = true\n", self.marks.1)
    }

    fn rename(&self, configuration: &str) -> anyhow::Result<()> {
        let folder = fs::canonicalize(self.directory.join("..data"))?;
        let next = folder.join("gateway.toml.next");
        fs::write(&next, configuration)?;
        Ok(fs::rename(next, folder.join("gateway.toml"))?)
    }

    fn swap(&mut self, configuration: &str, policy: &str) -> anyhow::Result<()> {
        let old = fs::canonicalize(self.directory.join("..data")).ok();
        self.folder += 1;
        let name = format!("..{}", self.folder);
        let folder = self.directory.join(&name);
        fs::create_dir(&folder)?;
        fs::write(folder.join("gateway.toml"), configuration)?;
        fs::write(folder.join("policy.toml"), policy)?;
        let link = self.directory.join("..next");
        symlink(name, &link)?;
        fs::rename(link, self.directory.join("..data"))?;
        if let Some(old) = old {
            fs::remove_dir_all(old)?;
        }
        Ok(())
    }
}
