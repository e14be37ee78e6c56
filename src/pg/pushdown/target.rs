//! The nodes that a pushed statement goes to: `WHERE o.tenant = 42` holds for all tables that are joined on the key, so one
//! node has all rows; `o.tenant IN (1, 2)` leads to two at most; else it is all of them.

use super::place::{Block, Reading};
use super::{Rewriter, shape};
use crate::catalog::TableId;
use crate::node_as;
use crate::pg::foreign_scan::parameter_of;
use crate::pg::params::Parameters;
use crate::pg::query_tree::{deterministic, strip_relabel};
use crate::pg::tree::{Node, items};
use crate::plan::remote::Target;
use pgrx::pg_sys;

impl Rewriter<'_> {
    /// The nodes that can have rows: a condition on a shard key holds for all tables of the join.
    pub(super) unsafe fn target(
        &self,
        sent: *mut pg_sys::Query,
        table: TableId,
        reading: &Reading,
        block: &Block,
        parameters: &mut Parameters,
    ) -> Target {
        let all = Target::All { table };
        // SAFETY: conditions of the statement that is sent.
        unsafe {
            let Ok(class) = crate::pg::hash::key_class(table) else { return all };
            let mut conditions = Vec::new();
            shape::inner_conditions((*sent).jointree.cast(), &mut conditions);
            let mut list = None;
            for condition in conditions {
                if let Some(op) = node_as!(condition, T_OpExpr) {
                    let op = op.cast::<pg_sys::OpExpr>();
                    let args = items::<Node>((*op).args);
                    if args.len() != 2
                        || pg_sys::get_op_opfamily_strategy((*op).opno, class.family) != 1
                        || !deterministic((*op).inputcollid)
                    {
                        continue;
                    }
                    for (key, value) in [(args[0], args[1]), (args[1], args[0])] {
                        if reading.is_key(block, key)
                            && let Some(parameter) = parameter_of(strip_relabel(value), parameters)
                        {
                            return Target::Key { table, parameter };
                        }
                    }
                } else if let Some(op) = node_as!(condition, T_ScalarArrayOpExpr) {
                    let op = op.cast::<pg_sys::ScalarArrayOpExpr>();
                    let args = items::<Node>((*op).args);
                    if (*op).useOr
                        && args.len() == 2
                        && list.is_none()
                        && pg_sys::get_op_opfamily_strategy((*op).opno, class.family) == 1
                        && deterministic((*op).inputcollid)
                        && reading.is_key(block, args[0])
                    {
                        list = parameter_of(args[1], parameters);
                    }
                }
            }
            list.map_or(all, |parameter| Target::Keys { table, parameter })
        }
    }
}
