//! What the generator knows of the tables: the columns that compare and sort the same everywhere.

/// A family of types within which expressions mix freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Num,
    Text,
    Bool,
    Date,
    Instant,
    Enum,
    Ints,
    Uuid,
}

pub const KINDS: &[Kind] =
    &[Kind::Int, Kind::Num, Kind::Text, Kind::Bool, Kind::Date, Kind::Instant, Kind::Enum, Kind::Ints, Kind::Uuid];

/// A table of `schema.sql`.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    /// The shard key; for other tables a column that is like one.
    pub key: &'static str,
    pub columns: &'static [(&'static str, Kind)],
    /// A unique key made of integers, to insert and upsert by; empty if there is none.
    pub unique: &'static [&'static str],
    /// Weight in the choice of tables.
    pub weight: usize,
    /// Whether random writes may change it (not if foreign keys or unlike keys get in the way).
    pub writable: bool,
}

use Kind::{Bool, Date, Enum, Instant, Int, Ints, Num, Text, Uuid};

pub const TABLES: &[Table] = &[
    Table {
        name: "items",
        key: "id",
        columns: &[
            ("id", Int),
            ("small", Int),
            ("k", Int),
            ("big", Int),
            ("price", Num),
            ("pct", Num),
            ("txt", Text),
            ("vc", Text),
            ("ok", Bool),
            ("d", Date),
            ("tstz", Instant),
            ("feel", Enum),
            ("ints", Ints),
            ("u", Uuid),
        ],
        unique: &["id"],
        weight: 6,
        writable: true,
    },
    Table {
        name: "events",
        key: "item_id",
        columns: &[("item_id", Int), ("seq", Int), ("kind", Enum), ("amount", Num), ("at", Instant), ("note", Text)],
        unique: &["item_id", "seq"],
        weight: 6,
        writable: true,
    },
    Table {
        name: "orders",
        key: "tenant_id",
        columns: &[
            ("tenant_id", Int),
            ("order_id", Int),
            ("customer", Text),
            ("total", Num),
            ("placed", Date),
            ("status", Enum),
        ],
        unique: &["tenant_id", "order_id"],
        weight: 3,
        writable: false,
    },
    Table {
        name: "order_lines",
        key: "tenant_id",
        columns: &[
            ("tenant_id", Int),
            ("order_id", Int),
            ("line", Int),
            ("product_id", Int),
            ("qty", Int),
            ("price", Num),
        ],
        unique: &["tenant_id", "order_id", "line"],
        weight: 3,
        writable: false,
    },
    Table {
        name: "bigs",
        key: "id",
        columns: &[("id", Int), ("v", Int), ("other", Int)],
        unique: &["id"],
        weight: 1,
        writable: true,
    },
    Table {
        name: "accounts",
        key: "code",
        columns: &[("code", Text), ("owner", Text), ("balance", Num), ("opened", Date)],
        unique: &[],
        weight: 1,
        writable: false,
    },
    Table {
        name: "docs",
        key: "id",
        columns: &[("id", Uuid), ("item_id", Int), ("title", Text)],
        unique: &[],
        weight: 1,
        writable: false,
    },
    Table {
        name: "days",
        key: "d",
        columns: &[("d", Date), ("n", Int), ("what", Text)],
        unique: &[],
        weight: 1,
        writable: false,
    },
    Table {
        name: "products",
        key: "id",
        columns: &[("id", Int), ("name", Text), ("category", Text), ("price", Num), ("gone", Bool), ("added", Instant)],
        unique: &["id"],
        weight: 3,
        writable: true,
    },
    Table {
        name: "countries",
        key: "code",
        columns: &[("name", Text), ("region", Text), ("people", Int)],
        unique: &[],
        weight: 1,
        writable: false,
    },
    Table {
        name: "loc",
        key: "item_id",
        columns: &[("id", Int), ("item_id", Int), ("word", Text), ("amt", Num), ("feel", Enum)],
        unique: &["id"],
        weight: 2,
        writable: true,
    },
    Table { name: "words", key: "n", columns: &[("w", Text), ("n", Int)], unique: &[], weight: 1, writable: false },
];

/// A column that expressions may use.
#[derive(Clone, Debug)]
pub struct Column {
    /// `a1.id`
    pub name: String,
    pub kind: Kind,
    /// A shard key, or joined with one as a rule.
    pub key: bool,
}

/// The columns in reach, inner relations first.
pub type Scope = Vec<Column>;

impl Table {
    /// Its columns under an alias.
    pub fn scope(&self, alias: &str) -> Scope {
        let column =
            |&(name, kind): &(&str, Kind)| Column { name: format!("{alias}.{name}"), kind, key: name == self.key };
        self.columns.iter().map(column).collect()
    }
}
