//! Walking and building Postgres's node trees from Rust.
//!
//! [`walk`] and [`mutate`] hand every node to a closure that says whether to go deeper; lists are
//! read with [`items`]. Nodes belong to the memory context they were made in; nothing is freed here.

use crate::pg::compat;
use crate::pg::guard::boundary;
use pgrx::pg_sys;
use std::ffi::c_void;
use std::ptr;

pub type Node = pg_sys::Node;

/// What a visitor wants next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Visit the children too.
    Deeper,
    /// Leave the children out.
    Skip,
    /// End the walk.
    Stop,
}

/// The tag of a node, which may be null.
pub unsafe fn tag(node: *const Node) -> Option<pg_sys::NodeTag> {
    // SAFETY: every non-null node starts with its tag.
    unsafe { node.as_ref().map(|n| n.type_) }
}

/// `node` as a `$type`, if it is one.
#[macro_export]
macro_rules! node_as {
    ($node:expr, $tag:ident) => {{
        let node = $node as *mut pgrx::pg_sys::Node;
        if !node.is_null() && (*node).type_ == pgrx::pg_sys::NodeTag::$tag { Some(node) } else { None }
    }};
}

/// The elements of a pointer list (null is the empty list).
pub unsafe fn items<T>(list: *const pg_sys::List) -> Vec<*mut T> {
    // SAFETY: `elements` holds `length` cells.
    unsafe {
        match list.as_ref() {
            None => Vec::new(),
            Some(l) => (0..l.length as usize).map(|i| (*l.elements.add(i)).ptr_value.cast::<T>()).collect(),
        }
    }
}

/// The same without an allocation.
pub unsafe fn each<'a, T>(list: *const pg_sys::List) -> impl Iterator<Item = *mut T> + 'a {
    // SAFETY: the caller keeps the list unchanged while it iterates.
    unsafe {
        let cells = list.as_ref().map_or(&[][..], |l| std::slice::from_raw_parts(l.elements, l.length as usize));
        cells.iter().map(|cell| cell.ptr_value.cast::<T>())
    }
}

/// The elements of an integer list.
pub unsafe fn ints(list: *const pg_sys::List) -> Vec<i32> {
    // SAFETY: as `items`.
    unsafe {
        match list.as_ref() {
            None => Vec::new(),
            Some(l) => (0..l.length as usize).map(|i| (*l.elements.add(i)).int_value).collect(),
        }
    }
}

/// The elements of an OID list.
pub unsafe fn oids(list: *const pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: as `items`.
    unsafe {
        match list.as_ref() {
            None => Vec::new(),
            Some(l) => (0..l.length as usize).map(|i| (*l.elements.add(i)).oid_value).collect(),
        }
    }
}

/// A list of the given pointers.
pub unsafe fn list_of<T>(elements: impl IntoIterator<Item = *mut T>) -> *mut pg_sys::List {
    // SAFETY: lappend allocates in the current memory context.
    unsafe { elements.into_iter().fold(ptr::null_mut(), |list, e| pg_sys::lappend(list, e.cast())) }
}

/// A zeroed node of type `T` with its tag set.
pub unsafe fn make<T>(node_tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: palloc0 gives room for T; every node struct starts with its tag.
    unsafe {
        let node = pg_sys::palloc0(std::mem::size_of::<T>()).cast::<T>();
        (*node.cast::<Node>()).type_ = node_tag;
        node
    }
}

/// A deep copy in the current memory context.
pub unsafe fn copy<T>(node: *const T) -> *mut T {
    // SAFETY: `node` is a node tree.
    unsafe { pg_sys::copyObjectImpl(node.cast()).cast() }
}

type Visitor<'a> = &'a mut dyn FnMut(*mut Node) -> Visit;

unsafe extern "C-unwind" fn walk_step(node: *mut Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: `context` is the visitor that `walk` put on its stack.
    unsafe {
        let visitor = &mut *context.cast::<Visitor>();
        match visitor(node) {
            Visit::Stop => true,
            Visit::Skip => false,
            Visit::Deeper => descend(node, context),
        }
    }
}

unsafe fn descend(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: the walkers of nodeFuncs.c accept any node below a Query.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                compat::query_tree_walker(node.cast(), walk_step, context, pg_sys::QTW_EXAMINE_RTES_BEFORE as i32)
            }
            pg_sys::NodeTag::T_RangeTblEntry => false, // its parts are walked by query_tree_walker
            _ => compat::expression_tree_walker(node, walk_step, context),
        }
    }
}

/// Visits `node` and what is below it, range table entries before their contents; `true` if stopped.
pub unsafe fn walk(node: *mut Node, mut visit: impl FnMut(*mut Node) -> Visit) -> bool {
    let mut visitor: Visitor = &mut visit;
    // SAFETY: the visitor outlives the walk. Where Postgres jumps out of it, no visit is under way.
    unsafe { boundary(|| walk_step(node, (&raw mut visitor).cast())) }
}

/// Visits what a query itself holds, with the walker's `flags` for what to leave out.
pub unsafe fn walk_query(query: *mut pg_sys::Query, flags: i32, mut visit: impl FnMut(*mut Node) -> Visit) -> bool {
    let mut visitor: Visitor = &mut visit;
    // SAFETY: the visitor outlives the walk.
    unsafe { boundary(|| compat::query_tree_walker(query, walk_step, (&raw mut visitor).cast(), flags)) }
}

/// What a mutation makes of a node.
pub enum Change {
    /// Copy it and change what is below.
    Deeper,
    /// Put this in its place.
    Replace(*mut Node),
}

type Changer<'a> = &'a mut dyn FnMut(*mut Node) -> Change;

unsafe extern "C-unwind" fn mutate_step(node: *mut Node, context: *mut c_void) -> *mut Node {
    if node.is_null() {
        return node;
    }
    // SAFETY: `context` is the changer that `mutate` put on its stack.
    unsafe {
        let changer = &mut *context.cast::<Changer>();
        match changer(node) {
            Change::Replace(new) => new,
            Change::Deeper => match (*node).type_ {
                pg_sys::NodeTag::T_Query => compat::query_tree_mutator(node.cast(), mutate_step, context, 0).cast(),
                _ => compat::expression_tree_mutator(node, mutate_step, context),
            },
        }
    }
}

/// A changed copy of `node`.
pub unsafe fn mutate(node: *mut Node, mut change: impl FnMut(*mut Node) -> Change) -> *mut Node {
    let mut changer: Changer = &mut change;
    // SAFETY: the changer outlives the mutation.
    unsafe { boundary(|| mutate_step(node, (&raw mut changer).cast())) }
}

/// The range table entry that a number names in `rtable`.
pub unsafe fn entry(rtable: *const pg_sys::List, index: u32) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: range table indexes start at 1 and come from the same query.
    unsafe { (*(*rtable).elements.add(index as usize - 1)).ptr_value.cast() }
}

/// The conjuncts of a qualification: nested ANDs and implicit lists flattened.
pub unsafe fn conjuncts(qual: *mut Node, into: &mut Vec<*mut Node>) {
    // SAFETY: `qual` is null, a list, or an expression.
    unsafe {
        if qual.is_null() {
            return;
        }
        if let Some(list) = node_as!(qual, T_List) {
            for q in items::<Node>(list.cast()) {
                conjuncts(q, into);
            }
        } else if let Some(b) = node_as!(qual, T_BoolExpr)
            && (*b.cast::<pg_sys::BoolExpr>()).boolop == pg_sys::BoolExprType::AND_EXPR
        {
            for q in items::<Node>((*b.cast::<pg_sys::BoolExpr>()).args) {
                conjuncts(q, into);
            }
        } else {
            into.push(qual);
        }
    }
}

/// A string constant's text for `fdw_private`: bytes in a `bytea` Const, which Postgres can copy.
pub unsafe fn bytes_const(bytes: &[u8]) -> *mut pg_sys::Const {
    // SAFETY: the datum lives in the current memory context with the node.
    unsafe {
        let size = bytes.len() + pg_sys::VARHDRSZ;
        let varlena = pg_sys::palloc(size).cast::<u8>();
        pgrx::set_varsize_4b(varlena.cast(), size as i32);
        ptr::copy_nonoverlapping(bytes.as_ptr(), varlena.add(pg_sys::VARHDRSZ), bytes.len());
        pg_sys::makeConst(pg_sys::BYTEAOID, -1, pg_sys::InvalidOid, -1, pg_sys::Datum::from(varlena), false, false)
    }
}

/// The bytes of [`bytes_const`].
pub unsafe fn const_bytes<'a>(constant: *const pg_sys::Const) -> &'a [u8] {
    // SAFETY: the Const was made by `bytes_const` and lives as long as the plan.
    unsafe { pgrx::varlena::varlena_to_byte_slice((*constant).constvalue.cast_mut_ptr()) }
}

/// A constant of type `text`.
pub unsafe fn text_const(text: &str) -> *mut pg_sys::Const {
    // SAFETY: a varlena like any other.
    unsafe {
        let constant = bytes_const(text.as_bytes());
        (*constant).consttype = pg_sys::TEXTOID;
        (*constant).constcollid = pg_sys::DEFAULT_COLLATION_OID;
        constant
    }
}
