//! Counting categories.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Counts per category, as a monoid that stays bounded.
///
/// Above `limit` distinct categories only those with the smallest hashes keep a count of their own, and all
/// others are counted together. Which ones are kept depends on the categories alone, not on the order of rows
/// or of merges; every kept count is exact; and what was pooled is reported, never dropped.
#[derive(Clone, Debug)]
pub struct CategoryCounts {
    table: HashTable<Entry>,
    limit: usize,
    /// Categories with a hash at or above this are pooled.
    threshold: Option<u64>,
    pooled: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: u64,
    name: Box<str>,
    count: u64,
}

impl CategoryCounts {
    /// Default number of distinct categories with their own count.
    pub(crate) const DEFAULT_LIMIT: usize = 1 << 20;

    /// Empty, with room for `limit` distinct categories.
    pub fn new(limit: usize) -> Self {
        Self { table: HashTable::new(), limit: limit.max(1), threshold: None, pooled: 0 }
    }

    /// Counts a category `count` more times.
    pub fn add(&mut self, name: &str, count: u64) {
        let hash = xxh3_64(name.as_bytes());
        self.add_hashed(hash, name, count);
    }

    fn add_hashed(&mut self, hash: u64, name: &str, count: u64) {
        if self.threshold.is_some_and(|threshold| hash >= threshold) {
            self.pooled += count;
            return;
        }
        if let Some(entry) = self.table.find_mut(hash, |e| e.hash == hash && &*e.name == name) {
            entry.count += count;
            return;
        }
        self.table.insert_unique(hash, Entry { hash, name: name.into(), count }, |e| e.hash);
        // Twice the limit, so that the cost of pooling is spread over many categories.
        if self.table.len() >= 2 * self.limit {
            self.shrink();
        }
    }

    /// Pools the categories with the largest hashes until the limit holds again.
    fn shrink(&mut self) {
        let mut hashes: Vec<u64> = self.table.iter().map(|e| e.hash).collect();
        let (_, &mut threshold, _) = hashes.select_nth_unstable(self.limit);
        self.pool_from(threshold);
    }

    fn pool_from(&mut self, threshold: u64) {
        self.threshold = Some(self.threshold.map_or(threshold, |t| t.min(threshold)));
        let pooled = &mut self.pooled;
        self.table.retain(|e| {
            let keep = e.hash < threshold;
            if !keep {
                *pooled += e.count;
            }
            keep
        });
    }

    /// Adds another table.
    pub fn merge(mut self, other: Self) -> Self {
        if other.table.len() > self.table.len() {
            return other.merge(self);
        }
        self.limit = self.limit.min(other.limit);
        self.pooled += other.pooled;
        if let Some(threshold) = other.threshold {
            self.pool_from(threshold);
        }
        for entry in other.table {
            self.add_hashed(entry.hash, &entry.name, entry.count);
        }
        self
    }

    /// The counts, sorted by name.
    pub fn finish(mut self) -> Categories {
        if self.table.len() > self.limit {
            self.shrink();
        }
        let mut counts: Vec<(Box<str>, u64)> = self.table.into_iter().map(|e| (e.name, e.count)).collect();
        counts.sort_unstable();
        Categories { counts, pooled: self.pooled, threshold: self.threshold }
    }
}

/// Sorted category counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Categories {
    /// Name and count, sorted by name.
    pub counts: Vec<(Box<str>, u64)>,
    /// Rows of categories beyond the limit, counted together.
    pub pooled: u64,
    /// Hash from which categories were pooled, if any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u64>,
}

impl Categories {
    /// Without the categories that stand for a missing value, and how many rows these have.
    pub fn without(&self, is_missing: impl Fn(&str) -> bool) -> (Self, u64) {
        let (missing, counts): (Vec<_>, Vec<_>) = self.counts.iter().cloned().partition(|(name, _)| is_missing(name));
        (Self { counts, ..self.clone() }, missing.iter().map(|(_, count)| count).sum())
    }

    /// Rows with a category.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum::<u64>() + self.pooled
    }

    /// The counts of both sides over the sorted union of their categories.
    ///
    /// Where either side pooled, both are pooled alike, and the pool is one more category, at the end.
    pub(crate) fn union(&self, other: &Self) -> (Vec<u64>, Vec<u64>) {
        let threshold = match (self.threshold, other.threshold) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let kept = |name: &str| threshold.is_none_or(|t| xxh3_64(name.as_bytes()) < t);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let (mut pool_a, mut pool_b) = (self.pooled, other.pooled);
        let (mut left, mut right) = (self.counts.iter().peekable(), other.counts.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(l), Some(r)) => l.0.cmp(&r.0),
            };
            let l = if order.is_le() { left.next() } else { None };
            let r = if order.is_ge() { right.next() } else { None };
            let counts = (l.map_or(0, |x| x.1), r.map_or(0, |x| x.1));
            let name = l.or(r).map_or("", |x| &*x.0);
            if kept(name) {
                a.push(counts.0);
                b.push(counts.1);
            } else {
                pool_a += counts.0;
                pool_b += counts.1;
            }
        }
        if pool_a + pool_b > 0 {
            a.push(pool_a);
            b.push(pool_b);
        }
        (a, b)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(names: &[String], limit: usize) -> CategoryCounts {
        let mut counts = CategoryCounts::new(limit);
        for name in names {
            counts.add(name, 1);
        }
        counts
    }

    proptest! {
        #[test]
        fn any_order_and_split_gives_the_same_table(
            names in prop::collection::vec("[a-e]{1,3}", 0..200),
            at in 0usize..200,
            limit in 1usize..40,
        ) {
            let whole = counted(&names, limit).finish();
            let at = at.min(names.len());
            let (a, b) = (counted(&names[..at], limit), counted(&names[at..], limit));
            prop_assert_eq!(&a.clone().merge(b.clone()).finish(), &whole);
            prop_assert_eq!(&b.merge(a).finish(), &whole);
            let mut reversed = names.clone();
            reversed.reverse();
            prop_assert_eq!(&counted(&reversed, limit).finish(), &whole);
            prop_assert_eq!(whole.total(), names.len() as u64);
            prop_assert!(whole.counts.len() <= limit);
        }
    }

    #[test]
    fn pooling_is_reported_and_both_sides_pool_alike() {
        let many: Vec<String> = (0..1000).map(|i| format!("c{i}")).collect();
        let a = counted(&many, 100).finish();
        let b = counted(&many, 5000).finish();
        assert_eq!((a.counts.len(), a.pooled), (100, 900));
        let (x, y) = a.union(&b);
        assert_eq!(x, y);
        assert_eq!(x.len(), 101);
    }
}
