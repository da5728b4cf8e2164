//! Notification channels: addresses, secrets and templates.

use driftsweep_extensions::check::{Findings, Severity};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Channel, Fleet};
use driftsweep_ops::notify;
use jiff::Timestamp;
use serde::Serialize;

/// What was found of a channel.
#[derive(Serialize)]
pub struct ChannelCheck {
    pub name: String,
    /// The result of a test message, if one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<&'static str>,
    pub findings: Findings,
}

/// Checks a channel, and sends it a test message if a time is given.
pub fn channel(channel: &Channel, fleet: &Fleet, http: &Http, tell: Option<Timestamp>) -> ChannelCheck {
    let mut findings = Findings::default();
    channel.target.settings().check(&mut findings);
    if !findings.is_broken()
        && let Err(failure) = notify::check::settings(channel, http)
    {
        findings.add(Severity::Broken, "", failure.reason);
    }
    for slip in notify::check::template(channel, fleet) {
        let level = if slip.everywhere { Severity::Broken } else { Severity::Warning };
        findings.add(level, "template", slip.reason);
    }
    let test = tell.map(|now| match notify::check::send_test(channel, fleet, http, now) {
        Ok(()) => "answered",
        Err(failure) => {
            findings.add(Severity::Broken, "test message", failure.reason);
            "failed"
        }
    });
    ChannelCheck { name: channel.name.clone(), test, findings }
}
