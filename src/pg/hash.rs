//! Row to shard by Postgres's own hash partitioning: the same function that the nodes check with.

use crate::catalog::{ClusterMap, ColocationGroup, NodeId, ShardIndex, TableId};
use crate::copy::key_hash::KeyType;
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::boundary;
use crate::pg::query_tree::deterministic;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// Support function number of a hash operator class's seeded 64-bit hash (`access/hash.h`).
const HASHEXTENDED_PROC: i16 = 2;

unsafe extern "C-unwind" {
    /// Without pgrx's wrapper, which costs more than the hashing.
    #[link_name = "compute_partition_hash_value"]
    fn raw_partition_hash(
        columns: i32,
        functions: *mut pg_sys::FmgrInfo,
        collations: *const pg_sys::Oid,
        values: *const pg_sys::Datum,
        nulls: *const bool,
    ) -> u64;
}

/// Hashes key values of one distributed table.
pub struct KeyHasher {
    function: pg_sys::FmgrInfo,
    collation: pg_sys::Oid,
}

/// The operator family, input type and collation of a table's partition key.
pub struct KeyClass {
    pub family: pg_sys::Oid,
    pub input_type: pg_sys::Oid,
    pub collation: pg_sys::Oid,
}

/// Reads the key's operator class from `pg_partitioned_table`.
pub fn key_class(table: TableId) -> Result<KeyClass> {
    // SAFETY: the vectors have one element each (checked when the table was distributed).
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PARTRELID as _;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(pg_sys::Oid::from(table.0)));
        if tuple.is_null() {
            return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not partitioned"));
        }
        let mut null = false;
        // pg_partitioned_table.partclass and partcollation
        let class = pg_sys::SysCacheGetAttr(cache, tuple, 6, &mut null).cast_mut_ptr::<pg_sys::oidvector>();
        let class = *(*class).values.as_ptr();
        let collation = pg_sys::SysCacheGetAttr(cache, tuple, 7, &mut null).cast_mut_ptr::<pg_sys::oidvector>();
        let collation = *(*collation).values.as_ptr();
        pg_sys::ReleaseSysCache(tuple);
        Ok(KeyClass {
            family: pg_sys::get_opclass_family(class),
            input_type: pg_sys::get_opclass_input_type(class),
            collation,
        })
    }
}

impl KeyClass {
    /// Whether a value of this type that equals a key, by an operator of the key's family, is hashed as that key.
    pub fn hashes_alike(&self, value_type: pg_sys::Oid) -> bool {
        // SAFETY: syscache look-ups.
        unsafe {
            let base = pg_sys::getBaseType(value_type);
            pg_sys::get_opfamily_proc(self.family, base, base, HASHEXTENDED_PROC) != pg_sys::InvalidOid
                || pg_sys::IsBinaryCoercible(base, self.input_type)
        }
    }
}

/// The hashers in use, by table and value type, as long as the cluster is the same.
struct Kept {
    map: Weak<ClusterMap>,
    hashers: Vec<(TableId, pg_sys::Oid, KeyHasher)>,
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { map: Weak::new(), hashers: Vec::new() }) };
}

/// The shard of a key value of some type ([`KeyHasher::for_type`]): what it takes to hash is looked up once.
pub fn shard_of(
    map: &Rc<ClusterMap>,
    table: TableId,
    value_type: pg_sys::Oid,
    key: Option<pg_sys::Datum>,
) -> Result<ShardIndex> {
    let Some((group, _)) = map.distribution(table) else {
        return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more"));
    };
    // Taken out while it works: hashing may raise an ERROR, which leaves by unwinding.
    let kept = KEPT.with_borrow_mut(|kept| {
        if kept.map.as_ptr() != Rc::as_ptr(map) {
            *kept = Kept { map: Rc::downgrade(map), hashers: Vec::new() };
        }
        let index = kept.hashers.iter().position(|(t, v, _)| *t == table && *v == value_type)?;
        Some(kept.hashers.swap_remove(index).2)
    });
    let mut hasher = match kept {
        Some(hasher) => hasher,
        None => {
            // SAFETY: a context that lives as long as the backend; switched back at once.
            let old = unsafe { pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext) };
            let hasher = KeyHasher::for_type(table, value_type);
            unsafe { pg_sys::MemoryContextSwitchTo(old) };
            hasher?
        }
    };
    let shard = hasher.shard(group, key);
    KEPT.with_borrow_mut(|kept| kept.hashers.push((table, value_type, hasher)));
    Ok(shard)
}

impl KeyHasher {
    /// For values of the key's own type.
    pub fn new(table: TableId) -> Result<KeyHasher> {
        KeyHasher::for_type(table, pg_sys::InvalidOid)
    }

    /// For a table that is not partitioned yet.
    pub fn of_class(class: &KeyClass) -> Result<KeyHasher> {
        KeyHasher::with_class(class, pg_sys::InvalidOid)
    }

    /// For values of a type that the key's operator family hashes alike (`int8` for an `int4` key),
    /// or that is the key's type under another name (`varchar`, a domain).
    pub fn for_type(table: TableId, value_type: pg_sys::Oid) -> Result<KeyHasher> {
        KeyHasher::with_class(&key_class(table)?, value_type)
    }

    fn with_class(class: &KeyClass, value_type: pg_sys::Oid) -> Result<KeyHasher> {
        // SAFETY: the FmgrInfo lives in the current memory context.
        unsafe {
            let own = |t| pg_sys::get_opfamily_proc(class.family, t, t, HASHEXTENDED_PROC);
            let mut procedure = match value_type {
                pg_sys::InvalidOid => pg_sys::InvalidOid,
                _ => own(pg_sys::getBaseType(value_type)),
            };
            if procedure == pg_sys::InvalidOid {
                procedure = own(class.input_type);
            }
            if procedure == pg_sys::InvalidOid {
                return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, "shard key has no extended hash function"));
            }
            let mut function: pg_sys::FmgrInfo = std::mem::zeroed();
            pg_sys::fmgr_info(procedure, &mut function);
            Ok(KeyHasher { function, collation: class.collation })
        }
    }

    /// The type as the hashing of raw keys knows it, if its values are hashed in that way. A domain is not: it has
    /// something to check.
    pub fn key_type(&self, kind: pg_sys::Oid, typmod: i32) -> Option<KeyType> {
        let is_hashed_by = |function: u32| self.function.fn_oid.to_u32() == function;
        // SAFETY: a look-up.
        let plain_text = || unsafe { is_hashed_by(pg_sys::F_HASHTEXTEXTENDED) && deterministic(self.collation) };
        match kind {
            pg_sys::INT2OID => is_hashed_by(pg_sys::F_HASHINT2EXTENDED).then_some(KeyType::Int2),
            pg_sys::INT4OID => is_hashed_by(pg_sys::F_HASHINT4EXTENDED).then_some(KeyType::Int4),
            pg_sys::INT8OID => is_hashed_by(pg_sys::F_HASHINT8EXTENDED).then_some(KeyType::Int8),
            pg_sys::UUIDOID => is_hashed_by(pg_sys::F_UUID_HASH_EXTENDED).then_some(KeyType::Uuid),
            pg_sys::TEXTOID => plain_text().then_some(KeyType::Text { most: usize::MAX }),
            pg_sys::VARCHAROID => {
                let most = usize::try_from(typmod - pg_sys::VARHDRSZ as i32).unwrap_or(usize::MAX);
                plain_text().then_some(KeyType::Text { most })
            }
            _ => None,
        }
    }

    /// The shard of a key value; `None` is NULL, which hashes to 0.
    pub fn shard(&mut self, group: &ColocationGroup, key: Option<pg_sys::Datum>) -> ShardIndex {
        let mut value = key.unwrap_or(pg_sys::Datum::from(0));
        let mut null = key.is_none();
        // SAFETY: one key column, so one element each.
        let hash = unsafe {
            boundary(|| {
                pg_sys::compute_partition_hash_value(
                    1,
                    &mut self.function,
                    &raw mut self.collation,
                    &raw mut value,
                    &raw mut null,
                )
            })
        };
        group.shard_of_hash(hash)
    }

    /// As [`KeyHasher::shard`], where the caller stands in a `boundary`.
    ///
    /// # Safety
    /// An ERROR jumps; the value is of the hasher's type.
    pub unsafe fn shard_within(&mut self, group: &ColocationGroup, key: Option<pg_sys::Datum>) -> ShardIndex {
        let (value, null) = (key.unwrap_or(pg_sys::Datum::from(0)), key.is_none());
        group.shard_of_hash(raw_partition_hash(1, &mut self.function, &self.collation, &value, &null))
    }

    /// The node that holds a key value's row.
    pub fn node(&mut self, group: &ColocationGroup, key: Option<pg_sys::Datum>) -> NodeId {
        group.node_of(self.shard(group, key))
    }
}
