//! Columns that several comparisons share are read once.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::count::{Categories, Counter, Tally};
use crate::snapshot::{Column, Decoded, KeyEncoding, NumericColumn, Snapshot};
use driftsweep_common::error::Result;

/// A column of a snapshot, by identity.
type ColumnId = (*const Snapshot, *const Column);

/// A column of the table that a snapshot is, or is part of.
type TableColumnId = (usize, *const Column);

/// Categories of a column with its tally.
type CountedCategories = (Categories, Tally);

/// The columns of a group of comparisons that run one after the other. A column stays as long as planned
/// uses of it are left, so a group holds no more than it needs.
#[derive(Default)]
pub(crate) struct ColumnPool<'a> {
    uses: HashMap<ColumnId, usize>,
    /// Planned uses of a column in any part of its table, and the parts.
    parts: HashMap<TableColumnId, (usize, HashSet<*const Snapshot>)>,
    /// By column, how it is read, and whether moments were taken.
    numeric: HashMap<(ColumnId, KeyEncoding, bool), Rc<NumericColumn<'a>>>,
    /// By column and category limit.
    categories: HashMap<(ColumnId, usize), Rc<CountedCategories>>,
    /// Values decoded for one part of a table that will be used for another; as codes, or as values.
    decoded: HashMap<(TableColumnId, bool), Option<Arc<Decoded>>>,
    /// Columns read so far.
    pub reads: usize,
}

impl<'a> ColumnPool<'a> {
    /// Plans one more use of a column. Columns used without a plan are not kept.
    pub fn plan(&mut self, snapshot: &Snapshot, column: &Column) {
        *self.uses.entry((snapshot, column)).or_default() += 1;
        let (uses, parts) = self.parts.entry((snapshot.table_id(), column)).or_default();
        *uses += 1;
        parts.insert(snapshot);
    }

    /// A numeric column.
    ///
    /// # Errors
    /// Whatever reading it gives.
    pub fn numeric(
        &mut self,
        snapshot: &'a Snapshot,
        column: &'a Column,
        reading: KeyEncoding,
        with_moments: bool,
        hold: usize,
    ) -> Result<Rc<NumericColumn<'a>>> {
        let id: ColumnId = (snapshot, column);
        if let Some(known) = self.numeric.get(&(id, reading, with_moments)) {
            return Ok(known.clone());
        }
        let decoded = self.decoded(snapshot, column, false, hold);
        let read = Rc::new(snapshot.numeric(column, reading, with_moments, hold, decoded)?);
        if self.uses.get(&id).is_some_and(|&left| left > 1) {
            self.numeric.insert((id, reading, with_moments), read.clone());
        }
        Ok(read)
    }

    /// The categories of a column.
    ///
    /// # Errors
    /// Whatever reading it gives.
    pub fn categories(
        &mut self,
        counter: &dyn Counter,
        snapshot: &'a Snapshot,
        column: &'a Column,
        (limit, hold): (usize, usize),
    ) -> Result<Rc<CountedCategories>> {
        let id: ColumnId = (snapshot, column);
        if let Some(known) = self.categories.get(&(id, limit)) {
            return Ok(known.clone());
        }
        let decoded = self.decoded(snapshot, column, true, hold);
        let read = Rc::new(snapshot.categories(counter, column, limit, decoded.as_deref())?);
        if self.uses.get(&id).is_some_and(|&left| left > 1) {
            self.categories.insert((id, limit), read.clone());
        }
        Ok(read)
    }

    /// Decoded values of a column for the other parts of its table, if there are any; counts the read.
    fn decoded(&mut self, snapshot: &Snapshot, column: &Column, codes: bool, hold: usize) -> Option<Arc<Decoded>> {
        let id: TableColumnId = (snapshot.table_id(), column);
        if self.parts.get(&id).is_none_or(|(_, parts)| parts.len() < 2) {
            self.reads += 1;
            return None;
        }
        let mut first = false;
        let decoded = self.decoded.entry((id, codes)).or_insert_with(|| {
            first = true;
            Decoded::new(snapshot, column, 4 * hold).map(Arc::new)
        });
        // An eighth of a thread's memory at most; larger columns are read again for every part.
        self.reads += usize::from(first || decoded.is_none());
        decoded.clone()
    }

    /// Ends one planned use of a column.
    pub fn release(&mut self, snapshot: &Snapshot, column: &Column) {
        let id: ColumnId = (snapshot, column);
        if let Some(left) = self.uses.get_mut(&id) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.numeric.retain(|(known, ..), _| *known != id);
                self.categories.retain(|(known, _), _| *known != id);
            }
        }
        let id: TableColumnId = (snapshot.table_id(), column);
        if let Some((left, _)) = self.parts.get_mut(&id) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.decoded.retain(|(known, _), _| *known != id);
            }
        }
    }
}
