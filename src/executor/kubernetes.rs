//! Training as a Kubernetes Job, made from a manifest that the user keeps.

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

use super::{Ended, Executor, Outcome, Progress, Run, unknown};
use crate::address::said;
use crate::atomic;
use crate::fleet;
use crate::http::Failure;

/// The executor.
pub struct Kubernetes<'a> {
    /// Where, and which manifest.
    pub settings: &'a fleet::Kubernetes,
    /// The longest that a Job may take.
    pub timeout: SignedDuration,
}

/// A label has no more characters.
const MOST_LABEL: usize = 63;

/// A cluster that takes longer to answer does not hold others up.
const PATIENCE: Duration = Duration::from_secs(30);

impl Kubernetes<'_> {
    /// Does something in the cluster. On a thread of its own: a program that a kubeconfig names for getting in may hang, and
    /// is then left behind.
    fn with<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(Api<Job>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (context, namespace) = (self.settings.context.clone(), self.settings.namespace.clone());
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let done = runtime.map_err(|e| Failure::passing(e.to_string())).and_then(|runtime| {
                let api = async { work(jobs(context, namespace).await?).await };
                runtime.block_on(api)
            });
            let _ = tell.send(done);
        });
        told.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(Failure::passing("it does not answer")))
    }
}

/// The name of a run's Job.
fn name(run: &Run) -> String {
    format!("driftsweep-{}", run.name())
}

/// The Jobs of a namespace.
async fn jobs(context: Option<String>, namespace: Option<String>) -> Result<Api<Job>, Failure> {
    let mut config = match context {
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context), ..Default::default() };
            Config::from_kubeconfig(&options).await.map_err(|e| Failure::passing(e.to_string()))?
        }
        None => Config::infer().await.map_err(|e| Failure::passing(e.to_string()))?,
    };
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(10));
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|e| Failure::passing(e.to_string()))?;
    Ok(Api::namespaced(client, &namespace))
}

/// A manifest is not larger: the server takes none that is.
const MOST_MANIFEST: u64 = 2 << 20;

/// The manifest of a run: its own name, labels, variables and time limit; a failed pod is our retry, not the Job's.
fn job(settings: &fleet::Kubernetes, run: &Run, name: &str, timeout: SignedDuration) -> Result<Job, Failure> {
    let manifest = &settings.manifest;
    let wrong = |reason: String| Failure::lasting(format!("{}: {reason}", manifest.display()));
    let text = atomic::read_text(manifest, MOST_MANIFEST).map_err(|e| wrong(e.to_string()))?;
    let mut job: Job = serde_saphyr::from_str(&text).map_err(|e| wrong(format!("is not a Job: {e}")))?;
    // It is looked for in the namespace of the fleet file, whatever becomes of the manifest.
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
        ("driftsweep.io/job".to_owned(), run.job.chars().take(MOST_LABEL).collect()),
    ]);
    job.metadata.labels.get_or_insert_default().extend(labels.clone());
    let spec = job.spec.as_mut().ok_or_else(|| wrong("has no spec".into()))?;
    spec.backoff_limit.get_or_insert(0);
    // It must be there when somebody asks how it ended.
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
/// A lasting [`Failure`] with the reason.
pub(super) fn check(settings: &fleet::Kubernetes) -> Result<(), Failure> {
    let run = Run {
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
    };
    job(settings, &run, &name(&run), SignedDuration::from_hours(1)).map(drop)
}

fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let lasting = (400..500).contains(&status.code) && ![401, 403, 408, 409, 429].contains(&status.code);
            Failure { reason: format!("status {}: {}", status.code, said(&status.message, &[])), lasting }
        }
        other => Failure::passing(said(&other.to_string(), &[])),
    }
}

impl Executor for Kubernetes<'_> {
    fn start(&self, run: &Run, _: Timestamp) -> Result<(), Failure> {
        let job = job(self.settings, run, &name(run), self.timeout)?;
        self.with(async move |api| match api.create(&PostParams::default(), &job).await {
            // It was made before.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop).map_err(|e| failure(&e)),
        })
    }

    fn poll(&self, run: &Run, _: Timestamp) -> Result<Progress, Failure> {
        let name = name(run);
        let job = self.with(async move |api| api.get_opt(&name).await.map_err(|e| failure(&e)))?;
        Ok(job.map_or_else(|| unknown(run), |job| progress(&job)))
    }

    fn cancel(&self, run: &Run, _: Timestamp) -> Result<(), Failure> {
        let name = name(run);
        self.with(async move |api| match api.delete(&name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(|e| failure(&e)),
        })
    }
}

fn progress(job: &Job) -> Progress {
    let Some(status) = &job.status else { return Progress::Running };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let found = conditions.iter().find(|c| c.status == "True" && matches!(&*c.type_, "Complete" | "Failed"));
    let Some(condition) = found else { return Progress::Running };
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let (outcome, reason) = match (&*condition.type_, condition.reason.as_deref()) {
        ("Complete", _) => (Outcome::Succeeded, String::new()),
        (_, Some("DeadlineExceeded")) => (Outcome::TimedOut, said(&condition.message)),
        _ => (Outcome::Failed, format!("{}: {}", said(&condition.reason), said(&condition.message))),
    };
    let end = status.completion_time.as_ref().or(condition.last_transition_time.as_ref());
    let took = status.start_time.as_ref().zip(end).map(|(start, end)| end.0.duration_since(start.0));
    Progress::Ended(Ended { took, ..Ended::new(outcome, reason) })
}
