//! `driftsweep mute` and `unmute`

use clap::Args;
use driftsweep::fleet::Trigger;
use driftsweep::notify::{self, Fact};
use driftsweep::store::{Access, Mute};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::memory::MemoryArgs;
use super::when::{When, now_or};

#[derive(Args)]
pub struct MuteArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    memory: MemoryArgs,
    /// schedule, performance, drift or volume [default: all]
    #[arg(long, value_name = "NAME")]
    trigger: Option<Trigger>,
    /// Until then; as for tick
    #[arg(long, value_name = "TIME", required_unless_present = "for_")]
    until: Option<When>,
    /// For so long, for example 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = length, conflicts_with = "until")]
    for_: Option<SignedDuration>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// The time it is taken to be, as for tick [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<When>,
}

#[derive(Args)]
pub struct UnmuteArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    memory: MemoryArgs,
    /// The trigger that was named when it was muted
    #[arg(long, value_name = "NAME")]
    trigger: Option<Trigger>,
}

fn length(text: &str) -> Result<SignedDuration, String> {
    driftsweep::fleet::policy::duration("--for", text)
}

pub fn run(args: &MuteArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Create)?;
    super::model_of(&fleet, &args.model)?;
    let now = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let until = match (&args.until, args.for_) {
        (Some(until), _) => until.resolve("--until", &fleet.zone)?,
        (None, length) => now.checked_add(length.unwrap_or_default())?,
    };
    if until <= now {
        return Err(super::bad("--until", "has passed already"));
    }
    if args.reason.trim().is_empty() {
        return Err(super::bad("--reason", "must not be empty: it is kept in the audit"));
    }
    let mute = Mute {
        model: args.model.clone(),
        trigger: args.trigger.map(Trigger::name).unwrap_or_default().into(),
        until,
        reason: args.reason.clone(),
        set_by: args.by.clone().or_else(|| super::variable("USER")).unwrap_or_else(|| "unknown".into()),
        set_at: now,
    };
    store.transaction(|store| {
        store.set_mute(&mute)?;
        let body = json!({ "trigger": mute.trigger, "until": until, "reason": mute.reason });
        let fact = Fact { at: now, actor: &mute.set_by, kind: "mute.set", subject: &mute.model, body };
        notify::record(&fleet, store, fact)
    })?;
    say!("{}: {} muted until {until}", args.model, named(args.trigger));
    Ok(0)
}

pub fn lift(args: &UnmuteArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Existing)?;
    let trigger = args.trigger.map(Trigger::name).unwrap_or_default();
    let lifted = store.transaction(|store| {
        if !store.lift_mute(&args.model, trigger)? {
            return Ok(false);
        }
        let who = super::variable("USER").unwrap_or_else(|| "unknown".into());
        let body = json!({ "trigger": trigger });
        let fact = Fact { at: Timestamp::now(), actor: &who, kind: "mute.lift", subject: &args.model, body };
        notify::record(&fleet, store, fact).map(|_| true)
    })?;
    if !lifted {
        super::model_of(&fleet, &args.model)?;
        let what = format!("model '{}'", args.model);
        return Err(super::bad(&what, &format!("{} is not muted", named(args.trigger))));
    }
    say!("{}: {} no longer muted", args.model, named(args.trigger));
    Ok(0)
}

fn named(trigger: Option<Trigger>) -> &'static str {
    trigger.map_or("all triggers", Trigger::name)
}
