//! Drift at simulated nights: the sweep engine compares the features of the last predictions with the training set of the model
//! in production.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use driftsweep::baseline::Baseline;
use driftsweep::count::CpuCounter;
use driftsweep::model::window::Period as WindowPeriod;
use driftsweep::model::{Model as Compared, Window, dated};
use driftsweep::sweep::{ModelReport, SweepPlan, SweepRun};
use driftsweep_common::address::Location;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::PastRows;
use driftsweep_fleet::Model;
use driftsweep_ops::policy::replay::InProduction;
use jiff::{SignedDuration, Timestamp};

use super::models::Models;

/// What is looked at where the model does not say it.
const WEEK: SignedDuration = SignedDuration::from_hours(24 * 7);

/// What a sweep found at a night.
struct Night {
    reports: Vec<ModelReport>,
    /// The counts that it was found from; empty where nothing was compared.
    data: String,
    /// Columns over their thresholds, by window, segment and name.
    over: HashSet<[String; 3]>,
}

/// The earlier nights that count for persistence.
pub struct Earlier {
    /// How many.
    pub sweeps: usize,
    /// At how many of them each column was over its thresholds.
    pub hits: HashMap<[String; 3], usize>,
}

/// Sweeps of a simulation, each done once.
pub struct DriftNights<'a> {
    compared: Compared,
    windows: Vec<(String, WindowPeriod)>,
    past: &'a PastRows,
    folder: PathBuf,
    /// The sweeps of all nights, in order.
    sweeps: Vec<Timestamp>,
    nights: HashMap<(usize, Timestamp), Night>,
    baselines: HashMap<usize, Location>,
    /// The rows of windows, which all models see.
    current: HashMap<(usize, Timestamp), Option<PathBuf>>,
}

/// What of the settings of a comparison cannot be replayed, in words.
pub type Notes = Vec<String>;

impl<'a> DriftNights<'a> {
    /// With the settings of a model, as far as they are about features of its set.
    ///
    /// # Errors
    /// [`Error::BadValue`] for a window that is longer than the calendar.
    pub fn new(
        model: &Model,
        past: &'a PastRows,
        window: Option<SignedDuration>,
        sweeps: Vec<Timestamp>,
        folder: &Path,
    ) -> Result<(Self, Notes)> {
        let (windows, mut notes) = windows(model, window)?;
        let features: HashSet<String> = past.rows().features().into_iter().collect();
        let mut compared = model.compared.clone();
        (compared.previous, compared.outcomes, compared.baseline_hash) = (false, None, None);
        if model.compared.previous {
            notes.push("the drift trigger compares with the training set, not with the window before".into());
        }
        let segments = compared.slice_by.len() + compared.segments.len();
        compared.slice_by.retain(|column| features.contains(column));
        compared.segments.retain(|(_, slice)| slice.0.iter().all(|condition| features.contains(&condition.column)));
        if compared.slice_by.len() + compared.segments.len() < segments {
            notes.push("segments by columns that are no features are not compared".into());
        }
        compared.exclude.retain(|column| features.contains(column));
        compared.columns.retain(|column, _| features.contains(column));
        if let Some(own) = &mut compared.features {
            own.retain(|column| features.contains(column));
            if own.is_empty() {
                compared.features = None;
                notes.push(
                    "none of `features` of the model is in its feature set, so that all features are compared".into(),
                );
            }
        }
        let folder = folder.join("drift");
        fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
        let (nights, baselines, current) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok((Self { compared, windows, past, folder, sweeps, nights, baselines, current }, notes))
    }

    /// The windows that are compared, in words.
    pub fn windows(&self) -> String {
        let named = self.windows.iter().map(|(_, period)| period.to_string());
        named.collect::<Vec<_>>().join(", ")
    }

    /// What a sweep finds at a night.
    ///
    /// # Errors
    /// Errors of files.
    pub fn reports(&mut self, models: &Models<'_>, at: Timestamp, now: InProduction) -> Result<Vec<&ModelReport>> {
        if !self.nights.contains_key(&(now.model, at)) {
            let night = self.sweep(models, at, now.model)?;
            self.nights.insert((now.model, at), night);
        }
        Ok(self.nights[&(now.model, at)].reports.iter().collect())
    }

    /// The earlier sweeps that count: of the model in production, each with other data, the last ones.
    pub fn earlier(&self, at: Timestamp, now: InProduction, most: usize) -> Earlier {
        let night = |at: &Timestamp| self.nights.get(&(now.model, *at));
        let mut seen: HashSet<&str> = night(&at).map(|night| &*night.data).into_iter().collect();
        let before = self.sweeps.iter().filter(|sweep| **sweep > now.since && **sweep < at);
        let before = before.filter_map(night).filter(|night| !night.data.is_empty() && seen.insert(&night.data));
        let mut before: Vec<&Night> = before.collect();
        before.drain(..before.len().saturating_sub(most));
        let mut hits: HashMap<[String; 3], usize> = HashMap::new();
        for place in before.iter().flat_map(|night| &night.over) {
            *hits.entry(place.clone()).or_default() += 1;
        }
        Earlier { sweeps: before.len(), hits }
    }

    fn sweep(&mut self, models: &Models<'_>, at: Timestamp, model: usize) -> Result<Night> {
        let mut compared = self.compared.clone();
        compared.baseline = self.baseline(models, model)?;
        compared.windows.clear();
        for place in 0..self.windows.len() {
            let name = self.windows[place].0.clone();
            if let Some(path) = self.current(place, at)? {
                compared.windows.push(Window::whole(&name, Location::from(path)));
            }
        }
        // Without a prediction there is nothing to compare.
        let mut reports = match compared.windows.is_empty() {
            true => Vec::new(),
            false => SweepRun::new(&CpuCounter).sweep(&SweepPlan::new("simulation", [&compared], at)).models,
        };
        // Distributions are for people; those of all nights would be large.
        reports.iter_mut().flat_map(|report| &mut report.features).for_each(|feature| feature.counts = None);
        let whole = reports.iter().filter(|report| report.error.is_none() && !report.features.is_empty());
        let data = whole.map(|report| &*report.counts_hash).collect();
        let over = reports.iter().flat_map(|report| {
            let drifted = report.features.iter().filter(|feature| feature.verdict.drifted);
            drifted.map(|feature| [report.window.clone(), report.segment.clone(), feature.name.clone()])
        });
        let over = over.collect();
        Ok(Night { reports, data, over })
    }

    /// The features of the training set of a model: frozen, where that is possible.
    fn baseline(&mut self, models: &Models<'_>, model: usize) -> Result<Location> {
        if let Some(known) = self.baselines.get(&model) {
            return Ok(known.clone());
        }
        let live = models.folder(model).join("features.parquet");
        let training = models.training(model);
        let rows = self.past.between(training.from, training.to);
        self.past.rows().part(rows).write_only_features(&live)?;
        let needs_values = self.compared.options.convention.is_some_and(|rules| rules.convention.needs_values());
        let place = match needs_values {
            true => live,
            false => {
                let frozen = models.folder(model).join("features.baseline");
                Baseline::of_model(&CpuCounter, &self.compared, &live.to_string_lossy(), String::new())?
                    .write(&frozen)?;
                fs::remove_file(&live).map_err(|source| Error::Write { path: live, source })?;
                frozen
            }
        };
        let place = Location::from(place);
        self.baselines.insert(model, place.clone());
        Ok(place)
    }

    /// The features of the predictions of a window, in a file; `None` where there is no prediction.
    fn current(&mut self, place: usize, at: Timestamp) -> Result<Option<PathBuf>> {
        if let Some(known) = self.current.get(&(place, at)) {
            return Ok(known.clone());
        }
        let interval = self.windows[place].1.interval(at, &self.compared.zone);
        let interval = interval.map_err(|reason| Error::BadValue { what: "window".into(), reason })?;
        let rows = self.past.between(Some(interval.from), interval.before);
        let path = match rows.is_empty() {
            true => None,
            false => {
                let path = self.folder.join(format!("{}-{place}.parquet", at.as_second()));
                self.past.rows().part(rows).write_only_features(&path)?;
                Some(path)
            }
        };
        self.current.insert((place, at), path.clone());
        Ok(path)
    }
}

/// The windows of a model by their names, in terms of the time of prediction.
fn windows(model: &Model, given: Option<SignedDuration>) -> Result<(Vec<(String, WindowPeriod)>, Notes)> {
    let rolling = |length: SignedDuration| {
        WindowPeriod::rolling(length).map_err(|reason| Error::BadValue { what: "--window".into(), reason })
    };
    if let Some(length) = given {
        if length.is_zero() {
            return Err(Error::BadValue { what: "--window".into(), reason: "must be longer than 0".into() });
        }
        return Ok((vec![(String::new(), rolling(length)?)], Vec::new()));
    }
    let mut notes = Vec::new();
    let mut found = Vec::new();
    // What is compared of labels alone is no window of features.
    for window in model.windows.iter().filter(|window| window.only.is_none()) {
        let dated = dated(window.current.expose(), Timestamp::UNIX_EPOCH, &model.zone);
        let by_day = dated.is_ok_and(|dated| dated != window.current.expose());
        let period = match &window.period {
            Some((_, period)) => *period,
            None if by_day => WindowPeriod::Calendar(jiff::Unit::Day),
            None => {
                notes.push(
                    "`current` of the model says no time, so that drift is judged on 7 days; give --window".into(),
                );
                rolling(WEEK)?
            }
        };
        found.push((window.name.clone(), period));
    }
    Ok((found, notes))
}
