//! Training by whoever answers at an address: `POST url` starts a run, `GET url/RUN` tells how far it is, `DELETE url/RUN`
//! stops it. The run's name is in `webhook-id` and `idempotency-key`: a start may be asked for more than once.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use super::answer::Said;
use super::files::{self, MOST_ANSWER};
use super::{Executor, Progress, Run, unknown};
use crate::atomic;
use crate::fleet;
use crate::http::{Answer, Failure, Http, Request, SigningKey};

/// The executor.
pub struct Webhook<'a> {
    /// Where.
    pub webhook: &'a fleet::Webhook,
    /// By which client.
    pub http: &'a Http,
}

impl Webhook<'_> {
    fn send(&self, below: &[&str], request: Request, run: &Run, now: Timestamp) -> Result<Answer, Failure> {
        let key = self.webhook.secret.as_ref().map(SigningKey::read).transpose()?;
        let request = request.with("idempotency-key", &run.name()).signed(&run.name(), now, key.as_ref());
        self.http.send(&self.webhook.url.read()?, below, request)
    }

    /// Where the result of a run is put, if it is not asked for; whoever trains may stand in another folder.
    fn result_file(&self, run: &Run) -> Option<PathBuf> {
        let file = self.webhook.results.as_ref()?.join(format!("{}.json", run.name()));
        Some(std::path::absolute(&file).unwrap_or(file))
    }

    /// The mark that a run was sent for whose result is a file.
    fn mark(&self, run: &Run) -> PathBuf {
        run.folder.join("sent")
    }
}

/// How far a run is by an answer.
fn answered(bytes: &[u8], place: &str) -> Result<Progress, Failure> {
    let said = Said::of(bytes).map_err(|reason| Failure::passing(format!("{place} {reason}")))?;
    said.progress(place)
}

impl Executor for Webhook<'_> {
    fn start(&self, run: &Run, now: Timestamp) -> Result<(), Failure> {
        let mut body = run.context();
        if let Some(file) = self.result_file(run) {
            body["result_file"] = Value::from(files::as_text(&file).map_err(Failure::lasting)?);
        }
        match self.send(&[], Request::post(&body), run, now)? {
            // It is known there.
            Answer { status: 409, .. } => {}
            answer => drop(answer.good()?),
        }
        if self.webhook.results.is_some() {
            atomic::private_folder(&run.folder)
                .map_err(|e| Failure::passing(format!("{}: {e}", run.folder.display())))?;
            atomic::write_private(&self.mark(run), b"")?;
        }
        Ok(())
    }

    fn poll(&self, run: &Run, now: Timestamp) -> Result<Progress, Failure> {
        if let Some(file) = self.result_file(run) {
            return match atomic::read_foreign(&file, MOST_ANSWER) {
                Ok(Some(bytes)) => answered(&bytes, "its result file"),
                // The mark may be in the folder of another state.
                Ok(None) if run.seen || self.mark(run).exists() => Ok(Progress::Running),
                Ok(None) => Ok(Progress::NotStarted),
                Err(e) => Err(Failure::passing(format!("{}: {e}", file.display()))),
            };
        }
        match self.send(&[&run.name()], Request::get(), run, now)? {
            Answer { status: 404, .. } => Ok(unknown(run)),
            // It says that it knew it once.
            Answer { status: 410, .. } => Ok(Progress::Forgotten),
            answer => {
                answer.good()?;
                answered(&answer.body, "its answer")
            }
        }
    }

    fn cancel(&self, run: &Run, now: Timestamp) -> Result<(), Failure> {
        match self.send(&[&run.name()], Request::delete(), run, now)? {
            Answer { status: 404 | 410, .. } => Ok(()),
            answer => answer.good().map(drop),
        }
    }
}
