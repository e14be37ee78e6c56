//! Two-phase commits under faults: the real protocol and the real recovery rules, in a made-up world.
//!
//! A seed makes a [`plan::Plan`]: how many nodes and clients, which faults at which steps. The [`world`] has a coordinator
//! server with a log that reaches the disk at commit, clients with transactions over several nodes, nodes that keep
//! what is prepared over a crash, connections that deliver late, twice or not at all, and recoveries that run beside
//! it all. Whoever acts next is drawn from the seed, too. In the end everything is brought up again,
//! recovery runs, and nothing may be in doubt.
//!
//! ```text
//! SHARDING_SIMULATION_SEEDS=1000000 cargo test --lib simulation                 more seeds than the usual 100,000
//! SHARDING_SIMULATION_SEED=4711 cargo test --lib simulation -- --nocapture      that one, told step by step
//! ```
//!
//! A failing seed is shrunk: faults and transactions are left out as long as it fails. [`flaw`] proves that the
//! simulation sees what it is there for: with a mistake built in, it fails.

mod backend;
mod flaw;
mod link;
mod node;
mod plan;
mod random;
mod recover;
mod world;

use flaw::Flaw;
use plan::Plan;
use world::World;

const SEEDS: u64 = 100_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The smallest plan found that fails as `plan` does: without what can be left out.
fn shrink(mut plan: Plan, flaw: Option<Flaw>) -> Plan {
    loop {
        let smaller = plan.smaller().into_iter().find(|smaller| World::run(smaller, flaw, false).is_err());
        match smaller {
            Some(smaller) => plan = smaller,
            None => return plan,
        }
    }
}

/// Runs the seeds, several at a time; the first that fails, shrunk and told.
fn first_failure(seeds: std::ops::Range<u64>, flaw: Option<Flaw>) -> Option<(u64, Plan, String)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8) as u64;
    let failed = std::sync::atomic::AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (seeds, failed) = (seeds.clone(), &failed);
            scope.spawn(move || {
                for seed in (seeds.start + thread..seeds.end).step_by(threads as usize) {
                    if seed > failed.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    if World::run(&Plan::of_seed(seed), flaw, false).is_err() {
                        failed.fetch_min(seed, std::sync::atomic::Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
    let seed = failed.into_inner();
    if seed == u64::MAX {
        return None;
    }
    let plan = shrink(Plan::of_seed(seed), flaw);
    let story = World::run(&plan, flaw, true).expect_err("it has failed before");
    Some((seed, plan, story))
}

#[test]
fn no_crash_and_no_loss_splits_a_transaction() {
    let seeds = match variable("SHARDING_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SHARDING_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    if seeds.end - seeds.start == 1 {
        let plan = Plan::of_seed(seeds.start);
        match World::run(&plan, None, true) {
            Ok(told) | Err(told) => println!("{plan:?}\n{told}"),
        }
    }
    if let Some((seed, plan, story)) = first_failure(seeds, None) {
        panic!("SHARDING_SIMULATION_SEED={seed} fails\nshrunk to {plan:?}\n{story}");
    }
}

/// The seeds reach what they are there for: commits and rollbacks, in doubt and not, and every kind of fault.
#[test]
fn the_seeds_reach_all_that_matters() {
    let mut seen = world::Seen::default();
    for seed in 0..3_000 {
        seen.add(&World::run_and_look(&Plan::of_seed(seed)));
    }
    let missing = seen.missing();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

#[test]
fn every_flaw_is_caught() {
    for flaw in Flaw::ALL {
        let Some((seed, plan, _)) = first_failure(0..30_000, Some(flaw)) else { panic!("{flaw:?} is not seen") };
        let faults = Plan::of_seed(seed).faults.len();
        println!("{flaw:?}: seed {seed}, {faults} faults shrunk to {}", plan.faults.len());
        assert!(plan.faults.len() <= faults);
        assert!(World::run(&plan, None, false).is_ok(), "{flaw:?} is to blame, not {plan:?}");
    }
}
