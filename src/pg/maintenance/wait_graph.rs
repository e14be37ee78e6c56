//! Who waits for whom: the locks of this server and of the nodes in use, and the queues of the pool.
//!
//! A session on a node belongs to the backend that has leased its connection. What a prepared transaction of ours
//! holds belongs to the backend that is committing it.

use crate::catalog::{ClusterMap, NodeId};
use crate::error::{Error, Result};
use crate::pg::maintenance::shared::my_database;
use crate::pg::pool::settings::size;
use crate::pg::pool::shared::{locked, table};
use crate::pg::session::command::TextRows;
use crate::pg::session::query_outside_each;
use crate::pg::{spi, transaction_log};
use crate::pool::slot::State;
use crate::transaction::deadlock::{Graph, Place, Process, Wait};
use crate::transaction::gid::GlobalTransaction;
use crate::transaction::lock_mode::conflict;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a node may take to say who waits there.
const ANSWER_BOUND: Duration = Duration::from_secs(2);

/// One row per process that waits for a lock: process, since when, who is in the way, lock mode, what it is; the gids
/// of prepared transactions that hold it, each behind its lock mode. A prepared transaction has no process; its locks
/// are those with the virtual number of the one that holds its own number.
const LOCKS: &str = "
SELECT coalesce(a.leader_pid, l.pid), l.waitstart, b.pids, l.mode,
       CASE l.locktype
            WHEN 'relation' THEN 'relation ' || l.relation::pg_catalog.regclass::pg_catalog.text
            WHEN 'tuple' THEN pg_catalog.format('tuple (%s,%s) of relation %s', l.page, l.tuple,
                                                l.relation::pg_catalog.regclass)
            WHEN 'transactionid' THEN 'transaction ' || l.transactionid::pg_catalog.text
            WHEN 'virtualxid' THEN 'virtual transaction ' || l.virtualxid
            WHEN 'advisory' THEN pg_catalog.format('advisory lock [%s,%s,%s]', l.classid, l.objid, l.objsubid)
            ELSE l.locktype
       END,
       CASE WHEN 0 = ANY (b.pids) THEN
            (SELECT pg_catalog.string_agg(h.mode || ' ' || p.gid, E'\\n')
             FROM pg_catalog.pg_locks h
                  JOIN pg_catalog.pg_locks x
                    ON x.virtualtransaction = h.virtualtransaction AND x.locktype = 'transactionid' AND x.pid IS NULL
                  JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
             WHERE h.granted AND h.pid IS NULL AND h.locktype = l.locktype
                   AND (h.database, h.relation, h.page, h.tuple, h.virtualxid, h.transactionid, h.classid, h.objid,
                        h.objsubid)
                       IS NOT DISTINCT FROM
                       (l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid,
                        l.objsubid))
       END
FROM pg_catalog.pg_locks l
     LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(l.pid) a ON true
     CROSS JOIN LATERAL (SELECT pg_catalog.pg_blocking_pids(l.pid) AS pids OFFSET 0) b
WHERE NOT l.granted AND l.pid IS NOT NULL AND l.waitstart IS NOT NULL
      AND coalesce(l.database, 0) IN (0, (SELECT d.oid FROM pg_catalog.pg_database d
                                          WHERE d.datname = pg_catalog.current_database()))";

/// One row per backend of this database: process, transaction, start of the transaction in microseconds.
const BACKENDS: &str = "
SELECT a.pid, a.backend_xid, (extract(epoch FROM a.xact_start) * 1000000)::pg_catalog.int8
FROM pg_catalog.pg_stat_get_activity(NULL) a
WHERE a.datid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())";

/// The waits at one time.
pub struct Snapshot {
    pub graph: Graph,
    /// When the transaction of each backend that waits for a node or a connection began.
    starts: HashMap<u32, i64>,
    /// The nodes that could not be asked.
    pub failed: Vec<(NodeId, Error)>,
}

impl Snapshot {
    /// When the transaction of a process began, if it can be made to give way: it waits for a node or a connection.
    pub fn start_of(&self, process: &Process) -> Option<i64> {
        match process {
            Process::Backend(pid) => self.starts.get(pid).copied(),
            Process::Stranger { .. } => None,
        }
    }
}

/// The pool as it is: which backend has which session of which node, who holds and who waits for connections.
struct Pool {
    sessions: HashMap<(NodeId, i32), u32>,
    waits: Vec<Wait>,
}

/// Whether anybody can wait in a circle: not one session alone.
pub fn is_possible() -> bool {
    let pool = pool_now();
    pool.sessions.len() + pool.waits.len() > 1
}

/// Asks this server and all nodes in use; inside a transaction.
pub fn take(map: &ClusterMap) -> Result<Snapshot> {
    let pool = pool_now();
    let mut nodes: Vec<NodeId> =
        pool.sessions.keys().map(|(node, _)| *node).filter(|n| map.node_ids().contains(n)).collect();
    nodes.sort();
    nodes.dedup();
    let answers = query_outside_each(&nodes, LOCKS, Instant::now() + ANSWER_BOUND);
    // Read after the nodes: a transaction that is prepared there is still known here if it is not over.
    let mut starts = HashMap::new();
    let mut committing = HashMap::new();
    for row in spi::read_now(BACKENDS) {
        let number = |i: usize| row.get(i)?.as_ref()?.parse::<i64>().ok();
        let Some(pid) = number(0) else { continue };
        starts.extend(number(2).map(|start| (pid as u32, start)));
        committing.extend(number(1).map(|xid| (xid as u32, pid as u32)));
    }
    let mut waits = pool.waits;
    let coordinator = transaction_log::coordinator();
    let backend_of_gid = |gid: &str| {
        let transaction = GlobalTransaction::of_gid(gid, coordinator)?;
        committing.get(&(transaction.xid as u32)).map(|pid| Process::Backend(*pid))
    };
    let mut failed = Vec::new();
    for (node, answer) in answers {
        let process = |pid: i32| match pool.sessions.get(&(node, pid)) {
            Some(backend) => Process::Backend(*backend),
            None => Process::Stranger { node, pid },
        };
        match answer {
            Ok(rows) => waits.extend(waits_in(rows, Place::Node(node), process, backend_of_gid)),
            Err(error) => failed.push((node, error)),
        }
    }
    let here = |pid: i32| Process::Backend(pid as u32);
    waits.extend(waits_in(spi::read_now(LOCKS), Place::Here, here, |_| None));
    let can_be_told: HashSet<u32> = waits
        .iter()
        .filter_map(|wait| match wait.waiter {
            Process::Backend(pid) if wait.place != Place::Here => Some(pid),
            _ => None,
        })
        .collect();
    starts.retain(|pid, _| can_be_told.contains(pid));
    Ok(Snapshot { graph: Graph::new(waits), starts, failed })
}

/// The waits that a server has told of.
fn waits_in(
    rows: TextRows,
    place: Place,
    process: impl Fn(i32) -> Process,
    backend_of_gid: impl Fn(&str) -> Option<Process>,
) -> Vec<Wait> {
    let mut waits = Vec::new();
    for row in rows {
        let [Some(pid), Some(since), Some(pids), Some(mode), Some(object), prepared] = &row[..] else { continue };
        let Ok(pid) = pid.parse::<i32>() else { continue };
        let pids = pids.trim_matches(['{', '}']).split(',').filter_map(|pid| pid.parse::<i32>().ok());
        let mut blockers: Vec<(Process, i32)> = pids.filter(|pid| *pid != 0).map(|pid| (process(pid), pid)).collect();
        for line in prepared.iter().flat_map(|lines| lines.lines()) {
            if let Some((held, gid)) = line.split_once(' ')
                && conflict(held, mode)
            {
                blockers.extend(backend_of_gid(gid).map(|backend| (backend, 0)));
            }
        }
        blockers.sort();
        blockers.dedup();
        let what = format!("{mode} on {object}");
        waits.push(Wait { waiter: process(pid), place, pid, since: since.clone(), what, blockers });
    }
    waits
}

fn pool_now() -> Pool {
    let mut pool = Pool { sessions: HashMap::new(), waits: Vec::new() };
    let Some(table) = table() else { return pool };
    let database = my_database();
    locked(table, |all| {
        let (_, holds) = all.waits_and_holds();
        let of_this = |index: usize| table.pools[index].database.load(Ordering::Relaxed) == database;
        let node_of = |index: usize| NodeId(table.pools[index].node.load(Ordering::Relaxed));
        for slot in table.slots {
            let index = slot.pool.load(Ordering::Relaxed) as usize;
            if let State::Leased(owner) = slot.word().state
                && of_this(index)
            {
                pool.sessions.insert((node_of(index), slot.facts.cancel_process.load(Ordering::Relaxed)), owner.0);
            }
        }
        for (owner, index, ticket) in all.queue() {
            if !of_this(index) || all.has_spare(index, size()) {
                continue;
            }
            let holders = holds.iter().filter(|(_, held)| *held == index);
            pool.waits.push(Wait {
                waiter: Process::Backend(owner.0),
                place: Place::Pool(node_of(index)),
                pid: owner.0 as i32,
                since: ticket.to_string(),
                what: "a connection".to_string(),
                blockers: holders.map(|(holder, _)| (Process::Backend(holder.0), holder.0 as i32)).collect(),
            });
        }
    });
    pool
}
