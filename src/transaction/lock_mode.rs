//! Which lock modes of Postgres exclude each other, by the names that `pg_locks` shows.
//!
//! ```
//! use sharding::transaction::lock_mode::conflict;
//! assert!(conflict("ExclusiveLock", "ShareLock") && !conflict("RowExclusiveLock", "RowExclusiveLock"));
//! ```

/// The modes, the weakest first, each with those that it excludes (as bits, by their place in this list): table 13.2
/// of the manual, "Conflicting Lock Modes".
const MODES: [(&str, u8); 8] = [
    ("AccessShareLock", 0b1000_0000),
    ("RowShareLock", 0b1100_0000),
    ("RowExclusiveLock", 0b1111_0000),
    ("ShareUpdateExclusiveLock", 0b1111_1000),
    ("ShareLock", 0b1110_1100),
    ("ShareRowExclusiveLock", 0b1111_1100),
    ("ExclusiveLock", 0b1111_1110),
    ("AccessExclusiveLock", 0b1111_1111),
];

/// Whether one who holds a lock in one mode is in the way of one who wants it in the other; unknown modes are not.
pub fn conflict(held: &str, wanted: &str) -> bool {
    let place = |name: &str| MODES.iter().position(|(mode, _)| *mode == name);
    match (place(held), place(wanted)) {
        (Some(held), Some(wanted)) => MODES[held].1 & (1 << wanted) != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_mutual() {
        for (a, _) in MODES {
            for (b, _) in MODES {
                assert_eq!(conflict(a, b), conflict(b, a), "{a} {b}");
            }
        }
        assert!(conflict("ShareUpdateExclusiveLock", "ShareUpdateExclusiveLock"));
        assert!(!conflict("ShareLock", "ShareLock") && conflict("ShareLock", "RowExclusiveLock"));
        assert!(!conflict("SIReadLock", "AccessExclusiveLock"));
    }
}
