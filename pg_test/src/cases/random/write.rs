//! Random statements that write, in transactions that commit or roll back.
//!
//! New keys come from a range of the statement's own (`fresh`), so that a change of keys never
//! meets an old one: whether it would fail is then not a matter of the order of rows.

use super::Generator;
use super::expression::type_name;
use super::tables::{Kind, Scope, TABLES, Table};
use rand::Rng;

impl Generator {
    /// The statements of a transaction (or a single one).
    pub fn transaction(&mut self) -> Vec<String> {
        if self.one_in(3) {
            return vec![self.write()];
        }
        let mut statements = vec!["BEGIN".to_string()];
        for _ in 0..self.rng.random_range(1..4) {
            if self.one_in(4) {
                statements.push("SAVEPOINT s".into());
                statements.push(self.write());
                statements.push(self.pick(&["ROLLBACK TO s", "RELEASE s"]).into());
            } else {
                statements.push(self.write());
            }
            if self.one_in(2) {
                // Its own writes are seen.
                let table = self.writable_table();
                let alias = self.alias("o");
                let scope = table.scope(&alias);
                let predicate = self.predicate(&scope, 1);
                statements.push(format!("SELECT * FROM {} {alias} WHERE {predicate}", table.name));
            }
        }
        statements.push(self.pick(&["COMMIT", "COMMIT", "ROLLBACK"]).into());
        statements
    }

    fn writable_table(&mut self) -> &'static Table {
        loop {
            let table = &TABLES[self.below(TABLES.len())];
            if table.writable {
                return table;
            }
        }
    }

    fn write(&mut self) -> String {
        let table = self.writable_table();
        match self.below(9) {
            0 => self.insert_values(table),
            1 => self.insert_select(table),
            2 => self.upsert(table),
            3 | 4 => self.update(table),
            5 => self.update_from(table),
            6 => self.delete(table),
            7 => self.merge(table),
            _ => self.change_key(table),
        }
    }

    fn fresh_key(&mut self) -> i64 {
        self.fresh += 1;
        self.fresh
    }

    /// The columns beside the unique key, each with its kind.
    fn other_columns(table: &Table) -> Vec<(&'static str, Kind)> {
        table.columns.iter().filter(|(name, _)| !table.unique.contains(name)).copied().collect()
    }

    fn value_for(&mut self, name: &str, kind: Kind) -> String {
        match (name, kind) {
            ("small", _) => format!("{}", self.below(50)),
            ("pct", _) => format!("{}.5", self.below(90)),
            ("vc", _) => format!("'vc{}'", self.below(9)),
            ("name", _) => format!("'name {}'", self.below(9)),
            ("k" | "seq" | "v" | "item_id", _) => format!("{}", self.below(70)),
            _ => self.constant(kind),
        }
    }

    fn insert_values(&mut self, table: &'static Table) -> String {
        let others = Self::other_columns(table);
        let chosen: Vec<(&str, Kind)> =
            others.into_iter().filter(|(name, _)| *name == "name" || self.one_in(2)).collect();
        let mut names: Vec<&str> = table.unique.to_vec();
        names.extend(chosen.iter().map(|(name, _)| *name));
        let rows: Vec<String> = (0..self.rng.random_range(1..6))
            .map(|_| {
                let mut values: Vec<String> = table.unique.iter().map(|_| self.fresh_key().to_string()).collect();
                if table.name == "events" && self.one_in(4) {
                    values[0] = "NULL".into();
                }
                values.extend(chosen.iter().map(|(name, kind)| self.value_for(name, *kind)));
                format!("({})", values.join(", "))
            })
            .collect();
        let returning = self.returning(table, table.name);
        format!("INSERT INTO {} ({}) VALUES {}{returning}", table.name, names.join(", "), rows.join(", "))
    }

    fn insert_select(&mut self, table: &'static Table) -> String {
        let source = self.writable_table();
        let alias = self.alias("s");
        let scope = source.scope(&alias);
        let base = self.fresh_key() * 1000;
        // Unique in the source, so unique in the target.
        let number = format!("{base} + row_number() OVER (ORDER BY {})", all_columns(source, &alias));
        let mut names: Vec<&str> = table.unique.to_vec();
        let mut values: Vec<String> = table.unique.iter().map(|_| number.clone()).collect();
        if table.columns.iter().any(|(name, _)| *name == "name") {
            names.push("name");
            values.push("'from select'".into());
        }
        let predicate = self.predicate(&scope, 1);
        let returning = self.returning(table, table.name);
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} {alias} WHERE {predicate} ORDER BY {} LIMIT 15{returning}",
            table.name,
            names.join(", "),
            values.join(", "),
            source.name,
            all_columns(source, &alias)
        )
    }

    fn upsert(&mut self, table: &'static Table) -> String {
        let (name, kind) = self.settable(table);
        let mut rows = Vec::new();
        let first = self.below(55);
        for i in 0..self.rng.random_range(1..5) {
            let mut values: Vec<String> = table.unique.iter().map(|_| (first + i * 3).to_string()).collect();
            values.push(self.value_for(name, kind));
            if table.name == "products" {
                values.push("'upserted'".into());
            }
            rows.push(format!("({})", values.join(", ")));
        }
        let mut names = table.unique.join(", ") + ", " + name;
        if table.name == "products" {
            names.push_str(", name");
        }
        let action = match self.below(4) {
            0 => "DO NOTHING".to_string(),
            1 => format!("DO UPDATE SET {name} = excluded.{name} WHERE {}.{name} IS NOT NULL", table.name),
            _ => format!("DO UPDATE SET {name} = coalesce(excluded.{name}, {}.{name})", table.name),
        };
        let returning = self.returning(table, table.name);
        format!(
            "INSERT INTO {} ({names}) VALUES {} ON CONFLICT ({}) {action}{returning}",
            table.name,
            rows.join(", "),
            table.unique.join(", ")
        )
    }

    /// A column that any value of its kind may be written to.
    fn settable(&mut self, table: &'static Table) -> (&'static str, Kind) {
        let fitting: Vec<(&str, Kind)> = Self::other_columns(table)
            .into_iter()
            .filter(|(name, _)| !matches!(*name, "small" | "pct" | "vc" | "name"))
            .collect();
        fitting[self.below(fitting.len())]
    }

    /// A value that fits the column's type, from expressions over the scope.
    fn new_value(&mut self, scope: &Scope, kind: Kind) -> String {
        let scalar = self.scalar(scope, kind, 2);
        match kind {
            Kind::Int => format!("(({scalar}) % 1000)::int"),
            Kind::Num => format!("round(({scalar}) % 1000, 2)"),
            Kind::Text => format!("left({scalar}, 20)"),
            _ => format!("({scalar})::{}", type_name(kind)),
        }
    }

    fn update(&mut self, table: &'static Table) -> String {
        let alias = self.alias("u");
        let scope = table.scope(&alias);
        let (name, kind) = self.settable(table);
        let value = self.new_value(&scope, kind);
        let mut predicate = self.predicate(&scope, 1);
        if self.one_in(4)
            && let Some(pinned) = self.key_predicate(&scope)
        {
            predicate = format!("{pinned} AND {predicate}");
        }
        let returning = self.returning(table, &alias);
        format!("UPDATE {} {alias} SET {name} = {value} WHERE {predicate}{returning}", table.name)
    }

    fn update_from(&mut self, table: &'static Table) -> String {
        let source = loop {
            let source = &TABLES[self.below(TABLES.len())];
            if source.columns.iter().any(|(name, kind)| *name == source.key && *kind == Kind::Int) {
                break source;
            }
        };
        let (alias, inner, sub) = (self.alias("u"), self.alias("i"), self.alias("s"));
        let (name, kind) = self.settable(table);
        let mut scope = table.scope(&alias);
        // One row for each key: which row updates is then no question.
        let body = format!(
            "SELECT {inner}.{key} AS c1, count(*) AS c2 FROM {table} {inner} WHERE {predicate} GROUP BY 1",
            key = source.key,
            table = source.name,
            predicate = self.predicate(&source.scope(&inner), 1)
        );
        let link = match self.one_in(2) {
            true => format!("{sub}.c1 = {alias}.{}", table.key),
            false => {
                let column = self.column(&scope, Kind::Int).unwrap_or_else(|| "1".into());
                format!("{sub}.c1 = {column}")
            }
        };
        for column in ["c1", "c2"] {
            scope.push(super::tables::Column { name: format!("{sub}.{column}"), kind: Kind::Int, key: false });
        }
        let value = self.new_value(&scope, kind);
        let returning = self.returning(table, &alias);
        format!("UPDATE {} {alias} SET {name} = {value} FROM ({body}) {sub} WHERE {link}{returning}", table.name)
    }

    fn delete(&mut self, table: &'static Table) -> String {
        let alias = self.alias("d");
        let scope = table.scope(&alias);
        let mut conditions = vec![self.predicate(&scope, 1)];
        match self.below(3) {
            0 => conditions.extend(self.key_predicate(&scope)),
            1 => {
                let source = self.writable_table();
                let inner = self.alias("q");
                let link = format!("{inner}.{} = {alias}.{}", source.key, table.key);
                let predicate = self.predicate(&source.scope(&inner), 1);
                conditions.push(format!("EXISTS (SELECT 1 FROM {} {inner} WHERE {link} AND {predicate})", source.name));
            }
            _ => conditions.push(format!("{alias}.{} % 7 = {}", table.key, self.below(7))),
        }
        if table.name == "products" {
            conditions.push(format!("{alias}.id > 20"));
        }
        let returning = self.returning(table, &alias);
        format!("DELETE FROM {} {alias} WHERE {}{returning}", table.name, conditions.join(" AND "))
    }

    fn merge(&mut self, table: &'static Table) -> String {
        let source = self.writable_table();
        let (alias, inner, sub) = (self.alias("m"), self.alias("i"), self.alias("s"));
        let (name, kind) = self.settable(table);
        let predicate = self.predicate(&source.scope(&inner), 1);
        let scope = table.scope(&alias);
        let value = self.new_value(&scope, kind);
        let base = self.fresh_key() * 1000;
        let keys = table.unique.join(", ");
        let number = format!("{base} + {sub}.c1 % 900");
        let mut values: Vec<String> = table.unique.iter().map(|_| number.clone()).collect();
        let mut names = keys;
        if table.name == "products" {
            names.push_str(", name");
            values.push("'merged'".into());
        }
        let matched = match self.below(3) {
            0 if table.name != "products" => "DELETE".to_string(),
            1 => "DO NOTHING".to_string(),
            _ => format!("UPDATE SET {name} = {value}"),
        };
        let extra = self.predicate(&scope, 0);
        format!(
            "MERGE INTO {target} {alias} USING (SELECT DISTINCT ({inner}.{key} % 900)::int AS c1 FROM {from} {inner} \
             WHERE {predicate} AND {inner}.{key} BETWEEN 0 AND 60) {sub} ON {alias}.{target_key} = {sub}.c1 \
             WHEN MATCHED AND ({extra}) IS NOT FALSE THEN {matched} \
             WHEN NOT MATCHED AND {sub}.c1 % 3 = 0 THEN INSERT ({names}) VALUES ({values})",
            target = table.name,
            key = source.key,
            from = source.name,
            target_key = table.key,
            values = values.join(", ")
        )
    }

    fn change_key(&mut self, table: &'static Table) -> String {
        let alias = self.alias("u");
        let scope = table.scope(&alias);
        let base = self.fresh_key() * 1000;
        let predicate = self.predicate(&scope, 1);
        let safe = match table.name {
            // Referred to by others.
            "products" => format!("{alias}.id > 20 AND {predicate}"),
            // Too large to add to.
            "bigs" => format!("{alias}.id BETWEEN -1000000 AND 1000000 AND ({predicate})"),
            _ => predicate,
        };
        let returning = self.returning(table, &alias);
        format!(
            "UPDATE {} {alias} SET {key} = {alias}.{key} % 900 + {base} WHERE {alias}.{key} BETWEEN 0 AND 899 AND {safe}{returning}",
            table.name,
            key = table.key
        )
    }

    fn returning(&mut self, table: &'static Table, alias: &str) -> String {
        match self.below(4) {
            0 => " RETURNING *".into(),
            1 => {
                let scope = table.scope(alias);
                let kind = if self.one_in(2) { Kind::Int } else { Kind::Text };
                format!(" RETURNING {alias}.{}, {}", table.key, self.scalar(&scope, kind, 1))
            }
            _ => String::new(),
        }
    }
}

fn all_columns(table: &Table, alias: &str) -> String {
    let names: Vec<String> = table.columns.iter().map(|(name, _)| format!("{alias}.{name}")).collect();
    names.join(", ")
}
