//! A long list of shard keys, in a form that a node can use: joined, not compared one by one.
//!
//! `WHERE id = ANY ($1)` is what a node prunes its shards by, in time that grows with the square of the list: 9 s for
//! 50,000 keys on Postgres 15. `WHERE id IN (SELECT unnest($1))` means the same and is a hash join: 0.1 s. Which of the
//! two is sent is decided when the list is there.

use crate::node_as;
use crate::pg::print;
use crate::pg::query_tree::strip_relabel;
use crate::pg::tree::{self, Change, Node, Visit, items, list_of};
use pgrx::pg_sys;
use std::ptr;

/// From so many keys on they are joined.
pub const MANY: usize = 1000;

/// `unnest(anyarray)` (pg_proc.dat).
const UNNEST: pg_sys::Oid = pg_sys::Oid::from_u32(2331);

/// The text of a statement in which lists that are parameter `parameter` (0-based) are joined; `None` if it has none.
pub unsafe fn joined(query: *mut pg_sys::Query, parameter: usize) -> Option<String> {
    // SAFETY: a copy is changed.
    unsafe {
        let mut found = false;
        let changed = tree::mutate(query.cast(), |n| {
            let join = node_as!(n, T_ScalarArrayOpExpr).and_then(|op| join(op.cast(), parameter));
            found |= join.is_some();
            join.map_or(Change::Deeper, |link| Change::Replace(link.cast()))
        })
        .cast::<pg_sys::Query>();
        if !found {
            return None;
        }
        (*changed).hasSubLinks = true;
        Some(print::query_text(changed))
    }
}

/// `x IN (SELECT unnest(list))` for `x = ANY (list)`, if the list is the parameter.
unsafe fn join(op: *mut pg_sys::ScalarArrayOpExpr, parameter: usize) -> Option<*mut pg_sys::SubLink> {
    // SAFETY: an analyzed expression; new nodes.
    unsafe {
        let args = items::<Node>((*op).args);
        let [value, list] = args[..] else { return None };
        let element = pg_sys::get_element_type(pg_sys::getBaseType(pg_sys::exprType(list)));
        let has_subquery =
            tree::walk(value, |n| if node_as!(n, T_SubLink).is_some() { Visit::Stop } else { Visit::Deeper });
        if !(*op).useOr || !is_parameter(list, parameter) || element == pg_sys::InvalidOid || has_subquery {
            return None;
        }
        let collation = pg_sys::get_typcollation(element);
        let form = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        let call = pg_sys::makeFuncExpr(UNNEST, element, list_of([tree::copy(list)]), collation, collation, form);
        (*call).funcretset = true;
        let sub = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*sub).commandType = pg_sys::CmdType::CMD_SELECT;
        (*sub).hasTargetSRFs = true;
        (*sub).stmt_location = -1;
        (*sub).jointree = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        let entry = pg_sys::makeTargetEntry(call.cast(), 1, c"unnest".as_ptr().cast_mut(), false);
        (*sub).targetList = list_of([entry]);
        let placeholder = tree::make::<pg_sys::Param>(pg_sys::NodeTag::T_Param);
        (*placeholder).paramkind = pg_sys::ParamKind::PARAM_SUBLINK;
        (*placeholder).paramid = 1;
        (*placeholder).paramtype = element;
        (*placeholder).paramtypmod = -1;
        (*placeholder).paramcollid = collation;
        (*placeholder).location = -1;
        let test = pg_sys::make_opclause(
            (*op).opno,
            pg_sys::BOOLOID,
            false,
            tree::copy(value).cast(),
            placeholder.cast(),
            pg_sys::InvalidOid,
            (*op).inputcollid,
        );
        let link = tree::make::<pg_sys::SubLink>(pg_sys::NodeTag::T_SubLink);
        (*link).subLinkType = pg_sys::SubLinkType::ANY_SUBLINK;
        (*link).testexpr = test.cast();
        let name = pg_sys::get_opname((*op).opno);
        (*link).operName = if name.is_null() { ptr::null_mut() } else { list_of([pg_sys::makeString(name)]) };
        (*link).subselect = sub.cast();
        (*link).location = -1;
        Some(link)
    }
}

/// Whether an expression is the parameter, under casts that only name its type.
unsafe fn is_parameter(node: *mut Node, parameter: usize) -> bool {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        let node = strip_relabel(node);
        if let Some(cast) = node_as!(node, T_CoerceViaIO) {
            return is_parameter((*cast.cast::<pg_sys::CoerceViaIO>()).arg.cast(), parameter);
        }
        node_as!(node, T_Param).is_some_and(|p| {
            let p = p.cast::<pg_sys::Param>();
            (*p).paramkind == pg_sys::ParamKind::PARAM_EXTERN && (*p).paramid as usize == parameter + 1
        })
    }
}
