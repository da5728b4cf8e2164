//! `driftsweep events`

use std::collections::HashMap;

use clap::{Args, Subcommand, ValueEnum};
use driftsweep_common::error::Error;
use driftsweep_ops::notify::{self, AuditedFact};
use driftsweep_ops::store::{Access, Firing, RetrainEvent, Store};
use driftsweep_report::output::{Page, Table};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::TextFormat;
use super::decision;
use super::fleet_store::{FleetStoreArgs, code_after_reading};
use super::jobs::event_of;
use super::time_arg::{TimeArg, now_or};

#[derive(Subcommand)]
pub enum EventsCommand {
    /// Lists events: the open ones, each with the triggers that joined it
    List(ListArgs),
    /// Closes an event: the model was trained, or the event is dismissed
    Close(CloseArgs),
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Include closed events
    #[arg(long)]
    all: bool,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct CloseArgs {
    /// The event, as `events list` shows it; a unique prefix is enough
    #[arg(value_name = "EVENT")]
    event: String,
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Whether the model was trained: drift and new labels are then counted from that time on
    #[arg(long, value_enum)]
    outcome: CloseOutcome,
    /// The reason; it is stored in the audit
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,
    /// Who closes it [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// When it was closed; same format as in `tick` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
}

#[derive(Clone, Copy, ValueEnum)]
enum CloseOutcome {
    Trained,
    Dismissed,
}

pub fn run(command: &EventsCommand) -> anyhow::Result<u8> {
    match command {
        EventsCommand::List(args) => list(args),
        EventsCommand::Close(args) => close(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Read)?;
    let of_model = |event: &RetrainEvent| args.model.as_ref().is_none_or(|model| *model == event.model);
    let all: Vec<RetrainEvent> = store.events()?.into_iter().filter(of_model).collect();
    let firings = store.firings(args.model.as_deref(), Timestamp::MIN)?;
    super::known_model(&fleet, args.model.as_deref(), !(all.is_empty() && firings.is_empty()))?;
    let events: Vec<RetrainEvent> = all.into_iter().filter(|event| args.all || event.closed.is_none()).collect();
    let mut by_event: HashMap<&str, Vec<&Firing>> = HashMap::new();
    for firing in &firings {
        if let Some(event) = &firing.event {
            by_event.entry(event).or_default().push(firing);
        }
    }
    let joined = |id: &str| by_event.get(id).map_or(&[][..], Vec::as_slice);
    if args.format == TextFormat::Json {
        let mut whole = |event: &RetrainEvent| {
            let closed = event.closed.as_ref();
            json!({
                "event": event_of(&mut store, &event.id, &event.body),
                "triggers": joined(&event.id),
                "closed": closed.map(|(at, outcome, note)| json!({ "at": at, "outcome": outcome, "note": note })),
            })
        };
        super::write_json(&events.iter().map(&mut whole).collect::<Vec<_>>())?;
        return Ok(code_after_reading(&mut store));
    }
    let mut table = Table::new(["event", "model", "since", "triggers", "state"]);
    for event in &events {
        // Only to warn of one that cannot be read.
        event_of(&mut store, &event.id, &event.body);
        let state = match &event.closed {
            None => "open".into(),
            Some((at, outcome, note)) => format!("{outcome} {at} {note}"),
        };
        let triggers = joined(&event.id).iter().fold(Vec::<&str>::new(), |mut names, firing| {
            if !names.contains(&&*firing.trigger) {
                names.push(&firing.trigger);
            }
            names
        });
        table.row([event.id.clone(), event.model.clone(), event.triggered_at.to_string(), triggers.join(", "), state]);
    }
    super::write(Page::from(table))?;
    Ok(code_after_reading(&mut store))
}

fn close(args: &CloseArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Existing)?;
    let at = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let event = find(&mut store, &args.event)?;
    if at < event.triggered_at || at.duration_since(Timestamp::now()) > SignedDuration::from_hours(24) {
        return Err(super::invalid_value(
            "--now",
            &format!("must be after {} and not in the future", event.triggered_at),
        ));
    }
    let who = decision::decider(args.by.as_ref())?;
    let outcome = match args.outcome {
        CloseOutcome::Trained => "trained",
        CloseOutcome::Dismissed => "dismissed",
    };
    store.transaction(|store| {
        if !store.close_event(&event.id, at, outcome, &args.note)? {
            let reason = "is closed already; `events list --all` shows the outcome".into();
            return Err(Error::BadValue { what: format!("event {}", event.id), reason });
        }
        let body = json!({ "model": event.model, "outcome": outcome, "note": args.note });
        notify::record(&fleet, store, AuditedFact { at, actor: &who, kind: "event.close", subject: &event.id, body })?;
        match args.outcome {
            CloseOutcome::Trained => store.set_trained(&event.model, at),
            CloseOutcome::Dismissed => Ok(()),
        }
    })?;
    say!("event {} of {}: {outcome}", event.id, event.model);
    Ok(0)
}

/// The one event with this prefix.
fn find(store: &mut Store, name: &str) -> anyhow::Result<RetrainEvent> {
    let mut found = store.events()?.into_iter().filter(|event| !name.is_empty() && event.id.starts_with(name));
    match (found.next(), found.next()) {
        (Some(event), None) => Ok(event),
        (None, _) => {
            Err(super::invalid_value(&format!("event '{name}'"), "there is none; `events list --all` shows them"))
        }
        _ => Err(super::invalid_value(&format!("event '{name}'"), "several begin with this; give more of the name")),
    }
}
