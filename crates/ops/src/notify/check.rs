//! Checks of a channel before the night: its template is rendered with an example of every kind of message of its
//! topics, its settings are read, and on request a test message is sent.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use jiff::Timestamp;
use minijinja::{Error, ErrorKind, UndefinedBehavior};
use serde_json::{Value, json};

use super::kinds::{KINDS, MessageKind};
use super::text;
use driftsweep_common::error::{closest, did_you_mean};
use driftsweep_extensions::channel::RenderedMessage;
use driftsweep_extensions::http::{Http, RequestFailure};
use driftsweep_fleet::{Channel, Fleet};

/// A problem of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// The problem, and the remedy.
    pub reason: String,
    /// Whether it applies to all kinds of messages, not only to some.
    pub everywhere: bool,
}

/// The problems of the template of a channel, if it has one: it cannot be parsed, or it uses a variable that messages
/// do not have, which would leave a gap.
pub fn template(channel: &Channel, fleet: &Fleet) -> Vec<TemplateProblem> {
    let Some(source) = &channel.template else { return Vec::new() };
    let everywhere = |reason: String| vec![TemplateProblem { reason, everywhere: true }];
    let environment = text::environment(UndefinedBehavior::SemiStrict);
    let template = match environment.template_from_str(source) {
        Ok(template) => template,
        Err(e) => return everywhere(format!("the template cannot be read: {}", on_one_line(&e))),
    };
    let wanted: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
    let kinds: Vec<&MessageKind> = KINDS.iter().filter(|kind| channel.about.contains(&kind.topic)).collect();
    // Each problem, with the likely correction and the kinds of messages that have it.
    let mut found: IndexMap<String, (Option<String>, Vec<&str>)> = IndexMap::new();
    for kind in &kinds {
        let data = example(kind, &fleet.name);
        let Err(e) = text::render_bounded(&template, &data) else { continue };
        let mut reasons: Vec<(String, Option<String>)> = match e.kind() {
            ErrorKind::UndefinedError => wanted.iter().filter_map(|name| missing_variable(&data, name)).collect(),
            _ => Vec::new(),
        };
        if reasons.is_empty() {
            reasons.push((on_one_line(&e), None));
        }
        for (reason, meant) in reasons {
            let (known, of) = found.entry(reason).or_default();
            *known = known.take().or(meant);
            of.push(kind.name);
        }
    }
    let slip = |(reason, (meant, of)): (String, (Option<String>, Vec<&str>))| {
        let reason = format!("{reason}{}", did_you_mean(meant.as_deref()));
        match of.len() == kinds.len() {
            true => TemplateProblem {
                reason: format!("the template uses a variable that no message has: {reason}"),
                everywhere: true,
            },
            false => TemplateProblem {
                reason: format!(
                    "the template uses a variable that some messages do not have ({}): {reason}; give a default with \
                     `| default('…')`, or test it with `is defined`",
                    of.join(", ")
                ),
                everywhere: false,
            },
        }
    };
    found.into_iter().map(slip).collect()
}

/// The data of a template, with the figures of an example.
fn example(kind: &MessageKind, fleet: &str) -> Value {
    json!({
        "fleet": fleet, "topic": kind.topic.name(), "kind": kind.name, "actor": "driftsweep", "subject": "churn",
        "figures": kind.example(),
    })
}

/// A missing variable, with the one that was most likely meant.
fn missing_variable(data: &Value, name: &str) -> Option<(String, Option<String>)> {
    let mut at = data;
    for part in name.split('.') {
        match at.get(part) {
            Some(inner) => at = inner,
            None => {
                let known = at.as_object().into_iter().flat_map(|map| map.keys()).map(String::as_str);
                return Some((format!("'{name}'"), closest(part, known).map(str::to_owned)));
            }
        }
    }
    None
}

fn on_one_line(error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    format!("{}{line}", error.detail().unwrap_or("it does not render"))
}

/// Whether a channel could be used: its secrets, addresses and settings are read; nothing is sent.
///
/// # Errors
/// [`RequestFailure`] with the reason.
pub fn settings(channel: &Channel, http: &Http) -> Result<(), RequestFailure> {
    channel.target.settings().open(http).map(drop)
}

/// Sends a test message.
///
/// # Errors
/// [`RequestFailure`] with the response.
pub fn send_test(channel: &Channel, fleet: &Fleet, http: &Http, now: Timestamp) -> Result<(), RequestFailure> {
    let text = format!("[{}] a test of channel '{}' by `driftsweep doctor --channels`", fleet.name, channel.name);
    let id = format!("{}-test-{}", fleet.name, now.as_microsecond());
    let event = json!({
        "specversion": "1.0",
        "id": id,
        "source": crate::policy::event::source(&fleet.name),
        "type": "io.driftsweep.test",
        "subject": channel.name,
        "time": now,
        "datacontenttype": "application/json",
        "data": { "fleet": fleet.name, "kind": "test", "subject": channel.name, "text": text },
    });
    let text = if channel.target.settings().is_chat() { text::for_chat(&text) } else { text };
    channel.target.settings().open(http)?.send(&RenderedMessage { id, event, text }, now)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use driftsweep::model::Options;

    fn slips(about: &str, template: &str) -> Vec<TemplateProblem> {
        let template = toml::Value::from(template);
        let text = format!(
            "[[notify]]\nname = \"c\"\nfile = \"c.jsonl\"\n{about}\ntemplate = {template}\n[[model]]\nname = \"m\"\nbaseline = \
             \"a\"\ncurrent = \"b\"\n"
        );
        let fleet = Fleet::parse(&text, Path::new("fleet.toml"), &Options::new()).unwrap();
        self::template(&fleet.channels[0], &fleet)
    }

    #[test]
    fn a_template_that_cannot_be_read_or_is_misspelt_is_found_for_every_kind_of_message() {
        for kind in KINDS {
            let about = format!("about = [\"{}\"]", kind.topic.name());
            assert_eq!(slips(&about, "{{ kind }} {{ subject }} {{ figures | tojson }}"), [], "{}", kind.name);
            let [slip] = &slips(&about, "{{ subjct }}")[..] else { panic!("{}", kind.name) };
            assert!(slip.everywhere && slip.reason.contains("'subjct'; did you mean 'subject'?"), "{slip:?}");
            let [slip] = &slips(&about, "{% if kind %}{{ kind }")[..] else { panic!("{}", kind.name) };
            assert!(slip.everywhere && slip.reason.contains("cannot be read"), "{slip:?}");
            // Every figure of the example is there under its name, and not under another.
            for figure in kind.example().as_object().unwrap().keys() {
                let only =
                    format!("{{% if kind == '{}' %}}{{{{ figures.{figure} | tojson }}}}{{% endif %}}", kind.name);
                assert_eq!(slips(&about, &only), [], "{figure}");
                let misspelt = format!("{{% if kind == '{}' %}}{{{{ figures.{figure}x }}}}{{% endif %}}", kind.name);
                let found = slips(&about, &misspelt);
                assert!(found.len() == 1 && found[0].reason.contains(&format!("figures.{figure}x")), "{found:?}");
            }
        }
    }

    #[test]
    fn what_some_messages_lack_is_told_apart_from_what_none_has() {
        let found = slips("about = [\"job\"]", "{{ figures.model }}: {{ figures.stop_at }}");
        let [slip] = &found[..] else { panic!("{found:?}") };
        assert!(
            !slip.everywhere && slip.reason.contains("job.succeed") && !slip.reason.contains("job.start"),
            "{slip:?}"
        );
        for fine in [
            "{{ figures.stop_at | default('') }}",
            "{% if figures.stop_at is defined %}{{ figures.stop_at }}{% endif %}",
            "{% if figures.stop_at %}{{ figures.stop_at }}{% endif %}",
            "{% set f = figures %}{{ f.model }}",
        ] {
            assert_eq!(slips("about = [\"job\"]", fine), [], "{fine}");
        }
        let found = slips("", "{{ figures.reason.nothing.at_all }}{{ figures | nofilter }}");
        assert!(!found.is_empty() && found.iter().all(|slip| slip.everywhere), "{found:?}");
    }
}
