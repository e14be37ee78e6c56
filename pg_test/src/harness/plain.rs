//! One plain Postgres: the reference that a cluster is compared with, or one more node.

use super::{Build, Scratch, Server, Session};

/// A stock Postgres with an empty database `app`.
#[derive(Debug)]
pub struct Plain {
    // Dropped in this order: the server must be gone before its directory.
    server: Server,
    _scratch: Scratch,
}

impl Plain {
    /// Starts one.
    pub fn start() -> Plain {
        Plain::start_with("")
    }

    /// Starts one with further lines of postgresql.conf.
    pub fn start_with(settings: &str) -> Plain {
        let scratch = Scratch::new();
        let settings = format!("statement_timeout = '180s'\n{settings}");
        let server = Server::create(&scratch, "plain", Build::Stock, &settings);
        Plain { server, _scratch: scratch }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The server, to stop and start it.
    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Connects as the superuser.
    pub fn client(&self) -> postgres::Client {
        self.server.client()
    }

    /// Connects as `role`.
    pub fn client_as(&self, role: &str) -> postgres::Client {
        self.server.client_as(role)
    }

    /// See [`Server::session`].
    pub fn session(&self) -> Session {
        self.server.session()
    }

    /// See [`Server::psql`].
    pub fn psql(&self, script: &str) -> (String, String) {
        self.server.psql(script)
    }
}
