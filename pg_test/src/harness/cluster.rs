//! A coordinator and its nodes.
//!
//! The nodes `n1`.. are stock Postgres servers; node `i` below counts from 1, as their names do. The
//! coordinator has the extension preloaded and created in `app`, and the nodes added.

use super::{Build, Scratch, Server, Session, Shutdown};

/// Further lines of postgresql.conf.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// For the coordinator.
    pub coordinator: &'a str,
    /// For every node.
    pub node: &'a str,
}

/// See the module. Dropping it stops the servers at once and removes their directories.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the coordinator uses the nodes, and all use the directory.
    coordinator: Server,
    nodes: Vec<Server>,
    _scratch: Scratch,
}

impl Cluster {
    /// Starts one with `nodes` nodes, 0 for a coordinator alone.
    pub fn start(nodes: usize) -> Cluster {
        Cluster::start_with(nodes, Settings::default())
    }

    /// Starts one with settings of its own.
    pub fn start_with(nodes: usize, settings: Settings) -> Cluster {
        let cluster = Cluster::start_unconfigured(nodes, settings);
        let mut client = cluster.client();
        let failed =
            |what: &str, error: postgres::Error| -> ! { panic!("{what}: {error:?}\n{}", cluster.coordinator.log()) };
        if let Err(error) = client.batch_execute("CREATE EXTENSION sharding") {
            failed("CREATE EXTENSION", error);
        }
        for node in &cluster.nodes {
            let sql = format!("SELECT {}", cluster.add_node_call(node));
            if let Err(error) = client.batch_execute(&sql) {
                failed(&sql, error);
            }
        }
        cluster
    }

    /// Starts the servers only: without the extension created, without nodes added.
    pub fn start_unconfigured(nodes: usize, settings: Settings) -> Cluster {
        let scratch = Scratch::new();
        let (coordinator, nodes) = std::thread::scope(|scope| {
            let scratch = &scratch;
            let starting: Vec<_> = (1..=nodes)
                .map(|i| {
                    let name = format!("n{i}");
                    scope.spawn(move || Server::create(scratch, &name, Build::Stock, settings.node))
                })
                .collect();
            let coordinator = Server::create(scratch, "coordinator", Build::Coordinator, settings.coordinator);
            let nodes = starting
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            (coordinator, nodes)
        });
        Cluster { coordinator, nodes, _scratch: scratch }
    }

    /// The call that adds `server` under its own name, e.g. to add a node later.
    pub fn add_node_call(&self, server: &Server) -> String {
        format!("sharding.add_node('{}', '127.0.0.1', {}, 'app', 'postgres')", server.name(), server.port())
    }

    /// The coordinator.
    pub fn coordinator(&self) -> &Server {
        &self.coordinator
    }

    /// The coordinator, to stop and start it.
    pub fn coordinator_mut(&mut self) -> &mut Server {
        &mut self.coordinator
    }

    /// How many nodes it has.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Node `i`, from 1.
    pub fn node(&self, i: usize) -> &Server {
        &self.nodes[i - 1]
    }

    /// Node `i`, to stop and start it.
    pub fn node_mut(&mut self, i: usize) -> &mut Server {
        &mut self.nodes[i - 1]
    }

    /// The coordinator's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.coordinator.port()
    }

    /// Connects to the coordinator as the superuser.
    pub fn client(&self) -> postgres::Client {
        self.coordinator.client()
    }

    /// Connects to the coordinator as `role`.
    pub fn client_as(&self, role: &str) -> postgres::Client {
        self.coordinator.client_as(role)
    }

    /// Connects to node `i` as the superuser.
    pub fn node_client(&self, i: usize) -> postgres::Client {
        self.node(i).client()
    }

    /// See [`Server::session`]; on the coordinator.
    pub fn session(&self) -> Session {
        self.coordinator.session()
    }

    /// See [`Server::psql`]; on the coordinator.
    pub fn psql(&self, script: &str) -> (String, String) {
        self.coordinator.psql(script)
    }

    /// Stops node `i`, as in a crash or fast.
    pub fn stop_node(&mut self, i: usize, immediate: bool) {
        let how = if immediate { Shutdown::Immediate } else { Shutdown::Fast };
        self.node_mut(i).stop(how);
    }

    /// Starts node `i` after [`Cluster::stop_node`], on the same port.
    pub fn start_node(&mut self, i: usize) {
        self.node_mut(i).start();
    }

    /// Stops node `i` fast and starts it.
    pub fn restart_node(&mut self, i: usize) {
        self.node_mut(i).restart(Shutdown::Fast);
    }
}
