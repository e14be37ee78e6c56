//! What clients saw of concurrent transactions, and which anomalies of isolation that proves.
//!
//! Clients append unique values to lists (or write them into registers, whose trail is kept) and read them. When all
//! is over, the lists are read once more: they are the order of the versions of each key. From who wrote
//! what after whom, and who saw what, follows a graph of dependencies between transactions; what must not
//! happen at an isolation level is a cycle of a certain kind in it (Adya 2000; the search follows Kingsbury and
//! Alvaro, "Elle", 2020).
//!
//! ```text
//! T1 -ww-> T2   T2 wrote the version after T1's
//! T1 -wr-> T2   T2 read the version that T1 wrote
//! T1 -rw-> T2   T1 read the version before the one that T2 wrote: it did not see T2
//! ```
//!
//! ```
//! use pg_test::history::{History, Kind, Transaction, anomalies};
//! // Half of a transfer: x is new, y is not.
//! let history = History {
//!     transactions: vec![
//!         Transaction::committed(0, [1, 2]).write(1, 10).write(2, 10),
//!         Transaction::committed(1, [1, 2]).read(1, &[10]).read(2, &[]),
//!     ],
//!     finals: [(1, vec![10]), (2, vec![10])].into(),
//! };
//! let kinds: Vec<Kind> = anomalies(&history).into_iter().map(|anomaly| anomaly.kind).collect();
//! assert_eq!(kinds, [Kind::FracturedRead, Kind::ReadSkew]);
//! ```
//!
//! | file | what |
//! |---|---|
//! | `reads` | what shows in single reads and writes: aborted, intermediate, lost, torn |
//! | `graph` | the dependencies |
//! | `cycle` | strongly connected components and cycles with given kinds of edges |
//! | `check` | all of it together |

mod check;
mod cycle;
mod graph;
mod reads;

use std::collections::BTreeMap;

pub use check::anomalies;

/// Names a list or a register.
pub type Key = i32;
/// Unique among the values written to a key.
pub type Value = i64;

/// What a transaction did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Write {
        key: Key,
        value: Value,
    },
    /// The values that it saw; of a register, the last one alone is known.
    Read {
        key: Key,
        seen: Seen,
        statement: usize,
    },
}

/// What a read has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    List(Vec<Value>),
    Register(Option<Value>),
}

/// What the client was told of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    Aborted,
    Unknown,
}

/// A transaction as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Who ran it; a process runs one at a time.
    pub process: usize,
    /// When it began and ended, by a clock that all share.
    pub time: [u64; 2],
    pub ops: Vec<Op>,
    pub outcome: Outcome,
}

/// All of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub transactions: Vec<Transaction>,
    /// All values of each key in the order in which they were written, read when all was over.
    pub finals: BTreeMap<Key, Vec<Value>>,
}

/// What should not be, from the worst to what snapshot isolation permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged write is not there in the end.
    LostWrite,
    /// Some writes of a transaction are there in the end, others are not.
    Torn,
    /// A value that nobody wrote, or an order of values that is not the final one.
    Garbage,
    /// A read does not see the transaction's own writes.
    Internal,
    /// G1a: a value of a transaction that rolled back.
    AbortedRead,
    /// G1b: a value that its transaction overwrote later.
    IntermediateRead,
    /// G0: writes of two transactions interleave.
    DirtyWrite,
    /// G1c: each of some transactions depends on the next one.
    CircularInformation,
    /// A transaction overwrote a version that it had not seen although it had read the key.
    LostUpdate,
    /// A part of another transaction's writes was seen, another part was not.
    FracturedRead,
    /// G-single: a cycle with one rw edge.
    ReadSkew,
    /// Snapshots that are in no common order: a cycle whose rw edges are apart from each other.
    LongFork,
    /// A transaction saw less than was committed when it began.
    StaleRead,
    /// G2: any other cycle; what snapshot isolation permits and serializability does not.
    WriteSkew,
}

/// What was found, and how it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub story: String,
}

impl Transaction {
    /// A committed one without operations.
    pub fn committed(process: usize, time: [u64; 2]) -> Transaction {
        Transaction { process, time, ops: Vec::new(), outcome: Outcome::Committed }
    }

    /// The same with another outcome.
    pub fn but(mut self, outcome: Outcome) -> Transaction {
        self.outcome = outcome;
        self
    }

    /// The same with a write at its end.
    pub fn write(mut self, key: Key, value: Value) -> Transaction {
        self.ops.push(Op::Write { key, value });
        self
    }

    /// The same with a read of a list at its end, by a statement of its own.
    pub fn read(mut self, key: Key, list: &[Value]) -> Transaction {
        self.ops.push(Op::Read { key, seen: Seen::List(list.to_vec()), statement: self.ops.len() });
        self
    }

    /// The same with a read of a register at its end.
    pub fn read_register(mut self, key: Key, value: Option<Value>) -> Transaction {
        self.ops.push(Op::Read { key, seen: Seen::Register(value), statement: self.ops.len() });
        self
    }

    /// What it wrote, in order.
    pub fn writes(&self) -> impl Iterator<Item = (Key, Value)> {
        self.ops.iter().filter_map(|op| match op {
            Op::Write { key, value } => Some((*key, *value)),
            Op::Read { .. } => None,
        })
    }
}

impl History {
    /// The same with each reading statement of a transaction that only reads as a transaction of its own: what
    /// READ COMMITTED promises is about statements. Reads of transactions that write are left out.
    pub fn by_statement(&self) -> History {
        let mut transactions = Vec::new();
        for transaction in &self.transactions {
            if transaction.writes().next().is_some() {
                let mut writer = transaction.clone();
                writer.ops.retain(|op| matches!(op, Op::Write { .. }));
                transactions.push(writer);
                continue;
            }
            let mut statements: BTreeMap<usize, Vec<Op>> = BTreeMap::new();
            for op in &transaction.ops {
                if let Op::Read { statement, .. } = op {
                    statements.entry(*statement).or_default().push(op.clone());
                }
            }
            transactions.extend(statements.into_values().map(|ops| Transaction { ops, ..transaction.clone() }));
        }
        History { transactions, finals: self.finals.clone() }
    }
}
