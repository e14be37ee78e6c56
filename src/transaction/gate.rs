//! The gate between readers of several nodes and second phases of commits.
//!
//! Any number of readers may be inside at once, or any number of commits, never both: a reader takes the
//! snapshots of all its nodes while no commit is half done, and so sees each on all nodes or on none. The
//! groups take turns: who comes while the other group waits has to wait too, and when the last one leaves,
//! all who wait in the other group go in together. So nobody waits for more than one turn of the others.
//!
//! ```
//! use sharding::transaction::gate::{Entry, Gate, Group};
//! let mut gate = Gate::default();
//! assert_eq!(gate.enter(Group::Reader), Entry::Inside);
//! let Entry::Queued(ticket) = gate.enter(Group::Commit) else { unreachable!() };
//! assert!(matches!(gate.enter(Group::Reader), Entry::Queued(_)), "behind the commit");
//! assert!(gate.leave(Group::Reader));       // somebody has to be woken
//! assert!(gate.is_admitted(ticket));
//! ```

/// Who passes the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Takes snapshots on several nodes.
    Reader,
    /// Makes a commit visible on several nodes.
    Commit,
}

impl Group {
    fn other(self) -> Group {
        match self {
            Group::Reader => Group::Commit,
            Group::Commit => Group::Reader,
        }
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub group: Group,
    turn: u32,
}

/// What became of somebody who wants to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Inside,
    Queued(Ticket),
}

/// The gate's state. All zeroes is an empty gate.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Gate {
    /// Those inside, all of one group.
    readers: u32,
    commits: u32,
    /// Those who wait, per group.
    waiting: [u32; 2],
    /// How often those who waited were let in, per group.
    turns: [u32; 2],
}

impl Gate {
    fn inside(&mut self, group: Group) -> &mut u32 {
        match group {
            Group::Reader => &mut self.readers,
            Group::Commit => &mut self.commits,
        }
    }

    fn is_free_of(&self, group: Group) -> bool {
        match group {
            Group::Reader => self.readers == 0,
            Group::Commit => self.commits == 0,
        }
    }

    /// Goes in, or queues.
    pub fn enter(&mut self, group: Group) -> Entry {
        let other = group.other();
        if self.is_free_of(other) && self.waiting[other as usize] == 0 {
            *self.inside(group) += 1;
            return Entry::Inside;
        }
        self.waiting[group as usize] += 1;
        Entry::Queued(Ticket { group, turn: self.turns[group as usize] })
    }

    /// Whether who queued with this ticket is inside.
    pub fn is_admitted(&self, ticket: Ticket) -> bool {
        self.turns[ticket.group as usize] != ticket.turn
    }

    /// Somebody of this group, who was inside, leaves; whether others were let in, who have to be woken.
    pub fn leave(&mut self, group: Group) -> bool {
        let inside = self.inside(group);
        *inside = inside.saturating_sub(1);
        self.admit(group.other())
    }

    /// Somebody who queued does not want to wait any more; whether others were let in. If it was let in
    /// meanwhile, it leaves.
    pub fn give_up(&mut self, ticket: Ticket) -> bool {
        if self.is_admitted(ticket) {
            return self.leave(ticket.group);
        }
        let waiting = &mut self.waiting[ticket.group as usize];
        *waiting = waiting.saturating_sub(1);
        self.admit(ticket.group)
    }

    /// Lets in those who may go in, preferably of group `first`; whether there was anybody.
    fn admit(&mut self, first: Group) -> bool {
        for group in [first, first.other()] {
            let waiting = self.waiting[group as usize];
            let turn_is_ours = self.is_free_of(Group::Reader) && self.is_free_of(Group::Commit)
                // Those inside are of the same group, and whom it queued behind has given up.
                || self.is_free_of(group.other()) && self.waiting[group.other() as usize] == 0;
            if waiting > 0 && turn_is_ours {
                self.waiting[group as usize] = 0;
                *self.inside(group) += waiting;
                self.turns[group as usize] = self.turns[group as usize].wrapping_add(1);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GROUPS: [Group; 2] = [Group::Reader, Group::Commit];

    #[derive(Clone, Copy, Debug)]
    enum Member {
        Out,
        Queued(Ticket),
        Inside(Group),
    }

    /// Members who come, go and lose patience in any order.
    struct World {
        gate: Gate,
        members: [Member; 6],
        /// Turns of the other group since the member queued.
        overtaken: [u32; 6],
    }

    impl World {
        fn act(&mut self, member: usize, choice: u8) {
            match self.members[member] {
                Member::Out => {
                    let group = GROUPS[usize::from(choice % 2)];
                    self.overtaken[member] = 0;
                    self.members[member] = match self.gate.enter(group) {
                        Entry::Inside => Member::Inside(group),
                        Entry::Queued(ticket) => Member::Queued(ticket),
                    };
                }
                Member::Queued(ticket) if choice == 0 => {
                    self.members[member] = Member::Out;
                    self.gate.give_up(ticket);
                }
                Member::Queued(_) => {}
                Member::Inside(group) => {
                    self.members[member] = Member::Out;
                    self.gate.leave(group);
                }
            }
            self.notice();
        }

        /// Those who were let in see it.
        fn notice(&mut self) {
            let mut came = [false; 2];
            for member in &mut self.members {
                if let Member::Queued(ticket) = *member
                    && self.gate.is_admitted(ticket)
                {
                    came[ticket.group as usize] = true;
                    *member = Member::Inside(ticket.group);
                }
            }
            for (member, overtaken) in self.members.iter().zip(&mut self.overtaken) {
                if let Member::Queued(ticket) = member
                    && came[ticket.group.other() as usize]
                {
                    *overtaken += 1;
                }
            }
        }

        fn count(&self, group: Group) -> usize {
            self.members.iter().filter(|m| matches!(m, Member::Inside(g) if *g == group)).count()
        }

        fn check(&self) {
            let [readers, commits] = GROUPS.map(|group| self.count(group));
            assert!(readers == 0 || commits == 0, "both inside");
            assert_eq!((self.gate.readers as usize, self.gate.commits as usize), (readers, commits));
            let queued = self.members.iter().any(|m| matches!(m, Member::Queued(_)));
            assert!(!queued || readers + commits > 0, "somebody waits for nobody");
            assert!(self.overtaken.iter().all(|turns| *turns <= 1), "the others had two turns");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_groups_exclude_each_other_and_take_turns(
            steps in proptest::collection::vec((0..6usize, 0..4u8), 1..200),
        ) {
            let mut world = World { gate: Gate::default(), members: [Member::Out; 6], overtaken: [0; 6] };
            for (member, choice) in steps {
                world.act(member, choice);
                world.check();
            }
            // All end what they do, nobody gives up: the gate is empty then.
            for _ in 0..6 {
                for member in 0..6 {
                    if matches!(world.members[member], Member::Inside(_)) {
                        world.act(member, 1);
                        world.check();
                    }
                }
            }
            prop_assert_eq!(world.gate.waiting, [0, 0]);
            prop_assert!(world.members.iter().all(|m| matches!(m, Member::Out)));
        }
    }

    #[test]
    fn who_queued_behind_somebody_without_patience_goes_on() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter(Group::Reader), Entry::Inside);
        let Entry::Queued(commit) = gate.enter(Group::Commit) else { panic!("a reader is inside") };
        let Entry::Queued(reader) = gate.enter(Group::Reader) else { panic!("a commit waits") };
        assert!(gate.give_up(commit));
        assert!(gate.is_admitted(reader));
    }
}
