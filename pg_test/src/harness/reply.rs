//! What one statement of a simple query returned.

/// A statement's columns, rows and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Empty for a statement that returns no rows.
    pub columns: Vec<Column>,
    /// Values as text, `None` for NULL. The lines of a COPY TO STDOUT are rows of one value.
    pub rows: Vec<Vec<Option<String>>>,
    /// How it ended.
    pub answer: Answer,
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As the client sees it.
    pub name: String,
    /// The type's OID if it is a built-in one; those of other types differ between servers.
    pub builtin_type: Option<u32>,
}

/// How a statement ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// There was no statement.
    #[default]
    Empty,
    /// The command tag, with its row count: `INSERT 0 3`.
    Done(String),
    /// An error.
    Failed {
        /// The SQLSTATE.
        code: String,
        /// The primary message; not compared.
        message: String,
        /// DETAIL, HINT and CONTEXT, a line each; not compared.
        more: String,
    },
}

impl Reply {
    /// The command tag, or `None` after an error.
    pub fn tag(&self) -> Option<&str> {
        match &self.answer {
            Answer::Done(tag) => Some(tag),
            _ => None,
        }
    }

    /// The SQLSTATE of an error.
    pub fn sqlstate(&self) -> Option<&str> {
        match &self.answer {
            Answer::Failed { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The values of one column, from 0.
    pub fn column(&self, index: usize) -> Vec<Option<&str>> {
        self.rows.iter().map(|row| row[index].as_deref()).collect()
    }

    /// A row a line, values separated by `|`, NULL as `∅`.
    pub fn lines(&self) -> Vec<String> {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "∅".to_owned());
        self.rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join("|")).collect()
    }
}
