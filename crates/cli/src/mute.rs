//! `driftsweep mute` and `unmute`

use clap::Args;
use driftsweep_common::duration::Length;
use driftsweep_extensions::value::listed;
use driftsweep_fleet::Trigger;
use driftsweep_ops::notify::{self, AuditedFact};
use driftsweep_ops::store::{Access, Mute};
use serde_json::json;

use super::decision::DecisionArgs;
use super::time_arg::TimeArg;

#[derive(Args)]
pub struct MuteArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    decision: DecisionArgs,
    #[arg(long, value_name = "NAME", help = trigger_help())]
    trigger: Option<Trigger>,
    /// Mute until this time; same format as in `tick`
    #[arg(long, value_name = "TIME", required_unless_present = "for_")]
    until: Option<TimeArg>,
    /// For this duration, for example 7d
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
    for_: Option<Length>,
}

#[derive(Args)]
pub struct UnmuteArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    decision: DecisionArgs,
    /// The trigger, as it was muted
    #[arg(long, value_name = "NAME")]
    trigger: Option<Trigger>,
}

/// The help of `--trigger`.
fn trigger_help() -> String {
    let names: Vec<&str> = Trigger::ALL.iter().map(|trigger| trigger.name()).collect();
    format!("{} [default: all]", listed(&names, "or"))
}

pub fn run(args: &MuteArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Create)?;
    super::model_of(&fleet, &args.model)?;
    let (who, now) = args.decision.actor_and_time(&fleet)?;
    let until = match (&args.until, args.for_) {
        (Some(until), _) => until.resolve("--until", &fleet.zone)?,
        (None, length) => now
            .checked_add(length.map(Length::signed).unwrap_or_default())
            .map_err(|_| super::invalid_value("--for", "ends after the year 9999; give a shorter time"))?,
    };
    if until <= now {
        return Err(super::invalid_value("--until", "is in the past"));
    }
    let mute = Mute {
        model: args.model.clone(),
        trigger: args.trigger.map(Trigger::name).unwrap_or_default().into(),
        until,
        reason: args.decision.reason.clone(),
        set_by: who,
        set_at: now,
    };
    store.transaction(|store| {
        store.set_mute(&mute)?;
        let body = json!({ "trigger": mute.trigger, "until": until, "reason": mute.reason });
        let fact = AuditedFact { at: now, actor: &mute.set_by, kind: "mute.set", subject: &mute.model, body };
        notify::record(&fleet, store, fact)
    })?;
    say!("{}: {} muted until {until}", args.model, trigger_text(args.trigger));
    Ok(0)
}

pub fn lift(args: &UnmuteArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let (who, now) = args.decision.actor_and_time(&fleet)?;
    let trigger = args.trigger.map(Trigger::name).unwrap_or_default();
    let lifted = store.transaction(|store| {
        if !store.lift_mute(&args.model, trigger)? {
            return Ok(false);
        }
        let body = json!({ "trigger": trigger, "reason": args.decision.reason });
        let fact = AuditedFact { at: now, actor: &who, kind: "mute.lift", subject: &args.model, body };
        notify::record(&fleet, store, fact).map(|_| true)
    })?;
    if !lifted {
        super::model_of(&fleet, &args.model)?;
        let what = format!("model '{}'", args.model);
        return Err(super::invalid_value(&what, &format!("{} is not muted", trigger_text(args.trigger))));
    }
    say!("{}: {} no longer muted", args.model, trigger_text(args.trigger));
    Ok(0)
}

fn trigger_text(trigger: Option<Trigger>) -> &'static str {
    trigger.map_or("all triggers", Trigger::name)
}
