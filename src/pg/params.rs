//! What the coordinator computes for a remote statement: parameters.
//!
//! In `WHERE tenant = $2 AND created > now() - '1 day'::interval` the node gets `tenant = $1 AND
//! created > $2`: an expression without columns that is a client's parameter, or that calls
//! something only this session can answer (`now()`, a user's function), becomes a parameter of the
//! remote statement, evaluated once when the scan starts. Volatile functions are left alone, unless
//! the caller knows that the expression runs exactly once ([`Volatile::Once`]).

use crate::node_as;
use crate::pg::shippable::{self, Vocabulary};
use crate::pg::tree::{self, Change, Node, Visit};
use pgrx::pg_sys;

/// The parse location that tells a reference of ours from a client's parameter.
const OWN_LOCATION: i32 = -42;

/// Whether volatile functions may be evaluated ahead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Volatile {
    /// They would run once per row: leave them where they are.
    PerRow,
    /// The expression runs once per statement (a VALUES row).
    Once,
}

/// The expressions that became parameters: number n is `expressions[n - 1]`.
#[derive(Default)]
pub struct Parameters {
    pub expressions: Vec<*mut Node>,
    /// The relation that a scan reads: columns of others are values that it is given.
    scanned: Option<u32>,
}

impl Parameters {
    /// Parameters of a scan of this relation.
    pub fn of_scan(relation: u32) -> Parameters {
        Parameters { expressions: Vec::new(), scanned: Some(relation) }
    }

    /// The parameter for an expression: an equal one is used again.
    pub unsafe fn add(&mut self, expression: *mut Node) -> usize {
        // SAFETY: `equal` compares node trees; volatile expressions are never shared.
        unsafe {
            if !pg_sys::contain_volatile_functions(expression)
                && let Some(i) = self.expressions.iter().position(|e| pg_sys::equal((*e).cast(), expression.cast()))
            {
                return i;
            }
        }
        self.expressions.push(expression);
        self.expressions.len() - 1
    }

    /// A reference to parameter `index` as the node will see it: `$n`, or `$n::type` where the
    /// type has no fixed OID.
    pub unsafe fn reference(&self, index: usize) -> *mut Node {
        // SAFETY: the expression is analyzed.
        unsafe {
            let expression = self.expressions[index];
            let type_oid = pg_sys::exprType(expression);
            let collation = pg_sys::exprCollation(expression);
            let base = pg_sys::getBaseType(type_oid);
            let param = |oid: pg_sys::Oid, collation| {
                let param = tree::make::<pg_sys::Param>(pg_sys::NodeTag::T_Param);
                (*param).paramkind = pg_sys::ParamKind::PARAM_EXTERN;
                (*param).paramid = index as i32 + 1;
                (*param).paramtype = oid;
                (*param).paramtypmod = -1;
                (*param).paramcollid = collation;
                (*param).location = OWN_LOCATION;
                param.cast::<Node>()
            };
            if type_oid == base && crate::pg::codec::travels_in_binary(type_oid) {
                return param(type_oid, collation);
            }
            // Sent as text: an explicit cast names the type for the node.
            let cast = tree::make::<pg_sys::CoerceViaIO>(pg_sys::NodeTag::T_CoerceViaIO);
            (*cast).arg = param(pg_sys::TEXTOID, pg_sys::Oid::from(100)).cast();
            (*cast).resulttype = type_oid;
            (*cast).resultcollid = collation;
            (*cast).coerceformat = pg_sys::CoercionForm::COERCE_EXPLICIT_CAST;
            (*cast).location = -1;
            cast.cast()
        }
    }

    /// A parameter in the place of an expression that stands alone, whatever it is.
    pub unsafe fn take(&mut self, node: *mut Node) -> Option<*mut Node> {
        // SAFETY: the expression is copied.
        unsafe {
            stands_alone(node, self.scanned).then(|| {
                let index = self.add(tree::copy(node));
                self.reference(index)
            })
        }
    }

    /// A copy of `node` (an expression or a whole Query) in which everything that has to be
    /// computed here is a parameter.
    pub unsafe fn extract(&mut self, node: *mut Node, vocabulary: &Vocabulary, volatile: Volatile) -> *mut Node {
        // SAFETY: the tree is only read; the result is a copy.
        unsafe {
            tree::mutate(node, |n| {
                if computed_here(n, vocabulary, volatile, self.scanned) {
                    let index = self.add(tree::copy(n));
                    Change::Replace(self.reference(index))
                } else {
                    Change::Deeper
                }
            })
        }
    }
}

impl Parameters {
    /// A copy of a statement in which the constants of its conditions, of a new row and of the values that it
    /// sets are parameters: another one that differs in them only is the same statement to the node.
    pub unsafe fn take_constants(&mut self, query: *mut pg_sys::Query) -> *mut pg_sys::Query {
        // SAFETY: only the copy is changed.
        unsafe {
            let query = tree::copy(query);
            let quals = (*query).jointree.cast::<Node>();
            (*query).jointree = self.without_constants(quals).cast();
            if matches!((*query).commandType, pg_sys::CmdType::CMD_INSERT | pg_sys::CmdType::CMD_UPDATE) {
                for entry in tree::items::<pg_sys::TargetEntry>((*query).targetList) {
                    (*entry).expr = self.without_constants((*entry).expr.cast()).cast();
                }
            }
            query
        }
    }

    unsafe fn without_constants(&mut self, node: *mut Node) -> *mut Node {
        // SAFETY: the tree is read; the result is a copy, but for subqueries, which stay.
        unsafe {
            tree::mutate(node, |n| match (*n).type_ {
                pg_sys::NodeTag::T_Query | pg_sys::NodeTag::T_SubLink => Change::Replace(n),
                pg_sys::NodeTag::T_Const if is_replaceable(n.cast()) => {
                    let index = self.add(tree::copy(n));
                    Change::Replace(self.reference(index))
                }
                _ => Change::Deeper,
            })
        }
    }
}

/// Constants whose type alone says how they travel, and that plans seldom depend on.
unsafe fn is_replaceable(constant: *mut pg_sys::Const) -> bool {
    // SAFETY: reads the node.
    unsafe {
        !(*constant).constisnull
            && (*constant).consttypmod == -1
            && (*constant).consttype != pg_sys::BOOLOID
            && crate::pg::codec::travels_in_binary((*constant).consttype)
            && !matches!((*constant).consttype, pg_sys::UNKNOWNOID)
    }
}

/// Whether `node` is an expression over no column that the coordinator has to evaluate.
unsafe fn computed_here(node: *mut Node, vocabulary: &Vocabulary, volatile: Volatile, scanned: Option<u32>) -> bool {
    // SAFETY: only expression nodes reach the checks that need one.
    unsafe {
        if is_outer_column(node, scanned) {
            return true;
        }
        if !is_scalar_expression(node) {
            return false;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Param {
            return is_value_param(node);
        }
        if is_long_list(node) {
            return true;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Const || !stands_alone(node, scanned) {
            return false;
        }
        if pg_sys::contain_volatile_functions(node) {
            return volatile == Volatile::Once;
        }
        pg_sys::contain_mutable_functions(node)
            || has_value_from_here(node)
            || shippable::why_not(node, vocabulary).is_some()
    }
}

/// Whether `node` is the list of `x IN (1, 2, 3)`.
pub unsafe fn is_list_of_constants(node: *mut Node) -> bool {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        node_as!(node, T_ArrayExpr).is_some_and(|list| {
            let list = list.cast::<pg_sys::ArrayExpr>();
            let is_const = |element: *mut Node| (*element).type_ == pg_sys::NodeTag::T_Const;
            !(*list).multidims && tree::each::<Node>((*list).elements).all(is_const)
        })
    }
}

/// From so many elements on, a list is sent as a value, not as text to be parsed.
const LONG_LIST: usize = 100;

/// Whether `node` is a long list of constants, as of `x IN (1, 2, ...)`.
unsafe fn is_long_list(node: *mut Node) -> bool {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        if let Some(list) = node_as!(node, T_ArrayExpr) {
            let elements = (*list.cast::<pg_sys::ArrayExpr>()).elements;
            let is_long = !elements.is_null() && (*elements).length as usize >= LONG_LIST;
            return is_long && is_list_of_constants(node);
        }
        node_as!(node, T_Const).is_some_and(|c| {
            let c = c.cast::<pg_sys::Const>();
            !(*c).constisnull
                && pg_sys::get_element_type((*c).consttype) != pg_sys::InvalidOid
                && pg_sys::get_array_type((*c).consttype) == pg_sys::InvalidOid
                && !matches!((*c).consttype, pg_sys::INT2VECTOROID | pg_sys::OIDVECTOROID)
                && crate::pg::tuple::array_length((*c).constvalue) >= LONG_LIST
        })
    }
}

/// A client's parameter or one that the executor sets, as opposed to a SubLink's placeholder.
unsafe fn is_value_param(node: *mut Node) -> bool {
    // SAFETY: the caller checked the tag.
    let kind = unsafe { (*node.cast::<pg_sys::Param>()).paramkind };
    let own = unsafe { (*node.cast::<pg_sys::Param>()).location } == OWN_LOCATION;
    !own && matches!(kind, pg_sys::ParamKind::PARAM_EXTERN | pg_sys::ParamKind::PARAM_EXEC)
}

/// Whether an expression that stands alone uses a parameter, or a column of another relation.
unsafe fn has_value_from_here(node: *mut Node) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(node, |n| match (*n).type_ {
            pg_sys::NodeTag::T_Param | pg_sys::NodeTag::T_Var => Visit::Stop,
            _ => Visit::Deeper,
        })
    }
}

/// A column of another relation than the scanned one.
unsafe fn is_outer_column(node: *mut Node, scanned: Option<u32>) -> bool {
    // SAFETY: the tag says what it is.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_Var
            && scanned.is_some_and(|rti| {
                let var = node.cast::<pg_sys::Var>();
                (*var).varlevelsup == 0 && (*var).varno as u32 != rti
            })
    }
}

unsafe fn is_scalar_expression(node: *mut Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: every node has a tag.
    matches!(
        unsafe { (*node).type_ },
        T_Param
            | T_FuncExpr
            | T_OpExpr
            | T_DistinctExpr
            | T_NullIfExpr
            | T_ScalarArrayOpExpr
            | T_BoolExpr
            | T_RelabelType
            | T_CoerceViaIO
            | T_ArrayCoerceExpr
            | T_ConvertRowtypeExpr
            | T_CollateExpr
            | T_CaseExpr
            | T_ArrayExpr
            | T_RowExpr
            | T_RowCompareExpr
            | T_CoalesceExpr
            | T_MinMaxExpr
            | T_SQLValueFunction
            | T_XmlExpr
            | T_NullTest
            | T_BooleanTest
            | T_CoerceToDomain
            | T_NextValueExpr
            | T_SubscriptingRef
            | T_FieldSelect
            | T_Const
    )
}

/// No columns (of the scanned relation), aggregates, subqueries, set-returning functions or placeholders below.
unsafe fn stands_alone(node: *mut Node, scanned: Option<u32>) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: a read-only walk.
    unsafe {
        !pg_sys::expression_returns_set(node)
            && !tree::walk(node, |n| match (*n).type_ {
                T_Var if is_outer_column(n, scanned) => Visit::Deeper,
                T_Var
                | T_Aggref
                | T_WindowFunc
                | T_GroupingFunc
                | T_SubLink
                | T_SubPlan
                | T_AlternativeSubPlan
                | T_PlaceHolderVar
                | T_CaseTestExpr
                | T_CoerceToDomainValue
                | T_CurrentOfExpr
                | T_MergeAction
                | T_SetToDefault => Visit::Stop,
                T_Param if !is_value_param(n) => Visit::Stop,
                _ => Visit::Deeper,
            })
    }
}
