//! The file in which a desk says where its agent can be reached, believed for as long as the desk lives.
//!
//! A desk that is killed leaves its file behind, and whoever listens there by then shall be shown no key. The desk's own lock
//! would not tell: a desk that only starts holds it too, beside the file of one before it, and whoever tried it would refuse
//! a desk that starts at this moment. So the file itself is locked.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use service_runtime::listen::Address;

/// Where the others find this desk's agent; gone with it.
#[derive(Debug)]
pub(crate) struct AddressFile {
    path: PathBuf,
    /// The kernel lets go of the lock however this process ends; the services it starts do not inherit it.
    _locked: File,
}

impl AddressFile {
    /// Only for who has taken the data directory.
    pub(crate) fn write(path: PathBuf, agent: &Address) -> anyhow::Result<Self> {
        let locked = publish(&path, agent).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, _locked: locked })
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // Nobody believes one that could not be removed.
        let _ = fs::remove_file(&self.path);
    }
}

/// The file gets its name when it is whole and locked, so that nobody finds it otherwise.
fn publish(path: &Path, agent: &Address) -> std::io::Result<File> {
    let unnamed = path.with_added_extension("new");
    let mut file = File::create(&unnamed)?;
    file.write_all(agent.to_string().as_bytes())?;
    file.try_lock()?;
    fs::rename(unnamed, path)?;
    Ok(file)
}

/// The address of the agent of the desk that is up, if its file is there and a desk has it.
pub(crate) fn find(path: &Path) -> Option<Address> {
    let mut file = File::open(path).ok()?;
    // Refuses nobody: readers share this lock, and a desk locks a file of its own before it has this name. What is read
    // below is of the file that was tried, whichever has the name by then.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    let mut address = String::new();
    file.read_to_string(&mut address).ok()?;
    address.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_believed_while_its_desk_lives() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("agent.address");
        let [killed, alive]: [Address; 2] =
            ["127.0.0.1:4500", "127.0.0.1:4501"].map(|at| at.parse().unwrap());
        assert_eq!(find(&path), None);
        fs::write(&path, killed.to_string()).unwrap();
        assert_eq!(find(&path), None);

        // Somebody looks at this moment, and a desk is not kept from starting, nor is another who looks from finding it.
        let looks = File::open(&path).unwrap();
        looks.try_lock_shared().unwrap();
        let desk = AddressFile::write(path.clone(), &alive).unwrap();
        assert_eq!([find(&path), find(&path)], [Some(alive.clone()), Some(alive)]);
        drop(desk);
        assert!(!path.exists());
    }
}
