//! Errors and notices of a node, as values.
//!
//! SQLSTATE, message, detail, hint and the names of table, constraint and so on stay the node's;
//! its `WHERE` becomes the context, to which the caller adds which node it was.

use crate::error::{Error, ObjectNames, Result, SqlState, sqlstate};
use crate::wire::protocol_error;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

/// How grave a report is; what the node calls LOG, INFO and DEBUG counts as a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Notice,
    Warning,
    Error,
    /// The node closes the connection after it.
    Fatal,
}

/// An error or notice of a node.
#[derive(Clone, Debug)]
pub struct Report {
    pub severity: Severity,
    pub error: Error,
}

/// Reads the fields of an ErrorResponse or NoticeResponse.
pub fn read_report(mut fields: ErrorFields<'_>) -> Result<Report> {
    let mut severity = Severity::Error;
    let mut error = Error::new(sqlstate::INTERNAL, "");
    let mut names = ObjectNames::default();
    while let Some(field) = fields.next().map_err(protocol_error)? {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'V' => severity = severity_of(&text),
            b'C' => error.code = SqlState::new(&text),
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b'W' => error.context = Some(text),
            b's' => names.schema = Some(text),
            b't' => names.table = Some(text),
            b'c' => names.column = Some(text),
            b'd' => names.datatype = Some(text),
            b'n' => names.constraint = Some(text),
            _ => {}
        }
    }
    if names != ObjectNames::default() {
        error.names = Some(Box::new(names));
    }
    Ok(Report { severity, error })
}

fn severity_of(text: &str) -> Severity {
    match text {
        "ERROR" => Severity::Error,
        "FATAL" | "PANIC" => Severity::Fatal,
        "WARNING" => Severity::Warning,
        _ => Severity::Notice,
    }
}

/// `error` with the name of the node that it happened on as its outermost context.
pub fn on_node(mut error: Error, node: &str) -> Error {
    let place = format!("node \"{node}\"");
    error.context = Some(match error.context {
        Some(inner) if !inner.is_empty() => format!("{inner}\n{place}"),
        _ => place,
    });
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use postgres_protocol::message::backend::Message;

    #[test]
    fn fields_keep_their_meaning() {
        let mut body = Vec::new();
        for (tag, text) in [
            (b'S', "FEHLER"),
            (b'V', "ERROR"),
            (b'C', "23505"),
            (b'M', "duplicate key"),
            (b'D', "Key (id)=(1) already exists."),
            (b'W', "PL/pgSQL function f()"),
            (b't', "orders_7"),
            (b'n', "orders_7_pkey"),
        ] {
            body.push(tag);
            body.extend(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut bytes = BytesMut::from(&b"E"[..]);
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(&body);
        let Ok(Some(Message::ErrorResponse(body))) = Message::parse(&mut bytes) else {
            panic!("an ErrorResponse");
        };
        let report = read_report(body.fields()).unwrap();
        assert_eq!(report.severity, Severity::Error);
        let error = on_node(report.error, "n1");
        assert_eq!(error.code.as_str(), "23505");
        assert_eq!(error.message, "duplicate key");
        assert_eq!(error.context.as_deref(), Some("PL/pgSQL function f()\nnode \"n1\""));
        let names = error.names.unwrap();
        assert_eq!(names.constraint.as_deref(), Some("orders_7_pkey"));
        assert_eq!(names.schema, None);
    }
}
