//! Training as a run of an Airflow DAG, `airflow` in the fleet file, by the REST API: version 2 of Airflow 3, or version 1 of Airflow 2.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Executor, ExecutorSettings, ExecutorTable, ExecutorTools, Logins, RunOutcome, RunResult, RunStatus, TableContext,
    TrainingRun, status_of_unknown_run,
};
use crate::check::{self, Findings};
use crate::http::{Http, Request, RequestFailure, Response};
use crate::value::{Endpoint, SecretSource, Validated, text};

/// A DAG of an Airflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AirflowConfig {
    /// The address of the web server.
    pub url: Endpoint,
    /// The DAG.
    pub dag: String,
    /// A token; or
    pub token: Option<SecretSource>,
    /// a user and
    pub user: Option<String>,
    /// their password.
    pub password: Option<SecretSource>,
    /// Whether it has the API of Airflow 2.
    pub version_1: bool,
}

/// The table `airflow` of the fleet file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AirflowTable {
    /// The address.
    url: Option<String>,
    /// The variable with the address.
    url_env: Option<String>,
    /// The file with the address.
    url_file: Option<String>,
    /// The DAG.
    dag: String,
    /// The variable with a token.
    token_env: Option<String>,
    /// The file with a token.
    token_file: Option<String>,
    /// The user.
    user: Option<String>,
    /// The variable with the password.
    password_env: Option<String>,
    /// The file with the password.
    password_file: Option<String>,
    /// The version of the API of Airflow: 1 (Airflow 2) or 2 (Airflow 3). By default 2.
    api: Option<u8>,
}

impl ExecutorTable for AirflowTable {
    type Settings = AirflowConfig;

    fn resolve(&self, TableContext { folder, .. }: TableContext<'_>) -> Validated<AirflowConfig> {
        text("dag", &self.dag)?;
        let password = SecretSource::of("password", &self.password_env, &self.password_file, folder)?;
        if self.user.is_some() != password.is_some() {
            return Err("airflow: user and password_env or password_file go together".into());
        }
        Ok(AirflowConfig {
            url: Endpoint::of(&self.url, &self.url_env, &self.url_file, folder)?,
            dag: self.dag.clone(),
            token: SecretSource::of("token", &self.token_env, &self.token_file, folder)?,
            user: self.user.clone(),
            password,
            version_1: match self.api {
                Some(1) => true,
                None | Some(2) => false,
                Some(other) => return Err(format!("airflow: api = {other}; it is 1 (Airflow 2) or 2 (Airflow 3)")),
            },
        })
    }
}

impl ExecutorSettings for AirflowConfig {
    fn place(&self) -> Value {
        json!([self.url, self.dag])
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn open<'a>(&'a self, tools: ExecutorTools<'a>) -> Box<dyn Executor + 'a> {
        Box::new(AirflowExecutor { airflow: self, http: tools.http, logins: tools.logins })
    }

    fn check(&self, findings: &mut Findings) {
        let sources = check::address(&self.url).chain(&self.token).chain(&self.password);
        check::secrets("retrain.airflow", sources, findings);
    }
}

/// The executor.
pub struct AirflowExecutor<'a> {
    /// Where, and which DAG.
    pub airflow: &'a AirflowConfig,
    /// By which client.
    pub http: &'a Http,
    /// The tokens obtained during this pass.
    pub logins: &'a Logins,
}

impl AirflowExecutor<'_> {
    fn version(&self) -> &'static str {
        if self.airflow.version_1 { "v1" } else { "v2" }
    }

    /// The authorization: the scheme and the credentials.
    fn authorization(&self) -> Result<Option<(&'static str, String)>, RequestFailure> {
        use base64::Engine;
        if let Some(token) = &self.airflow.token {
            return Ok(Some(("Bearer", token.read()?.expose().to_owned())));
        }
        let (Some(user), Some(password)) = (&self.airflow.user, &self.airflow.password) else { return Ok(None) };
        let password = password.read()?;
        if self.airflow.version_1 {
            let pair = format!("{user}:{}", password.expose());
            return Ok(Some(("Basic", base64::engine::general_purpose::STANDARD.encode(pair))));
        }
        let url = self.airflow.url.read()?;
        let ask = || {
            let request =
                Request::post(&json!({ "username": user, "password": password.expose() })).hiding(password.expose());
            let answer = self.http.send(&url, &["auth", "token"], request)?.json_if_success()?;
            let token = answer["access_token"].as_str().map(str::to_owned);
            token.ok_or_else(|| RequestFailure::transient("it gave no access token"))
        };
        // The key includes the user: fleets may use one address with several users.
        let place = json!([url.expose(), user, password.expose()]).to_string();
        self.logins.at(place, ask).map(|token| Some(("Bearer", token)))
    }

    fn send(&self, below: &[&str], request: Request) -> Result<Response, RequestFailure> {
        let request = match self.authorization()? {
            Some((scheme, credentials)) => request.authorized(scheme, &credentials),
            None => request,
        };
        // A server may repeat only the password.
        let request = match &self.airflow.password {
            Some(password) => request.hiding(password.read()?.expose()),
            None => request,
        };
        let path = [&["api", self.version(), "dags", &self.airflow.dag, "dagRuns"], below].concat();
        self.http.send(&self.airflow.url.read()?, &path, request)
    }
}

impl Executor for AirflowExecutor<'_> {
    fn start(&self, run: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        let mut body = json!({ "dag_run_id": run.name(), "conf": run.context() });
        if !self.airflow.version_1 {
            // Required by the API; a requested run has no scheduled time.
            body["logical_date"] = Value::Null;
        }
        match self.send(&[], Request::post(&body))? {
            Response { status: 409, .. } => Ok(()),
            answer => answer.json_if_success().map(drop),
        }
    }

    fn poll(&self, run: &TrainingRun, _: Timestamp) -> Result<RunStatus, RequestFailure> {
        let answer = match self.send(&[&run.name()], Request::get())? {
            Response { status: 404, .. } => return Ok(status_of_unknown_run(run)),
            answer => answer.json_if_success()?,
        };
        let outcome = match answer["state"].as_str() {
            Some("queued" | "running") => return Ok(RunStatus::Running),
            Some("success") => RunOutcome::Succeeded,
            Some("failed") => RunOutcome::Failed,
            _ => return Err(RequestFailure::transient("its state is none of queued, running, success and failed")),
        };
        let time = |key: &str| answer[key].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let took = time("start_date").zip(time("end_date")).map(|(start, end)| end.duration_since(start));
        let reason = if outcome == RunOutcome::Failed { "the DAG run failed; see its logs in Airflow" } else { "" };
        Ok(RunStatus::Ended(RunResult { took, ..RunResult::new(outcome, reason) }))
    }

    fn cancel(&self, run: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        match self.send(&[&run.name()], Request::patch(&json!({ "state": "failed" })))? {
            Response { status: 404, .. } => Ok(()),
            answer => answer.json_if_success().map(drop),
        }
    }
}
