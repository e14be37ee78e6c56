//! Pushdown: does running a query on every node give each row of the answer exactly once?
//!
//! Worked example: `FROM orders o JOIN items i ON i.tenant = o.tenant JOIN countries c ON ...`. The
//! rows of `orders` and `items` are split over the nodes by their keys `o.tenant` and `i.tenant`, which
//! are equal in every row of the join: a joined row is on one node, the one of that tenant.
//! `countries`, a reference table, is everywhere. So each node joins what it has, and the answers
//! together are the answer.
//!
//! A [`Part`] is a relation or a join. Its [`Keys`] are the columns whose value tells the node of
//! the row: *strong* ones always, *weak* ones unless they are NULL (the nullable side of an outer join).
//! Either is good enough for an equality, which NULL never passes; grouping by a column completes
//! its groups on the nodes only if it is strong.
//!
//! What is not sound: an outer join that preserves rows that every node has (each would return them),
//! and split relations whose keys are not equated.

use crate::plan::router::{Classes, RelationIndex, Term};
use std::collections::HashSet;

/// The columns that tell where a row is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub strong: HashSet<Term>,
    pub weak: HashSet<Term>,
}

impl Keys {
    pub fn any(&self) -> impl Iterator<Item = &Term> {
        self.strong.iter().chain(&self.weak)
    }

    pub fn contains(&self, term: &Term) -> bool {
        self.strong.contains(term) || self.weak.contains(term)
    }
}

/// Where the rows of a relation are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The same rows on every node.
    Everywhere,
    /// Each row on one node.
    Split(Keys),
}

/// A relation or a join, with the equalities that hold in each of its rows.
#[derive(Clone, Debug)]
pub struct Part {
    pub place: Place,
    pub relations: HashSet<RelationIndex>,
    pub equalities: Vec<(Term, Term)>,
}

/// Why a join cannot run on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// Split relations whose keys are not equated.
    Keys,
    /// Rows that every node has would come from every node.
    Preserved,
}

impl Apart {
    pub fn reason(self) -> &'static str {
        match self {
            Apart::Keys => "distributed tables are not joined on their shard keys",
            Apart::Preserved => "an outer join keeps rows of a reference table",
        }
    }
}

impl Part {
    /// A relation by itself.
    pub fn relation(relation: RelationIndex, place: Place) -> Part {
        Part { place, relations: HashSet::from([relation]), equalities: Vec::new() }
    }

    /// Parts that are joined and filtered; `equalities` hold in every row that is left.
    pub fn inner(parts: Vec<Part>, equalities: Vec<(Term, Term)>) -> Result<Part, Apart> {
        let mut all = equalities;
        let mut relations = HashSet::new();
        let mut split: Vec<Keys> = Vec::new();
        for part in parts {
            all.extend(part.equalities);
            relations.extend(part.relations);
            if let Place::Split(keys) = part.place {
                split.push(keys);
            }
        }
        let Some(first) = split.pop() else {
            return Ok(Part { place: Place::Everywhere, relations, equalities: all });
        };
        let mut classes = Classes::of(&all);
        let mut keys = first;
        while !split.is_empty() {
            let Some(next) = split.iter().position(|other| classes.meet(keys.any(), other.any())) else {
                return Err(Apart::Keys);
            };
            let other = split.swap_remove(next);
            keys.strong.extend(other.strong);
            keys.weak.extend(other.weak);
        }
        // What passed an equality with a key is not NULL, and has the key's value.
        for term in classes.joined_with(keys.any()) {
            keys.weak.remove(&term);
            keys.strong.insert(term);
        }
        Ok(Part { place: Place::Split(keys), relations, equalities: all })
    }

    /// `left LEFT JOIN right ON ...`; `on` are the equalities of its condition.
    pub fn left(left: Part, right: Part, on: Vec<(Term, Term)>) -> Result<Part, Apart> {
        let mut relations = left.relations.clone();
        relations.extend(&right.relations);
        let place = match (left.place, right.place) {
            (place, Place::Everywhere) => place,
            (Place::Everywhere, Place::Split(_)) => return Err(Apart::Preserved),
            (Place::Split(mut keys), Place::Split(inner)) => {
                let all: Vec<_> = left.equalities.iter().chain(&right.equalities).chain(&on).copied().collect();
                let mut classes = Classes::of(&all);
                if !classes.meet(keys.any(), inner.any()) {
                    return Err(Apart::Keys);
                }
                let of_right =
                    |t: &Term| matches!(t, Term::Column { relation, .. } if right.relations.contains(relation));
                let equated: Vec<Term> = classes.joined_with(inner.any()).into_iter().filter(of_right).collect();
                keys.weak.extend(equated);
                keys.weak.extend(inner.strong);
                keys.weak.extend(inner.weak);
                Place::Split(keys)
            }
        };
        Ok(Part { place, relations, equalities: left.equalities })
    }

    /// `left FULL JOIN right ON ...`.
    pub fn full(left: Part, right: Part, on: Vec<(Term, Term)>) -> Result<Part, Apart> {
        let mut relations = left.relations;
        relations.extend(right.relations);
        let place = match (left.place, right.place) {
            (Place::Everywhere, Place::Everywhere) => Place::Everywhere,
            (Place::Split(a), Place::Split(b)) => {
                let all: Vec<_> = left.equalities.iter().chain(&right.equalities).chain(&on).copied().collect();
                if !Classes::of(&all).meet(a.any(), b.any()) {
                    return Err(Apart::Keys);
                }
                let weak = a.any().chain(b.any()).copied().collect();
                Place::Split(Keys { strong: HashSet::new(), weak })
            }
            _ => return Err(Apart::Preserved),
        };
        Ok(Part { place, relations, equalities: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(relation: usize, attno: i16) -> Term {
        Term::Column { relation, attno, family: 1 }
    }

    fn split(relation: usize) -> Part {
        let keys = Keys { strong: HashSet::from([column(relation, 1)]), weak: HashSet::new() };
        Part::relation(relation, Place::Split(keys))
    }

    fn everywhere(relation: usize) -> Part {
        Part::relation(relation, Place::Everywhere)
    }

    fn keys(part: &Part) -> &Keys {
        match &part.place {
            Place::Split(keys) => keys,
            Place::Everywhere => panic!("everywhere"),
        }
    }

    #[test]
    fn equal_keys_meet_on_a_node_also_by_way_of_a_reference_table() {
        let by_way = vec![(column(0, 1), column(1, 4)), (column(1, 4), column(2, 1))];
        let join = Part::inner(vec![split(0), everywhere(1), split(2)], by_way).unwrap();
        assert_eq!(keys(&join).strong, HashSet::from([column(0, 1), column(1, 4), column(2, 1)]));
        assert_eq!(Part::inner(vec![split(0), split(1)], vec![]).unwrap_err(), Apart::Keys);
        let other_column = vec![(column(0, 1), column(1, 2))];
        assert_eq!(Part::inner(vec![split(0), split(1)], other_column).unwrap_err(), Apart::Keys);
    }

    #[test]
    fn the_nullable_side_has_weak_keys_until_they_are_equated() {
        let on = vec![(column(0, 1), column(1, 1))];
        let join = Part::left(split(0), split(1), on).unwrap();
        assert_eq!(keys(&join).strong, HashSet::from([column(0, 1)]));
        assert_eq!(keys(&join).weak, HashSet::from([column(1, 1)]));
        let again = Part::inner(vec![join, split(2)], vec![(column(1, 1), column(2, 1))]).unwrap();
        assert!(keys(&again).strong.contains(&column(1, 1)));
        assert!(keys(&again).weak.is_empty());
    }

    #[test]
    fn a_condition_of_an_outer_join_says_nothing_of_its_preserved_side() {
        let on = vec![(column(0, 1), column(1, 1)), (column(0, 2), column(1, 1))];
        let join = Part::left(split(0), split(1), on).unwrap();
        assert!(!keys(&join).contains(&column(0, 2)));
    }

    #[test]
    fn rows_that_are_everywhere_are_not_preserved() {
        let on = vec![(column(0, 1), column(1, 1))];
        assert_eq!(Part::left(everywhere(0), split(1), on.clone()).unwrap_err(), Apart::Preserved);
        assert_eq!(Part::full(everywhere(0), split(1), on.clone()).unwrap_err(), Apart::Preserved);
        assert!(Part::left(split(0), everywhere(1), on.clone()).is_ok());
        let full = Part::full(split(0), split(1), on).unwrap();
        assert!(keys(&full).strong.is_empty());
        assert!(keys(&full).contains(&column(1, 1)));
    }
}
