//! Verification of the store during a pass: whether jobs, and all data that decisions depend on, match the audit.

use super::{JobPass, damaged};
use crate::retrain::Job;
use crate::store::StartBlockers;
use driftsweep_common::error::Result;

impl JobPass<'_> {
    /// Whether a job matches the audit. The audit is read only when a run is running or a job is to start; later only
    /// new records are read. A job that does not match is not started.
    pub(super) fn is_trusted(&mut self, job: &Job) -> Result<bool> {
        let blockers = self.start_blockers()?;
        let found: Vec<String> = blockers.of(job).into_iter().map(str::to_owned).collect();
        let trusted = found.is_empty();
        self.tampered(found);
        Ok(trusted)
    }

    /// Whether the whole store matches its audit, including the conclusions of sweeps, which the gain of a training is
    /// estimated from.
    pub(super) fn is_store_verified(&mut self) -> Result<bool> {
        (self.step)("check the whole store");
        let found = self.store.verify_audit(&[])?.problems;
        let whole = found.is_empty();
        self.tampered(found);
        Ok(whole)
    }

    /// Whether anything may be started: the chain of the audit is intact, and spending is known.
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
