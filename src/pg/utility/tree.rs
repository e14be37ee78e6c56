//! Reading raw parse trees: lists, names, tags.

use crate::catalog::quote_identifier;
use crate::ddl::text::dotted;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

/// The pointers of a `List` (none for NIL).
///
/// # Safety
/// `list` is NIL or a valid pointer list whose cells point to `T`.
pub unsafe fn items<T>(list: *const pg_sys::List) -> Vec<*mut T> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: `elements` holds `length` cells.
    unsafe {
        let cells = std::slice::from_raw_parts((*list).elements, (*list).length as usize);
        cells.iter().map(|c| c.ptr_value.cast()).collect()
    }
}

/// The numbers of an integer list.
///
/// # Safety
/// `list` is NIL or a valid integer list.
pub unsafe fn integers(list: *const pg_sys::List) -> Vec<i32> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: `elements` holds `length` cells.
    unsafe {
        let cells = std::slice::from_raw_parts((*list).elements, (*list).length as usize);
        cells.iter().map(|c| c.int_value).collect()
    }
}

/// A C string of the parse tree; empty for NULL.
///
/// # Safety
/// `text` is NULL or NUL-terminated.
pub unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null.
    unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() }
}

/// The kind of a node.
///
/// # Safety
/// `node` points to a node.
pub unsafe fn tag<T>(node: *const T) -> pg_sys::NodeTag {
    // SAFETY: every node begins with its tag.
    unsafe { (*node.cast::<pg_sys::Node>()).type_ }
}

/// The node as a `T` if it has this tag.
///
/// # Safety
/// `node` is NULL or points to a node; `T` is what the tag stands for.
pub unsafe fn cast<T>(node: *mut pg_sys::Node, expected: pg_sys::NodeTag) -> Option<*mut T> {
    // SAFETY: checked for NULL first.
    unsafe { (!node.is_null() && tag(node) == expected).then_some(node.cast()) }
}

/// The texts of a list of `String` nodes, e.g. a name with dots.
///
/// # Safety
/// As [`items`], of `String` nodes.
pub unsafe fn strings(list: *const pg_sys::List) -> Vec<String> {
    // SAFETY: the cells are String nodes.
    unsafe { items::<pg_sys::String>(list).into_iter().map(|s| text((*s).sval)).collect() }
}

/// A dotted name, quoted.
///
/// # Safety
/// As [`strings`].
pub unsafe fn name(list: *const pg_sys::List) -> String {
    // SAFETY: as the caller promises.
    unsafe { dotted(strings(list)) }
}

/// Roles as GRANT names them, and the names of those that are spelt out.
///
/// # Safety
/// As [`items`], of `RoleSpec` nodes.
pub unsafe fn roles(list: *const pg_sys::List) -> (Vec<String>, Vec<String>) {
    // SAFETY: the cells are RoleSpecs.
    let specs = unsafe { items::<pg_sys::RoleSpec>(list) };
    let mut names = Vec::new();
    let printed = specs.into_iter().map(|spec| unsafe { role(spec, &mut names) }).collect();
    (printed, names)
}

/// A role as text; `CURRENT_USER` and its kin by the name they stand for here.
///
/// # Safety
/// `spec` points to a RoleSpec.
pub unsafe fn role(spec: *mut pg_sys::RoleSpec, names: &mut Vec<String>) -> String {
    // SAFETY: get_rolespec_name returns palloc'd text.
    unsafe {
        if (*spec).roletype == pg_sys::RoleSpecType::ROLESPEC_PUBLIC {
            return "PUBLIC".to_owned();
        }
        let name = text(pg_sys::get_rolespec_name(spec));
        let quoted = quote_identifier(&name);
        names.push(name);
        quoted
    }
}
