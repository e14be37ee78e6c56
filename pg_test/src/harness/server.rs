//! One Postgres server, from a copy of the template to its end.
//!
//! The server is the child of a small `sh` (`supervise.sh`) that holds the read end of a pipe. When
//! this process ends, even by SIGKILL, the pipe closes, and the `sh` stops the server and removes its
//! directory: a server in a `static`, which is never dropped, ends with its test binary.
//!
//! Servers run with `fsync = off` and, against tests that hang, a `statement_timeout` for sessions
//! of the tests (not for those of a coordinator on its nodes).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use super::port::free_port;
use super::{Installation, Scratch, Session};

const SUPERVISE: &str = include_str!("supervise.sh");
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Which programs a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The private Postgres with the extension, which is preloaded.
    Coordinator,
    /// Postgres as it was installed.
    Stock,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, data is written: SIGINT.
    Fast,
    /// As in a crash; the next start recovers: SIGQUIT.
    Immediate,
}

/// A server that stops, and whose directory goes, when it is dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    build: Build,
    folder: PathBuf,
    port: u16,
    settings: String,
    running: Option<Running>,
}

/// A started server's supervisor.
#[derive(Debug)]
struct Running {
    supervisor: Child,
    commands: ChildStdin,
    postmaster: u32,
}

impl Server {
    /// Copies the template below `scratch` and starts a server called `name` on it. `settings` are
    /// lines of postgresql.conf. Panics with the server's log when it does not start.
    pub fn create(scratch: &Scratch, name: &str, build: Build, settings: &str) -> Server {
        let installation = Installation::get();
        let folder = scratch.path().join(name);
        let copied = installation
            .server_command("sh")
            .args(["-c", r#"mkdir "$1" && cp -a "$0" "$1/data""#])
            .args([&installation.template, &folder])
            .status()
            .expect("cannot run sh");
        assert!(copied.success(), "cannot copy the template to {}", folder.display());
        Server::start_in(folder, name, build, settings)
    }

    /// Makes a streaming standby of `primary`, of the same build, and starts it.
    pub fn standby(scratch: &Scratch, name: &str, primary: &Server) -> Server {
        let installation = Installation::get();
        let folder = scratch.path().join(name);
        let bin = match primary.build {
            Build::Coordinator => &installation.pgroot_bin,
            Build::Stock => &installation.stock_bin,
        };
        let copied = installation
            .server_command("sh")
            .args(["-c", r#"mkdir "$1" && "$0" -D "$1/data" -h 127.0.0.1 -p "$2" -U postgres -R -c fast --no-sync"#])
            .args([bin.join("pg_basebackup"), folder.clone(), primary.port.to_string().into()])
            .status()
            .expect("cannot run sh");
        assert!(copied.success(), "cannot copy {} to {}", primary.name, folder.display());
        Server::start_in(folder, name, primary.build, &primary.settings)
    }

    fn start_in(folder: PathBuf, name: &str, build: Build, settings: &str) -> Server {
        if Scratch::keep() {
            fs::write(folder.join("keep"), "").expect("cannot write");
        }
        let mut server =
            Server { name: name.to_owned(), build, folder, port: 0, settings: settings.to_owned(), running: None };
        for _ in 0..10 {
            server.port = free_port();
            match server.try_start() {
                Ok(()) => return server,
                Err(log) if log.contains("Address already in use") => continue,
                Err(log) => panic!("server \"{name}\" did not start:\n{log}"),
            }
        }
        panic!("server \"{name}\" found no free port");
    }

    /// Starts it again after [`Server::stop`], on the same port.
    pub fn start(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("server \"{}\" did not start:\n{log}", self.name);
        }
    }

    /// Stops it; its data stays. Does nothing when it is stopped.
    pub fn stop(&mut self, how: Shutdown) {
        let Some(mut running) = self.running.take() else { return };
        let steps: &[(&str, u64)] = match how {
            Shutdown::Fast => &[("INT", 30), ("QUIT", 10), ("KILL", 10)],
            Shutdown::Immediate => &[("QUIT", 10), ("KILL", 10)],
        };
        for (signal, seconds) in steps {
            running.send(signal);
            if running.ended_within(Duration::from_secs(*seconds)) {
                break;
            }
        }
        running.send("END");
        let _ = running.supervisor.wait();
    }

    /// Stops and starts it.
    pub fn restart(&mut self, how: Shutdown) {
        self.stop(how);
        self.start();
    }

    /// Kills the postmaster, as the kernel does when memory runs out, and waits for the end of it and of its
    /// children, which notice by themselves.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.send("KILL");
            running.ended_within(Duration::from_secs(10));
            running.send("END");
            let _ = running.supervisor.wait();
            let data = self.data_directory();
            let deadline = Instant::now() + Duration::from_secs(10);
            while has_processes(&data) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Replaces the server's own settings (lines of postgresql.conf) from its next start on.
    pub fn configure(&mut self, settings: &str) {
        self.settings = settings.to_owned();
    }

    /// Its name, e.g. `n1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id. Panics when it is stopped.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server is stopped").postmaster
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Connects as the superuser to database `app`.
    pub fn client(&self) -> postgres::Client {
        self.client_as("postgres")
    }

    /// Connects as `role` to database `app`.
    pub fn client_as(&self, role: &str) -> postgres::Client {
        self.config(role)
            .connect(postgres::NoTls)
            .unwrap_or_else(|error| panic!("cannot connect to \"{}\": {error}", self.name))
    }

    /// What [`Server::client_as`] connects with, to be changed at will.
    pub fn config(&self, role: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(role).dbname("app").connect_timeout(Duration::from_secs(20));
        config
    }

    /// A connection as the superuser that keeps all that a simple query returns.
    pub fn session(&self) -> Session {
        Session::connect(self.port, "postgres")
    }

    /// As [`Server::session`], as `role`.
    pub fn session_as(&self, role: &str) -> Session {
        Session::connect(self.port, role)
    }

    /// Runs a psql script, which may have backslash commands; returns its output and its errors.
    pub fn psql(&self, script: &str) -> (String, String) {
        self.psql_with(&[], script)
    }

    /// As [`Server::psql`], with options of psql, e.g. `["-At"]`.
    pub fn psql_with(&self, options: &[&str], script: &str) -> (String, String) {
        let installation = Installation::get();
        let mut psql = installation
            .command(installation.pgroot_bin.join("psql"))
            .args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-d", "app", "-p"])
            .arg(self.port.to_string())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot run psql");
        let mut input = psql.stdin.take().expect("piped");
        let script = script.to_owned();
        let writer = std::thread::spawn(move || {
            // psql may end before it has read everything.
            let _ = input.write_all(script.as_bytes());
        });
        let output = psql.wait_with_output().expect("cannot wait for psql");
        writer.join().expect("the writer does not panic");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(output.stdout), text(output.stderr))
    }

    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.running.is_none(), "server \"{}\" is already running", self.name);
        let installation = Installation::get();
        let (bin, preload) = match self.build {
            Build::Coordinator => (&installation.pgroot_bin, "sharding"),
            Build::Stock => (&installation.stock_bin, ""),
        };
        self.write_configuration(preload);
        let log_before = self.log().len();

        let mut supervisor = installation
            .server_command("sh")
            .args(["-c", SUPERVISE, "sh"])
            .args([bin.join("postgres"), self.folder.clone()])
            // Its own group: a Ctrl-C for the test must not reach it, or nobody cleans up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run sh");
        let commands = supervisor.stdin.take().expect("piped");
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("cannot read from the supervisor");
        let postmaster = line.trim().parse().expect("the supervisor prints a process id");
        let mut running = Running { supervisor, commands, postmaster };

        let deadline = Instant::now() + START_TIMEOUT;
        while !accepts_connections(&self.data_directory(), postmaster) {
            if running.ended() || Instant::now() > deadline {
                running.send("KILL");
                running.send("END");
                let _ = running.supervisor.wait();
                return Err(self.log().split_off(log_before));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.running = Some(running);
        Ok(())
    }

    fn write_configuration(&self, preload: &str) {
        let statement_timeout = match self.build {
            Build::Coordinator => "statement_timeout = '180s'",
            Build::Stock => "",
        };
        let text = format!(
            "port = {}\nunix_socket_directories = '{}'\nshared_preload_libraries = '{preload}'\n\
             fsync = off\nsynchronous_commit = on\nshared_buffers = 64MB\n{statement_timeout}\n{}\n",
            self.port,
            self.folder.display(),
            self.settings,
        );
        // The file is there, of the servers' user, from the template.
        fs::write(self.data_directory().join("server.conf"), text).expect("cannot write server.conf");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Shutdown::Immediate);
        if !Scratch::keep() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Running {
    fn send(&mut self, word: &str) {
        let _ = writeln!(self.commands, "{word}");
    }

    /// Whether the postmaster has ended: it is a zombie until the supervisor waits for it.
    fn ended(&self) -> bool {
        match fs::read_to_string(format!("/proc/{}/stat", self.postmaster)) {
            Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
            Err(_) => true,
        }
    }

    fn ended_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.ended() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

/// Whether a process works in this directory, as those of a server do in its data directory.
fn has_processes(data: &Path) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|folder| folder == data))
}

/// Whether postmaster.pid, of this very postmaster, says "ready" or, in a standby, "standby": the status is its eighth line
/// (LOCK_FILE_LINE_PM_STATUS).
fn accepts_connections(data: &Path, postmaster: u32) -> bool {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return false };
    let mut lines = text.lines();
    lines.next() == Some(postmaster.to_string().as_str())
        && lines.nth(6).is_some_and(|status| matches!(status.trim(), "ready" | "standby"))
}
