//! Telling people and programs what happened: each fact goes into the audit, and from there into the outbox of every
//! channel that is about it. Sent at least once; what cannot be sent waits, and in the end is put aside.

mod channels;
pub mod check;
mod kinds;
mod text;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub use kinds::{KINDS, MessageKind};

use crate::error::Result;
use crate::fleet::{Channel, Fleet, Topic};
use crate::http::{Http, RequestFailure};
use crate::retrain::queue::retry_at;
use crate::store::{OutboxMessage, Store};

/// Something that was done.
#[derive(Clone, Debug)]
pub struct AuditedFact<'a> {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: &'a str,
    /// What, for example `job.approve`.
    pub kind: &'a str,
    /// To which event, job, model or budget.
    pub subject: &'a str,
    /// The figures.
    pub body: Value,
}

/// Writes a fact into the audit and the outbox, inside a transaction: the number of its record.
///
/// # Errors
/// [`crate::error::Error::Store`].
pub fn record(fleet: &Fleet, store: &mut Store, fact: AuditedFact<'_>) -> Result<u64> {
    let AuditedFact { at, actor, kind, subject, body } = fact;
    let channels: Vec<(&Channel, Topic)> = match MessageKind::of(kind).map(|kind| kind.topic) {
        // An approval by the policy is not sent to anybody.
        Some(Topic::Approval) if kind == "job.approve" && body["grant"]["by"] == "policy" => Vec::new(),
        Some(topic) => {
            fleet.channels.iter().filter(|channel| channel.about.contains(&topic)).map(|c| (c, topic)).collect()
        }
        None => Vec::new(),
    };
    let text = (!channels.is_empty()).then(|| body.clone());
    let seq = store.append_audit(at, actor, kind, subject, body)?;
    for (channel, topic) in channels {
        let message = json!({
            "specversion": "1.0",
            "id": format!("{}-{seq}", fleet.name),
            "source": crate::policy::event::source(&fleet.name),
            "type": format!("io.driftsweep.{kind}"),
            "subject": subject,
            "time": at,
            "datacontenttype": "application/json",
            "data": { "fleet": fleet.name, "topic": topic.name(), "kind": kind, "actor": actor, "subject": subject, "figures": text },
        });
        store.add_message(seq, &channel.name, topic.name(), at, &message.to_string())?;
    }
    Ok(seq)
}

/// A message that was tried so often is put aside.
const MAX_ATTEMPTS: u32 = 12;

/// The first wait between attempts.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(60);

/// After so many failures in a row a channel is left alone until the next pass.
const MAX_FAILURES_IN_A_ROW: usize = 3;

/// Messages that a pass sends at most through a channel.
const MAX_MESSAGES: usize = 1000;

/// Messages that were sent are kept for so long.
const SENT_RETENTION: SignedDuration = SignedDuration::from_hours(24 * 30);

/// What a pass over the outbox did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeliverySummary {
    /// Messages that were sent.
    pub sent: usize,
    /// Messages that could not be sent, and are tried again.
    pub put_off: usize,
    /// Messages that are not tried again.
    pub dead: usize,
}

/// What the sender of a channel tells the one who has the store.
enum SenderEvent {
    /// It is about to send a message, once that is noted. If it cannot be noted nothing is sent: it would be sent by every
    /// tick for as long as the store cannot be written.
    Tries(OutboxMessage, std::sync::mpsc::Sender<()>),
    /// What became of it.
    Tried(OutboxMessage),
}

/// Sends what is due, each channel in its own order, all channels at once, until it is `enough`. A channel that fails holds
/// up no other.
///
/// # Errors
/// [`crate::error::Error::Store`]; what cannot be sent is no error.
pub fn deliver(
    fleet: &Fleet,
    store: &mut Store,
    http: &Http,
    now: Timestamp,
    enough: &(dyn Fn() -> bool + Sync),
) -> Result<DeliverySummary> {
    let mut by_channel: BTreeMap<String, Vec<OutboxMessage>> = BTreeMap::new();
    for channel in store.channels_due(now)? {
        let messages = store.messages_due(&channel, now, MAX_MESSAGES)?;
        by_channel.insert(channel, messages);
    }
    let (tx, rx) = std::sync::mpsc::channel::<SenderEvent>();
    let mut delivered = DeliverySummary::default();
    std::thread::scope(|scope| {
        for (name, messages) in by_channel {
            let tx = tx.clone();
            scope.spawn(move || {
                let channel = fleet.channels.iter().find(|channel| channel.name == name);
                let mut open = channel.map(|channel| channels::open(channel, http));
                let mut failures = 0;
                for mut message in messages {
                    message.attempts += 1;
                    let name = format!("{} {}", message.seq, message.channel);
                    message.next_at = retry_at(&name, message.attempts, FIRST_BACKOFF, now);
                    let (allow, allowed) = std::sync::mpsc::channel();
                    // Whoever listens is gone if the store is: then nothing more is to be sent.
                    if tx.send(SenderEvent::Tries(message.clone(), allow)).is_err() || allowed.recv().is_err() {
                        return;
                    }
                    let sent = match (&mut open, channel) {
                        (Some(Ok(sender)), Some(channel)) => text::RenderedMessage::of(&message, channel)
                            .and_then(|rendered| sender.send(&rendered, now)),
                        (Some(Err(failure)), _) => Err(failure.clone()),
                        _ => Err(RequestFailure::permanent("the fleet file has no such channel any more")),
                    };
                    match sent {
                        Ok(()) => (message.state, message.error) = ("sent".into(), None),
                        Err(failure) => {
                            failures += 1;
                            if failure.permanent || message.attempts >= MAX_ATTEMPTS {
                                message.state = "dead".into();
                            }
                            message.error = Some(failure.reason);
                        }
                    }
                    if tx.send(SenderEvent::Tried(message)).is_err() || failures >= MAX_FAILURES_IN_A_ROW || enough() {
                        return;
                    }
                }
            });
        }
        drop(tx);
        // Each is noted as soon as it is sent: what is killed now sends one message twice, not all.
        rx.into_iter().try_for_each(|word| match word {
            SenderEvent::Tries(message, allow) => {
                store.set_message(&message)?;
                let _ = allow.send(());
                Ok(())
            }
            SenderEvent::Tried(message) => {
                match &*message.state {
                    "sent" => delivered.sent += 1,
                    "dead" => delivered.dead += 1,
                    _ => delivered.put_off += 1,
                }
                store.set_message(&message)
            }
        })
    })?;
    if let Ok(before) = now.checked_sub(SENT_RETENTION) {
        store.delete_messages(before)?;
    }
    Ok(delivered)
}
