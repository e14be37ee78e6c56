//! Whether all transactions can finish, whatever they still ask for.
//!
//! A transaction may come to need a connection to every node, and keeps what it has until it ends. So a
//! state is safe if there is an order in which each of them can have one of each pool when its turn
//! comes, with what those before it gave back (Dijkstra's banker). A connection is only given to a
//! transaction if the state after that is safe. Then no circle of waits comes about.
//!
//! With one connection per pool, `a` at n1 and `b` at n2 might each come to need the other's:
//!
//! ```
//! use sharding::pool::{safe::is_safe, slot::Owner};
//! let (a, b) = (Owner(1), Owner(2));
//! assert!(is_safe(&[0, 1], &[(a, 0)]));
//! assert!(!is_safe(&[0, 0], &[(a, 0), (b, 1)]));
//! ```

use crate::pool::slot::Owner;

/// `free[p]`: connections of pool `p` that nobody holds or whose holder needs no other; `holds`: the
/// pools of those that may need more.
pub fn is_safe(free: &[u32], holds: &[(Owner, usize)]) -> bool {
    let mut free = free.to_vec();
    let mut left: Vec<(Owner, usize)> = holds.to_vec();
    while !left.is_empty() {
        if free.iter().all(|free| *free > 0) {
            return true;
        }
        let can_finish =
            |owner: Owner| free.iter().enumerate().all(|(pool, free)| *free > 0 || left.contains(&(owner, pool)));
        let Some(owner) = left.iter().map(|(owner, _)| *owner).find(|owner| can_finish(*owner)) else {
            return false;
        };
        left.retain(|(holder, pool)| {
            if *holder == owner {
                free[*pool] += 1;
            }
            *holder != owner
        });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_can_finish_helps_the_others() {
        let o = Owner;
        // Of two pools of two: the last connection of the second may go to who has the first, only.
        assert!(is_safe(&[0, 1], &[(o(1), 0), (o(2), 0), (o(3), 1)]));
        assert!(!is_safe(&[0, 0], &[(o(1), 0), (o(2), 0), (o(3), 1), (o(4), 1)]));
        assert!(is_safe(&[0, 0], &[(o(1), 0), (o(2), 0), (o(3), 1), (o(1), 1)]));
        assert!(is_safe(&[0, 0], &[(o(1), 0), (o(1), 1)]));
        assert!(is_safe(&[3], &[]));
    }
}
