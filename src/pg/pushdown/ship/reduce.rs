//! Fewer rows to ship: those that no row of a small neighbour matches stay where they are.
//!
//! ```text
//! FROM lineitem, supplier, nation WHERE l_suppkey = s_suppkey AND s_nationkey = n_nationkey AND n_name = 'FRANCE'
//! shipped    SELECT s_suppkey, s_nationkey FROM supplier
//!            WHERE EXISTS (SELECT FROM nation WHERE n_nationkey = s_nationkey AND n_name = 'FRANCE')
//! ```
//!
//! Neighbours are reference tables, and shipped tables that are colocated and joined on the shard key, so that the
//! nodes can check it. An equality may be implied: `ps_partkey = l_partkey AND p_partkey = l_partkey`. All have to be
//! joined by inner joins. The join itself is as before; this only leaves out rows that it would.

use super::conditions;
use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::compat;
use crate::pg::pushdown::shape;
use crate::pg::query_tree::{deterministic, strip_relabel};
use crate::pg::tree::{self, Node, items, list_of};
use pgrx::pg_sys;
use std::collections::BTreeSet;
use std::ptr;

/// A column of the query: table and attribute number.
type Column = (u32, i16);

/// A shipped table of the query: its number and its subquery.
pub type Table = (u32, *mut pg_sys::Query);

/// Adds to each shipped table of a query what its neighbours say of it.
pub unsafe fn all(query: *mut pg_sys::Query, shipped: &[Table], map: &ClusterMap) {
    // SAFETY: the shipped subqueries are private copies.
    unsafe {
        let mut inner = BTreeSet::new();
        inner_tables((*query).jointree.cast(), &mut inner);
        let neighbours = Neighbours { query, map, shipped, inner: &inner, classes: classes(query) };
        let tests: Vec<Option<*mut Node>> = shipped.iter().map(|(rti, _)| neighbours.test(*rti)).collect();
        for ((_, sub), test) in shipped.iter().zip(tests) {
            let Some(test) = test else { continue };
            let from = (**sub).jointree;
            (*from).quals = if (*from).quals.is_null() {
                test
            } else {
                let both = list_of([(*from).quals, test]);
                pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, both, -1).cast()
            };
            (**sub).hasSubLinks = true;
        }
    }
}

/// The tables that are joined by inner joins only.
unsafe fn inner_tables(node: *mut Node, into: &mut BTreeSet<u32>) {
    // SAFETY: jointree nodes.
    unsafe {
        if let Some(reference) = node_as!(node, T_RangeTblRef) {
            into.insert((*reference.cast::<pg_sys::RangeTblRef>()).rtindex as u32);
        } else if let Some(from) = node_as!(node, T_FromExpr) {
            for item in items::<Node>((*from.cast::<pg_sys::FromExpr>()).fromlist) {
                inner_tables(item, into);
            }
        } else if let Some(join) = node_as!(node, T_JoinExpr) {
            let join = join.cast::<pg_sys::JoinExpr>();
            if (*join).jointype == pg_sys::JoinType::JOIN_INNER {
                inner_tables((*join).larg, into);
                inner_tables((*join).rarg, into);
            }
        }
    }
}

/// Sets of columns that are equal in each row of the join, by the equality of their one type.
unsafe fn classes(query: *mut pg_sys::Query) -> Vec<Vec<*mut pg_sys::Var>> {
    let mut classes: Vec<Vec<*mut pg_sys::Var>> = Vec::new();
    let mut conditions = Vec::new();
    // SAFETY: reads an analyzed query.
    unsafe {
        shape::inner_conditions((*query).jointree.cast(), &mut conditions);
        for condition in conditions {
            let Some((a, b)) = equality(condition) else { continue };
            let find = |v: *mut pg_sys::Var, classes: &[Vec<*mut pg_sys::Var>]| {
                classes.iter().position(|class| class.iter().any(|c| column(*c) == column(v)))
            };
            match (find(a, &classes), find(b, &classes)) {
                (Some(x), Some(y)) if x != y => {
                    let other = classes.swap_remove(x.max(y));
                    classes[x.min(y)].extend(other);
                }
                (Some(_), Some(_)) => {}
                (Some(x), None) => classes[x].push(b),
                (None, Some(y)) => classes[y].push(a),
                (None, None) => classes.push(vec![a, b]),
            }
        }
    }
    classes
}

unsafe fn column(var: *mut pg_sys::Var) -> Column {
    // SAFETY: reads a node.
    unsafe { ((*var).varno as u32, (*var).varattno) }
}

/// The columns of `a = b`, of one type and compared by its own equality.
unsafe fn equality(condition: *mut Node) -> Option<(*mut pg_sys::Var, *mut pg_sys::Var)> {
    // SAFETY: reads an analyzed condition; type cache entries live as long as the backend.
    unsafe {
        let op = node_as!(condition, T_OpExpr)?.cast::<pg_sys::OpExpr>();
        let args = items::<Node>((*op).args);
        let [a, b] = args[..] else { return None };
        let (a, b) = (own_column(a)?, own_column(b)?);
        let plain = (*a).vartype == (*b).vartype && (*a).varcollid == (*b).varcollid;
        let same = plain && (*op).opno == equality_of((*a).vartype)? && deterministic((*a).varcollid);
        (same && (*op).inputcollid == (*a).varcollid).then_some((a, b))
    }
}

/// The equality operator of a type.
unsafe fn equality_of(kind: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: as above.
    unsafe {
        let operator = (*pg_sys::lookup_type_cache(kind, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr;
        (operator != pg_sys::InvalidOid).then_some(operator)
    }
}

unsafe fn own_column(node: *mut Node) -> Option<*mut pg_sys::Var> {
    // SAFETY: the tag says what it is.
    unsafe {
        if strip_relabel(node) != node {
            return None;
        }
        let var = node_as!(node, T_Var)?.cast::<pg_sys::Var>();
        ((*var).varlevelsup == 0 && (*var).varattno > 0).then_some(var)
    }
}

struct Neighbours<'a> {
    query: *mut pg_sys::Query,
    map: &'a ClusterMap,
    shipped: &'a [Table],
    inner: &'a BTreeSet<u32>,
    classes: Vec<Vec<*mut pg_sys::Var>>,
}

/// An equality between two tables.
struct Link {
    a: *mut pg_sys::Var,
    b: *mut pg_sys::Var,
}

impl Neighbours<'_> {
    /// `EXISTS (SELECT FROM neighbours WHERE ...)` for a table, if they have filters.
    unsafe fn test(&self, rti: u32) -> Option<*mut Node> {
        // SAFETY: new nodes and copies.
        unsafe {
            if !self.inner.contains(&rti) {
                return None;
            }
            let (mut tables, mut links) = self.around(rti);
            let filters = |t: &u32| conditions::of_table(self.query, *t).unwrap_or_default();
            // What is at the end of a chain and says nothing is not asked.
            while let Some(at) = tables.iter().position(|t| *t != rti && self.is_idle(*t, &links)) {
                let idle = tables.remove(at);
                links.retain(|l| column(l.a).0 != idle && column(l.b).0 != idle);
            }
            tables.retain(|t| *t != rti);
            if tables.is_empty() {
                return None;
            }
            let sub = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
            (*sub).commandType = pg_sys::CmdType::CMD_SELECT;
            (*sub).stmt_location = -1;
            let mut quals = Vec::new();
            let mut from = Vec::new();
            for (i, table) in tables.iter().enumerate() {
                self.adopt(*table, sub);
                (*tree::entry((*sub).rtable, i as u32 + 1)).inFromCl = true;
                let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
                (*reference).rtindex = i as i32 + 1;
                from.push(reference);
                for filter in filters(table) {
                    pg_sys::ChangeVarNodes(filter, 1, i as i32 + 1, 0);
                    quals.push(filter);
                }
            }
            for link in links {
                let side = |var: *mut pg_sys::Var| -> *mut Node {
                    let (table, attno) = column(var);
                    let (number, level) = match tables.iter().position(|t| *t == table) {
                        Some(i) => (i as i32 + 1, 0),
                        None => (1, 1),
                    };
                    pg_sys::makeVar(number, attno, (*var).vartype, (*var).vartypmod, (*var).varcollid, level).cast()
                };
                let operator = equality_of((*link.a).vartype)?;
                let collation = (*link.a).varcollid;
                quals.push(
                    pg_sys::make_opclause(
                        operator,
                        pg_sys::BOOLOID,
                        false,
                        side(link.a).cast(),
                        side(link.b).cast(),
                        pg_sys::InvalidOid,
                        collation,
                    )
                    .cast(),
                );
            }
            let tree_of = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
            (*tree_of).fromlist = list_of(from);
            (*tree_of).quals = match quals.len() {
                1 => quals[0],
                _ => pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, list_of(quals), -1).cast(),
            };
            (*sub).jointree = tree_of;
            let one =
                pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, pg_sys::Datum::from(1), false, true);
            (*sub).targetList = list_of([pg_sys::makeTargetEntry(one.cast(), 1, c"one".as_ptr().cast_mut(), false)]);
            let link = tree::make::<pg_sys::SubLink>(pg_sys::NodeTag::T_SubLink);
            (*link).subLinkType = pg_sys::SubLinkType::EXISTS_SUBLINK;
            (*link).subselect = sub.cast();
            (*link).location = -1;
            Some(link.cast())
        }
    }

    /// A table and its neighbours, with the equalities that lead to them.
    unsafe fn around(&self, rti: u32) -> (Vec<u32>, Vec<Link>) {
        let mut tables = vec![rti];
        let mut links = Vec::new();
        // SAFETY: columns of the query.
        unsafe {
            loop {
                let mut next = None;
                for class in &self.classes {
                    let Some(a) = class.iter().find(|v| tables.contains(&column(**v).0)) else { continue };
                    let new = class.iter().find(|v| {
                        let table = column(**v).0;
                        !tables.contains(&table) && self.may_join(rti, *a, **v)
                    });
                    if let Some(b) = new {
                        next = Some(Link { a: *a, b: *b });
                        break;
                    }
                }
                let Some(link) = next else { return (tables, links) };
                tables.push(column(link.b).0);
                links.push(link);
            }
        }
    }

    /// Whether the nodes can join what is being built for `rti` with the table of `new`, on this equality.
    unsafe fn may_join(&self, rti: u32, from: *mut pg_sys::Var, new: *mut pg_sys::Var) -> bool {
        // SAFETY: columns of the query.
        unsafe {
            let table = column(new).0;
            if !self.inner.contains(&table) {
                return false;
            }
            let rte = tree::entry((*self.query).rtable, table);
            if (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION && (*rte).tablesample.is_null() {
                let known = self.map.table(TableId((*rte).relid.to_u32()));
                return known.is_some_and(|t| !t.is_distributed());
            }
            // A shipped table, on its shard key.
            let key = |number: u32, attno: i16| {
                let relid = self.relation(number)?;
                let (group, key) = self.map.distribution(relid)?;
                (key == attno).then_some(ptr::from_ref(group))
            };
            let (from_table, from_column) = column(from);
            let mine = key(from_table, from_column);
            from_table == rti && mine.is_some() && mine == key(table, column(new).1)
        }
    }

    /// The relation behind a shipped table.
    unsafe fn relation(&self, rti: u32) -> Option<TableId> {
        let (_, sub) = self.shipped.iter().find(|(r, _)| *r == rti)?;
        // SAFETY: the subquery of a table has one entry.
        unsafe { Some(TableId((*tree::entry((**sub).rtable, 1)).relid.to_u32())) }
    }

    /// Whether a table has no filter and leads nowhere.
    unsafe fn is_idle(&self, table: u32, links: &[Link]) -> bool {
        // SAFETY: columns of the query.
        unsafe {
            let leads = links.iter().filter(|l| column(l.a).0 == table || column(l.b).0 == table).count();
            leads < 2 && conditions::of_table(self.query, table).is_none_or(|c| c.is_empty())
        }
    }

    /// Puts a table's entry into the range table of `sub`.
    unsafe fn adopt(&self, table: u32, sub: *mut pg_sys::Query) {
        // SAFETY: entries are copied.
        unsafe {
            match self.shipped.iter().find(|(r, _)| *r == table) {
                Some((_, of)) => compat::adopt_entry(tree::entry((**of).rtable, 1), *of, sub),
                None => compat::adopt_entry(tree::entry((*self.query).rtable, table), self.query, sub),
            }
        }
    }
}
