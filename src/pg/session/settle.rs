//! Bringing connections to rest within a bound: what runs is cancelled, what comes is discarded.
//!
//! Used where a statement's results are not wanted any more, above all when a transaction or
//! savepoint is rolled back. No ERROR may be raised there, and the user waits: a node that does not
//! come to rest in time loses its connection instead.

use crate::error::Result;
use crate::pg::connection::cancel;
use crate::pg::session::registry::{Key, Session, wait_for, with_sessions};
use crate::pg::wait::{Patience, Woken};
use crate::wire::conversation::TaskId;
use std::time::{Duration, Instant};

/// How long a node may take to come to rest after a cancel.
pub const CANCEL_BOUND: Duration = Duration::from_secs(5);
/// What ends by itself within this time is not cancelled.
const GRACE: Duration = Duration::from_millis(20);

/// Waits until each session is quiet. What is still running after a short grace and `may_cancel`
/// (the task's level, `None` if it is unknown) is cancelled; a connection that is not quiet in time
/// is closed.
pub fn settle(keys: &[Key], bound: Duration, may_cancel: impl Fn(Option<u32>) -> bool) {
    let deadline = Instant::now() + bound;
    break_off_copies(keys);
    drain(keys, Instant::now() + GRACE);
    let cancelled: Vec<Key> = with_sessions(|sessions| {
        keys.iter().filter(|key| sessions.get(key).is_some_and(|s| s.runs(&may_cancel))).copied().collect()
    });
    if !cancelled.is_empty() {
        request_cancel(&cancelled, deadline);
    }
    drain(keys, deadline);
    with_sessions(|sessions| {
        for key in keys {
            if let Some(session) = sessions.get_mut(key).filter(|s| !s.is_quiet()) {
                session.give_up();
            }
        }
    });
}

/// Asks the nodes to cancel what runs on these sessions; a connection whose node does not hear it in time is
/// closed.
pub fn request_cancel(keys: &[Key], deadline: Instant) {
    let targets: Vec<_> = with_sessions(|sessions| {
        keys.iter().filter_map(|key| Some(sessions.get(key)?.connection.as_ref()?.cancel_way())).collect()
    });
    let heard = cancel(&targets, deadline);
    with_sessions(|sessions| {
        for (key, heard) in keys.iter().zip(heard) {
            if let (false, Some(session)) = (heard, sessions.get_mut(key)) {
                session.give_up();
            }
        }
    });
}

/// Reads until all sessions are quiet or time is up. Notices are not shown.
pub fn drain(keys: &[Key], deadline: Instant) {
    loop {
        let busy: Vec<Key> = with_sessions(|sessions| {
            let mut unseen = Vec::new();
            keys.iter()
                .filter(|key| {
                    sessions.get_mut(key).is_some_and(|session| {
                        // A node that keeps sending must not keep us beyond the deadline.
                        while session.pump(&mut unseen) && !session.is_quiet() && Instant::now() < deadline {}
                        !session.is_quiet()
                    })
                })
                .copied()
                .collect()
        });
        if busy.is_empty() || wait_for(&busy, Patience::callback(deadline)) == Woken::TimedOut {
            return;
        }
    }
}

/// Gives the connections of these sessions, which are in no transaction, back to the pool: when what
/// was asked is answered, within a bound, and reset if need be. What does not come to rest is closed.
pub fn end_leases(keys: &[Key]) {
    drain(keys, Instant::now() + CANCEL_BOUND);
    let reset: Vec<Key> = with_sessions(|sessions| {
        let mut reset = Vec::new();
        for key in keys {
            let Some(session) = sessions.get_mut(key) else { continue };
            if !session.is_clean() {
                continue;
            }
            let Some(command) = session.reset_command() else { continue };
            match session.tell(command) {
                Ok(()) => reset.push(*key),
                Err(error) => session.lose(error),
            }
        }
        reset
    });
    if !reset.is_empty() {
        drain(&reset, Instant::now() + CANCEL_BOUND);
    }
    with_sessions(|sessions| {
        for key in keys {
            let Some(session) = sessions.get_mut(key) else { continue };
            if reset.contains(key) && session.has_stray() {
                // The reset has failed.
                session.give_up();
            }
            session.end_lease();
        }
    });
}

fn break_off_copies(keys: &[Key]) {
    with_sessions(|sessions| {
        for key in keys {
            if let Some(session) = sessions.get_mut(key)
                && let Some(connection) = &mut session.connection
                && let Err(error) = connection.talk.copy_fail()
            {
                session.lose(error);
            }
        }
    });
}

impl Session {
    /// Whether every request on the connection is answered and all is sent; also if there is none.
    pub fn is_quiet(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.talk.is_quiet() && !connection.talk.has_output())
    }

    /// Whether the connection is in a state in which somebody else could go on with it.
    fn is_clean(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.talk.is_clean())
    }

    fn has_stray(&mut self) -> bool {
        self.connection.as_mut().is_some_and(|connection| connection.talk.take_stray().is_some())
    }

    /// Whether something is under way whose level fits.
    fn runs(&self, fits: &impl Fn(Option<u32>) -> bool) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.talk.any_under_way(|owner: Option<TaskId>| {
                owner.is_some_and(|task| fits(self.task_levels.get(&task).copied()))
            })
        })
    }

    /// Sends a command whose answer nobody waits for.
    pub fn tell(&mut self, sql: &str) -> Result<()> {
        match &mut self.connection {
            Some(connection) => connection.talk.tell(sql),
            None => Ok(()),
        }
    }
}
