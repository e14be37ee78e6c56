//! A connection that sends simple queries and keeps all that they return.
//!
//! A driver hides what a comparison needs: the column types of a simple query, the exact command
//! tags, what the statements before a failed one returned. Trust authentication only.
//!
//! ```no_run
//! # let plain = pg_test::harness::Plain::start();
//! let replies = plain.session().run("SELECT 1; SELECT 1/0; SELECT 2");
//! assert_eq!(replies.len(), 2); // an error ends the query
//! assert_eq!(replies[1].sqlstate(), Some("22012"));
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;

use super::reply::{Answer, Column, Reply};

/// The first OID that a server gives to objects of users (FirstNormalObjectId).
const FIRST_NORMAL_OBJECT_ID: u32 = 16_384;

/// See the module.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    received: BytesMut,
    /// `I` outside a transaction block, `T` inside, `E` in a failed one.
    status: u8,
    notices: Vec<String>,
}

impl Session {
    /// Connects to database `app` of the server on `port`. Panics when that fails.
    pub fn connect(port: u16, role: &str) -> Session {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .unwrap_or_else(|error| panic!("cannot connect to port {port}: {error}"));
        stream.set_nodelay(true).expect("cannot set TCP_NODELAY");
        // Beyond the servers' statement_timeout: a server that is stuck must not hold up all tests.
        stream.set_read_timeout(Some(Duration::from_secs(240))).expect("cannot set a timeout");
        let mut session = Session { stream, received: BytesMut::new(), status: b'?', notices: Vec::new() };

        let mut message = BytesMut::new();
        let parameters = [("user", role), ("database", "app"), ("application_name", "sharding tests")];
        frontend::startup_message(parameters, &mut message).expect("no NUL in a parameter");
        session.send(&message);
        let replies = session.read_replies(None);
        if let Some(Reply { answer: Answer::Failed { code, message, .. }, .. }) = replies.first() {
            panic!("cannot connect to port {port} as {role}: {code} {message}");
        }
        session
    }

    /// Runs a simple query of any number of statements. Replies end with the first error.
    pub fn run(&mut self, sql: &str) -> Vec<Reply> {
        self.run_with_input(sql, None)
    }

    /// As [`Session::run`]; `input` is what a COPY FROM STDIN in it reads.
    pub fn run_with_input(&mut self, sql: &str, input: Option<&[u8]>) -> Vec<Reply> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).expect("no NUL in the query");
        self.send(&message);
        self.notices.clear();
        self.read_replies(input)
    }

    /// Runs one statement and returns its rows. Panics when it fails.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.succeed(sql).pop().map(|reply| reply.rows).unwrap_or_default()
    }

    /// Runs statements that must not fail.
    pub fn succeed(&mut self, sql: &str) -> Vec<Reply> {
        let replies = self.run(sql);
        if let Some(Reply { answer: Answer::Failed { code, message, more }, .. }) = replies.last() {
            panic!("{sql}\nfailed: {code} {message}\n{more}");
        }
        replies
    }

    /// `I` outside a transaction block, `T` inside, `E` in a failed one.
    pub fn transaction_status(&self) -> char {
        char::from(self.status)
    }

    /// The notices and warnings of the last query, as `SEVERITY: message`.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    fn send(&mut self, message: &[u8]) {
        self.stream.write_all(message).expect("the server closed the connection");
    }

    /// Reads up to ReadyForQuery, or to the end of the connection.
    fn read_replies(&mut self, input: Option<&[u8]>) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut current = Reply::default();
        loop {
            let Some(message) = self.read_message() else {
                self.status = b'?';
                return replies;
            };
            match message {
                Message::RowDescription(body) => {
                    let column = |field: postgres_protocol::message::backend::Field| {
                        let oid = field.type_oid();
                        Ok(Column {
                            name: field.name().to_owned(),
                            builtin_type: (oid < FIRST_NORMAL_OBJECT_ID).then_some(oid),
                        })
                    };
                    current.columns = body.fields().map(column).collect().expect("well formed");
                }
                Message::DataRow(body) => {
                    let buffer = body.buffer();
                    let value = |range: Option<std::ops::Range<usize>>| {
                        Ok(range.map(|r| String::from_utf8_lossy(&buffer[r]).into_owned()))
                    };
                    current.rows.push(body.ranges().map(value).collect().expect("well formed"));
                }
                Message::CopyData(body) => {
                    let line = String::from_utf8_lossy(body.data()).into_owned();
                    current.rows.push(vec![Some(line.trim_end_matches('\n').to_owned())]);
                }
                Message::CopyInResponse(_) => self.send_copy_data(input),
                Message::CommandComplete(body) => {
                    current.answer = Answer::Done(body.tag().expect("well formed").to_owned());
                    replies.push(std::mem::take(&mut current));
                }
                Message::EmptyQueryResponse => replies.push(std::mem::take(&mut current)),
                Message::ErrorResponse(body) => {
                    current.answer = failure(body.fields());
                    replies.push(std::mem::take(&mut current));
                }
                Message::NoticeResponse(body) => self.notices.push(notice(body.fields())),
                Message::ReadyForQuery(body) => {
                    self.status = body.status();
                    return replies;
                }
                _ => {}
            }
        }
    }

    fn send_copy_data(&mut self, input: Option<&[u8]>) {
        let mut message = BytesMut::new();
        match input {
            Some(data) => {
                // In pieces that do not end with a line, as a client may send them.
                for piece in data.chunks(8_191) {
                    frontend::CopyData::new(Bytes::copy_from_slice(piece)).expect("short").write(&mut message);
                }
                frontend::copy_done(&mut message);
            }
            None => frontend::copy_fail("no data given", &mut message).expect("no NUL"),
        }
        self.send(&message);
    }

    fn read_message(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.received).expect("malformed message") {
                return Some(message);
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server does not answer: {error}"),
            }
        }
    }
}

/// The fields of an error, by their letters in the protocol.
fn fields(fields: ErrorFields<'_>) -> Vec<(u8, String)> {
    fields
        .map(|field| Ok((field.type_(), String::from_utf8_lossy(field.value_bytes()).into_owned())))
        .collect()
        .expect("well formed")
}

fn failure(error: ErrorFields<'_>) -> Answer {
    let (mut code, mut message, mut more) = (String::new(), String::new(), String::new());
    for (letter, text) in fields(error) {
        match letter {
            b'C' => code = text,
            b'M' => message = text,
            b'D' => more += &format!("DETAIL:  {text}\n"),
            b'H' => more += &format!("HINT:  {text}\n"),
            b'W' => more += &format!("CONTEXT:  {text}\n"),
            _ => {}
        }
    }
    Answer::Failed { code, message, more }
}

fn notice(notice: ErrorFields<'_>) -> String {
    let (mut severity, mut message) = (String::new(), String::new());
    for (letter, text) in fields(notice) {
        match letter {
            b'V' => severity = text,
            b'M' => message = text,
            _ => {}
        }
    }
    format!("{severity}: {message}")
}
