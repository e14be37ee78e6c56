//! Conversations with a node that is played by the test.

use super::task::{LARGEST_PAGE, PAGE_BYTES, PAGE_GROWTH};
use super::*;
use crate::wire::row::Row;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn row(text: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend((text.len() as u32).to_be_bytes());
    body.extend(text.as_bytes());
    message(b'D', &body)
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("VERROR\0C{code}\0Mfailed\0\0").as_bytes())
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn texts(talk: &mut Conversation, id: TaskId) -> Vec<String> {
    let mut rows = VecDeque::new();
    talk.take_rows(id, &mut rows);
    let text = |row| String::from_utf8_lossy(Row::parse(row).unwrap().get(0).unwrap()).into_owned();
    rows.into_iter().flat_map(|mut run: Run| std::iter::from_fn(move || run.pop())).map(text).collect()
}

const SELECT: Statement<'_> =
    Statement { sql: "SELECT", params: &[], result_binary: &[], keep: None, report_bound: false };

#[test]
fn answers_go_to_who_asked() {
    let mut talk = Conversation::new();
    let a = talk.query("BEGIN", "SELECT 1").unwrap();
    let b = talk.statement("", &SELECT, Fetch::All).unwrap();
    let stream = [
        complete("BEGIN"),
        ready(b'T'),
        row("a"),
        complete("SELECT 1"),
        ready(b'T'),
        message(b'1', b""),
        message(b'2', b""),
        row("b1"),
        row("b2"),
        complete("SELECT 2"),
        ready(b'T'),
    ]
    .concat();
    // Byte by byte: a message may be cut anywhere.
    for byte in stream {
        talk.receive(&[byte]).unwrap();
    }
    assert!(talk.is_quiet());
    assert_eq!(talk.block(), Block::Inside);
    assert_eq!(texts(&mut talk, a), ["a"]);
    assert_eq!(talk.take(a).unwrap().tags, ["SELECT 1"]);
    assert!(talk.task(b).unwrap().bound);
    assert_eq!(texts(&mut talk, b), ["b1", "b2"]);
    let b = talk.take(b).unwrap();
    assert!(b.is_finished());
    assert_eq!(b.affected, 2);
}

#[test]
fn the_first_error_of_a_task_is_the_one_that_counts() {
    let mut talk = Conversation::new();
    let a = talk.query("BEGIN; SET x = 1", "SELECT 1").unwrap();
    let b = talk.query("", "SELECT 2").unwrap();
    talk.receive(&[complete("BEGIN"), error("22023"), ready(b'E')].concat()).unwrap();
    assert!(!talk.task(a).unwrap().is_finished());
    talk.receive(&[error("25P02"), ready(b'E'), error("25P02"), ready(b'E')].concat()).unwrap();
    assert_eq!(talk.block(), Block::Failed);
    assert_eq!(talk.take(a).unwrap().error.unwrap().code.as_str(), "22023");
    assert_eq!(talk.take(b).unwrap().error.unwrap().code.as_str(), "25P02");
    assert!(talk.take_stray().is_none());
}

#[test]
fn pages_are_asked_for_one_by_one_and_grow() {
    let mut talk = Conversation::new();
    let a = talk.statement("", &SELECT, Fetch::Pages).unwrap();
    talk.output().clear();
    talk.receive(&[row("x"), message(b's', b""), ready(b'T')].concat()).unwrap();
    assert!(!talk.task(a).unwrap().wants_page());
    assert_eq!(texts(&mut talk, a), ["x"]);
    assert!(talk.task(a).unwrap().wants_page());
    talk.next_page(a).unwrap();
    let sent = talk.output().split();
    let size = (FIRST_PAGE * PAGE_GROWTH as i32).to_be_bytes();
    let expected = [&b"E\0\0\0\x0bp1\0"[..], &size, b"S\0\0\0\x04"].concat();
    assert_eq!(&sent[..], &expected[..]);
    talk.next_page(a).unwrap();
    assert!(!talk.has_output(), "a page is asked for once");
    talk.receive(&[complete("SELECT 1"), ready(b'T')].concat()).unwrap();
    assert!(talk.task(a).unwrap().is_finished());
    assert_eq!(talk.task(a).unwrap().affected, 2);
}

#[test]
fn an_abandoned_portal_is_closed_with_the_next_statement() {
    let mut talk = Conversation::new();
    let a = talk.statement("", &SELECT, Fetch::Pages).unwrap();
    talk.abandon(a);
    assert!(talk.has_unwanted());
    talk.receive(&[row("x"), message(b's', b""), ready(b'T')].concat()).unwrap();
    assert!(!talk.has_unwanted());
    assert!(talk.task(a).is_none());
    talk.output().clear();
    talk.statement("", &SELECT, Fetch::All).unwrap();
    assert!(talk.output().starts_with(b"C\0\0\0\x08Pp1\0"));
}

#[test]
fn a_portal_that_ended_is_closed_with_the_next_query() {
    let mut talk = Conversation::new();
    let a = talk.statement("", &SELECT, Fetch::Pages).unwrap();
    talk.receive(&[row("x"), complete("SELECT 1"), ready(b'T')].concat()).unwrap();
    talk.abandon(a);
    talk.output().clear();
    talk.query("", "DROP TABLE t").unwrap();
    assert!(talk.output().starts_with(b"C\0\0\0\x08Pp1\0"));
}

#[test]
fn wide_rows_make_small_pages() {
    assert_eq!(next_page_size(256, 256, 256 * PAGE_BYTES), 1);
    assert_eq!(next_page_size(256, 256, 256 * 1024), 1024);
    assert_eq!(next_page_size(40_000, 40_000, 40_000), LARGEST_PAGE as i32);
    assert_eq!(next_page_size(256, 0, 0), 256 * PAGE_GROWTH as i32);
}

#[test]
fn an_error_nobody_asked_for_is_stray_and_a_fatal_one_is_remembered() {
    let mut talk = Conversation::new();
    talk.tell("COMMIT").unwrap();
    talk.receive(&[error("40001"), ready(b'I')].concat()).unwrap();
    assert_eq!(talk.take_stray().unwrap().code.as_str(), "40001");
    talk.receive(&message(b'E', b"VFATAL\0C57P01\0Mterminating\0\0")).unwrap();
    assert_eq!(talk.fatal().unwrap().code.as_str(), "57P01");
    assert_eq!(talk.errors_seen(), 2);
}

#[test]
fn a_lost_connection_ends_every_task() {
    let mut talk = Conversation::new();
    let a = talk.query("", "SELECT 1").unwrap();
    let gone = Error::new(sqlstate::CONNECTION_FAILURE, "gone");
    talk.lost(&gone);
    assert!(talk.is_quiet());
    assert_eq!(talk.take(a).unwrap().error, Some(gone));
}

const KEPT: Statement<'_> =
    Statement { sql: "SELECT", params: &[], result_binary: &[], keep: Some(7), report_bound: false };

fn prepare(talk: &mut Conversation) {
    let a = talk.statement("", &KEPT, Fetch::All).unwrap();
    assert_eq!(talk.output()[0], b'P');
    talk.output().clear();
    talk.receive(&[message(b'1', b""), message(b'2', b""), complete("SELECT 0"), ready(b'I')].concat()).unwrap();
    assert!(talk.take(a).unwrap().is_finished());
}

#[test]
fn a_kept_statement_is_prepared_once() {
    let mut talk = Conversation::new();
    prepare(&mut talk);
    talk.statement("", &KEPT, Fetch::All).unwrap();
    assert_eq!(talk.output()[0], b'B');
}

#[test]
fn a_statement_that_the_node_refused_is_not_kept() {
    let mut talk = Conversation::new();
    talk.statement("", &KEPT, Fetch::All).unwrap();
    talk.output().clear();
    talk.receive(&[error("42P01"), ready(b'I')].concat()).unwrap();
    talk.statement("", &KEPT, Fetch::All).unwrap();
    assert_eq!(talk.output()[0], b'P');
}

#[test]
fn a_stale_statement_is_prepared_again_without_an_error() {
    let mut talk = Conversation::new();
    prepare(&mut talk);
    let a = talk.statement("", &KEPT, Fetch::All).unwrap();
    talk.output().clear();
    talk.receive(&[error("26000"), ready(b'I')].concat()).unwrap();
    assert!(!talk.is_quiet());
    assert!(talk.output().starts_with(b"C") && talk.output().windows(2).any(|w| w == b"Ps" || w == b"\0P"));
    let answer = [message(b'3', b""), message(b'1', b""), message(b'2', b""), row("x"), complete("SELECT 1")];
    talk.receive(&answer.concat()).unwrap();
    talk.receive(&ready(b'I')).unwrap();
    assert_eq!(texts(&mut talk, a), ["x"]);
    assert!(talk.take(a).unwrap().is_finished());
    assert!(talk.is_quiet());
}

#[test]
fn in_a_transaction_a_stale_statement_is_an_error_once() {
    let mut talk = Conversation::new();
    prepare(&mut talk);
    let a = talk.statement("BEGIN", &KEPT, Fetch::All).unwrap();
    talk.output().clear();
    talk.receive(&[complete("BEGIN"), ready(b'T'), error("26000"), ready(b'E')].concat()).unwrap();
    assert_eq!(talk.take(a).unwrap().error.unwrap().code.as_str(), "26000");
    talk.statement("", &KEPT, Fetch::All).unwrap();
    assert_eq!(talk.output()[0], b'P');
}

#[test]
fn a_copy_is_fed_until_it_fails() {
    let mut talk = Conversation::new();
    let a = talk.copy("", "COPY t FROM STDIN").unwrap();
    talk.output().clear();
    talk.copy_data(b"1\n").unwrap();
    assert_eq!(&talk.output().split()[..], &message(b'd', b"1\n")[..]);
    talk.receive(&[error("22P02"), ready(b'E')].concat()).unwrap();
    talk.copy_data(b"2\n").unwrap();
    talk.copy_done();
    assert!(!talk.has_output());
    assert!(talk.take(a).unwrap().error.is_some());
}

#[test]
fn records_of_a_copy_share_messages_and_large_ones_take_several() {
    let mut talk = Conversation::new();
    talk.copy("", "COPY t FROM STDIN").unwrap();
    talk.output().clear();
    let records: Vec<Vec<u8>> = [10, 0, 300_000, 7].map(|length| vec![length as u8; length]).to_vec();
    talk.copy_records(records.iter().map(Vec::as_slice));
    let sent = talk.output().to_vec();
    let (mut rest, mut data, mut messages) = (sent.as_slice(), Vec::new(), 0);
    while let [b'd', a, b, c, d, body @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        assert!(length <= 2 * COPY_MESSAGE);
        data.extend_from_slice(&body[..length]);
        rest = &body[length..];
        messages += 1;
    }
    assert_eq!((rest, data == records.concat()), (&b""[..], true));
    assert!(messages < 8);
}

#[test]
fn a_copy_without_data_is_refused_instead_of_waiting_for_ever() {
    let mut talk = Conversation::new();
    talk.query("", "COPY t FROM STDIN").unwrap();
    talk.output().clear();
    talk.receive(&message(b'G', &[0, 0, 0])).unwrap();
    assert_eq!(talk.output()[0], b'f');
}

#[test]
fn sql_that_cannot_be_sent_leaves_no_trace() {
    let mut talk = Conversation::new();
    let bad = Statement { sql: "SELECT '\0'", params: &[], result_binary: &[], keep: None, report_bound: false };
    assert!(talk.statement("BEGIN", &bad, Fetch::All).is_err());
    assert!(talk.query("BEGIN", bad.sql).is_err());
    assert!(talk.is_quiet());
    assert!(!talk.has_output());
}

#[test]
fn rows_that_nobody_takes_are_found_where_most_of_them_are() {
    let mut talk = Conversation::new();
    let command = talk.query("", "SELECT").unwrap();
    let a = talk.statement("", &SELECT, Fetch::All).unwrap();
    let b = talk.statement("", &SELECT, Fetch::All).unwrap();
    let wide = "x".repeat(1000);
    talk.receive(&[row(&wide), row(&wide), row(&wide), complete("SELECT 3"), ready(b'I')].concat()).unwrap();
    assert_eq!(talk.overfull(500), None, "a command keeps what it collects: {command:?}");
    talk.receive(&row(&wide)).unwrap();
    assert_eq!(talk.overfull(500), None, "what came together stays");
    talk.receive(&[row(&wide), complete("SELECT 2"), ready(b'I'), row("y")].concat()).unwrap();
    talk.receive(&row("z")).unwrap();
    assert_eq!(talk.overfull(100_000), None);
    assert_eq!(talk.overfull(500), Some(a));
    assert_eq!(texts(&mut talk, a), [wide.as_str(), wide.as_str()]);
    assert_eq!(talk.overfull(500), Some(b), "what the command holds counts");
    talk.abandon(b);
    assert_eq!(talk.overfull(0), None);
}
