//! Segments: the parts of the rows that are compared on their own beside the whole.

use std::collections::HashSet;

use super::Model;
use crate::count::{CategoryCounts, CpuCounter};
use crate::snapshot::{ColumnType, Condition, Slice, Snapshot, Test};
use driftsweep_common::error::{Error, Result};

/// Values of a column that get a segment of their own: the most frequent ones.
const MOST_SEGMENTS: usize = 50;

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
            let has_values = |kind: &ColumnType| match kind {
                ColumnType::Numeric(domain) => !domain.is_float(),
                kind => matches!(kind, ColumnType::Text | ColumnType::Boolean),
            };
            let Some(found) = found.reading(has_values) else {
                return Err(Error::BadValue {
                    what: format!("slice_by '{column}'"),
                    reason: format!(
                        "{} has no values to slice by; only strings, booleans and integers do",
                        found.kind.name()
                    ),
                });
            };
            let (categories, _) = baseline.categories(&CpuCounter, found, CategoryCounts::DEFAULT_LIMIT, None)?;
            let mut values = categories.counts;
            values.sort_by(|(name, count), (other, others)| others.cmp(count).then_with(|| name.cmp(other)));
            for (value, _) in values.into_iter().take(MOST_SEGMENTS) {
                let test = Test::Among(vec![value.to_string()]);
                segments.push((format!("{column}={value}"), Slice(vec![Condition { column: column.clone(), test }])));
            }
        }
        let mut names = HashSet::new();
        match segments.iter().find(|(name, _)| !names.insert(name)) {
            Some((twice, _)) => Err(Error::BadValue {
                what: format!("segment '{twice}'"),
                reason: "there are two of this name; rename the one with conditions".into(),
            }),
            None => Ok(segments),
        }
    }

    /// Whether these are segments that the model asks for: all of those with conditions, each as it is now, and others
    /// by the columns it is sliced by only.
    pub(crate) fn has_segments<'s>(&self, mut segments: impl Iterator<Item = (&'s str, &'s Slice)>) -> bool {
        let mut named = 0;
        let mut sliced = HashSet::new();
        let known = segments.all(|(name, slice)| match self.segments.iter().find(|(known, _)| known == name) {
            Some((_, wanted)) => {
                named += 1;
                wanted == slice
            }
            None => match slice.0.as_slice() {
                [Condition { column, test: Test::Among(_) }] if self.slice_by.contains(column) => {
                    sliced.insert(column.clone());
                    true
                }
                _ => false,
            },
        });
        known && named == self.segments.len() && sliced.len() == self.slice_by.len()
    }
}
