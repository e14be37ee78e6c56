//! `Query` to the router's [`Level`]s: which columns are equal to which values, where.
//!
//! Values become parameters first (see `Parameters`), so a `Const`, a client's `$1` and `now()`
//! are all a [`Term::Value`]: an index into `values`.

use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::hash;
use crate::pg::pushdown::mark;
use crate::pg::tree::{self, Node, Visit, items};
use crate::plan::router::{Level, Term};
use pgrx::pg_sys;
use std::collections::HashSet;

/// Reads a query level by level.
pub struct Reader<'a> {
    map: &'a ClusterMap,
    /// Operator families of the shard keys in the query.
    pub families: Vec<u32>,
    /// The expressions behind [`Term::Value`].
    pub values: Vec<*mut Node>,
    relations: usize,
}

/// A query on the path from the top to where a Var stands, with the numbers of its relations.
pub struct Frame {
    pub query: *mut pg_sys::Query,
    /// The number of range table entry 0, so to speak: entry n is relation `base + n`.
    pub base: usize,
    /// Range table entries whose columns resolve into a simple subquery's own.
    inlined: std::collections::HashMap<u32, usize>,
}

impl<'a> Reader<'a> {
    pub fn new(map: &'a ClusterMap, tables: impl IntoIterator<Item = TableId>) -> Reader<'a> {
        let families: HashSet<u32> =
            tables.into_iter().filter_map(|t| hash::key_class(t).ok()).map(|c| c.family.to_u32()).collect();
        Reader { map, families: families.into_iter().collect(), values: Vec::new(), relations: 0 }
    }

    /// The level of a whole query.
    pub unsafe fn read(&mut self, query: *mut pg_sys::Query) -> Level {
        let mut frames = Frames::default();
        let mut level = Level::default();
        // SAFETY: `query` is analyzed and rewritten.
        unsafe { self.read_query(query, &mut frames, &mut level) };
        level
    }

    /// The level of a query within others: `frames` are those around it.
    pub unsafe fn read_within(&mut self, query: *mut pg_sys::Query, frames: &mut Frames) -> Level {
        let mut level = Level::default();
        // SAFETY: as above.
        unsafe { self.read_query(query, frames, &mut level) };
        level
    }

    /// A frame for a query whose parts the caller reads; it ends with [`Frames::leave`].
    pub unsafe fn enter(&mut self, query: *mut pg_sys::Query, frames: &mut Frames) -> usize {
        let base = self.relations;
        // SAFETY: reads a list's length.
        unsafe {
            self.relations += if (*query).rtable.is_null() { 0 } else { (*(*query).rtable).length as usize };
        }
        frames.push(Frame { query, base, inlined: Default::default() })
    }

    /// Adds a query's own facts and tables to `level`, what is below as inner levels.
    unsafe fn read_query(&mut self, query: *mut pg_sys::Query, frames: &mut Frames, level: &mut Level) -> usize {
        // SAFETY: range tables and jointrees of an analyzed query are well formed.
        unsafe {
            let frame = self.enter(query, frames);
            if mark::is_shipped(query) {
                // Its rows come from the coordinator, whatever tables it reads.
                frames.leave();
                return frame;
            }
            for cte in items::<pg_sys::CommonTableExpr>((*query).cteList) {
                if let Some(q) = node_as!((*cte).ctequery, T_Query) {
                    let mut inner = Level::default();
                    self.read_query(q.cast(), frames, &mut inner);
                    level.inner.push(inner);
                }
            }
            if !(*query).jointree.is_null() {
                self.read_join((*query).jointree.cast(), frames, level);
            }
            if !(*query).setOperations.is_null() {
                // The leaves are subqueries of the range table that no jointree names.
                for rte in items::<pg_sys::RangeTblEntry>((*query).rtable) {
                    if (*rte).rtekind == pg_sys::RTEKind::RTE_SUBQUERY {
                        let mut inner = Level::default();
                        self.read_query((*rte).subquery, frames, &mut inner);
                        level.inner.push(inner);
                    }
                }
            }
            // SubLinks anywhere in this query, and the functions of its range table.
            let mut sublinks: Vec<*mut pg_sys::Query> = Vec::new();
            self.collect_sublinks(query, &mut sublinks);
            for sub in sublinks {
                let mut inner = Level::default();
                self.read_query(sub, frames, &mut inner);
                level.inner.push(inner);
            }
            frames.leave();
            frame
        }
    }

    unsafe fn collect_sublinks(&self, query: *mut pg_sys::Query, into: &mut Vec<*mut pg_sys::Query>) {
        // SAFETY: only this query's own expressions are walked; range table subqueries and CTEs are
        // read by `read_query`.
        unsafe {
            let flags = pg_sys::QTW_IGNORE_RT_SUBQUERIES | pg_sys::QTW_IGNORE_CTE_SUBQUERIES;
            tree::walk_query(query, flags as i32, |n| {
                if let Some(s) = node_as!(n, T_SubLink) {
                    let s = s.cast::<pg_sys::SubLink>();
                    into.push((*s).subselect.cast());
                    // the left-hand expressions may hold further SubLinks
                    self.collect_in((*s).testexpr, into);
                    return Visit::Skip;
                }
                Visit::Deeper
            });
        }
    }

    unsafe fn collect_in(&self, node: *mut Node, into: &mut Vec<*mut pg_sys::Query>) {
        // SAFETY: a read-only walk.
        unsafe {
            tree::walk(node, |n| {
                if let Some(s) = node_as!(n, T_SubLink) {
                    into.push((*s.cast::<pg_sys::SubLink>()).subselect.cast());
                    return Visit::Skip;
                }
                Visit::Deeper
            });
        }
    }

    unsafe fn read_join(&mut self, node: *mut Node, frames: &mut Frames, level: &mut Level) {
        // SAFETY: jointree nodes are RangeTblRef, JoinExpr and FromExpr.
        unsafe {
            if node.is_null() {
                return;
            }
            if let Some(from) = node_as!(node, T_FromExpr) {
                let from = from.cast::<pg_sys::FromExpr>();
                for item in items::<Node>((*from).fromlist) {
                    self.read_join(item, frames, level);
                }
                self.read_quals((*from).quals, frames, level);
            } else if let Some(join) = node_as!(node, T_JoinExpr) {
                let join = join.cast::<pg_sys::JoinExpr>();
                let (preserved, nullable): (Vec<*mut Node>, Vec<*mut Node>) = match (*join).jointype {
                    pg_sys::JoinType::JOIN_INNER => (vec![(*join).larg, (*join).rarg], vec![]),
                    pg_sys::JoinType::JOIN_LEFT => (vec![(*join).larg], vec![(*join).rarg]),
                    pg_sys::JoinType::JOIN_RIGHT => (vec![(*join).rarg], vec![(*join).larg]),
                    _ => (vec![], vec![(*join).larg, (*join).rarg]),
                };
                let inner_join = (*join).jointype == pg_sys::JoinType::JOIN_INNER;
                for side in preserved {
                    self.read_join(side, frames, level);
                }
                if inner_join {
                    self.read_quals((*join).quals, frames, level);
                }
                let one_sided = nullable.len() == 1;
                for side in nullable {
                    let mut inner = Level::default();
                    self.read_join(side, frames, &mut inner);
                    if one_sided {
                        self.read_quals((*join).quals, frames, &mut inner);
                    }
                    level.inner.push(inner);
                }
            } else if let Some(reference) = node_as!(node, T_RangeTblRef) {
                let index = (*reference.cast::<pg_sys::RangeTblRef>()).rtindex as u32;
                self.read_relation(index, frames, level);
            }
        }
    }

    unsafe fn read_relation(&mut self, index: u32, frames: &mut Frames, level: &mut Level) {
        // SAFETY: the index belongs to the innermost query.
        unsafe {
            let at = frames.innermost();
            let (query, base) = (frames.all[at].query, frames.all[at].base);
            let rte = tree::entry((*query).rtable, index);
            match (*rte).rtekind {
                pg_sys::RTEKind::RTE_RELATION => {
                    let table = TableId((*rte).relid.to_u32());
                    if let Some((_, attno)) = self.map.distribution(table)
                        && let Ok(class) = hash::key_class(table)
                    {
                        let key =
                            Term::Column { relation: base + index as usize, attno, family: class.family.to_u32() };
                        level.keys.push((table, key));
                    }
                }
                pg_sys::RTEKind::RTE_SUBQUERY => {
                    let sub = (*rte).subquery;
                    if let Some(mark::To::By(attno)) = mark::shipped_to(sub) {
                        // Its rows are split like those of a table; of several families it can only have one.
                        let relation = base + index as usize;
                        let table = TableId(pg_sys::InvalidOid.to_u32());
                        let key = |family: &u32| (table, Term::Column { relation, attno, family: *family });
                        level.keys.extend(self.families.iter().map(key));
                    } else if is_simple(sub) {
                        // Its rows are filtered as if its FROM list stood here.
                        let frame = self.read_query(sub, frames, level);
                        frames.all[at].inlined.insert(index, frame);
                    } else {
                        let mut inner = Level::default();
                        self.read_query(sub, frames, &mut inner);
                        level.inner.push(inner);
                    }
                }
                _ => {}
            }
        }
    }

    unsafe fn read_quals(&mut self, quals: *mut Node, frames: &mut Frames, level: &mut Level) {
        // SAFETY: quals are expressions of the innermost query.
        level.equalities.extend(unsafe { self.equalities(quals, frames) });
    }

    /// The equalities among the conjuncts of a condition.
    pub unsafe fn equalities(&mut self, quals: *mut Node, frames: &Frames) -> Vec<(Term, Term)> {
        let mut found = Vec::new();
        let mut list = Vec::new();
        // SAFETY: quals are expressions of the innermost query.
        unsafe {
            tree::conjuncts(quals, &mut list);
            for qual in list {
                let Some(op) = node_as!(qual, T_OpExpr) else { continue };
                let op = op.cast::<pg_sys::OpExpr>();
                let args = items::<Node>((*op).args);
                if args.len() != 2 || !deterministic((*op).inputcollid) {
                    continue;
                }
                for family in self.families.clone() {
                    if pg_sys::get_op_opfamily_strategy((*op).opno, pg_sys::Oid::from(family)) != 1 {
                        continue;
                    }
                    if let (Some(a), Some(b)) = (self.term(args[0], family, frames), self.term(args[1], family, frames))
                    {
                        found.push((a, b));
                    }
                }
            }
        }
        found
    }

    /// The term that an operand is: a column, or a value that the coordinator knows.
    pub unsafe fn term(&mut self, node: *mut Node, family: u32, frames: &Frames) -> Option<Term> {
        // SAFETY: the operand belongs to the innermost query.
        unsafe {
            let node = strip_relabel(node);
            if let Some(var) = node_as!(node, T_Var) {
                let var = var.cast::<pg_sys::Var>();
                let depth = frames.path.len().checked_sub(1 + (*var).varlevelsup as usize)?;
                return self.resolve(frames.path[depth], (*var).varno as u32, (*var).varattno, family, frames);
            }
            if !is_value(node) {
                return None;
            }
            let index = self.values.iter().position(|v| pg_sys::equal((*v).cast(), node.cast())).unwrap_or_else(|| {
                self.values.push(node);
                self.values.len() - 1
            });
            Some(Term::Value(index))
        }
    }

    /// A column of a frame, looked up through joins and inlined subqueries.
    pub unsafe fn resolve(&self, frame: usize, varno: u32, attno: i16, family: u32, frames: &Frames) -> Option<Term> {
        // SAFETY: varno and attno are valid in the frame's query.
        unsafe {
            let f = &frames.all[frame];
            let rte = tree::entry((*f.query).rtable, varno);
            match (*rte).rtekind {
                pg_sys::RTEKind::RTE_JOIN if attno > 0 => {
                    let vars = items::<Node>((*rte).joinaliasvars);
                    let var = node_as!(strip_relabel(*vars.get(attno as usize - 1)?), T_Var)?.cast::<pg_sys::Var>();
                    self.resolve(frame, (*var).varno as u32, (*var).varattno, family, frames)
                }
                pg_sys::RTEKind::RTE_SUBQUERY if attno > 0 && f.inlined.contains_key(&varno) => {
                    let inner = f.inlined[&varno];
                    let tles = items::<pg_sys::TargetEntry>((*frames.all[inner].query).targetList);
                    let tle = tles.into_iter().find(|t| (**t).resno == attno)?;
                    let expr = strip_relabel((*tle).expr.cast());
                    if let Some(var) = node_as!(expr, T_Var) {
                        let var = var.cast::<pg_sys::Var>();
                        if (*var).varlevelsup == 0 {
                            return self.resolve(inner, (*var).varno as u32, (*var).varattno, family, frames);
                        }
                    }
                    Some(Term::Column { relation: f.base + varno as usize, attno, family })
                }
                _ if attno > 0 => Some(Term::Column { relation: f.base + varno as usize, attno, family }),
                _ => None,
            }
        }
    }
}

/// The queries that were read, and the path to the innermost one.
#[derive(Default)]
pub struct Frames {
    pub all: Vec<Frame>,
    /// Indexes into `all`, outermost first.
    pub path: Vec<usize>,
}

impl Frames {
    pub fn leave(&mut self) {
        self.path.pop();
    }

    fn push(&mut self, frame: Frame) -> usize {
        self.all.push(frame);
        self.path.push(self.all.len() - 1);
        self.all.len() - 1
    }

    pub fn innermost(&self) -> usize {
        *self.path.last().unwrap_or(&0)
    }
}

/// A subquery that only joins and filters: conditions on its output are conditions on its input.
pub unsafe fn is_simple(query: *mut pg_sys::Query) -> bool {
    // SAFETY: reads fields of an analyzed query.
    unsafe {
        let q = &*query;
        q.commandType == pg_sys::CmdType::CMD_SELECT
            && !q.hasAggs
            && !q.hasWindowFuncs
            && !q.hasTargetSRFs
            && !q.hasForUpdate
            && q.groupClause.is_null()
            && q.groupingSets.is_null()
            && q.havingQual.is_null()
            && q.distinctClause.is_null()
            && q.limitCount.is_null()
            && q.limitOffset.is_null()
            && q.setOperations.is_null()
    }
}

/// A constant that is not NULL, or a parameter: what [`crate::pg::params`] left in place of a value.
unsafe fn is_value(node: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe {
        if let Some(c) = node_as!(node, T_Const) {
            return !(*c.cast::<pg_sys::Const>()).constisnull;
        }
        if let Some(cast) = node_as!(node, T_CoerceViaIO) {
            return is_value((*cast.cast::<pg_sys::CoerceViaIO>()).arg.cast());
        }
        if let Some(p) = node_as!(node, T_Param) {
            return (*p.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXTERN;
        }
        false
    }
}

/// Without casts that change the type's name only (varchar to text).
pub unsafe fn strip_relabel(node: *mut Node) -> *mut Node {
    // SAFETY: RelabelType.arg is an expression.
    unsafe {
        match node_as!(node, T_RelabelType) {
            Some(r) => strip_relabel((*r.cast::<pg_sys::RelabelType>()).arg.cast()),
            None => node,
        }
    }
}

/// Equality under this collation is equality of bytes.
pub unsafe fn deterministic(collation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { collation == pg_sys::InvalidOid || pg_sys::get_collation_isdeterministic(collation) }
}
