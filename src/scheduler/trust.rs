//! What a pass may believe of the store: whether jobs, and all that decides about them, are what the audit says.

use super::{JobPass, damaged};
use crate::error::Result;
use crate::retrain::Job;
use crate::store::StartBlockers;

impl JobPass<'_> {
    /// Whether a job is what the audit says that it is. The audit is read only where a run is under way or a job has its
    /// turn; later it is read on from there. A job that is not what it says is not started.
    pub(super) fn is_trusted(&mut self, job: &Job) -> Result<bool> {
        let blockers = self.start_blockers()?;
        let found: Vec<String> = blockers.of(job).into_iter().map(str::to_owned).collect();
        let trusted = found.is_empty();
        self.tampered(found);
        Ok(trusted)
    }

    /// Whether the whole store is what its audit says, the conclusions of sweeps too: by these the gain of a training is
    /// reckoned.
    pub(super) fn is_store_verified(&mut self) -> Result<bool> {
        (self.step)("check the whole store");
        let found = self.store.verify_audit(&[])?.problems;
        let whole = found.is_empty();
        self.tampered(found);
        Ok(whole)
    }

    /// Whether anything may be started: the chain of the audit is whole, and it is known what was spent.
    pub(super) fn may_start(&mut self) -> Result<bool> {
        let found = self.start_blockers()?.all.clone();
        let may = found.is_empty();
        self.tampered(found);
        Ok(may)
    }

    pub(super) fn start_blockers(&mut self) -> Result<&StartBlockers> {
        if self.blockers.is_none() {
            (self.step)("check the store");
            self.blockers = Some(self.store.start_blockers(damaged::month_start(self.fleet, self.now))?);
        }
        Ok(self.blockers.get_or_insert_default())
    }

    pub(super) fn tampered(&mut self, problems: Vec<String>) {
        for problem in problems {
            if !self.summary.tampered.contains(&problem) {
                self.summary.tampered.push(problem);
            }
        }
    }
}
