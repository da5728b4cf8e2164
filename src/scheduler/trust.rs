//! What a pass may believe of the store: whether jobs, and all that decides about them, are what the audit says.

use super::{Pass, damaged};
use crate::error::Result;
use crate::retrain::Job;
use crate::store::Doubts;

impl Pass<'_> {
    /// Whether a job is what the audit says that it is. The audit is read only where a run is under way or a job has its
    /// turn; later it is read on from there. A job that is not what it says is not started.
    pub(super) fn is_trusted(&mut self, job: &Job) -> Result<bool> {
        let doubts = self.doubts()?;
        let found: Vec<String> = doubts.of(job).into_iter().map(str::to_owned).collect();
        let trusted = found.is_empty();
        self.tampered(found);
        Ok(trusted)
    }

    /// Whether the whole store is what its audit says, the conclusions of sweeps too: by these the gain of a training is
    /// reckoned.
    pub(super) fn is_whole(&mut self) -> Result<bool> {
        (self.step)("check the whole store");
        let found = self.store.verify_audit(&[])?.problems;
        let whole = found.is_empty();
        self.tampered(found);
        Ok(whole)
    }

    /// Whether anything may be started: the chain of the audit is whole, and it is known what was spent.
    pub(super) fn may_start(&mut self) -> Result<bool> {
        let found = self.doubts()?.all.clone();
        let may = found.is_empty();
        self.tampered(found);
        Ok(may)
    }

    pub(super) fn doubts(&mut self) -> Result<&Doubts> {
        if self.doubts.is_none() {
            (self.step)("check the store");
            self.doubts = Some(self.store.doubts(damaged::month(self.fleet, self.now))?);
        }
        Ok(self.doubts.get_or_insert_default())
    }

    pub(super) fn tampered(&mut self, problems: Vec<String>) {
        for problem in problems {
            if !self.passed.tampered.contains(&problem) {
                self.passed.tampered.push(problem);
            }
        }
    }
}
