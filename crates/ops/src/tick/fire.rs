//! A trigger that fires, and its outcome, which depends on the context of its model.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::TickSummary;
use crate::notify::{self, AuditedFact};
use crate::policy::event;
use crate::policy::outcome::{FiringContext, FiringOutcome, cools_since};
use crate::store::{self, Cooldown, Firing, LastEvent, ModelRecord, RetrainEvent, SYSTEM_ACTOR, StartBlockers, Store};
use driftsweep_common::atomic::hex;
use driftsweep_common::error::Result;
use driftsweep_fleet::{Fleet, Model, Trigger};

/// The contexts of all models.
pub struct FiringContexts {
    open: HashMap<String, String>,
    /// When the cooldown of each model began.
    last: HashMap<String, Timestamp>,
    /// By model and trigger; an empty trigger stands for all.
    mutes: HashMap<(String, String), (Timestamp, String)>,
    /// What speaks against opening events.
    doubts: StartBlockers,
}

/// The most reasons in the record of a trigger that was refused.
const NAMED: usize = 10;

impl FiringContexts {
    /// As the store has them, inside a transaction that has written nothing yet. A cooldown that began later than `until` was
    /// noted while the clock was ahead, and does not count. Where something fires, `fires` has what spoke against opening
    /// events before, and the rows are compared with the audit.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn load(fleet: &Fleet, store: &mut Store, until: Timestamp, fires: Option<StartBlockers>) -> Result<Self> {
        let mut doubts = StartBlockers::default();
        if let Some(before) = fires {
            doubts = store.doubts_about_events()?;
            doubts.extend(before);
        }
        let last = store.last_events(until)?.into_iter().filter_map(|LastEvent { model, opened, closed }| {
            Some((model, cools_since(&fleet.sweep, &fleet.zone, opened.or(closed)?, closed)))
        });
        Ok(Self {
            last: last.collect(),
            open: store.open_events()?.into_iter().map(|event| (event.model, event.id)).collect(),
            mutes: store.mutes()?.into_iter().map(|m| ((m.model, m.trigger), (m.until, m.reason))).collect(),
            doubts,
        })
    }

    /// Doubts models whose schedules are not the ones by which they were found to be due: only ticks change them, and this
    /// is the one.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn expect_schedules(&mut self, store: &mut Store, known: &HashMap<String, ModelRecord>) -> Result<()> {
        for now in store.known()? {
            if known.get(&now.model).is_some_and(|known| known.scheduled != now.scheduled) {
                let row = store::named("model", &vec![now.model.clone()]);
                let reason = format!("{row} was edited: column scheduled was changed while the tick read it");
                self.doubts.doubt(&now.model, &reason);
            }
        }
        Ok(())
    }

    /// Whether a model fires in vain, because rows that decide about it are not what the audit says; they are told of.
    pub fn refuses(&self, model: &str, ticked: &mut TickSummary) -> bool {
        let found = self.doubts.against(model);
        ticked.doubt(&found);
        !found.is_empty()
    }

    /// The context of a trigger of a model.
    pub fn of(&self, model: &str, trigger: Trigger) -> FiringContext {
        let mutes = ["", trigger.name()].map(|trigger| self.mutes.get(&(model.to_owned(), trigger.to_owned())));
        FiringContext {
            open: self.open.get(model).cloned(),
            last_event: self.last.get(model).copied(),
            muted: mutes.into_iter().flatten().max_by_key(|(until, _)| *until).cloned(),
        }
    }
}

/// A trigger that fires.
pub struct FiredTrigger<'a> {
    /// The model.
    pub model: &'a Model,
    /// Which.
    pub trigger: Trigger,
    /// When it was due.
    pub due: Timestamp,
    /// When it is handled.
    pub at: Timestamp,
    /// Why, in a sentence.
    pub reason: String,
    /// The figures.
    pub details: Value,
}

impl FiredTrigger<'_> {
    /// Decides its outcome and records it, inside a transaction. Its model is not one that [`FiringContexts::refuses`].
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn write(
        self,
        fleet: &Fleet,
        store: &mut Store,
        contexts: &mut FiringContexts,
        ticked: &mut TickSummary,
    ) -> Result<()> {
        let Self { model, trigger, due, at, mut reason, details } = self;
        // A model that is judged again, because its data were corrected, fires once.
        if store.has_fired(&model.name, trigger.name(), due)? {
            return Ok(());
        }
        // Drift that a training has handled already is found again as long as the old baseline is in use.
        if trigger.properties().compares_with_baseline
            && let Some(outdated) = store.outdated_baseline(fleet, model, due)?
        {
            reason = format!("{reason}; {}", outdated.sentence(&fleet.zone));
        }
        let outcome = FiringOutcome::of(&contexts.of(&model.name, trigger), model.triggers.cooldown.value, at);
        let event = match &outcome {
            FiringOutcome::Opened => {
                let id = event::id(&fleet.name, &model.name, trigger, due);
                let body = event::cloud_event(&id, &fleet.name, &model.name, trigger, due, details);
                store.add_event(&RetrainEvent {
                    id: id.clone(),
                    model: model.name.clone(),
                    trigger: trigger.name().into(),
                    triggered_at: due,
                    body: body.to_string(),
                    closed: None,
                })?;
                let sha256 = hex(&Sha256::digest(body.to_string()));
                let notice = json!({
                    "model": model.name, "trigger": trigger.name(), "reason": reason, "due": due, "sweep": body["data"]["details"]["sweep"],
                    "event_sha256": sha256, "cooldown": Cooldown::new(fleet, model.triggers.cooldown.value),
                });
                let fact = AuditedFact { at, actor: SYSTEM_ACTOR, kind: "event.open", subject: &id, body: notice };
                notify::record(fleet, store, fact)?;
                contexts.open.insert(model.name.clone(), id.clone());
                contexts.last.insert(model.name.clone(), due);
                ticked.events.push(body);
                Some(id)
            }
            FiringOutcome::Joined(id) => Some(id.clone()),
            FiringOutcome::Cooldown(_) | FiringOutcome::Muted(..) => None,
        };
        if trigger.properties().stores_volume_fired && outcome.counts_as_fired() {
            store.set_volume_fired(&model.name, at)?;
        }
        let why = match &outcome {
            FiringOutcome::Cooldown(until) => format!("; in cooldown until {until}"),
            FiringOutcome::Muted(until, reason) => format!("; muted until {until}: {reason}"),
            _ => String::new(),
        };
        let firing = Firing {
            model: model.name.clone(),
            trigger: trigger.name().into(),
            due,
            outcome: outcome.name().into(),
            event,
            reason: reason + &why,
        };
        store.add_firing(&firing)?;
        ticked.firings.push(firing);
        Ok(())
    }

    /// Notes that no event is opened, and by which rows.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn refuse(self, fleet: &Fleet, store: &mut Store, contexts: &FiringContexts) -> Result<()> {
        let Self { model, trigger, due, at, reason, .. } = self;
        let found = contexts.doubts.against(&model.name);
        let body = json!({
            "model": model.name, "trigger": trigger.name(), "reason": reason, "due": due,
            "doubts": found.iter().take(NAMED).collect::<Vec<_>>(), "more": found.len().saturating_sub(NAMED),
        });
        let fact = AuditedFact { at, actor: SYSTEM_ACTOR, kind: "event.refuse", subject: &model.name, body };
        notify::record(fleet, store, fact).map(drop)
    }
}
