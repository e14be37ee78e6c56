//! The router: is every distributed table of a query pinned to one value of its shard key?
//!
//! Worked example: `SELECT ... FROM orders o JOIN items i ON i.tenant = o.tenant WHERE o.tenant =
//! 42`. The level has the equalities `i.tenant ~ o.tenant` and `o.tenant ~ value 0`; both keys are
//! in the class of value 0, so the whole query may run where the rows of key 42 are.
//!
//! A [`Level`] is a part of the query in which an equality holds for every row that contributes: a
//! WHERE clause and its inner joins. What is *below* (a subquery, a SubLink, the nullable side of
//! an outer join) is an inner level: it may use what the outer level knows, never the other way
//! round. `FULL JOIN`'s conditions, and anything under OR, NOT or CASE, give no equality at all.

use crate::catalog::TableId;
use std::collections::{HashMap, HashSet};

/// A relation occurrence, numbered over the whole query.
pub type RelationIndex = usize;
/// An expression without columns, numbered over the whole query.
pub type ValueIndex = usize;

/// A side of an equality. Equalities of different operator families never mix: `family` is part
/// of a column's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    Column { relation: RelationIndex, attno: i16, family: u32 },
    Value(ValueIndex),
}

/// A part of the query and what is known to be equal in it.
#[derive(Clone, Debug, Default)]
pub struct Level {
    pub equalities: Vec<(Term, Term)>,
    /// The key column of each distributed table that is read here, or the key itself if it is given.
    pub keys: Vec<(TableId, Term)>,
    pub inner: Vec<Level>,
}

/// Which value pins each distributed table, in the order of the walk.
pub type Pins = Vec<(TableId, ValueIndex)>;

/// The table that nothing pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpinned(pub TableId);

/// Pins every distributed table of a level and of the levels below, or names one that is not.
pub fn pins(level: &Level) -> Result<Pins, Unpinned> {
    let mut found = Pins::new();
    solve(level, &HashMap::new(), &mut found)?;
    Ok(found)
}

fn solve(level: &Level, known: &HashMap<Term, ValueIndex>, found: &mut Pins) -> Result<(), Unpinned> {
    let mut classes = Classes::default();
    for (a, b) in &level.equalities {
        classes.unite(*a, *b);
    }
    for (term, value) in known {
        if classes.parent.contains_key(term) {
            classes.unite(*term, Term::Value(*value));
        }
    }
    let values = classes.values();
    let mut below = known.clone();
    below.extend(values.iter().map(|(t, v)| (*t, *v)));
    for (table, key) in &level.keys {
        let value = match key {
            Term::Value(value) => *value,
            column => *below.get(column).ok_or(Unpinned(*table))?,
        };
        found.push((*table, value));
    }
    level.inner.iter().try_for_each(|inner| solve(inner, &below, found))
}

/// Whether every distributed table of a level is pinned to the one value that `known` columns of the
/// outer row have: `value` must be the lowest of all.
pub fn pinned_to(level: &Level, known: impl IntoIterator<Item = Term>, value: ValueIndex) -> Result<(), Unpinned> {
    let known = known.into_iter().map(|term| (term, value)).collect();
    let mut found = Pins::new();
    solve(level, &known, &mut found)?;
    match found.into_iter().find(|(_, v)| *v != value) {
        Some((table, _)) => Err(Unpinned(table)),
        None => Ok(()),
    }
}

/// Union-find over terms.
#[derive(Default)]
pub struct Classes {
    parent: HashMap<Term, Term>,
}

impl Classes {
    /// The classes that these equalities make.
    pub fn of(equalities: &[(Term, Term)]) -> Classes {
        let mut classes = Classes::default();
        for (a, b) in equalities {
            classes.unite(*a, *b);
        }
        classes
    }

    /// Whether a term of one side is in the class of a term of the other.
    pub fn meet<'a>(&mut self, a: impl Iterator<Item = &'a Term>, b: impl Iterator<Item = &'a Term>) -> bool {
        let roots: HashSet<Term> = a.map(|t| self.root(*t)).collect();
        b.into_iter().any(|t| roots.contains(&self.root(*t)))
    }

    /// All columns that an equality puts into the class of one of these.
    pub fn joined_with<'a>(&mut self, terms: impl Iterator<Item = &'a Term>) -> Vec<Term> {
        let equated: Vec<Term> = self.parent.keys().copied().collect();
        let wanted: Vec<Term> = terms.filter(|t| self.parent.contains_key(t)).copied().collect();
        let roots: HashSet<Term> = wanted.into_iter().map(|t| self.root(t)).collect();
        let members: Vec<(Term, Term)> = equated.into_iter().map(|t| (t, self.root(t))).collect();
        let mut sizes: HashMap<Term, usize> = HashMap::new();
        for (_, root) in &members {
            *sizes.entry(*root).or_default() += 1;
        }
        members
            .into_iter()
            .filter(|(t, root)| roots.contains(root) && sizes[root] > 1 && matches!(t, Term::Column { .. }))
            .map(|(t, _)| t)
            .collect()
    }

    fn root(&mut self, term: Term) -> Term {
        let mut at = term;
        loop {
            let up = *self.parent.entry(at).or_insert(at);
            if up == at {
                return at;
            }
            at = up;
        }
    }

    fn unite(&mut self, a: Term, b: Term) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent.insert(a, b);
        }
    }

    /// The lowest value in the class of each column that has one. Two values in one class
    /// contradict each other or are equal: restricting to either is right.
    fn values(&mut self) -> HashMap<Term, ValueIndex> {
        let terms: Vec<Term> = self.parent.keys().copied().collect();
        let mut of_root: HashMap<Term, ValueIndex> = HashMap::new();
        for term in &terms {
            if let Term::Value(v) = term {
                let root = self.root(*term);
                of_root.entry(root).and_modify(|old| *old = (*old).min(*v)).or_insert(*v);
            }
        }
        terms
            .into_iter()
            .filter(|t| matches!(t, Term::Column { .. }))
            .filter_map(|t| of_root.get(&self.root(t)).map(|v| (t, *v)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TableId = TableId(1);
    const B: TableId = TableId(2);

    fn column(relation: usize, attno: i16) -> Term {
        Term::Column { relation, attno, family: 1 }
    }

    #[test]
    fn equality_is_transitive_over_joins() {
        let level = Level {
            equalities: vec![(column(0, 1), column(1, 1)), (column(1, 1), Term::Value(0))],
            keys: vec![(A, column(0, 1)), (B, column(1, 1))],
            inner: vec![],
        };
        assert_eq!(pins(&level), Ok(vec![(A, 0), (B, 0)]));
    }

    #[test]
    fn a_subquery_uses_what_is_known_outside() {
        let sub =
            Level { equalities: vec![(column(1, 1), column(0, 1))], keys: vec![(B, column(1, 1))], inner: vec![] };
        let level =
            Level { equalities: vec![(column(0, 1), Term::Value(3))], keys: vec![(A, column(0, 1))], inner: vec![sub] };
        assert_eq!(pins(&level), Ok(vec![(A, 3), (B, 3)]));
    }

    #[test]
    fn an_inner_level_never_pins_the_outer_one() {
        let sub = Level {
            equalities: vec![(column(1, 1), column(0, 1)), (column(1, 1), Term::Value(0))],
            keys: vec![(B, column(1, 1))],
            inner: vec![],
        };
        let level = Level { equalities: vec![], keys: vec![(A, column(0, 1))], inner: vec![sub] };
        assert_eq!(pins(&level), Err(Unpinned(A)));
    }

    #[test]
    fn another_operator_family_is_another_equality() {
        let numeric = Term::Column { relation: 0, attno: 1, family: 2 };
        let level = Level { equalities: vec![(numeric, Term::Value(0))], keys: vec![(A, column(0, 1))], inner: vec![] };
        assert_eq!(pins(&level), Err(Unpinned(A)));
    }
}
