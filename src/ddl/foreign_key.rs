//! Which foreign keys a cluster can keep.
//!
//! A foreign key is checked by the server that holds the row, so every row it could point to must be
//! there too: `orders (tenant, customer) -> customers (tenant, id)` with both split by tenant in one
//! colocation group, or `orders (country) -> countries` with a reference table. A key from a local
//! table into a distributed one is kept by the coordinator and a guard on the nodes
//! (`pg::ddl::foreign_keys`).

use crate::catalog::{ClusterMap, Spread, TableId};
use crate::error::Error;

/// A foreign key: two tables and the column numbers that are compared pairwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    pub name: String,
    pub from: TableId,
    pub to: TableId,
    pub columns: Vec<(i16, i16)>,
}

/// An error with the reason if the cluster cannot keep the key; keys of local tables are fine.
pub fn check(map: &ClusterMap, key: &ForeignKey) -> Result<(), Error> {
    let from = map.table(key.from).map(|t| &t.spread);
    let to = map.table(key.to).map(|t| &t.spread);
    let refused = |why: &str, hint: &str| {
        let message = format!("foreign key \"{}\" cannot be kept across nodes", key.name);
        Err(Error::unsupported(message).detail(why).hint(hint))
    };
    match (from, to) {
        (None, _) | (Some(_), Some(Spread::Reference)) => Ok(()),
        (
            Some(Spread::Distributed { group, key_attno, .. }),
            Some(Spread::Distributed { group: g, key_attno: k, .. }),
        ) => {
            if group != g {
                refused(
                    "The two tables are not in one colocation group, so a row and the row it refers to may be on different nodes.",
                    "Distribute the tables with colocate_with, or make the referenced one a reference table with sharding.replicate_table().",
                )
            } else if !key.columns.contains(&(*key_attno, *k)) {
                refused(
                    "The shard key does not refer to the other table's shard key, so a row and the row it refers to may be on different nodes.",
                    "Add the shard keys of both tables to the foreign key.",
                )
            } else {
                Ok(())
            }
        }
        (Some(Spread::Reference), Some(Spread::Distributed { .. })) => refused(
            "The referenced table is split over nodes; the referencing one is not.",
            "Distribute the referencing table by the same key.",
        ),
        (Some(_), None) => refused(
            "The referenced table exists only on the coordinator.",
            "Make it a reference table with sharding.replicate_table().",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{DistributedTable, GroupId};

    fn map() -> ClusterMap {
        let mut map = ClusterMap::default();
        for (id, group) in [(1, Some(1)), (2, Some(1)), (3, Some(2)), (4, None)] {
            let spread = match group {
                Some(g) => Spread::Distributed { group: GroupId(g), key_attno: 1, shard_prefix: String::new() },
                None => Spread::Reference,
            };
            map.tables.insert(TableId(id), DistributedTable { id: TableId(id), spread });
        }
        map
    }

    fn kept(from: u32, to: u32, columns: &[(i16, i16)]) -> bool {
        let key = ForeignKey { name: "k".into(), from: TableId(from), to: TableId(to), columns: columns.to_vec() };
        check(&map(), &key).is_ok()
    }

    #[test]
    fn rows_must_meet_on_one_server() {
        assert!(kept(1, 2, &[(2, 2), (1, 1)]), "colocated, by the key");
        assert!(!kept(1, 2, &[(2, 1)]), "another column refers to the key");
        assert!(!kept(1, 3, &[(1, 1)]), "another group");
        assert!(kept(1, 4, &[(2, 1)]) && kept(4, 4, &[(1, 1)]) && kept(9, 4, &[(1, 1)]), "reference tables");
        assert!(!kept(4, 1, &[(1, 1)]), "from a reference into a distributed table");
        assert!(kept(9, 1, &[(1, 1)]), "from a local table, guarded");
        assert!(!kept(1, 9, &[(1, 1)]) && !kept(4, 9, &[(1, 1)]), "to a local table");
        assert!(kept(8, 9, &[(1, 1)]), "not ours");
    }
}
