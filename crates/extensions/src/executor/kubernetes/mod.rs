//! Training as a Kubernetes Job: `kubernetes` in the fleet file.

#[cfg(feature = "kubernetes")]
mod cluster;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Executor, ExecutorSettings, ExecutorTable, ExecutorTools, TableContext};
use crate::check::{Findings, Severity};
#[cfg(not(feature = "kubernetes"))]
use crate::http::RequestFailure;
use crate::value::{Validated, local};

/// A Job of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesConfig {
    /// The file of the Job, YAML or JSON.
    pub manifest: PathBuf,
    /// The namespace; that of the context, or of the pod, if absent.
    pub namespace: Option<String>,
    /// The context of the kubeconfig; the current one, or that of the pod, if absent.
    pub context: Option<String>,
}

/// The table `kubernetes` of the fleet file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KubernetesTable {
    /// The file of the Job, YAML or JSON.
    manifest: String,
    /// The namespace.
    namespace: Option<String>,
    /// The context of the kubeconfig.
    context: Option<String>,
}

impl ExecutorTable for KubernetesTable {
    type Settings = KubernetesConfig;

    fn resolve(&self, context: TableContext<'_>) -> Validated<KubernetesConfig> {
        Ok(KubernetesConfig {
            manifest: local("manifest", &self.manifest, context.folder)?,
            namespace: self.namespace.clone(),
            context: self.context.clone(),
        })
    }
}

impl ExecutorSettings for KubernetesConfig {
    fn place(&self) -> Value {
        json!([self.context, self.namespace])
    }

    fn has_answer(&self) -> bool {
        false
    }

    #[cfg(feature = "kubernetes")]
    fn open<'a>(&'a self, tools: ExecutorTools<'a>) -> Box<dyn Executor + 'a> {
        Box::new(cluster::KubernetesExecutor { settings: self, timeout: tools.timeout })
    }

    #[cfg(not(feature = "kubernetes"))]
    fn open<'a>(&'a self, _: ExecutorTools<'a>) -> Box<dyn Executor + 'a> {
        Box::new(UnavailableExecutor)
    }

    fn check(&self, findings: &mut Findings) {
        if let Err(failure) = check_manifest(self) {
            findings.add(Severity::Broken, "retrain.kubernetes", failure.reason);
        }
    }
}

#[cfg(feature = "kubernetes")]
use cluster::check as check_manifest;
#[cfg(feature = "kubernetes")]
pub(crate) use cluster::{client_of, failure, with_cluster};

/// The executor of a build that has no Kubernetes.
#[cfg(not(feature = "kubernetes"))]
struct UnavailableExecutor;

#[cfg(not(feature = "kubernetes"))]
fn unavailable() -> RequestFailure {
    RequestFailure::permanent("this build has no kubernetes; build it with `--features kubernetes`")
}

#[cfg(not(feature = "kubernetes"))]
fn check_manifest(_: &KubernetesConfig) -> Result<(), RequestFailure> {
    Err(unavailable())
}

#[cfg(not(feature = "kubernetes"))]
impl Executor for UnavailableExecutor {
    fn start(&self, _: &super::TrainingRun, _: jiff::Timestamp) -> Result<(), RequestFailure> {
        Err(unavailable())
    }

    fn poll(&self, _: &super::TrainingRun, _: jiff::Timestamp) -> Result<super::RunStatus, RequestFailure> {
        Ok(super::RunStatus::NotStarted)
    }

    fn cancel(&self, _: &super::TrainingRun, _: jiff::Timestamp) -> Result<(), RequestFailure> {
        Err(unavailable())
    }
}
