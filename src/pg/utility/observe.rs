//! What a statement created and dropped, noted while it runs.
//!
//! Names of the choosing of Postgres and drops by cascade are in no parse tree; `object_access_hook`
//! sees both. A frame is opened around each statement; sub-statements report to the frame of the
//! statement that they are part of.

use crate::catalog::{ClusterMap, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::guarded;
use crate::pg::utility::{local_only, relation, tree};
use pgrx::pg_sys::{self, Oid};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::rc::Rc;

/// A column that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedColumn {
    pub table: TableId,
    /// The table's qualified name.
    pub of: String,
    pub column: String,
}

/// A table of the cluster that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTable {
    pub table: TableId,
    /// Its qualified name.
    pub name: String,
}

/// What happened during one statement.
#[derive(Debug, Default)]
pub struct Seen {
    /// Catalog and OID of each new object, in the order of creation.
    pub created: Vec<(Oid, Oid)>,
    pub tables: Vec<DroppedTable>,
    pub columns: Vec<DroppedColumn>,
    /// Types, as `DROP TYPE` would name them.
    pub types: Vec<String>,
    /// Distributed tables that a local table's foreign key does not refer to any more.
    pub unguarded: Vec<TableId>,
}

impl Seen {
    /// Whether nothing happened that the cluster must know of.
    pub fn is_empty(&self) -> bool {
        // Types matter only beside tables.
        let Seen { created, tables, columns, types: _, unguarded } = self;
        created.is_empty() && tables.is_empty() && columns.is_empty() && unguarded.is_empty()
    }

    /// The OIDs of the new objects of one catalog.
    pub fn created_in(&self, class: Oid) -> impl Iterator<Item = Oid> + '_ {
        self.created.iter().filter(move |(c, _)| *c == class).map(|(_, o)| *o)
    }
}

struct Frame {
    map: Rc<ClusterMap>,
    seen: Seen,
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

static mut PREV_OBJECT_ACCESS: pg_sys::object_access_hook_type = None;

/// Runs a statement and returns what it created and dropped. The hook is there only meanwhile: it would be
/// called for every function of every statement.
pub fn during(map: &Rc<ClusterMap>, statement: impl FnOnce()) -> Seen {
    struct Pop(usize);
    impl Drop for Pop {
        fn drop(&mut self) {
            FRAMES.with_borrow_mut(|f| f.truncate(self.0));
            if self.0 == 0 {
                // SAFETY: one thread; what was set below.
                unsafe { pg_sys::object_access_hook = PREV_OBJECT_ACCESS };
            }
        }
    }
    let pop = Pop(FRAMES.with_borrow(Vec::len));
    if pop.0 == 0 {
        // SAFETY: one thread.
        unsafe {
            PREV_OBJECT_ACCESS = pg_sys::object_access_hook;
            pg_sys::object_access_hook = Some(object_access);
        }
    }
    FRAMES.with_borrow_mut(|f| f.push(Frame { map: map.clone(), seen: Seen::default() }));
    statement();
    let seen = FRAMES.with_borrow_mut(|f| f.pop()).map(|f| f.seen).unwrap_or_default();
    drop(pop);
    seen
}

unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: Oid,
    object: Oid,
    part: c_int,
    argument: *mut c_void,
) {
    // SAFETY: the previous hook gets its own arguments; nothing here needs dropping.
    unsafe {
        if let Some(previous) = PREV_OBJECT_ACCESS {
            previous(access, class, object, part, argument);
        }
    }
    if local_only::active() {
        return;
    }
    match access {
        pg_sys::ObjectAccessType::OAT_POST_CREATE => FRAMES.with_borrow_mut(|frames| {
            if let Some(frame) = frames.last_mut() {
                frame.seen.created.push((class, object));
            }
        }),
        pg_sys::ObjectAccessType::OAT_DROP => guarded(|| dropped(class, object, part)),
        _ => {}
    }
}

fn dropped(class: Oid, object: Oid, part: c_int) -> Result<()> {
    let Some(map) = FRAMES.with_borrow(|f| f.last().map(|f| f.map.clone())) else { return Ok(()) };
    if class == pg_sys::RelationRelationId {
        let table = TableId(object.to_u32());
        if map.table(table).is_none() {
            return Ok(());
        }
        let name = relation::qualified(object);
        // SAFETY: the catalog row is still there while the hook runs.
        let column = (part != 0).then(|| unsafe { tree::text(pg_sys::get_attname(object, part as i16, true)) });
        FRAMES.with_borrow_mut(|frames| {
            if let Some(frame) = frames.last_mut() {
                match column {
                    Some(column) => frame.seen.columns.push(DroppedColumn { table, of: name, column }),
                    None => frame.seen.tables.push(DroppedTable { table, name }),
                }
            }
        });
    } else if class == pg_sys::TypeRelationId {
        let address = pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
        // SAFETY: the catalog row is still there while the hook runs; the text is palloc'd.
        let name = unsafe { tree::text(pg_sys::getObjectIdentity(&address, true)) };
        FRAMES.with_borrow_mut(|frames| {
            if let Some(frame) = frames.last_mut() {
                frame.seen.types.push(name);
            }
        });
    } else if class == relation::CONSTRAINT_CLASS {
        if let Some((from, to)) = relation::foreign_key(object)
            && map.table(from).is_none()
            && map.distribution(to).is_some()
        {
            FRAMES.with_borrow_mut(|frames| {
                if let Some(frame) = frames.last_mut() {
                    frame.seen.unguarded.push(to);
                }
            });
        }
    } else if class == pg_sys::ForeignServerRelationId {
        node_is_free(&map, object)?;
    } else if class == pg_sys::ExtensionRelationId && !map.tables.is_empty() {
        extension_is_free(object)?;
    }
    Ok(())
}

fn node_is_free(map: &ClusterMap, server: Oid) -> Result<()> {
    let Some(node) = map.nodes.iter().find(|n| n.id.0 == server.to_u32()) else { return Ok(()) };
    if map.groups.values().any(|g| g.shards.contains(&node.id)) {
        let message = format!("node \"{}\" holds shards", node.name);
        return Err(Error::new(sqlstate::DEPENDENT_OBJECTS, message)
            .hint("Drop or undistribute the tables that have shards there first."));
    }
    Ok(())
}

fn extension_is_free(extension: Oid) -> Result<()> {
    // SAFETY: a look-up; the text is palloc'd.
    let name = unsafe { tree::text(pg_sys::get_extension_name(extension)) };
    if name != "sharding" {
        return Ok(());
    }
    Err(Error::new(
        sqlstate::DEPENDENT_OBJECTS,
        "cannot drop extension \"sharding\" while tables are spread over nodes",
    )
    .detail("Their rows are on the nodes and would be out of reach.")
    .hint("Drop these tables or use sharding.undistribute_table() first; sharding.distributed_table lists them."))
}
