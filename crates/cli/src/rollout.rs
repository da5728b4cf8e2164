//! `driftsweep rollout`: releases of candidates.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use driftsweep_common::error::Error;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Model};
use driftsweep_ops::retrain::VersionName;
use driftsweep_ops::rollouts::{
    self, RolloutAction, RolloutContext, RolloutDecision, RolloutFailure, RolloutSummary, described,
};
use driftsweep_ops::store::{Access, Store, VersionedRollout};
use driftsweep_release::Rollout;
use driftsweep_report::output::{Page, Table};
use jiff::Timestamp;
use serde::Serialize;

use super::TextFormat;
use super::decision::DecisionArgs;
use super::fleet_store::{FleetStoreArgs, code_after_reading};
use super::rollout_page::{self, RolloutView};
use super::signing::{Signing, SigningArgs};
use super::time_arg::{TimeArg, now_or};

#[derive(Subcommand)]
pub enum RolloutCommand {
    /// Lists the releases of each model
    List(ListArgs),
    /// Shows a release on one page: why it was trained, stages, checks, what is decided next, and what was done
    Show(ShowArgs),
    /// Starts the release of a candidate that a tick does not release by itself
    Start(StartArgs),
    /// Lets a release enter its next stage
    Promote(PromoteArgs),
    /// Keeps a release in its stage until a person decides; it is taken back all the same if it is worse
    Hold(DecideArgs),
    /// Lets a release go on that was held
    Resume(DecideArgs),
    /// Takes a candidate back: all traffic goes to production
    Rollback(DecideArgs),
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// The number of the version that is released [default: the newest release]
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Override the current time; same format as in `tick` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct StartArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// The version: a number, latest, or an alias
    #[arg(value_name = "VERSION")]
    version: VersionName,
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args)]
pub struct DecideArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    decide: DecideArgs,
    #[command(flatten)]
    signing: SigningArgs,
}

pub fn run(command: &RolloutCommand) -> anyhow::Result<u8> {
    match command {
        RolloutCommand::List(args) => list(args),
        RolloutCommand::Show(args) => show(args),
        RolloutCommand::Start(args) => start(args),
        RolloutCommand::Promote(args) => decide(&args.decide, RolloutAction::Promote, Some(&args.signing)),
        RolloutCommand::Hold(args) => decide(args, RolloutAction::Hold, None),
        RolloutCommand::Resume(args) => decide(args, RolloutAction::Resume, None),
        RolloutCommand::Rollback(args) => decide(args, RolloutAction::RollBack, None),
    }
}

/// A row of the list of releases.
#[derive(Serialize)]
struct ListedRollout<'a> {
    model: &'a str,
    version: u64,
    former: Option<u64>,
    state: &'a str,
    stage: Option<&'a str>,
    share: f64,
    /// Whether traffic is still to be moved to that share.
    moving: bool,
    since: Timestamp,
    /// Since when traffic is divided as wanted.
    applied_at: Option<Timestamp>,
    reason: Option<&'a str>,
}

impl<'a> ListedRollout<'a> {
    fn of(rollout: &'a Rollout) -> Self {
        let stage = rollout.state.stage().and_then(|stage| rollout.plan.stages.get(stage));
        Self {
            model: &rollout.model,
            version: rollout.version,
            former: rollout.former,
            state: rollout.state.name(),
            stage: stage.map(|stage| &*stage.name),
            share: rollout.wanted_share(),
            moving: rollout.moves_traffic(),
            since: rollout.since,
            applied_at: rollout.applied_at,
            reason: rollout.state.reason(),
        }
    }
}

fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open_any(Access::Read)?;
    let rollouts = store.rollouts(args.model.as_deref())?;
    super::known_model(&fleet, args.model.as_deref(), !rollouts.is_empty())?;
    let listed: Vec<ListedRollout<'_>> = rollouts.iter().map(|known| ListedRollout::of(&known.rollout)).collect();
    if args.format == TextFormat::Json {
        super::write_json(&listed)?;
        return Ok(code_after_reading(&mut store));
    }
    let mut table = Table::new(["model", "version", "in place of", "state", "stage", "share", "since", "reason"]);
    table.less_important(&["in place of", "since", "reason"]);
    for line in &listed {
        table.row([
            line.model.to_owned(),
            line.version.to_string(),
            line.former.map(|former| former.to_string()).unwrap_or_default(),
            line.state.replace('_', " "),
            line.stage.unwrap_or_default().to_owned(),
            format!("{}{}", line.share, if line.moving { ", being moved" } else { "" }),
            line.since.to_string(),
            line.reason.unwrap_or_default().to_owned(),
        ]);
    }
    super::write(Page::from(table))?;
    Ok(code_after_reading(&mut store))
}

fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open_any(Access::Read)?;
    let now = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let mut rollouts = store.rollouts(Some(&args.model))?;
    super::known_model(&fleet, Some(&args.model), !rollouts.is_empty())?;
    if let Some(version) = args.version {
        rollouts.retain(|known| known.rollout.version == version);
    }
    let Some(VersionedRollout { rollout, .. }) = rollouts.pop() else {
        let reason = "there is no such release; `driftsweep rollout list` shows all";
        return Err(super::invalid_value(&format!("model '{}'", args.model), reason));
    };
    let rollout = match fleet.model(&rollout.model).filter(|_| !rollout.state.is_final()) {
        Some(model) => rollouts::with_current_rules(model, rollout),
        None => rollout,
    };
    let view = RolloutView::load(&fleet, &mut store, &rollout, now)?;
    match args.format {
        TextFormat::Json => super::write_json(&view)?,
        TextFormat::Table => super::write(rollout_page::page(&fleet, &view))?,
    }
    Ok(code_after_reading(&mut store))
}

fn start(args: &StartArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let model = super::model_of(&fleet, &args.model)?;
    let (by, at) = args.decision.actor_and_time(&fleet)?;
    let state = args.decision.memory.folder();
    let decision = RolloutDecision { by: &by, reason: &args.decision.reason, state: &state, at };
    let rollout = rollouts::start(&fleet, &mut store, model, &args.version, decision)?;
    say!("{}: the release of version {} begins with the next tick", rollout.model, rollout.version);
    Ok(0)
}

fn decide(args: &DecideArgs, action: RolloutAction, signing: Option<&SigningArgs>) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let model = super::model_of(&fleet, &args.model)?;
    let (by, at) = args.decision.actor_and_time(&fleet)?;
    let state = args.decision.memory.folder();
    let decision = RolloutDecision { by: &by, reason: &args.decision.reason, state: &state, at };
    let before = store.open_rollout(&model.name)?.map(|known| known.rollout.open_alarms()).unwrap_or_default();
    let statement = |clock| Ok(rollouts::statement(&fleet, &mut store, model, (&by, &args.decision.reason), clock)?);
    let signed = match signing.map_or(Ok(Signing::None), |signing| signing.prepare(statement))? {
        Signing::None => None,
        Signing::Write => return Ok(0),
        Signing::With(signed) => Some(signed),
    };
    let rollout = rollouts::decide(&fleet, &mut store, model, action, decision, signed.as_ref())?;
    say!("{}: {}", rollout.model, described(&rollout));
    for alarm in before.iter().filter(|_| action == RolloutAction::Resume) {
        say!("accepted in this stage: {}", alarm.reason);
    }
    if !rollout.moves_traffic() {
        return Ok(0);
    }
    let http = Http::new()?;
    let begun = Instant::now();
    let now = || at.checked_add(begun.elapsed()).unwrap_or(at);
    let context = RolloutContext { http: &http, state: &state, now: &now };
    moved(&fleet, &mut store, model, &context, &rollout)
}

/// How long a command waits for a tick that takes rollouts further: longer than it takes to move traffic.
const PATIENCE: Duration = Duration::from_secs(90);

/// The delay between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Moves traffic now; a tick may hold the lock for a moment.
fn moved(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    context: &RolloutContext<'_>,
    rollout: &Rollout,
) -> anyhow::Result<u8> {
    let begun = Instant::now();
    let summary = loop {
        match rollouts::move_traffic(fleet, store, model, context) {
            Err(Error::Locked { .. }) if begun.elapsed() < PATIENCE => std::thread::sleep(RETRY_DELAY),
            Err(error @ Error::Locked { .. }) => {
                warn!("{error}; it moves the traffic, or else the next tick");
                return Ok(super::PARTIAL);
            }
            other => break other?,
        }
    };
    let RolloutSummary { failures, tampered, .. } = summary;
    for RolloutFailure { reason, .. } in &failures {
        warn!("{reason}");
    }
    for problem in &tampered {
        error!("store: {problem}");
    }
    if !(failures.is_empty() && tampered.is_empty()) {
        return Ok(super::PARTIAL);
    }
    say!("the candidate has a share of {} of traffic", rollout.wanted_share());
    Ok(0)
}
