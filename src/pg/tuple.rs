//! Tuple descriptors and the attributes in them.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The attribute at a 0-based position.
pub unsafe fn attribute(desc: pg_sys::TupleDesc, index: usize) -> *mut pg_sys::FormData_pg_attribute {
    // SAFETY: the caller keeps `index` below natts.
    unsafe { crate::pg::compat::attributes(desc).add(index) }
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

/// How many rows a relation is known to have: negative if it was never analyzed, `None` if it is gone.
pub unsafe fn known_rows(relid: pg_sys::Oid) -> Option<f64> {
    // SAFETY: a look at the relation cache.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(relid);
        if relation.is_null() {
            return None;
        }
        let rows = f64::from((*(*relation).rd_rel).reltuples);
        pg_sys::RelationClose(relation);
        Some(rows)
    }
}

/// The same; never analyzed: as Postgres does for a foreign table, some.
pub unsafe fn estimated_rows(relid: pg_sys::Oid) -> f64 {
    // SAFETY: as above.
    match unsafe { known_rows(relid) } {
        Some(rows) if rows < 0.0 => 10_000.0,
        rows => rows.unwrap_or(0.0),
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

/// How many elements an array value has.
pub unsafe fn array_length(array: pg_sys::Datum) -> usize {
    // SAFETY: `array` is an array; its dimensions follow its header.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let dimensions = array.add(1).cast::<std::ffi::c_int>();
        pg_sys::ArrayGetNItems((*array).ndim, dimensions) as usize
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

/// `"schema"."type"`: without a type modifier, so that `"bit"` and `"bpchar"` keep their length.
pub unsafe fn type_name(oid: pg_sys::Oid) -> String {
    // SAFETY: the syscache tuple is released after its names are copied.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as _, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return "text".into();
        }
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(tuple);
        let name = CStr::from_ptr((*form).typname.data.as_ptr()).to_string_lossy().into_owned();
        let schema = pg_sys::get_namespace_name((*form).typnamespace);
        let schema = CStr::from_ptr(schema).to_string_lossy().into_owned();
        pg_sys::ReleaseSysCache(tuple);
        format!("{}.{}", crate::catalog::quote_identifier(&schema), crate::catalog::quote_identifier(&name))
    }
}

/// A ctid in `tid`'s binary form: block number, then offset, both big-endian.
pub unsafe fn ctid_bytes(ctid: pg_sys::Datum) -> [u8; 6] {
    // SAFETY: the datum is a tid.
    unsafe {
        let pointer = *ctid.cast_mut_ptr::<pg_sys::ItemPointerData>();
        let hi = pointer.ip_blkid.bi_hi.to_be_bytes();
        let lo = pointer.ip_blkid.bi_lo.to_be_bytes();
        let offset = pointer.ip_posid.to_be_bytes();
        [hi[0], hi[1], lo[0], lo[1], offset[0], offset[1]]
    }
}

/// The text form of [`ctid_bytes`]: `(block,offset)`.
pub fn ctid_text(bytes: &[u8; 6]) -> String {
    let block = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let offset = u16::from_be_bytes([bytes[4], bytes[5]]);
    format!("({block},{offset})")
}

/// Why a row of this table must not be deleted here and inserted there in the place of an update.
pub unsafe fn move_obstacle(relation: pg_sys::Relation) -> Option<&'static str> {
    // SAFETY: the relation is open.
    unsafe {
        let triggers = (*relation).trigdesc;
        if triggers.is_null() {
            return None;
        }
        let mut referenced = false;
        for i in 0..(*triggers).numtriggers as usize {
            let trigger = (*triggers).triggers.add(i);
            if pg_sys::RI_FKey_trigger_type((*trigger).tgfoid) == pg_sys::RI_TRIGGER_PK as i32 {
                referenced = true;
            }
        }
        if referenced {
            Some("is referenced by foreign keys, whose rows would not follow")
        } else if (*triggers).trig_update_before_row || (*triggers).trig_update_after_row {
            Some("has triggers for UPDATE, which would not fire")
        } else {
            None
        }
    }
}

/// Whether something looks at new rows when the statement that makes them is done: a foreign key to the table itself, or
/// a trigger.
pub unsafe fn is_watched(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open; the list and the triggers belong to the relcache.
    unsafe {
        let keys = pg_sys::RelationGetFKeyList(relation);
        let keys = crate::pg::tree::items::<pg_sys::ForeignKeyCacheInfo>(keys);
        let triggers = (*relation).trigdesc;
        let is_after = |trigger: &pg_sys::Trigger| {
            let kind = trigger.tgtype as u32;
            let before = pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD;
            !trigger.tgisinternal && kind & pg_sys::TRIGGER_TYPE_INSERT != 0 && kind & before == 0
        };
        keys.into_iter().any(|key| (*key).confrelid == (*relation).rd_id)
            || !triggers.is_null()
                && std::slice::from_raw_parts((*triggers).triggers, (*triggers).numtriggers as usize)
                    .iter()
                    .any(is_after)
    }
}

/// The columns of a table's primary key.
pub unsafe fn primary_key(relation: pg_sys::Relation) -> Vec<i16> {
    // SAFETY: the relation is open; the set is palloc'd.
    unsafe {
        let set =
            pg_sys::RelationGetIndexAttrBitmap(relation, pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY);
        let mut members = Vec::new();
        let mut member = -1;
        loop {
            member = pg_sys::bms_next_member(set, member);
            if member < 0 {
                return members;
            }
            members.push((member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16);
        }
    }
}

/// Whether a foreign key of the table may change its rows by itself (CASCADE, SET NULL).
pub unsafe fn references_others(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open; the list belongs to the relcache.
    unsafe {
        crate::pg::tree::items::<pg_sys::ForeignKeyCacheInfo>(pg_sys::RelationGetFKeyList(relation))
            .into_iter()
            .next()
            .is_some()
    }
}
