//! Tuple descriptors and the attributes in them.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The attribute at a 0-based position.
pub unsafe fn attribute(desc: pg_sys::TupleDesc, index: usize) -> *mut pg_sys::FormData_pg_attribute {
    // SAFETY: the caller keeps `index` below natts.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            (*desc).attrs.as_mut_ptr().add(index)
        }
        #[cfg(feature = "pg18")]
        {
            pg_sys::TupleDescAttr(desc, index as i32)
        }
    }
}

/// A column as its definition says, without dropped ones.
pub struct Column {
    pub attno: i16,
    pub name: String,
    pub type_oid: pg_sys::Oid,
    pub typmod: i32,
    pub generated: bool,
}

/// The columns of a relation that are not dropped.
pub unsafe fn columns(relid: pg_sys::Oid) -> Vec<Column> {
    // SAFETY: the relation is locked by the statement at work.
    unsafe {
        let rel = pg_sys::RelationIdGetRelation(relid);
        if rel.is_null() {
            return Vec::new();
        }
        let desc = (*rel).rd_att;
        let columns = (0..(*desc).natts as usize)
            .map(|i| attribute(desc, i))
            .filter(|a| !(**a).attisdropped)
            .map(|a| Column {
                attno: (*a).attnum,
                name: CStr::from_ptr((*a).attname.data.as_ptr()).to_string_lossy().into_owned(),
                type_oid: (*a).atttypid,
                typmod: (*a).atttypmod,
                generated: (*a).attgenerated != 0,
            })
            .collect();
        pg_sys::RelationClose(rel);
        columns
    }
}

/// `"schema"."table"`, as it is on every node.
pub unsafe fn qualified_name(relid: pg_sys::Oid) -> String {
    // SAFETY: the relation exists; names are palloc'd.
    unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relid));
        let name = pg_sys::get_rel_name(relid);
        if schema.is_null() || name.is_null() {
            return String::from("?");
        }
        format!(
            "{}.{}",
            crate::catalog::quote_identifier(&CStr::from_ptr(schema).to_string_lossy()),
            crate::catalog::quote_identifier(&CStr::from_ptr(name).to_string_lossy())
        )
    }
}

/// The elements of an array value; `None` for NULL elements.
pub unsafe fn array_elements(array: pg_sys::Datum, element: pg_sys::Oid) -> Vec<Option<pg_sys::Datum>> {
    // SAFETY: `array` is an array of `element`.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut len, mut byval, mut align) = (0i16, false, 0 as std::ffi::c_char);
        pg_sys::get_typlenbyvalalign(element, &mut len, &mut byval, &mut align);
        let mut values = std::ptr::null_mut();
        let mut nulls = std::ptr::null_mut();
        let mut count = 0;
        pg_sys::deconstruct_array(array, element, len.into(), byval, align, &mut values, &mut nulls, &mut count);
        (0..count as usize).map(|i| (!*nulls.add(i)).then_some(*values.add(i))).collect()
    }
}
