//! What shows in single reads and writes, against the final order of each key's values.

use super::{Anomaly, History, Key, Kind, Op, Outcome, Seen, Transaction, Value};
use std::collections::{HashMap, HashSet};

/// The history with what follows for each transaction and version.
pub struct Known<'a> {
    pub history: &'a History,
    /// Who wrote a value.
    pub writers: HashMap<(Key, Value), usize>,
    /// Where a value is in its key's final list, from 1: the number of the version that it makes.
    pub versions: HashMap<(Key, Value), usize>,
    /// Whether the transaction has happened, by what is there in the end.
    pub happened: Vec<bool>,
}

/// A read of another transaction's version: 0 is the empty list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    pub reader: usize,
    pub key: Key,
    pub version: usize,
}

impl<'a> Known<'a> {
    pub fn of(history: &'a History) -> Known<'a> {
        let mut writers = HashMap::new();
        for (t, transaction) in history.transactions.iter().enumerate() {
            writers.extend(transaction.writes().map(|written| (written, t)));
        }
        let mut versions = HashMap::new();
        for (key, values) in &history.finals {
            versions.extend(values.iter().enumerate().map(|(i, value)| ((*key, *value), i + 1)));
        }
        let happened = history
            .transactions
            .iter()
            .map(|transaction| match transaction.outcome {
                Outcome::Committed => true,
                Outcome::Aborted => false,
                Outcome::Unknown => transaction.writes().any(|written| versions.contains_key(&written)),
            })
            .collect();
        Known { history, writers, versions, happened }
    }

    /// The transaction that wrote a version.
    pub fn writer(&self, key: Key, version: usize) -> Option<usize> {
        let value = self.history.finals.get(&key)?.get(version.checked_sub(1)?)?;
        self.writers.get(&(key, *value)).copied()
    }

    /// The reads of transactions that happened, as far as they saw others' versions.
    pub fn external_reads(&self) -> Vec<External> {
        let mut reads = Vec::new();
        for (reader, transaction) in self.history.transactions.iter().enumerate().filter(|(t, _)| self.happened[*t]) {
            let mut written: HashSet<Key> = HashSet::new();
            for op in &transaction.ops {
                match op {
                    Op::Write { key, .. } => drop(written.insert(*key)),
                    Op::Read { key, seen, .. } if !written.contains(key) => {
                        if let Some(version) = self.version_of(*key, seen) {
                            reads.push(External { reader, key: *key, version });
                        }
                    }
                    Op::Read { .. } => {}
                }
            }
        }
        reads
    }

    fn version_of(&self, key: Key, seen: &Seen) -> Option<usize> {
        match seen.last() {
            None => Some(0),
            Some(value) => self.versions.get(&(key, value)).copied(),
        }
    }

    /// What is wrong with single reads and writes.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for (t, transaction) in self.history.transactions.iter().enumerate() {
            self.check_writes(t, transaction, &mut found);
            self.check_reads(t, transaction, &mut found);
        }
        for (key, values) in &self.history.finals {
            for value in values.iter().filter(|value| !self.writers.contains_key(&(*key, **value))) {
                found.push(anomaly(Kind::Garbage, format!("nobody wrote {value} into {key}")));
            }
        }
        self.check_updates(&mut found);
        self.check_fractures(&mut found);
        found
    }

    fn check_writes(&self, t: usize, transaction: &Transaction, found: &mut Vec<Anomaly>) {
        let (there, missing): (Vec<_>, Vec<_>) =
            transaction.writes().partition(|written| self.versions.contains_key(written));
        match transaction.outcome {
            Outcome::Committed if !missing.is_empty() => {
                found.push(anomaly(Kind::LostWrite, format!("T{t} has committed, and {missing:?} is gone")));
            }
            Outcome::Aborted if !there.is_empty() => {
                found.push(anomaly(Kind::AbortedRead, format!("T{t} has rolled back, and {there:?} is there")));
            }
            Outcome::Unknown if !there.is_empty() && !missing.is_empty() => {
                found.push(anomaly(Kind::Torn, format!("of T{t} {there:?} is there, {missing:?} is not")));
            }
            _ => {}
        }
    }

    fn check_reads(&self, t: usize, transaction: &Transaction, found: &mut Vec<Anomaly>) {
        let mut own: HashMap<Key, Vec<Value>> = HashMap::new();
        for op in &transaction.ops {
            let (key, seen) = match op {
                Op::Write { key, value } => {
                    own.entry(*key).or_default().push(*value);
                    continue;
                }
                Op::Read { key, seen, .. } => (*key, seen),
            };
            let written = own.get(&key).map_or(&[][..], Vec::as_slice);
            if !seen.ends_with(written) {
                found.push(anomaly(Kind::Internal, format!("T{t} wrote {written:?} into {key} and reads {seen:?}")));
                continue;
            }
            let others = seen.others(written.len());
            self.check_origin(t, key, others, found);
            if let Seen::List(list) = seen {
                let before = &list[..list.len() - written.len()];
                let order = self.history.finals.get(&key).map_or(&[][..], Vec::as_slice);
                // What rolled back is in no final list, and was reported.
                if !order.starts_with(before) && before.iter().all(|value| order.contains(value)) {
                    found
                        .push(anomaly(Kind::Garbage, format!("T{t} reads {list:?} of {key}, which ends as {order:?}")));
                }
            }
        }
    }

    /// Whose values these are, and whether those should be seen.
    fn check_origin(&self, t: usize, key: Key, values: &[Value], found: &mut Vec<Anomaly>) {
        for (i, value) in values.iter().enumerate() {
            let Some(writer) = self.writers.get(&(key, *value)).copied() else {
                found.push(anomaly(Kind::Garbage, format!("T{t} reads {value} of {key}, which nobody wrote")));
                continue;
            };
            if !self.happened[writer] {
                let story = format!("T{t} reads {value} of {key} by T{writer}, which has rolled back");
                found.push(anomaly(Kind::AbortedRead, story));
            }
            let last = self.history.transactions[writer].writes().filter(|(k, _)| *k == key).last();
            if i + 1 == values.len() && writer != t && last != Some((key, *value)) {
                let story = format!("T{t} reads {value} of {key}, which T{writer} overwrote");
                found.push(anomaly(Kind::IntermediateRead, story));
            }
        }
    }

    /// Reads followed by a write of the same key, with somebody else's write in between.
    fn check_updates(&self, found: &mut Vec<Anomaly>) {
        for read in self.external_reads() {
            let transaction = &self.history.transactions[read.reader];
            let Some(written) = transaction.writes().find(|(key, _)| *key == read.key) else { continue };
            let Some(version) = self.versions.get(&written).copied() else { continue };
            if version > read.version + 1 {
                let over = self.writer(read.key, read.version + 1);
                let story =
                    format!("T{} read {read:?} and wrote version {version} over that of T{over:?}", read.reader);
                found.push(anomaly(Kind::LostUpdate, story));
            }
        }
    }

    /// Readers that saw one write of a transaction (or what came after it) and not another one.
    fn check_fractures(&self, found: &mut Vec<Anomaly>) {
        let mut reads: HashMap<usize, Vec<External>> = HashMap::new();
        for read in self.external_reads() {
            reads.entry(read.reader).or_default().push(read);
        }
        let mut first_writes: Vec<HashMap<Key, usize>> = vec![HashMap::new(); self.history.transactions.len()];
        for ((key, value), version) in &self.versions {
            if let Some(writer) = self.writers.get(&(*key, *value)) {
                let first = first_writes[*writer].entry(*key).or_insert(*version);
                *first = (*first).min(*version);
            }
        }
        let mut readers: Vec<_> = reads.into_iter().collect();
        readers.sort_by_key(|(reader, _)| *reader);
        for (reader, reads) in readers {
            for missed in &reads {
                // It is enough to look at the first transaction that the read has missed.
                let Some(writer) = self.writer(missed.key, missed.version + 1).filter(|w| *w != reader) else {
                    continue;
                };
                let wrote = &first_writes[writer];
                let seen = reads.iter().find(|seen| {
                    seen.key != missed.key && wrote.get(&seen.key).is_some_and(|version| seen.version >= *version)
                });
                if let Some(seen) = seen {
                    let story = format!("T{reader} saw T{writer} in {seen:?} and not in {missed:?}");
                    found.push(anomaly(Kind::FracturedRead, story));
                }
            }
        }
    }
}

impl Seen {
    fn last(&self) -> Option<Value> {
        match self {
            Seen::List(list) => list.last().copied(),
            Seen::Register(value) => *value,
        }
    }

    /// Whether these values, the transaction's own, were the last to be written.
    fn ends_with(&self, own: &[Value]) -> bool {
        match self {
            Seen::List(list) => list.ends_with(own),
            Seen::Register(value) => own.last().is_none_or(|own| *value == Some(*own)),
        }
    }

    /// The values of others, where so many of the last ones are the transaction's own.
    fn others(&self, own: usize) -> &[Value] {
        match self {
            Seen::List(list) => &list[..list.len() - own],
            Seen::Register(value) if own == 0 => value.as_slice(),
            Seen::Register(_) => &[],
        }
    }
}

fn anomaly(kind: Kind, story: String) -> Anomaly {
    Anomaly { kind, story }
}
