//! Names of prepared transactions on the nodes.
//!
//! `sharding_<system identifier>_<database oid>_<xid>_<nonce>_<n>`: whose they are (a coordinator
//! database), which of its transactions, which of its participants. The part before `_<n>` is what
//! `sharding.transaction.gid` holds.
//!
//! The xid (64 bits, so that a wrapped counter names another one) tells whether the transaction is
//! in progress. It does not name it: a coordinator that crashes before it has flushed anything of a
//! transaction gives the same xid again, and what the first one left prepared must not be taken for
//! the second one's. Hence the nonce.

/// A coordinator database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    pub system_identifier: u64,
    pub database: u32,
}

/// A transaction of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlobalTransaction {
    pub coordinator: Coordinator,
    pub xid: u64,
    /// A random number.
    pub nonce: u64,
}

impl Coordinator {
    /// What the gids of all its transactions begin with.
    pub fn prefix(&self) -> String {
        format!("sharding_{}_{}_", self.system_identifier, self.database)
    }
}

impl GlobalTransaction {
    /// The name in the coordinator's log.
    pub fn log_name(&self) -> String {
        format!("{}{}_{:016x}", self.coordinator.prefix(), self.xid, self.nonce)
    }

    /// The gid on the `n`th participant.
    pub fn gid(&self, n: usize) -> String {
        format!("{}_{n}", self.log_name())
    }

    /// The transaction of `coordinator` that a node's gid belongs to; `None` if it is not ours.
    pub fn of_gid(gid: &str, coordinator: Coordinator) -> Option<GlobalTransaction> {
        let (xid, rest) = gid.strip_prefix(&coordinator.prefix())?.split_once('_')?;
        let (nonce, n) = rest.split_once('_')?;
        n.parse::<usize>().ok()?;
        Some(GlobalTransaction { coordinator, xid: xid.parse().ok()?, nonce: u64::from_str_radix(nonce, 16).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gid_tells_its_transaction_and_nobody_elses() {
        let ours = Coordinator { system_identifier: u64::MAX, database: 5 };
        let transaction = GlobalTransaction { coordinator: ours, xid: 1 << 40, nonce: 0xabc };
        let gid = transaction.gid(12);
        assert!(gid.len() < 200, "the limit of Postgres");
        assert!(gid.starts_with(&transaction.log_name()));
        assert_eq!(GlobalTransaction::of_gid(&gid, ours), Some(transaction));
        let reborn = GlobalTransaction { nonce: 7, ..transaction };
        assert_ne!(reborn.log_name(), transaction.log_name());
        let other = Coordinator { database: 55, ..ours };
        assert_eq!(GlobalTransaction::of_gid(&gid, other), None);
        for foreign in ["", "app_1", "sharding_1_2", "sharding_1_2_3_4", &transaction.log_name(), &format!("{gid}x")] {
            assert_eq!(GlobalTransaction::of_gid(foreign, ours), None, "{foreign}");
        }
    }
}
