//! `driftsweep canary`: whether a candidate that serves a part of the traffic is to be taken back, or goes on.

use clap::Args;
use driftsweep::snapshot::Snapshot;
use driftsweep_common::error::{Error, Result};
use driftsweep_release::binary::{Block, Outcomes};
use driftsweep_release::plan::{DEFAULT_LEVEL, DEFAULT_MARGIN, DEFAULT_WORSE};
use driftsweep_release::{Check, CheckEvidence, CheckKind, CheckVerdict, Finding, Outcome};
use driftsweep_report::output::{Page, Table};
use serde::Serialize;

use super::gate::{INSUFFICIENT_DATA, REJECTED};
use super::{TextFormat, invalid_value};

#[derive(Args)]
pub struct CanaryArgs {
    /// A snapshot with a row for each look, in their order: the new rows since the look before, of predictions of the same time in
    /// both arms, in the columns candidate_rows, candidate_good, production_rows and production_good
    #[arg(value_name = "LOOKS")]
    looks: String,
    /// The share of good outcomes of production before the release, as validated: from 0 to 1
    #[arg(long, value_name = "SHARE")]
    prior: f64,
    /// Take it back if it is worse by more than this
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    tolerance: f64,
    /// Let it go on if it is not worse by this
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_MARGIN)]
    margin: f64,
    /// By how much a candidate is worse that is to be found soonest
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_WORSE)]
    worse: f64,
    /// The probability that a candidate as good as production is taken back, over all looks together; and that one that is worse by
    /// the margin goes on
    #[arg(long, value_name = "LEVEL", default_value_t = DEFAULT_LEVEL)]
    level: f64,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

/// The columns of a look: rows and good outcomes of the candidate, and of production.
const COLUMNS: [&str; 4] = ["candidate_rows", "candidate_good", "production_rows", "production_good"];

/// Looks that are shown, the last ones.
const SHOWN: usize = 10;

/// What is to be done with a candidate.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CanaryDecision {
    /// It is worse.
    RollBack,
    /// It is not worse by the margin.
    Promote,
    /// Neither is shown yet.
    Hold,
}

/// What was decided, and why.
#[derive(Serialize)]
struct CanaryReport {
    decision: CanaryDecision,
    finding: Finding,
    looks: Vec<Look>,
}

/// A look with the evidence after it.
#[derive(Clone, Copy, Serialize)]
struct Look {
    #[serde(flatten)]
    block: Block,
    /// The evidence that the candidate is worse than the tolerance allows: act at 1 / level.
    worse: f64,
    /// The evidence that it is not worse by the margin.
    sound: f64,
}

pub fn run(args: &CanaryArgs) -> anyhow::Result<u8> {
    let CanaryArgs { prior, tolerance, margin, worse, level, .. } = *args;
    let kind = CheckKind::Binary { worse, prior };
    let check =
        Check { name: "canary".into(), kind, tolerance, margin: Some(margin), source: String::new(), limit: None };
    check.check().map_err(|reason| invalid_value("--prior, --tolerance, --margin and --worse", &reason))?;
    if !(level > 0.0 && level <= 0.5) {
        return Err(invalid_value("--level", "must be above 0 and at most 0.5"));
    }
    let mut evidence = CheckEvidence::new(&check, level);
    let mut looks = Vec::new();
    for block in blocks(&args.looks)? {
        evidence = evidence.after(&Outcome::Binary(block), true);
        if let CheckEvidence::Binary { worse, sound, .. } = &evidence {
            let sound = sound.map_or(0.0, |sound| sound.log_e);
            // An infinite number would be nothing in JSON.
            let evidence = |log_e: f64| log_e.exp().min(f64::MAX);
            looks.push(Look { block, worse: evidence(worse.log_e), sound: evidence(sound) });
        }
    }
    let finding = evidence.finding(&check, level, level);
    let decision = match finding.verdict {
        CheckVerdict::Worse => CanaryDecision::RollBack,
        CheckVerdict::Sound => CanaryDecision::Promote,
        CheckVerdict::Open => CanaryDecision::Hold,
    };
    let report = CanaryReport { decision, finding, looks };
    match args.format {
        TextFormat::Json => super::write_json(&report)?,
        TextFormat::Table => super::write(page(&report))?,
    }
    Ok(match decision {
        CanaryDecision::RollBack => REJECTED,
        CanaryDecision::Promote => 0,
        CanaryDecision::Hold => INSUFFICIENT_DATA,
    })
}

/// The blocks of all looks.
fn blocks(spec: &str) -> Result<Vec<Block>> {
    let table = Snapshot::open(spec)?;
    let column = |name: &str| -> Result<Vec<u64>> {
        let bad = |row: usize, what: &str| Error::UnreadableColumn {
            path: spec.into(),
            column: name.into(),
            reason: format!("row {row} {what}; give whole numbers, 0 or more"),
        };
        let numbers = table.numbers(table.column(name)?)?.into_iter().enumerate();
        let whole = |(row, number): (usize, Option<f64>)| match number {
            None => Err(bad(row, "has none")),
            Some(number) if number < 0.0 || number.fract() != 0.0 || number > 2f64.powi(53) => {
                Err(bad(row, &format!("is {number}")))
            }
            Some(number) => Ok(number as u64),
        };
        numbers.map(whole).collect()
    };
    let [rows, good, other_rows, other_good] =
        [column(COLUMNS[0])?, column(COLUMNS[1])?, column(COLUMNS[2])?, column(COLUMNS[3])?];
    let arm = |at: usize, [rows, good]: [&[u64]; 2], name: &str| match good[at] <= rows[at] {
        true => Ok(Outcomes { rows: rows[at], good: good[at] }),
        false => Err(Error::UnreadableColumn {
            path: spec.into(),
            column: name.into(),
            reason: format!("row {at} has {} good outcomes of {} rows", good[at], rows[at]),
        }),
    };
    let block = |at| {
        let candidate = arm(at, [&rows, &good], COLUMNS[1])?;
        Ok(Block { candidate, production: arm(at, [&other_rows, &other_good], COLUMNS[3])? })
    };
    (0..rows.len()).map(block).collect()
}

/// Evidence in few characters.
fn shown(evidence: f64) -> String {
    if evidence < 1e6 { format!("{evidence:.3}") } else { format!("{evidence:.1e}") }
}

fn page(report: &CanaryReport) -> Page {
    let mut table = Table::new(["look", "candidate", "good", "production", "good", "worse", "not worse"]);
    let first = report.looks.len().saturating_sub(SHOWN);
    for (number, Look { block, worse, sound }) in report.looks.iter().enumerate().skip(first) {
        let share = |arm: Outcomes| if arm.rows == 0 { "–".into() } else { format!("{:.4}", arm.rate()) };
        table.row([
            (number + 1).to_string(),
            block.candidate.rows.to_string(),
            share(block.candidate),
            block.production.rows.to_string(),
            share(block.production),
            shown(*worse),
            shown(*sound),
        ]);
    }
    table.align_right(0..7);
    let mut page = Page::new();
    page.table(table);
    page.line(&report.finding.sentence);
    page.section(match report.decision {
        CanaryDecision::RollBack => "Roll back: the candidate is worse than production.".to_owned(),
        CanaryDecision::Promote => "Go on: the candidate is not worse by the margin.".into(),
        CanaryDecision::Hold => match report.finding.rows_needed {
            Some(rows) => format!("Hold: neither is shown; some {rows} more rows of the candidate, if it is as good."),
            None => "Hold: neither is shown; there are no rows of both arms yet.".into(),
        },
    });
    page
}
