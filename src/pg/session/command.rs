//! Whole commands: sent to all nodes first, then waited for together.
//!
//! An error is returned only when every node has answered, so that no connection is left in the
//! middle of something; of several errors, the first in the order of the work.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::taint::Work;
use crate::pg::session::leases::ensure_connected;
use crate::pg::session::registry::{
    Access, Key, Running, join, join_outside, key_of, pump, remember_constraints, start, used_in_transaction, wait_for,
    with_sessions,
};
use crate::pg::session::settle::end_leases;
use crate::pg::wait::{Patience, check_interrupts};
use crate::wire::conversation::Task;
use crate::wire::report::on_node;
use crate::wire::row::Row;
use std::time::Instant;

/// Rows as text, NULL as `None`.
pub type TextRows = Vec<Vec<Option<String>>>;

/// Runs SQL text, which may hold several statements, on a node; returns the rows affected.
pub fn execute(node: NodeId, sql: &str, access: Access) -> Result<u64> {
    Ok(execute_on(&[node], sql, access)?.into_iter().sum())
}

/// Runs SQL text on all nodes at the same time.
pub fn execute_on(nodes: &[NodeId], sql: &str, access: Access) -> Result<Vec<u64>> {
    let work: Vec<(NodeId, &str)> = nodes.iter().map(|node| (*node, sql)).collect();
    Ok(run(&work, access)?.iter().map(|task| task.affected).collect())
}

/// Runs each SQL text on its node; the texts of one node in order, the nodes at the same time.
pub fn execute_each(work: &[(NodeId, String)], access: Access) -> Result<Vec<u64>> {
    let work: Vec<(NodeId, &str)> = work.iter().map(|(node, sql)| (*node, sql.as_str())).collect();
    Ok(run(&work, access)?.iter().map(|task| task.affected).collect())
}

/// Runs SQL text on a node and returns all rows as text.
pub fn query(node: NodeId, sql: &str, access: Access) -> Result<TextRows> {
    run(&[(node, sql)], access)?.into_iter().next().map_or(Ok(TextRows::new()), text_rows)
}

/// Runs SQL text on all nodes at the same time and returns all rows as text, per node.
pub fn query_on(nodes: &[NodeId], sql: &str, access: Access) -> Result<Vec<(NodeId, TextRows)>> {
    let work: Vec<(NodeId, &str)> = nodes.iter().map(|node| (*node, sql)).collect();
    let tasks = run(&work, access)?;
    nodes.iter().zip(tasks).map(|(node, task)| Ok((*node, text_rows(task)?))).collect()
}

/// As [`query_on`], with the command tags beside the rows.
pub fn run_on(nodes: &[NodeId], sql: &str, access: Access) -> Result<Vec<(NodeId, Vec<String>, TextRows)>> {
    let work: Vec<(NodeId, &str)> = nodes.iter().map(|node| (*node, sql)).collect();
    let tasks = run(&work, access)?;
    let mut answers = Vec::new();
    for (node, mut task) in nodes.iter().zip(tasks) {
        let tags = std::mem::take(&mut task.tags);
        answers.push((*node, tags, text_rows(task)?));
    }
    Ok(answers)
}

/// Runs SQL text on all nodes outside of any transaction, on second connections.
pub fn execute_outside(nodes: &[NodeId], sql: &str) -> Result<()> {
    run_outside(nodes, sql).map(drop)
}

/// As [`query`], outside of any transaction.
pub fn query_outside(node: NodeId, sql: &str) -> Result<TextRows> {
    run_outside(&[node], sql)?.into_iter().next().map_or(Ok(TextRows::new()), text_rows)
}

/// As [`query_outside`] on several nodes, each with an answer or an error of its own. One that has not answered by
/// the deadline loses its connection.
pub fn query_outside_each(nodes: &[NodeId], sql: &str, deadline: Instant) -> Vec<(NodeId, Result<TextRows>)> {
    let mut ordered = nodes.to_vec();
    ordered.sort();
    ordered.dedup();
    let mut keys = Vec::new();
    let asked: Vec<(NodeId, Result<Running>)> = ordered
        .into_iter()
        .map(|node| {
            let running = join_outside(node).and_then(|joined| {
                keys.push(joined.key);
                start(joined, |talk, prelude| talk.query(prelude, sql))
            });
            (node, running)
        })
        .collect();
    let running: Vec<Running> = asked.iter().filter_map(|(_, running)| running.as_ref().ok().copied()).collect();
    let mut answers = collect_each(&running, Patience::until(deadline)).into_iter();
    with_sessions(|sessions| {
        for key in &keys {
            if let Some(session) = sessions.get_mut(key).filter(|session| !session.is_quiet()) {
                session.give_up();
            }
        }
    });
    end_leases(&keys);
    let mut answer = |running: Result<Running>| match running {
        Ok(_) => answers.next().unwrap_or_else(|| Err(vanished())).and_then(text_rows),
        Err(error) => Err(error),
    };
    asked.into_iter().map(|(node, running)| (node, answer(running))).collect()
}

/// The connections are given back at once.
fn run_outside(nodes: &[NodeId], sql: &str) -> Result<Vec<Task>> {
    // In one order everywhere: two that need several nodes must not wait for each other.
    let mut ordered = nodes.to_vec();
    ordered.sort();
    ordered.dedup();
    let mut keys = Vec::new();
    let result = (|| {
        let mut joined = Vec::new();
        for node in ordered {
            joined.push(join_outside(node)?);
            keys.extend(joined.last().map(|joined| joined.key));
        }
        let mut running = Vec::new();
        for joined in joined {
            running.push(start(joined, |talk, prelude| talk.query(prelude, sql))?);
        }
        collect(&running, Patience::STATEMENT)
    })();
    end_leases(&keys);
    result
}

/// Runs a SET CONSTRAINTS on the nodes in the transaction, and on others when they join it.
pub fn set_constraints(sql: &str) -> Result<()> {
    execute_on(&used_in_transaction(), sql, Access::Hold)?;
    remember_constraints(sql);
    Ok(())
}

fn run(work: &[(NodeId, &str)], access: Access) -> Result<Vec<Task>> {
    // Connections first: if one cannot be made, nothing was sent anywhere.
    let mut nodes: Vec<NodeId> = work.iter().map(|(node, _)| *node).collect();
    nodes.sort();
    nodes.dedup();
    if nodes.len() > 1 {
        for node in nodes {
            ensure_connected(key_of(node)?)?;
        }
    }
    let mut running = Vec::new();
    for (node, sql) in work {
        // Joined again: what one text brings about holds for the next one on the same node.
        running.push(start(join(*node, access, Work::Command)?, |talk, prelude| talk.query(prelude, sql))?);
    }
    collect(&running, Patience::STATEMENT)
}

/// Waits for all tasks; their results, or the first error.
pub fn collect(running: &[Running], patience: Patience) -> Result<Vec<Task>> {
    collect_each(running, patience).into_iter().collect()
}

/// Waits for all tasks and returns each one's result or error.
pub fn collect_each(running: &[Running], patience: Patience) -> Vec<Result<Task>> {
    wait_finished(running, patience);
    running.iter().map(take_result).collect()
}

/// Waits for all tasks; whether they are finished, else time is up.
pub fn wait_finished(running: &[Running], patience: Patience) -> bool {
    loop {
        let unfinished: Vec<Key> = running.iter().filter(|r| !is_finished(r)).map(|r| r.key).collect();
        if unfinished.is_empty() {
            return true;
        }
        if pump(&unfinished) {
            if patience.interruptible {
                check_interrupts();
            }
        } else if wait_for(&unfinished, patience) == crate::pg::wait::Woken::TimedOut {
            return false;
        }
    }
}

/// Whether there is nothing left to wait for.
pub fn is_finished(running: &Running) -> bool {
    with_sessions(|sessions| {
        sessions.get_mut(&running.key).is_none_or(|session| {
            session.talk(running.serial).map_or(true, |talk| talk.task(running.task).is_none_or(Task::is_finished))
        })
    })
}

fn take_result(running: &Running) -> Result<Task> {
    with_sessions(|sessions| {
        let session = sessions.get_mut(&running.key).ok_or_else(vanished)?;
        let talk = session.talk(running.serial)?;
        if talk.task(running.task).is_some_and(|task| !task.is_finished()) {
            talk.abandon(running.task);
            return Err(Error::new(
                sqlstate::CONNECTION_FAILURE,
                format!("node \"{}\" did not answer in time", session.name),
            ));
        }
        let task = talk.take(running.task).ok_or_else(vanished)?;
        session.task_levels.remove(&running.task);
        match task.error {
            Some(error) => Err(on_node(error, &session.name)),
            None => Ok(task),
        }
    })
}

fn vanished() -> Error {
    Error::new(sqlstate::INTERNAL, "a command on a node has no result")
}

fn text_rows(task: Task) -> Result<TextRows> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    task.rows
        .into_iter()
        .flat_map(|mut run| std::iter::from_fn(move || run.pop()))
        .map(|body| {
            let row = Row::parse(body)?;
            Ok((0..row.len()).map(|i| row.get(i).map(text)).collect())
        })
        .collect()
}
