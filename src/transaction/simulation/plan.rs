//! What a seed stands for: how large the world is, and which faults happen when.

use super::random::Random;

/// What goes wrong. Numbers choose among what there is at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The coordinator's server, for so many steps.
    CoordinatorCrashes { steps: usize },
    /// One node, for so many steps.
    NodeCrashes { node: usize, steps: usize },
    /// A connection breaks: what was under way arrives in part, or not, or later.
    Cut(usize),
    /// A connection delivers nothing for so many steps.
    Stall { link: usize, steps: usize },
    /// The next message on a connection arrives twice.
    Repeat(usize),
    /// The local transaction fails: a cancel, a constraint at commit.
    Fails(usize),
    /// The backend is gone, and has done nothing about it.
    Dies(usize),
    /// The backend waits no longer for who has not answered.
    GivesUp(usize),
    /// A node refuses the next PREPARE.
    Refuses(usize),
    /// Somebody calls recovery.
    Recovery,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub clients: usize,
    /// Transactions that begin before the world is brought to rest.
    pub transactions: usize,
    /// Steps at which faults happen, in order.
    pub faults: Vec<(usize, Fault)>,
}

const STEPS: usize = 160;

impl Plan {
    pub fn of_seed(seed: u64) -> Plan {
        let mut random = Random::new(seed, 1);
        let count = random.below(7);
        let mut faults: Vec<(usize, Fault)> =
            (0..count).map(|_| (random.below(STEPS), any_fault(&mut random))).collect();
        faults.sort_by_key(|(at, _)| *at);
        Plan {
            seed,
            nodes: 2 + random.below(2),
            clients: 1 + random.below(3),
            transactions: 1 + random.below(4),
            faults,
        }
    }

    /// Plans that are a little less than this one.
    pub fn smaller(&self) -> Vec<Plan> {
        let mut plans: Vec<Plan> = (0..self.faults.len())
            .map(|i| {
                let mut plan = self.clone();
                plan.faults.remove(i);
                plan
            })
            .collect();
        if self.transactions > 1 {
            plans.push(Plan { transactions: self.transactions - 1, ..self.clone() });
        }
        if self.clients > 1 {
            plans.push(Plan { clients: self.clients - 1, ..self.clone() });
        }
        plans
    }
}

fn any_fault(random: &mut Random) -> Fault {
    let any = random.below(1000);
    let steps = 1 + random.below(60);
    match random.below(14) {
        0 | 1 => Fault::CoordinatorCrashes { steps },
        2 | 3 => Fault::NodeCrashes { node: any, steps },
        4 | 5 => Fault::Cut(any),
        6 => Fault::Stall { link: any, steps },
        7 => Fault::Repeat(any),
        8 => Fault::Fails(any),
        9 => Fault::Dies(any),
        10 => Fault::GivesUp(any),
        11 => Fault::Refuses(any),
        _ => Fault::Recovery,
    }
}
