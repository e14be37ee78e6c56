//! One run of recovery, step by step beside everything else, with the rules of `transaction::recovery`.

use super::flaw::Flaw;
use super::link::{Name, Order, Reply};
use super::world::{OURS, World, tell};
use crate::transaction::gid::GlobalTransaction;
use crate::transaction::recovery::{LogRow, Survey, Verdict, is_settled, verdict};

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    ReadLog,
    /// Asking this node what it has prepared.
    Ask(usize),
    /// Deciding about, or resolving, the so manieth.
    Resolve(usize),
    Settle,
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Recovery {
    stage: Stage,
    /// It ends with the server on which it began.
    crashes: usize,
    log_before: Vec<LogRow>,
    survey: Survey,
    found: Vec<(usize, Name, GlobalTransaction)>,
    link: Option<usize>,
}

/// What has come of a question.
enum Heard {
    Nothing,
    Lost,
    Reply(Reply),
}

impl Recovery {
    pub fn new(crashes: usize) -> Recovery {
        Recovery {
            stage: Stage::ReadLog,
            crashes,
            log_before: Vec::new(),
            survey: Survey::default(),
            found: Vec::new(),
            link: None,
        }
    }
}

impl World<'_> {
    pub fn recovery_acts(&mut self, index: usize) -> bool {
        let mut recovery = self.recoveries.swap_remove(index);
        let acted = self.recovery_steps(&mut recovery);
        let dead = recovery.crashes != self.crashes;
        if dead || recovery.stage == Stage::Over {
            if let Some(link) = recovery.link {
                self.hang_up(link);
            }
            if dead {
                self.saw("recovery dies");
            }
            return true;
        }
        self.recoveries.push(recovery);
        acted
    }

    fn recovery_steps(&mut self, recovery: &mut Recovery) -> bool {
        if recovery.crashes != self.crashes {
            return false;
        }
        match recovery.stage {
            Stage::ReadLog => {
                recovery.log_before = self.visible_rows();
                recovery.survey.known = (0..self.nodes.len()).map(|node| format!("n{node}")).collect();
                recovery.stage = Stage::Ask(0);
                true
            }
            Stage::Ask(node) => self.recovery_asks(recovery, node),
            Stage::Resolve(n) => self.recovery_resolves(recovery, n),
            Stage::Settle => {
                if self.flaw == Some(Flaw::SettleNewRows) {
                    recovery.log_before = self.visible_rows();
                }
                if self.flaw == Some(Flaw::SettleUnreached) {
                    recovery.survey.reached = recovery.survey.known.clone();
                }
                for row in recovery.log_before.iter().filter(|row| is_settled(row, &recovery.survey)) {
                    tell!(self, "recovery deletes the row of {}", row.gid);
                    self.saw("recovery deletes a row");
                    // One that somebody else is deleting is left to him.
                    self.rows.retain(|r| r.log.gid != row.gid || r.deleted_by.is_some());
                }
                recovery.stage = Stage::Over;
                true
            }
            Stage::Over => false,
        }
    }

    fn recovery_asks(&mut self, recovery: &mut Recovery, node: usize) -> bool {
        let next = if node + 1 < self.nodes.len() { Stage::Ask(node + 1) } else { Stage::Resolve(0) };
        let Some(link) = recovery.link else {
            recovery.link = self.connect(node, None);
            match recovery.link {
                Some(link) => self.links[link].send(Order::List),
                None => {
                    self.saw("recovery fails to reach a node");
                    recovery.stage = next;
                }
            }
            return true;
        };
        match self.recovery_hears(link) {
            Heard::Nothing => return false,
            Heard::Reply(Reply::Listed(names)) => {
                recovery.survey.reached.insert(format!("n{node}"));
                for name in names {
                    let any = GlobalTransaction { coordinator: OURS, xid: 1, nonce: 0 };
                    let ours = GlobalTransaction::of_gid(&name, OURS);
                    if let Some(global) = ours.or((self.flaw == Some(Flaw::TakeAll)).then_some(any)) {
                        recovery.found.push((node, name, global));
                    }
                }
            }
            Heard::Reply(_) | Heard::Lost => self.saw("recovery fails to reach a node"),
        }
        self.hang_up(link);
        recovery.link = None;
        recovery.stage = next;
        true
    }

    fn recovery_resolves(&mut self, recovery: &mut Recovery, n: usize) -> bool {
        let Some((node, name, global)) = recovery.found.get(n).cloned() else {
            recovery.stage = Stage::Settle;
            return true;
        };
        let Some(link) = recovery.link else {
            let verdict = self.recovery_judges(global);
            tell!(self, "recovery: {verdict:?} for {name} on node {node}");
            let order = match verdict {
                Verdict::Leave => {
                    self.saw("recovery leaves what is in progress");
                    recovery.survey.unresolved.insert(global.log_name());
                    recovery.stage = Stage::Resolve(n + 1);
                    return true;
                }
                Verdict::Commit => Order::Commit(name),
                Verdict::Rollback => Order::RollBack(name),
            };
            if recovery.crashes != self.crashes {
                return true;
            }
            self.saw(if verdict == Verdict::Commit { "recovery commits" } else { "recovery rolls back" });
            recovery.link = self.connect(node, None);
            match recovery.link {
                Some(link) => self.links[link].send(order),
                None => {
                    recovery.survey.unresolved.insert(global.log_name());
                    recovery.stage = Stage::Resolve(n + 1);
                }
            }
            return true;
        };
        match self.recovery_hears(link) {
            Heard::Nothing => return false,
            Heard::Reply(Reply::Done | Reply::Gone) => {}
            Heard::Reply(_) | Heard::Lost => drop(recovery.survey.unresolved.insert(global.log_name())),
        }
        self.hang_up(link);
        recovery.link = None;
        recovery.stage = Stage::Resolve(n + 1);
        true
    }

    /// The verdict, with others acting between one look and the next.
    fn recovery_judges(&mut self, global: GlobalTransaction) -> Verdict {
        let name = global.log_name();
        let logged = |world: &World| world.visible_rows().iter().any(|row| row.gid == name);
        let known = match self.flaw {
            Some(Flaw::LogBeforeProgress) => {
                let known = logged(self);
                self.others_act();
                Some(known)
            }
            _ => None,
        };
        let in_progress = self.is_in_progress(global) && self.flaw != Some(Flaw::IgnoreProgress);
        let verdict = verdict::<()>(in_progress, || {
            self.others_act();
            Ok(known.unwrap_or_else(|| logged(self)))
        });
        verdict.unwrap_or(Verdict::Leave)
    }

    fn others_act(&mut self) {
        if self.looking == 0 {
            self.looking += 1;
            for _ in 0..self.random.below(6) {
                self.pass();
            }
            self.looking -= 1;
        }
    }

    fn recovery_hears(&mut self, link: usize) -> Heard {
        let place = &mut self.links[link];
        if place.stalled_until > self.now {
            return Heard::Nothing;
        }
        match place.replies.pop_front() {
            Some(reply) => Heard::Reply(reply),
            None if place.broken => Heard::Lost,
            None => Heard::Nothing,
        }
    }
}
