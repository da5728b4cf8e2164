//! Sorted runs: distinct keys, each with how often it occurs. The exact inside of a few cells.

/// Distinct keys in ascending order with their counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRuns {
    keys: Vec<u64>,
    counts: Vec<u64>,
}

impl KeyRuns {
    /// The distinct keys.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// How often each occurs.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Rebuilds runs from their parts. `None` if the keys do not ascend or the lengths differ.
    pub fn from_parts(keys: Vec<u64>, counts: Vec<u64>) -> Option<Self> {
        let ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
        (ascending && keys.len() == counts.len()).then_some(Self { keys, counts })
    }

    fn from_unsorted(keys: &mut [u64]) -> Self {
        keys.sort_unstable();
        let mut runs = Self::default();
        for run in keys.chunk_by(|a, b| a == b) {
            runs.keys.push(run[0]);
            runs.counts.push(run.len() as u64);
        }
        runs
    }

    /// Adds the occurrences of both.
    pub fn merge(self, other: Self) -> Self {
        if self.keys.is_empty() || other.keys.is_empty() {
            return if self.keys.is_empty() { other } else { self };
        }
        let mut merged = Self {
            keys: Vec::with_capacity(self.keys.len() + other.keys.len()),
            counts: Vec::with_capacity(self.keys.len() + other.keys.len()),
        };
        let (mut i, mut j) = (0, 0);
        while i < self.keys.len() || j < other.keys.len() {
            let key = match (self.keys.get(i), other.keys.get(j)) {
                (Some(&a), Some(&b)) => a.min(b),
                (Some(&a), None) => a,
                (None, Some(&b)) => b,
                (None, None) => break,
            };
            let mut count = 0;
            if self.keys.get(i) == Some(&key) {
                count += self.counts[i];
                i += 1;
            }
            if other.keys.get(j) == Some(&key) {
                count += other.counts[j];
                j += 1;
            }
            merged.keys.push(key);
            merged.counts.push(count);
        }
        merged
    }
}

/// Gathers keys in any order into runs; memory grows with the distinct keys, not with their number.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    runs: KeyRuns,
    fresh: Vec<u64>,
}

/// The number of unsorted keys from which on they are merged into the runs.
const MERGE_AT: usize = 1 << 16;

impl Collector {
    /// Where new keys are appended.
    pub fn buffer(&mut self) -> &mut Vec<u64> {
        &mut self.fresh
    }

    /// Merges the unsorted keys into the runs once there are as many as there are runs.
    pub fn settle(&mut self) {
        if self.fresh.len() >= MERGE_AT.max(self.runs.keys.len()) {
            self.fold();
        }
    }

    fn fold(&mut self) {
        let fresh = KeyRuns::from_unsorted(&mut self.fresh);
        self.fresh.clear();
        self.runs = std::mem::take(&mut self.runs).merge(fresh);
    }

    /// Adds what another collector gathered.
    pub fn merge(mut self, mut other: Self) -> Self {
        self.fresh.append(&mut other.fresh);
        self.runs = self.runs.merge(other.runs);
        self.settle();
        self
    }

    /// All that was gathered.
    pub fn finish(mut self) -> KeyRuns {
        self.fold();
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_the_same_however_the_keys_were_split(keys in prop::collection::vec(0u64..50, 0..400), at in 0usize..400) {
            let at = at.min(keys.len());
            let gather = |keys: &[u64]| {
                let mut c = Collector::default();
                c.buffer().extend_from_slice(keys);
                c
            };
            let whole = gather(&keys).finish();
            prop_assert_eq!(&gather(&keys[at..]).merge(gather(&keys[..at])).finish(), &whole);
            prop_assert_eq!(gather(&keys[at..]).finish().merge(gather(&keys[..at]).finish()), whole.clone());
            prop_assert_eq!(whole.counts().iter().sum::<u64>(), keys.len() as u64);
            prop_assert!(whole.keys().is_sorted());
        }
    }
}
