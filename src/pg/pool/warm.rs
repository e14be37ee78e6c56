//! Which connections are kept although nobody uses them: `sharding.pool_min_size` of each pool that was used.
//!
//! A worker cannot read catalogs. So it remembers how a backend had it connect, and does the same again when too few
//! are left. What it remembers is void when a backend says so (`Pool::warm`: the server or the mapping was altered, the
//! node removed), and when the pool was not used for as long as a connection lives: nobody else might ever.

use crate::pg::pool::settings;
use crate::pg::pool::shared::now;
use crate::pool::message::Opening;
use crate::pool::pools::PoolKey;
use crate::pool::table::Table;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a node is left alone that could not be reached, in microseconds: nobody waits for the connection.
const PAUSE: i64 = 10_000_000;

/// How to connect once more.
struct Recipe {
    key: PoolKey,
    opening: Opening,
    used: Instant,
}

/// By pool.
#[derive(Default)]
pub struct Recipes(HashMap<usize, Recipe>);

impl Recipes {
    /// A backend had this worker connect like this, with success.
    pub fn learn(&mut self, pool: usize, key: PoolKey, opening: &Opening) {
        self.0.insert(pool, Recipe { key, opening: opening.clone(), used: Instant::now() });
    }

    /// A connection of this pool is in use.
    pub fn used(&mut self, pool: usize, now: Instant) {
        if let Some(recipe) = self.0.get_mut(&pool) {
            recipe.used = now;
        }
    }

    /// How many connections of a pool are kept.
    pub fn least(&self, table: Table, pool: usize) -> u32 {
        let warm = self.0.get(&pool).is_some_and(|recipe| is_valid(recipe, table, pool));
        if warm { settings::min_size().min(settings::size()) } else { 0 }
    }

    /// The pools that may lack connections, and how to connect. Forgets what is void.
    pub fn due(&mut self, table: Table) -> Vec<(usize, Opening)> {
        let lifetime = settings::lifetime().unwrap_or(Duration::MAX);
        self.0.retain(|pool, recipe| is_valid(recipe, table, *pool) && recipe.used.elapsed() <= lifetime);
        if settings::min_size() == 0 {
            return Vec::new();
        }
        let reachable = |pool: usize| {
            let since = now().saturating_sub(table.pools[pool].failed_at.load(Ordering::Relaxed));
            table.pools[pool].failures.load(Ordering::Relaxed) == 0 || since >= PAUSE
        };
        let due = self.0.iter().filter(|(pool, _)| table.open_in(**pool) < settings::min_size() && reachable(**pool));
        due.map(|(pool, recipe)| (*pool, recipe.opening.clone())).collect()
    }
}

fn is_valid(recipe: &Recipe, table: Table, pool: usize) -> bool {
    table.pools[pool].warm.load(Ordering::SeqCst) && table.pools[pool].key() == recipe.key
}
