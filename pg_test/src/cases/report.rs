//! What a run of a case file found, for a person to read.

use std::fmt;
use std::time::Duration;

/// A statement whose answers differ.
#[derive(Clone, Debug)]
pub struct Difference {
    pub file: String,
    pub line: usize,
    pub sql: String,
    pub text: String,
}

/// The outcome of one file on one pair of servers.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub file: String,
    /// Statements compared, each counted once however often it was repeated.
    pub statements: usize,
    /// Statements that failed alike on both, where that was not known beforehand.
    pub failed: usize,
    /// Statements under `@may-refuse` that the cluster did refuse.
    pub refused: usize,
    pub differences: Vec<Difference>,
    /// How long it took, and how much of it to make the schema.
    pub elapsed: Duration,
    pub schema: Duration,
    /// Why the file was not run, if it was not.
    pub skipped: Option<String>,
}

impl Report {
    pub fn new(file: &str) -> Report {
        Report { file: file.into(), ..Report::default() }
    }

    pub fn differ(&mut self, line: usize, sql: &str, text: impl Into<String>) {
        let difference = Difference { file: self.file.clone(), line, sql: sql.into(), text: text.into() };
        self.differences.push(difference);
    }

    /// `joins.sql: 38 statements, 0 refused, 2 differences`
    pub fn summary(&self) -> String {
        match &self.skipped {
            Some(reason) => format!("{}: skipped, {reason}", self.file),
            None => format!(
                "{}: {} statements, {} refused, {} differences in {:.1?} (schema {:.1?})",
                self.file,
                self.statements,
                self.refused,
                self.differences.len(),
                self.elapsed,
                self.schema
            ),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:", self.file, self.line)?;
        for line in self.sql.lines() {
            writeln!(f, "    {line}")?;
        }
        for line in self.text.lines() {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        write!(f, "{}", self.summary())
    }
}
