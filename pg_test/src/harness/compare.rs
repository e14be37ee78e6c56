//! The same SQL on two servers must return the same.
//!
//! Compared per statement: column names and built-in types, rows (as a multiset unless the order is
//! asked for), command tag, SQLSTATE; and after each query, whether a transaction is open. Not
//! compared: the texts of errors, notices, the types that users defined.

use super::reply::{Answer, Reply};
use super::{Server, Session};

/// How rows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As multisets.
    Any,
    /// One by one.
    Exact,
}

/// Two sessions: on the left the reference, on the right what is tested.
#[derive(Debug)]
pub struct Pair {
    left: Session,
    right: Session,
}

impl Pair {
    /// Connects to both as the superuser.
    pub fn new(left: &Server, right: &Server) -> Pair {
        Pair::of(left.session(), right.session())
    }

    /// Takes two sessions.
    pub fn of(left: Session, right: Session) -> Pair {
        Pair { left, right }
    }

    /// Panics unless `sql` returns the same on both, rows in any order.
    #[track_caller]
    pub fn same(&mut self, sql: &str) {
        self.check(sql, Order::Any).unwrap_or_else(|text| panic!("{text}"));
    }

    /// Panics unless `sql` returns the same on both, rows in the same order.
    #[track_caller]
    pub fn same_ordered(&mut self, sql: &str) {
        self.check(sql, Order::Exact).unwrap_or_else(|text| panic!("{text}"));
    }

    /// Compares what `sql` returns; the error is a description of the difference.
    pub fn check(&mut self, sql: &str, order: Order) -> Result<(), String> {
        self.check_with_input(sql, None, order)
    }

    /// As [`Pair::check`]; `input` is what a COPY FROM STDIN in it reads.
    pub fn check_with_input(&mut self, sql: &str, input: Option<&[u8]>, order: Order) -> Result<(), String> {
        let left = self.left.run_with_input(sql, input);
        let right = self.right.run_with_input(sql, input);
        if let Some(text) = difference(&left, &right, order) {
            return Err(format!("{sql}\n{text}"));
        }
        let (left, right) = (self.left.transaction_status(), self.right.transaction_status());
        if left != right {
            return Err(format!("{sql}\ntransaction status: {left} on the left, {right} right"));
        }
        Ok(())
    }

    /// Runs `sql` on both; panics when it fails on either.
    #[track_caller]
    pub fn both(&mut self, sql: &str) {
        self.left.succeed(sql);
        self.right.succeed(sql);
    }

    /// Runs `sql` on the left only; panics when it fails.
    #[track_caller]
    pub fn left(&mut self, sql: &str) -> Vec<Reply> {
        self.left.succeed(sql)
    }

    /// Runs `sql` on the right only; panics when it fails.
    #[track_caller]
    pub fn right(&mut self, sql: &str) -> Vec<Reply> {
        self.right.succeed(sql)
    }

    /// Both sessions.
    pub fn sessions(&mut self) -> (&mut Session, &mut Session) {
        (&mut self.left, &mut self.right)
    }
}

/// Describes the first difference between the replies to one query, if there is one.
pub fn difference(left: &[Reply], right: &[Reply], order: Order) -> Option<String> {
    for (number, (left, right)) in left.iter().zip(right).enumerate() {
        if let Some(text) = reply_difference(left, right, order) {
            return Some(format!("statement {}: {text}", number + 1));
        }
    }
    (left.len() != right.len()).then(|| format!("{} statements on the left, {} right", left.len(), right.len()))
}

fn reply_difference(left: &Reply, right: &Reply, order: Order) -> Option<String> {
    let same_answer = match (&left.answer, &right.answer) {
        (Answer::Failed { code: left, .. }, Answer::Failed { code: right, .. }) => left == right,
        (left, right) => left == right,
    };
    if !same_answer {
        return Some(format!("left  {}\nright {}", answer(left), answer(right)));
    }
    if left.columns != right.columns {
        return Some(format!("columns\nleft  {:?}\nright {:?}", left.columns, right.columns));
    }
    let (mut left_rows, mut right_rows) = (left.lines(), right.lines());
    if order == Order::Any {
        left_rows.sort_unstable();
        right_rows.sort_unstable();
    }
    if left_rows == right_rows {
        return None;
    }
    Some(match order {
        Order::Exact => first_difference(&left_rows, &right_rows),
        Order::Any => format!(
            "{} rows on the left, {} right\nleft only:{}\nright only:{}",
            left_rows.len(),
            right_rows.len(),
            sample(&surplus(&left_rows, &right_rows)),
            sample(&surplus(&right_rows, &left_rows))
        ),
    })
}

fn answer(reply: &Reply) -> String {
    match &reply.answer {
        Answer::Empty => "(empty)".to_owned(),
        Answer::Done(tag) => format!("{tag}{}", sample(&reply.lines())),
        Answer::Failed { code, message, more } => format!("ERROR {code}: {message}\n{more}"),
    }
}

fn first_difference(left: &[String], right: &[String]) -> String {
    let at = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let row = |rows: &[String]| rows.get(at).cloned().unwrap_or_else(|| "(no row)".to_owned());
    format!("row {}\nleft  {}\nright {}", at + 1, row(left), row(right))
}

/// What sorted `rows` has beyond sorted `others`, as multisets.
fn surplus(rows: &[String], others: &[String]) -> Vec<String> {
    let mut others = others.iter().peekable();
    let mut surplus = Vec::new();
    for row in rows {
        while others.next_if(|other| *other < row).is_some() {}
        if others.next_if(|other| *other == row).is_none() {
            surplus.push(row.clone());
        }
    }
    surplus
}

/// The first ten rows, a line each.
fn sample(rows: &[String]) -> String {
    let mut text: String = rows.iter().take(10).map(|row| format!("\n    {row}")).collect();
    if rows.len() > 10 {
        text += &format!("\n    ... {} more", rows.len() - 10);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[&str]) -> Vec<Reply> {
        let row = |value: &&str| vec![Some((*value).to_owned())];
        let tag = format!("SELECT {}", values.len());
        let answer = Answer::Done(tag);
        vec![Reply { rows: values.iter().map(row).collect(), answer, ..Reply::default() }]
    }

    #[test]
    fn order_counts_only_when_asked_for() {
        let (left, right) = (rows(&["a", "b"]), rows(&["b", "a"]));
        assert_eq!(difference(&left, &right, Order::Any), None);
        assert!(difference(&left, &right, Order::Exact).is_some());
    }

    #[test]
    fn multisets_count_duplicates() {
        let text = difference(&rows(&["a", "a", "b"]), &rows(&["a", "b", "b"]), Order::Any);
        let text = text.expect("they differ");
        assert!(text.contains("left only:\n    a\nright only:\n    b"), "{text}");
    }

    #[test]
    fn null_is_not_the_empty_string() {
        let null = |value| vec![Reply { rows: vec![vec![value]], ..Reply::default() }];
        assert!(difference(&null(None), &null(Some(String::new())), Order::Any).is_some());
    }
}
