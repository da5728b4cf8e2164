//! All kinds of messages: each with its topic and an example of its figures. The examples let `doctor` and the tests
//! render each kind through each channel before a night needs it.

use serde_json::{Value, json};

use driftsweep_fleet::Topic;

/// A kind of message.
#[derive(Clone, Copy, Debug)]
pub struct MessageKind {
    /// Its name, as in the audit: for example `job.approve`.
    pub name: &'static str,
    /// Its topic: channels select messages by topics.
    pub topic: Topic,
    example: fn() -> Value,
}

impl MessageKind {
    /// Example figures of such a message.
    pub fn example(&self) -> Value {
        (self.example)()
    }

    /// The kind with a name; `None` for records that are only stored in the audit.
    pub fn of(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

const fn kind(name: &'static str, topic: Topic, example: fn() -> Value) -> MessageKind {
    MessageKind { name, topic, example }
}

/// All of them.
pub const KINDS: &[MessageKind] = &[
    kind("event.open", Topic::Event, || {
        json!({
            "model": "churn", "trigger": "drift", "reason": "2 of 40 columns drift: age (psi 0.310 > 0.15)",
            "due": "2026-11-26T02:00:00Z", "sweep": { "id": "20261126T020000Z-0123456789ab", "counts_hash": "00" }, "event_sha256": "00",
        })
    }),
    kind("event.refuse", Topic::Event, || {
        json!({
            "model": "churn", "trigger": "drift", "reason": "2 of 40 columns drift: age (psi 0.310 > 0.15)",
            "due": "2026-11-26T02:00:00Z", "doubts": ["table mute, row 'churn' '' was deleted"], "more": 0,
        })
    }),
    kind("job.ask", Topic::Approval, asked),
    kind("job.escalate", Topic::Approval, asked),
    kind("job.ask_again", Topic::Approval, || {
        let mut again = asked();
        again["because"] = "nobody_may_answer".into();
        again
    }),
    kind(
        "job.approve",
        Topic::Approval,
        || json!({ "step": "approve", "model": "churn", "grant": { "by": { "person": "ana" }, "reason": "it pays", "at": "2026-11-26T08:00:00Z", "overruns": [] } }),
    ),
    kind(
        "job.reject",
        Topic::Approval,
        || json!({ "step": "reject", "model": "churn", "by": "ana", "reason": "new features next week", "spent": "$0.00" }),
    ),
    kind(
        "job.expire",
        Topic::Approval,
        || json!({ "step": "expire", "model": "churn", "reason": "nobody has answered: ana, bo, then cto", "spent": "$0.00" }),
    ),
    kind(
        "job.start",
        Topic::Job,
        || json!({ "step": "start", "model": "churn", "attempt": 1, "stop_at": "2026-11-26T11:00:00Z" }),
    ),
    kind(
        "job.gate",
        Topic::Job,
        || json!({ "step": "gate", "model": "churn", "attempt": 1, "cost": "612.50", "validation": null }),
    ),
    kind("job.reject_by_gate", Topic::Job, || {
        json!({
            "step": "reject_by_gate", "model": "churn", "spent": "$612.50",
            "about_gates": ["auc.better_by: auc of the candidate is 0.7310, of the champion 0.7290: better by 0.0020, at least 0.0100 wanted"],
        })
    }),
    kind("job.succeed", Topic::Job, || {
        json!({
            "step": "succeed", "model": "churn", "attempt": 1, "cost": "612.50", "spent": "$612.50",
            "about_baseline": "the baseline is from 2026-10-01, before the training of 2026-11-26",
            "about_answer": "answer.json: cost is text; give an amount of money, 0 or more; it is ignored",
        })
    }),
    kind("job.retry", Topic::Job, || {
        json!({
            "step": "retry", "model": "churn", "attempt": 1, "cost": "12.50", "reason": "exit code 1; its output is in output.log",
            "not_before": "2026-11-26T03:10:00Z",
        })
    }),
    kind("job.fail", Topic::Job, failed),
    kind("job.time_out", Topic::Job, failed),
    kind("job.cancel", Topic::Job, failed),
    kind("model.promote", Topic::Job, promoted),
    kind("model.retire", Topic::Job, promoted),
    kind("rollout.begin", Topic::Job, rolled),
    kind("rollout.ask", Topic::Approval, || {
        let mut body = rolled();
        (body["must_be_signed"], body["next_stage"]) = (true.into(), "full".into());
        body
    }),
    kind("rollout.unapproved", Topic::Approval, || {
        json!({
            "model": "churn", "version": 3, "stage": "25 %", "must_be_signed": true,
            "reason": "the approval of stage '25 %' by 'ana' does not count: this person is not an approver; approve it again",
        })
    }),
    kind("rollout.approve", Topic::Approval, rolled),
    kind("rollout.promote", Topic::Job, rolled),
    kind("rollout.hold", Topic::Job, rolled),
    kind("rollout.resume", Topic::Job, rolled),
    kind("rollout.roll_back", Topic::Job, rolled),
    kind("rollout.settle", Topic::Job, rolled),
    kind(
        "rollout.traffic",
        Topic::Job,
        || json!({ "model": "churn", "version": 3, "found": 0.5, "wanted": 0.05, "reason": "the candidate had a share of 0.5 of traffic, and should have 0.05" }),
    ),
    kind(
        "rollout.traffic_failed",
        Topic::Job,
        || json!({ "model": "churn", "version": 3, "step": 4, "reason": "traffic of version 3 could not be set to a share of 0: status 503" }),
    ),
    kind("baseline.set", Topic::Job, renewed),
    kind("baseline.restore", Topic::Job, renewed),
    kind(
        "budget.warning",
        Topic::Budget,
        || json!({ "budget": "$10,000.00", "taken": "$8,120.00", "forecast": "$11,000.00", "month": "2026-11" }),
    ),
    kind("performance.warning", Topic::Warning, || {
        json!({
            "model": "churn", "metric": "accuracy", "value": 0.914, "low": 0.909, "high": 0.919, "rows": 10_000,
            "warning": 0.92, "level": 0.9, "as_of": "2026-11-26T02:00:00Z",
        })
    }),
    kind("data.late", Topic::Data, || found(Some("2026-11-26T10:00:00Z"))),
    kind("data.baseline", Topic::Data, || found(None)),
    kind("data.fleet_file", Topic::Data, || found(None)),
    kind("data.arrived", Topic::Data, || found(None)),
    kind("data.missing", Topic::Data, || found(None)),
    kind("data.unreadable", Topic::Data, || found(None)),
    kind("data.schema", Topic::Data, || found(None)),
    kind("data.labels", Topic::Data, || found(None)),
    kind("data.not_judged", Topic::Data, || found(None)),
    kind("store.create", Topic::Data, || json!({ "models": 12 })),
    kind(
        "clock.ahead",
        Topic::Data,
        || json!({ "latest": "2026-12-24T02:00:00Z", "sweeps": ["2026-12-24T02:00:00Z"], "models": 12, "now": "2026-11-26T02:05:00Z" }),
    ),
];

fn asked() -> Value {
    json!({
        "step": "ask", "model": "churn", "question": "the expected cost is above $500.00", "asked": "ana, bo",
        "evidence": ["age: psi 0.3100 above 0.15"], "expected": "$600.00", "low": "$540.00", "high": "$690.00", "gain": "$4,800.00",
        "must_be_signed": true,
        "request": { "reasons": [], "level": 0, "asked_at": "2026-11-26T02:05:00Z", "due": "2026-11-26T06:05:00Z" },
    })
}

fn promoted() -> Value {
    json!({
        "model": "churn", "version": 3, "status": "champion", "former": 2, "source": "s3://models/churn/3", "digest": "00",
        "job": "3f9548c8", "reason": "better in every month",
    })
}

fn rolled() -> Value {
    json!({
        "model": "churn", "version": 3, "former": 2, "state": "running", "stage": "25 %", "stage_number": 3, "share": 0.25,
        "reason": "quality: 0.9012 of 5120 rows of the candidate are good, and 0.9021 of 97100 of production",
    })
}

fn renewed() -> Value {
    json!({
        "model": "churn", "reason": "the training of 2026-11-20", "number": 2, "job": "3f9548c8",
        "new": { "place": "baselines/churn-2.baseline", "content_hash": "00" },
        "former": { "place": "baselines/churn.baseline", "content_hash": "01" },
    })
}

fn failed() -> Value {
    json!({
        "step": "fail", "model": "churn", "attempt": 3, "cost": "12.50", "reason": "exit code 1; its output is in output.log",
        "spent": "$37.50",
    })
}

fn found(until: Option<&str>) -> Value {
    let reason = "current: production/date=2026-11-25/: no such file, or no data in it";
    let mut body = json!({
        "as_of": "2026-11-26T02:00:00Z", "models": 1, "findings": [{ "model": "churn", "reason": reason }], "more": 0,
    });
    if let Some(until) = until {
        body["findings"][0]["until"] = until.into();
    }
    body
}
