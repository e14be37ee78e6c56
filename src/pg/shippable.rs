//! Which expressions mean the same on a node as here.
//!
//! Functions must be Postgres's own (fixed OIDs) and immutable, or stable with an outcome that
//! depends only on settings that travel with the session. Types and collations must be Postgres's
//! own or belong to a column of a sharded table of the query: those exist on every node that has
//! the table. What is not shippable is computed on the coordinator: always right, only slower.

use crate::node_as;
use crate::pg::tree::{self, Node, Visit};
use pgrx::pg_sys;
use std::collections::HashSet;
use std::ffi::{CStr, c_void};

const FIRST_UNFIXED_OID: u32 = 10_000;
const DEFAULT_COLLATION: u32 = 100;
const C_COLLATION: u32 = 950;
const POSIX_COLLATION: u32 = 951;

/// The types and collations that exist on the nodes because sharded tables use them.
#[derive(Default)]
pub struct Vocabulary {
    types: HashSet<u32>,
    collations: HashSet<u32>,
}

impl Vocabulary {
    /// Adds the columns of a sharded table.
    pub unsafe fn add_table(&mut self, relid: pg_sys::Oid) {
        // SAFETY: the relation is locked by the query that names it.
        unsafe {
            let rel = pg_sys::RelationIdGetRelation(relid);
            if rel.is_null() {
                return;
            }
            self.types.insert((*(*rel).rd_rel).reltype.to_u32());
            let desc = (*rel).rd_att;
            for i in 0..(*desc).natts as usize {
                let attr = crate::pg::tuple::attribute(desc, i);
                if (*attr).attisdropped {
                    continue;
                }
                // Those of Postgres itself need not be noted, nor do their base and element types.
                if (*attr).atttypid.to_u32() >= FIRST_UNFIXED_OID {
                    self.types.insert((*attr).atttypid.to_u32());
                    self.types.insert(pg_sys::getBaseType((*attr).atttypid).to_u32());
                    let element = pg_sys::get_element_type((*attr).atttypid);
                    self.types.insert(element.to_u32());
                    // Arrays of a type are where the type is.
                    self.types.insert(pg_sys::get_array_type((*attr).atttypid).to_u32());
                }
                if !is_everywhere((*attr).attcollation.to_u32()) {
                    self.collations.insert((*attr).attcollation.to_u32());
                }
            }
            pg_sys::RelationClose(rel);
        }
    }

    fn has_type(&self, oid: pg_sys::Oid) -> bool {
        let oid_value = oid.to_u32();
        if oid_value < FIRST_UNFIXED_OID { !holds_oids(oid_value) } else { self.types.contains(&oid_value) }
    }

    fn has_collation(&self, oid: pg_sys::Oid) -> bool {
        is_everywhere(oid.to_u32()) || self.collations.contains(&oid.to_u32())
    }
}

/// A collation that needs no look at the nodes, or none at all.
fn is_everywhere(collation: u32) -> bool {
    matches!(collation, 0 | DEFAULT_COLLATION | C_COLLATION | POSIX_COLLATION)
}

/// `regclass` and its kin: their values are OIDs, which differ between servers.
fn holds_oids(oid: u32) -> bool {
    matches!(oid, 24 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191 | 1033 | 1008 | 2207..=2211 | 3735 | 3770 | 4090 | 4097 | 4192 | 1034)
}

/// Why an expression or query stays here, or `None` if it may run on a node.
pub unsafe fn why_not(node: *mut Node, vocabulary: &Vocabulary) -> Option<String> {
    let mut reason: Option<String> = None;
    // SAFETY: `node` is an analyzed expression or Query.
    unsafe {
        tree::walk(node, |n| {
            reason = node_reason(n, vocabulary);
            if reason.is_some() { Visit::Stop } else { Visit::Deeper }
        });
    }
    reason
}

unsafe fn node_reason(node: *mut Node, vocabulary: &Vocabulary) -> Option<String> {
    // SAFETY: the tag says what the node is.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Query
            | pg_sys::NodeTag::T_RangeTblEntry
            | pg_sys::NodeTag::T_TargetEntry
            | pg_sys::NodeTag::T_List
            | pg_sys::NodeTag::T_FromExpr
            | pg_sys::NodeTag::T_JoinExpr
            | pg_sys::NodeTag::T_RangeTblRef
            | pg_sys::NodeTag::T_GroupingSet
            | pg_sys::NodeTag::T_WindowClause
            | pg_sys::NodeTag::T_CommonTableExpr
            | pg_sys::NodeTag::T_SetOperationStmt
            | pg_sys::NodeTag::T_OnConflictExpr
            | pg_sys::NodeTag::T_InferenceElem
            | pg_sys::NodeTag::T_MergeAction
            | pg_sys::NodeTag::T_TableSampleClause
            | pg_sys::NodeTag::T_CTESearchClause
            | pg_sys::NodeTag::T_CTECycleClause
            | pg_sys::NodeTag::T_IntList
            | pg_sys::NodeTag::T_OidList
            | pg_sys::NodeTag::T_RowMarkClause => return None,
            pg_sys::NodeTag::T_RangeTblFunction => {
                return unknown_type((*node.cast::<pg_sys::RangeTblFunction>()).funccoltypes, vocabulary);
            }
            pg_sys::NodeTag::T_TableFunc => {
                return unknown_type((*node.cast::<pg_sys::TableFunc>()).coltypes, vocabulary);
            }
            pg_sys::NodeTag::T_SortGroupClause => {
                let clause = node.cast::<pg_sys::SortGroupClause>();
                return [(*clause).eqop, (*clause).sortop]
                    .into_iter()
                    .find(|o| o.to_u32() >= FIRST_UNFIXED_OID)
                    .map(|o| format!("the nodes may not have operator {}", operator_name(o)));
            }
            pg_sys::NodeTag::T_SQLValueFunction => return Some("it uses a value of this session".into()),
            pg_sys::NodeTag::T_NextValueExpr => return Some("it uses a sequence".into()),
            pg_sys::NodeTag::T_PlaceHolderVar => return Some("it is computed below an outer join or grouping".into()),
            pg_sys::NodeTag::T_CurrentOfExpr => return Some("it uses a cursor".into()),
            pg_sys::NodeTag::T_Var => {
                let var = node.cast::<pg_sys::Var>();
                if (*var).varattno == pg_sys::TableOidAttributeNumber as i16 {
                    return Some("it uses tableoid".into());
                }
                return None; // a column's type exists where the column does
            }
            pg_sys::NodeTag::T_SubLink => {
                return None; // its test expression and query are walked
            }
            _ => {}
        }
        if crate::pg::modify::compat::is_returning_expression(node) {
            return Some("it returns a view's expression of the old or the new row".into());
        }
        let result_type = pg_sys::exprType(node);
        // Subquery outputs and row constructors may be records: they print as ROW(...).
        if result_type != pg_sys::InvalidOid && result_type != pg_sys::RECORDOID && !vocabulary.has_type(result_type) {
            return Some(format!("the nodes may not have type \"{}\"", type_name(result_type)));
        }
        if !vocabulary.has_collation(pg_sys::exprCollation(node))
            || !vocabulary.has_collation(pg_sys::exprInputCollation(node))
        {
            return Some("the nodes may not have a collation it uses".into());
        }
        if let Some(agg) = node_as!(node, T_Aggref) {
            let function = (*agg.cast::<pg_sys::Aggref>()).aggfnoid;
            return function_reason(function);
        }
        if let Some(window) = node_as!(node, T_WindowFunc) {
            return function_reason((*window.cast::<pg_sys::WindowFunc>()).winfnoid);
        }
        if let Some(operator) = operators_of(node).into_iter().find(|o| o.to_u32() >= FIRST_UNFIXED_OID) {
            return Some(format!("the nodes may not have operator {}", operator_name(operator)));
        }
        let mut functions: Vec<pg_sys::Oid> = Vec::new();
        pg_sys::check_functions_in_node(node, Some(collect_function), (&raw mut functions).cast());
        functions.into_iter().find_map(|f| function_reason(f))
    }
}

/// Why a column definition list (`AS r(a mood)`) cannot be sent.
unsafe fn unknown_type(types: *const pg_sys::List, vocabulary: &Vocabulary) -> Option<String> {
    // SAFETY: a list of OIDs.
    unsafe {
        tree::oids(types)
            .into_iter()
            .find(|t| !vocabulary.has_type(*t))
            .map(|t| format!("the nodes may not have type \"{}\"", type_name(t)))
    }
}

/// The operators that a node names.
unsafe fn operators_of(node: *mut Node) -> Vec<pg_sys::Oid> {
    // SAFETY: the tag says what the node is.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_OpExpr | pg_sys::NodeTag::T_DistinctExpr | pg_sys::NodeTag::T_NullIfExpr => {
                vec![(*node.cast::<pg_sys::OpExpr>()).opno]
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => vec![(*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno],
            pg_sys::NodeTag::T_RowCompareExpr => tree::oids((*node.cast::<pg_sys::RowCompareExpr>()).opnos),
            _ => Vec::new(),
        }
    }
}

unsafe fn operator_name(oid: pg_sys::Oid) -> String {
    // SAFETY: get_opname returns null or a palloc'd string.
    unsafe {
        let name = pg_sys::get_opname(oid);
        if name.is_null() { "?".into() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

unsafe extern "C-unwind" fn collect_function(function: pg_sys::Oid, context: *mut c_void) -> bool {
    // SAFETY: the context is the vector of `node_reason`.
    unsafe { (*context.cast::<Vec<pg_sys::Oid>>()).push(function) };
    false
}

unsafe fn type_name(oid: pg_sys::Oid) -> String {
    // SAFETY: format_type_be returns a palloc'd string.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(oid)).to_string_lossy().into_owned() }
}

unsafe fn function_name(oid: pg_sys::Oid) -> String {
    // SAFETY: get_func_name returns null or a palloc'd string.
    unsafe {
        let name = pg_sys::get_func_name(oid);
        if name.is_null() { "?".into() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Why a call of this function stays here.
pub unsafe fn function_reason(function: pg_sys::Oid) -> Option<String> {
    // SAFETY: syscache look-ups.
    unsafe {
        if function.to_u32() >= FIRST_UNFIXED_OID {
            return Some(format!("the nodes may not have function \"{}\"", function_name(function)));
        }
        match pg_sys::func_volatile(function) as u8 {
            b'i' => None,
            b's' => {
                let name = function_name(function);
                depends_on_session(&name, function.to_u32())
                    .then(|| format!("function \"{name}\" depends on this session"))
            }
            _ => {
                let name = function_name(function);
                (!matches!(name.as_str(), "gen_random_uuid" | "clock_timestamp"))
                    .then(|| format!("function \"{name}\" is volatile"))
            }
        }
    }
}

/// Stable functions whose outcome depends on more than the settings that travel.
fn depends_on_session(name: &str, oid: u32) -> bool {
    const AGE_SINCE_TODAY: [u32; 2] = [1386, 2059];
    const NAMES: [&str; 22] = [
        "now",
        "transaction_timestamp",
        "statement_timestamp",
        "current_setting",
        "current_user",
        "session_user",
        "current_database",
        "current_schema",
        "current_schemas",
        "version",
        "getdatabaseencoding",
        "format_type",
        "obj_description",
        "col_description",
        "shobj_description",
        "cash_in",
        "cash_out",
        "to_tsvector",
        "ts_headline",
        "regclass",
        "text_regclass",
        "cursor_to_xml",
    ];
    AGE_SINCE_TODAY.contains(&oid)
        || NAMES.contains(&name)
        || [
            "pg_",
            "has_",
            "inet_client",
            "inet_server",
            "to_reg",
            "reg",
            "txid_",
            "currtid",
            "table_to_xml",
            "query_to_xml",
            "schema_to_xml",
            "database_to_xml",
            "row_security",
            "to_tsquery",
            "plainto_tsquery",
            "phraseto_tsquery",
            "websearch_to_tsquery",
            "json_to_tsvector",
            "jsonb_to_tsvector",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
