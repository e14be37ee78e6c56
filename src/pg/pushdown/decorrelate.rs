//! A subquery that is evaluated for each row becomes one that is evaluated once, grouped, and joined.
//!
//! ```text
//! FROM part, lineitem WHERE ... AND p_size = 3 AND l_quantity < (SELECT avg(l_quantity) FROM lineitem WHERE l_partkey = p_partkey)
//!
//! FROM part, lineitem, (SELECT l_partkey, avg(l_quantity) FROM lineitem
//!                       WHERE l_partkey IN (SELECT p_partkey FROM part WHERE p_size = 3) GROUP BY l_partkey) g
//! WHERE ... AND p_size = 3 AND l_quantity < g.avg AND g.l_partkey = p_partkey
//! ```
//!
//! One statement per node, where the former is one for each row. Which of the two is cheaper, the costs of both plans say.
//!
//! It is the same where the subquery is an aggregate that is NULL of no rows, the condition around it is not true of NULL,
//! and all that it knows of the row are values that its columns are equal to. One that is bound to the row's
//! shard key stays: its node evaluates it.

use super::shape;
use super::ship::conditions::{self, all_of};
use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::compat;
use crate::pg::query_tree::{deterministic, strip_relabel};
use crate::pg::tree::{self, Change, Node, Visit, items, list_of};
use pgrx::pg_sys;
use std::ptr;

/// Aggregates that are NULL of no rows.
const NULL_OF_NOTHING: [&str; 4] = ["sum", "avg", "min", "max"];

/// Number of the equality among the strategies of a B-tree.
const BTREE_EQUAL: i32 = 3;

/// `column = value of the outer row`.
#[derive(Clone, Copy)]
struct Bond {
    operator: *mut pg_sys::OpExpr,
    /// The subquery's column, and which argument it is.
    inner: *mut pg_sys::Var,
    inner_first: bool,
    /// The outer row's.
    outer: *mut pg_sys::Var,
}

/// Changes a query and those below it where that can be done; whether anything was.
pub unsafe fn all(query: *mut pg_sys::Query, map: &ClusterMap) -> bool {
    // SAFETY: a private copy of an analyzed query.
    unsafe {
        let mut queries: Vec<*mut pg_sys::Query> = Vec::new();
        tree::walk(query.cast(), |n| {
            queries.extend(node_as!(n, T_Query).map(|q| q.cast::<pg_sys::Query>()));
            Visit::Deeper
        });
        // What is below comes later in the list, and goes into what is copied of the query around it.
        queries.into_iter().rev().filter(|q| within(*q, map)).count() > 0
    }
}

unsafe fn within(query: *mut pg_sys::Query, map: &ClusterMap) -> bool {
    // SAFETY: as above; the join tree's top is changed.
    unsafe {
        let from = (*query).jointree;
        if (*query).commandType != pg_sys::CmdType::CMD_SELECT || !(*query).hasSubLinks || from.is_null() {
            return false;
        }
        let mut conditions = Vec::new();
        tree::conjuncts((*from).quals, &mut conditions);
        let mut any = false;
        for at in 0..conditions.len() {
            let Some(link) = only_sublink(conditions[at]) else { continue };
            let Some(bonds) = bonds(link, map) else { continue };
            let group = grouped((*link).subselect.cast(), &bonds);
            restrict(query, &conditions, &bonds, group);
            let number = add(query, group);
            let value = items::<pg_sys::TargetEntry>((*group).targetList)[bonds.len()];
            let value = column(number, (*value).resno, (*value).expr.cast());
            let condition = tree::mutate(conditions[at], |n| {
                if n == link.cast() { Change::Replace(value.cast()) } else { Change::Deeper }
            });
            if !pg_sys::bms_is_member(number as i32, pg_sys::find_nonnullable_rels(condition)) {
                // True of NULL, maybe: the subquery stays, and nobody reads the new one.
                take_away(query, number);
                continue;
            }
            conditions[at] = condition;
            for (i, bond) in bonds.iter().enumerate() {
                let equality = tree::copy(bond.operator);
                let inner = column(number, i as i16 + 1, bond.inner.cast()).cast::<Node>();
                let outer = own(bond.outer).cast::<Node>();
                (*equality).args = list_of(if bond.inner_first { [inner, outer] } else { [outer, inner] });
                conditions.push(equality.cast());
            }
            (*from).quals = all_of(conditions.clone());
            any = true;
        }
        any
    }
}

/// The one subquery in a condition, if it is a value.
unsafe fn only_sublink(condition: *mut Node) -> Option<*mut pg_sys::SubLink> {
    let mut found: Vec<*mut pg_sys::SubLink> = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(condition, |n| {
            let Some(link) = node_as!(n, T_SubLink) else { return Visit::Deeper };
            found.push(link.cast());
            Visit::Skip
        });
        let [link] = found[..] else { return None };
        ((*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK).then_some(link)
    }
}

/// What binds a subquery to the row around it, if it can be grouped by that.
unsafe fn bonds(link: *mut pg_sys::SubLink, map: &ClusterMap) -> Option<Vec<Bond>> {
    // SAFETY: reads an analyzed query.
    unsafe {
        let sub = (*link).subselect.cast::<pg_sys::Query>();
        let q = &*sub;
        let plain = q.commandType == pg_sys::CmdType::CMD_SELECT
            && q.hasAggs
            && !(q.hasSubLinks || q.hasTargetSRFs || q.hasWindowFuncs)
            && q.setOperations.is_null()
            && q.groupClause.is_null()
            && q.groupingSets.is_null()
            && q.havingQual.is_null()
            && q.distinctClause.is_null()
            && q.sortClause.is_null()
            && q.limitCount.is_null()
            && q.limitOffset.is_null()
            && q.cteList.is_null()
            && q.rowMarks.is_null();
        let tables = items::<pg_sys::RangeTblEntry>(q.rtable)
            .into_iter()
            .all(|rte| (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION && !shape::is_view(rte));
        if !plain || !tables || !shape::reads_distributed(sub.cast(), map) {
            return None;
        }
        let listed = items::<Node>((*q.jointree).fromlist).into_iter().all(|n| node_as!(n, T_RangeTblRef).is_some());
        let [value] = items::<pg_sys::TargetEntry>(q.targetList)[..] else { return None };
        if !listed || !is_null_of_nothing((*value).expr.cast()) || pg_sys::contain_volatile_functions(sub.cast()) {
            return None;
        }
        let mut conditions = Vec::new();
        tree::conjuncts((*q.jointree).quals, &mut conditions);
        let bonds: Vec<Bond> = conditions.iter().filter_map(|c| bond(*c)).collect();
        let on_its_node = bonds.iter().any(|b| {
            let relid = (*tree::entry(q.rtable, (*b.inner).varno as u32)).relid;
            map.distribution(TableId(relid.to_u32())).is_some_and(|(_, key)| key == (*b.inner).varattno)
        });
        if bonds.is_empty() || on_its_node {
            return None;
        }
        let unbound = tree::copy(sub);
        conditions.retain(|c| bond(*c).is_none());
        (*(*unbound).jointree).quals = all_of(conditions);
        (!shape::is_correlated(unbound)).then_some(bonds)
    }
}

/// A condition as a bond, by the equality that its column is grouped by.
unsafe fn bond(condition: *mut Node) -> Option<Bond> {
    // SAFETY: an analyzed condition; type cache entries live as long as the backend.
    unsafe {
        let operator = node_as!(condition, T_OpExpr)?.cast::<pg_sys::OpExpr>();
        let [a, b] = items::<Node>((*operator).args)[..] else { return None };
        let (a, b) = (node_as!(a, T_Var)?.cast::<pg_sys::Var>(), node_as!(b, T_Var)?.cast::<pg_sys::Var>());
        let (inner, outer, inner_first) = match ((*a).varlevelsup, (*b).varlevelsup) {
            (0, 1) => (a, b, true),
            (1, 0) => (b, a, false),
            _ => return None,
        };
        let flags = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_BTREE_OPFAMILY;
        let cache = pg_sys::lookup_type_cache((*inner).vartype, flags as i32);
        let grouped_alike = (*cache).btree_opf != pg_sys::InvalidOid
            && pg_sys::get_op_opfamily_strategy((*operator).opno, (*cache).btree_opf) == BTREE_EQUAL
            && pg_sys::get_op_opfamily_strategy((*cache).eq_opr, (*cache).btree_opf) == BTREE_EQUAL
            && deterministic((*operator).inputcollid)
            && deterministic((*inner).varcollid);
        let columns = (*inner).varattno > 0 && (*outer).varattno > 0;
        (grouped_alike && columns).then_some(Bond { operator, inner, inner_first, outer })
    }
}

/// Whether an expression over aggregates of columns is NULL where there are no rows.
unsafe fn is_null_of_nothing(expr: *mut Node) -> bool {
    // SAFETY: an analyzed expression; aggregates are read.
    unsafe {
        let (mut any, mut all) = (false, true);
        let without = tree::mutate(expr, |n| {
            let Some(agg) = node_as!(n, T_Aggref) else { return Change::Deeper };
            let agg = agg.cast::<pg_sys::Aggref>();
            any = true;
            let name = shape::builtin_name((*agg).aggfnoid);
            // More rows are looked at than before: no expression that could fail of them.
            let columns = items::<pg_sys::TargetEntry>((*agg).args)
                .into_iter()
                .all(|t| node_as!(strip_relabel((*t).expr.cast()), T_Var).is_some());
            all &= (*agg).agglevelsup == 0
                && (*agg).aggfilter.is_null()
                && columns
                && name.is_some_and(|n| NULL_OF_NOTHING.contains(&n.as_str()));
            Change::Replace(pg_sys::makeNullConst((*agg).aggtype, -1, (*agg).aggcollid).cast())
        });
        any && all && !pg_sys::contain_nonstrict_functions(without) && !pg_sys::contain_var_clause(without)
    }
}

/// `SELECT column, ..., value FROM ... GROUP BY column, ...`.
unsafe fn grouped(sub: *mut pg_sys::Query, bonds: &[Bond]) -> *mut pg_sys::Query {
    // SAFETY: a copy is changed.
    unsafe {
        let mut conditions = Vec::new();
        tree::conjuncts((*(*sub).jointree).quals, &mut conditions);
        conditions.retain(|c| bond(*c).is_none());
        let query = tree::copy(sub);
        (*(*query).jointree).quals = tree::copy(all_of(conditions));
        let value = items::<pg_sys::TargetEntry>((*query).targetList)[0];
        let (mut entries, mut clauses) = (Vec::new(), Vec::new());
        for (i, bond) in bonds.iter().enumerate() {
            let number = i as i16 + 1;
            let name = std::ffi::CString::new(format!("key{number}")).unwrap_or_default();
            let entry =
                pg_sys::makeTargetEntry(tree::copy(bond.inner).cast(), number, pg_sys::pstrdup(name.as_ptr()), false);
            (*entry).ressortgroupref = number as u32;
            entries.push(entry);
            let flags = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_LT_OPR | pg_sys::TYPECACHE_HASH_PROC;
            let cache = pg_sys::lookup_type_cache((*bond.inner).vartype, flags as i32);
            let clause = tree::make::<pg_sys::SortGroupClause>(pg_sys::NodeTag::T_SortGroupClause);
            (*clause).tleSortGroupRef = number as u32;
            (*clause).eqop = (*cache).eq_opr;
            (*clause).sortop = (*cache).lt_opr;
            (*clause).hashable = (*cache).hash_proc != pg_sys::InvalidOid;
            clauses.push(clause);
        }
        (*value).resno = bonds.len() as i16 + 1;
        (*value).resname = pg_sys::pstrdup(c"value".as_ptr());
        entries.push(value);
        (*query).targetList = list_of(entries);
        (*query).groupClause = list_of(clauses);
        query
    }
}

/// Only groups that the filters of a table around may ask for: `(columns) IN (SELECT ... FROM table WHERE filters)`.
unsafe fn restrict(
    query: *mut pg_sys::Query,
    conditions: &[*mut Node],
    bonds: &[Bond],
    group: *mut pg_sys::Query,
) -> Option<()> {
    // SAFETY: new nodes and copies.
    unsafe {
        let table = (*bonds[0].outer).varno as u32;
        let rte = tree::entry((*query).rtable, table);
        let of_one = bonds.iter().all(|b| (*b.outer).varno as u32 == table);
        if !of_one || (*rte).rtekind != pg_sys::RTEKind::RTE_RELATION || !(*rte).tablesample.is_null() {
            return None;
        }
        let mut filters = conditions::of_table(query, table)?;
        let tests = conditions.iter().filter(|c| is_test_of(**c, table)).map(|c| {
            let test = tree::copy(*c);
            pg_sys::ChangeVarNodes(test, table as i32, 1, 0);
            test
        });
        let plain = filters.len();
        filters.extend(tests);
        if filters.is_empty() {
            return None;
        }
        let keys = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*keys).commandType = pg_sys::CmdType::CMD_SELECT;
        (*keys).stmt_location = -1;
        (*keys).hasSubLinks = filters.len() > plain;
        compat::adopt_entry(rte, query, keys);
        (*tree::entry((*keys).rtable, 1)).inFromCl = true;
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        let from = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        (*from).fromlist = list_of([reference]);
        (*from).quals = all_of(filters);
        (*keys).jointree = from;
        let mut entries = Vec::new();
        let mut equalities = Vec::new();
        for (i, bond) in bonds.iter().enumerate() {
            let number = i as i32 + 1;
            let outer = own(bond.outer);
            (*outer).varno = 1;
            let param = tree::make::<pg_sys::Param>(pg_sys::NodeTag::T_Param);
            (*param).paramkind = pg_sys::ParamKind::PARAM_SUBLINK;
            (*param).paramid = number;
            (*param).paramtype = (*outer).vartype;
            (*param).paramtypmod = (*outer).vartypmod;
            (*param).paramcollid = (*outer).varcollid;
            (*param).location = -1;
            let name = pg_sys::get_attname((*rte).relid, (*outer).varattno, false);
            entries.push(pg_sys::makeTargetEntry(outer.cast(), number as i16, name, false));
            let equality = tree::copy(bond.operator);
            if !bond.inner_first {
                (*equality).opno = pg_sys::get_commutator((*equality).opno);
                (*equality).opfuncid = pg_sys::InvalidOid;
                if (*equality).opno == pg_sys::InvalidOid {
                    return None;
                }
                pg_sys::set_opfuncid(equality);
            }
            (*equality).args = list_of([tree::copy(bond.inner).cast::<Node>(), param.cast()]);
            equalities.push(equality.cast::<Node>());
        }
        (*keys).targetList = list_of(entries);
        let link = tree::make::<pg_sys::SubLink>(pg_sys::NodeTag::T_SubLink);
        (*link).subLinkType = pg_sys::SubLinkType::ANY_SUBLINK;
        (*link).testexpr = all_of(equalities);
        (*link).subselect = keys.cast();
        (*link).location = -1;
        let own_conditions = &mut (*(*group).jointree).quals;
        let mut all = Vec::new();
        tree::conjuncts(*own_conditions, &mut all);
        all.push(link.cast());
        *own_conditions = all_of(all);
        (*group).hasSubLinks = true;
        Some(())
    }
}

/// Whether a condition is `column of the table IN (SELECT ...)`, which looks at nothing else.
unsafe fn is_test_of(condition: *mut Node, table: u32) -> bool {
    // SAFETY: an analyzed condition.
    unsafe {
        let Some(link) = node_as!(condition, T_SubLink) else { return false };
        let link = link.cast::<pg_sys::SubLink>();
        let other = tree::walk((*link).testexpr, |n| {
            let foreign = node_as!(n, T_Var).is_some_and(|v| {
                let v = v.cast::<pg_sys::Var>();
                (*v).varlevelsup != 0 || (*v).varno as u32 != table || (*v).varattno <= 0
            });
            if foreign || (*n).type_ == pg_sys::NodeTag::T_SubLink { Visit::Stop } else { Visit::Deeper }
        });
        (*link).subLinkType == pg_sys::SubLinkType::ANY_SUBLINK
            && !other
            && !shape::is_correlated((*link).subselect.cast())
            && !pg_sys::contain_volatile_functions(condition)
    }
}

/// Adds a subquery to the FROM list; its number.
unsafe fn add(query: *mut pg_sys::Query, sub: *mut pg_sys::Query) -> u32 {
    // SAFETY: new nodes; the query is a private copy.
    unsafe {
        let rte = tree::make::<pg_sys::RangeTblEntry>(pg_sys::NodeTag::T_RangeTblEntry);
        (*rte).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*rte).subquery = sub;
        let names = items::<pg_sys::TargetEntry>((*sub).targetList)
            .into_iter()
            .map(|t| pg_sys::makeString(pg_sys::pstrdup((*t).resname)));
        (*rte).eref = pg_sys::makeAlias(c"grouped".as_ptr(), list_of(names));
        (*rte).alias = pg_sys::makeAlias(c"grouped".as_ptr(), ptr::null_mut());
        (*rte).inFromCl = true;
        (*query).rtable = pg_sys::lappend((*query).rtable, rte.cast());
        let number = (*(*query).rtable).length;
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = number;
        (*(*query).jointree).fromlist = pg_sys::lappend((*(*query).jointree).fromlist, reference.cast());
        number as u32
    }
}

/// Takes away what was added last.
unsafe fn take_away(query: *mut pg_sys::Query, number: u32) {
    // SAFETY: as above.
    unsafe {
        (*query).rtable = pg_sys::list_truncate((*query).rtable, number as i32 - 1);
        let from = (*query).jointree;
        (*from).fromlist = pg_sys::list_truncate((*from).fromlist, (*(*from).fromlist).length - 1);
    }
}

/// A column of a relation, of the type of an expression.
unsafe fn column(number: u32, attno: i16, like: *mut Node) -> *mut pg_sys::Var {
    // SAFETY: an analyzed expression.
    unsafe {
        let (kind, typmod) = (pg_sys::exprType(like), pg_sys::exprTypmod(like));
        pg_sys::makeVar(number as _, attno, kind, typmod, pg_sys::exprCollation(like), 0)
    }
}

/// A column of the query around, seen from there.
unsafe fn own(outer: *mut pg_sys::Var) -> *mut pg_sys::Var {
    // SAFETY: a copy is changed.
    unsafe {
        let var = tree::copy(outer);
        (*var).varlevelsup = 0;
        (*var).varnosyn = 0;
        (*var).varattnosyn = 0;
        var
    }
}
