//! The table under many actors: one by one in any order with deaths in between, and all at once.

use crate::pool::pools::PoolKey;
use crate::pool::slot::{Owner, Slot, State};
use crate::pool::stuck::is_stuck;
use crate::pool::table::{Claim, Exclusive, GivenBack, Memory, Table, Wish};
use crate::pool::turn::{LEASES, Turn};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// Gives a connection back as a backend does.
fn give_back(all: &Exclusive, slot: usize, me: Owner, limit: u32) -> GivenBack {
    let given_back = all.0.give_back(slot, me);
    if let GivenBack::SomeoneWaits { bound } = given_back {
        all.pass_on(slot, bound, limit, |_| ());
    }
    given_back
}

fn key(node: u32) -> PoolKey {
    PoolKey { database: 1, node, mapping: 1, outside: false, family: 1, fingerprint: u128::from(node) << 64 | 5 }
}

fn alone(owner: Owner) -> Wish {
    Wish { owner, alone: true, again: None, turn: None, latch: 0 }
}

#[test]
fn a_pool_is_known_by_all_of_its_key() {
    let memory = Memory::new(2, 2, 2);
    let all = memory.table().exclusive();
    let n1 = all.pool_for(&key(1)).unwrap();
    assert_eq!(all.pool_for(&key(1)), Some(n1));
    let other = PoolKey { fingerprint: 6, ..key(1) };
    let n2 = all.pool_for(&other).unwrap();
    assert_ne!(n1, n2);
    // Both are empty: a third one takes the place of one; once it is in use, it does not.
    assert!(matches!(all.claim(n1, alone(Owner(1)), 1, |_| ()), Claim::Open(_)));
    assert_eq!(all.pool_for(&key(3)), Some(n2));
    assert!(matches!(all.claim(n2, alone(Owner(2)), 1, |_| ()), Claim::Open(_)));
    assert_eq!(all.pool_for(&key(4)), None);
}

#[test]
fn an_idle_connection_of_another_pool_makes_room() {
    let memory = Memory::new(1, 2, 2);
    let table = memory.table();
    let all = table.exclusive();
    let (n1, n2) = (all.pool_for(&key(1)).unwrap(), {
        let Claim::Open(0) = all.claim(0, alone(Owner(1)), 1, |_| ()) else { panic!() };
        all.pool_for(&key(2)).unwrap()
    });
    assert!(table.opened(0, table.slots[0].word().generation, Owner(1)));
    assert_eq!(table.give_back(0, Owner(1)), GivenBack::Idle);
    let Claim::Wait(place) = all.claim(n2, alone(Owner(2)), 1, |_| ()) else { panic!() };
    let word = table.slots[0].word();
    assert_eq!(word.state, State::Broken);
    assert!(all.retire(0, word));
    all.dispatch(1, |_| ());
    assert_eq!(table.granted(place), Some(Claim::Open(0)));
    assert!(!table.lease_again(0, word.generation, Owner(1)), "it is another connection");
    assert_eq!(table.open_in(n1), 0);
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Ask { actor: usize, node: usize },
    GiveBack(usize),
    Break(usize),
    Opened(usize),
    OpenFails(usize),
    Withdraw(usize),
    Die(usize),
    Doom(usize),
    Work,
}

fn any_act(actors: usize, nodes: usize, slots: usize) -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..actors, 0..nodes).prop_map(|(actor, node)| Act::Ask { actor, node }),
        5 => (0..actors).prop_map(Act::GiveBack),
        1 => (0..actors).prop_map(Act::Break),
        4 => (0..actors).prop_map(Act::Opened),
        1 => (0..actors).prop_map(Act::OpenFails),
        1 => (0..actors).prop_map(Act::Withdraw),
        1 => (0..actors).prop_map(Act::Die),
        1 => (0..slots).prop_map(Act::Doom),
        4 => Just(Act::Work),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Nothing,
    Using(usize),
    Opening(usize),
    Waiting(usize),
}

struct World<'a> {
    table: Table<'a>,
    limit: u32,
    doing: Vec<Doing>,
    /// Who waits, per pool, in order.
    queues: Vec<VecDeque<usize>>,
    /// Process ids go up: an actor that dies comes back as somebody else.
    owners: Vec<Owner>,
    last_owner: u32,
    pool_of: Vec<usize>,
    turns: Vec<Turn>,
    /// No turn ends by time.
    now: Instant,
}

impl World<'_> {
    fn do_claim(&mut self, actor: usize, claim: Claim) {
        self.doing[actor] = match claim {
            Claim::Leased(slot) => Doing::Using(slot),
            Claim::Open(slot) => Doing::Opening(slot),
            Claim::Wait(place) => Doing::Waiting(place),
            Claim::Full => Doing::Nothing,
        };
    }

    fn turn_of(&self, actor: usize) -> u64 {
        let Doing::Waiting(place) = self.doing[actor] else { panic!("{actor} is in no queue") };
        self.table.turn_at(place)
    }

    /// Those who were granted something take it. The queue was served in the order of turns.
    fn collect(&mut self) {
        for pool in 0..self.queues.len() {
            let mut overtaken = false;
            for actor in self.queues[pool].clone() {
                let Doing::Waiting(place) = self.doing[actor] else { panic!("{actor} is in no queue") };
                match self.table.granted(place) {
                    Some(claim) => {
                        assert!(!overtaken, "first in, first out");
                        self.turns[actor].served(self.table.turn_at(place), self.now);
                        self.table.leave(place);
                        self.do_claim(actor, claim);
                        self.queues[pool].retain(|a| *a != actor);
                    }
                    None => overtaken = true,
                }
            }
        }
    }

    fn act(&mut self, act: Act) {
        let table = self.table;
        let all = table.exclusive();
        match act {
            Act::Ask { actor, node } if self.doing[actor] == Doing::Nothing => {
                let Some(pool) = all.pool_for(&key(node as u32 + 1)) else { return };
                let wish = Wish { turn: self.turns[actor].number(self.now), ..alone(self.owners[actor]) };
                let claim = all.claim(pool, wish, self.limit, |_| ());
                self.pool_of[actor] = pool;
                self.do_claim(actor, claim);
                if let Claim::Wait(_) = claim {
                    let turn = self.turn_of(actor);
                    let before = self.queues[pool].iter().filter(|other| self.turn_of(**other) < turn).count();
                    self.queues[pool].insert(before, actor);
                }
            }
            Act::GiveBack(actor) => {
                let Doing::Using(slot) = self.doing[actor] else { return };
                self.doing[actor] = Doing::Nothing;
                assert_ne!(give_back(&all, slot, self.owners[actor], self.limit), GivenBack::NotYours);
            }
            Act::Break(actor) => {
                let Doing::Using(slot) = self.doing[actor] else { return };
                self.doing[actor] = Doing::Nothing;
                assert!(table.break_off(slot, self.owners[actor]));
            }
            Act::Opened(actor) => {
                let Doing::Opening(slot) = self.doing[actor] else { return };
                let generation = table.slots[slot].word().generation;
                assert!(table.opened(slot, generation, self.owners[actor]));
                self.doing[actor] = Doing::Using(slot);
            }
            Act::OpenFails(actor) => {
                let Doing::Opening(slot) = self.doing[actor] else { return };
                assert!(all.retire(slot, table.slots[slot].word()));
                self.doing[actor] = Doing::Nothing;
                all.dispatch(self.limit, |_| ());
            }
            Act::Withdraw(actor) => {
                let Doing::Waiting(place) = self.doing[actor] else { return };
                self.doing[actor] = Doing::Nothing;
                self.queues[self.pool_of[actor]].retain(|a| *a != actor);
                all.withdraw(place, self.limit, |_| ());
            }
            Act::Die(actor) => {
                for queue in &mut self.queues {
                    queue.retain(|a| *a != actor);
                }
                all.bury(self.owners[actor], self.limit, |_| ());
                self.last_owner += 1;
                self.owners[actor] = Owner(self.last_owner);
                self.turns[actor] = Turn::NONE;
                self.doing[actor] = Doing::Nothing;
            }
            Act::Doom(slot) => {
                table.doom(slot);
            }
            Act::Work => {
                for (slot, place) in table.slots.iter().enumerate() {
                    let word = place.word();
                    if word.state == State::Broken {
                        assert!(all.retire(slot, word));
                    }
                }
                all.dispatch(self.limit, |_| ());
            }
            Act::Ask { .. } => {}
        }
        self.collect();
    }

    fn check(&self) {
        let mut open = vec![0; self.queues.len()];
        for slot in self.table.slots {
            if slot.word().state != State::Free {
                open[slot.pool.load(Ordering::Relaxed) as usize] += 1;
            }
        }
        for (pool, open) in open.iter().enumerate() {
            assert_eq!(self.table.open_in(pool), *open, "connections of pool {pool}");
            assert!(*open <= self.limit, "limit of pool {pool}");
            assert_eq!(self.table.pools[pool].waiting() as usize, self.queues[pool].len());
        }
        for (actor, doing) in self.doing.iter().enumerate() {
            let state = match doing {
                Doing::Using(slot) => (self.table.slots[*slot].word().state, State::Leased(self.owners[actor])),
                Doing::Opening(slot) => (self.table.slots[*slot].word().state, State::Opening(self.owners[actor])),
                _ => continue,
            };
            assert_eq!(state.0, state.1, "actor {actor}");
        }
        let owned = self.table.slots.iter().filter(|slot| slot.word().owner().is_some()).count();
        let busy = self.doing.iter().filter(|d| matches!(d, Doing::Using(_) | Doing::Opening(_))).count();
        assert_eq!(owned, busy, "a slot is leaked");
    }

    /// Nobody waits for what is there.
    fn check_nobody_waits_in_vain(&self) {
        let free = self.table.slots.iter().any(|slot| slot.word().state == State::Free);
        for (pool, queue) in self.queues.iter().enumerate().filter(|(_, queue)| !queue.is_empty()) {
            let idle = self
                .table
                .slots
                .iter()
                .any(|slot| slot.word().state == State::Idle && slot.pool.load(Ordering::Relaxed) as usize == pool);
            assert!(!idle, "{queue:?} wait beside an idle connection");
            assert!(!free || self.table.open_in(pool) == self.limit, "{queue:?} wait below the limit");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_is_leaked_shared_exceeded_or_lost(
        acts in proptest::collection::vec(any_act(7, 3, 5), 1..200),
        limit in 1..4u32,
        slots in 1..6usize,
        places in 2..8usize,
    ) {
        let memory = Memory::new(slots, 3, places);
        let mut world = World {
            table: memory.table(),
            limit,
            doing: vec![Doing::Nothing; 7],
            queues: vec![VecDeque::new(); 3],
            owners: (1..=7).map(Owner).collect(),
            last_owner: 7,
            pool_of: vec![0; 7],
            turns: vec![Turn::NONE; 7],
            now: Instant::now(),
        };
        for act in acts {
            let act = match act {
                Act::Doom(slot) => Act::Doom(slot % slots),
                other => other,
            };
            world.act(act);
            world.check();
            if matches!(act, Act::Work) {
                world.check_nobody_waits_in_vain();
            }
        }
        // Everybody goes on until nobody has anything: nobody waits for ever.
        for _ in 0..50 {
            for actor in 0..7 {
                world.act(Act::Opened(actor));
                world.act(Act::GiveBack(actor));
            }
            world.act(Act::Work);
            world.check();
        }
        prop_assert!(world.doing.iter().all(|doing| *doing == Doing::Nothing), "{:?}", world.doing);
    }
}

/// A transaction that uses nodes one after the other, or a statement on one of them.
#[derive(Clone, Debug)]
struct Work {
    nodes: Vec<usize>,
    alone: bool,
    /// It takes what further connections it can get.
    greedy: bool,
}

fn any_work() -> impl Strategy<Value = Work> {
    (Just((0..3usize).collect::<Vec<_>>()).prop_shuffle(), 1..4usize, any::<bool>(), any::<bool>()).prop_map(
        |(mut nodes, count, alone, greedy)| {
            nodes.truncate(if alone { 1 } else { count });
            Work { nodes, alone, greedy: greedy && !alone }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// Whatever order transactions take nodes in, and whoever acts next, all of them finish.
    #[test]
    fn transactions_over_several_nodes_never_wait_in_a_circle(
        works in proptest::collection::vec(any_work(), 1..10),
        turns in proptest::collection::vec(0..10usize, 0..300),
        limit in 1..9u32,
    ) {
        let memory = Memory::new(24, 3, 10);
        let table = memory.table();
        let all = table.exclusive();
        for node in 0..3 {
            // All pools are there from the start.
            let pool = all.pool_for(&key(node + 1)).unwrap();
            let Claim::Open(slot) = all.claim(pool, alone(Owner(99)), limit, |_| ()) else { panic!() };
            table.opened(slot, table.slots[slot].word().generation, Owner(99));
            table.give_back(slot, Owner(99));
        }
        let mut left: Vec<Vec<usize>> = works.iter().map(|work| work.nodes.clone()).collect();
        let mut held: Vec<Vec<usize>> = vec![Vec::new(); works.len()];
        let mut waiting: Vec<Option<usize>> = vec![None; works.len()];
        let endless = (0..10_000).map(|n| n % works.len());
        for actor in turns.into_iter().map(|n| n % works.len()).chain(endless) {
            let me = Owner(actor as u32 + 1);
            let claim = match waiting[actor] {
                Some(place) => match table.granted(place) {
                    Some(claim) => {
                        table.leave(place);
                        waiting[actor] = None;
                        claim
                    }
                    None => {
                        let (waits, holds) = all.waits_and_holds();
                        prop_assert!(!is_stuck(me, &waits, &holds, |pool| all.has_spare(pool, limit)));
                        continue;
                    }
                },
                None => match left[actor].pop() {
                    Some(node) => {
                        let pool = all.find_pool(&key(node as u32 + 1)).unwrap();
                        let wish = Wish { owner: me, alone: works[actor].alone, again: None, turn: None, latch: 0 };
                        all.claim(pool, wish, limit, |_| ())
                    }
                    None => {
                        for slot in std::mem::take(&mut held[actor]) {
                            give_back(&all, slot, me, limit);
                        }
                        continue;
                    }
                },
            };
            let slot = match claim {
                Claim::Leased(slot) => slot,
                Claim::Open(slot) => {
                    prop_assert!(table.opened(slot, table.slots[slot].word().generation, me));
                    slot
                }
                Claim::Wait(place) => {
                    waiting[actor] = Some(place);
                    continue;
                }
                Claim::Full => return Err(TestCaseError::fail("there is a place for everybody")),
            };
            held[actor].push(slot);
            let pool = table.slots[slot].pool.load(Ordering::Relaxed) as usize;
            let held_of = |pool: usize| {
                let is_held = |slot: &&Slot| slot.word().owner().is_some() && slot.pool.load(Ordering::Relaxed) as usize == pool;
                table.slots.iter().filter(is_held).count() as u32
            };
            while works[actor].greedy
                && let Some(claim) = all.claim_beside(pool, Wish { alone: false, ..alone(me) }, limit)
            {
                let (Claim::Leased(slot) | Claim::Open(slot)) = claim else { panic!("{claim:?} is not at once") };
                if let Claim::Open(slot) = claim {
                    prop_assert!(table.opened(slot, table.slots[slot].word().generation, me));
                }
                held[actor].push(slot);
                prop_assert!(held_of(pool) * 2 <= limit, "half of the pool is left to others");
            }
        }
        prop_assert!(waiting.iter().all(Option::is_none), "{waiting:?} with {held:?}");
        prop_assert!(left.iter().chain(&held).all(Vec::is_empty));
        prop_assert!(table.slots.iter().all(|slot| slot.word().owner().is_none()));
    }
}

proptest! {
    /// However often others come back: each of them is served before somebody who waits for one turn at most.
    #[test]
    fn nobody_is_passed_by_more_than_a_turn(
        acts in proptest::collection::vec((0..6usize, any::<bool>()), 1..600),
        limit in 1..3u32,
    ) {
        let memory = Memory::new(3, 1, 6);
        let (table, all) = (memory.table(), memory.table().exclusive());
        let pool = all.pool_for(&key(1)).unwrap();
        let now = Instant::now();
        let mut turns = [Turn::NONE; 6];
        let mut doing = [Doing::Nothing; 6];
        // How often one was served while another one waited.
        let mut passed: HashMap<(usize, usize), u32> = HashMap::new();
        // What has come back and is not yet passed on.
        let mut loose: Vec<usize> = Vec::new();
        for (actor, late) in acts {
            if !late {
                for slot in loose.drain(..) {
                    all.pass_on(slot, false, limit, |_| ());
                }
            }
            let me = Owner(actor as u32 + 1);
            let claim = match doing[actor] {
                Doing::Nothing => {
                    let wish = Wish { turn: turns[actor].number(now), ..alone(me) };
                    Some(all.claim(pool, wish, limit, |_| ()))
                }
                Doing::Using(slot) => {
                    if table.give_back(slot, me) != GivenBack::Idle {
                        loose.push(slot);
                    }
                    doing[actor] = Doing::Nothing;
                    None
                }
                Doing::Waiting(_) | Doing::Opening(_) => None,
            };
            match claim {
                Some(Claim::Open(slot)) => {
                    prop_assert!(table.opened(slot, table.slots[slot].word().generation, me));
                    doing[actor] = Doing::Using(slot);
                }
                Some(Claim::Leased(slot)) => doing[actor] = Doing::Using(slot),
                Some(Claim::Wait(place)) => {
                    passed.retain(|(waiting, _), _| *waiting != actor);
                    doing[actor] = Doing::Waiting(place);
                }
                Some(Claim::Full) => prop_assert!(false, "there is a place for everybody"),
                None => {}
            }
            for served in 0..6 {
                let Doing::Waiting(place) = doing[served] else { continue };
                let Some(claim) = table.granted(place) else { continue };
                turns[served].served(table.turn_at(place), now);
                table.leave(place);
                let Claim::Leased(slot) = claim else { panic!("{claim:?} below the limit") };
                doing[served] = Doing::Using(slot);
                for (waiting, doing) in doing.iter().enumerate() {
                    if matches!(*doing, Doing::Waiting(place) if table.granted(place).is_none()) {
                        let count = passed.entry((waiting, served)).or_default();
                        *count += 1;
                        prop_assert!(*count <= LEASES, "{served} was served {count} times while {waiting} waited");
                    }
                }
            }
        }
    }
}

/// Threads for processes: each leases, looks whether it is alone, and gives back.
#[test]
fn many_at_once_share_few_connections() {
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 3000;
    const SLOTS: usize = 3;
    let memory = Memory::new(SLOTS, 1, THREADS as usize);
    let lock = Mutex::new(());
    let users: Arc<Vec<AtomicU32>> = Arc::new((0..SLOTS).map(|_| AtomicU32::new(0)).collect());
    let done = AtomicU64::new(0);
    let pool = memory.table().exclusive().pool_for(&key(1)).unwrap();
    thread::scope(|scope| {
        for n in 1..=THREADS {
            let (memory, lock, users, done) = (&memory, &lock, &users, &done);
            scope.spawn(move || {
                let (table, me) = (memory.table(), Owner(n));
                let mut last = None;
                for _ in 0..ROUNDS {
                    let again = last.filter(|(slot, generation)| table.lease_again(*slot, *generation, me));
                    let slot = match again {
                        Some((slot, _)) => slot,
                        None => {
                            let claim = {
                                let _held = lock.lock().unwrap();
                                table.exclusive().claim(pool, alone(me), SLOTS as u32, |_| ())
                            };
                            let claim = match claim {
                                Claim::Wait(place) => loop {
                                    if let Some(claim) = table.granted(place) {
                                        table.leave(place);
                                        break claim;
                                    }
                                    thread::yield_now();
                                },
                                claim => claim,
                            };
                            match claim {
                                Claim::Leased(slot) => slot,
                                Claim::Open(slot) => {
                                    assert!(table.opened(slot, table.slots[slot].word().generation, me));
                                    slot
                                }
                                other => panic!("{other:?}"),
                            }
                        }
                    };
                    assert_eq!(users[slot].fetch_add(1, Ordering::SeqCst), 0, "two owners");
                    last = Some((slot, table.slots[slot].word().generation));
                    users[slot].fetch_sub(1, Ordering::SeqCst);
                    if let GivenBack::SomeoneWaits { bound } = table.give_back(slot, me) {
                        let _held = lock.lock().unwrap();
                        table.exclusive().pass_on(slot, bound, SLOTS as u32, |_| ());
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), u64::from(THREADS * ROUNDS));
    assert!(memory.table().slots.iter().all(|slot| slot.word().owner().is_none()));
}
