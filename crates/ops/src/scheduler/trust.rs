//! Verification of the store during a pass: whether jobs, and all data that decisions depend on, match the audit.

use super::{JobPass, damaged};
use crate::retrain::Job;
use crate::store::{StartBlockers, Store, VersionedJob};
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

    /// Reads what jobs are started by, with the problems that block it at that moment.
    pub(super) fn read_to_start<T>(&mut self, read: impl FnOnce(&mut Store) -> Result<T>) -> Result<T> {
        (self.step)("check the store");
        let since = damaged::month_start(self.fleet, self.now);
        let (found, blockers) = self.store.read_to_start(since, read)?;
        self.blockers.get_or_insert_default().extend(blockers);
        Ok(found)
    }

    /// Reads rows, each compared with the audit at that moment: those that match. The others are reported.
    pub(super) fn confirmed<T>(
        &mut self,
        read: impl Fn(&mut Store) -> Result<Vec<T>>,
        problem: impl Fn(&mut Store, &T) -> Result<Option<String>>,
    ) -> Result<Vec<T>> {
        let (confirmed, problems) = self.store.confirmed(read, problem)?;
        self.tampered(problems);
        Ok(confirmed)
    }

    /// The jobs in a state that are the jobs of their records.
    pub(super) fn jobs_in(&mut self, state: &str) -> Result<Vec<VersionedJob>> {
        let (confirmed, problems) = self.store.confirmed_jobs(state)?;
        self.tampered(problems);
        Ok(confirmed)
    }

    /// Reads something, if the whole store matches its audit at that moment.
    pub(super) fn read_verified<T>(&mut self, read: impl FnOnce(&mut Store) -> Result<T>) -> Result<Option<T>> {
        (self.step)("check the whole store");
        let (found, problems) = self.store.read_verified(read)?;
        let whole = problems.is_empty();
        self.tampered(problems);
        Ok(whole.then_some(found))
    }

    /// Whether the whole store matches its audit, including the conclusions of sweeps, which the gain of a training is
    /// estimated from.
    pub(super) fn is_store_verified(&mut self) -> Result<bool> {
        Ok(self.read_verified(|_| Ok(()))?.is_some())
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
            self.read_to_start(|_| Ok(()))?;
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
