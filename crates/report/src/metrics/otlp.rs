//! OTLP, in its JSON form (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Gauges, Sample};

impl Gauges {
    /// The body of a request to `/v1/metrics`. Points have the time at which they are sent, as metrics backends expect of a
    /// gauge; the time of the sweep is a gauge of its own.
    pub fn otlp(&self, sent_at: Timestamp) -> Value {
        let time = sent_at.as_nanosecond().to_string();
        let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        let point = |sample: &Sample| {
            let attributes = sample.labels.iter().map(|(name, value)| attribute(name, value)).collect::<Vec<_>>();
            json!({ "timeUnixNano": time, "asDouble": sample.value, "attributes": attributes })
        };
        let metrics = self.0.iter().map(|(name, gauge)| {
            let points = gauge.samples.iter().map(point).collect::<Vec<_>>();
            json!({ "name": name, "description": gauge.help, "gauge": { "dataPoints": points } })
        });
        let name = "driftsweep";
        json!({ "resourceMetrics": [{
            "resource": { "attributes": [attribute("service.name", name)] },
            "scopeMetrics": [{
                "scope": { "name": name, "version": env!("CARGO_PKG_VERSION") },
                "metrics": metrics.collect::<Vec<_>>(),
            }],
        }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_its_time_value_and_attributes() {
        let mut gauges = Gauges::default();
        gauges.add("rows", "Rows.", &[("model", "m")], 3.5);
        let body = gauges.otlp(Timestamp::from_second(2).unwrap());
        let metric = &body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
        assert_eq!((&metric["name"], &metric["description"]), (&json!("rows"), &json!("Rows.")));
        let wanted = json!([{ "timeUnixNano": "2000000000", "asDouble": 3.5,
            "attributes": [{ "key": "model", "value": { "stringValue": "m" } }] }]);
        assert_eq!(metric["gauge"]["dataPoints"], wanted);
    }
}
