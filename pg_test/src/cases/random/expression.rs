//! Random scalar expressions and predicates over a scope.
//!
//! Every expression is defined for all rows: no division by a column, no cast of a text, sums far
//! from overflow (columns are below 2^36 but for `bigs.id`, which is never added to).

use super::Generator;
use super::tables::{Kind, Scope};
use rand::Rng;

impl Generator {
    /// A column of that kind, if there is one.
    pub(super) fn column(&mut self, scope: &Scope, kind: Kind) -> Option<String> {
        let fitting: Vec<&String> =
            scope.iter().filter(|column| column.kind == kind).map(|column| &column.name).collect();
        (!fitting.is_empty()).then(|| fitting[self.below(fitting.len())].clone())
    }

    /// A constant, NULL one time in fifteen.
    pub(super) fn constant(&mut self, kind: Kind) -> String {
        let type_name = type_name(kind);
        if self.one_in(15) {
            return format!("NULL::{type_name}");
        }
        let n = self.rng.random_range(0..70);
        let mood = self.pick(&["sad", "ok", "happy", "Ecstatic"]);
        match kind {
            Kind::Int if self.one_in(3) => format!("{}", n % 10),
            Kind::Int => format!("{n}"),
            Kind::Num => format!("{}.{}", n, n % 4 * 25),
            Kind::Text => {
                let word =
                    self.pick(&["apple", "Pear", "äpfel", "", "O''Neil", "note 3", "w1", "vc2", "cat1", "customer 4"]);
                format!("'{word}'::text")
            }
            Kind::Bool => self.pick(&["true", "false"]).to_string(),
            Kind::Date => format!("date '2024-02-20' + {}", n % 25),
            Kind::Instant => format!("timestamptz '2024-03-31 00:30:00+00' + interval '{n} hours'"),
            Kind::Enum => format!("'{mood}'::mood"),
            Kind::Ints => format!("ARRAY[{}, NULL, {}]", n % 3, n % 7),
            Kind::Uuid => format!("md5('u{}')::uuid", n % 30),
        }
    }

    /// An expression of that kind.
    pub(super) fn scalar(&mut self, scope: &Scope, kind: Kind, depth: usize) -> String {
        let simple = depth == 0 || self.one_in(2);
        if simple {
            return match self.column(scope, kind) {
                Some(column) if !self.one_in(6) => column,
                _ => self.constant(kind),
            };
        }
        let depth = depth - 1;
        let a = self.scalar(scope, kind, depth);
        match self.below(4) {
            0 => {
                let b = self.scalar(scope, kind, depth);
                format!("coalesce({a}, {b})")
            }
            1 => {
                let condition = self.predicate(scope, depth.min(1));
                let b = self.scalar(scope, kind, depth);
                format!("CASE WHEN {condition} THEN {a} ELSE {b} END")
            }
            _ => self.operation(scope, kind, a, depth),
        }
    }

    fn operation(&mut self, scope: &Scope, kind: Kind, a: String, depth: usize) -> String {
        match kind {
            Kind::Int => {
                let n = self.rng.random_range(2..9);
                let text = self.scalar(scope, Kind::Text, depth);
                let ints = self.scalar(scope, Kind::Ints, depth);
                match self.below(6) {
                    0 => format!("({a} % {n})"),
                    1 => format!("(({a}) % 1000 + {n})"),
                    2 => format!("(({a}) % 1000 * {n})"),
                    3 => format!("length({text})"),
                    4 => format!("cardinality({ints})"),
                    _ => format!("nullif({a}, {n})"),
                }
            }
            Kind::Num => match self.below(3) {
                0 => format!("round({a} * 1.5, 3)"),
                1 => format!("round({a} / 3, 3)"),
                _ => format!("abs({a} - 20)"),
            },
            Kind::Text => {
                let b = self.scalar(scope, Kind::Text, depth);
                match self.below(5) {
                    0 => format!("upper({a})"),
                    1 => format!("({a} || {b})"),
                    2 => format!("substr({a}, 1, 3)"),
                    3 => format!("({})::text", self.scalar(scope, Kind::Enum, depth)),
                    _ => format!("({})::text", self.scalar(scope, Kind::Int, depth)),
                }
            }
            Kind::Bool => format!("({})", self.predicate(scope, depth)),
            Kind::Date => format!("({a} - 3)"),
            Kind::Instant => format!("date_trunc('day', {a}, 'UTC')"),
            Kind::Ints => format!("({a} || 7)"),
            Kind::Enum | Kind::Uuid => format!("nullif({a}, {})", self.constant(kind)),
        }
    }

    /// A predicate; three-valued like everything.
    pub(super) fn predicate(&mut self, scope: &Scope, depth: usize) -> String {
        if depth > 0 && self.one_in(3) {
            let a = self.predicate(scope, depth - 1);
            let b = self.predicate(scope, depth - 1);
            return match self.below(8) {
                0 => format!("({a} AND {b})"),
                1..=4 => format!("({a} OR {b})"),
                5 => format!("NOT ({a})"),
                6 => format!("({a}) IS NOT TRUE"),
                _ => format!("coalesce({a}, {b})"),
            };
        }
        if self.one_in(5)
            && let Some(predicate) = self.key_predicate(scope)
        {
            return predicate;
        }
        self.comparison(scope, depth)
    }

    /// What pins or nearly pins a shard key.
    pub(super) fn key_predicate(&mut self, scope: &Scope) -> Option<String> {
        let keys: Vec<_> = scope.iter().filter(|column| column.key).cloned().collect();
        if keys.is_empty() {
            return None;
        }
        let key = &keys[self.below(keys.len())];
        let (a, b, c, d) = (
            self.key_constant(&key.name, key.kind),
            self.key_constant(&key.name, key.kind),
            self.key_constant(&key.name, key.kind),
            self.key_constant(&key.name, key.kind),
        );
        let name = &key.name;
        Some(match self.below(10) {
            0..=2 => format!("{name} = {a}"),
            3 => format!("{name} IN ({a}, {b}, {c}, {d})"),
            4 if key.kind == Kind::Int => format!("{name} BETWEEN {a} AND {a} + 25"),
            5 => format!("({name} = {a} OR {name} = {b} OR {name} = {c})"),
            6 => format!("{a} = {name}"),
            7 if key.kind != Kind::Ints => format!("{name} = ANY (ARRAY[{a}, {b}, {c}, {d}])"),
            8 => format!("{name} IS {}NULL", self.pick(&["", "NOT ", "NOT "])),
            9 => format!("{name} IS NOT DISTINCT FROM {a}"),
            _ => format!("{name} > {a}"),
        })
    }

    /// A constant that the key column is likely to have.
    fn key_constant(&mut self, name: &str, kind: Kind) -> String {
        if self.one_in(12) {
            return self.constant(kind);
        }
        let n = self.rng.random_range(1..60);
        match kind {
            Kind::Int if name.ends_with("tenant_id") => format!("{}", n % 9 + 1),
            Kind::Int => format!("{n}"),
            Kind::Text => format!("'acc{}'::text", n % 30),
            Kind::Uuid => format!("md5('doc{}')::uuid", n % 25),
            Kind::Date => format!("date '2024-02-26' + {}", n % 12),
            _ => self.constant(kind),
        }
    }

    fn comparison(&mut self, scope: &Scope, depth: usize) -> String {
        let kinds: Vec<Kind> = super::tables::KINDS
            .iter()
            .copied()
            .filter(|kind| scope.iter().any(|column| column.kind == *kind))
            .collect();
        let kind = if kinds.is_empty() { Kind::Int } else { kinds[self.below(kinds.len())] };
        let a = self.column(scope, kind).unwrap_or_else(|| self.constant(kind));
        let a = if self.one_in(3) { self.scalar(scope, kind, depth.min(1)) } else { a };
        let b = match self.column(scope, kind) {
            Some(column) if column != a && self.one_in(3) => column,
            _ => self.constant(kind),
        };
        match self.below(11) {
            0 => format!("{a} IS NULL"),
            1 | 10 => format!("{a} IS NOT NULL"),
            2 => {
                let c = self.constant(kind);
                let not = self.pick(&["", "NOT "]);
                format!("{a} {not}IN ({b}, {c})")
            }
            3 | 5 => format!("{a} IS DISTINCT FROM {b}"),
            4 if kind == Kind::Bool => a,
            4 if kind == Kind::Text => {
                let pattern = self.pick(&["p%", "%e%", "_e%", "%2", "c%"]);
                format!("{a} LIKE '{pattern}'")
            }
            4 if kind == Kind::Int || kind == Kind::Num => {
                format!("{a} BETWEEN {} AND {}", self.below(12), self.below(60) + 8)
            }
            _ => {
                let operator = self.pick(&["=", "<>", "<>", "<", "<=", ">", ">="]);
                format!("{a} {operator} {b}")
            }
        }
    }
}

/// The SQL type that columns of the kind are cast to where branches must agree.
pub(super) fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "int8",
        Kind::Num => "numeric",
        Kind::Text => "text",
        Kind::Bool => "bool",
        Kind::Date => "date",
        Kind::Instant => "timestamptz",
        Kind::Enum => "mood",
        Kind::Ints => "int[]",
        Kind::Uuid => "uuid",
    }
}
