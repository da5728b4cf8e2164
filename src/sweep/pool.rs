//! Columns that several comparisons share are read once.

use std::collections::HashMap;
use std::rc::Rc;

use crate::count::{Categories, Counter, Domain, Tally};
use crate::error::Result;
use crate::snapshot::{Column, NumericColumn, Snapshot};

/// A column of a snapshot, by identity.
type ColumnId = (*const Snapshot, *const Column);

/// Categories of a column with its tally.
type Counted = (Categories, Tally);

/// The columns of a group of comparisons that run one after the other. A column stays as long as planned
/// uses of it are left, so a group holds no more than it needs.
#[derive(Default)]
pub struct ColumnPool<'a> {
    uses: HashMap<ColumnId, usize>,
    /// By column, domain, and whether moments were taken.
    numeric: HashMap<(ColumnId, Domain, bool), Rc<NumericColumn<'a>>>,
    /// By column and category limit.
    categories: HashMap<(ColumnId, usize), Rc<Counted>>,
    /// Columns read so far.
    pub reads: usize,
}

impl<'a> ColumnPool<'a> {
    /// Plans one more use of a column. Columns used without a plan are not kept.
    pub fn plan(&mut self, snapshot: &Snapshot, column: &Column) {
        *self.uses.entry((snapshot, column)).or_default() += 1;
    }

    /// A numeric column.
    ///
    /// # Errors
    /// Whatever reading it gives.
    pub fn numeric(
        &mut self,
        snapshot: &'a Snapshot,
        column: &'a Column,
        domain: Domain,
        with_moments: bool,
        hold: usize,
    ) -> Result<Rc<NumericColumn<'a>>> {
        let id: ColumnId = (snapshot, column);
        if let Some(known) = self.numeric.get(&(id, domain, with_moments)) {
            return Ok(known.clone());
        }
        self.reads += 1;
        let read = Rc::new(snapshot.numeric(column, domain, with_moments, hold)?);
        if self.uses.get(&id).is_some_and(|&left| left > 1) {
            self.numeric.insert((id, domain, with_moments), read.clone());
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
        limit: usize,
    ) -> Result<Rc<Counted>> {
        let id: ColumnId = (snapshot, column);
        if let Some(known) = self.categories.get(&(id, limit)) {
            return Ok(known.clone());
        }
        self.reads += 1;
        let read = Rc::new(snapshot.categories(counter, column, limit)?);
        if self.uses.get(&id).is_some_and(|&left| left > 1) {
            self.categories.insert((id, limit), read.clone());
        }
        Ok(read)
    }

    /// One planned use of a column is over.
    pub fn release(&mut self, snapshot: &Snapshot, column: &Column) {
        let id: ColumnId = (snapshot, column);
        if let Some(left) = self.uses.get_mut(&id) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.numeric.retain(|(known, ..), _| *known != id);
                self.categories.retain(|(known, _), _| *known != id);
            }
        }
    }
}
