//! Counts for another tool's convention: its bins are known only after the baseline's own figures.

use crate::count::ecdf::{EcdfPair, wasserstein_of};
use crate::count::pair::{resolve_all, resolve_keys, resolve_ranks};
use crate::count::tally::Moments;
use crate::count::{Categories, Columns, Domain, Ecdf, Tally};
use crate::metric::convention::{
    self, Arithmetic, BasicFigures, Convention, ConventionFigures, ConventionRules as Rules, CountTable, Edges, Figure,
    ValueRange,
};
use crate::metric::{Kind, Requirement};
use crate::model::Options;
use driftsweep_common::error::Result;

/// Distinct values of the reference up to which Evidently counts numbers one by one.
const COUNTED_ONE_BY_ONE: usize = 20;

/// One side of a numeric feature: its distribution, its values, its plain counts.
pub(crate) struct NumericSide<'a> {
    /// The distribution; more cells may be resolved.
    pub ecdf: &'a mut Ecdf,
    /// The column.
    pub column: Box<dyn Columns + 'a>,
    /// Rows, missing values, infinities and moments.
    pub tally: Tally,
}

impl NumericSide<'_> {
    /// The finite values; `None` where there are none.
    fn span(&mut self) -> Result<Option<ValueRange>> {
        let n = self.ecdf.n() - self.tally.neg_inf - self.tally.pos_inf;
        if n == 0 {
            return Ok(None);
        }
        let ranks = [self.tally.neg_inf, self.tally.neg_inf + n - 1];
        resolve_ranks(&mut *self.column, self.ecdf, &ranks)?;
        let value = |rank| self.ecdf.key_at(rank).map(|key| self.ecdf.domain.value(key));
        Ok(value(ranks[0]).zip(value(ranks[1])).map(|(min, max)| ValueRange { n, min, max }))
    }

    /// Counts over bins with these edges, the last one closed.
    fn count(&mut self, edges: &[f64]) -> Result<Option<Vec<u64>>> {
        let domain = self.ecdf.domain;
        let mut edges = edges.to_vec();
        if let Some(last) = edges.last_mut() {
            *last = last.next_up();
        }
        // There is no key for an edge above all values of the type.
        let largest = domain.value(domain.range().1);
        let key = |&edge: &f64| (edge <= largest).then(|| domain.edge(edge));
        let keys: Vec<Option<u64>> = edges.iter().map(key).collect();
        resolve_keys(&mut *self.column, self.ecdf, &keys.iter().flatten().copied().collect::<Vec<_>>())?;
        let below = |key: &Option<u64>| key.map_or(Some(self.ecdf.n()), |key| self.ecdf.below(key));
        let below: Option<Vec<u64>> = keys.iter().map(below).collect();
        Ok(below.map(|below| below.windows(2).map(|pair| pair[1] - pair[0]).collect()))
    }

    /// Distinct finite values and their counts, if there are not more than a limit.
    fn values(&mut self, most: usize) -> Result<Option<Vec<(u64, u64)>>> {
        // The infinities may add two.
        if self.ecdf.occupied().nth(most.saturating_add(2)).is_some() {
            return Ok(None);
        }
        resolve_all(&mut *self.column, self.ecdf)?;
        let domain = self.ecdf.domain;
        let finite = |runs: Vec<(u64, u64)>| -> Vec<(u64, u64)> {
            runs.into_iter().filter(|&(key, _)| domain.value(key).is_finite()).collect()
        };
        Ok(self.ecdf.runs().map(finite).filter(|runs| runs.len() <= most))
    }

    /// The population standard deviation of the finite values.
    fn std(&self, span: ValueRange) -> Result<Option<f64>> {
        let Some(moments) = self.tally.moments else { return Ok(None) };
        let domain = self.ecdf.domain;
        if domain.is_float() || span.min.abs().max(span.max.abs()) < 2f64.powi(52) {
            return Ok(Some(moments.std()));
        }
        // Doubles are too coarse for these integers; their distances from the smallest are not.
        let Some(smallest) = self.ecdf.key_at(0) else { return Ok(None) };
        let (mut total, source) = (Moments::default(), self.column.sources()[0]);
        for chunk in 0..source.chunks() {
            source.with_chunk(chunk, &mut |keys| {
                let values: Vec<f64> = (0..keys.len()).map(|i| (keys.get(i) - smallest) as f64).collect();
                total = total.merge(Moments::of(&values));
            })?;
        }
        Ok(Some(total.std()))
    }

    /// The skewness of the finite values (third standardised moment, as numpy's Doane rule takes it).
    fn skewness(&self) -> Result<f64> {
        let Some(moments) = self.tally.moments else { return Ok(f64::NAN) };
        let (mean, std) = (moments.mean, moments.std());
        if std == 0.0 {
            return Ok(f64::NAN);
        }
        // In file order, so that the sum is the same however many threads there are.
        let (mut sum, mut values) = (0.0, Vec::new());
        let source = self.column.sources()[0];
        for chunk in 0..source.chunks() {
            source.with_chunk(chunk, &mut |keys| {
                values.clear();
                keys.values(self.ecdf.domain, &mut values);
                sum += values.iter().filter(|x| x.is_finite()).map(|x| ((x - mean) / std).powi(3)).sum::<f64>();
            })?;
        }
        Ok(sum / moments.n as f64)
    }
}

/// The figures of a numeric feature by a convention. `None` where a side holds no finite value.
///
/// # Errors
/// Whatever reading the columns gives.
pub fn numeric(
    rules: Rules,
    mut a: NumericSide<'_>,
    mut b: NumericSide<'_>,
    options: &Options,
) -> Result<Option<ConventionFigures>> {
    let domain = a.ecdf.domain;
    let (Some(span_a), Some(span_b)) = (a.span()?, b.span()?) else { return Ok(None) };
    let reference = match rules.convention {
        Convention::Evidently => a.values(COUNTED_ONE_BY_ONE)?,
        _ => None,
    };
    let mut distinct = None;
    let mut edges = None;
    let (counts_a, counts_b) = match reference {
        Some(reference) => {
            let current = b.values(usize::MAX)?.unwrap_or_default();
            let (counts_a, counts_b) = union(&reference, &current);
            distinct = Some(counts_a.len());
            (counts_a, counts_b)
        }
        None => {
            let skewness = if rules.convention == Convention::Nannyml { a.skewness()? } else { f64::NAN };
            let found = rules.convention.edges(span_a, span_b, arithmetic(domain), skewness);
            // Beyond the range of a double there are no bins of equal width; the other tools fail there, too.
            let (min, max) = (span_a.min.min(span_b.min), span_a.max.max(span_b.max));
            let range = if domain == Domain::F32 { f64::from(max as f32 - min as f32) } else { max - min };
            let unbounded = |edges: &Edges| {
                !range.is_finite() || edges.baseline.iter().chain(&edges.current).any(|edge| !edge.is_finite())
            };
            if found.as_ref().is_some_and(unbounded) {
                return Ok(None);
            }
            let Edges { baseline, current } = found.clone().unwrap_or(Edges { baseline: vec![], current: vec![] });
            edges = found;
            match (a.count(&baseline)?, b.count(&current)?) {
                (Some(counts_a), Some(counts_b)) => (counts_a, counts_b),
                _ => return Ok(None),
            }
        }
    };
    let std = a.std(span_a)?;
    let Some(pair) = EcdfPair::new(a.ecdf, b.ecdf) else { return Ok(None) };
    let ks = options.requires(Requirement::Distance).then(|| pair.distance().statistic());
    let infinite = [a.tally, b.tally].iter().any(|tally| tally.neg_inf + tally.pos_inf > 0);
    let wasserstein = match (options.requires(Requirement::Transport), infinite) {
        (false, _) => None,
        (true, false) => pair.wasserstein().map(|(distance, _)| distance),
        // Few enough to read every value.
        (true, true) => a.values(usize::MAX)?.zip(b.values(usize::MAX)?).map(|(a, b)| wasserstein_of(domain, &a, &b)),
    };
    let plain = BasicFigures { wasserstein, ks, std };
    let table = CountTable { a: &counts_a, b: &counts_b, n: span_a.n, m: span_b.n };
    let figures = convention::numeric(rules.convention, table, edges.as_ref(), plain);
    let bins = edges.map(|edges| edges.baseline.len() - 1);
    Ok(Some(conventional(rules, Kind::Numeric, figures, distinct, bins, options)))
}

/// The figures of a numeric feature against a baseline file: for conventions without own bins.
pub fn frozen(rules: Rules, a: &Ecdf, b: &Ecdf, options: &Options) -> Option<ConventionFigures> {
    if rules.convention.needs_values() {
        return None;
    }
    let ks = Some(EcdfPair::new(a, b)?.distance().statistic());
    let table = CountTable { a: &[], b: &[], n: a.n(), m: b.n() };
    let figures = convention::numeric(rules.convention, table, None, BasicFigures { ks, ..BasicFigures::default() });
    Some(conventional(rules, Kind::Numeric, figures, None, None, options))
}

/// The figures of a categorical feature by a convention.
pub fn categorical(rules: Rules, a: &Categories, b: &Categories, options: &Options) -> ConventionFigures {
    let (counts_a, counts_b) = a.union(b);
    let table = CountTable { a: &counts_a, b: &counts_b, n: a.total(), m: b.total() };
    let figures = convention::categorical(rules.convention, table);
    conventional(rules, Kind::Categorical, figures, Some(counts_a.len()), None, options)
}

fn conventional(
    rules: Rules,
    kind: Kind,
    mut figures: std::collections::BTreeMap<Figure, f64>,
    distinct: Option<usize>,
    bins: Option<usize>,
    options: &Options,
) -> ConventionFigures {
    let rule = rules.rule(kind, distinct);
    figures.retain(|figure, x| x.is_finite() && (*figure == rule.metric || options.metrics.has(figure.metric())));
    ConventionFigures { name: rules.convention, figures, decides: rule.metric, limit: rule.limit, bins }
}

fn arithmetic(domain: Domain) -> Arithmetic {
    match domain {
        Domain::F32 => Arithmetic::Single,
        Domain::F64 => Arithmetic::Double,
        Domain::I32 | Domain::I64 | Domain::U64 => Arithmetic::Integer,
    }
}

/// Counts of both sides over the union of their distinct keys.
fn union(a: &[(u64, u64)], b: &[(u64, u64)]) -> (Vec<u64>, Vec<u64>) {
    let mut merged = std::collections::BTreeMap::<u64, (u64, u64)>::new();
    a.iter().for_each(|&(key, count)| merged.entry(key).or_default().0 = count);
    b.iter().for_each(|&(key, count)| merged.entry(key).or_default().1 = count);
    merged.into_values().unzip()
}
