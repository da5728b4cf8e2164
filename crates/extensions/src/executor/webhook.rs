//! Training by a webhook, `webhook` in the fleet file: `POST url` starts a run, `GET url/RUN` returns its status, `DELETE url/RUN`
//! stops it. The run's name is in `webhook-id` and `idempotency-key`: a start may be requested more than once.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::RunAnswer;
use super::files::{self, MAX_ANSWER_BYTES};
use super::{
    Executor, ExecutorSettings, ExecutorTable, ExecutorTools, RunStatus, TableContext, TrainingRun,
    status_of_unknown_run,
};
use crate::check::{self, Findings};
use crate::http::{Http, Request, RequestFailure, Response, SigningKey};
use crate::value::{Endpoint, SecretSource, Validated, local};
use driftsweep_common::atomic;

/// A webhook that trains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookConfig {
    /// The address.
    pub url: Endpoint,
    /// The secret for signing requests.
    pub secret: Option<SecretSource>,
    /// The folder for results, if they are not polled.
    pub results: Option<PathBuf>,
}

/// The table `webhook` of the fleet file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WebhookTable {
    /// The address.
    url: Option<String>,
    /// The variable with the address.
    url_env: Option<String>,
    /// The file with the address.
    url_file: Option<String>,
    /// The variable with the secret that signs requests.
    secret_env: Option<String>,
    /// The file with that secret.
    secret_file: Option<String>,
    /// The folder for results, if they are not polled.
    results: Option<String>,
}

impl ExecutorTable for WebhookTable {
    type Settings = WebhookConfig;

    fn resolve(&self, TableContext { folder, .. }: TableContext<'_>) -> Validated<WebhookConfig> {
        Ok(WebhookConfig {
            url: Endpoint::of(&self.url, &self.url_env, &self.url_file, folder)?,
            secret: SecretSource::of("secret", &self.secret_env, &self.secret_file, folder)?,
            results: self.results.as_ref().map(|results| local("results", results, folder)).transpose()?,
        })
    }
}

impl ExecutorSettings for WebhookConfig {
    fn place(&self) -> Value {
        json!([self.url, self.results])
    }

    fn open<'a>(&'a self, tools: ExecutorTools<'a>) -> Box<dyn Executor + 'a> {
        Box::new(WebhookExecutor { webhook: self, http: tools.http })
    }

    fn check(&self, findings: &mut Findings) {
        check::secrets("retrain.webhook", check::address(&self.url).chain(&self.secret), findings);
        check::signing("retrain.webhook", self.secret.as_ref(), findings);
        if let Some(results) = &self.results {
            check::folder("retrain.webhook.results", results, findings);
        }
    }
}

/// The executor.
pub struct WebhookExecutor<'a> {
    /// Where.
    pub webhook: &'a WebhookConfig,
    /// By which client.
    pub http: &'a Http,
}

impl WebhookExecutor<'_> {
    fn send(
        &self,
        below: &[&str],
        request: Request,
        run: &TrainingRun,
        now: Timestamp,
    ) -> Result<Response, RequestFailure> {
        let key = self.webhook.secret.as_ref().map(SigningKey::read).transpose()?;
        let request = request.with("idempotency-key", &run.name()).signed(&run.name(), now, key.as_ref());
        self.http.send(&self.webhook.url.read()?, below, request)
    }

    /// The file for the result of a run, if it is not polled; as an absolute path, because the training system may have
    /// another working directory.
    fn result_file(&self, run: &TrainingRun) -> Option<PathBuf> {
        let file = self.webhook.results.as_ref()?.join(format!("{}.json", run.name()));
        Some(std::path::absolute(&file).unwrap_or(file))
    }

    /// The marker file of a run that was started and whose result is a file.
    fn mark(&self, run: &TrainingRun) -> PathBuf {
        run.folder.join("sent")
    }
}

/// The status of a run by a response.
fn parse_response(bytes: &[u8], place: &str) -> Result<RunStatus, RequestFailure> {
    let reply = RunAnswer::of(bytes).map_err(|reason| RequestFailure::transient(format!("{place} {reason}")))?;
    reply.progress(place)
}

impl Executor for WebhookExecutor<'_> {
    fn start(&self, run: &TrainingRun, now: Timestamp) -> Result<(), RequestFailure> {
        let mut body = run.context();
        if let Some(file) = self.result_file(run) {
            body["result_file"] = Value::from(files::as_text(&file).map_err(RequestFailure::permanent)?);
        }
        match self.send(&[], Request::post(&body), run, now)? {
            // It is known there.
            Response { status: 409, .. } => {}
            answer => drop(answer.json_if_success()?),
        }
        if self.webhook.results.is_some() {
            atomic::private_folder(&run.folder)
                .map_err(|e| RequestFailure::transient(format!("{}: {e}", run.folder.display())))?;
            atomic::write_private(&self.mark(run), b"")?;
        }
        Ok(())
    }

    fn poll(&self, run: &TrainingRun, now: Timestamp) -> Result<RunStatus, RequestFailure> {
        if let Some(file) = self.result_file(run) {
            return match atomic::read_external(&file, MAX_ANSWER_BYTES) {
                Ok(Some(bytes)) => parse_response(&bytes, "its result file"),
                // The marker may be in another state folder.
                Ok(None) if run.seen || self.mark(run).exists() => Ok(RunStatus::Running),
                Ok(None) => Ok(RunStatus::NotStarted),
                Err(e) => Err(RequestFailure::transient(format!("{}: {e}", file.display()))),
            };
        }
        match self.send(&[&run.name()], Request::get(), run, now)? {
            Response { status: 404, .. } => Ok(status_of_unknown_run(run)),
            // It reports that it knew the run before.
            Response { status: 410, .. } => Ok(RunStatus::Lost),
            answer => {
                answer.json_if_success()?;
                parse_response(&answer.body, "its answer")
            }
        }
    }

    fn cancel(&self, run: &TrainingRun, now: Timestamp) -> Result<(), RequestFailure> {
        match self.send(&[&run.name()], Request::delete(), run, now)? {
            Response { status: 404 | 410, .. } => Ok(()),
            answer => answer.json_if_success().map(drop),
        }
    }
}
