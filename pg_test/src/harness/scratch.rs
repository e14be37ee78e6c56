//! A directory of the servers' user, removed when dropped.
//!
//! Its name is short (`/tmp/shard-4711-0`), because a Unix socket's may have 107 bytes only. Set
//! `SHARDING_KEEP=1` to keep the directories, with the servers' logs, for a look.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Installation;

static CREATED: AtomicUsize = AtomicUsize::new(0);

/// See the module.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates an empty one.
    pub fn new() -> Scratch {
        let mut base = std::env::temp_dir();
        if base.as_os_str().len() > 40 {
            base = PathBuf::from("/tmp");
        }
        loop {
            let number = CREATED.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("shard-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Scratch::hand_over(path),
                // Left behind by an earlier process of the same id.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => panic!("cannot create {}: {error}", path.display()),
            }
        }
    }

    fn hand_over(path: PathBuf) -> Scratch {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("cannot chmod");
        if let Some((user, group)) = Installation::get().run_as {
            std::os::unix::fs::chown(&path, Some(user), Some(group)).expect("cannot chown");
        }
        Scratch { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether directories are kept for a look.
    pub fn keep() -> bool {
        std::env::var_os("SHARDING_KEEP").is_some_and(|value| !value.is_empty())
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !Scratch::keep() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
