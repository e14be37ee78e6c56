//! Functions of Postgres that raise no ERROR, as they are: the wrapper that pgrx puts around each function, which
//! catches ERRORs, costs more than what these do.

use pgrx::pg_sys::{Oid, TransactionId};
use std::ffi::c_int;

unsafe extern "C-unwind" {
    pub safe fn GetUserId() -> Oid;
    pub safe fn GetCurrentTransactionNestLevel() -> c_int;
    pub safe fn IsTransactionState() -> bool;
    pub safe fn IsTransactionBlock() -> bool;
    pub safe fn GetTopTransactionIdIfAny() -> TransactionId;
}
