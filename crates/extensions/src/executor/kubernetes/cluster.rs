//! Jobs of a cluster, made from a manifest that the user keeps.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::EnvVar;
use kube::api::{DeleteParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use tokio::runtime::Builder;

use super::KubernetesConfig;
use crate::executor::{Executor, RunOutcome, RunResult, RunStatus, TrainingRun, status_of_unknown_run};
use crate::http::RequestFailure;
use driftsweep_common::address::sanitized;
use driftsweep_common::atomic;

/// The executor.
pub struct KubernetesExecutor<'a> {
    /// Where, and which manifest.
    pub settings: &'a KubernetesConfig,
    /// The longest that a Job may take.
    pub timeout: SignedDuration,
}

/// A label has no more characters.
const MAX_LABEL_CHARS: usize = 63;

/// The longest wait for an answer of the cluster, so that it does not delay others.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(30);

impl KubernetesExecutor<'_> {
    /// Runs a request to the cluster.
    fn with<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(Api<Job>) -> Result<T, RequestFailure> + Send + 'static,
    ) -> Result<T, RequestFailure> {
        let (context, namespace) = (self.settings.context.clone(), self.settings.namespace.clone());
        with_cluster(async move || {
            let (client, namespace) = client_of(context, namespace).await?;
            work(Api::namespaced(client, &namespace)).await
        })
    }
}

/// Runs requests to a cluster on a thread of their own: a credential plugin of the kubeconfig may hang; the thread is then
/// abandoned.
///
/// # Errors
/// Those of the requests; a [`RequestFailure`] where nothing answers in time.
pub fn with_cluster<T: Send + 'static>(
    work: impl AsyncFnOnce() -> Result<T, RequestFailure> + Send + 'static,
) -> Result<T, RequestFailure> {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let done =
            runtime.map_err(|e| RequestFailure::transient(e.to_string())).and_then(|runtime| runtime.block_on(work()));
        let _ = tx.send(done);
    });
    rx.recv_timeout(CLUSTER_TIMEOUT).unwrap_or_else(|_| Err(RequestFailure::transient("it does not answer")))
}

/// The name of a run's Job.
fn name(run: &TrainingRun) -> String {
    format!("driftsweep-{}", run.name())
}

/// A client of a cluster, and the namespace that is meant.
///
/// # Errors
/// [`RequestFailure`] where the settings of the cluster cannot be read.
pub async fn client_of(context: Option<String>, namespace: Option<String>) -> Result<(Client, String), RequestFailure> {
    let mut config = match context {
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context), ..Default::default() };
            Config::from_kubeconfig(&options).await.map_err(|e| RequestFailure::transient(e.to_string()))?
        }
        None => Config::infer().await.map_err(|e| RequestFailure::transient(e.to_string()))?,
    };
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(10));
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|e| RequestFailure::transient(e.to_string()))?;
    Ok((client, namespace))
}

/// The largest manifest: the server accepts no larger one.
const MAX_MANIFEST_BYTES: u64 = 2 << 20;

/// The manifest of a run: its own name, labels, variables and time limit; a failed pod is retried by driftsweep, not by
/// the Job.
fn job(
    settings: &KubernetesConfig,
    run: &TrainingRun,
    name: &str,
    timeout: SignedDuration,
) -> Result<Job, RequestFailure> {
    let manifest = &settings.manifest;
    let wrong = |reason: String| RequestFailure::permanent(format!("{}: {reason}", manifest.display()));
    let text = atomic::read_text(manifest, MAX_MANIFEST_BYTES).map_err(|e| wrong(e.to_string()))?;
    let mut job: Job = serde_saphyr::from_str(&text).map_err(|e| wrong(format!("is not a Job: {e}")))?;
    // It is searched in the namespace of the fleet file, whatever the manifest says later.
    if let Some(namespace) = job.metadata.namespace.take().filter(|named| settings.namespace.as_ref() != Some(named)) {
        return Err(wrong(format!(
            "names the namespace {namespace}; say so in the fleet file: namespace = \"{namespace}\""
        )));
    }
    job.metadata.name = Some(name.into());
    job.metadata.generate_name = None;
    let annotations = job.metadata.annotations.get_or_insert_default();
    annotations.insert("driftsweep.io/model".into(), run.model.clone());
    annotations.insert("driftsweep.io/fleet".into(), run.fleet.clone());
    let labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "driftsweep".to_owned()),
        ("driftsweep.io/job".to_owned(), run.job.chars().take(MAX_LABEL_CHARS).collect()),
    ]);
    job.metadata.labels.get_or_insert_default().extend(labels.clone());
    let spec = job.spec.as_mut().ok_or_else(|| wrong("has no spec".into()))?;
    spec.backoff_limit.get_or_insert(0);
    // It must still exist when a later tick polls its result.
    spec.ttl_seconds_after_finished = spec.ttl_seconds_after_finished.map(|seconds| seconds.max(7 * 86_400));
    spec.active_deadline_seconds.get_or_insert(timeout.as_secs().max(1));
    spec.template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels);
    let pod = spec.template.spec.as_mut().ok_or_else(|| wrong("its template has no spec".into()))?;
    pod.restart_policy.get_or_insert_with(|| "Never".into());
    if pod.containers.is_empty() {
        return Err(wrong("has no containers".into()));
    }
    let mut variables = run.variables();
    variables.push(("DRIFTSWEEP_EVENT", run.event.clone()));
    for container in &mut pod.containers {
        let env = container.env.get_or_insert_default();
        env.retain(|known| variables.iter().all(|(name, _)| known.name != *name));
        for (name, value) in &variables {
            // `$(NAME)` in a value stands for another variable; `$$` for a dollar.
            env.push(EnvVar { name: (*name).into(), value: Some(value.replace('$', "$$")), ..Default::default() });
        }
    }
    Ok(job)
}

/// Whether a manifest makes a Job.
///
/// # Errors
/// A lasting [`RequestFailure`] with the reason.
pub(super) fn check(settings: &KubernetesConfig) -> Result<(), RequestFailure> {
    let run = TrainingRun {
        fleet: "fleet".into(),
        model: "model".into(),
        job: "job".into(),
        attempt: 1,
        trigger: "drift".into(),
        event: "{}".into(),
        folder: std::path::PathBuf::new(),
        started_at: Timestamp::UNIX_EPOCH,
        stop_at: Timestamp::UNIX_EPOCH,
        late: SignedDuration::ZERO,
        key: String::new(),
        seen: false,
        champion: None,
    };
    job(settings, &run, &name(&run), SignedDuration::from_hours(1)).map(drop)
}

/// Why a request failed.
pub fn failure(error: &kube::Error) -> RequestFailure {
    match error {
        kube::Error::Api(status) => {
            let permanent = (400..500).contains(&status.code) && ![401, 403, 408, 409, 429].contains(&status.code);
            RequestFailure { reason: format!("status {}: {}", status.code, sanitized(&status.message, &[])), permanent }
        }
        other => RequestFailure::transient(sanitized(&other.to_string(), &[])),
    }
}

impl Executor for KubernetesExecutor<'_> {
    fn start(&self, run: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        let job = job(self.settings, run, &name(run), self.timeout)?;
        self.with(async move |api| match api.create(&PostParams::default(), &job).await {
            // It was created before.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop).map_err(|e| failure(&e)),
        })
    }

    fn poll(&self, run: &TrainingRun, _: Timestamp) -> Result<RunStatus, RequestFailure> {
        let name = name(run);
        let job = self.with(async move |api| api.get_opt(&name).await.map_err(|e| failure(&e)))?;
        Ok(job.map_or_else(|| status_of_unknown_run(run), |job| progress(&job)))
    }

    fn cancel(&self, run: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        let name = name(run);
        self.with(async move |api| match api.delete(&name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(|e| failure(&e)),
        })
    }
}

fn progress(job: &Job) -> RunStatus {
    let Some(status) = &job.status else { return RunStatus::Running };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let found = conditions.iter().find(|c| c.status == "True" && matches!(&*c.type_, "Complete" | "Failed"));
    let Some(condition) = found else { return RunStatus::Running };
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let (outcome, reason) = match (&*condition.type_, condition.reason.as_deref()) {
        ("Complete", _) => (RunOutcome::Succeeded, String::new()),
        (_, Some("DeadlineExceeded")) => (RunOutcome::TimedOut, said(&condition.message)),
        _ => (RunOutcome::Failed, format!("{}: {}", said(&condition.reason), said(&condition.message))),
    };
    let end = status.completion_time.as_ref().or(condition.last_transition_time.as_ref());
    let took = status.start_time.as_ref().zip(end).map(|(start, end)| end.0.duration_since(start.0));
    RunStatus::Ended(RunResult { took, ..RunResult::new(outcome, reason) })
}
