//! What a query asks for, as far as splitting it is concerned: read-only looks at a `Query`.

use super::ship::mark;
use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::compat;
use crate::pg::tree::{self, Node, Visit, items};
use crate::plan::tuning::Reads;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Whether rows are grouped or aggregated.
pub unsafe fn groups(query: *const pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe {
        let q = &*query;
        q.hasAggs || !q.groupClause.is_null() || !q.groupingSets.is_null() || !q.havingQual.is_null()
    }
}

/// Whether a query's only source is a subquery that sorts its rows.
pub unsafe fn reads_one_that_sorts(query: *const pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe {
        if (*query).jointree.is_null() {
            return false;
        }
        let [source] = items::<Node>((*(*query).jointree).fromlist)[..] else { return false };
        let Some(reference) = node_as!(source, T_RangeTblRef) else { return false };
        let rte = tree::entry((*query).rtable, (*reference.cast::<pg_sys::RangeTblRef>()).rtindex as u32);
        (*rte).rtekind == pg_sys::RTEKind::RTE_SUBQUERY && !(*(*rte).subquery).sortClause.is_null()
    }
}

/// The target entry that a sort or group clause names.
pub unsafe fn entry_of(query: *const pg_sys::Query, reference: u32) -> Option<*mut pg_sys::TargetEntry> {
    // SAFETY: as above.
    unsafe {
        items::<pg_sys::TargetEntry>((*query).targetList)
            .into_iter()
            .find(|t| reference != 0 && (**t).ressortgroupref == reference)
    }
}

/// A view's entry is no table of its own.
pub unsafe fn is_view(rte: *const pg_sys::RangeTblEntry) -> bool {
    // SAFETY: reads an entry.
    unsafe { matches!((*rte).relkind as u8, b'v' | b'c') }
}

/// Whether the nodes have to read a distributed table anywhere below.
pub unsafe fn reads_distributed(node: *mut Node, map: &ClusterMap) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(node, |n| {
            if mark::is_shipped_query(n) {
                return Visit::Skip;
            }
            let found = node_as!(n, T_RangeTblEntry).is_some_and(|rte| {
                let rte = rte.cast::<pg_sys::RangeTblEntry>();
                (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                    && map.distribution(TableId((*rte).relid.to_u32())).is_some()
            });
            if found { Visit::Stop } else { Visit::Deeper }
        })
    }
}

/// Visits a query and those below with their depth, until `test` is true.
pub(super) unsafe fn any_below(
    query: *mut pg_sys::Query,
    depth: u32,
    test: &mut dyn FnMut(*mut Node, u32) -> bool,
) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk_query(query, pg_sys::QTW_EXAMINE_RTES_BEFORE as i32, |n| {
            if test(n, depth) {
                return Visit::Stop;
            }
            match node_as!(n, T_Query) {
                Some(q) if any_below(q.cast(), depth + 1, test) => Visit::Stop,
                Some(_) => Visit::Skip,
                None => Visit::Deeper,
            }
        })
    }
}

unsafe fn is_outer_cte(node: *mut Node, depth: u32) -> bool {
    // SAFETY: the tag says what it is.
    unsafe {
        node_as!(node, T_RangeTblEntry).is_some_and(|rte| {
            let rte = rte.cast::<pg_sys::RangeTblEntry>();
            (*rte).rtekind == pg_sys::RTEKind::RTE_CTE && (*rte).ctelevelsup > depth
        })
    }
}

/// Whether a query names a CTE of a query around it.
pub unsafe fn reads_outer_cte(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a read-only walk.
    unsafe { any_below(query, 0, &mut |n, depth| is_outer_cte(n, depth)) }
}

/// Whether a query uses anything of a query around it: columns, aggregates, CTEs.
pub unsafe fn is_correlated(query: *mut pg_sys::Query) -> bool {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        any_below(query, 0, &mut |n, depth| match (*n).type_ {
            pg_sys::NodeTag::T_Var => (*n.cast::<pg_sys::Var>()).varlevelsup > depth,
            pg_sys::NodeTag::T_Aggref => (*n.cast::<pg_sys::Aggref>()).agglevelsup > depth,
            pg_sys::NodeTag::T_GroupingFunc => (*n.cast::<pg_sys::GroupingFunc>()).agglevelsup > depth,
            pg_sys::NodeTag::T_RangeTblEntry => is_outer_cte(n, depth),
            _ => false,
        })
    }
}

/// The conditions that every row has passed: conjuncts of WHERE and of inner joins.
pub unsafe fn inner_conditions(node: *mut Node, into: &mut Vec<*mut Node>) {
    // SAFETY: jointree nodes.
    unsafe {
        if let Some(from) = node_as!(node, T_FromExpr) {
            let from = from.cast::<pg_sys::FromExpr>();
            for item in items::<Node>((*from).fromlist) {
                inner_conditions(item, into);
            }
            tree::conjuncts((*from).quals, into);
        } else if let Some(join) = node_as!(node, T_JoinExpr) {
            let join = join.cast::<pg_sys::JoinExpr>();
            if (*join).jointype == pg_sys::JoinType::JOIN_INNER {
                inner_conditions((*join).larg, into);
                inner_conditions((*join).rarg, into);
                tree::conjuncts((*join).quals, into);
            }
        }
    }
}

/// The SubLinks in a query's own expressions, those in the test of another included.
pub unsafe fn own_sublinks(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::SubLink> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        let flags = pg_sys::QTW_IGNORE_RT_SUBQUERIES | pg_sys::QTW_IGNORE_CTE_SUBQUERIES;
        tree::walk_query(query, flags as i32, |n| collect(n, &mut found));
    }
    found
}

unsafe fn collect(node: *mut Node, into: &mut Vec<*mut pg_sys::SubLink>) -> Visit {
    // SAFETY: a read-only walk.
    unsafe {
        let Some(link) = node_as!(node, T_SubLink) else { return Visit::Deeper };
        let link = link.cast::<pg_sys::SubLink>();
        into.push(link);
        tree::walk((*link).testexpr, |n| collect(n, into));
        Visit::Skip
    }
}

/// Whether a subquery of the statement is the coordinator's to evaluate, once.
pub unsafe fn has_statement_value(query: *mut pg_sys::Query, map: &ClusterMap) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(query.cast(), |n| match node_as!(n, T_SubLink) {
            Some(link) if is_statement_value(link.cast(), map) => Visit::Stop,
            _ => Visit::Deeper,
        })
    }
}

/// Whether a SubLink is one value for the whole statement, which the coordinator has to find out: `(SELECT
/// avg(x) FROM t)`. It is evaluated even if no row asks for it, so it must not be one that may fail for
/// having several rows.
pub unsafe fn is_statement_value(link: *mut pg_sys::SubLink, map: &ClusterMap) -> bool {
    // SAFETY: reads an analyzed SubLink.
    unsafe {
        let sub = (*link).subselect.cast::<pg_sys::Query>();
        (*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK
            && (*sub).hasAggs
            && (*sub).groupClause.is_null()
            && (*sub).groupingSets.is_null()
            && !(*sub).hasTargetSRFs
            && reads_distributed(sub.cast(), map)
            && !is_correlated(sub)
            && !pg_sys::contain_volatile_functions(sub.cast())
    }
}

/// Why a query may answer differently from copies of the same rows.
pub unsafe fn order_matters(query: *mut pg_sys::Query) -> Option<String> {
    // SAFETY: reads an analyzed query.
    unsafe {
        let q = &*query;
        if !q.limitCount.is_null() || !q.limitOffset.is_null() || q.hasDistinctOn || q.hasWindowFuncs {
            return Some("a subquery of reference tables may answer differently on each node".into());
        }
        let mut found = None;
        if q.hasAggs {
            for node in [q.targetList.cast::<Node>(), q.havingQual] {
                tree::walk(node, |n| {
                    if (*n).type_ == pg_sys::NodeTag::T_Query {
                        return Visit::Skip;
                    }
                    if let Some(agg) = node_as!(n, T_Aggref)
                        && !ignores_order(agg.cast())
                    {
                        found =
                            Some("an aggregate of reference tables may answer differently on each node".to_string());
                        return Visit::Stop;
                    }
                    Visit::Deeper
                });
            }
        }
        found
    }
}

/// The same for a query and all below.
pub unsafe fn order_matters_below(query: *mut pg_sys::Query) -> Option<String> {
    let mut found = None;
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(query.cast(), |n| {
            if mark::is_shipped_query(n) {
                return Visit::Skip;
            }
            if let Some(q) = node_as!(n, T_Query) {
                found = order_matters(q.cast());
            }
            if found.is_some() { Visit::Stop } else { Visit::Deeper }
        });
    }
    found
}

/// Aggregates of Postgres's own whose result does not depend on the order of the rows.
unsafe fn ignores_order(agg: *mut pg_sys::Aggref) -> bool {
    const NAMES: [&str; 11] =
        ["count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor"];
    // SAFETY: a syscache look-up; reads the node.
    unsafe {
        let float =
            tree::oids((*agg).aggargtypes).into_iter().any(|t| t == pg_sys::FLOAT4OID || t == pg_sys::FLOAT8OID);
        !float && builtin_name((*agg).aggfnoid).is_some_and(|name| NAMES.contains(&name.as_str()))
    }
}

/// The name of a function of Postgres's own.
pub unsafe fn builtin_name(function: pg_sys::Oid) -> Option<String> {
    // SAFETY: get_func_name returns null or a palloc'd string.
    unsafe {
        if function.to_u32() >= 10_000 {
            return None;
        }
        let name = pg_sys::get_func_name(function);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// Writes what GROUP BY's own range table entry (18 on) stands for in its place, at all levels.
pub unsafe fn flatten_groups(query: *mut pg_sys::Query) {
    // SAFETY: the tree is a private copy.
    unsafe {
        tree::walk(query.cast(), |n| {
            if let Some(q) = node_as!(n, T_Query) {
                compat::flatten_groups(q.cast());
            }
            Visit::Deeper
        });
    }
}

/// What a query of the nodes reads, by estimate; its aggregates and indexes are not looked for.
pub unsafe fn reads(query: *mut pg_sys::Query, map: &ClusterMap) -> Reads {
    let mut reads = Reads::default();
    let mut largest = 0.0;
    // SAFETY: a read-only walk; the tables are locked.
    unsafe {
        tree::walk(query.cast(), |n| {
            if let Some(rte) = node_as!(n, T_RangeTblEntry) {
                let rte = rte.cast::<pg_sys::RangeTblEntry>();
                if (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION && !is_view(rte) {
                    let rows = crate::pg::tuple::estimated_rows((*rte).relid);
                    reads.rows += rows;
                    if let Some((group, _)) = map.distribution(TableId((*rte).relid.to_u32())) {
                        reads.beside_largest += rows.min(largest);
                        largest = rows.max(largest);
                        reads.tables += 1;
                        reads.shards = group.shards.len();
                        reads.nodes = group.nodes().len();
                    }
                }
            }
            Visit::Deeper
        });
    }
    reads
}
