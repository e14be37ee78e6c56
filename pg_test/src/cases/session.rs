//! A connection that gives everything a server answers: columns, rows, tags, errors, COPY data.
//!
//! ```ignore
//! let mut session = Session::connect(&Endpoint::local(9700, "app"))?;
//! let answers = session.simple("SELECT 1; SELECT 1/0", None)?;
//! assert_eq!(answers[0].tag.as_deref(), Some("SELECT 1"));
//! assert_eq!(answers[1].error.as_ref().unwrap().code, "22012");
//! ```
//!
//! Client libraries hide some of what must be equal here (types of the columns, tags, the state of
//! the transaction), and none runs a portal in pieces over the simple API; the protocol itself is
//! small. No TLS, no passwords: the tests' servers trust.

use super::endpoint::Endpoint;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend, frontend};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a server may be silent before it counts as hung.
const SILENCE: Duration = Duration::from_secs(60);

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
}

/// An ERROR as the server reported it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServerError {
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// A value as text (as hexadecimal digits, if the result was asked for in binary); NULL is `None`.
pub type Value = Option<String>;

/// What a server answered to one statement.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Answer {
    /// `None` for a statement without result columns.
    pub columns: Option<Vec<Column>>,
    pub rows: Vec<Vec<Value>>,
    /// Lines of COPY TO STDOUT.
    pub copied: Vec<String>,
    /// `INSERT 0 3`; `None` after an error.
    pub tag: Option<String>,
    pub error: Option<ServerError>,
}

/// One connection; the transaction state after the last message is in `status`.
pub struct Session {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    /// `I` idle, `T` in a transaction, `E` in a failed one.
    pub status: char,
    pub process_id: i32,
    /// NOTICE and WARNING messages since it was last taken.
    pub notices: Vec<ServerError>,
}

fn protocol_error(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Session {
    /// Connects; an error of the server is an `io::Error` with its message.
    pub fn connect(endpoint: &Endpoint) -> io::Result<Session> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut session = Session {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            status: 'I',
            process_id: 0,
            notices: Vec::new(),
        };
        let parameters = [
            ("user", endpoint.user.as_str()),
            ("database", endpoint.dbname.as_str()),
            ("application_name", "pg_test"),
            ("client_encoding", "UTF8"),
        ];
        frontend::startup_message(parameters, &mut session.output)?;
        session.flush()?;
        for answer in session.answers(None)? {
            if let Some(error) = answer.error {
                return Err(io::Error::other(format!("{}: {}", error.code, error.message)));
            }
        }
        Ok(session)
    }

    /// How long the server may be silent from now on.
    pub fn set_silence(&mut self, silence: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(silence))
    }

    /// Connects as soon as the server answers, at most until `patience` is over.
    pub fn connect_within(endpoint: &Endpoint, patience: Duration) -> io::Result<Session> {
        let start = Instant::now();
        loop {
            match Session::connect(endpoint) {
                Ok(session) => return Ok(session),
                Err(error) if start.elapsed() > patience => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Sends one Query message; one answer for each statement in it that was executed.
    pub fn simple(&mut self, sql: &str, copy_data: Option<&str>) -> io::Result<Vec<Answer>> {
        frontend::query(sql, &mut self.output)?;
        self.flush()?;
        self.answers(copy_data)
    }

    /// Runs SQL that must succeed; the rows of its last statement.
    pub fn run(&mut self, sql: &str) -> io::Result<Vec<Vec<Value>>> {
        let mut rows = Vec::new();
        for answer in self.simple(sql, None)? {
            if let Some(error) = answer.error {
                let ServerError { code, message, detail, .. } = error;
                return Err(io::Error::other(format!("{code}: {message} {detail} ({sql})")));
            }
            rows = answer.rows;
        }
        Ok(rows)
    }

    /// The only value of the only row of a query that must succeed.
    pub fn value(&mut self, sql: &str) -> io::Result<String> {
        let rows = self.run(sql)?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        value.ok_or_else(|| protocol_error(format!("no value: {sql}")))
    }

    /// Parses once, then binds and executes with each set of parameters (as text); one answer for
    /// each, up to the first error. With `rows_at_a_time` > 0 the portal is run in pieces.
    pub fn extended(
        &mut self,
        sql: &str,
        params: &[Vec<Value>],
        rows_at_a_time: u32,
        binary: bool,
    ) -> io::Result<Vec<Answer>> {
        let limit = i32::try_from(rows_at_a_time).unwrap_or(0);
        frontend::parse("s", sql, [], &mut self.output)?;
        let mut answers = Vec::new();
        for values in params {
            self.bind(values, binary)?;
            frontend::describe(b'P', "", &mut self.output)?;
            frontend::execute("", limit, &mut self.output)?;
            frontend::sync(&mut self.output);
            if limit > 0 {
                answers.push(self.portal_answer(limit)?);
            } else {
                self.flush()?;
                answers.extend(self.answers(None)?);
            }
            let failed = answers.last().is_some_and(|answer| answer.error.is_some());
            if failed {
                break;
            }
        }
        frontend::close(b'S', "s", &mut self.output)?;
        frontend::sync(&mut self.output);
        self.flush()?;
        self.answers(None)?;
        Ok(answers)
    }

    fn bind(&mut self, values: &[Value], binary: bool) -> io::Result<()> {
        let result = frontend::bind(
            "",
            "s",
            [],
            values,
            |value, buffer| match value {
                None => Ok(IsNull::Yes),
                Some(text) => {
                    buffer.extend_from_slice(text.as_bytes());
                    Ok(IsNull::No)
                }
            },
            [i16::from(binary)],
            &mut self.output,
        );
        result.map_err(|error| match error {
            frontend::BindError::Serialization(error) => io::Error::other(error),
            frontend::BindError::Conversion(error) => io::Error::other(error),
        })
    }

    /// Replaces the queued Sync by Flush, so that the portal lives, and asks for more until it ends.
    fn portal_answer(&mut self, limit: i32) -> io::Result<Answer> {
        let length = self.output.len() - 5;
        self.output.truncate(length);
        self.output.extend_from_slice(b"H\0\0\0\x04");
        self.flush()?;
        let mut answer = Answer::default();
        loop {
            match self.read_message()? {
                backend::Message::PortalSuspended => {
                    frontend::execute("", limit, &mut self.output)?;
                    self.output.extend_from_slice(b"H\0\0\0\x04");
                    self.flush()?;
                }
                message => {
                    let ended = matches!(
                        message,
                        backend::Message::CommandComplete(_)
                            | backend::Message::EmptyQueryResponse
                            | backend::Message::ErrorResponse(_)
                    );
                    self.take(message, &mut answer)?;
                    if ended {
                        break;
                    }
                }
            }
        }
        frontend::sync(&mut self.output);
        self.flush()?;
        for more in self.answers(None)? {
            answer.error = answer.error.or(more.error);
        }
        Ok(answer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// Reads up to ReadyForQuery.
    fn answers(&mut self, copy_data: Option<&str>) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        let mut answer = Answer::default();
        loop {
            match self.read_message()? {
                backend::Message::ReadyForQuery(body) => {
                    self.status = char::from(body.status());
                    return Ok(answers);
                }
                backend::Message::CopyInResponse(_) => self.send_copy_data(copy_data)?,
                message => {
                    let ended = matches!(
                        message,
                        backend::Message::CommandComplete(_)
                            | backend::Message::EmptyQueryResponse
                            | backend::Message::ErrorResponse(_)
                    );
                    self.take(message, &mut answer)?;
                    if ended {
                        answers.push(std::mem::take(&mut answer));
                    }
                    // A refused connection ends without ReadyForQuery.
                    if self.process_id == 0 && answers.last().is_some_and(|a| a.error.is_some()) {
                        return Ok(answers);
                    }
                }
            }
        }
    }

    fn send_copy_data(&mut self, copy_data: Option<&str>) -> io::Result<()> {
        match copy_data {
            None => frontend::copy_fail("no data in the case file", &mut self.output)?,
            Some(data) => {
                // In pieces that do not end with a line, as a client may send them.
                for piece in data.as_bytes().chunks(50_000) {
                    frontend::CopyData::new(piece)?.write(&mut self.output);
                    self.flush()?;
                }
                frontend::copy_done(&mut self.output);
            }
        }
        self.flush()
    }

    fn take(&mut self, message: backend::Message, answer: &mut Answer) -> io::Result<()> {
        match message {
            backend::Message::BackendKeyData(body) => self.process_id = body.process_id(),
            backend::Message::RowDescription(body) => {
                let fields = body.fields().map(|field| {
                    Ok(Column {
                        name: field.name().to_string(),
                        type_oid: field.type_oid(),
                        typmod: field.type_modifier(),
                    })
                });
                answer.columns = Some(fields.collect()?);
            }
            backend::Message::DataRow(body) => {
                let bytes = body.buffer();
                let values = body.ranges().map(|range| Ok(range.map(|range| text(&bytes[range]))));
                answer.rows.push(values.collect()?);
            }
            backend::Message::CopyData(body) => {
                answer.copied.push(text(body.data()).trim_end_matches('\n').to_string());
            }
            backend::Message::CommandComplete(body) => {
                answer.tag = Some(body.tag()?.to_string());
            }
            backend::Message::EmptyQueryResponse => answer.tag = Some(String::new()),
            backend::Message::ErrorResponse(body) => {
                answer.error = Some(server_error(body.fields())?);
            }
            backend::Message::NoticeResponse(body) => {
                let notice = server_error(body.fields())?;
                self.notices.push(notice);
            }
            _ => {}
        }
        Ok(())
    }

    fn read_message(&mut self) -> io::Result<backend::Message> {
        loop {
            if let Some(message) = backend::Message::parse(&mut self.input)? {
                return Ok(message);
            }
            let mut chunk = [0; 65536];
            let length = self.stream.read(&mut chunk).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "the server does not answer"),
                _ => error,
            })?;
            if length == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            self.input.extend_from_slice(&chunk[..length]);
        }
    }
}

fn server_error(mut fields: backend::ErrorFields<'_>) -> io::Result<ServerError> {
    let mut error = ServerError::default();
    while let Some(field) = fields.next()? {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'D' => error.detail = value,
            b'H' => error.hint = value,
            _ => {}
        }
    }
    Ok(error)
}

/// Bytes that are not text (a binary result) as hexadecimal digits.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_string(),
        _ => bytes.iter().fold(String::from("\\x"), |hex, byte| format!("{hex}{byte:02x}")),
    }
}
