//! Which Postgres the tests run, as `scripts/env` describes it in the environment.
//!
//! `SHARDING_PGROOT_BIN` has the extension, `SHARDING_STOCK_BIN` is the untouched installation (when
//! it is not set, the first serves for both), `SHARDING_TEMPLATE` is a data directory to copy, and
//! `SHARDING_RUN_AS` the user for the servers, empty to run them as oneself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Programs, template and user for the servers of this process.
#[derive(Debug)]
pub struct Installation {
    /// Programs of the private Postgres that has the extension.
    pub pgroot_bin: PathBuf,
    /// Programs of a Postgres without it.
    pub stock_bin: PathBuf,
    /// A data directory with superuser `postgres` and database `app`.
    pub template: PathBuf,
    /// Numeric user and group of the servers, when they are not this process's own.
    pub run_as: Option<(u32, u32)>,
    /// Where libpq is, for an installation whose programs do not find it by themselves.
    library_path: Option<String>,
}

impl Installation {
    /// The one of this process. Panics, saying what to do, when the environment describes none.
    pub fn get() -> &'static Installation {
        static INSTALLATION: OnceLock<Installation> = OnceLock::new();
        INSTALLATION.get_or_init(Installation::from_environment)
    }

    fn from_environment() -> Installation {
        let pgroot_bin = PathBuf::from(
            variable("SHARDING_PGROOT_BIN")
                .expect("SHARDING_PGROOT_BIN is not set; run `make test`, or: make build && eval \"$(scripts/env)\""),
        );
        let template = PathBuf::from(
            variable("SHARDING_TEMPLATE").expect("SHARDING_TEMPLATE is not set; run: eval \"$(scripts/env)\""),
        );
        Installation {
            stock_bin: variable("SHARDING_STOCK_BIN").map_or_else(|| pgroot_bin.clone(), PathBuf::from),
            run_as: variable("SHARDING_RUN_AS").map(|user| (id("-u", &user), id("-g", &user))),
            library_path: variable("SHARDING_LIBRARY_PATH"),
            pgroot_bin,
            template,
        }
    }

    /// A command in a clean environment: no locale, time zone or `RUST_BACKTRACE` of the caller.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/")
            .env("LANG", "C.UTF-8")
            .current_dir("/");
        if let Some(path) = &self.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }

    /// As [`Installation::command`], run by the servers' user.
    pub fn server_command(&self, program: impl AsRef<Path>) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = self.command(program);
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
        command
    }

    /// The major version, e.g. 15.
    pub fn major_version(&self) -> u32 {
        let output = self
            .command(self.pgroot_bin.join("postgres"))
            .arg("--version")
            .output()
            .expect("cannot run postgres --version");
        let text = String::from_utf8_lossy(&output.stdout);
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or_else(|| panic!("cannot read a version from {text:?}"))
    }
}

/// A variable of the environment; unset and empty mean the same.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn id(option: &str, user: &str) -> u32 {
    let output = Command::new("id").args([option, user]).output().expect("cannot run `id`");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("SHARDING_RUN_AS: there is no user \"{user}\""))
}
