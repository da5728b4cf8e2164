//! Notifications: each fact is written into the audit, and from there into the outbox of every channel with its topic.
//! Sent at least once; messages that cannot be sent are retried, and finally abandoned.

pub mod check;
mod kinds;
mod text;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub use kinds::{KINDS, MessageKind};

use crate::retrain::queue::retry_at;
use crate::store::{OutboxMessage, Store};
use driftsweep_common::error::Result;
use driftsweep_extensions::http::{Http, RequestFailure};
use driftsweep_fleet::{Channel, Fleet, Topic};

/// A fact: an action with its author.
#[derive(Clone, Debug)]
pub struct AuditedFact<'a> {
    /// When.
    pub at: Timestamp,
    /// The actor.
    pub actor: &'a str,
    /// The kind, for example `job.approve`.
    pub kind: &'a str,
    /// The event, job, model or budget it is about.
    pub subject: &'a str,
    /// The figures.
    pub body: Value,
}

/// Writes a fact into the audit and the outbox, inside a transaction; returns the number of its record.
///
/// # Errors
/// [`driftsweep_common::error::Error::Store`].
pub fn record(fleet: &Fleet, store: &mut Store, fact: AuditedFact<'_>) -> Result<u64> {
    let AuditedFact { at, actor, kind, subject, body } = fact;
    let channels: Vec<(&Channel, Topic)> = match MessageKind::of(kind).map(|kind| kind.topic) {
        // An approval by the policy is not sent.
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

/// Most attempts to send a message; after that it is abandoned.
const MAX_ATTEMPTS: u32 = 12;

/// The first delay between attempts.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(60);

/// After this many failures in a row a channel is skipped until the next pass.
const MAX_FAILURES_IN_A_ROW: usize = 3;

/// Most messages that a pass sends through a channel.
const MAX_MESSAGES: usize = 1000;

/// How long sent messages are kept.
const SENT_RETENTION: SignedDuration = SignedDuration::from_hours(24 * 30);

/// The summary of a pass over the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeliverySummary {
    /// Messages that were sent.
    pub sent: usize,
    /// Messages that could not be sent, and are retried.
    pub put_off: usize,
    /// Messages that are abandoned.
    pub dead: usize,
}

/// Events from the thread of a channel to the thread that owns the store.
enum SenderEvent {
    /// It is about to send a message, after the attempt is recorded. If it cannot be recorded nothing is sent:
    /// otherwise every tick would send it again while the store cannot be written.
    Tries(OutboxMessage, std::sync::mpsc::Sender<()>),
    /// The result of the attempt.
    Tried(OutboxMessage),
}

/// Sends messages that are due, each channel in its own order, all channels in parallel, until `enough` returns true. A
/// failing channel does not delay the others.
///
/// # Errors
/// [`driftsweep_common::error::Error::Store`]; a message that cannot be sent is not an error.
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
                let mut open = channel.map(|channel| channel.target.settings().open(http));
                let mut failures = 0;
                for mut message in messages {
                    message.attempts += 1;
                    let name = format!("{} {}", message.seq, message.channel);
                    message.next_at = retry_at(&name, message.attempts, FIRST_BACKOFF, now);
                    let (allow, allowed) = std::sync::mpsc::channel();
                    // The receiver is closed if the store failed: then nothing more must be sent.
                    if tx.send(SenderEvent::Tries(message.clone(), allow)).is_err() || allowed.recv().is_err() {
                        return;
                    }
                    let sent = match (&mut open, channel) {
                        (Some(Ok(sender)), Some(channel)) => {
                            text::rendered(&message, channel).and_then(|rendered| sender.send(&rendered, now))
                        }
                        (Some(Err(failure)), _) => Err(failure.clone()),
                        _ => Err(RequestFailure::permanent("the channel is no longer in the fleet file")),
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
        // Each message is recorded as soon as it is sent: a process killed here repeats one message, not all.
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
