//! A client of Kafka that waits until each message is acknowledged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::KafkaChannel;
use crate::channel::{MessageSender, RenderedMessage};
use crate::http::RequestFailure;

/// Messages of a topic.
pub(super) struct KafkaSender<'a> {
    producer: BaseProducer<DeliveryReport>,
    topic: &'a str,
}

/// Whether the last message was acknowledged.
#[derive(Clone, Default)]
struct DeliveryReport(Arc<Mutex<Option<Result<(), String>>>>);

impl ClientContext for DeliveryReport {}

impl ProducerContext for DeliveryReport {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Ok(mut last) = self.0.lock() {
            *last = Some(result.as_ref().map(drop).map_err(|(e, _)| e.to_string()));
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);

impl<'a> KafkaSender<'a> {
    pub(super) fn open(channel: &'a KafkaChannel) -> Result<Self, RequestFailure> {
        let KafkaChannel { brokers, topic, settings, secrets } = channel;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
        config.set("message.timeout.ms", "9000").set("socket.timeout.ms", "9000");
        for (key, value) in settings {
            config.set(key, value);
        }
        for (key, source) in secrets {
            config.set(key, source.read()?.expose());
        }
        let producer = config.create_with_context(DeliveryReport::default());
        Ok(Self { producer: producer.map_err(|e| RequestFailure::transient(without_value(e)))?, topic })
    }
}

/// The error without the value of a setting, which may be secret.
fn without_value(error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            format!("setting {key}: {}", reason.split('"').next().unwrap_or(""))
        }
        other => other.to_string(),
    }
}

impl MessageSender for KafkaSender<'_> {
    fn send(&mut self, rendered: &RenderedMessage, _: Timestamp) -> Result<(), RequestFailure> {
        let payload = rendered.event.to_string();
        let header = Header { key: "content-type", value: Some("application/cloudevents+json") };
        let subject = rendered.event["subject"].as_str().unwrap_or_default();
        let record = BaseRecord::to(self.topic).key(subject).payload(&payload);
        let last = self.producer.context().0.clone();
        if let Ok(mut last) = last.lock() {
            *last = None;
        }
        self.producer
            .send(record.headers(OwnedHeaders::new().insert(header)))
            .map_err(|(e, _)| RequestFailure::transient(e.to_string()))?;
        self.producer.flush(TIMEOUT).map_err(|e| RequestFailure::transient(e.to_string()))?;
        let taken = last.lock().map(|mut last| last.take());
        match taken {
            Ok(Some(taken)) => taken.map_err(RequestFailure::transient),
            _ => Err(RequestFailure::transient("no broker has acknowledged it")),
        }
    }
}
