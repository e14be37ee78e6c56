//! Names of prepared transactions on the nodes.
//!
//! `sharding_<system identifier>_<database oid>_<xid>_<n>`: whose they are (a coordinator database),
//! which of its transactions (64-bit xid, so that a wrapped counter names another one), which of its
//! participants. The part before `_<n>` is what `sharding.transaction.gid` holds.

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
        format!("{}{}", self.coordinator.prefix(), self.xid)
    }

    /// The gid on the `n`th participant.
    pub fn gid(&self, n: usize) -> String {
        format!("{}_{n}", self.log_name())
    }

    /// The transaction of `coordinator` that a node's gid belongs to; `None` if it is not ours.
    pub fn of_gid(gid: &str, coordinator: Coordinator) -> Option<GlobalTransaction> {
        let (xid, n) = gid.strip_prefix(&coordinator.prefix())?.split_once('_')?;
        n.parse::<usize>().ok()?;
        Some(GlobalTransaction { coordinator, xid: xid.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gid_tells_its_transaction_and_nobody_elses() {
        let ours = Coordinator { system_identifier: u64::MAX, database: 5 };
        let transaction = GlobalTransaction { coordinator: ours, xid: 1 << 40 };
        let gid = transaction.gid(12);
        assert!(gid.len() < 200, "the limit of Postgres");
        assert!(gid.starts_with(&transaction.log_name()));
        assert_eq!(GlobalTransaction::of_gid(&gid, ours), Some(transaction));
        let other = Coordinator { database: 55, ..ours };
        assert_eq!(GlobalTransaction::of_gid(&gid, other), None);
        for foreign in ["", "app_1", "sharding_1_2", &transaction.log_name(), &format!("{gid}x")] {
            assert_eq!(GlobalTransaction::of_gid(foreign, ours), None, "{foreign}");
        }
    }
}
