//! Random statements over the tables of `schema.sql`, and the run that compares their answers.
//!
//! Statement `n` of a run depends on the seed and on `n` alone, so a failure is repeated by
//!
//! ```text
//! SHARDING_SEED=1 SHARDING_RANDOM_ONLY=417 cargo test -p pg_test --test differential -- random::3
//! ```
//!
//! What is made has one answer: a LIMIT comes with an ORDER BY of all columns, aggregates that
//! depend on order have one, no expression can fail for some rows only, and no float is summed.
//!
//! - `tables`: what the generator knows of the tables.
//! - `expression`: scalar expressions and predicates.
//! - `select`: queries.
//! - `write`: statements that write.

mod expression;
mod select;
mod tables;
mod write;

use super::report::Report;
use super::script::{Expectation, Values};
use super::suite::Suite;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// After that many differences a run stops: more would not be read.
const MOST_DIFFERENCES: usize = 25;

/// One in so many statements is a transaction that writes.
const WRITES: usize = 6;

/// A random statement generator.
pub struct Generator {
    rng: ChaCha8Rng,
    /// Makes aliases unique.
    aliases: usize,
    /// Makes inserted keys unique; starts at the statement's number.
    fresh: i64,
}

/// A query and whether its rows have an order.
pub struct Query {
    pub sql: String,
    pub ordered: bool,
}

impl Generator {
    /// The generator of statement `number` of the run with this seed.
    pub fn new(seed: u64, number: usize) -> Generator {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        Generator { rng, aliases: 0, fresh: 0 }
    }

    /// True one time in `n`.
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn alias(&mut self, prefix: &str) -> String {
        self.aliases += 1;
        format!("{prefix}{}", self.aliases)
    }
}

/// The seed of this run: `SHARDING_SEED`, else 1.
pub fn seed() -> u64 {
    std::env::var("SHARDING_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Compares `count` random statements; the differences name seed and number.
pub fn run(suite: &mut Suite, seed: u64, count: usize) -> Report {
    let mut report = Report::new(&format!("random (seed {seed})"));
    report.differences.append(&mut suite.prepare().differences);
    let only = std::env::var("SHARDING_RANDOM_ONLY").ok().and_then(|text| text.parse().ok());
    let numbers = match only {
        Some(number) => number..number + 1,
        None => 1..count + 1,
    };
    for number in numbers {
        let mut generator = Generator::new(seed, number);
        let label = format!("/* seed {seed}, number {number} */ ");
        let before = report.differences.len();
        let result = if number % WRITES == 0 {
            write_batch(suite, &mut generator, &label, number, &mut report)
        } else {
            let query = generator.query();
            let values = if query.ordered { Values::Ordered } else { Values::Multiset };
            let expectation = Expectation { values, ..Expectation::default() };
            suite.check(&label, &query.sql, expectation, &mut report)
        };
        if let Err(error) = result {
            report.differ(number, &label, format!("given up: {error}"));
            break;
        }
        for difference in &mut report.differences[before..] {
            difference.line = number;
        }
        if report.differences.len() > MOST_DIFFERENCES {
            report.differ(number, &label, "too many differences, stopped");
            break;
        }
    }
    if report.failed > 0 {
        println!("{}: {} writes of {} statements fail alike", report.file, report.failed, report.statements);
    }
    suite.spoil();
    report
}

fn write_batch(
    suite: &mut Suite,
    generator: &mut Generator,
    label: &str,
    number: usize,
    report: &mut Report,
) -> std::io::Result<()> {
    generator.fresh = 1000 + number as i64 * 100;
    let before = report.differences.len();
    for sql in generator.transaction() {
        // A write may fail, e.g. for a key that is there; it must fail the same way.
        suite.check_any(label, &sql, report)?;
    }
    suite.compare_tables(&[], report)?;
    if report.differences.len() > before {
        // Tables that differ would make all that follows differ.
        suite.spoil();
        report.differences.append(&mut suite.prepare().differences);
    }
    Ok(())
}
