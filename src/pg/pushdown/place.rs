//! Where the rows of a query are: `Query` to the [`Part`]s of [`crate::plan::pushdown`].
//!
//! In `SELECT ... FROM orders o LEFT JOIN items i ON i.tenant = o.tenant, countries c WHERE o.tenant IN
//! (SELECT tenant FROM vip)` the outer join is split by `o.tenant`, the reference table joins freely, and
//! the subquery, split by its output column, meets the rows of its tenant on their node.
//!
//! Rows that the coordinator sends along ([`ship`](super::ship)) are on every node, or each on that of its key.
//!
//! A subquery in an expression is evaluated for each row. On a node it sees what it would see on one
//! server if all it reads of distributed tables has the shard key of that row, or if it reads
//! reference tables only. What depends on an order that is not given (LIMIT, `row_number()`) may differ
//! from copy to copy, so it is not evaluated on several nodes.

use super::shape;
use super::ship::mark::{self, To};
use crate::catalog::{ClusterMap, GroupId, Spread, TableId};
use crate::node_as;
use crate::pg::hash;
use crate::pg::query_tree::{Frames, Reader, strip_relabel};
use crate::pg::tree::{self, Node, Visit, items};
use crate::pg::tuple;
use crate::plan::pushdown::{Apart, Keys, Part, Place};
use crate::plan::router::{self, Term};
use pgrx::pg_sys;
use std::collections::HashSet;

pub type Reason = String;

/// The value index that stands for "the shard key of the outer row": lower than any other.
const OUTER_KEY: usize = 0;

/// An output column of a subquery that tells where its row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Output {
    attno: i16,
    strong: bool,
}

/// Where the rows of a finished query are.
#[derive(Clone, Debug)]
pub enum Rows {
    Everywhere,
    Split(Outputs),
}

/// The output columns that tell the node.
#[derive(Clone, Debug, Default)]
pub struct Outputs(Vec<Output>);

impl Outputs {
    /// Whether this column tells the node of its row, also if it is NULL.
    pub fn has(&self, attno: i16) -> bool {
        self.0.iter().any(|output| output.attno == attno && output.strong)
    }
}

/// A query's FROM and WHERE, read.
pub struct Block {
    pub(super) frame: usize,
    pub place: Place,
}

pub struct Reading<'a> {
    map: &'a ClusterMap,
    pub(super) reader: Reader<'a>,
    pub(super) frames: Frames,
    group: Option<GroupId>,
    /// The distributed tables that were met: the first names the group's nodes.
    pub table: Option<TableId>,
    /// How many tables were met.
    pub relations: usize,
}

impl<'a> Reading<'a> {
    pub fn new(map: &'a ClusterMap, tables: &[TableId]) -> Reading<'a> {
        let mut reader = Reader::new(map, tables.iter().copied());
        reader.values.push(std::ptr::null_mut());
        Reading { map, reader, frames: Frames::default(), group: None, table: None, relations: 0 }
    }

    /// Where the rows of a whole query are.
    pub unsafe fn query(&mut self, query: *mut pg_sys::Query) -> Result<Rows, Reason> {
        // SAFETY: `query` is analyzed and rewritten.
        unsafe {
            if let Some(to) = mark::shipped_to(query) {
                self.relations += 1;
                return Ok(match to {
                    To::AllNodes => Rows::Everywhere,
                    To::By(attno) => Rows::Split(Outputs(vec![Output { attno, strong: true }])),
                });
            }
            if !(*query).setOperations.is_null() {
                self.reader.enter(query, &mut self.frames);
                let rows = self.set_operation(query, (*query).setOperations);
                self.frames.leave();
                let rows = rows?;
                if !(*query).limitCount.is_null() || !(*query).limitOffset.is_null() {
                    return Err("a subquery has LIMIT".into());
                }
                return Ok(rows);
            }
            let block = self.block(query)?;
            if block.place == Place::Everywhere {
                return match shape::order_matters(query) {
                    Some(reason) => Err(reason),
                    None => Ok(Rows::Everywhere),
                };
            }
            if shape::groups(query) && !self.completes_groups(query, &block) {
                return Err("a subquery groups by other columns than the shard key".into());
            }
            if !self.completes_windows(query, &block) {
                return Err("a window is not partitioned by the shard key".into());
            }
            if !(*query).distinctClause.is_null() && !self.completes_distinct(query, &block) {
                return Err("a subquery has DISTINCT without the shard key".into());
            }
            if !(*query).limitCount.is_null() || !(*query).limitOffset.is_null() {
                return Err("a subquery has LIMIT".into());
            }
            Ok(Rows::Split(self.outputs(query, &block)))
        }
    }

    /// Reads FROM and WHERE, and the subqueries in any expression of the query.
    pub unsafe fn block(&mut self, query: *mut pg_sys::Query) -> Result<Block, Reason> {
        // SAFETY: as above.
        unsafe {
            let frame = self.reader.enter(query, &mut self.frames);
            let block = self.block_within(query, frame);
            self.frames.leave();
            block
        }
    }

    unsafe fn block_within(&mut self, query: *mut pg_sys::Query, frame: usize) -> Result<Block, Reason> {
        // SAFETY: as above.
        unsafe {
            if !(*query).rowMarks.is_null() {
                return Err("it locks rows".into());
            }
            if (*query).hasTargetSRFs {
                return Err("its SELECT list returns sets".into());
            }
            let place = if (*query).jointree.is_null() {
                Place::Everywhere
            } else {
                self.joined(query, (*query).jointree.cast())?.place
            };
            let block = Block { frame, place };
            self.subqueries(query, &block)?;
            Ok(block)
        }
    }

    /// A join group: FROM items and inner joins, with their conditions.
    pub(super) unsafe fn joined(&mut self, query: *mut pg_sys::Query, node: *mut Node) -> Result<Part, Reason> {
        // SAFETY: jointree nodes are RangeTblRef, JoinExpr and FromExpr.
        unsafe {
            let mut group = Group::default();
            self.collect(query, node, &mut group)?;
            let part = Part::inner(group.parts, group.equalities).map_err(apart)?;
            for lateral in group.lateral {
                self.follows(lateral, &part.place)?;
            }
            Ok(part)
        }
    }

    unsafe fn collect(&mut self, query: *mut pg_sys::Query, node: *mut Node, group: &mut Group) -> Result<(), Reason> {
        // SAFETY: as above.
        unsafe {
            if let Some(from) = node_as!(node, T_FromExpr) {
                let from = from.cast::<pg_sys::FromExpr>();
                for item in items::<Node>((*from).fromlist) {
                    self.collect(query, item, group)?;
                }
                group.equalities.extend(self.reader.equalities((*from).quals, &self.frames));
                return Ok(());
            }
            if let Some(join) = node_as!(node, T_JoinExpr) {
                let join = join.cast::<pg_sys::JoinExpr>();
                let (left, right) = ((*join).larg, (*join).rarg);
                let kind = (*join).jointype;
                if kind == pg_sys::JoinType::JOIN_INNER {
                    self.collect(query, left, group)?;
                    self.collect(query, right, group)?;
                    group.equalities.extend(self.reader.equalities((*join).quals, &self.frames));
                    return Ok(());
                }
                let on = self.reader.equalities((*join).quals, &self.frames);
                let (left, right) = if kind == pg_sys::JoinType::JOIN_RIGHT { (right, left) } else { (left, right) };
                let outer = self.joined(query, left)?;
                let inner = match self.lateral(query, right) {
                    Some((relation, sub)) => {
                        self.follows(sub, &outer.place)?;
                        Part::relation(relation, Place::Everywhere)
                    }
                    None => self.joined(query, right)?,
                };
                let part = match kind {
                    pg_sys::JoinType::JOIN_LEFT | pg_sys::JoinType::JOIN_RIGHT => Part::left(outer, inner, on),
                    pg_sys::JoinType::JOIN_FULL => Part::full(outer, inner, on),
                    _ => return Err("it has an unusual join".into()),
                };
                group.parts.push(part.map_err(apart)?);
                return Ok(());
            }
            if let Some((relation, sub)) = self.lateral(query, node) {
                group.parts.push(Part::relation(relation, Place::Everywhere));
                group.lateral.push(sub);
                return Ok(());
            }
            let Some(reference) = node_as!(node, T_RangeTblRef) else { return Err("it has an unusual join".into()) };
            let part = self.relation(query, (*reference.cast::<pg_sys::RangeTblRef>()).rtindex as u32)?;
            group.parts.push(part);
            Ok(())
        }
    }

    /// A LATERAL subquery that reads distributed tables.
    unsafe fn lateral(&self, query: *mut pg_sys::Query, node: *mut Node) -> Option<(usize, *mut pg_sys::Query)> {
        // SAFETY: as above.
        unsafe {
            let index = (*node_as!(node, T_RangeTblRef)?.cast::<pg_sys::RangeTblRef>()).rtindex as u32;
            let rte = tree::entry((*query).rtable, index);
            let found = (*rte).rtekind == pg_sys::RTEKind::RTE_SUBQUERY
                && (*rte).lateral
                && (shape::reads_distributed((*rte).subquery.cast(), self.map)
                    || !mark::shipped_by_key((*rte).subquery.cast()).is_empty());
            found.then(|| (self.number(index), (*rte).subquery))
        }
    }

    fn number(&self, index: u32) -> usize {
        self.frames.all[self.frames.innermost()].base + index as usize
    }

    pub(super) unsafe fn relation(&mut self, query: *mut pg_sys::Query, index: u32) -> Result<Part, Reason> {
        // SAFETY: the index belongs to the innermost query.
        unsafe {
            let rte = tree::entry((*query).rtable, index);
            let number = self.number(index);
            match (*rte).rtekind {
                pg_sys::RTEKind::RTE_RELATION => {
                    let place = self.table(rte, number)?;
                    Ok(Part::relation(number, place))
                }
                pg_sys::RTEKind::RTE_SUBQUERY => {
                    let rows = self.query((*rte).subquery)?;
                    Ok(self.derived(number, rows))
                }
                pg_sys::RTEKind::RTE_CTE => {
                    let rows = self.cte(rte)?;
                    Ok(self.derived(number, rows))
                }
                pg_sys::RTEKind::RTE_FUNCTION
                | pg_sys::RTEKind::RTE_VALUES
                | pg_sys::RTEKind::RTE_TABLEFUNC
                | pg_sys::RTEKind::RTE_RESULT => Ok(Part::relation(number, Place::Everywhere)),
                _ => Err("it reads rows that are only on the coordinator".into()),
            }
        }
    }

    unsafe fn table(&mut self, rte: *mut pg_sys::RangeTblEntry, number: usize) -> Result<Place, Reason> {
        // SAFETY: reads the entry of a table.
        unsafe {
            let table = TableId((*rte).relid.to_u32());
            if !(*rte).tablesample.is_null() {
                return Err("it samples a table".into());
            }
            self.relations += 1;
            match self.map.table(table).map(|t| &t.spread) {
                Some(Spread::Reference) => Ok(Place::Everywhere),
                Some(Spread::Distributed { group, key_attno, .. }) => {
                    if *self.group.get_or_insert(*group) != *group {
                        return Err("its tables are not colocated".into());
                    }
                    self.table.get_or_insert(table);
                    let class = hash::key_class(table).map_err(|_| "a shard key cannot be hashed")?;
                    let key = Term::Column { relation: number, attno: *key_attno, family: class.family.to_u32() };
                    Ok(Place::Split(Keys { strong: HashSet::from([key]), weak: HashSet::new() }))
                }
                None => Err(format!(
                    "table {} is only on the coordinator",
                    tuple::qualified_name((*rte).relid).replace('"', "")
                )),
            }
        }
    }

    fn derived(&self, relation: usize, rows: Rows) -> Part {
        let place = match rows {
            Rows::Everywhere => Place::Everywhere,
            Rows::Split(outputs) => {
                let mut keys = Keys::default();
                for output in outputs.0 {
                    for family in &self.reader.families {
                        let term = Term::Column { relation, attno: output.attno, family: *family };
                        if output.strong {
                            keys.strong.insert(term)
                        } else {
                            keys.weak.insert(term)
                        };
                    }
                }
                Place::Split(keys)
            }
        };
        Part::relation(relation, place)
    }

    /// The query of a CTE, read again for each reference, as if it stood there.
    unsafe fn cte(&mut self, rte: *mut pg_sys::RangeTblEntry) -> Result<Rows, Reason> {
        // SAFETY: the CTE is in the list of the query that many levels up.
        unsafe {
            let depth = self.frames.path.len().checked_sub(1 + (*rte).ctelevelsup as usize);
            let Some(depth) = depth else { return Err("it reads a CTE of an outer query".into()) };
            let owner = self.frames.all[self.frames.path[depth]].query;
            let name = std::ffi::CStr::from_ptr((*rte).ctename);
            let Some(cte) = items::<pg_sys::CommonTableExpr>((*owner).cteList)
                .into_iter()
                .find(|c| std::ffi::CStr::from_ptr((**c).ctename) == name)
            else {
                return Err("it reads a CTE of an outer query".into());
            };
            let Some(query) = node_as!((*cte).ctequery, T_Query) else { return Err("a CTE modifies data".into()) };
            if (*cte).cterecursive {
                return if shape::reads_distributed(query, self.map) {
                    Err("a recursive query reads a distributed table".into())
                } else {
                    Ok(Rows::Everywhere)
                };
            }
            let below = self.frames.path.split_off(depth + 1);
            let rows = self.query(query.cast());
            self.frames.path.extend(below);
            rows
        }
    }

    /// Whether all that a subquery reads of distributed tables has the shard key of the outer row.
    unsafe fn follows(&mut self, sub: *mut pg_sys::Query, place: &Place) -> Result<(), Reason> {
        // SAFETY: `sub` is below the innermost query.
        unsafe {
            if shape::reads_outer_cte(sub) {
                return Err("a subquery reads a CTE of an outer query".into());
            }
            self.count(sub)?;
            let Place::Split(keys) = place else {
                return Err("a subquery of rows of reference tables reads a distributed table".into());
            };
            let level = self.reader.read_within(sub, &mut self.frames);
            router::pinned_to(&level, keys.any().copied(), OUTER_KEY)
                .map_err(|_| "a subquery reads rows of another shard key".to_string())
        }
    }

    /// Looks at the tables of a subquery that is not read part by part.
    unsafe fn count(&mut self, sub: *mut pg_sys::Query) -> Result<(), Reason> {
        let mut result = Ok(());
        // SAFETY: a read-only walk.
        unsafe {
            tree::walk(sub.cast(), |n| {
                if mark::is_shipped_query(n) {
                    self.relations += 1;
                    return Visit::Skip;
                }
                if let Some(rte) = node_as!(n, T_RangeTblEntry)
                    && (*rte.cast::<pg_sys::RangeTblEntry>()).rtekind == pg_sys::RTEKind::RTE_RELATION
                    && !shape::is_view(rte.cast())
                    && let Err(reason) = self.table(rte.cast(), 0)
                {
                    result = Err(reason);
                    return Visit::Stop;
                }
                Visit::Deeper
            });
        }
        result
    }

    /// The subqueries in the query's own expressions.
    unsafe fn subqueries(&mut self, query: *mut pg_sys::Query, block: &Block) -> Result<(), Reason> {
        // SAFETY: expressions of the innermost query.
        unsafe {
            if !(*query).hasSubLinks {
                return Ok(());
            }
            let mut conditions = Vec::new();
            if !(*query).jointree.is_null() {
                shape::inner_conditions((*query).jointree.cast(), &mut conditions);
            }
            for link in shape::own_sublinks(query) {
                let sub = (*link).subselect.cast::<pg_sys::Query>();
                if mark::shipped_to(sub) == Some(To::AllNodes) {
                    self.relations += 1;
                    continue;
                }
                let is_cut = !mark::shipped_by_key(sub.cast()).is_empty();
                if !is_cut && !shape::reads_distributed(sub.cast(), self.map) {
                    if shape::reads_outer_cte(sub) {
                        return Err("a subquery reads a CTE of an outer query".into());
                    }
                    self.count(sub)?;
                    if let Some(reason) = shape::order_matters_below(sub) {
                        return Err(reason);
                    }
                    continue;
                }
                if shape::is_statement_value(link, self.map) {
                    continue;
                }
                let is_condition = conditions.contains(&link.cast::<Node>());
                if is_condition && self.is_semi_join(link, block)? {
                    continue;
                }
                if mark::is_shipped(sub) {
                    return Err("a subquery is asked for rows of other nodes".into());
                }
                self.follows(sub, &block.place)?;
            }
            Ok(())
        }
    }

    /// `key IN (SELECT key ...)` as a condition: rows meet on their node.
    unsafe fn is_semi_join(&mut self, link: *mut pg_sys::SubLink, block: &Block) -> Result<bool, Reason> {
        // SAFETY: the test compares an expression with a column of the subquery, or ANDs such.
        unsafe {
            let Place::Split(keys) = &block.place else { return Ok(false) };
            if (*link).subLinkType != pg_sys::SubLinkType::ANY_SUBLINK {
                return Ok(false);
            }
            let sub = (*link).subselect.cast::<pg_sys::Query>();
            let (group, relations) = (self.group, self.relations);
            let Ok(Rows::Split(outputs)) = self.query(sub) else {
                (self.group, self.relations) = (group, relations);
                return Ok(false);
            };
            let mut tests = Vec::new();
            tree::conjuncts((*link).testexpr, &mut tests);
            for test in tests {
                let Some(op) = node_as!(test, T_OpExpr) else { continue };
                let op = op.cast::<pg_sys::OpExpr>();
                let args = items::<Node>((*op).args);
                if args.len() != 2 || !crate::pg::query_tree::deterministic((*op).inputcollid) {
                    continue;
                }
                let Some(param) = node_as!(strip_relabel(args[1]), T_Param) else { continue };
                let column = (*param.cast::<pg_sys::Param>()).paramid as i16;
                for family in self.reader.families.clone() {
                    if pg_sys::get_op_opfamily_strategy((*op).opno, pg_sys::Oid::from(family)) == 1
                        && outputs.0.iter().any(|o| o.attno == column)
                        && self.reader.term(args[0], family, &self.frames).is_some_and(|t| keys.contains(&t))
                    {
                        return Ok(true);
                    }
                }
            }
            (self.group, self.relations) = (group, relations);
            Ok(false)
        }
    }

    unsafe fn set_operation(&mut self, query: *mut pg_sys::Query, node: *mut Node) -> Result<Rows, Reason> {
        // SAFETY: a tree of SetOperationStmt over RangeTblRefs of subqueries.
        unsafe {
            if let Some(leaf) = node_as!(node, T_RangeTblRef) {
                let rte = tree::entry((*query).rtable, (*leaf.cast::<pg_sys::RangeTblRef>()).rtindex as u32);
                return self.query((*rte).subquery);
            }
            let Some(op) = node_as!(node, T_SetOperationStmt) else { return Err("it has an unusual join".into()) };
            let op = op.cast::<pg_sys::SetOperationStmt>();
            let left = self.set_operation(query, (*op).larg)?;
            let right = self.set_operation(query, (*op).rarg)?;
            match (left, right) {
                (Rows::Everywhere, Rows::Everywhere) => Ok(Rows::Everywhere),
                (Rows::Split(a), Rows::Split(b)) => {
                    let both: Vec<Output> =
                        a.0.iter()
                            .filter_map(|x| {
                                let y = b.0.iter().find(|y| y.attno == x.attno)?;
                                Some(Output { attno: x.attno, strong: x.strong && y.strong })
                            })
                            .collect();
                    let equalities = items::<pg_sys::SortGroupClause>((*op).groupClauses);
                    let compared = |o: &Output| {
                        o.strong
                            && equalities
                                .get(o.attno as usize - 1)
                                .is_some_and(|clause| self.compares_keys((**clause).eqop))
                    };
                    let appends = (*op).op == pg_sys::SetOperation::SETOP_UNION && (*op).all;
                    if appends || both.iter().any(compared) {
                        Ok(Rows::Split(Outputs(both)))
                    } else {
                        Err("a set operation does not compare shard keys".into())
                    }
                }
                _ => Err("a set operation mixes distributed and reference tables".into()),
            }
        }
    }

    /// The key columns among the outputs of a query.
    pub unsafe fn outputs(&self, query: *mut pg_sys::Query, block: &Block) -> Outputs {
        // SAFETY: as above.
        unsafe {
            let entries = items::<pg_sys::TargetEntry>((*query).targetList).into_iter().filter(|t| !(**t).resjunk);
            Outputs(
                entries
                    .filter_map(|t| {
                        let strong = self.key(&block.place, block.frame, (*t).expr.cast())?;
                        Some(Output { attno: (*t).resno, strong })
                    })
                    .collect(),
            )
        }
    }
}

#[derive(Default)]
struct Group {
    parts: Vec<Part>,
    equalities: Vec<(Term, Term)>,
    lateral: Vec<*mut pg_sys::Query>,
}

pub(super) fn apart(why: Apart) -> Reason {
    why.reason().into()
}
