//! What a message says: in a sentence or two, by a template.

use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

use crate::fleet::Channel;
use crate::http::Failure;
use crate::store::Message;

/// A message as it is sent.
pub struct Letter {
    /// Its name: the same for the same message sent again.
    pub id: String,
    /// The CloudEvent.
    pub event: Value,
    /// What it says; the first line is its subject.
    pub text: String,
}

/// The built-in text. Names come out of data: what does not print is shown escaped.
const TEMPLATE: &str = "\
{%- set f = figures -%}
{%- set who = f.model | default(subject) -%}
[{{ fleet }}] {{ who }}: {% if kind == 'event.open' -%}
retraining is asked for by its {{ f.trigger }} trigger: {{ f.reason }}
{%- elif kind in ('job.ask', 'job.escalate') -%}
may it be retrained? {{ f.question }}
{%- for line in f.evidence %}
{{ line }}
{%- endfor %}
Expected cost {{ f.expected }} ({{ f.low }} to {{ f.high }}), expected gain {{ f.gain }}.
Answer by {{ f.request.due }}: driftsweep approve {{ subject }} (asked: {{ f.asked }})
{%- elif kind == 'job.approve' -%}
retraining was approved by {{ actor }}: {{ f.grant.reason }}
{%- elif kind == 'job.reject' -%}
retraining was rejected by {{ f.by }}: {{ f.reason }}
{%- elif kind == 'job.expire' -%}
retraining is off: {{ f.reason }}
{%- elif kind == 'job.start' -%}
training started, attempt {{ f.attempt }}
{%- elif kind == 'job.succeed' -%}
trained, for {{ f.spent }}
{%- if f.about_baseline %}
{{ f.about_baseline }}
{%- endif %}
{%- elif kind in ('baseline.set', 'baseline.restore') -%}
{% if kind == 'baseline.set' %}a new baseline is used{% else %}a former baseline is used again{% endif %}: {{ f.new.place }}, \
in place of {{ f.former.place }} ({{ actor }}: {{ f.reason }})
{%- elif kind == 'job.retry' -%}
training failed, and is tried again after {{ f.not_before }}: {{ f.reason }}
{%- elif kind == 'budget.warning' -%}
{{ f.taken }} of {{ f.budget }} are spent or set aside for {{ f.month }}; forecast {{ f.forecast }}
{%- else -%}
{{ kind }}: {{ f.reason | default('') }}
{%- endif %}";

impl Letter {
    /// Of a message of the outbox. Where the channel's own template is none, it is told in the built-in words: a slip in the
    /// fleet file keeps nobody from being asked.
    ///
    /// # Errors
    /// A lasting [`Failure`] for a message that is no CloudEvent.
    pub fn of(message: &Message, channel: &Channel) -> Result<Self, Failure> {
        let event: Value = serde_json::from_str(&message.body)
            .map_err(|e| Failure::lasting(format!("the message is not JSON: {e}")))?;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        let data = printable(&event["data"]);
        let render = |template: &str| environment.render_str(template, minijinja::value::Serde(&data));
        let text = match channel.template.as_deref().map(render) {
            Some(Ok(text)) => Ok(text),
            Some(Err(e)) => render(TEMPLATE)
                .map(|text| format!("{text}\n(the template of channel '{}' is wrong: {e})", channel.name)),
            None => render(TEMPLATE),
        };
        let text = text.map_err(|e| Failure::lasting(e.to_string()))?;
        Ok(Self { id: event["id"].as_str().unwrap_or_default().to_owned(), text, event })
    }
}

/// With everything escaped that does not print: a name from data starts no line of its own.
fn printable(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
            Value::String(text.chars().map(shown).collect())
        }
        Value::Array(values) => values.iter().map(printable).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), printable(value))).collect(),
        other => other.clone(),
    }
}
