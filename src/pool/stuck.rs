//! Which backends wait for each other in a circle.
//!
//! A backend that waits for a connection of a pool gets on as soon as any connection of that pool
//! comes back. So it is stuck only if all of them are held by backends that are stuck themselves.
//! With `a` holding the one connection to n1 and waiting for n2, and `b` the other way round, both are:
//!
//! ```
//! use sharding::pool::{slot::Owner, stuck::is_stuck};
//! let (a, b) = (Owner(1), Owner(2));
//! let (n1, n2) = (0, 1);
//! let holds = [(a, n1), (b, n2)];
//! assert!(is_stuck(a, &[(a, n2), (b, n1)], &holds, |_| false));
//! assert!(!is_stuck(a, &[(a, n2)], &holds, |_| false), "b works and will give n2 back");
//! ```
//!
//! Only waits for connections are seen. A backend that waits for a lock counts as working; circles with locks in
//! them are found by the maintenance worker ([`crate::transaction::deadlock`]).

use crate::pool::slot::Owner;

/// Whether `who` can never get what it waits for. `waits` and `holds` name pools; `has_spare` says
/// of a pool that a connection is idle, coming, going or can be opened.
pub fn is_stuck(
    who: Owner,
    waits: &[(Owner, usize)],
    holds: &[(Owner, usize)],
    has_spare: impl Fn(usize) -> bool,
) -> bool {
    let mut stuck: Vec<(Owner, usize)> = waits.iter().copied().filter(|(_, pool)| !has_spare(*pool)).collect();
    loop {
        let before = stuck.len();
        let still: Vec<(Owner, usize)> = stuck
            .iter()
            .copied()
            .filter(|(_, pool)| {
                holds.iter().filter(|(_, held)| held == pool).all(|(holder, _)| stuck.iter().any(|(s, _)| s == holder))
            })
            .collect();
        stuck = still;
        if stuck.len() == before {
            return stuck.iter().any(|(owner, _)| *owner == who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_free_holder_saves_all() {
        let o = Owner;
        // Pools of two: 1 and 2 hold pool 0 and wait for 1; 3 and 4 the other way round.
        let holds = [(o(1), 0), (o(2), 0), (o(3), 1), (o(4), 1)];
        let waits = [(o(1), 1), (o(2), 1), (o(3), 0), (o(4), 0)];
        assert!(is_stuck(o(1), &waits, &holds, |_| false));
        assert!(!is_stuck(o(1), &waits[..3], &holds, |_| false));
        assert!(!is_stuck(o(1), &waits, &holds, |pool| pool == 0));
    }

    #[test]
    fn who_holds_all_of_what_it_waits_for_is_stuck() {
        assert!(is_stuck(Owner(1), &[(Owner(1), 0)], &[(Owner(1), 0)], |_| false));
    }

    /// Lets everybody who can get what it wants finish, until nobody can.
    fn survivors(waits: &[(Owner, usize)], holds: &[(Owner, usize)]) -> Vec<Owner> {
        let mut waits = waits.to_vec();
        let mut holds = holds.to_vec();
        let mut free: Vec<usize> = Vec::new();
        loop {
            let working = |o: &Owner| !waits.iter().any(|(w, _)| w == o);
            let Some(at) = holds.iter().position(|(o, _)| working(o)) else {
                let Some(at) = waits.iter().position(|(_, pool)| free.contains(pool)) else {
                    return waits.iter().map(|(o, _)| *o).collect();
                };
                let (owner, pool) = waits.remove(at);
                free.swap_remove(free.iter().position(|p| *p == pool).unwrap());
                holds.push((owner, pool));
                continue;
            };
            free.push(holds.swap_remove(at).1);
        }
    }

    proptest! {
        #[test]
        fn stuck_are_those_whom_no_order_of_events_helps(
            holds in proptest::collection::vec((1..6u32, 0..4usize), 0..8),
            waits in proptest::collection::btree_map(1..6u32, 0..4usize, 0..6),
        ) {
            let holds: Vec<(Owner, usize)> = holds.into_iter().map(|(o, p)| (Owner(o), p)).collect();
            let mut waits: Vec<(Owner, usize)> = waits.into_iter().map(|(o, p)| (Owner(o), p)).collect();
            // A pool that nobody holds has a spare connection.
            waits.retain(|(_, pool)| holds.iter().any(|(_, held)| held == pool));
            let left = survivors(&waits, &holds);
            for (owner, _) in &waits {
                prop_assert_eq!(is_stuck(*owner, &waits, &holds, |_| false), left.contains(owner));
            }
        }
    }
}
