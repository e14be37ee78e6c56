//! Constraints that a statement creates: the names that Postgres chose for them, their definitions,
//! and whether the cluster can keep them.
//!
//! `ALTER TABLE orders ADD UNIQUE (id, sku)` is `orders_id_sku_key` here; a node might find that name
//! taken and choose another one, and a later DROP CONSTRAINT would miss it. So the name is put in.

#![allow(non_upper_case_globals)] // the constants are named as in Postgres

use crate::catalog::{ClusterMap, TableId, quote_identifier, quote_literal};
use crate::ddl::foreign_key::{self, ForeignKey};
use crate::error::Result;
use crate::pg::codec::TransmissionMode;
use crate::pg::ddl::foreign_keys;
use crate::pg::utility::observe::Seen;
use crate::pg::utility::{owner_sql, relation, tree};
use pgrx::pg_sys::{self, AlterTableType::*, ConstrType, NodeTag, Oid};
use std::collections::BTreeSet;

/// A constraint written without a name: `pg_constraint.contype` and where its words begin.
#[derive(Clone, Copy, Debug)]
struct Unnamed {
    contype: u8,
    location: i32,
}

/// A row of `pg_constraint`.
pub struct Created {
    oid: Oid,
    contype: u8,
    name: String,
    table: TableId,
    references: TableId,
    /// Part of a partitioned table's constraint.
    inherited: bool,
    /// For a foreign key: the columns compared.
    columns: Vec<(i16, i16)>,
}

impl Created {
    fn belongs_to(&self, table: TableId) -> bool {
        self.table == table && !self.inherited
    }
}

/// How ALTER TABLE's commands write down constraints.
#[derive(Clone, Debug, Default)]
pub struct Written {
    unnamed: Vec<Unnamed>,
    names: Vec<String>,
}

impl Written {
    /// # Safety
    /// `commands` are as the grammar makes them.
    pub unsafe fn of(commands: &[*mut pg_sys::AlterTableCmd]) -> Written {
        let mut written = Written::default();
        for command in commands {
            // SAFETY: the grammar gives these forms a Constraint and a ColumnDef.
            unsafe {
                match (**command).subtype {
                    AT_AddConstraint => written.note((**command).def),
                    AT_AddColumn => {
                        let column = (**command).def.cast::<pg_sys::ColumnDef>();
                        for node in tree::items::<pg_sys::Node>((*column).constraints) {
                            written.note(node);
                        }
                    }
                    _ => {}
                }
            }
        }
        written.unnamed.sort_by_key(|u| u.location);
        written
    }

    unsafe fn note(&mut self, node: *mut pg_sys::Node) {
        // SAFETY: checked by tag.
        unsafe {
            let Some(constraint) = tree::cast::<pg_sys::Constraint>(node, NodeTag::T_Constraint) else { return };
            let contype = match (*constraint).contype {
                ConstrType::CONSTR_CHECK => b'c',
                ConstrType::CONSTR_PRIMARY => b'p',
                ConstrType::CONSTR_UNIQUE => b'u',
                ConstrType::CONSTR_EXCLUSION => b'x',
                ConstrType::CONSTR_FOREIGN => b'f',
                ConstrType::CONSTR_NOTNULL => b'n',
                _ => return,
            };
            if !(*constraint).conname.is_null() {
                self.names.push(tree::text((*constraint).conname));
            } else if (*constraint).location >= 0 {
                self.unnamed.push(Unnamed { contype, location: (*constraint).location });
            }
        }
    }

    /// The names that the unnamed ones got, with their locations.
    ///
    /// Constraints of one kind are created in the order in which they are written. If there are
    /// not as many new ones as were written, the words of that kind stay as they are.
    pub fn chosen(&self, seen: &Seen, table: TableId) -> Result<Vec<(i32, String)>> {
        if self.unnamed.is_empty() {
            return Ok(Vec::new());
        }
        let created = created(seen)?;
        let mut names = Vec::new();
        for contype in [b'c', b'p', b'u', b'x', b'f', b'n'] {
            let wanted: Vec<_> = self.unnamed.iter().filter(|u| u.contype == contype).collect();
            let made: Vec<_> = created
                .iter()
                .filter(|c| c.contype == contype && c.belongs_to(table) && !self.names.contains(&c.name))
                .collect();
            if wanted.len() == made.len() {
                names.extend(wanted.iter().zip(&made).map(|(u, c)| (u.location, c.name.clone())));
            }
        }
        Ok(names)
    }
}

/// `ALTER TABLE ... ADD CONSTRAINT` for each constraint of the table that the statement created.
pub fn definitions(created: &[Created], table: TableId) -> Vec<String> {
    created
        .iter()
        .filter(|c| c.belongs_to(table) && c.contype != b'n')
        // SAFETY: the constraint exists; the text is palloc'd.
        .map(|c| unsafe { tree::text(pg_sys::pg_get_constraintdef_command(c.oid)) })
        .collect()
}

/// `ADD CONSTRAINT ... NOT NULL column` (18), or nothing for a constraint of another kind.
///
/// # Safety
/// `node` is a Constraint.
pub unsafe fn not_null(node: *mut pg_sys::Node) -> Option<String> {
    // SAFETY: checked by tag; the keys are the column's name.
    unsafe {
        let constraint = tree::cast::<pg_sys::Constraint>(node, NodeTag::T_Constraint)?;
        let column = tree::strings((*constraint).keys).pop()?;
        if (*constraint).contype != ConstrType::CONSTR_NOTNULL {
            return None;
        }
        let column = quote_identifier(&column);
        let valid = if (*constraint).skip_validation { " NOT VALID" } else { "" };
        Some(match tree::text((*constraint).conname) {
            name if name.is_empty() => format!("ADD NOT NULL {column}{valid}"),
            name => format!("ADD CONSTRAINT {} NOT NULL {column}{valid}", quote_identifier(&name)),
        })
    }
}

/// The name of a column's NOT NULL constraint (18).
pub fn not_null_name(table: TableId, column: &str) -> Result<Option<String>> {
    let rows = owner_sql::rows(&format!(
        "SELECT c.conname::pg_catalog.text FROM pg_catalog.pg_constraint c
           JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.conrelid
            AND c.conkey OPERATOR(pg_catalog.=) ARRAY[a.attnum]
          WHERE c.conrelid OPERATOR(pg_catalog.=) {} AND c.contype OPERATOR(pg_catalog.=) 'n'
            AND a.attname OPERATOR(pg_catalog.=) {}",
        table.0,
        quote_literal(column)
    ))?;
    Ok(rows.into_iter().next().and_then(|r| r.into_iter().next()))
}

/// Refuses foreign keys that the cluster cannot keep, and brings the guards of those from local
/// tables up to date.
pub fn check_foreign_keys(map: &ClusterMap, seen: &Seen) -> Result<()> {
    let mut guarded: BTreeSet<TableId> = seen.unguarded.iter().copied().collect();
    guarded.retain(|t| seen.tables.iter().all(|gone| gone.table != *t));
    for c in created(seen)?.into_iter().filter(|c| c.contype == b'f') {
        foreign_key::check(map, &ForeignKey { name: c.name, from: c.table, to: c.references, columns: c.columns })?;
        if map.table(c.table).is_none() && map.distribution(c.references).is_some() {
            guarded.insert(c.references);
        }
    }
    if guarded.is_empty() {
        return Ok(());
    }
    let _names = TransmissionMode::enter();
    foreign_keys::refresh_guards(map, &guarded.into_iter().collect::<Vec<_>>())
}

/// The constraints that the statement created, in that order.
pub fn created(seen: &Seen) -> Result<Vec<Created>> {
    let oids: Vec<u32> = seen.created_in(relation::CONSTRAINT_CLASS).map(|o| o.to_u32()).collect();
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let list = oids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let rows = owner_sql::rows(&format!(
        "SELECT c.oid::pg_catalog.text, c.contype::pg_catalog.text, c.conname::pg_catalog.text,
                c.conrelid::pg_catalog.oid::pg_catalog.text, c.confrelid::pg_catalog.oid::pg_catalog.text,
                c.conparentid::pg_catalog.text, pg_catalog.array_to_string(c.conkey, ' '),
                pg_catalog.array_to_string(c.confkey, ' ')
           FROM pg_catalog.pg_constraint c WHERE c.oid OPERATOR(pg_catalog.=) ANY ('{{{list}}}'::pg_catalog.oid[])"
    ))?;
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let columns = |text: &str| text.split(' ').filter_map(|n| n.parse::<i16>().ok()).collect::<Vec<_>>();
    let mut found: Vec<Created> = rows
        .iter()
        .map(|r| Created {
            oid: Oid::from(number(&r[0])),
            contype: r[1].bytes().next().unwrap_or(0),
            name: r[2].clone(),
            table: TableId(number(&r[3])),
            references: TableId(number(&r[4])),
            inherited: number(&r[5]) != 0,
            columns: columns(&r[6]).into_iter().zip(columns(&r[7])).collect(),
        })
        .collect();
    found.sort_by_key(|c| oids.iter().position(|o| *o == c.oid.to_u32()));
    Ok(found)
}
