//! From integers to figures: the pure part of a comparison.

use sha2::{Digest, Sha256};

use super::report::{BinValues, CategoryCount, Counts, Side, TieAwareBin};
use crate::count::ecdf::EcdfPair;
use crate::count::{Categories, Domain, Ecdf, Tally};
use crate::metric::bins::{self, TieBin};
use crate::metric::{MetricInput, Metrics, Numbers, Requirement, Values};
use crate::model::Options;
use driftsweep_common::atomic::hex;

/// The figures of one feature.
pub struct Figures {
    /// The baseline.
    pub baseline: Side,
    /// The current snapshot.
    pub current: Side,
    /// The figures.
    pub metrics: Metrics,
    /// The counts behind them.
    pub counts: Option<Counts>,
    /// Whether the baseline holds one distinct value.
    pub constant: bool,
    /// SHA-256 of every integer that the figures are computed from.
    pub hash: String,
}

/// Hashes integers, each as eight little-endian bytes, lists after their length.
struct IntegerHash(Sha256);

impl IntegerHash {
    fn new(a: &Tally, b: &Tally) -> Self {
        let mut hash = Self(Sha256::new());
        for t in [a, b] {
            hash.add(&[t.rows, t.null, t.nan, t.neg_inf, t.pos_inf]);
        }
        hash
    }

    fn add(&mut self, integers: &[u64]) {
        self.0.update((integers.len() as u64).to_le_bytes());
        for x in integers {
            self.0.update(x.to_le_bytes());
        }
    }

    fn text(&mut self, text: &str) {
        self.add(&[text.len() as u64]);
        self.0.update(text.as_bytes());
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The hash of features that were not compared: only of their tallies.
pub(crate) fn tally_hash(a: &Tally, b: &Tally) -> String {
    IntegerHash::new(a, b).finish()
}

/// The plain counts of one side.
pub fn side(tally: &Tally, dtype: String) -> Side {
    let moments = tally.moments.filter(|m| m.n > 0);
    Side {
        rows: tally.rows,
        null: tally.null,
        nan: tally.nan,
        neg_inf: tally.neg_inf,
        pos_inf: tally.pos_inf,
        dtype,
        mean: moments.map(|m| m.mean),
        std: moments.map(|m| m.std()),
        ..Side::default()
    }
}

/// Bin counts of both sides between keys, half-open.
fn between(edges: &[u64], ecdf: &Ecdf) -> Option<Vec<u64>> {
    let mut counts = Vec::with_capacity(edges.len() + 1);
    let mut last = 0;
    for &edge in edges {
        let below = ecdf.below(edge)?;
        counts.push(below - last);
        last = below;
    }
    counts.push(ecdf.n() - last);
    Some(counts)
}

/// The tie-aware bins, cut at keys: a value's own bin ends just above it.
fn tie_edges(bins: &[TieBin], domain: Domain) -> Vec<u64> {
    let edge = |&bin: &TieBin| match bin {
        TieBin::Below(x) => domain.edge(x),
        TieBin::Equal(x) if x.is_finite() => domain.edge(x.next_up()),
        TieBin::Equal(x) => domain.edge(x).saturating_add(1),
    };
    bins.iter().map(edge).collect()
}

/// The tie-aware bins with their counts; nothing where they are the reference bins.
fn tie_aware_counts(bins: &[TieBin], baseline: &[u64], current: &[u64]) -> Vec<TieAwareBin> {
    if !bins.iter().any(|bin| matches!(bin, TieBin::Equal(_))) {
        return Vec::new();
    }
    let values = bins.iter().map(|&bin| match bin {
        TieBin::Below(x) => BinValues::Below(x),
        TieBin::Equal(x) => BinValues::Equal(x),
    });
    let counts = baseline.iter().zip(current);
    let bin = |(values, (&baseline, &current))| TieAwareBin { values, baseline, current };
    values.chain([BinValues::Rest]).zip(counts).map(bin).collect()
}

/// The counts of the tie-aware bins of a baseline. `None` without values, or if its breakpoints are missing.
pub fn tie_counts(baseline: &Ecdf, bins: usize) -> Option<Vec<u64>> {
    if baseline.n() == 0 {
        return None;
    }
    let percentiles =
        bins::percents(bins).into_iter().map(|p| bins::percentile(baseline, p)).collect::<Option<Vec<_>>>()?;
    between(&tie_edges(&bins::tie_aware(&percentiles), baseline.domain), baseline)
}

/// The figures of a numeric feature. `None` where a side has no values, or if a frozen baseline does not have the
/// wanted breakpoints.
pub fn numeric(a: &Ecdf, b: &Ecdf, ta: &Tally, tb: &Tally, dtypes: [String; 2], options: &Options) -> Option<Figures> {
    if a.n() == 0 || b.n() == 0 {
        return None;
    }
    let domain = a.domain;
    let percentiles: Vec<f64> =
        bins::percents(options.bins).into_iter().map(|p| bins::percentile(a, p)).collect::<Option<_>>()?;

    // The reference bins: inner percentiles as half-open breakpoints.
    let inner = &percentiles[1..percentiles.len() - 1];
    let edges: Vec<u64> = inner.iter().map(|&x| domain.edge(x)).collect();
    let (bins_a, bins_b) = (between(&edges, a)?, between(&edges, b)?);
    let tie_bins = bins::tie_aware(&percentiles);
    let tie_edges = tie_edges(&tie_bins, domain);
    let (tie_a, tie_b) = (between(&tie_edges, a)?, between(&tie_edges, b)?);

    let extremes = |ecdf: &Ecdf| Some([ecdf.key_at(0)?, ecdf.key_at(ecdf.n() - 1)?]);
    let ([min_a, max_a], [min_b, max_b]) = (extremes(a)?, extremes(b)?);
    let below_range = b.below(min_a)?;
    let above_range = if max_b <= max_a { 0 } else { b.n() - b.below(max_a + 1)? };

    let mut hash = IntegerHash::new(ta, tb);
    for integers in [&bins_a, &bins_b, &tie_a, &tie_b] {
        hash.add(integers);
    }
    hash.add(&[min_a, max_a, min_b, max_b, below_range, above_range]);

    let pair = EcdfPair::new(a, b)?;
    let distance = options.metrics.requires(Requirement::Distance).then(|| pair.distance());
    if let Some(distance) = distance {
        hash.add(&[distance.lower as u64, (distance.lower >> 64) as u64, distance.n, distance.m]);
    }
    let values = Values {
        counts: [&bins_a, &bins_b],
        tie_counts: [&tie_a, &tie_b],
        numbers: Some(Numbers { edges: inner, ecdfs: [a, b], distance }),
    };
    let metrics = Metrics::of(&MetricInput { tallies: [ta, tb], values: Some(values) }, options.metrics);

    let [dtype_a, dtype_b] = dtypes;
    let finite = |key| Some(domain.value(key)).filter(|x| x.is_finite());
    let baseline = Side { min: finite(min_a), max: finite(max_a), ..side(ta, dtype_a) };
    let current = Side {
        min: finite(min_b),
        max: finite(max_b),
        below_range: Some(below_range),
        above_range: Some(above_range),
        ..side(tb, dtype_b)
    };
    Some(Figures {
        baseline,
        current,
        metrics,
        counts: Some(Counts::Bins {
            edges: inner.to_vec(),
            tie_aware: tie_aware_counts(&tie_bins, &tie_a, &tie_b),
            baseline: bins_a,
            current: bins_b,
        }),
        constant: min_a == max_a,
        hash: hash.finish(),
    })
}

/// The figures of a categorical feature. `None` where a side has no values.
pub fn categorical(
    a: &Categories,
    b: &Categories,
    ta: &Tally,
    tb: &Tally,
    dtypes: [String; 2],
    options: &Options,
) -> Option<Figures> {
    if a.total() == 0 || b.total() == 0 {
        return None;
    }
    let (counts_a, counts_b) = a.union(b);
    let mut hash = IntegerHash::new(ta, tb);
    for side in [a, b] {
        hash.add(&[side.counts.len() as u64, side.pooled]);
        for (name, count) in &side.counts {
            hash.text(name);
            hash.add(&[*count]);
        }
    }

    let counts = [&counts_a[..], &counts_b];
    let values = Values { counts, tie_counts: counts, numbers: None };
    let metrics = Metrics::of(&MetricInput { tallies: [ta, tb], values: Some(values) }, options.metrics);

    let [dtype_a, dtype_b] = dtypes;
    let described = |categories: &Categories, tally, dtype| Side {
        categories: Some(categories.counts.len() as u64),
        pooled_rows: (categories.pooled > 0).then_some(categories.pooled),
        ..side(tally, dtype)
    };
    let seen = |name: &str| a.counts.binary_search_by(|(known, _)| (**known).cmp(name)).is_ok();
    let unseen: Vec<u64> = b.counts.iter().filter(|(name, _)| !seen(name)).map(|(_, count)| *count).collect();
    // Beyond the limit a category of the baseline may have been pooled, so "unseen" is not known.
    let complete = a.pooled == 0;
    let current = Side {
        unseen_rows: complete.then(|| unseen.iter().sum()),
        unseen_categories: complete.then_some(unseen.len() as u64),
        ..described(b, tb, dtype_b)
    };
    Some(Figures {
        baseline: described(a, ta, dtype_a),
        current,
        metrics,
        counts: Some(Counts::Categories(largest_changes(a, b))),
        constant: a.counts.len() == 1 && a.pooled == 0,
        hash: hash.finish(),
    })
}

fn largest_changes(a: &Categories, b: &Categories) -> Vec<CategoryCount> {
    let mut merged: std::collections::BTreeMap<&str, (u64, u64)> = std::collections::BTreeMap::new();
    for (name, count) in &a.counts {
        merged.entry(name).or_default().0 = *count;
    }
    for (name, count) in &b.counts {
        merged.entry(name).or_default().1 = *count;
    }
    let (n, m) = (a.total() as f64, b.total() as f64);
    let change = |&(x, y): &(u64, u64)| (x as f64 / n - y as f64 / m).abs();
    let mut categories: Vec<_> = merged.into_iter().collect();
    if categories.len() > 50 {
        categories.sort_by(|x, y| change(&y.1).total_cmp(&change(&x.1)).then(x.0.cmp(y.0)));
        categories.truncate(50);
        categories.sort_by(|x, y| x.0.cmp(y.0));
    }
    categories
        .into_iter()
        .map(|(name, (baseline, current))| CategoryCount { name: name.into(), baseline, current })
        .collect()
}
