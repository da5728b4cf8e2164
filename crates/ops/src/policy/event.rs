//! The retrain event, as a CloudEvent 1.0 in JSON.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use driftsweep_common::atomic::hex;
use driftsweep_common::escape::for_display;
use driftsweep_fleet::Trigger;

/// The type of the events.
pub const TYPE: &str = "io.driftsweep.retrain.requested";

/// The id of the event that a trigger of a model opens at a time. It is deterministic.
pub fn id(fleet: &str, model: &str, trigger: Trigger, due: Timestamp) -> String {
    let mut hash = Sha256::new();
    for part in [fleet, model, trigger.name(), &due.to_string()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())[..32].to_owned()
}

/// The event: `details` are the figures that the trigger fired by.
pub fn cloud_event(id: &str, fleet: &str, model: &str, trigger: Trigger, due: Timestamp, details: Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": source(fleet),
        "type": TYPE,
        "subject": model,
        "time": due.to_string(),
        "datacontenttype": "application/json",
        "data": {
            "event_id": id,
            "model_id": model,
            "trigger_type": trigger.name(),
            "triggered_at": due.to_string(),
            "details": details,
        },
    })
}

/// Reads an event as it is stored.
///
/// # Errors
/// The reason: it is not JSON, or of another type.
pub fn read(body: &str) -> Result<Value, String> {
    let event: Value = serde_json::from_str(body).map_err(|e| e.to_string())?;
    match event["type"].as_str() {
        None | Some(TYPE) => Ok(event),
        Some(other) => Err(format!(
            "its type is {}, which driftsweep {} does not know; install the version that wrote it",
            for_display(other),
            env!("CARGO_PKG_VERSION")
        )),
    }
}

/// The source of events of a fleet.
pub fn source(fleet: &str) -> String {
    format!("/driftsweep/{}", uri_segment(fleet))
}

/// A name as a segment of a URI reference, which a source has to be.
fn uri_segment(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    name.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_cloud_event_and_its_name_follows_from_what_it_is_about() {
        let due: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        let name = id("retail", "churn", Trigger::Drift, due);
        assert_eq!(name, id("retail", "churn", Trigger::Drift, due));
        assert_ne!(name, id("retailc", "hurn", Trigger::Drift, due));
        let event = cloud_event(&name, "my fleet/ä", "churn", Trigger::Drift, due, json!({"psi": 0.3}));
        for required in ["specversion", "id", "source", "type"] {
            assert!(event[required].as_str().is_some_and(|text| !text.is_empty()), "{required}");
        }
        assert_eq!(event["source"], "/driftsweep/my%20fleet%2F%C3%A4");
        assert_eq!(event["data"]["details"]["psi"], 0.3);
        assert_eq!(event["time"], "2026-11-23T02:00:00Z");
        assert_eq!(read(&event.to_string()).unwrap(), event);
        let newer = event.to_string().replace(TYPE, "io.driftsweep.retrain.requested.v2");
        assert!(read(&newer).unwrap_err().contains("install the version that wrote it"));
        assert!(read("{").is_err());
    }
}
