//! Plans taken apart once: what a scan needs of its plan each time it begins, kept between executions.
//!
//! A plan node holds bytes ([`RemotePlan`]); a prepared statement runs the same ones thousands of times. They are
//! kept by what they say, not by where they lie, so nothing has to be told when a plan is dropped.
//!
//! ```text
//! bytes -> KeptPlan { plan, text per shard: "SELECT v FROM sharding_shards.t_7 WHERE id = $1", hash }
//! ```

use crate::catalog::{ClusterMap, ShardIndex};
use crate::cheap_hash::CheapMap;
use crate::error::Result;
use crate::pg::settings::Settings;
use crate::plan::remote::RemotePlan;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// So many plans are kept; then all are forgotten.
const CAPACITY: usize = 1024;

thread_local! {
    static KEPT: RefCell<CheapMap<u64, Rc<KeptPlan>>> = RefCell::default();
}

/// A statement's text as it goes to a node.
pub struct Text {
    pub sql: String,
    /// The name under which it is prepared, as of the settings with this hash.
    keep: Option<(u64, u64)>,
}

impl Text {
    /// The name under which the statement is kept prepared: its text, its types, and the settings under which its
    /// constants are read. The server's start is the seed: nobody can make up texts that collide.
    pub fn keep(&self) -> Option<u64> {
        self.keep.map(|(_, hash)| hash)
    }
}

/// A plan and the texts that were made of it.
pub struct KeptPlan {
    bytes: Box<[u8]>,
    plan: RemotePlan,
    texts: RefCell<Texts>,
}

/// Texts by shard, as long as the cluster is the same.
#[derive(Default)]
struct Texts {
    map: Weak<ClusterMap>,
    by_shard: Vec<Option<Rc<Text>>>,
    of_parents: Option<Rc<Text>>,
    of_many: Option<Rc<Text>>,
}

impl Deref for KeptPlan {
    type Target = RemotePlan;

    fn deref(&self) -> &RemotePlan {
        &self.plan
    }
}

impl KeptPlan {
    /// The plan in these bytes.
    pub fn of(bytes: &[u8]) -> Result<Rc<KeptPlan>> {
        let hash = xxh3_64(bytes);
        let known = KEPT.with_borrow(|kept| kept.get(&hash).filter(|plan| *plan.bytes == *bytes).cloned());
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = RemotePlan::decode(bytes)?;
        let kept = Rc::new(KeptPlan { bytes: bytes.into(), plan, texts: RefCell::default() });
        KEPT.with_borrow_mut(|all| {
            if all.len() >= CAPACITY {
                all.clear();
            }
            all.insert(hash, kept.clone());
        });
        Ok(kept)
    }

    /// The statement for these shards: addressed to the one, or to the parents.
    pub fn text(&self, map: &Rc<ClusterMap>, shards: Option<&[ShardIndex]>) -> Rc<Text> {
        match (shards, &self.plan.shard_sql) {
            (Some([shard]), Some(sql)) => {
                let name = |table| map.shard_name(table, *shard).unwrap_or_default();
                self.kept(map, |texts| texts.of_shard(*shard), || sql.text(name))
            }
            _ => self.kept(map, |texts| &mut texts.of_parents, || self.plan.sql.clone()),
        }
    }

    /// The statement for a long list of keys.
    pub fn text_of_many(&self, map: &Rc<ClusterMap>) -> Rc<Text> {
        let sql = self.plan.many_sql.as_ref().unwrap_or(&self.plan.sql);
        self.kept(map, |texts| &mut texts.of_many, || sql.clone())
    }

    /// The text in a place, made anew if it is not there or has another name by now.
    fn kept(
        &self,
        map: &Rc<ClusterMap>,
        place: impl FnOnce(&mut Texts) -> &mut Option<Rc<Text>>,
        make: impl FnOnce() -> String,
    ) -> Rc<Text> {
        let reading = if self.plan.keep.is_some() { Settings::current().reading_hash() } else { 0 };
        let mut texts = self.texts.borrow_mut();
        if texts.map.as_ptr() != Rc::as_ptr(map) {
            *texts = Texts { map: Rc::downgrade(map), ..Texts::default() };
        }
        let place = place(&mut texts);
        match place {
            Some(text) if text.keep.is_none_or(|(of, _)| of == reading) => text.clone(),
            _ => place.insert(Rc::new(self.named(make(), reading))).clone(),
        }
    }

    fn named(&self, sql: String, reading: u64) -> Text {
        // SAFETY: set when the server starts.
        let seed = unsafe { pg_sys::PgStartTime } as u64;
        let keep = self.plan.keep.map(|types| (reading, xxh3_64_with_seed(sql.as_bytes(), seed ^ types ^ reading)));
        Text { sql, keep }
    }
}

impl Texts {
    fn of_shard(&mut self, shard: ShardIndex) -> &mut Option<Rc<Text>> {
        let index = shard.0 as usize;
        if self.by_shard.len() <= index {
            self.by_shard.resize_with(index + 1, || None);
        }
        &mut self.by_shard[index]
    }
}
