//! Segments: the parts of the rows that are compared on their own beside the whole.

use super::Model;
use crate::count::{CategoryCounts, CpuCounter};
use crate::error::Result;
use crate::snapshot::{Condition, Slice, Snapshot, Test};

/// Values of a column that get a segment of their own: the most frequent ones.
pub const MOST_SEGMENTS: usize = 50;

impl Model {
    /// The segments of a baseline, each with its name; first the whole, which has none. Those by the values of a column
    /// are the baseline's most frequent ones: what was never seen in training is for the column itself to tell.
    ///
    /// # Errors
    /// A column that is not there, or cannot be read or sliced by value.
    pub fn segments_in(&self, baseline: &Snapshot) -> Result<Vec<(String, Slice)>> {
        let mut segments = vec![(String::new(), Slice::default())];
        segments.extend(self.segments.iter().cloned());
        for column in &self.slice_by {
            let found = baseline.column(column)?;
            let (categories, _) = baseline.categories(&CpuCounter, found, CategoryCounts::DEFAULT_LIMIT, None)?;
            let mut values = categories.counts;
            values.sort_by(|(name, count), (other, others)| others.cmp(count).then_with(|| name.cmp(other)));
            for (value, _) in values.into_iter().take(MOST_SEGMENTS) {
                let test = Test::Among(vec![value.to_string()]);
                segments.push((format!("{column}={value}"), Slice(vec![Condition { column: column.clone(), test }])));
            }
        }
        Ok(segments)
    }
}
