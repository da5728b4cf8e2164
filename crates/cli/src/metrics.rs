//! `driftsweep metrics`

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use driftsweep_common::address::redacted;
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::http::{Http, Request};
use driftsweep_extensions::value::Secret;
use driftsweep_fleet::Fleet;
use driftsweep_ops::scheduler;
use driftsweep_ops::store::{Store, VersionedRollout};
use driftsweep_ops::tick::SweepStatus;
use driftsweep_report::metrics::{Gauges, of_sweep};
use indexmap::IndexMap;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::fleet_store::code_after_reading;
use super::past_sweep::{PastSweep, PastSweepArgs};
use super::{sink, variable, write};

#[derive(Args)]
pub struct MetricsArgs {
    #[command(flatten)]
    sweep: PastSweepArgs,
    /// File to write instead of standard output, for the text file collector of node_exporter: its name must end with
    /// .prom
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["push", "otlp"])]
    output: Option<PathBuf>,
    /// Send them to the Pushgateway at this address; put one with a password into the environment
    /// [without an address: $DRIFTSWEEP_PUSHGATEWAY]
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    push: Option<String>,
    /// Send them as OTLP over HTTP to the collector at this address, with the headers in $OTEL_EXPORTER_OTLP_HEADERS
    /// [without an address: $OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or $OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    otlp: Option<String>,
    /// Add the figures of every feature; a fleet has many
    #[arg(long)]
    features: bool,
}

/// Names the Pushgateway where the command line does not.
const PUSHGATEWAY: &str = "DRIFTSWEEP_PUSHGATEWAY";

/// The name of the job in the Pushgateway.
const JOB: &str = "driftsweep";

pub fn run(args: &MetricsArgs) -> anyhow::Result<u8> {
    if args.output.as_ref().is_some_and(|file| file.extension().is_none_or(|extension| extension != "prom")) {
        let reason = "must end with .prom: node_exporter reads no other files";
        return Err(super::invalid_value("--output", reason));
    }
    let targets = targets(args)?;
    let PastSweep { fleet, report, .. } = args.sweep.read()?;
    let mut gauges = of_sweep(&report, args.features);
    let mut code = 0;
    if let Some(mut store) = args.sweep.store(&fleet)? {
        add_operations(&mut gauges, &fleet, &mut store)?;
        code = code_after_reading(&mut store);
    }
    detail!("{} gauges", gauges.len());
    if targets.is_empty() {
        match &args.output {
            Some(file) => sink::write_file(file, &gauges.prometheus())?,
            None => write(gauges.prometheus())?,
        }
    }
    for target in targets {
        target.send(&gauges, &fleet)?;
    }
    Ok(code)
}

/// Where gauges are sent.
enum Target {
    Pushgateway(String),
    /// The address for metrics, and headers.
    Otlp(String, Vec<(String, String)>),
}

fn targets(args: &MetricsArgs) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    if let Some(address) = &args.push {
        let address = Some(address.clone()).filter(|given| !given.is_empty()).or_else(|| variable(PUSHGATEWAY));
        let missing = || super::invalid_value("--push", &format!("has no address, and ${PUSHGATEWAY} is not set"));
        targets.push(Target::Pushgateway(address.ok_or_else(missing)?));
    }
    if let Some(address) = &args.otlp {
        let below = |base: String| format!("{}/v1/metrics", base.trim_end_matches('/'));
        let given = Some(address.clone()).filter(|given| !given.is_empty()).map(below);
        let address = given
            .or_else(|| variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(below));
        let missing = || super::invalid_value("--otlp", "has no address, and $OTEL_EXPORTER_OTLP_ENDPOINT is not set");
        let headers = variable("OTEL_EXPORTER_OTLP_METRICS_HEADERS").or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS"));
        targets.push(Target::Otlp(address.ok_or_else(missing)?, headers_of(&headers.unwrap_or_default())?));
    }
    Ok(targets)
}

/// Headers as the variable has them: `name=value`, separated by commas, escaped as in addresses.
fn headers_of(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        // It is not repeated: it may hold a secret.
        let wrong = || super::invalid_value("$OTEL_EXPORTER_OTLP_HEADERS", "must be name=value, separated by commas");
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        headers.push((name.trim().to_lowercase(), value.into_owned()));
    }
    Ok(headers)
}

impl Target {
    /// Sends gauges. The Pushgateway replaces those it has of the fleet.
    fn send(&self, gauges: &Gauges, fleet: &Fleet) -> Result<()> {
        let http = Http::new()?;
        let (address, answer) = match self {
            Self::Pushgateway(address) => {
                let request = Request::put_metrics(gauges.prometheus().bytes(None).into_owned());
                // A name with a slash, or none, would be another address.
                let coded = URL_SAFE_NO_PAD.encode(&fleet.name);
                let group = ["metrics", "job", JOB, "fleet@base64", if coded.is_empty() { "=" } else { &coded }];
                (address, http.send(&Secret::from(address.clone()), &group, request))
            }
            Self::Otlp(address, headers) => {
                let request = Request::post(&gauges.otlp(Timestamp::now()));
                let request = headers.iter().fold(request, |request, (name, value)| request.with(name, value));
                (address, http.send(&Secret::from(address.clone()), &[], request))
            }
        };
        answer.and_then(|response| response.json_if_success()).map(drop).map_err(|failure| Error::Write {
            path: redacted(address).into(),
            source: std::io::Error::other(failure.reason),
        })
    }
}

/// Adds what the store knows: triggers, events, jobs and budgets.
fn add_operations(gauges: &mut Gauges, fleet: &Fleet, store: &mut Store) -> Result<()> {
    let name = ("fleet", &*fleet.name);
    if let Some((status, acknowledged)) = SweepStatus::load(store)? {
        let mut whole = |name_of, help, value: f64| gauges.add(name_of, help, &[name], value);
        whole("driftsweep_sweep_complete", "Whether the last sweep reached every model.", flag(status.complete));
        whole("driftsweep_sweep_acknowledged", "Whether its problems are acknowledged.", flag(acknowledged.is_some()));
        whole("driftsweep_models_waiting", "Models that wait for data.", status.waiting.len() as f64);
    }
    let mut last_fired: IndexMap<(String, String), Timestamp> = IndexMap::new();
    for firing in store.firings(None, Timestamp::MIN)? {
        last_fired.insert((firing.model, firing.trigger), firing.due);
    }
    for ((model, trigger), at) in &last_fired {
        let help = "When a trigger last fired, in seconds since 1970.";
        let labels = [name, ("model", &**model), ("trigger", &**trigger)];
        gauges.add("driftsweep_trigger_fired_timestamp_seconds", help, &labels, at.as_second() as f64);
    }
    let open = store.open_events()?;
    for model in &fleet.models {
        let event = open.iter().find(|event| event.model == model.name);
        let labels = [name, ("model", &*model.name)];
        gauges.add(
            "driftsweep_model_event_open",
            "Whether a model has an open retrain event.",
            &labels,
            flag(event.is_some()),
        );
    }
    for (state, jobs) in store.job_counts()? {
        gauges.add("driftsweep_jobs", "Retrain jobs by their state.", &[name, ("state", &state)], jobs as f64);
    }
    for state in ["pending", "dead"] {
        let messages = store.messages_in(state)?.len();
        gauges.add("driftsweep_messages", "Messages that are not sent.", &[name, ("state", state)], messages as f64);
    }
    for VersionedRollout { rollout, .. } in store.active_rollouts(None)? {
        let version = rollout.version.to_string();
        let labels = [name, ("model", &*rollout.model), ("version", &*version), ("state", rollout.state.name())];
        let mut add = |name_of, help, value: f64| gauges.add(name_of, help, &labels, value);
        add("driftsweep_rollout_share", "The share of traffic that a candidate should have.", rollout.wanted_share());
        if let Some(observed) = rollout.share.observed() {
            add("driftsweep_rollout_share_observed", "The share of traffic that it has in this stage.", observed);
        }
        add("driftsweep_rollout_moving", "Whether its traffic is to be moved.", flag(rollout.moves_traffic()));
    }
    if fleet.models.iter().any(|model| model.retrain.is_some()) {
        let now = Timestamp::now();
        let ledger = scheduler::ledger(fleet, store, now)?;
        let currency = fleet.governance.budget.currency.name();
        for status in scheduler::budget_statuses(fleet, &ledger, now) {
            let scope = status.scope.to_string();
            for (part, amount) in [("limit", status.budget), ("spent", status.spent), ("reserved", status.committed)] {
                let help = "The budget of this month, and what is spent and reserved.";
                let labels = [name, ("scope", &*scope), ("part", part), ("currency", currency)];
                gauges.add("driftsweep_budget", help, &labels, amount.units());
            }
        }
    }
    Ok(())
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_variable_has_them() {
        let headers = headers_of("Authorization=Bearer%20abc%3D, x-scope=1 ,").unwrap();
        assert_eq!(headers, [("authorization".into(), "Bearer abc=".to_owned()), ("x-scope".into(), "1".into())]);
        assert!(headers_of("secret").unwrap_err().to_string().contains("name=value"));
        assert!(!headers_of("secret").unwrap_err().to_string().contains("secret"));
    }
}
