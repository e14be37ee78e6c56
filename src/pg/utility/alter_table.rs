//! ALTER TABLE and ALTER INDEX.
//!
//! The nodes get the words that were written: `ALTER TABLE orders ADD note text, ALTER amount TYPE
//! numeric(12,2)`. Each form has a `Verdict`; a form that is the coordinator's own affair (sequences,
//! a reference table's triggers) is not sent. Where the words will not do, because a new column's
//! default gives each server another value, or forms of both kinds are mixed, the statement is
//! rebuilt form by form from the coordinator's catalog (`rebuilt`), or refused.

#![allow(non_upper_case_globals)] // the constants are named as in Postgres

use crate::catalog::{ClusterMap, DistributedTable, TableId, quote_identifier};
use crate::ddl::text::Words;
use crate::error::{Error, Result, sqlstate};
use crate::pg::ddl::distribute::REPLICATE_TRIGGER;
use crate::pg::utility::{
    After, Call, Decision, add_column, constraint, nodes, objects, observe::Seen, relation, tree,
};
use pgrx::pg_sys::{self, AlterTableType::*, NodeTag, Oid};
use std::rc::Rc;

/// What becomes of one form of ALTER TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// To the nodes, as written.
    Send,
    /// The coordinator's own affair.
    Local,
    /// `ADD COLUMN`: as written unless the default needs care.
    AddColumn,
    /// `SET DEFAULT`: as written unless it is of the coordinator alone.
    Default,
    Refuse {
        message: &'static str,
        hint: &'static str,
    },
}

/// One form, and how to write it anew if that must be.
#[derive(Clone, Debug)]
struct Form {
    verdict: Verdict,
    column: String,
    /// `None` for forms that only the user's own words can say.
    text: Option<String>,
    /// A column that was there before (`ADD COLUMN IF NOT EXISTS`).
    existed: bool,
    /// Whether it may use a type or a function that the nodes do not have yet.
    may_need_objects: bool,
}

pub unsafe fn decide(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterTableStmt) -> Decision {
    // SAFETY: the statement outlives the call; what the closure needs is copied.
    unsafe {
        let relid = relation::resolve((*statement).relation);
        let commands = tree::items::<pg_sys::AlterTableCmd>((*statement).cmds);
        if (*statement).objtype == pg_sys::ObjectType::OBJECT_TYPE {
            return objects::alter_composite(call, map, relid);
        }
        let Some(table) = relation::sharded(map, relid) else {
            refuse_joining(map, &commands)?;
            return Ok(None);
        };
        let forms: Vec<Form> = commands.iter().map(|c| form(table, relid, *c)).collect::<Result<_>>()?;
        for form in &forms {
            if let Verdict::Refuse { message, hint } = form.verdict {
                return Err(refusal(table, message, hint));
            }
        }
        if forms.iter().all(|f| f.verdict == Verdict::Local) {
            return Ok(None);
        }
        let mut words = call.words();
        if table.is_distributed() && !(*(*statement).relation).inh {
            words = words.without_only((*(*statement).relation).location).ok_or_else(|| {
                refusal(table, "ALTER TABLE ONLY is not supported for distributed tables", "Leave out ONLY.")
            })?;
        }
        let mut roles = Vec::new();
        for command in &commands {
            if (**command).subtype == AT_ChangeOwner && !(**command).newowner.is_null() {
                tree::role((**command).newowner, &mut roles);
            }
        }
        let written = constraint::Written::of(&commands);
        Ok(Some(after(map, table, words, forms, written, roles)))
    }
}

fn after(
    map: &Rc<ClusterMap>,
    table: &DistributedTable,
    words: Words,
    forms: Vec<Form>,
    written: constraint::Written,
    roles: Vec<String>,
) -> After {
    let (map, table) = (map.clone(), table.clone());
    Box::new(move |seen| {
        for role in &roles {
            nodes::tell(&map, &nodes::role_exists(role))?;
            // A partition has an owner of its own, and statements for one shard address it.
            let owner = quote_identifier(role);
            nodes::tell_shards(&map, &table, |shard| format!("ALTER TABLE {shard} OWNER TO {owner}"))?;
        }
        if forms.iter().any(|f| f.may_need_objects) {
            objects::prepare_nodes(&map, table.id)?;
        }
        let as_written = forms.iter().all(|f| match f.verdict {
            Verdict::Send => true,
            Verdict::AddColumn => f.existed || !add_column::needs_care(table.id, &f.column),
            Verdict::Default => !add_column::is_coordinators_own(table.id, &f.column),
            Verdict::Local | Verdict::Refuse { .. } => false,
        });
        if as_written {
            let named = written.chosen(seen, table.id)?;
            return nodes::tell(&map, &words.with_constraint_names(&named));
        }
        for sql in rebuilt(&map, &table, &forms, seen)? {
            nodes::tell(&map, &sql)?;
        }
        Ok(())
    })
}

/// The statements that bring the nodes' table to where the coordinator's is now.
fn rebuilt(map: &ClusterMap, table: &DistributedTable, forms: &[Form], seen: &Seen) -> Result<Vec<String>> {
    let name = relation::table_name(table.id);
    let mut out = Vec::new();
    for form in forms {
        match form.verdict {
            Verdict::Local => {}
            Verdict::AddColumn if form.existed => {}
            Verdict::AddColumn => out.extend(add_column::statements(map, table, &form.column)?),
            Verdict::Default => out.extend(add_column::default_statement(table.id, &form.column)),
            Verdict::Send | Verdict::Refuse { .. } => match &form.text {
                Some(text) if text.is_empty() => {}
                Some(text) => out.push(format!("ALTER TABLE {name} {text}")),
                None => {
                    return Err(Error::unsupported("cannot combine these forms of ALTER TABLE on a distributed table")
                        .detail("A default or identity that the coordinator fills needs a statement of its own.")
                        .hint("Use one ALTER TABLE for each."));
                }
            },
        }
    }
    out.extend(constraint::definitions(&constraint::created(seen)?, table.id));
    Ok(out)
}

fn refusal(table: &DistributedTable, message: &str, hint: &str) -> Error {
    let error = Error::unsupported(message).hint(hint);
    error.detail(format!("Table {} is spread over nodes.", relation::table_name(table.id)))
}

unsafe fn form(table: &DistributedTable, relid: Oid, command: *mut pg_sys::AlterTableCmd) -> Result<Form> {
    // SAFETY: the command outlives the call.
    unsafe {
        let kind = (*command).subtype;
        let name = tree::text((*command).name);
        let quoted = quote_identifier(&name);
        let cascade = if (*command).behavior == pg_sys::DropBehavior::DROP_CASCADE { " CASCADE" } else { "" };
        let may_need_objects = matches!(kind, AT_AddColumn | AT_ColumnDefault | AT_AddConstraint | AT_AlterColumnType);
        let verdict = verdict(table, kind, &name);
        let mut form = Form { verdict, column: name, text: None, existed: false, may_need_objects };
        match kind {
            AT_AddColumn => {
                let definition = (*command).def.cast::<pg_sys::ColumnDef>();
                form.column = tree::text((*definition).colname);
                form.existed = pg_sys::get_attnum(relid, (*definition).colname) != 0;
            }
            AT_DropColumn => form.text = Some(format!("DROP COLUMN IF EXISTS {quoted}{cascade}")),
            AT_DropConstraint => form.text = Some(format!("DROP CONSTRAINT IF EXISTS {quoted}{cascade}")),
            AT_SetNotNull => form.text = Some(format!("ALTER COLUMN {quoted} SET NOT NULL")),
            AT_DropNotNull => form.text = Some(format!("ALTER COLUMN {quoted} DROP NOT NULL")),
            // Rebuilt from the catalog with all that the statement created.
            AT_AddConstraint => form.text = Some(constraint::not_null((*command).def).unwrap_or_default()),
            AT_AlterColumnType if !table.is_distributed() => {
                let definition = (*command).def.cast::<pg_sys::ColumnDef>();
                if !(*definition).raw_default.is_null() && add_column::is_volatile(relid, (*definition).raw_default) {
                    return Err(Error::unsupported("cannot change a column's type by a volatile expression")
                        .detail("Each copy of the reference table would get other values.")
                        .hint("Add a new column and fill it with UPDATE."));
                }
            }
            _ => {}
        }
        Ok(form)
    }
}

fn verdict(table: &DistributedTable, kind: pg_sys::AlterTableType::Type, name: &str) -> Verdict {
    let distributed = table.is_distributed();
    match kind {
        AT_AddColumn => Verdict::AddColumn,
        AT_ColumnDefault => Verdict::Default,
        AT_AddIdentity | AT_SetIdentity | AT_DropIdentity => Verdict::Local,
        AT_EnableTrig | AT_EnableAlwaysTrig | AT_EnableReplicaTrig | AT_DisableTrig | AT_EnableTrigAll
        | AT_EnableTrigUser | AT_DisableTrigAll | AT_DisableTrigUser
            if !distributed =>
        {
            let all = matches!(kind, AT_EnableTrigAll | AT_EnableTrigUser | AT_DisableTrigAll | AT_DisableTrigUser);
            if all || name == REPLICATE_TRIGGER {
                Verdict::Refuse {
                    message: "cannot enable or disable the trigger that writes a reference table's copies",
                    hint: "Name the other triggers one by one.",
                }
            } else {
                Verdict::Local
            }
        }
        AT_SetTableSpace if !distributed => Verdict::Local,
        AT_SetTableSpace => Verdict::Refuse {
            message: "cannot choose a tablespace for a distributed table",
            hint: "Tablespaces belong to one server; use sharding.run_on_nodes().",
        },
        AT_SetLogged | AT_SetUnLogged => Verdict::Refuse {
            message: "cannot change a distributed or reference table between LOGGED and UNLOGGED",
            hint: "Create another table and copy the rows.",
        },
        AT_SetAccessMethod => Verdict::Refuse {
            message: "cannot change the access method of a distributed or reference table",
            hint: "Choose it before the table is distributed.",
        },
        AT_AttachPartition | AT_DetachPartition | AT_DetachPartitionFinalize if distributed => Verdict::Refuse {
            message: "cannot attach or detach partitions of a distributed table",
            hint: "Its partitions are the shards on the nodes.",
        },
        AT_AttachPartition
        | AT_DetachPartition
        | AT_DetachPartitionFinalize
        | AT_AddInherit
        | AT_DropInherit
        | AT_AddOf
        | AT_DropOf => Verdict::Refuse {
            message: "distributed and reference tables cannot take part in inheritance",
            hint: "Use a view with UNION ALL.",
        },
        AT_EnableRule | AT_EnableAlwaysRule | AT_EnableReplicaRule | AT_DisableRule => Verdict::Refuse {
            message: "rules on distributed and reference tables are not supported",
            hint: "Use a row trigger.",
        },
        AT_DropNotNull
        | AT_SetNotNull
        | AT_DropExpression
        | AT_SetStatistics
        | AT_SetOptions
        | AT_ResetOptions
        | AT_SetStorage
        | AT_SetCompression
        | AT_DropColumn
        | AT_AddConstraint
        | AT_AlterConstraint
        | AT_ValidateConstraint
        | AT_DropConstraint
        | AT_AlterColumnType
        | AT_ChangeOwner
        | AT_ClusterOn
        | AT_DropCluster
        | AT_DropOids
        | AT_SetRelOptions
        | AT_ResetRelOptions
        | AT_EnableTrig
        | AT_EnableAlwaysTrig
        | AT_EnableReplicaTrig
        | AT_DisableTrig
        | AT_EnableTrigAll
        | AT_DisableTrigAll
        | AT_EnableTrigUser
        | AT_DisableTrigUser
        | AT_ReplicaIdentity
        | AT_EnableRowSecurity
        | AT_DisableRowSecurity
        | AT_ForceRowSecurity
        | AT_NoForceRowSecurity => Verdict::Send,
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        AT_SetExpression => Verdict::Send,
        _ => Verdict::Refuse {
            message: "this form of ALTER TABLE is not supported for distributed and reference tables",
            hint: "Run it on the nodes with sharding.run_on_nodes() if you know what it does there.",
        },
    }
}

/// A local table must not become a parent or a child of one that is spread over nodes.
unsafe fn refuse_joining(map: &ClusterMap, commands: &[*mut pg_sys::AlterTableCmd]) -> Result<()> {
    for command in commands {
        // SAFETY: the grammar gives these forms a PartitionCmd or a RangeVar.
        let other = unsafe {
            match (**command).subtype {
                AT_AttachPartition => (*(**command).def.cast::<pg_sys::PartitionCmd>()).name,
                AT_AddInherit => match tree::cast::<pg_sys::RangeVar>((**command).def, NodeTag::T_RangeVar) {
                    Some(parent) => parent,
                    None => continue,
                },
                _ => continue,
            }
        };
        // SAFETY: a RangeVar of the statement.
        if let Some(table) = unsafe { relation::named(map, other) } {
            return Err(no_inheritance(table.id));
        }
    }
    Ok(())
}

/// Partitions and children have rows on one server; these tables have theirs on several.
pub fn no_inheritance(table: TableId) -> Error {
    Error::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("table {} is spread over nodes and cannot take part in inheritance", relation::table_name(table)),
    )
    .hint("Use a view with UNION ALL.")
}
