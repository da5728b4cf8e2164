//! The page for people: one HTML file with everything in it, which opens without a network.
//!
//! What was found comes first as plain HTML, for viewers without scripts, mail and print. The script then draws the plots and
//! the table of all features from data in the page: a summary, and a block a comparison, which is unpacked when it is looked
//! at. Data are gzip in base64, so that no name can end a script element. The page allows no script and no style but its own,
//! by their hashes, and no request.

mod data;
mod history;
pub mod index;

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftsweep::sweep::{Feature, NotJudged, SchemaChange};
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape::for_display;
use flate2::Compression;
use flate2::write::GzEncoder;
use indexmap::IndexMap;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::data::{Block, State, Summary, text};
pub use self::history::HistoryLines;
use self::index::Totals;
use super::summary::{ratio, what_happened, what_to_do};
use super::{Report, ReportFormat, counted};
use crate::output::Document;

/// The format.
pub(super) const FORMAT: ReportFormat = ReportFormat {
    name: "html",
    is_for_terminal: false,
    render: |report, options| HtmlPage { history: (options.history)(), ..HtmlPage::new(report) }.render(),
};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// uPlot 1.6.32, which draws the lines of the history (vendor/uplot/LICENSE).
const PLOT_SCRIPT: &str = include_str!("vendor/uplot/uPlot.iife.min.js");
const PLOT_STYLE: &str = include_str!("vendor/uplot/uPlot.min.css");

/// Most features in the table of what drifted.
const MAX_FOUND: usize = 50;

/// Most lines about what could not be compared.
const MAX_PROBLEMS: usize = 50;

/// What is on a page.
pub struct HtmlPage<'a> {
    /// What was compared.
    pub report: Report<'a>,
    /// The figures of earlier sweeps.
    pub history: HistoryLines,
    /// The events of the sweep; absent where no store was read.
    pub events: Option<Vec<EventLine>>,
    /// The retrains.
    pub jobs: Vec<JobLine>,
    /// The budget in a sentence.
    pub budget: Option<String>,
}

/// An event that a trigger opened.
#[derive(Clone, Debug, Serialize)]
pub struct EventLine {
    /// The model.
    pub model: String,
    /// The trigger.
    pub trigger: String,
    /// Why it fired.
    pub reason: String,
    /// When.
    pub at: String,
    /// Its retrain: the job and its state.
    pub job: String,
}

/// A retrain.
#[derive(Clone, Debug, Serialize)]
pub struct JobLine {
    /// Its name.
    pub id: String,
    /// The model.
    pub model: String,
    /// The trigger.
    pub trigger: String,
    /// Its state, and the reason.
    pub state: String,
    /// Who has to approve it; empty where no one is asked.
    pub asked: String,
    /// The expected cost.
    pub expected: String,
    /// The cost so far.
    pub spent: String,
}

impl EventLine {
    /// As it is shown: escaped, and without secrets in addresses.
    fn shown(&self) -> Self {
        let [model, trigger, reason, at, job] =
            [&self.model, &self.trigger, &self.reason, &self.at, &self.job].map(|part| text(part).into_owned());
        Self { model, trigger, reason, at, job }
    }
}

impl JobLine {
    /// As it is shown: escaped, and without secrets in addresses.
    fn shown(&self) -> Self {
        let Self { id, model, trigger, state, asked, expected, spent } = self;
        let [id, model, trigger, state, asked, expected, spent] =
            [id, model, trigger, state, asked, expected, spent].map(|part| text(part).into_owned());
        Self { id, model, trigger, state, asked, expected, spent }
    }
}

/// A comparison as it is shown.
struct View<'a> {
    model: &'a str,
    window: &'a str,
    segment: &'a str,
    /// The paths of baseline and current snapshot; empty where they are not known.
    read: [&'a str; 2],
    importance: f64,
    error: Option<&'a str>,
    schema: &'a [SchemaChange],
    not_judged: Option<&'a NotJudged>,
    features: &'a [Feature],
}

impl View<'_> {
    fn place(&self) -> String {
        let parts = [self.model, self.window, self.segment].into_iter().filter(|part| !part.is_empty());
        parts.map(for_display).collect::<Vec<_>>().join(" · ")
    }
}

/// What the template names.
#[derive(Serialize)]
struct Content<'a> {
    title: String,
    as_of: &'a str,
    /// For the index; absent where two snapshots were compared.
    totals_for_index: Option<String>,
    version: &'a str,
    counted_by: String,
    counts_hash: &'a str,
    sentence: String,
    advice: String,
    totals: Vec<Total>,
    events: Option<Vec<EventLine>>,
    found_heading: &'static str,
    found: &'a [FoundFeature],
    found_more: usize,
    has_models: bool,
    problems: Vec<String>,
    jobs: Vec<JobLine>,
    budget: Option<&'a str>,
    summary: String,
    blocks: Vec<String>,
    style: &'static str,
    plot_style: &'static str,
    script: &'static str,
    plot_script: &'static str,
    style_hashes: String,
    script_hashes: String,
}

/// A number at the head of the page.
#[derive(Serialize)]
struct Total {
    value: String,
    name: &'static str,
    alarm: bool,
}

/// A feature that drifted.
#[derive(Serialize)]
struct FoundFeature {
    place: String,
    name: String,
    ratio: String,
    reasons: String,
}

impl<'a> HtmlPage<'a> {
    /// A page without history, events and retrains.
    pub fn new(report: Report<'a>) -> Self {
        Self { report, history: HistoryLines::default(), events: None, jobs: Vec::new(), budget: None }
    }

    /// The page.
    ///
    /// # Errors
    /// [`Error::BadValue`] where a figure cannot be encoded.
    pub fn render(&self) -> Result<Document> {
        let views = self.views();
        let (title, as_of, engine, counts_hash) = match self.report {
            Report::Comparison(report) => ("Comparison of two snapshots", "", &report.engine, &report.counts_hash),
            Report::Sweep(report) => (&*report.fleet, &*report.as_of, &report.engine, &report.counts_hash),
        };
        let found = found(&views);
        let problems = problems(&views);
        let summary = packed(&Summary::of(&views, &self.history, as_of))?;
        let blocks: Vec<String> =
            views.iter().map(|view| packed(&Block::of(view, &self.history))).collect::<Result<_>>()?;
        let content = Content {
            title: text(title).into_owned(),
            as_of,
            totals_for_index: self.totals()?,
            version: &engine.version,
            counted_by: text(&engine.backend).into_owned(),
            counts_hash: counts_hash.get(..12).unwrap_or(counts_hash),
            sentence: what_happened(self.report),
            advice: self.advice(),
            totals: totals(&views),
            events: self.events.as_ref().map(|events| events.iter().map(EventLine::shown).collect()),
            found_heading: if found.is_empty() { "What drifted" } else { "What drifted, furthest first" },
            found_more: found.len().saturating_sub(MAX_FOUND),
            found: &found[..found.len().min(MAX_FOUND)],
            has_models: matches!(self.report, Report::Sweep(_)),
            problems,
            jobs: self.jobs.iter().map(JobLine::shown).collect(),
            budget: self.budget.as_deref(),
            summary,
            blocks,
            style: STYLE,
            plot_style: PLOT_STYLE,
            script: SCRIPT,
            plot_script: PLOT_SCRIPT,
            style_hashes: hashes(&[PLOT_STYLE, STYLE]),
            script_hashes: hashes(&[PLOT_SCRIPT, SCRIPT]),
        };
        rendered("page.html", TEMPLATE, &content)
    }

    fn totals(&self) -> Result<Option<String>> {
        let Report::Sweep(report) = self.report else { return Ok(None) };
        Totals::of(report, self.events.as_ref().map(Vec::len)).encoded().map(Some)
    }

    fn views(&self) -> Vec<View<'a>> {
        match self.report {
            Report::Comparison(report) => vec![View {
                model: "",
                window: "",
                segment: "",
                read: ["", ""],
                importance: 1.0,
                error: None,
                schema: &report.schema,
                not_judged: report.not_judged.as_ref(),
                features: &report.features,
            }],
            Report::Sweep(report) => {
                let view = |model: &'a driftsweep::ModelReport| View {
                    model: &model.model,
                    window: &model.window,
                    segment: &model.segment,
                    read: [&model.baseline, &model.current],
                    importance: model.importance,
                    error: model.error.as_deref(),
                    schema: &model.schema,
                    not_judged: model.not_judged.as_ref(),
                    features: &model.features,
                };
                report.models.iter().map(view).collect()
            }
        }
    }

    /// What to do, in a sentence.
    fn advice(&self) -> String {
        let fired = self.events.as_ref().map_or(0, Vec::len);
        let asked = self.jobs.iter().filter(|job| !job.asked.is_empty()).count();
        match (asked, fired) {
            (0, 0) => what_to_do(self.report),
            (0, _) if !self.jobs.is_empty() => format!("{} fired: see the retrains below.", counted(fired, "trigger")),
            (0, _) => format!("{} fired: see why below.", counted(fired, "trigger")),
            (1, _) => "1 retrain waits for approval: `driftsweep jobs list` shows what to decide.".into(),
            (_, _) => format!("{asked} retrains wait for approval: `driftsweep jobs list` shows what to decide."),
        }
    }
}

fn totals(views: &[View<'_>]) -> Vec<Total> {
    let count = |state: State| {
        views.iter().flat_map(|view| view.features).filter(|feature| State::of(feature) == state).count()
    };
    let total = |name, value: usize, alarm| Total { value: value.to_string(), name, alarm };
    let (drifted, failed) = (count(State::Drifted), count(State::Failed));
    let lost = views.iter().filter(|view| view.error.is_some()).count();
    vec![
        total("features", views.iter().map(|view| view.features.len()).sum(), false),
        total("drifted", drifted, drifted > 0),
        total("significant only", count(State::Significant), false),
        total("not judged", count(State::NotJudged), false),
        total("failed", failed + lost, failed + lost > 0),
    ]
}

/// The features that drifted, furthest from their thresholds first.
fn found(views: &[View<'_>]) -> Vec<FoundFeature> {
    let all = views.iter().flat_map(|view| view.features.iter().map(move |feature| (view, feature)));
    let mut drifted: Vec<_> = all.filter(|(_, feature)| feature.verdict.drifted).collect();
    drifted.sort_by(|(_, a), (_, b)| ratio(b).unwrap_or(0.0).total_cmp(&ratio(a).unwrap_or(0.0)));
    let shown = |(view, feature): (&View<'_>, &Feature)| FoundFeature {
        place: view.place(),
        name: for_display(&feature.name).into_owned(),
        ratio: ratio(feature).map_or("–".into(), |ratio| format!("{ratio:.1}")),
        reasons: feature.verdict.reasons.iter().map(|reason| text(reason)).collect::<Vec<_>>().join("; "),
    };
    drifted.into_iter().map(shown).collect()
}

/// What could not be compared or judged, and changed columns. What holds for several windows or segments of a model is
/// said once.
fn problems(views: &[View<'_>]) -> Vec<String> {
    let mut found: IndexMap<(&str, String), Vec<String>> = IndexMap::new();
    for view in views {
        let mut add = |problem: String| found.entry((view.model, problem)).or_default().push(view.place());
        if let Some(error) = view.error {
            add(text(error).into_owned());
        }
        let failed = || view.features.iter().filter(|feature| feature.status.is_failure());
        for feature in failed() {
            let detail = feature.detail.as_deref().map(|detail| format!(": {}", text(detail))).unwrap_or_default();
            add(format!("column '{}' {}{detail}", for_display(&feature.name), feature.status.name()));
        }
        for change in view.schema.iter().filter(|change| failed().all(|feature| feature.name != change.column)) {
            add(format!("column '{}' {}", for_display(&change.column), text(&change.words())));
        }
        if let Some(found) = view.not_judged {
            add(format!("{} not judged: {}", counted(found.features, "feature"), text(&found.reason)));
        }
    }
    let shown = |((_, problem), places): ((&str, String), Vec<String>)| match &places[..] {
        [place] | [place, ..] if place.is_empty() => problem,
        [place] => format!("{place}: {problem}"),
        [first, more @ ..] => format!("{first}, and {} more windows or segments: {problem}", more.len()),
        [] => problem,
    };
    let mut all: Vec<String> = found.into_iter().map(shown).collect();
    if all.len() > MAX_PROBLEMS {
        let more = all.len() - MAX_PROBLEMS;
        all.truncate(MAX_PROBLEMS);
        all.push(format!("… and {more} more"));
    }
    all
}

/// A value as JSON, compressed, in base64.
fn packed(value: &impl Serialize) -> Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut encoder, value).map_err(|e| unencodable(&e))?;
    encoder.flush().map_err(|e| unencodable(&e))?;
    Ok(STANDARD.encode(encoder.finish().map_err(|e| unencodable(&e))?))
}

/// A template with its content: text is escaped, and a name that is not known is an error.
fn rendered(name: &str, template: &str, content: &impl Serialize) -> Result<Document> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = environment.render_named_str(name, template, Serde(content));
    Ok(Document::html(page.map_err(|e| unencodable(&e))?))
}

/// The sources of a content security policy that allow these texts.
fn hashes(texts: &[&str]) -> String {
    let hash = |text: &&str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    texts.iter().map(hash).collect::<Vec<_>>().join(" ")
}

fn unencodable(e: &dyn std::fmt::Display) -> Error {
    Error::BadValue { what: "report".into(), reason: format!("cannot be encoded: {e}") }
}

#[cfg(test)]
mod tests {
    use driftsweep::{CpuCounter, Model, SweepPlan, SweepRun};

    use super::*;

    #[test]
    fn events_and_retrains_are_shown_as_text() {
        let models: [Model; 0] = [];
        let plan = SweepPlan::new("risk & <fraud>", &models, jiff::Timestamp::UNIX_EPOCH);
        let report = SweepRun::new(&CpuCounter).sweep(&plan);
        let event = EventLine {
            model: "<b>churn".into(),
            trigger: "drift".into(),
            reason: "3 of 9 columns drift".into(),
            at: "2026-01-01T02:00:00Z".into(),
            job: "1a2b queued".into(),
        };
        let job = JobLine {
            id: "1a2b".into(),
            model: "<b>churn".into(),
            trigger: "drift".into(),
            state: "pending".into(),
            asked: "ana".into(),
            expected: "$700".into(),
            spent: "$0".into(),
        };
        let page = HtmlPage {
            events: Some(vec![event]),
            jobs: vec![job],
            budget: Some("$700 of $10,000 this month".into()),
            ..HtmlPage::new(Report::Sweep(&report))
        };
        let text = |page: &HtmlPage<'_>| String::from_utf8(page.render().unwrap().bytes(None).into_owned()).unwrap();
        let shown = text(&page);
        for words in [
            "risk &amp; &lt;fraud&gt;",
            "&lt;b&gt;churn",
            "3 of 9 columns drift",
            "$700 of $10,000 this month",
            "<td class=\"name\" data-name=\"asked\">ana</td>",
            "1 retrain waits for approval",
        ] {
            assert!(shown.contains(words), "{words}");
        }
        assert!(!shown.contains("<b>churn") && !shown.contains("No trigger fired"));
        let quiet = text(&HtmlPage { events: Some(Vec::new()), ..HtmlPage::new(Report::Sweep(&report)) });
        assert!(quiet.contains("No trigger fired.") && quiet.contains("Nothing needs attention."));
    }
}
