//! Random queries.
//!
//! ```text
//! query := [WITH ctes] (core | grouped | windowed | set operation) [ORDER BY all [LIMIT [OFFSET]]]
//! from  := relation { join relation }     relation := table | subquery | CTE | VALUES | series
//! ```

use super::expression::type_name;
use super::tables::{Column, KINDS, Kind, Scope, TABLES, Table};
use super::{Generator, Query};
use rand::Rng;

/// A common table expression that the main query may use.
struct Cte {
    name: String,
    columns: Vec<Kind>,
}

/// A FROM clause with its WHERE conditions, which keep products small.
struct From {
    sql: String,
    scope: Scope,
    conditions: Vec<String>,
}

/// A relation of a FROM clause.
struct Relation {
    sql: String,
    scope: Scope,
    /// How many rows at most, roughly.
    small: bool,
}

impl Generator {
    /// A query with one answer.
    pub fn query(&mut self) -> Query {
        let ctes = if self.one_in(6) { self.ctes() } else { (String::new(), Vec::new()) };
        let (body, columns) = match self.below(10) {
            0..=3 => self.core(&Scope::new(), &ctes.1, 2),
            4..=6 => self.grouped(&ctes.1, 2),
            7 => self.windowed(&ctes.1),
            8 => self.set_operation(&ctes.1),
            _ => self.distinct_on(&ctes.1),
        };
        let mut sql = format!("{}{body}", ctes.0);
        // DISTINCT ON ends with an order of its own.
        let ordered = !body.starts_with("SELECT DISTINCT ON") && self.one_in(2);
        if ordered {
            sql.push_str(&self.order_by_all(columns.len()));
            if self.one_in(2) {
                sql.push_str(&format!(" LIMIT {}", self.rng.random_range(1..20)));
            }
            if self.one_in(6) {
                sql.push_str(&format!(" OFFSET {}", self.rng.random_range(0..4)));
            }
        }
        Query { sql, ordered: ordered || body.starts_with("SELECT DISTINCT ON") }
    }

    fn order_by_all(&mut self, columns: usize) -> String {
        let mut positions: Vec<usize> = (1..=columns).collect();
        let keys: Vec<String> = (0..columns)
            .map(|_| {
                let position = positions.swap_remove(self.below(positions.len()));
                let direction = self.pick(&["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
                format!("{position}{direction}")
            })
            .collect();
        format!(" ORDER BY {}", keys.join(", "))
    }

    fn ctes(&mut self) -> (String, Vec<Cte>) {
        let mut ctes: Vec<Cte> = Vec::new();
        let mut parts = Vec::new();
        for _ in 0..self.rng.random_range(1..3) {
            let (sql, columns) = match self.below(3) {
                0 => self.grouped(&ctes, 1),
                _ => self.core(&Scope::new(), &ctes, 1),
            };
            let name = self.alias("w");
            let materialized = self.pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            let names = column_names(columns.len());
            parts.push(format!("{name} ({names}) AS {materialized}({sql})"));
            ctes.push(Cte { name, columns });
        }
        (format!("WITH {} ", parts.join(", ")), ctes)
    }

    /// `SELECT [DISTINCT] expressions FROM ... WHERE ...`; `outer` may be referred to.
    fn core(&mut self, outer: &Scope, ctes: &[Cte], depth: usize) -> (String, Vec<Kind>) {
        let from = self.from(ctes, depth);
        let mut outputs = Vec::new();
        let mut kinds = Vec::new();
        for _ in 0..self.rng.random_range(1..5) {
            let kind = self.kind_of(&from.scope);
            outputs.push(self.output(&from.scope, kind, depth));
            kinds.push(kind);
        }
        let distinct = if self.one_in(6) { "DISTINCT " } else { "" };
        let filter = self.filter(&from, outer, depth);
        (format!("SELECT {distinct}{} FROM {}{filter}", outputs.join(", "), from.sql), kinds)
    }

    /// An output column: a scalar, rarely a subquery; numerics in one scale.
    fn output(&mut self, scope: &Scope, kind: Kind, depth: usize) -> String {
        if kind == Kind::Int && depth > 0 && self.one_in(8) {
            return self.scalar_subquery(scope);
        }
        let scalar = self.scalar(scope, kind, 2);
        one_scale(kind, scalar)
    }

    fn kind_of(&mut self, scope: &Scope) -> Kind {
        if scope.is_empty() || self.one_in(10) {
            return KINDS[self.below(KINDS.len())];
        }
        scope[self.below(scope.len())].kind
    }

    /// A correlated subquery with one value.
    fn scalar_subquery(&mut self, scope: &Scope) -> String {
        let table = self.table();
        let alias = self.alias("s");
        let inner = table.scope(&alias);
        let link = self.link(&inner, scope);
        let aggregate = match self.below(3) {
            0 => "count(*)".to_string(),
            1 => format!("max({})", self.scalar(&inner, Kind::Int, 1)),
            _ => format!("sum({})", self.small_int(&inner)),
        };
        format!("(SELECT {aggregate} FROM {} {alias} WHERE {link})", table.name)
    }

    /// An integer that sums far from overflow.
    fn small_int(&mut self, scope: &Scope) -> String {
        format!("(({}) % 1000)", self.scalar(scope, Kind::Int, 1))
    }

    /// A condition that ties `inner` to `scope`, mostly by the keys.
    fn link(&mut self, inner: &Scope, scope: &Scope) -> String {
        let mut both: Vec<(&Column, &Column)> = Vec::new();
        for a in inner {
            for b in scope {
                if a.kind == b.kind {
                    both.push((a, b));
                }
            }
        }
        let keys: Vec<_> = both.iter().copied().filter(|(a, b)| a.key && b.key).collect();
        let choices = if keys.is_empty() || self.one_in(9) { both } else { keys };
        if choices.is_empty() {
            return self.predicate(inner, 0);
        }
        let (a, b) = choices[self.below(choices.len())];
        format!("{} = {}", a.name, b.name)
    }

    fn filter(&mut self, from: &From, outer: &Scope, depth: usize) -> String {
        let mut conditions = from.conditions.clone();
        if !outer.is_empty() {
            conditions.push(self.link(&from.scope, outer));
        }
        if self.one_in(4)
            && let Some(predicate) = self.key_predicate(&from.scope)
        {
            conditions.push(predicate);
        }
        if self.one_in(2) {
            conditions.push(self.predicate(&from.scope, 2));
        }
        if depth > 0 && self.one_in(5) {
            conditions.push(self.subquery_predicate(&from.scope));
        }
        match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        }
    }

    /// EXISTS, IN and comparisons with a subquery.
    fn subquery_predicate(&mut self, scope: &Scope) -> String {
        let table = self.table();
        let alias = self.alias("q");
        let inner = table.scope(&alias);
        let not = self.pick(&["", "NOT "]);
        let mut conditions = vec![self.predicate(&inner, 1)];
        if self.one_in(2) {
            conditions.push(self.link(&inner, scope));
        }
        let from = format!("FROM {} {alias} WHERE {}", table.name, conditions.join(" AND "));
        match self.below(4) {
            0 | 1 => format!("{not}EXISTS (SELECT 1 {from} AND {})", self.link(&inner, scope)),
            2 => {
                let kind = self.kind_of(&inner);
                let left = self.scalar(scope, kind, 1);
                let right = self.scalar(&inner, kind, 1);
                format!("{left} {not}IN (SELECT {right} {from})")
            }
            _ => {
                let left = self.scalar(scope, Kind::Int, 1);
                let aggregate = self.pick(&["count(*)", "max(1)", "min(5)"]);
                format!("{left} >= (SELECT {aggregate} {from})")
            }
        }
    }

    fn table(&mut self) -> &'static Table {
        let total: usize = TABLES.iter().map(|table| table.weight).sum();
        let mut at = self.below(total);
        for table in TABLES {
            if at < table.weight {
                return table;
            }
            at -= table.weight;
        }
        &TABLES[0]
    }

    fn from(&mut self, ctes: &[Cte], depth: usize) -> From {
        let first = self.relation(ctes, depth);
        let mut from = From { sql: first.sql, scope: first.scope, conditions: Vec::new() };
        let joins = match self.below(8) {
            0..=2 => 0,
            3..=5 => 1,
            6 => 2,
            _ => 3,
        };
        let joins = joins.min(depth + 1);
        for i in 0..joins {
            self.join(&mut from, ctes, depth, i + 1 == joins);
        }
        from
    }

    /// A comma binds less than a JOIN after it, so only the last relation may follow one.
    fn join(&mut self, from: &mut From, ctes: &[Cte], depth: usize, last: bool) {
        if depth > 0 && self.one_in(8) {
            return self.lateral(from);
        }
        let right = self.relation(ctes, depth);
        let link = self.link(&right.scope, &from.scope);
        if right.small && self.one_in(5) {
            from.sql = format!("{} CROSS JOIN {}", from.sql, right.sql);
        } else if last && self.one_in(5) {
            from.sql = format!("{}, {}", from.sql, right.sql);
            from.conditions.push(link);
        } else {
            let kind = self.pick(&["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            // A FULL JOIN needs an equality of both sides, and nothing else.
            let linked = right.scope.iter().any(|a| from.scope.iter().any(|b| a.kind == b.kind));
            let kind = if kind == "FULL JOIN" && !linked { "LEFT JOIN" } else { kind };
            let more = if kind == "FULL JOIN" || !self.one_in(3) {
                String::new()
            } else {
                let mut both = right.scope.clone();
                both.extend(from.scope.clone());
                format!(" AND {}", self.predicate(&both, 1))
            };
            from.sql = format!("{} {kind} {} ON {link}{more}", from.sql, right.sql);
        }
        from.scope.extend(right.scope);
    }

    fn lateral(&mut self, from: &mut From) {
        let table = self.table();
        let (inner_alias, alias) = (self.alias("i"), self.alias("l"));
        let inner = table.scope(&inner_alias);
        let link = self.link(&inner, &from.scope);
        let kind = self.kind_of(&inner);
        let output = one_scale(kind, self.scalar(&inner, kind, 1));
        let key = one_scale(kind, self.scalar(&inner, kind, 0));
        let body = format!(
            "SELECT {output} AS c1, {key} AS c2 FROM {} {inner_alias} WHERE {link} \
             ORDER BY 1, 2 DESC LIMIT {}",
            table.name,
            self.rng.random_range(1..4)
        );
        let join = self.pick(&["JOIN", "LEFT JOIN"]);
        from.sql = format!("{} {join} LATERAL ({body}) {alias} ON true", from.sql);
        for name in ["c1", "c2"] {
            from.scope.push(Column { name: format!("{alias}.{name}"), kind, key: false });
        }
    }

    fn relation(&mut self, ctes: &[Cte], depth: usize) -> Relation {
        if !ctes.is_empty() && self.one_in(2) {
            let cte = &ctes[self.below(ctes.len())];
            let alias = self.alias("a");
            return Relation {
                sql: format!("{} {alias}", cte.name),
                scope: named_columns(&alias, &cte.columns),
                small: false,
            };
        }
        if depth > 0 && self.one_in(6) {
            let (sql, columns) = match self.below(3) {
                0 => self.grouped(ctes, depth - 1),
                1 => {
                    let (core, columns) = self.core(&Scope::new(), ctes, depth - 1);
                    let order = self.order_by_all(columns.len());
                    let limit = self.rng.random_range(1..30);
                    (format!("{core}{order} LIMIT {limit}"), columns)
                }
                _ => self.core(&Scope::new(), ctes, depth - 1),
            };
            let alias = self.alias("d");
            let names = column_names(columns.len());
            return Relation {
                sql: format!("({sql}) {alias} ({names})"),
                scope: named_columns(&alias, &columns),
                small: false,
            };
        }
        if self.one_in(14) {
            let alias = self.alias("v");
            let rows: Vec<String> =
                (0..3).map(|_| format!("({}, {})", self.constant(Kind::Int), self.constant(Kind::Text))).collect();
            return Relation {
                sql: format!("(VALUES {}) {alias} (c1, c2)", rows.join(", ")),
                scope: named_columns(&alias, &[Kind::Int, Kind::Text]),
                small: true,
            };
        }
        if self.one_in(20) {
            let alias = self.alias("g");
            return Relation {
                sql: format!("generate_series(1, {}) {alias} (c1)", self.below(12) + 1),
                scope: named_columns(&alias, &[Kind::Int]),
                small: true,
            };
        }
        let table = self.table();
        let alias = self.alias("t");
        Relation {
            sql: format!("{} {alias}", table.name),
            scope: table.scope(&alias),
            small: matches!(table.name, "countries" | "words"),
        }
    }

    /// `SELECT keys, aggregates ... GROUP BY keys HAVING ...`
    fn grouped(&mut self, ctes: &[Cte], depth: usize) -> (String, Vec<Kind>) {
        let from = self.from(ctes, depth);
        let mut keys = Vec::new();
        let mut outputs = Vec::new();
        let mut kinds = Vec::new();
        for _ in 0..self.rng.random_range(usize::from(depth < 2)..3) {
            let kind = self.kind_of(&from.scope);
            let depth = self.below(2);
            let scalar = self.scalar(&from.scope, kind, depth);
            // A bare constant would be taken for a position or be no key at all.
            let Some(column) = self.column(&from.scope, kind) else { continue };
            let key = match scalar.contains('.') && !scalar.starts_with('\'') && depth == 0 {
                true => one_scale(kind, scalar),
                false => one_scale(kind, format!("coalesce({column}, {column})")),
            };
            if self.one_in(8) {
                keys.push(key);
                continue;
            }
            outputs.push(key.clone());
            kinds.push(kind);
            keys.push(key);
        }
        for _ in 0..self.rng.random_range(1..4) {
            let (aggregate, kind) = self.aggregate(&from.scope);
            outputs.push(aggregate);
            kinds.push(kind);
        }
        let filter = self.filter(&from, &Scope::new(), depth);
        let group = match keys.is_empty() {
            true => String::new(),
            false if self.one_in(8) => format!(" GROUP BY ROLLUP ({})", keys.join(", ")),
            false => format!(" GROUP BY {}", keys.join(", ")),
        };
        let having = if self.one_in(4) {
            let (aggregate, kind) = self.aggregate(&from.scope);
            format!(" HAVING {aggregate} > {} OR count(*) > {}", self.constant(kind), self.below(2))
        } else {
            String::new()
        };
        let sql = format!("SELECT {} FROM {}{filter}{group}{having}", outputs.join(", "), from.sql);
        (sql, kinds)
    }

    fn aggregate(&mut self, scope: &Scope) -> (String, Kind) {
        let filter =
            if self.one_in(5) { format!(" FILTER (WHERE {})", self.predicate(scope, 1)) } else { String::new() };
        let kind = self.kind_of(scope);
        let any = self.scalar(scope, kind, 1);
        let text = self.scalar(scope, Kind::Text, 1);
        let int = self.small_int(scope);
        let num = self.scalar(scope, Kind::Num, 1);
        let (call, kind, round) = match self.below(15) {
            0 | 1 => ("count(*)".to_string(), Kind::Int, false),
            2 => (format!("count({any})"), Kind::Int, false),
            3 => (format!("count(DISTINCT {any})"), Kind::Int, false),
            4 => (format!("sum({int})"), Kind::Num, true),
            5 => (format!("sum({num})"), Kind::Num, true),
            6 => (format!("avg({int})"), Kind::Num, true),
            7 => (format!("avg({num})"), Kind::Num, true),
            8 if sortable(kind) => (format!("max({any})"), kind, kind == Kind::Num),
            9 if sortable(kind) => (format!("min({any})"), kind, kind == Kind::Num),
            10 => (format!("string_agg(DISTINCT {text}, ',' ORDER BY {text})"), Kind::Text, false),
            12 => (format!("stddev({int})"), Kind::Num, true),
            13 => (format!("var_pop({num})"), Kind::Num, true),
            14 => (format!("variance(DISTINCT {int})"), Kind::Num, true),
            11 => (format!("bool_or({})", self.predicate(scope, 1)), Kind::Bool, false),
            _ => (format!("array_length(array_agg({int}){filter}, 1)"), Kind::Int, false),
        };
        let call = match call.starts_with("array_length") {
            true => call,
            false => format!("{call}{filter}"),
        };
        if round { (format!("round({call}, 3)"), kind) } else { (call, kind) }
    }

    fn windowed(&mut self, ctes: &[Cte]) -> (String, Vec<Kind>) {
        // One table keeps the order total: its key columns follow the chosen ones.
        let _ = ctes;
        let table = loop {
            let table = self.table();
            if !table.unique.is_empty() {
                break table;
            }
        };
        let alias = self.alias("t");
        let scope = table.scope(&alias);
        let unique: Vec<String> = table.columns.iter().map(|(name, _)| format!("{alias}.{name}")).collect();
        let mut outputs = vec![unique[0].clone(), unique[1].clone()];
        let mut kinds = vec![table.columns[0].1, table.columns[1].1];
        let total = unique.join(", ");
        for _ in 0..self.rng.random_range(1..3) {
            let partition = if self.one_in(3) {
                String::new()
            } else {
                let kind = self.kind_of(&scope);
                format!("PARTITION BY {} ", self.scalar(&scope, kind, 1))
            };
            let kind = self.kind_of(&scope);
            let order = self.scalar(&scope, kind, 1);
            let value = self.small_int(&scope);
            let (window, kind) = match self.below(5) {
                0 => (format!("row_number() OVER ({partition}ORDER BY {order} DESC, {total})"), Kind::Int),
                1 => (format!("rank() OVER ({partition}ORDER BY {order})"), Kind::Int),
                2 => (format!("sum({value}) OVER ({partition}ORDER BY {total})"), Kind::Int),
                3 => (format!("lag({value}) OVER ({partition}ORDER BY {order}, {total})"), Kind::Int),
                _ => (format!("count(*) OVER ({partition}ORDER BY {order})"), Kind::Int),
            };
            outputs.push(window);
            kinds.push(kind);
        }
        let from = From { sql: format!("{} {alias}", table.name), scope, conditions: Vec::new() };
        let filter = self.filter(&from, &Scope::new(), 1);
        (format!("SELECT {} FROM {}{filter}", outputs.join(", "), from.sql), kinds)
    }

    fn set_operation(&mut self, ctes: &[Cte]) -> (String, Vec<Kind>) {
        let kinds: Vec<Kind> = (0..self.rng.random_range(1..4)).map(|_| KINDS[self.below(KINDS.len())]).collect();
        let mut parts = Vec::new();
        for _ in 0..self.rng.random_range(2..4) {
            let from = self.from(ctes, 1);
            let outputs: Vec<String> = kinds
                .iter()
                .map(|kind| {
                    let scalar = self.scalar(&from.scope, *kind, 1);
                    format!("({})::{}", one_scale(*kind, scalar), type_name(*kind))
                })
                .collect();
            let filter = self.filter(&from, &Scope::new(), 1);
            parts.push(format!("SELECT {} FROM {}{filter}", outputs.join(", "), from.sql));
        }
        let mut sql = parts.remove(0);
        for part in parts {
            let operator = self.pick(&["UNION", "UNION ALL", "UNION ALL", "INTERSECT", "EXCEPT"]);
            sql = format!("{sql} {operator} {part}");
        }
        (sql, kinds)
    }

    fn distinct_on(&mut self, ctes: &[Cte]) -> (String, Vec<Kind>) {
        let from = self.from(ctes, 1);
        let mut kinds = Vec::new();
        let mut outputs = Vec::new();
        for _ in 0..3 {
            let kind = self.kind_of(&from.scope);
            let scalar = self.scalar(&from.scope, kind, 1);
            outputs.push(format!("({})::{}", one_scale(kind, scalar), type_name(kind)));
            kinds.push(kind);
        }
        let filter = self.filter(&from, &Scope::new(), 1);
        let inner = format!("SELECT {} FROM {}{filter}", outputs.join(", "), from.sql);
        let sql = format!("SELECT DISTINCT ON (x1) x1, x2, x3 FROM ({inner}) x (x1, x2, x3) ORDER BY x1, x2 DESC, x3");
        (sql, kinds)
    }
}

fn sortable(kind: Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Num | Kind::Text | Kind::Date | Kind::Instant | Kind::Enum)
}

/// Equal numerics may have several texts (1, 1.0); in one scale they have one.
fn one_scale(kind: Kind, scalar: String) -> String {
    if kind == Kind::Num { format!("round({scalar}, 3)") } else { scalar }
}

fn column_names(count: usize) -> String {
    (1..=count).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ")
}

fn named_columns(alias: &str, kinds: &[Kind]) -> Scope {
    kinds
        .iter()
        .enumerate()
        .map(|(i, kind)| Column { name: format!("{alias}.c{}", i + 1), kind: *kind, key: i == 0 })
        .collect()
}
