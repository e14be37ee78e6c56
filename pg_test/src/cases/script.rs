//! The format of a case file: SQL statements ended by `;`, and directives in comments.
//!
//! ```text
//! -- @ordered
//! SELECT id FROM items ORDER BY id;      one statement, rows compared in order
//! -- @error(23505)
//! INSERT INTO items (id) VALUES (1);     must fail like this on the plain server
//! -- @distribute(items, id, 8)           a command to the cluster, nothing on the plain server
//! ```
//!
//! Directives of the next statement:
//!
//! | directive | meaning |
//! |---|---|
//! | `@ordered` | rows are compared in order (else as a multiset) |
//! | `@approx` | numbers may differ by 1e-9 of their size |
//! | `@count-only` | only the number of rows, and the columns, are compared |
//! | `@columns-only` | only the columns and the SQLSTATE are compared |
//! | `@error(CODE)` | the plain server answers with this SQLSTATE |
//! | `@may-refuse` | the cluster may answer 0A000 instead |
//! | `@params(1, NULL, text)` | extended protocol with these parameters; repeated: executed again |
//! | `@portal(2)` | extended protocol, that many rows at a time |
//! | `@binary` | extended protocol, results in binary |
//! | `@repeat(7)` | executed that often, each time compared |
//! | `@user-types` | names of types are not compared (they are the test's own) |
//!
//! Directives between statements:
//!
//! | directive | meaning |
//! |---|---|
//! | `@session(b)` | what follows runs on another connection; the first is `a` |
//! | `@together` ... `@end` | these statements are sent as one message |
//! | `@distribute(table, key, shards[, colocate_with])` | on a cluster only |
//! | `@replicate(table)`, `@undistribute(table)` | on a cluster only |
//! | `@everywhere` ... `@end` | on the plain server, the coordinator and each node |
//! | `@cluster` ... `@end` | on the coordinator only; must succeed there |
//!
//! Directives of a file, before its first statement:
//!
//! | directive | meaning |
//! |---|---|
//! | `@readonly` | leaves the common tables as they are: no reset before the next file |
//! | `@no-schema` | starts in an empty schema instead of `schema.sql` |
//! | `@needs(SELECT ...)` | skipped unless the query gives a row on the plain server |
//! | `@ignore-table(name)` | not compared at the end |
//!
//! It does not know psql's `\` commands, except `\.` as the end of COPY data, nor
//! `BEGIN ATOMIC` bodies.

use std::fmt;

/// How the answers of two servers to one statement are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Values {
    #[default]
    Multiset,
    Ordered,
    CountOnly,
    ColumnsOnly,
}

/// What the directives before a statement say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectation {
    pub values: Values,
    pub approx: bool,
    pub error: Option<String>,
    pub may_refuse: bool,
    pub user_types: bool,
}

/// How a statement is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Sending {
    /// A `Query` message; several statements may be in it. The data is for COPY FROM STDIN.
    Simple { copy_data: Option<String> },
    /// Parse once, then Bind and Execute for each set of parameters.
    Extended { params: Vec<Vec<Option<String>>>, rows_at_a_time: u32, binary: bool },
}

/// A statement, or several sent together.
#[derive(Clone, Debug)]
pub struct Statement {
    pub line: usize,
    pub sql: String,
    pub sending: Sending,
    pub expectation: Expectation,
    pub repeat: usize,
}

/// One step of a case file.
#[derive(Clone, Debug)]
pub enum Step {
    Compare(Statement),
    Session(String),
    /// SQL for the cluster alone, which must succeed: distribute_table and its kin.
    Cluster {
        line: usize,
        sql: String,
    },
    /// SQL for the plain server, the coordinator and each node, which must succeed.
    Everywhere {
        line: usize,
        sql: String,
    },
}

/// A case file.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
    pub readonly: bool,
    pub no_schema: bool,
    pub needs: Vec<String>,
    pub ignored_tables: Vec<String>,
}

/// Why a case file cannot be read.
#[derive(Debug)]
pub struct BadScript {
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for BadScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// What collects statements that belong together.
#[derive(PartialEq)]
enum Block {
    None,
    Together,
    Everywhere,
    Cluster,
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    script: Script,
    expectation: Expectation,
    params: Vec<Vec<Option<String>>>,
    extended: bool,
    rows_at_a_time: u32,
    binary: bool,
    repeat: usize,
    block: Block,
    block_line: usize,
    block_sql: String,
    seen_statement: bool,
}

/// Reads a case file.
pub fn parse(text: &str) -> Result<Script, BadScript> {
    let mut parser = Parser {
        text,
        position: 0,
        script: Script::default(),
        expectation: Expectation::default(),
        params: Vec::new(),
        extended: false,
        rows_at_a_time: 0,
        binary: false,
        repeat: 1,
        block: Block::None,
        block_line: 0,
        block_sql: String::new(),
        seen_statement: false,
    };
    while parser.step()? {}
    if parser.block != Block::None {
        return Err(parser.bad("a block without @end"));
    }
    Ok(parser.script)
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.position..]
    }

    fn line(&self) -> usize {
        self.text[..self.position].matches('\n').count() + 1
    }

    fn bad(&self, reason: impl Into<String>) -> BadScript {
        BadScript { line: self.line(), reason: reason.into() }
    }

    /// Reads blanks, a comment line or a statement; false at the end.
    fn step(&mut self) -> Result<bool, BadScript> {
        let blanks = self.rest().len() - self.rest().trim_start().len();
        self.position += blanks;
        if self.rest().is_empty() {
            return Ok(false);
        }
        if self.rest().starts_with("--") {
            let end = self.rest().find('\n').unwrap_or(self.rest().len());
            let comment = self.rest()[2..end].trim().to_string();
            if let Some(directive) = comment.strip_prefix('@') {
                self.directive(directive)?;
            }
            self.position += end;
            return Ok(true);
        }
        let line = self.line();
        let length = statement_length(self.rest());
        let sql = self.rest()[..length].trim().trim_end_matches(';').trim_end().to_string();
        self.position += length;
        match self.block {
            Block::None => self.statement(line, sql)?,
            _ => {
                self.block_sql.push_str(&sql);
                self.block_sql.push_str(";\n");
            }
        }
        Ok(true)
    }

    fn statement(&mut self, line: usize, sql: String) -> Result<(), BadScript> {
        let copy_data = if reads_copy_data(&sql) { Some(self.copy_data()?) } else { None };
        self.push_statement(line, sql, copy_data);
        Ok(())
    }

    fn push_statement(&mut self, line: usize, sql: String, copy_data: Option<String>) {
        let sending = if self.extended {
            let mut params = std::mem::take(&mut self.params);
            if params.is_empty() {
                params.push(Vec::new());
            }
            Sending::Extended { params, rows_at_a_time: self.rows_at_a_time, binary: self.binary }
        } else {
            Sending::Simple { copy_data }
        };
        self.script.steps.push(Step::Compare(Statement {
            line,
            sql,
            sending,
            expectation: std::mem::take(&mut self.expectation),
            repeat: std::mem::replace(&mut self.repeat, 1),
        }));
        (self.extended, self.rows_at_a_time, self.binary) = (false, 0, false);
        self.seen_statement = true;
    }

    /// The lines up to `\.`, which follow a COPY FROM STDIN.
    fn copy_data(&mut self) -> Result<String, BadScript> {
        let rest = self.rest();
        let start = rest.find('\n').ok_or_else(|| self.bad("COPY without data"))? + 1;
        let data = &rest[start..];
        let length = if data.starts_with("\\.\n") {
            0
        } else {
            data.find("\n\\.\n").ok_or_else(|| self.bad("COPY data without \\."))? + 1
        };
        let copied = data[..length].to_string();
        self.position += start + length + 3;
        Ok(copied)
    }

    fn directive(&mut self, directive: &str) -> Result<(), BadScript> {
        let (name, argument) = match directive.split_once('(') {
            None => (directive, ""),
            Some((name, rest)) => {
                let end = rest.rfind(')').ok_or_else(|| self.bad("no closing parenthesis"))?;
                (name, rest[..end].trim())
            }
        };
        let line = self.line();
        match name.trim() {
            "ordered" => self.expectation.values = Values::Ordered,
            "count-only" => self.expectation.values = Values::CountOnly,
            "columns-only" => self.expectation.values = Values::ColumnsOnly,
            "approx" => self.expectation.approx = true,
            "may-refuse" => self.expectation.may_refuse = true,
            "user-types" => self.expectation.user_types = true,
            "error" => self.expectation.error = Some(argument.to_string()),
            "params" => {
                self.extended = true;
                self.params.push(parameters(argument));
            }
            "binary" => (self.extended, self.binary) = (true, true),
            "portal" => {
                self.extended = true;
                self.rows_at_a_time = self.number(argument)?;
            }
            "repeat" => self.repeat = self.number(argument)?,
            "session" => self.script.steps.push(Step::Session(argument.to_string())),
            "distribute" => self.distribute(line, argument)?,
            "replicate" => self.call(line, format!("sharding.replicate_table('{argument}')")),
            "undistribute" => self.call(line, format!("sharding.undistribute_table('{argument}')")),
            "together" => self.open(Block::Together)?,
            "everywhere" => self.open(Block::Everywhere)?,
            "cluster" => self.open(Block::Cluster)?,
            "end" => self.close(line)?,
            _ if self.seen_statement => return Err(self.bad(format!("unknown @{name}"))),
            "readonly" => self.script.readonly = true,
            "no-schema" => self.script.no_schema = true,
            "needs" => self.script.needs.push(argument.to_string()),
            "ignore-table" => self.script.ignored_tables.push(argument.to_string()),
            _ => return Err(self.bad(format!("unknown @{name}"))),
        }
        Ok(())
    }

    fn number<T: std::str::FromStr>(&self, argument: &str) -> Result<T, BadScript> {
        argument.parse().map_err(|_| self.bad(format!("{argument:?} is not a number")))
    }

    fn call(&mut self, line: usize, call: String) {
        self.script.steps.push(Step::Cluster { line, sql: format!("SELECT {call}") });
        self.seen_statement = true;
    }

    fn distribute(&mut self, line: usize, argument: &str) -> Result<(), BadScript> {
        let parts: Vec<&str> = argument.split(',').map(str::trim).collect();
        let call = match parts[..] {
            [table, key] => format!("'{table}', '{key}'"),
            [table, key, shards] => format!("'{table}', '{key}', {shards}"),
            [table, key, shards, with] => format!("'{table}', '{key}', {shards}, '{with}'"),
            _ => return Err(self.bad("@distribute(table, key, shards, colocate_with)")),
        };
        self.call(line, format!("sharding.distribute_table({call})"));
        Ok(())
    }

    fn open(&mut self, block: Block) -> Result<(), BadScript> {
        if self.block != Block::None {
            return Err(self.bad("a block inside a block"));
        }
        self.block = block;
        self.block_line = self.line();
        Ok(())
    }

    fn close(&mut self, line: usize) -> Result<(), BadScript> {
        let sql = std::mem::take(&mut self.block_sql);
        let block_line = self.block_line;
        match std::mem::replace(&mut self.block, Block::None) {
            Block::None => {
                return Err(BadScript { line, reason: "@end without a block".into() });
            }
            Block::Together => self.push_statement(block_line, sql, None),
            Block::Everywhere => {
                self.script.steps.push(Step::Everywhere { line: block_line, sql });
            }
            Block::Cluster => self.script.steps.push(Step::Cluster { line: block_line, sql }),
        }
        self.seen_statement = true;
        Ok(())
    }
}

/// `1, NULL, some text` -> three parameters; blanks around each are cut, quotes are not special.
fn parameters(argument: &str) -> Vec<Option<String>> {
    argument.split(", ").map(str::trim).map(|value| (value != "NULL").then(|| value.to_string())).collect()
}

fn reads_copy_data(sql: &str) -> bool {
    let upper = sql.to_ascii_uppercase();
    upper.starts_with("COPY ") && upper.contains("FROM STDIN")
}

/// Bytes up to and with the `;` that ends the statement at the start of `text`.
fn statement_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut i = 0;
    let mut parens = 0i32;
    while i < bytes.len() {
        match bytes[i] {
            b';' if parens <= 0 => return i + 1,
            b'(' => parens += 1,
            b')' => parens -= 1,
            b'\'' => {
                let escapes = i > 0 && matches!(bytes[i - 1], b'e' | b'E') && (i < 2 || !is_word(bytes[i - 2]));
                i = quoted_end(bytes, i, b'\'', escapes);
                continue;
            }
            b'"' => {
                i = quoted_end(bytes, i, b'"', false);
                continue;
            }
            b'-' if bytes[i..].starts_with(b"--") => {
                i += bytes[i..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - i);
                continue;
            }
            b'/' if bytes[i..].starts_with(b"/*") => {
                i = comment_end(bytes, i);
                continue;
            }
            b'$' if i == 0 || !is_word(bytes[i - 1]) => {
                if let Some(end) = dollar_end(text, i) {
                    i = end;
                    continue;
                }
            }
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8, escapes: bool) -> usize {
    let mut i = start + 1;
    while i < bytes.len() {
        if escapes && bytes[i] == b'\\' {
            i += 2;
        } else if bytes[i] == quote {
            if bytes.get(i + 1) == Some(&quote) {
                i += 2;
            } else {
                return i + 1;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut i, mut depth) = (start, 0);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

/// The end of a dollar-quoted string at `start`; `None` if there is only a `$1`.
fn dollar_end(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start + 1..];
    let tag_length = rest.find('$')?;
    let tag = &rest[..tag_length];
    if tag.starts_with(|c: char| c.is_ascii_digit()) || !tag.bytes().all(is_word) {
        return None;
    }
    let opening = format!("${tag}$");
    let body = start + opening.len();
    text[body..].find(&opening).map(|at| body + at + opening.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<String> {
        let script = parse(text).unwrap();
        script
            .steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Compare(statement) => Some(statement.sql),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn quotes_and_comments_hide_semicolons() {
        let text = "SELECT ';', E'\\';', \";\" -- ;\n, /* ; /* ; */ */ $a$ ; $$ ; $a$;\nSELECT $1;";
        assert_eq!(statements(text).len(), 2);
    }

    #[test]
    fn copy_takes_its_data() {
        let script = parse("COPY t FROM STDIN;\n1\ta\n2\tb\n\\.\nSELECT 1;").unwrap();
        let Step::Compare(copy) = &script.steps[0] else { panic!() };
        assert_eq!(copy.sending, Sending::Simple { copy_data: Some("1\ta\n2\tb\n".into()) });
        assert_eq!(script.steps.len(), 2);
    }

    #[test]
    fn directives_reach_the_next_statement_only() {
        let script = parse("-- @ordered\n-- @error(22012)\nSELECT 1/0;\nSELECT 1;").unwrap();
        let Step::Compare(first) = &script.steps[0] else { panic!() };
        let Step::Compare(second) = &script.steps[1] else { panic!() };
        assert_eq!(first.expectation.values, Values::Ordered);
        assert_eq!(first.expectation.error.as_deref(), Some("22012"));
        assert_eq!(second.expectation, Expectation::default());
    }

    #[test]
    fn unknown_directive_is_refused() {
        assert!(parse("SELECT 1;\n-- @orderd\nSELECT 2;").is_err());
    }
}
