//! Replays jobs from the records of the audit: each step is applied again, and must have been allowed then. The table
//! of jobs is compared with the result. Pure: records come as arguments.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::approval::{ApprovalRequest, Grant, GrantedBy, in_time, is_expired};
use super::approvers::{self, AskedQuestion};
use super::clock::{AuditClock, CLOCK_AHEAD, ClockSetBack};
use super::job::{Job, JobState, JobStep};
use super::signature::SignedStatement;
use super::statement::{ApprovalDecision, ApprovalQuestion};
use crate::formats::STEPS;
use driftsweep_common::escape::truncated;

/// The actor of automatic steps.
pub const SYSTEM_ACTOR: &str = "driftsweep";

/// A record of the audit about a job.
#[derive(Clone, Copy, Debug)]
pub struct AuditEntry<'a> {
    /// The name of the fleet.
    pub fleet: &'a str,
    /// The event of the job in the audit.
    pub event: Option<EventRecord<'a>>,
    /// Its number.
    pub seq: u64,
    /// When it was written, by the effective time.
    pub at: Timestamp,
    /// By the real clock.
    pub clock_at: Option<Timestamp>,
    /// Who acted.
    pub actor: &'a str,
    /// For example `job.approve`.
    pub kind: &'a str,
    /// The job.
    pub subject: &'a str,
    /// The step.
    pub body: &'a Value,
}

/// The audit record of an event.
#[derive(Clone, Copy, Debug)]
pub struct EventRecord<'a> {
    /// Its model.
    pub model: &'a str,
    /// The trigger that opened it.
    pub trigger: &'a str,
    /// The SHA-256 of its body.
    pub sha256: &'a str,
}

/// A job as replayed from its records.
#[derive(Clone, Debug)]
pub struct ReplayedJob {
    /// The job.
    pub job: Job,
    /// The number of its steps, including its request.
    pub version: u64,
    /// Steps that were not allowed, each with its record.
    pub problems: Vec<String>,
    asked: Option<AskedQuestion>,
}

/// All jobs of a fleet as replayed from its audit.
#[derive(Clone, Debug, Default)]
pub struct ReplayedJobs {
    jobs: BTreeMap<String, ReplayedJob>,
    /// Problems of records of jobs that were never requested.
    orphan_records: BTreeMap<String, Vec<String>>,
    clock: AuditClock,
}

impl ReplayedJobs {
    /// The job with an id.
    pub fn get(&self, id: &str) -> Option<&ReplayedJob> {
        self.jobs.get(id)
    }

    /// Steps that were not allowed, with the ids of the jobs.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &String)> {
        let of_jobs = self.jobs.iter().map(|(id, derived)| (id, &derived.problems));
        of_jobs.chain(&self.orphan_records).flat_map(|(id, all)| all.iter().map(move |problem| (&**id, problem)))
    }

    /// Starts over with the jobs of a store whose older records are not complete.
    pub fn begin(&mut self) {
        *self = Self { clock: std::mem::take(&mut self.clock), ..Self::default() };
    }

    /// Where the real clock went back from one record to the next.
    pub fn set_back(&self) -> &[ClockSetBack] {
        self.clock.set_back()
    }

    /// Accepts all problems so far.
    pub fn accept(&mut self) {
        self.orphan_records.clear();
        self.jobs.values_mut().for_each(|derived| derived.problems.clear());
    }

    /// Removes a job whose row does not exist any more.
    pub fn forget(&mut self, id: &str) {
        self.jobs.remove(id);
    }

    /// Adds a job from the row of such a store.
    pub fn found(&mut self, job: Job, version: u64) {
        let known = self.jobs.get(&job.id).and_then(|derived| derived.asked.clone());
        let asked = match &job.state {
            JobState::AwaitingApproval(request) => {
                let at = request.asked_at;
                Some(known.filter(|asked| asked.at == at).unwrap_or_else(|| AskedQuestion::unknown(request)))
            }
            _ => None,
        };
        let job = Job { key: None, ..job };
        self.jobs.insert(job.id.clone(), ReplayedJob { job, version, problems: Vec::new(), asked });
    }

    /// Applies the step of a record; records that are not about jobs are skipped.
    pub fn add(&mut self, entry: AuditEntry<'_>) {
        if entry.kind == CLOCK_AHEAD {
            self.clock.correct();
        }
        if let Some(clock_at) = entry.clock_at {
            self.clock.add(entry.seq, clock_at);
        }
        let Some(name) = entry.kind.strip_prefix("job.") else { return };
        let problem = |reason: String| format!("record {} ({}): {reason}", entry.seq, entry.kind);
        let body = match STEPS.upgraded(entry.body) {
            Ok(body) => body,
            Err(e) => {
                return self.add_problem(entry.subject, problem(format!("its step cannot be read: {e}")));
            }
        };
        let entry = AuditEntry { body: &body, ..entry };
        if name == "request" {
            let asked_for = request(entry);
            match asked_for {
                Ok(_) if self.jobs.contains_key(entry.subject) => {
                    self.note_orphan(entry.subject, problem("the job was requested before".into()));
                }
                Ok(job) => {
                    let derived = ReplayedJob { job, version: 1, problems: Vec::new(), asked: None };
                    self.jobs.insert(entry.subject.into(), derived);
                }
                Err(reason) => self.note_orphan(entry.subject, problem(reason)),
            }
            return;
        }
        match self.jobs.get_mut(entry.subject) {
            Some(derived) => {
                if let Err(reason) = derived.take(name, entry, &self.clock) {
                    derived.problems.push(problem(reason));
                }
            }
            None => self.note_orphan(entry.subject, problem("the job was never requested".into())),
        }
    }

    /// Adds a problem of the records of a job.
    pub fn add_problem(&mut self, id: &str, problem: String) {
        match self.jobs.get_mut(id) {
            Some(derived) => derived.problems.push(problem),
            None => self.note_orphan(id, problem),
        }
    }

    fn note_orphan(&mut self, id: &str, problem: String) {
        self.orphan_records.entry(id.into()).or_default().push(problem);
    }
}

fn request(entry: AuditEntry<'_>) -> Result<Job, String> {
    #[derive(Deserialize)]
    struct RequestBody {
        model: String,
        trigger: String,
        deadline: Timestamp,
    }
    require(entry.actor == SYSTEM_ACTOR, || format!("'{}' may not request jobs", entry.actor))?;
    let RequestBody { model, trigger, deadline } = RequestBody::deserialize(entry.body).map_err(|e| e.to_string())?;
    let is_of_event = entry.event.is_some_and(|event| event.model == model && event.trigger == trigger);
    require(is_of_event, || "there is no record of such an event".into())?;
    Ok(Job::request(entry.subject, &model, &trigger, entry.at, deadline))
}

impl ReplayedJob {
    /// Whether a row holds this job. The key of a run is in no record: the hash of the whole row is.
    pub fn is(&self, job: &Job, version: u64) -> bool {
        self.version == version && self.job == Job { key: None, ..job.clone() }
    }

    /// How a row differs from this job; `None` if it does not.
    pub fn difference(&self, job: &Job, version: u64) -> Option<String> {
        if self.is(job, version) {
            return None;
        }
        let fields = |job: &Job| serde_json::to_value(Job { key: None, ..job.clone() }).unwrap_or_default();
        let (found, said) = (fields(job), fields(&self.job));
        let names: BTreeSet<&String> =
            [&found, &said].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
        let differs = names.into_iter().find(|name| found.get(name) != said.get(name));
        Some(match differs {
            Some(name) => {
                let [found, said] = [&found, &said].map(|job| job.get(name).map_or("nothing".into(), Value::to_string));
                let [found, said] = [&found, &said].map(|text| truncated(text, 200).into_owned());
                format!("its {name} is {found}, and by its records it is {said}")
            }
            None => format!("it has {version} steps, and its records have {}", self.version),
        })
    }

    fn take(&mut self, name: &str, entry: AuditEntry<'_>, clock: &AuditClock) -> Result<(), String> {
        let step = JobStep::deserialize(entry.body).map_err(|e| format!("its step cannot be read: {e}"))?;
        require(step.name() == name, || format!("its step is '{}'", step.name()))?;
        // The step is applied even if it was not allowed: later steps are checked against its result.
        let allowed = self.allowed(&step, entry, clock);
        // The malformed part of an answer is recorded with the end of the attempt.
        if matches!(self.job.state, JobState::Running { .. }) && !matches!(step, JobStep::Stop { .. }) {
            self.job.about_answer = entry.body["about_answer"].as_str().map(str::to_owned);
        }
        self.job = self.job.apply(&step, entry.at).map_err(|illegal| illegal.to_string())?;
        self.version += 1;
        if let JobStep::Ask { .. } | JobStep::Escalate { .. } | JobStep::AskAgain { .. } = step {
            self.asked = Some(AskedQuestion::of(entry.seq, (entry.at, entry.clock_at), entry.body));
        }
        allowed
    }

    /// Whether the actor was allowed to do this at that time.
    fn allowed(&self, step: &JobStep, entry: AuditEntry<'_>, clock: &AuditClock) -> Result<(), String> {
        let request = match &self.job.state {
            JobState::AwaitingApproval(request) => Some(request),
            _ => None,
        };
        match step {
            JobStep::Approve { grant } => self.granted(grant, request, entry, clock),
            JobStep::Reject { by, reason, signature } => {
                require(by == entry.actor, || format!("'{}' has answered as '{by}'", entry.actor))?;
                self.answered(request, by, entry, clock)?;
                let decision = ApprovalDecision { allows: None, by, reason };
                self.signed(signature.as_ref(), &decision, request, entry)
            }
            JobStep::Queue if matches!(self.job.state, JobState::Queued { .. }) => {
                by_system(entry)?;
                let times = (entry.at, entry.clock_at.unwrap_or(entry.at));
                let since = self.job.since;
                require(approvers::is_ahead(since, times), || {
                    format!("the clock was not ahead when it was queued, at {since}")
                })
            }
            JobStep::Queue => Ok(()),
            JobStep::AskAgain { request: next, because } => {
                by_system(entry)?;
                let (Some(before), Some(asked)) = (request, &self.asked) else { return Err("nobody was asked".into()) };
                let next_asked = AskedQuestion::of(entry.seq, (entry.at, entry.clock_at), entry.body);
                approvers::is_confirmed_by_records(*because, (before, asked), (next, &next_asked))
            }
            JobStep::Cancel { by, .. } => {
                require(entry.actor == SYSTEM_ACTOR || entry.actor == by, || format!("'{}' is not '{by}'", entry.actor))
            }
            JobStep::Stop { stopping } => require(entry.actor == SYSTEM_ACTOR || entry.actor == stopping.by, || {
                format!("'{}' is not '{}'", entry.actor, stopping.by)
            }),
            JobStep::Escalate { request: next } => {
                by_system(entry)?;
                let before = request.ok_or("nobody was asked")?;
                self.over(before, entry)?;
                require(next.level == before.level + 1 && next.reasons == before.reasons, || {
                    "it is not the request to the previous level".into()
                })
            }
            JobStep::Expire { .. } => {
                by_system(entry)?;
                self.over(request.ok_or("nobody was asked")?, entry)
            }
            _ => by_system(entry),
        }
    }

    /// Whether an approval was given by a permitted person.
    fn granted(
        &self,
        grant: &Grant,
        request: Option<&ApprovalRequest>,
        entry: AuditEntry<'_>,
        clock: &AuditClock,
    ) -> Result<(), String> {
        require(grant.at == entry.at, || format!("it says that it was given at {}", grant.at))?;
        match (&grant.by, request) {
            (GrantedBy::Policy, request) => {
                by_system(entry)?;
                require(grant.overruns.is_empty(), || "the policy cannot allow an overrun of a budget".into())?;
                request.map_or(Ok(()), |request| self.over(request, entry))
            }
            (GrantedBy::Person(name), None) => Err(format!("'{name}' was not asked")),
            (GrantedBy::Person(name), Some(request)) => {
                require(name == entry.actor, || format!("'{}' has answered as '{name}'", entry.actor))?;
                self.answered(Some(request), name, entry, clock)?;
                let (asked, given) = (request.overruns(), &grant.overruns);
                let covers = asked.len() == given.len()
                    && asked.iter().zip(given).all(|(asked, given)| {
                        (&asked.scope, asked.month, asked.budget) == (&given.scope, given.month, given.budget)
                            && given.by >= asked.by
                    });
                require(covers, || "it allows other overruns than the requested ones".into())?;
                let decision = ApprovalDecision { allows: Some(&grant.overruns), by: name, reason: &grant.reason };
                self.signed(grant.signature.as_ref(), &decision, Some(request), entry)
            }
        }
    }

    /// Whether an answer is signed as required. The owner of the key is in the fleet file, not in the audit.
    fn signed(
        &self,
        signed: Option<&SignedStatement>,
        decision: &ApprovalDecision<'_>,
        request: Option<&ApprovalRequest>,
        entry: AuditEntry<'_>,
    ) -> Result<(), String> {
        let Some(signed) = signed else {
            let free = self.asked.as_ref().is_none_or(|asked| !asked.must_be_signed);
            return require(free, || "the answer must be signed, and is not".into());
        };
        let request = request.ok_or("nobody was asked")?;
        let event = entry.event.ok_or("it is signed for an event without a record")?;
        let event_sha256 = event.sha256;
        let currency = signed.currency().ok_or("the signed statement has no currency")?;
        let question =
            ApprovalQuestion { fleet: entry.fleet, currency: &currency, job: &self.job, request, event_sha256 };
        signed.answers(&question, decision).map(drop).map_err(|problem| problem.to_string())
    }

    /// Whether the request had expired.
    fn over(&self, request: &ApprovalRequest, entry: AuditEntry<'_>) -> Result<(), String> {
        let asked = self.asked.as_ref().map_or((request.asked_at, None), AskedQuestion::times);
        is_expired(request, asked, (entry.at, entry.clock_at))
    }

    /// Whether a person was asked, and has answered in time: also by the clock of the records that came in between.
    fn answered(
        &self,
        request: Option<&ApprovalRequest>,
        who: &str,
        entry: AuditEntry<'_>,
        clock: &AuditClock,
    ) -> Result<(), String> {
        let (Some(request), Some(asked)) = (request, &self.asked) else {
            return Err(format!("'{who}' was not asked"));
        };
        require(asked.names(who), || format!("'{who}' was not among those who may answer"))?;
        in_time(request, asked.times(), (entry.at, entry.clock_at))?;
        approvers::in_time_by_records(request, asked, entry.clock_at, clock.latest_since(asked.seq))
    }
}

fn by_system(entry: AuditEntry<'_>) -> Result<(), String> {
    require(entry.actor == SYSTEM_ACTOR, || format!("'{}' cannot take this step", entry.actor))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::super::job::StopRequest;
    use super::super::{CostEstimate, Overrun, Statement, ValueEstimate};
    use super::*;
    use crate::retrain::cost::{LossSource, MetricLoss};
    use driftsweep::metric::performance::PerformanceMetric;
    use driftsweep_fleet::{Currency, Money, Secret};

    const EVENT: Option<EventRecord<'static>> = Some(EventRecord { model: "m", trigger: "drift", sha256: "ab" });

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 60 * minute).unwrap()
    }

    fn cost() -> Value {
        let lost = MetricLoss { points: 9.0, low: 8.0, loss: LossSource::Realised, missing: None };
        let worth =
            ValueEstimate::new(PerformanceMetric::Accuracy, lost, Money::of(10.0), SignedDuration::from_hours(24));
        let mut body =
            serde_json::to_value(JobStep::Cost { estimate: CostEstimate::new(Money::from_cents(60_000), &[]), worth })
                .unwrap();
        // As the audit has amounts.
        for (path, cents) in [
            ("/estimate/declared", 60_000),
            ("/estimate/expected", 60_000),
            ("/estimate/low", 1),
            ("/estimate/high", 7),
        ] {
            *body.pointer_mut(path).unwrap() = Money::from_cents(cents).plain().into();
        }
        body
    }

    fn question(name: &str, level: usize, asked: i64) -> Value {
        json!({
            "step": name, "may_answer": if level == 0 { vec!["ana", "cto"] } else { vec!["cto"] },
            "request": { "reasons": [{ "because": "high_stakes" }], "level": level, "asked_at": at(asked), "due": at(asked + 240) },
        })
    }

    fn grant(who: &str, minute: i64) -> Value {
        let by = if who == "policy" { json!("policy") } else { json!({ "person": who }) };
        json!({ "step": "approve", "grant": { "by": by, "reason": "x", "at": at(minute), "overruns": [] } })
    }

    /// Records by minute, actor, kind and body.
    fn derive(records: &[(i64, &str, &str, Value)]) -> ReplayedJobs {
        let mut jobs = ReplayedJobs::default();
        for ((minute, actor, kind, body), seq) in records.iter().zip(1..) {
            let (at, clock_at) = (at(*minute), Some(at(*minute)));
            jobs.add(AuditEntry { fleet: "f", event: EVENT, seq, at, clock_at, actor, kind, subject: "e", body });
        }
        jobs
    }

    /// Up to the question of the first level.
    fn begun() -> Vec<(i64, &'static str, &'static str, Value)> {
        let request = json!({ "model": "m", "trigger": "drift", "deadline": at(9000) });
        vec![
            (0, SYSTEM_ACTOR, "job.request", request),
            (0, SYSTEM_ACTOR, "job.cost", cost()),
            (0, SYSTEM_ACTOR, "job.ask", question("ask", 0, 0)),
        ]
    }

    #[test]
    fn a_job_follows_from_its_records_to_its_end() {
        let mut records = begun();
        records.extend([
            (240, SYSTEM_ACTOR, "job.escalate", question("escalate", 1, 240)),
            (250, "cto", "job.approve", grant("cto", 250)),
            (250, "cto", "job.queue", json!({ "step": "queue" })),
            (251, SYSTEM_ACTOR, "job.start", json!({ "step": "start", "stop_at": at(600) })),
            (260, SYSTEM_ACTOR, "job.fail", json!({ "step": "fail", "cost": "612.50", "reason": "no luck" })),
            (261, SYSTEM_ACTOR, "sweep.again", json!({})),
        ]);
        let jobs = derive(&records);
        assert_eq!(jobs.problems().collect::<Vec<_>>(), []);
        let derived = jobs.get("e").unwrap();
        assert_eq!((derived.version, derived.job.attempts, derived.job.spent), (8, 1, Money::from_cents(61_250)));
        assert_eq!(derived.job.state, JobState::Failed { reason: "no luck".into() });
        assert_eq!(derived.job.estimate.unwrap().declared, Money::from_cents(60_000));
        assert_eq!(derived.job.grants[0].by, GrantedBy::Person("cto".into()));
    }

    #[test]
    fn a_step_that_was_not_allowed_is_named() {
        let reject = |by: &str| json!({ "step": "reject", "by": by, "reason": "x" });
        let stop = serde_json::to_value(JobStep::Stop {
            stopping: StopRequest { by: "ana".into(), reason: "x".into(), overdue: false },
        })
        .unwrap();
        type Case<'a> = (&'a str, (i64, &'a str, &'a str, Value), &'a str);
        let cases: [Case<'_>; 19] = [
            ("by nobody who was asked", (1, "eve", "job.approve", grant("eve", 1)), "'eve' was not among"),
            ("in another's name", (1, "eve", "job.approve", grant("ana", 1)), "as 'ana'"),
            ("late", (240, "ana", "job.approve", grant("ana", 240)), "it was due at"),
            ("of another time", (2, "ana", "job.approve", grant("ana", 1)), "it says that it was given at"),
            ("by the policy, too early", (1, SYSTEM_ACTOR, "job.approve", grant("policy", 1)), "is due only at"),
            ("by the policy, by a person", (240, "ana", "job.approve", grant("policy", 240)), "cannot take this step"),
            ("rejected in another's name", (1, "eve", "job.reject", reject("ana")), "as 'ana'"),
            ("rejected by nobody", (1, "eve", "job.reject", reject("eve")), "'eve' was not among"),
            ("escalated early", (1, SYSTEM_ACTOR, "job.escalate", question("escalate", 1, 1)), "is due only at"),
            (
                "a level left out",
                (240, SYSTEM_ACTOR, "job.escalate", question("escalate", 2, 240)),
                "to the previous level",
            ),
            (
                "expired early",
                (1, SYSTEM_ACTOR, "job.expire", json!({ "step": "expire", "reason": "x" })),
                "is due \
                                                                                                            only at",
            ),
            ("queued", (1, SYSTEM_ACTOR, "job.queue", json!({ "step": "queue" })), "'queue' is not possible"),
            (
                "started",
                (1, SYSTEM_ACTOR, "job.start", json!({ "step": "start", "stop_at": at(9) })),
                "'start' is not possible",
            ),
            ("costed again", (1, SYSTEM_ACTOR, "job.cost", cost()), "'cost' is not possible"),
            ("under another name", (1, SYSTEM_ACTOR, "job.queue", grant("policy", 1)), "its step is 'approve'"),
            ("asked for again", (1, SYSTEM_ACTOR, "job.request", begun().remove(0).3), "was requested before"),
            ("stopped by another", (1, "eve", "job.stop", stop.clone()), "'stop' is not possible"),
            ("no step at all", (1, SYSTEM_ACTOR, "job.start", json!({})), "cannot be read"),
            (
                "withdrawn",
                (1, SYSTEM_ACTOR, "job.withdraw", json!({ "step": "withdraw" })),
                "'withdraw' is not \
                                                                                             possible",
            ),
        ];
        for (what, record, wanted) in cases {
            let mut records = begun();
            records.push(record);
            let jobs = derive(&records);
            let found: Vec<&String> = jobs.problems().map(|(_, problem)| problem).collect();
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{what}: {found:?}");
            assert!(found.iter().all(|problem| problem.starts_with("record 4 (job.")), "{what}: {found:?}");
        }
        // Nor may a run be stopped in another's name.
        let mut records = begun();
        records.extend([
            (1, "ana", "job.approve", grant("ana", 1)),
            (1, "ana", "job.queue", json!({ "step": "queue" })),
            (2, SYSTEM_ACTOR, "job.start", json!({ "step": "start", "stop_at": at(600) })),
            (3, "eve", "job.stop", stop),
        ]);
        let jobs = derive(&records);
        let found: Vec<&String> = jobs.problems().map(|(_, problem)| problem).collect();
        assert!(found.len() == 1 && found[0].contains("'eve' is not 'ana'"), "{found:?}");
        // Without a request there is no job.
        let jobs = derive(&[(0, SYSTEM_ACTOR, "job.cost", cost())]);
        assert_eq!(jobs.problems().count(), 1);
        let jobs = derive(&[(0, "eve", "job.request", begun().remove(0).3)]);
        assert!(jobs.get("e").is_none() && jobs.problems().count() == 1);
        let of_another = json!({ "model": "other", "trigger": "drift", "deadline": at(9000) });
        let jobs = derive(&[(0, SYSTEM_ACTOR, "job.request", of_another)]);
        assert!(jobs.get("e").is_none() && jobs.problems().count() == 1);
    }

    /// Records by minute, and by the minute of the real clock.
    fn derive_by_clock(records: &[(i64, i64, &str, &str, Value)]) -> Vec<String> {
        let mut jobs = ReplayedJobs::default();
        for ((minute, clock, actor, kind, body), seq) in records.iter().zip(1..) {
            let (at, clock_at) = (at(*minute), Some(at(*clock)));
            jobs.add(AuditEntry { fleet: "f", event: EVENT, seq, at, clock_at, actor, kind, subject: "e", body });
        }
        jobs.problems().map(|(_, problem)| problem.clone()).collect()
    }

    #[test]
    fn an_answer_is_late_if_records_before_it_are_of_a_time_after_it_was_due() {
        let asked = || begun().into_iter().map(|(minute, actor, kind, body)| (minute, minute, actor, kind, body));
        let other = |clock: i64| (clock, clock, SYSTEM_ACTOR, "store.write", json!({}));
        let answer = |minute: i64| (minute, minute, "ana", "job.approve", grant("ana", minute));
        // Due at 240: the clock of the records in between, and when it is answered.
        for (between, given, late) in [
            (vec![10], 20, false),
            (vec![250], 20, true),
            (vec![300, 10], 20, true),
            (vec![239], 20, false),
            (vec![245], 238, false),
        ] {
            let between_records = between.iter().map(|&clock| other(clock));
            let records: Vec<_> = asked().chain(between_records).chain([answer(given)]).collect();
            let found = derive_by_clock(&records);
            assert_eq!(found.len(), usize::from(late), "{between:?} {given}: {found:?}");
            assert!(found.iter().all(|problem| problem.contains("was set back since")), "{found:?}");
        }
        // What the clock was before the question says nothing.
        let records: Vec<_> = [other(99_999)].into_iter().chain(asked()).chain([answer(20)]).collect();
        assert_eq!(derive_by_clock(&records), [""; 0]);
        // A question of a replayed night is answered within that night.
        let mut records: Vec<_> = asked().collect();
        records[2].1 = 90_000;
        records.extend([other(95_000), (20, 94_000, "ana", "job.approve", grant("ana", 20))]);
        assert_eq!(derive_by_clock(&records), [""; 0]);
    }

    #[test]
    fn a_question_is_put_anew_and_a_queued_job_queued_anew_for_a_reason_only() {
        let again = |names: &[&str], because: &str, minute: i64| {
            let mut body = question("ask_again", 0, minute);
            body["may_answer"] = json!(names);
            body["because"] = because.into();
            body["request"]["renewed"] = (because == "nobody_may_answer").into();
            (minute, SYSTEM_ACTOR, "job.ask_again", body)
        };
        for (record, answer, wanted) in [
            (again(&["dan"], "nobody_may_answer", 5), "dan", ""),
            (again(&["dan"], "nobody_may_answer", 5), "ana", "'ana' was not among"),
            (again(&["dan", "cto"], "nobody_may_answer", 5), "dan", "'cto' was asked, and may still answer"),
            (again(&["ana", "cto"], "clock_was_ahead", 5), "ana", "the clock was not ahead"),
        ] {
            let mut records = begun();
            records.extend([record, (6, answer, "job.approve", grant(answer, 6))]);
            let jobs = derive(&records);
            let found: Vec<&String> = jobs.problems().map(|(_, problem)| problem).collect();
            assert_eq!(found.len(), usize::from(!wanted.is_empty()), "{wanted}: {found:?}");
            assert!(found.iter().all(|problem| problem.contains(wanted)), "{wanted}: {found:?}");
        }
        // A clock that was a month ahead, and is right again.
        let month = 60 * 24 * 30;
        let mut records = begun();
        records[2] = (month, SYSTEM_ACTOR, "job.ask", question("ask", 0, month));
        records.extend([again(&["ana", "cto"], "clock_was_ahead", 5), (6, "ana", "job.approve", grant("ana", 6))]);
        assert_eq!(derive(&records).problems().collect::<Vec<_>>(), []);
        for (queued, fine) in [(month, true), (2, false)] {
            let mut records = begun();
            let queue = || json!({ "step": "queue" });
            records.extend([(1, "ana", "job.approve", grant("ana", 1)), (queued, "ana", "job.queue", queue())]);
            records.push((3, SYSTEM_ACTOR, "job.queue", queue()));
            assert_eq!(derive(&records).problems().count(), usize::from(!fine), "{queued}");
        }
    }

    #[test]
    fn an_answer_that_had_to_be_signed_is_signed_for_its_question_and_its_event() {
        let key = ssh_key::PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&[1; 32]));
        let key = Secret::from(key.to_openssh(ssh_key::LineEnding::LF).unwrap().to_string());
        let mut asked = begun();
        asked[2].3["must_be_signed"] = true.into();
        // As the approver was shown it.
        let job = derive(&asked).get("e").unwrap().job.clone();
        let JobState::AwaitingApproval(request) = &job.state else { panic!() };
        let usd = Currency::default();
        let sign = |event_sha256: &str, allows: Option<&[Overrun]>| {
            let question = ApprovalQuestion { fleet: "f", currency: &usd, job: &job, request, event_sha256 };
            let statement =
                Statement::new(&question, &ApprovalDecision { allows, by: "ana", reason: "x" }, at(1)).unwrap();
            serde_json::to_value(SignedStatement::sign(&statement, &key).unwrap()).unwrap()
        };
        let given = |kind: &'static str, signature: Option<Value>| {
            let (mut body, place) = match kind {
                "job.approve" => (grant("ana", 1), "/grant"),
                _ => (json!({ "step": "reject", "by": "ana", "reason": "x" }), ""),
            };
            if let Some(signature) = signature {
                body.pointer_mut(place).unwrap()["signature"] = signature;
            }
            let mut records = asked.clone();
            records.push((1, "ana", kind, body));
            let mut jobs = ReplayedJobs::default();
            for ((minute, actor, kind, body), seq) in records.iter().zip(1..) {
                let (at, clock_at) = (at(*minute), Some(at(*minute)));
                let entry = AuditEntry { fleet: "f", event: EVENT, seq, at, clock_at, actor, kind, subject: "e", body };
                jobs.add(entry);
            }
            jobs.problems().map(|(_, problem)| problem.clone()).collect::<Vec<_>>()
        };
        for (kind, allows) in [("job.approve", Some(&[][..])), ("job.reject", None)] {
            assert_eq!(given(kind, Some(sign("ab", allows))), [] as [String; 0], "{kind}");
            let unsigned = given(kind, None);
            assert!(unsigned.len() == 1 && unsigned[0].contains("must be signed, and is not"), "{unsigned:?}");
            let other = given(kind, Some(sign("cd", allows)));
            assert!(other.len() == 1 && other[0].contains("is for another statement: event_sha256"), "{other:?}");
            let mut forged = sign("ab", allows);
            forged["signature"] = sign("cd", allows)["signature"].clone();
            let forged = given(kind, Some(forged));
            assert!(forged.len() == 1 && forged[0].contains("was not made for this statement"), "{forged:?}");
        }
        // A rejection is not to be used as an approval.
        let turned = given("job.approve", Some(sign("ab", None)));
        assert!(turned.len() == 1 && turned[0].contains("decision is"), "{turned:?}");
    }

    #[test]
    fn an_answer_allows_the_overruns_that_were_asked_for_and_no_others() {
        let overrun =
            |scope: &str, by: &str| json!({ "scope": scope, "month": "2026-09-01", "budget": "100.00", "by": by });
        let mut request = question("ask", 0, 0);
        request["request"]["reasons"] = json!([{
            "because": "overrun", "scope": "fleet", "month": "2026-09-01", "budget": "100.00", "by": "5.00",
        }]);
        for (overruns, fine) in [
            (json!([overrun("fleet", "5.00")]), true),
            (json!([overrun("fleet", "9.00")]), true),
            (json!([overrun("fleet", "4.99")]), false),
            (json!([]), false),
            (json!([overrun("fleet", "5.00"), overrun("fleet", "5.00")]), false),
            (json!([{ "scope": { "team": "risk" }, "month": "2026-09-01", "budget": "100.00", "by": "5.00" }]), false),
        ] {
            let mut records = begun();
            records[2].3 = request.clone();
            let mut given = grant("ana", 1);
            given["grant"]["overruns"] = overruns.clone();
            records.push((1, "ana", "job.approve", given));
            let jobs = derive(&records);
            let problems: Vec<&String> = jobs.problems().map(|(_, problem)| problem).collect();
            assert_eq!(problems.is_empty(), fine, "{overruns}: {problems:?}");
        }
    }
}
