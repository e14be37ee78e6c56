//! The statements that apply a batch of rows to a node.
//!
//! Rows are parameters, numbered row by row after those that `tail` uses. Worked example, two rows
//! of two columns: `INSERT INTO "public"."t" ("a", "b") VALUES ($1::int4, $2::text), ($3, $4)`; only
//! the first row names the types, Postgres takes the others alike.
//!
//! A row to be changed is found by its `ctid` in its shard; it was locked when it was read, so the
//! `ctid` still holds.

/// A column of the target: its quoted name, and its type as the node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetColumn {
    pub name: String,
    pub type_name: String,
}

/// The most parameters that one Bind message can carry.
pub const MAX_PARAMETERS: usize = 65_535;

/// How many rows of `columns` parameters one statement may have, `reserved` being taken.
pub fn rows_per_statement(columns: usize, reserved: usize) -> usize {
    ((MAX_PARAMETERS - reserved) / columns.max(1)).clamp(1, 1000)
}

fn values(types: &[&str], rows: usize, first: usize) -> String {
    let mut text = String::from("VALUES ");
    for row in 0..rows {
        if row > 0 {
            text.push_str(", ");
        }
        text.push('(');
        for (i, type_name) in types.iter().enumerate() {
            if i > 0 {
                text.push_str(", ");
            }
            let number = first + row * types.len() + i;
            text.push_str(&format!("${number}"));
            if row == 0 {
                text.push_str("::");
                text.push_str(type_name);
            }
        }
        text.push(')');
    }
    text
}

fn returning(alias: &str, leading: &str, columns: &[String]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let mut list: Vec<String> = if leading.is_empty() { vec![] } else { vec![leading.to_string()] };
    list.extend(columns.iter().map(|c| format!("{alias}.{c}")));
    format!(" RETURNING {}", list.join(", "))
}

/// Whether an INSERT returns the rows that its ON CONFLICT clause changed, as they were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldRow {
    Leave,
    /// After the new row: whether there is an old one, and its columns (Postgres 18).
    Return,
}

/// The name of the old row in RETURNING.
const OLD_ALIAS: &str = "sharding_old";

/// What an INSERT consists of beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct Insert<'a> {
    /// `INSERT INTO table [AS alias] (columns)`
    pub head: &'a str,
    pub columns: &'a [TargetColumn],
    /// An ON CONFLICT clause that uses the parameters `$1..$reserved`, or nothing.
    pub tail: &'a str,
    pub reserved: usize,
    pub alias: &'a str,
    /// What it returns of each row.
    pub wanted: &'a [String],
    pub old: OldRow,
}

/// The statement that inserts so many rows.
pub fn insert(insert: &Insert, rows: usize) -> String {
    let Insert { head, columns, tail, reserved, alias, wanted, old } = *insert;
    let types: Vec<&str> = columns.iter().map(|c| c.type_name.as_str()).collect();
    let source = if columns.is_empty() { "DEFAULT VALUES".to_string() } else { values(&types, rows, reserved + 1) };
    let separator = if tail.is_empty() { "" } else { " " };
    let mut text = format!("{head} {source}{separator}{tail}");
    if old == OldRow::Leave || wanted.is_empty() {
        text.push_str(&returning(alias, "", wanted));
        return text;
    }
    let mut list: Vec<String> = wanted.iter().map(|c| format!("{alias}.{c}")).collect();
    list.push(format!("{OLD_ALIAS}.tableoid IS NOT NULL"));
    list.extend(wanted.iter().map(|c| format!("{OLD_ALIAS}.{c}")));
    text.push_str(&format!(" RETURNING WITH (OLD AS {OLD_ALIAS}) {}", list.join(", ")));
    text
}

/// Sets `columns` of the rows found by `ctid` in `table`; `only_in` keeps to one shard where
/// `table` is the parent. Parameters of a row: ctid, its number in the batch, the new values.
pub fn update(table: &str, columns: &[TargetColumn], rows: usize, only_in: Option<&str>, wanted: &[String]) -> String {
    let mut types = vec!["tid", "int4"];
    types.extend(columns.iter().map(|c| c.type_name.as_str()));
    let set: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{} = v.c{i}", c.name)).collect();
    let names: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
    let comma = if names.is_empty() { "" } else { ", " };
    let shard = only_in.map_or(String::new(), |s| format!(" AND t.tableoid = '{}'::regclass", s.replace('\'', "''")));
    format!(
        "UPDATE {table} AS t SET {} FROM ({}) AS v(ctid, n{comma}{}) WHERE t.ctid = v.ctid{shard}{}",
        set.join(", "),
        values(&types, rows, 1),
        names.join(", "),
        returning("t", "v.n", wanted)
    )
}

/// Deletes the rows whose ctids are in the array `$1`; returns each row's number in the array.
pub fn delete(table: &str, wanted: &[String]) -> String {
    format!(
        "DELETE FROM {table} AS t USING pg_catalog.unnest($1::tid[]) WITH ORDINALITY AS v(ctid, n) WHERE t.ctid = v.ctid{}",
        returning("t", "(v.n - 1)::int4", wanted)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_name: &str) -> TargetColumn {
        TargetColumn { name: name.into(), type_name: type_name.into() }
    }

    fn on_conflict<'a>(columns: &'a [TargetColumn], wanted: &'a [String], old: OldRow) -> Insert<'a> {
        let (head, tail) = ("INSERT INTO t (a, b)", "ON CONFLICT DO NOTHING");
        Insert { head, columns, tail, reserved: 1, alias: "t", wanted, old }
    }

    #[test]
    fn inserts_number_their_parameters_after_the_reserved_ones() {
        let columns = [column("a", "int4"), column("b", "text")];
        assert_eq!(
            insert(&on_conflict(&columns, &["a".into()], OldRow::Leave), 2),
            "INSERT INTO t (a, b) VALUES ($2::int4, $3::text), ($4, $5) ON CONFLICT DO NOTHING RETURNING t.a"
        );
    }

    #[test]
    fn inserts_return_the_old_row_after_the_new_one() {
        let columns = [column("a", "int4"), column("b", "text")];
        let text = insert(&on_conflict(&columns, &["a".into(), "b".into()], OldRow::Return), 1);
        let returned = text.split(" RETURNING ").nth(1);
        let old = "sharding_old.tableoid IS NOT NULL, sharding_old.a, sharding_old.b";
        assert_eq!(returned, Some(format!("WITH (OLD AS sharding_old) t.a, t.b, {old}").as_str()));
    }

    #[test]
    fn updates_find_rows_by_ctid() {
        assert_eq!(
            update("s.t_1", &[column("a", "int4")], 1, None, &["a".into()]),
            "UPDATE s.t_1 AS t SET a = v.c0 FROM (VALUES ($1::tid, $2::int4, $3::int4)) AS v(ctid, n, c0) \
             WHERE t.ctid = v.ctid RETURNING v.n, t.a"
        );
    }

    #[test]
    fn a_statement_never_has_too_many_parameters() {
        assert_eq!(rows_per_statement(100, 0), 655);
        assert_eq!(rows_per_statement(2, 0), 1000);
        assert_eq!(rows_per_statement(70_000, 0), 1);
    }
}
