//! The text of a message, from a template.

use std::io;

use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

use crate::store::OutboxMessage;
use driftsweep_extensions::channel::RenderedMessage;
use driftsweep_extensions::http::RequestFailure;
use driftsweep_fleet::Channel;

/// The built-in template. Names come from data: invisible characters are escaped.
const TEMPLATE: &str = "\
{%- set f = figures -%}
{%- set who = f.model | default(subject) -%}
{%- set data = {
  'data.late': 'data are late; waiting for them',
  'data.arrived': 'late data have arrived and were judged',
  'data.missing': 'data are missing; the sweep was judged without them',
  'data.unreadable': 'data cannot be read; the sweep was judged without them',
  'data.baseline': 'the baseline cannot be used; drift is not judged',
  'data.fleet_file': 'the fleet file has a mistake that its data show; drift is not judged',
  'data.schema': 'columns were added, removed or changed their type',
  'data.labels': 'labels cannot be used; performance is not judged',
  'data.not_judged': 'nothing could be judged for a week or more',
} -%}
[{{ fleet }}] {{ who }}: {% if kind == 'event.open' -%}
retraining is requested by its {{ f.trigger }} trigger: {{ f.reason }}
{%- elif kind == 'event.refuse' -%}
its {{ f.trigger }} trigger has fired ({{ f.reason }}), and no event was opened: the store is not what its audit says
{%- for doubt in f.doubts %}
{{ doubt }}
{%- endfor %}
{%- elif kind in ('job.ask', 'job.escalate', 'job.ask_again') -%}
approval of retraining is needed: {{ f.question }}
{%- if f.because == 'nobody_may_answer' %}
The request is repeated because nobody who was asked before may answer any more.
{%- elif f.because == 'clock_was_ahead' %}
The request is repeated because the clock was ahead at the previous request.
{%- endif %}
{%- for line in f.evidence %}
{{ line }}
{%- endfor %}
Expected cost {{ f.expected }} ({{ f.low }} to {{ f.high }}), expected gain {{ f.gain }}.
Answer due {{ f.request.due }}: driftsweep approve {{ subject }} (requested from: {{ f.asked }})
{%- elif kind == 'job.approve' -%}
retraining was approved by {{ actor }}: {{ f.grant.reason }}
{%- elif kind == 'job.reject' -%}
retraining was rejected by {{ f.by }}: {{ f.reason }}
{%- elif kind == 'job.expire' -%}
the request for retraining has expired: {{ f.reason }}
{%- elif kind == 'job.start' -%}
training started, attempt {{ f.attempt }}
{%- elif kind == 'job.gate' -%}
a candidate was trained, and is judged by its gates
{%- elif kind == 'job.reject_by_gate' -%}
the candidate was rejected by its gates, and the model stays as it is. Spent: {{ f.spent }}
{%- for line in f.about_gates %}
{{ line }}
{%- endfor %}
{%- elif kind == 'job.succeed' -%}
trained; cost: {{ f.spent }}
{%- for line in f.about_gates %}
{{ line }}
{%- endfor %}
{%- if f.about_baseline %}
{{ f.about_baseline }}
{%- endif %}
{%- elif kind == 'model.promote' -%}
version {{ f.version }} is the champion{% if f.former %}, in place of version {{ f.former }}{% endif %} ({{ actor }}: {{ f.reason }})
{%- elif kind == 'model.retire' -%}
version {{ f.version }} was retired ({{ actor }}: {{ f.reason }})
{%- elif kind == 'rollout.begin' -%}
the release of version {{ f.version }} has begun: stage '{{ f.stage }}' with a share of {{ f.share }} of traffic ({{ actor }}): {{ f.reason }}
{%- elif kind == 'rollout.ask' -%}
version {{ f.version }} needs approval to enter stage '{{ f.next_stage }}': {{ f.reason }}
Answer: driftsweep rollout promote {{ subject }} --reason WHY, or driftsweep rollout rollback {{ subject }} --reason WHY
{%- elif kind == 'rollout.unapproved' -%}
the release of version {{ f.version }} does not go on: {{ f.reason }}
Answer: driftsweep rollout promote {{ subject }} --reason WHY, or driftsweep rollout rollback {{ subject }} --reason WHY
{%- elif kind == 'rollout.approve' -%}
stage '{{ f.stage }}' of the release of version {{ f.version }} is approved again ({{ actor }}): {{ f.reason }}
{%- elif kind == 'rollout.promote' -%}
version {{ f.version }} enters stage '{{ f.stage }}' with a share of {{ f.share }} of traffic ({{ actor }}): {{ f.reason }}
{%- elif kind == 'rollout.hold' -%}
the release of version {{ f.version }} is held in stage '{{ f.stage }}' ({{ actor }}): {{ f.reason }}
Answer: driftsweep rollout resume {{ subject }} --reason WHY, or promote, or rollback
{%- elif kind == 'rollout.resume' -%}
the release of version {{ f.version }} goes on in stage '{{ f.stage }}' ({{ actor }}): {{ f.reason }}
{%- elif kind == 'rollout.roll_back' -%}
version {{ f.version }} is taken back from stage '{{ f.stage }}' ({{ actor }}): {{ f.reason }}
{%- elif kind == 'rollout.settle' -%}
version {{ f.version }} is released: it is in production for good
{%- elif kind == 'rollout.traffic' -%}
{{ f.reason }}; it was changed from outside, and is set again
{%- elif kind == 'rollout.traffic_failed' -%}
{{ f.reason }}. Each tick tries again
{%- elif kind in ('baseline.set', 'baseline.restore') -%}
{% if kind == 'baseline.set' %}a new baseline was set{% else %}a former baseline was restored{% endif %}: {{ f.new.place }}, in place of {{ f.former.place }} ({{ actor }}: {{ f.reason }})
{%- elif kind == 'job.retry' -%}
training failed, and is retried after {{ f.not_before }}: {{ f.reason }}
{%- elif kind == 'job.fail' -%}
training failed, and is not retried: {{ f.reason }}. Spent: {{ f.spent }}
{%- elif kind == 'job.time_out' -%}
training was stopped at its timeout: {{ f.reason }}. Spent: {{ f.spent }}
{%- elif kind == 'job.cancel' -%}
training was cancelled: {{ f.reason }}. Spent: {{ f.spent }}
{%- elif kind == 'performance.warning' -%}
{{ f.metric }} {{ f.value }} ({{ f.low }} to {{ f.high }}, {{ f.rows }} rows) is beyond its warning level {{ f.warning }}\
{% if f.level is number %}; at {{ f.level }} it triggers a retraining{% endif %}
{%- elif kind == 'store.create' -%}
a new store was created. If the fleet has been swept before, its state was lost: events, jobs, mutes and the last sweeps are missing
{%- elif kind == 'clock.ahead' -%}
a clock was ahead ({{ f.reason }}): records with times up to {{ f.latest }} are undone. Check what was started meanwhile
{%- elif kind in data -%}
{{ data[kind] }} ({{ f.models }} {{ 'model' if f.models == 1 else 'models' }})
{%- for found in f.findings %}
{{ found.model }}: {{ found.reason }}{% if found.until %}; retried until {{ found.until }}{% endif %}
{%- endfor %}
{%- if f.more %}
and {{ f.more }} more
{%- endif %}
{%- elif kind == 'budget.warning' -%}
{{ f.taken }} of {{ f.budget }} are spent or reserved for {{ f.month }}; forecast {{ f.forecast }}
{%- else -%}
{{ kind }}: {{ f.reason | default('') }}
{%- endif %}
{%- if f.must_be_signed %}
The answer must be signed: add --sign KEYFILE, or, for a key with a passphrase, in an agent or on a token, --statement FILE.
{%- endif %}
{%- if f.about_answer %}
{{ f.about_answer }}
{%- endif %}";

/// Renders a message of the outbox. If the channel's own template is invalid, the built-in one is used: a mistake
/// in the fleet file must not suppress a request for approval.
///
/// # Errors
/// A permanent [`RequestFailure`] for a message that is not a CloudEvent.
pub fn rendered(message: &OutboxMessage, channel: &Channel) -> Result<RenderedMessage, RequestFailure> {
    let event: Value = serde_json::from_str(&message.body)
        .map_err(|e| RequestFailure::permanent(format!("the message is not JSON: {e}")))?;
    let data = printable(&event["data"]);
    let chat = channel.target.settings().is_chat();
    let render = |template: &str| render(template, &data, chat);
    let text = match channel.template.as_deref().map(render) {
        Some(Ok(text)) => Ok(text),
        Some(Err(e)) => render(TEMPLATE).map(|text| {
            let mistake = format!("\n(the template of channel '{}' is invalid: {e})", channel.name);
            text + &if chat { for_chat(&mistake) } else { mistake }
        }),
        None => render(TEMPLATE),
    };
    let text = text.map_err(RequestFailure::permanent)?;
    Ok(RenderedMessage { id: event["id"].as_str().unwrap_or_default().to_owned(), text, event })
}

/// The largest number of steps of a template. A mistake such as nested loops must not delay a tick.
const TEMPLATE_STEPS: u64 = 100_000;

/// The longest text.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// The template engine.
pub(super) fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_fuel(Some(TEMPLATE_STEPS));
    environment
}

/// Renders a template with data.
pub(super) fn render_bounded(template: &minijinja::Template<'_, '_>, data: &Value) -> Result<String, minijinja::Error> {
    let mut text = Bounded(Vec::new());
    template.render_captured_to(minijinja::value::Serde(data), &mut text)?;
    Ok(String::from_utf8_lossy(&text.0).into_owned())
}

/// A text escaped for a chat. Slack reads `<!channel>`, `<@U…>` and `<address|words>` as mentions and links, and asks
/// for these three characters to be written so.
pub(super) fn for_chat(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Renders a template with data; for a chat, inserted values are never read as mentions or links. The text of the
/// template itself is.
fn render(template: &str, data: &Value, chat: bool) -> Result<String, String> {
    let mut environment = environment(UndefinedBehavior::Chainable);
    if chat {
        environment.set_formatter(|out, _, value| Ok(out.write_str(&for_chat(&value.to_string()))?));
    }
    let template = environment.template_from_str(template).map_err(|e| e.to_string())?;
    render_bounded(&template, data).map_err(|e| e.to_string())
}

/// A buffer with a limited size.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT_BYTES {
            return Err(io::Error::other(format!("the text has more than {MAX_TEXT_BYTES} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For display: a name from data cannot start a new line.
fn printable(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(driftsweep_common::escape::for_display(text).into_owned()),
        Value::Array(values) => values.iter().map(printable).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), printable(value))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftsweep::model::Options;
    use driftsweep_fleet::Fleet;
    use jiff::Timestamp;

    fn rendered(template: &str, reason: &str) -> RenderedMessage {
        letter_by("file = \"f\"", template, reason)
    }

    fn letter_by(target: &str, template: &str, reason: &str) -> RenderedMessage {
        let text = "[[notify]]\nname = \"chat\"\nWAY\n[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";
        let mut channel =
            Fleet::parse(&text.replace("WAY", target), "f".as_ref(), &Options::new()).unwrap().channels.remove(0);
        channel.template = Some(template.into());
        let data = serde_json::json!({ "kind": "event.open", "fleet": "f", "figures": { "model": "m", "trigger": "drift", "reason": reason } });
        let now = Timestamp::UNIX_EPOCH;
        let message = OutboxMessage {
            seq: 1,
            channel: "chat".into(),
            topic: "event".into(),
            at: now,
            body: serde_json::json!({ "id": "f-1", "data": data }).to_string(),
            state: "pending".into(),
            attempts: 0,
            next_at: now,
            error: None,
        };
        super::rendered(&message, &channel).unwrap()
    }

    #[test]
    fn a_template_that_never_ends_or_says_too_much_gives_way_to_the_built_in_text() {
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
        let doubled = format!("{{% set x = 'x' %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
        let large = "{{ 'x' * 70000 }}";
        let huge = "{{ 'x' * 9000000000 }}";
        let recursive = "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('x') }}";
        for template in [nested, &doubled, large, huge, recursive, "{{ unclosed"] {
            let text = rendered(template, "it moved").text;
            assert!(text.starts_with("[f] m: retraining is requested by its drift trigger: it moved"), "{text:.300}");
            assert!(text.contains("template of channel 'chat' is invalid"), "{text:.300}");
        }
        let fine = "{% for i in range(200) %}{{ figures.reason }} {{ i }}\n{% endfor %}";
        assert!(rendered(fine, "it moved").text.ends_with("it moved 199\n"));
        // What is told may itself be long.
        assert!(rendered("{{ figures.reason }}", &"long ".repeat(10_000)).text.starts_with("long long"));
    }

    #[test]
    fn what_is_filled_in_mentions_nobody_in_a_chat_and_a_template_may() {
        let reason = "<!channel> & <@U1> moved";
        let chat = "webhook = { url = \"http://h/\", format = \"chat\" }";
        let event = "webhook = { url = \"http://h/\", format = \"cloudevent\" }";
        let template = "<!here> {{ figures.reason }}, {{ figures }}, {{ 1 }}";
        let rendered_text = letter_by(chat, template, reason).text;
        assert!(rendered_text.starts_with("<!here> &lt;!channel&gt; &amp; &lt;@U1&gt; moved, {"), "{rendered_text}");
        assert!(rendered_text.ends_with(", 1") && rendered_text.matches('<').count() == 1, "{rendered_text}");
        // The built-in text, where the template is wrong, and the words about that.
        let rendered_text = letter_by(chat, "{{ '<!channel>' | nothing }} {{", reason).text;
        assert!(rendered_text.contains("&lt;!channel&gt; &amp; &lt;@U1&gt; moved"), "{rendered_text}");
        assert!(rendered_text.contains("is invalid") && !rendered_text.contains('<'), "{rendered_text}");
        for target in [event, "file = \"f\""] {
            assert!(
                letter_by(target, template, reason).text.starts_with("<!here> <!channel> & <@U1> moved, {"),
                "{target}"
            );
        }
    }
}
