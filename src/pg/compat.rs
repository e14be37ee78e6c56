//! What differs between Postgres 15 and 18, one function per difference.

use pgrx::pg_sys;
use std::ffi::c_void;

pub type Mutator = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> *mut pg_sys::Node;

/// What the walkers of `nodeFuncs.c` call for each node, with their context.
pub type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

// As they are: a tree is walked several times per statement, and pgrx's wrapper costs more than a node. An ERROR jumps,
// up to the `boundary` around the whole walk. On 15 the C prototypes say nothing of what the functions take.
unsafe extern "C-unwind" {
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    pub fn query_tree_walker(query: *mut pg_sys::Query, walker: Walker, context: *mut c_void, flags: i32) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_mutator_impl")]
    pub fn query_tree_mutator(
        query: *mut pg_sys::Query,
        mutator: Mutator,
        context: *mut c_void,
        flags: i32,
    ) -> *mut pg_sys::Query;
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_mutator_impl")]
    pub fn expression_tree_mutator(
        node: *mut pg_sys::Node,
        mutator: Mutator,
        context: *mut c_void,
    ) -> *mut pg_sys::Node;
}

/// `create_foreignscan_path` for an unparameterized base scan.
pub unsafe fn create_foreignscan_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    rows: f64,
    startup: f64,
    total: f64,
    required_outer: pg_sys::Relids,
) -> *mut pg_sys::ForeignPath {
    use std::ptr::null_mut;
    // SAFETY: called while the relation is planned.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        {
            pg_sys::create_foreignscan_path(
                root,
                rel,
                null_mut(),
                rows,
                startup,
                total,
                null_mut(),
                required_outer,
                null_mut(),
                null_mut(),
            )
        }
        #[cfg(feature = "pg17")]
        {
            pg_sys::create_foreignscan_path(
                root,
                rel,
                null_mut(),
                rows,
                startup,
                total,
                null_mut(),
                required_outer,
                null_mut(),
                null_mut(),
                null_mut(),
            )
        }
        #[cfg(feature = "pg18")]
        {
            pg_sys::create_foreignscan_path(
                root,
                rel,
                null_mut(),
                rows,
                0,
                startup,
                total,
                null_mut(),
                required_outer,
                null_mut(),
                null_mut(),
                null_mut(),
            )
        }
    }
}

unsafe extern "C-unwind" {
    #[cfg(not(feature = "pg18"))]
    fn standard_ExecutorRun(
        desc: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        execute_once: bool,
    );
    #[cfg(feature = "pg18")]
    fn standard_ExecutorRun(desc: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64);
}

/// `ExecutorRun_hook`: see `hooks::executor_run`.
#[cfg(not(feature = "pg18"))]
pub unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    execute_once: bool,
) {
    // SAFETY: arguments are the hook's own.
    unsafe {
        crate::pg::hooks::executor_run(desc, count, |previous| match previous {
            Some(previous) => previous(desc, direction, count, execute_once),
            None => standard_ExecutorRun(desc, direction, count, execute_once),
        });
    }
}

/// `ExecutorRun_hook`: see `hooks::executor_run`.
#[cfg(feature = "pg18")]
pub unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: arguments are the hook's own.
    unsafe {
        crate::pg::hooks::executor_run(desc, count, |previous| match previous {
            Some(previous) => previous(desc, direction, count),
            None => standard_ExecutorRun(desc, direction, count),
        });
    }
}

/// Runs `f` with nothing but `pg_catalog` in the search path. An ERROR restores it with the transaction.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub unsafe fn with_catalog_search_path<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: pushed and popped here. Far cheaper than to change the setting, which forgets the resolved path.
    unsafe {
        let mut path: pg_sys::OverrideSearchPath = std::mem::zeroed();
        path.addCatalog = true;
        pg_sys::PushOverrideSearchPath(&mut path);
        let value = f();
        pg_sys::PopOverrideSearchPath();
        value
    }
}

/// Runs `f` with nothing but `pg_catalog` in the search path. An ERROR restores it with the transaction.
#[cfg(any(feature = "pg17", feature = "pg18"))]
pub unsafe fn with_catalog_search_path<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: the GUC nest level is closed here; resolved paths are cached by these versions.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let value = f();
        pg_sys::AtEOXact_GUC(true, level);
        value
    }
}

/// Whether a whole byte of the client's next message has been received already.
pub fn client_has_sent_more() -> bool {
    // SAFETY: reads the state of the client's connection.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        {
            unsafe extern "C-unwind" {
                fn pq_buffer_has_data() -> bool;
            }
            pq_buffer_has_data()
        }
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        {
            unsafe extern "C-unwind" {
                fn pq_buffer_remaining_data() -> isize;
            }
            pq_buffer_remaining_data() > 0
        }
    }
}

/// A query's identifier, signed since Postgres 18.
#[allow(clippy::unnecessary_cast)]
pub unsafe fn query_id(query: *const pg_sys::Query) -> u64 {
    // SAFETY: reads the node.
    unsafe { (*query).queryId as u64 }
}

/// `planner_rt_fetch`: a macro in C.
pub unsafe fn planner_rte(root: *mut pg_sys::PlannerInfo, rti: u32) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: the array is filled before relations are planned.
    unsafe {
        if (*root).simple_rte_array.is_null() {
            crate::pg::tree::entry((*(*root).parse).rtable, rti)
        } else {
            *(*root).simple_rte_array.add(rti as usize)
        }
    }
}

/// Makes a copied range table entry stand without its query's permission list.
pub unsafe fn clear_permissions(rte: *mut pg_sys::RangeTblEntry) {
    #[cfg(not(feature = "pg15"))]
    // SAFETY: the entry is a private copy.
    unsafe {
        (*rte).perminfoindex = 0;
    }
    #[cfg(feature = "pg15")]
    let _ = rte;
}

/// Forgets which outer joins may null a Var (16 on): the expression is moved into a query of its own.
pub unsafe fn clear_nulling_relations(node: *mut pg_sys::Node) {
    #[cfg(not(feature = "pg15"))]
    // SAFETY: the expression is a private copy; Vars are changed in place.
    unsafe {
        crate::pg::tree::walk(node, |n| {
            if (*n).type_ == pg_sys::NodeTag::T_Var {
                (*n.cast::<pg_sys::Var>()).varnullingrels = std::ptr::null_mut();
            }
            crate::pg::tree::Visit::Deeper
        });
    }
    #[cfg(feature = "pg15")]
    let _ = node;
}

/// Fills a statement's flat range table (for permissions, locks and invalidation) from a query and
/// all queries below it. The query's own entries come first, with their numbers.
pub unsafe fn flatten_range_tables(query: *mut pg_sys::Query, stmt: *mut pg_sys::PlannedStmt) {
    use crate::pg::tree;
    // SAFETY: entries are copied flat; what they point to is shared with the query, which lives in
    // the same memory context as the statement.
    unsafe {
        let mut queries: Vec<*mut pg_sys::Query> = Vec::new();
        tree::walk(query.cast(), |n| {
            if (*n).type_ == pg_sys::NodeTag::T_Query {
                queries.push(n.cast());
            }
            tree::Visit::Deeper
        });
        for q in queries {
            for rte in tree::items::<pg_sys::RangeTblEntry>((*q).rtable) {
                let new = tree::make::<pg_sys::RangeTblEntry>(pg_sys::NodeTag::T_RangeTblEntry);
                *new = *rte;
                (*new).tablesample = std::ptr::null_mut();
                (*new).subquery = std::ptr::null_mut();
                (*new).joinaliasvars = std::ptr::null_mut();
                (*new).functions = std::ptr::null_mut();
                (*new).tablefunc = std::ptr::null_mut();
                (*new).values_lists = std::ptr::null_mut();
                (*new).securityQuals = std::ptr::null_mut();
                #[cfg(feature = "pg18")]
                {
                    (*new).groupexprs = std::ptr::null_mut();
                }
                #[cfg(not(feature = "pg15"))]
                if (*rte).perminfoindex != 0 {
                    let info = pg_sys::getRTEPermissionInfo((*q).rteperminfos, rte);
                    (*stmt).permInfos = pg_sys::lappend((*stmt).permInfos, tree::copy(info).cast());
                    (*new).perminfoindex = (*(*stmt).permInfos).length as u32;
                }
                (*stmt).rtable = pg_sys::lappend((*stmt).rtable, new.cast());
                if (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION {
                    (*stmt).relationOids = pg_sys::lappend_oid((*stmt).relationOids, (*rte).relid);
                    #[cfg(feature = "pg18")]
                    {
                        let index = (*(*stmt).rtable).length;
                        (*stmt).unprunableRelids = pg_sys::bms_add_member((*stmt).unprunableRelids, index);
                    }
                }
            }
        }
    }
}

/// Names the slot type of a custom scan (16 on; virtual before).
pub unsafe fn virtual_slots(state: *mut pg_sys::CustomScanState) {
    #[cfg(not(feature = "pg15"))]
    // SAFETY: the slot operations are static.
    unsafe {
        (*state).slotOps = &raw const pg_sys::TTSOpsVirtual;
    }
    #[cfg(feature = "pg15")]
    let _ = state;
}

#[cfg(not(feature = "pg18"))]
type CopyMinimal = unsafe extern "C-unwind" fn(*mut pg_sys::TupleTableSlot) -> pg_sys::MinimalTuple;
#[cfg(feature = "pg18")]
type CopyMinimal = unsafe extern "C-unwind" fn(*mut pg_sys::TupleTableSlot, pg_sys::Size) -> pg_sys::MinimalTuple;

/// Calls a slot's `copy_minimal_tuple`, which has an argument for extra space in 18.
pub unsafe fn copy_minimal(copy: CopyMinimal, slot: *mut pg_sys::TupleTableSlot) -> pg_sys::MinimalTuple {
    // SAFETY: the callback belongs to the slot.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            crate::pg::guard::boundary(|| copy(slot))
        }
        #[cfg(feature = "pg18")]
        {
            crate::pg::guard::boundary(|| copy(slot, 0))
        }
    }
}

/// A wait set for `events` events that lives until it is freed.
pub fn create_wait_event_set(events: i32) -> *mut pg_sys::WaitEventSet {
    // SAFETY: TopMemoryContext lives as long as the backend; no resource owner frees the set early.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    unsafe {
        pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, events)
    }
    // SAFETY: without a resource owner the set is allocated in TopMemoryContext.
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    unsafe {
        pg_sys::CreateWaitEventSet(std::ptr::null_mut(), events)
    }
}

/// A wait event of an extension: by name where they have names (17 on).
pub fn wait_event(name: &std::ffi::CStr) -> u32 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = name;
        pg_sys::PG_WAIT_EXTENSION
    }
    // SAFETY: the name is copied into shared memory; a name that is known keeps its number.
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    unsafe {
        pg_sys::WaitEventExtensionNew(name.as_ptr())
    }
}

/// What a process does on a signal.
pub fn on_signal(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the handler is a function of Postgres that only sets flags and the latch.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal, Some(handler));
    }
}

/// The array of a tuple descriptor's attributes.
pub unsafe fn attributes(desc: pg_sys::TupleDesc) -> *mut pg_sys::FormData_pg_attribute {
    // SAFETY: on 18 they follow the compact ones (`TupleDescAttr` in access/tupdesc.h).
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            (*desc).attrs.as_mut_ptr()
        }
        #[cfg(feature = "pg18")]
        {
            (*desc).compact_attrs.as_mut_ptr().add((*desc).natts as usize).cast()
        }
    }
}

/// A foreign path for an upper relation, without order.
pub unsafe fn create_foreign_upper_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    target: *mut pg_sys::PathTarget,
    rows: f64,
    startup: f64,
    total: f64,
    private: *mut pg_sys::List,
) -> *mut pg_sys::ForeignPath {
    use std::ptr::null_mut;
    // SAFETY: called while the relation is planned.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        {
            pg_sys::create_foreign_upper_path(root, rel, target, rows, startup, total, null_mut(), null_mut(), private)
        }
        #[cfg(feature = "pg17")]
        {
            pg_sys::create_foreign_upper_path(
                root,
                rel,
                target,
                rows,
                startup,
                total,
                null_mut(),
                null_mut(),
                null_mut(),
                private,
            )
        }
        #[cfg(feature = "pg18")]
        {
            pg_sys::create_foreign_upper_path(
                root,
                rel,
                target,
                rows,
                0,
                startup,
                total,
                null_mut(),
                null_mut(),
                null_mut(),
                private,
            )
        }
    }
}

/// Writes GROUP BY's expressions back to where 18's RTE_GROUP stands for them.
pub unsafe fn flatten_groups(query: *mut pg_sys::Query) {
    #[cfg(not(feature = "pg18"))]
    let _ = query;
    #[cfg(feature = "pg18")]
    // SAFETY: the query is a private copy.
    unsafe {
        if !(*query).hasGroupRTE {
            return;
        }
        let none = std::ptr::null_mut();
        (*query).targetList = pg_sys::flatten_group_exprs(none, query, (*query).targetList.cast()).cast();
        (*query).havingQual = pg_sys::flatten_group_exprs(none, query, (*query).havingQual);
        (*query).hasGroupRTE = false;
        for rte in crate::pg::tree::items::<pg_sys::RangeTblEntry>((*query).rtable) {
            if (*rte).rtekind == pg_sys::RTEKind::RTE_GROUP {
                (*rte).rtekind = pg_sys::RTEKind::RTE_RESULT;
                (*rte).groupexprs = std::ptr::null_mut();
            }
        }
    }
}

/// Empties a query's permission list (16 on): its new range table has no tables of its own.
pub unsafe fn clear_permission_list(query: *mut pg_sys::Query) {
    #[cfg(not(feature = "pg15"))]
    // SAFETY: the query is a private copy.
    unsafe {
        (*query).rteperminfos = std::ptr::null_mut();
    }
    #[cfg(feature = "pg15")]
    let _ = query;
}

/// Whether an entry is a view's subquery that also carries the permission check on the view (16 on).
pub unsafe fn is_checked_view(rte: *const pg_sys::RangeTblEntry) -> bool {
    #[cfg(feature = "pg15")]
    {
        let _ = rte;
        false
    }
    #[cfg(not(feature = "pg15"))]
    // SAFETY: reads an entry.
    unsafe {
        (*rte).perminfoindex != 0
    }
}

/// Appends a copy of an entry of `from`'s range table to `to`'s, with its permissions.
pub unsafe fn adopt_entry(rte: *mut pg_sys::RangeTblEntry, from: *mut pg_sys::Query, to: *mut pg_sys::Query) {
    // SAFETY: `to` is a private copy.
    unsafe {
        let new = crate::pg::tree::copy(rte);
        (*new).inFromCl = false;
        #[cfg(not(feature = "pg15"))]
        if (*rte).perminfoindex != 0 {
            let info = pg_sys::getRTEPermissionInfo((*from).rteperminfos, rte);
            (*to).rteperminfos = pg_sys::lappend((*to).rteperminfos, crate::pg::tree::copy(info).cast());
            (*new).perminfoindex = (*(*to).rteperminfos).length as u32;
        }
        #[cfg(feature = "pg15")]
        let _ = from;
        (*to).rtable = pg_sys::lappend((*to).rtable, new.cast());
    }
}
