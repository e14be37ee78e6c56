//! The router's plan: the whole statement as one remote statement, without `standard_planner`.
//!
//! The statement is copied, what only this session knows becomes a parameter, and if every table in
//! it is on one node ([`router::pins`]) Postgres prints it and a `ForeignScan` over no relation runs
//! it. UPDATE and DELETE of one table without subqueries go to all its nodes the same way, and so do an INSERT of
//! colocated rows ([`insert_select`]) and what is written by a join on the key ([`mod@write`]).

use crate::catalog::ClusterMap;
use crate::error::Result;
use crate::node_as;
use crate::pg::foreign_scan::{kept_types, parameter_of};
use crate::pg::params::{Parameters, Volatile};
use crate::pg::planner::Tables;
use crate::pg::pushdown::{insert_select, write};
use crate::pg::query_tree::Reader;
use crate::pg::shippable::{self, Vocabulary};
use crate::pg::tree::{self, Node, Visit, items, list_of};
use crate::pg::{compat, print, scan, shard_text, tuple};
use crate::plan::remote::{Effect, RemotePlan, Shipping, Source, Target, Tier};
use crate::plan::router;
use crate::plan::tuning::Tuning;
use pgrx::pg_sys;
use std::ptr;

type Reason = String;

/// The plan, or why the router cannot serve the statement.
pub unsafe fn plan(
    query: *mut pg_sys::Query,
    map: &ClusterMap,
    tables: &Tables,
) -> Result<std::result::Result<*mut pg_sys::PlannedStmt, Reason>> {
    // SAFETY: `query` is analyzed, rewritten and locked.
    unsafe {
        if let Some(reason) = refuses(query, map, tables) {
            return Ok(Err(reason));
        }
        let returns = if (*query).commandType == pg_sys::CmdType::CMD_SELECT {
            (*query).targetList
        } else {
            (*query).returningList
        };
        let outputs: Vec<*mut pg_sys::TargetEntry> =
            items::<pg_sys::TargetEntry>(returns).into_iter().filter(|t| !(**t).resjunk).collect();
        if outputs
            .iter()
            .any(|t| matches!(pg_sys::exprType((**t).expr.cast()), pg_sys::RECORDOID | pg_sys::RECORDARRAYOID))
        {
            // A row without a named type has no form that could be read back.
            return Ok(Err("it returns an anonymous row".into()));
        }
        let mut vocabulary = Vocabulary::default();
        for t in tables.distributed.iter().chain(&tables.reference) {
            vocabulary.add_table(pg_sys::Oid::from(t.0));
        }
        let mut parameters = Parameters::default();
        // What is sent is a changed copy anyhow; before that, only writes are touched.
        let copy = if (*query).commandType == pg_sys::CmdType::CMD_SELECT { query } else { tree::copy(query) };
        if is_insert_select(copy) {
            insert_select::complete_select(copy);
        } else if (*copy).commandType == pg_sys::CmdType::CMD_INSERT {
            // One VALUES row: each expression runs once, so the coordinator may run it.
            for tle in items::<pg_sys::TargetEntry>((*copy).targetList) {
                let expr = (*tle).expr.cast::<Node>();
                (*tle).expr = if is_part_assignment(expr) {
                    match parameters.take(expr) {
                        Some(parameter) => parameter.cast(),
                        None => return Ok(Err("a part of a column is assigned".into())),
                    }
                } else {
                    parameters.extract(expr, &vocabulary, Volatile::Once).cast()
                };
            }
        }
        if (*copy).resultRelation > 0 {
            // The target of an updatable view came from a FROM list; it must not be printed in one.
            (*tree::entry((*copy).rtable, (*copy).resultRelation as u32)).inFromCl = false;
        }
        let sent = parameters.extract(copy.cast(), &vocabulary, Volatile::PerRow).cast::<pg_sys::Query>();
        if let Some(reason) = shippable::why_not(sent.cast(), &vocabulary) {
            return Ok(Err(reason));
        }
        let printed = if names_parameters(query) { sent } else { parameters.take_constants(sent) };
        let count = parameters.expressions.len();
        let Choice { tier, target, one_shard } = match choose(query, sent, map, tables, &mut parameters) {
            Ok(choice) => choice,
            Err(reason) => return Ok(Err(reason)),
        };
        let effect = if tables.modifies {
            Effect::Write {
                alone: outputs.is_empty()
                    || (*query).commandType == pg_sys::CmdType::CMD_INSERT && !is_insert_select(query),
            }
        } else if tables.locks {
            Effect::Lock
        } else {
            Effect::Read { alone: true, snapshot: true }
        };
        let shard_sql = if one_shard { shard_text::shard_sql(printed, map) } else { None };
        let mut remote = RemotePlan {
            tier,
            sql: match &shard_sql {
                Some(sql) => sql.text(|table| shard_text::printed_name(table)),
                None => print::query_text(tree::copy(printed)),
            },
            shard_sql,
            many_sql: None,
            keep: kept_types(&parameters, &outputs.iter().map(|t| (**t).expr.cast()).collect::<Vec<_>>()),
            sent: count,
            target: target.clone(),
            effect,
            columns: (0..outputs.len()).map(Source::Remote).collect(),
            merge: Vec::new(),
            relation: target.table(),
            few_rows: false,
            tuning: Tuning::default(),
            shipping: Shipping::default(),
            cut: None,
            sets_tag: (*query).canSetTag,
            reason: None,
            not_pushed: None,
        };
        if remote.is_by_shard() {
            // Too many, and each of them large, to be worth keeping.
            remote.keep = None;
        }
        Ok(Ok(planned_stmt(query, &remote, &outputs, parameters.expressions, map)?))
    }
}

/// Whether a client's parameters are in the statement: then its constants are the same each time.
unsafe fn names_parameters(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(query.cast(), |n| {
            let external = (*n).type_ == pg_sys::NodeTag::T_Param
                && (*n.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXTERN;
            if external { Visit::Stop } else { Visit::Deeper }
        })
    }
}

/// Statements that the router leaves to the fallback without a closer look.
unsafe fn refuses(query: *mut pg_sys::Query, map: &ClusterMap, tables: &Tables) -> Option<Reason> {
    // SAFETY: reads an analyzed query.
    unsafe {
        let q = &*query;
        if tables.secured {
            return Some("row security or a security barrier applies".into());
        }
        if tables.only {
            return Some("a distributed table is named with ONLY".into());
        }
        if let Some(local) = tables.local {
            return Some(format!("table {} is only on the coordinator", tuple::qualified_name(local).replace('"', "")));
        }
        if q.hasModifyingCTE {
            return Some("a CTE modifies data".into());
        }
        match q.commandType {
            pg_sys::CmdType::CMD_SELECT => None,
            pg_sys::CmdType::CMD_INSERT | pg_sys::CmdType::CMD_UPDATE | pg_sys::CmdType::CMD_DELETE => {
                let rte = tree::entry(q.rtable, q.resultRelation as u32);
                let table = crate::catalog::TableId((*rte).relid.to_u32());
                let Some((_, key)) = map.distribution(table) else {
                    return Some("a reference table is written".into());
                };
                if q.commandType == pg_sys::CmdType::CMD_INSERT {
                    if items::<Node>((*q.jointree).fromlist).is_empty() {
                        return None;
                    }
                    if items::<pg_sys::TargetEntry>(q.targetList)
                        .into_iter()
                        .any(|t| is_part_assignment((*t).expr.cast()))
                    {
                        return Some("a part of a column is assigned".into());
                    }
                    return insert_select::stays_on_nodes(query, map, tables).err();
                }
                if q.commandType == pg_sys::CmdType::CMD_UPDATE
                    && items::<pg_sys::TargetEntry>(q.targetList)
                        .into_iter()
                        .any(|t| !(*t).resjunk && (*t).resno == key)
                {
                    return Some("it changes the shard key".into());
                }
                if items::<pg_sys::TargetEntry>(q.targetList).into_iter().any(|t| is_part_assignment((*t).expr.cast()))
                {
                    return Some("a part of a column is assigned".into());
                }
                None
            }
            pg_sys::CmdType::CMD_MERGE => {
                let actions = items::<pg_sys::MergeAction>(q.mergeActionList);
                let part = |t: &*mut pg_sys::TargetEntry| is_part_assignment((**t).expr.cast());
                if actions.iter().any(|a| items::<pg_sys::TargetEntry>((**a).targetList).iter().any(part)) {
                    return Some("a part of a column is assigned".into());
                }
                write::stays_on_nodes(query, map, tables).err()
            }
            _ => Some("it is no statement for one node".into()),
        }
    }
}

/// Whether it inserts the rows of a query; that each node can do so was found out before.
unsafe fn is_insert_select(query: *mut pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe { (*query).commandType == pg_sys::CmdType::CMD_INSERT && insert_select::source(query).is_some() }
}

/// `a[1] = ...` or `c.f = ...`: the rewriter folds several such into one expression, which does not
/// print as it was written.
unsafe fn is_part_assignment(expr: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe {
        if let Some(s) = node_as!(expr, T_SubscriptingRef) {
            return !(*s.cast::<pg_sys::SubscriptingRef>()).refassgnexpr.is_null();
        }
        if let Some(c) = node_as!(expr, T_CoerceToDomain) {
            return is_part_assignment((*c.cast::<pg_sys::CoerceToDomain>()).arg.cast());
        }
        node_as!(expr, T_FieldStore).is_some()
    }
}

/// Where a statement goes.
struct Choice {
    tier: Tier,
    target: Target,
    /// All its tables are pinned to the same value of one group, so that it needs one shard of each; or it goes to
    /// each shard.
    one_shard: bool,
}

unsafe fn choose(
    query: *mut pg_sys::Query,
    sent: *mut pg_sys::Query,
    map: &ClusterMap,
    tables: &Tables,
    parameters: &mut Parameters,
) -> std::result::Result<Choice, Reason> {
    // SAFETY: `sent` is our copy of `query`.
    unsafe {
        if (*sent).commandType == pg_sys::CmdType::CMD_MERGE {
            let rte = tree::entry((*sent).rtable, (*sent).resultRelation as u32);
            let table = crate::catalog::TableId((*rte).relid.to_u32());
            return Ok(Choice { tier: Tier::Pushdown, target: Target::All { table }, one_shard: false });
        }
        if is_insert_select(sent) {
            return Ok(insert_select_target(sent, map, tables, parameters));
        }
        if (*sent).commandType == pg_sys::CmdType::CMD_INSERT {
            let target = insert_target(sent, map, parameters)?;
            let mut one_shard = true;
            if tables.distributed.len() > 1 {
                one_shard = reads_where_it_writes(sent, map, tables, parameters, &target)?;
            }
            return Ok(Choice { tier: Tier::Router, target, one_shard });
        }
        let mut reader = Reader::new(map, tables.distributed.iter().copied());
        let level = reader.read(sent);
        let values = std::mem::take(&mut reader.values);
        match router::pins(&level) {
            Ok(pins) => {
                let (target, one_shard) = one_node(&pins, &values, map, parameters)?;
                Ok(Choice { tier: Tier::Router, target, one_shard })
            }
            Err(router::Unpinned(table)) => {
                let all = Choice { tier: Tier::Pushdown, target: Target::All { table }, one_shard: false };
                let single = tables.distributed.len() == 1 && tables.reference.is_empty() && !(*sent).hasSubLinks;
                let plain = (*sent).commandType != pg_sys::CmdType::CMD_SELECT
                    && (*sent).cteList.is_null()
                    && items::<Node>((*(*sent).jointree).fromlist).len() == 1;
                if single && plain {
                    return Ok(all);
                }
                if (*sent).commandType != pg_sys::CmdType::CMD_SELECT {
                    return write::stays_on_nodes(query, map, tables).map(|()| all);
                }
                let name = tuple::qualified_name(pg_sys::Oid::from(table.0)).replace('"', "");
                Err(format!("the shard key of {name} is not pinned to one value"))
            }
        }
    }
}

/// All tables have to be on the node of one key; also whether they have one value in one group.
unsafe fn one_node(
    pins: &router::Pins,
    values: &[*mut Node],
    map: &ClusterMap,
    parameters: &mut Parameters,
) -> std::result::Result<(Target, bool), Reason> {
    // SAFETY: values are expressions of the statement that is sent.
    unsafe {
        let Some((table, value)) = pins.first().copied() else { return Err("it names no distributed table".into()) };
        let group = |t| match map.table(t).map(|t| &t.spread) {
            Some(crate::catalog::Spread::Distributed { group, .. }) => Some(*group),
            _ => None,
        };
        if pins.iter().all(|(t, v)| *v == value && group(*t) == group(table)) {
            let parameter = parameter_of(values[value], parameters).ok_or("its shard key is not known")?;
            return Ok((Target::Key { table, parameter }, true));
        }
        // Different values, or groups: only constants tell now whether they meet on one node.
        let mut nodes = Vec::new();
        for (t, v) in pins {
            let Some(c) = node_as!(values[*v], T_Const) else {
                return Err("its tables are pinned to different parameters".into());
            };
            let c = c.cast::<pg_sys::Const>();
            let Some((g, _)) = map.distribution(*t) else { return Err("a table is not distributed any more".into()) };
            let Ok(mut hasher) = crate::pg::hash::KeyHasher::for_type(*t, (*c).consttype) else {
                return Err("a shard key cannot be hashed".into());
            };
            nodes.push(hasher.node(g, Some((*c).constvalue)));
        }
        if nodes.iter().any(|n| *n != nodes[0]) {
            return Err("its shard keys are on different nodes".into());
        }
        // A later move of either shard invalidates the plan with the cluster map.
        let parameter = parameter_of(values[value], parameters).ok_or("its shard key is not known")?;
        Ok((Target::Key { table, parameter }, false))
    }
}

/// The node of the one row of an INSERT.
unsafe fn insert_target(
    sent: *mut pg_sys::Query,
    map: &ClusterMap,
    parameters: &mut Parameters,
) -> std::result::Result<Target, Reason> {
    // SAFETY: reads our copy.
    unsafe {
        let rte = tree::entry((*sent).rtable, (*sent).resultRelation as u32);
        let table = crate::catalog::TableId((*rte).relid.to_u32());
        let Some((_, key)) = map.distribution(table) else { return Err("a reference table is written".into()) };
        let tle = items::<pg_sys::TargetEntry>((*sent).targetList).into_iter().find(|t| (**t).resno == key);
        let expr: *mut Node = match tle {
            Some(tle) => crate::pg::query_tree::strip_relabel((*tle).expr.cast()),
            None => ptr::null_mut(),
        };
        let null = node_as!(expr, T_Const).is_some_and(|c| (*c.cast::<pg_sys::Const>()).constisnull);
        if expr.is_null() || null {
            // No key is a NULL key, which has a shard too.
            let c = pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, pg_sys::Datum::from(0), true, true);
            return Ok(Target::Key { table, parameter: parameters.add(c.cast()) });
        }
        match parameter_of(expr, parameters) {
            Some(parameter) => Ok(Target::Key { table, parameter }),
            None => Err("the new row's shard key is not known before it runs".into()),
        }
    }
}

/// The nodes of an INSERT ... SELECT: the one whose rows the SELECT reads, if it is one, else all.
unsafe fn insert_select_target(
    sent: *mut pg_sys::Query,
    map: &ClusterMap,
    tables: &Tables,
    parameters: &mut Parameters,
) -> Choice {
    // SAFETY: `sent` is our copy.
    unsafe {
        let table =
            crate::catalog::TableId((*tree::entry((*sent).rtable, (*sent).resultRelation as u32)).relid.to_u32());
        let by_shard = insert_select::is_worth_a_statement_per_shard(sent, map, tables);
        let all = Choice { tier: Tier::Pushdown, target: Target::All { table }, one_shard: by_shard };
        let Some(index) = insert_select::source(sent) else { return all };
        let mut reader = Reader::new(map, tables.distributed.iter().copied());
        let level = reader.read((*tree::entry((*sent).rtable, index)).subquery);
        let pinned = router::pins(&level).ok().and_then(|pins| one_node(&pins, &reader.values, map, parameters).ok());
        pinned.map_or(all, |(target, _)| Choice { tier: Tier::Router, target, one_shard: false })
    }
}

/// Whether the subqueries of an INSERT (in RETURNING or ON CONFLICT) are about the key of the new row: its
/// columns, and those of EXCLUDED, have the inserted key. Says whether one shard of each table will do.
unsafe fn reads_where_it_writes(
    sent: *mut pg_sys::Query,
    map: &ClusterMap,
    tables: &Tables,
    parameters: &mut Parameters,
    target: &Target,
) -> std::result::Result<bool, Reason> {
    // SAFETY: reads our copy.
    unsafe {
        let elsewhere = || "it reads another distributed table".to_string();
        let table = target.table();
        let Some((_, attno)) = map.distribution(table) else { return Err(elsewhere()) };
        let family = crate::pg::hash::key_class(table).map_err(|_| elsewhere())?.family.to_u32();
        let key = items::<pg_sys::TargetEntry>((*sent).targetList).into_iter().find(|t| (**t).resno == attno);
        let Some(key) = key else { return Err(elsewhere()) };
        let mut reader = Reader::new(map, tables.distributed.iter().copied());
        let mut level = reader.read(sent);
        reader.values.push((*key).expr.cast());
        let value = router::Term::Value(reader.values.len() - 1);
        let mut names = vec![(*sent).resultRelation as usize];
        if !(*sent).onConflict.is_null() {
            names.push((*(*sent).onConflict).exclRelIndex as usize);
        }
        for relation in names {
            level.equalities.push((router::Term::Column { relation, attno, family }, value));
        }
        level.keys.push((table, value));
        let pins = router::pins(&level).map_err(|_| elsewhere())?;
        Ok(one_node(&pins, &reader.values, map, parameters)?.1)
    }
}

/// A `PlannedStmt` around one `ForeignScan`.
unsafe fn planned_stmt(
    query: *mut pg_sys::Query,
    remote: &RemotePlan,
    outputs: &[*mut pg_sys::TargetEntry],
    parameters: Vec<*mut Node>,
    map: &ClusterMap,
) -> Result<*mut pg_sys::PlannedStmt> {
    // SAFETY: all nodes are made in the planner's memory context; Vars of the output list keep the
    // numbers of the query's own range table, which comes first in the flat one.
    unsafe {
        let stmt = tree::make::<pg_sys::PlannedStmt>(pg_sys::NodeTag::T_PlannedStmt);
        (*stmt).commandType = (*query).commandType;
        (*stmt).queryId = (*query).queryId;
        (*stmt).hasReturning = !(*query).returningList.is_null();
        (*stmt).canSetTag = (*query).canSetTag;
        (*stmt).dependsOnRole = (*query).hasRowSecurity;
        (*stmt).stmt_location = (*query).stmt_location;
        (*stmt).stmt_len = (*query).stmt_len;
        compat::flatten_range_tables(query, stmt);
        if (*query).resultRelation > 0 {
            (*stmt).resultRelations = pg_sys::lappend_int(ptr::null_mut(), (*query).resultRelation);
        }
        let mut tlist = ptr::null_mut();
        let mut scan_tlist = ptr::null_mut();
        for (i, tle) in outputs.iter().enumerate() {
            let resno = i as i16 + 1;
            let expr = (**tle).expr.cast::<Node>();
            scan_tlist = pg_sys::lappend(
                scan_tlist,
                pg_sys::makeTargetEntry(tree::copy(expr).cast(), resno, (**tle).resname, false).cast(),
            );
            let var = pg_sys::makeVar(
                pg_sys::INDEX_VAR,
                resno,
                pg_sys::exprType(expr),
                pg_sys::exprTypmod(expr),
                pg_sys::exprCollation(expr),
                0,
            );
            let out = pg_sys::makeTargetEntry(var.cast(), resno, (**tle).resname, false);
            (*out).resorigtbl = (**tle).resorigtbl;
            (*out).resorigcol = (**tle).resorigcol;
            tlist = pg_sys::lappend(tlist, out.cast());
        }
        let plan = pg_sys::make_foreignscan(
            tlist,
            ptr::null_mut(),
            0,
            list_of(parameters.into_iter().map(|p| pg_sys::expression_planner(p.cast()).cast::<Node>())),
            scan::private_list(remote, 0)?,
            scan_tlist,
            ptr::null_mut(),
            ptr::null_mut(),
        );
        let server = map.distribution(remote.target.table()).map_or(0, |(g, _)| g.shards[0].0);
        (*plan).fs_server = pg_sys::Oid::from(server);
        (*plan).scan.plan.startup_cost = 100.0;
        (*plan).scan.plan.total_cost = 101.0;
        (*plan).scan.plan.plan_rows = 1.0;
        (*stmt).planTree = plan.cast();
        Ok(stmt)
    }
}
