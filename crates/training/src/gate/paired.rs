//! Two models on the same rows: whether one is better by more than a margin, and what it takes to see that.
//!
//! A metric's difference is the mean of the differences of the rows' influences on it, so that its variance follows from
//! them, by rows or by days. Rows of one day are not independent: a storm makes all flights late. The sums of days are.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

/// The test of an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairedTest {
    /// Exact test of discordant rows (McNemar 1947), for accuracy and no margin.
    McNemar,
    /// Score test of the difference of two shares of the same rows (Tango 1998), for accuracy and a margin.
    Tango,
    /// DeLong, DeLong and Clarke-Pearson 1988, for the area under the curve.
    DeLong,
    /// Normal test of the rows' influences.
    Rows,
    /// t test of the sums of days, with a degree of freedom less than there are days.
    Days,
}

impl PairedTest {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::McNemar => "mcnemar",
            Self::Tango => "tango",
            Self::DeLong => "delong",
            Self::Rows => "rows",
            Self::Days => "days",
        }
    }
}

/// How much better a candidate is, with what is known about it. Better is positive, also for a loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Improvement {
    /// The difference in the direction in which more is better.
    pub value: f64,
    /// Lower end of its two-sided interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The probability of such a difference or a greater one if the candidate is better by the margin only.
    pub p_value: f64,
    /// The test of that.
    pub test: PairedTest,
    /// Its standard error.
    error: f64,
    /// Days, where they count instead of rows.
    days: Option<usize>,
    rows: usize,
}

/// Paired data of a metric.
pub struct Pairs<'a> {
    /// The difference in the direction in which more is better.
    pub value: f64,
    /// The difference of the influences of each row, in that direction.
    pub influences: &'a [f64],
    /// The days of the rows, where rows of a day belong together.
    pub days: Option<&'a Days>,
    /// How the variance is found where rows are independent.
    pub kind: PairKind<'a>,
}

/// Days of rows that a metric is about: positives for recall, predicted ones for precision, … Days without such rows say
/// nothing about the metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Days {
    /// The day of each row, by codes from 0.
    of: Vec<u32>,
    /// The share of the rows in each day, of the rows that the metric is about.
    shares: Vec<f64>,
    /// How many days have such rows.
    count: usize,
}

impl Days {
    /// The days of rows, and which of them a metric is about: one list, or several where it is about several kinds (for the area
    /// under the curve the positives and the negatives, or the predicted rows of two models). The kind on the fewest days counts.
    pub fn new(of: &[u32], about: &[Vec<bool>]) -> Self {
        let days = of.iter().max().map_or(0, |last| *last as usize + 1);
        let counted = |about: Option<&Vec<bool>>| {
            let mut counts = vec![0u64; days];
            for (row, &day) in of.iter().enumerate() {
                counts[day as usize] += u64::from(about.is_none_or(|about| about[row]));
            }
            counts
        };
        let kinds: Vec<Vec<u64>> = match about {
            [] => vec![counted(None)],
            kinds => kinds.iter().map(|about| counted(Some(about))).collect(),
        };
        let count = kinds.iter().map(|counts| counts.iter().filter(|count| **count > 0).count()).min().unwrap_or(0);
        let mut shares = vec![0.0f64; days];
        for counts in &kinds {
            let all = counts.iter().sum::<u64>().max(1) as f64;
            for (share, &count) in shares.iter_mut().zip(counts) {
                *share = share.max(count as f64 / all);
            }
        }
        Self { of: of.to_vec(), shares, count }
    }

    /// How many days have rows that the metric is about.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// What kind of metric the influences are of.
pub enum PairKind<'a> {
    /// The share of right rows: those that only the candidate has right, and those that only the champion has right.
    Accuracy {
        /// Only the candidate is right.
        candidate: u64,
        /// Only the champion is right.
        champion: u64,
    },
    /// The area under the curve, with the label of each row.
    Auc(&'a [bool]),
    /// Another.
    Other,
}

impl Improvement {
    /// Tests whether the candidate is better by more than a margin.
    pub fn test(pairs: &Pairs<'_>, margin: f64, confidence: f64) -> Self {
        let n = pairs.influences.len();
        let (value, rows) = (pairs.value, n);
        let of = |test, error, days: Option<usize>| {
            let law = Law::new(days);
            let half = law.quantile(0.5 + confidence / 2.0) * error;
            let p_value = law.above((value - margin) / error);
            // Alike on each row: better or not, without an error.
            let p_value = if error > NO_ERROR { p_value } else { f64::from(u8::from(value <= margin)) };
            Self { value, low: value - half, high: value + half, p_value, test, error, days, rows }
        };
        if let Some(days) = pairs.days {
            return of(PairedTest::Days, error_of_days(pairs.influences, days), Some(days.count));
        }
        let squares: f64 = pairs.influences.iter().map(|d| d * d).sum();
        let error = (squares / (n as f64 * (n as f64 - 1.0).max(1.0))).sqrt();
        match pairs.kind {
            PairKind::Accuracy { candidate, champion } => {
                let (test, p_value) = match margin {
                    0.0 => (PairedTest::McNemar, one_sided_mcnemar(candidate, champion)),
                    _ => (PairedTest::Tango, Law::new(None).above(tango(candidate, champion, n as u64, margin))),
                };
                let (low, high) = tango_interval(candidate, champion, n as u64, confidence);
                Self { low, high, p_value, ..of(test, error, None) }
            }
            PairKind::Auc(labels) => of(PairedTest::DeLong, error_of_delong(pairs.influences, labels), None),
            PairKind::Other => of(PairedTest::Rows, error, None),
        }
    }

    /// The probability that a candidate that is better than the margin by `difference` is found to be so at a level.
    ///
    /// `None` where nothing is known of its error.
    pub fn power(&self, difference: f64, level: f64) -> Option<f64> {
        let law = Law::new(self.days);
        let known = self.error.is_finite() && self.error > NO_ERROR;
        known.then(|| law.above(law.quantile(1.0 - level) - difference / self.error))
    }

    /// Rows, and days where they count, after which that probability is 80 %. `None` where no number of them will do.
    pub fn needed(&self, difference: f64, level: f64) -> Option<(f64, Option<f64>)> {
        if difference <= 0.0 || !self.error.is_finite() || self.error <= NO_ERROR {
            return None;
        }
        let rows = self.rows as f64;
        let ratio = (self.error / difference).powi(2);
        let sum = |law: &Law| law.quantile(1.0 - level) + law.quantile(0.8);
        let Some(days) = self.days else {
            return Some(((rows * ratio * sum(&Law::new(None)).powi(2)).ceil(), None));
        };
        // More days have more degrees of freedom, so that fewer are needed: the smallest number that is enough.
        let enough = |more: usize| days as f64 * ratio * sum(&Law::new(Some(more))).powi(2) <= more as f64;
        let (mut low, mut high) = (1, 2);
        while !enough(high) {
            (low, high) = (high, high * 2);
            if high > MAX_DAYS {
                return None;
            }
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            (low, high) = if enough(middle) { (low, middle) } else { (middle, high) };
        }
        Some(((rows * high as f64 / days as f64).ceil(), Some(high as f64)))
    }
}

/// What rounding leaves of the error of differences that are alike on each row.
const NO_ERROR: f64 = 1e-12;

/// More days are no validation.
const MAX_DAYS: usize = 1 << 14;

/// The law of a difference divided by its standard error.
enum Law {
    Normal(Normal),
    Student(StudentsT),
    /// One day has no error.
    Nothing,
}

impl Law {
    fn new(days: Option<usize>) -> Self {
        match days {
            None => Self::Normal(Normal::standard()),
            Some(days) => StudentsT::new(0.0, 1.0, days as f64 - 1.0).map_or(Self::Nothing, Self::Student),
        }
    }

    fn quantile(&self, p: f64) -> f64 {
        match self {
            Self::Normal(law) => law.inverse_cdf(p),
            Self::Student(law) => law.inverse_cdf(p),
            Self::Nothing => f64::INFINITY,
        }
    }

    fn above(&self, x: f64) -> f64 {
        match self {
            _ if x.is_nan() => 1.0,
            Self::Normal(law) => law.sf(x),
            Self::Student(law) => law.sf(x),
            Self::Nothing => 1.0,
        }
    }
}

/// The standard error from the sums of days. A day that holds a large share of the rows pulls the difference towards itself, so
/// that its sum is too small: each is divided by the share of all other days, as the jackknife does that leaves out one day at a
/// time (Bell and McCaffrey 2002, CR3). Days of equal size give the usual error.
fn error_of_days(influences: &[f64], days: &Days) -> f64 {
    let mut sums = vec![0.0; days.shares.len()];
    for (influence, &day) in influences.iter().zip(&days.of) {
        sums[day as usize] += influence;
    }
    let squares: f64 = sums.iter().zip(&days.shares).map(|(sum, share)| (sum / (1.0 - share)).powi(2)).sum();
    let count = days.count as f64;
    let error = (squares * (count - 1.0) / count).sqrt() / influences.len() as f64;
    if days.count > 1 && error.is_finite() { error } else { f64::INFINITY }
}

/// The standard error of a difference of areas: the variances of positives' and of negatives' places, each with one
/// degree of freedom less than there are rows.
fn error_of_delong(influences: &[f64], labels: &[bool]) -> f64 {
    let n = influences.len() as f64;
    let of = |wanted: bool| {
        let (mut squares, mut rows) = (0.0, 0.0);
        for (influence, _) in influences.iter().zip(labels).filter(|(_, label)| **label == wanted) {
            squares += influence * influence;
            rows += 1.0;
        }
        squares * (rows / n).powi(2) / (rows * (rows - 1.0))
    };
    (of(true) + of(false)).sqrt()
}

/// The exact two-sided test that the rows on which only one of two is right are as often those of the first as those of
/// the second (McNemar 1947).
///
/// ```
/// use driftsweep_training::gate::mcnemar;
///
/// // scipy.stats.binomtest(5, 20, 0.5).pvalue
/// assert!((mcnemar(5, 15) - 0.041389465332031236).abs() < 1e-12);
/// ```
pub fn mcnemar(first: u64, second: u64) -> f64 {
    (2.0 * one_sided_mcnemar(first.max(second), first.min(second))).min(1.0)
}

/// The same, that it is not more often those of the first.
fn one_sided_mcnemar(first: u64, second: u64) -> f64 {
    match (first.checked_sub(1), Binomial::new(0.5, first + second)) {
        (Some(below), Ok(law)) => law.sf(below),
        _ => 1.0,
    }
}

/// Tango's score statistic of the difference of two shares of the same `n` rows, `first` of which only the first has and
/// `second` only the second, from a margin (Tango 1998).
fn tango(first: u64, second: u64, n: u64, margin: f64) -> f64 {
    let (b, c, n) = (first as f64, second as f64, n as f64);
    // The likeliest share of rows that only the second has, if the difference is the margin.
    let linear = -b - c + (2.0 * n - b + c) * margin;
    let constant = -c * margin * (1.0 - margin);
    let share = ((linear * linear - 8.0 * n * constant).max(0.0).sqrt() - linear) / (4.0 * n);
    let variance = n * (2.0 * share + margin * (1.0 - margin));
    let distance = b - c - n * margin;
    match distance {
        0.0 => 0.0,
        _ => distance / variance.max(0.0).sqrt(),
    }
}

/// Tango's interval of that difference: the margins that the statistic does not refuse.
fn tango_interval(first: u64, second: u64, n: u64, confidence: f64) -> (f64, f64) {
    let z = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
    let value = (first as f64 - second as f64) / n as f64;
    // The statistic falls as the margin grows.
    let end = |mut inside: f64, mut outside: f64, refuses: &dyn Fn(f64) -> bool| {
        for _ in 0..100 {
            let middle = inside.midpoint(outside);
            if refuses(tango(first, second, n, middle)) {
                outside = middle;
            } else {
                inside = middle;
            }
        }
        inside
    };
    (end(value, -1.0, &|t| t > z), end(value, 1.0, &|t| t < -z))
}

#[cfg(test)]
mod tests {
    use rand_distr::{Binomial as Draws, Distribution, Normal as Effects};
    use rand_pcg::Pcg64;

    use driftsweep::metric::performance::{ClassifiedRow, PerformanceMetric, influences};

    use super::*;

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-9 * wanted.abs().max(1e-3), "{found} {wanted}");
    }

    #[test]
    fn discordant_rows_are_tested_exactly() {
        // scipy.stats.binomtest(min(b, c), b + c, 0.5).pvalue, binom.sf(b - 1, b + c, 0.5)
        for (b, c, both, one) in [
            (5, 15, 0.041_389_465_332_031_25, 0.994_091_033_935_546_9),
            (30, 12, 0.007_915_897_334_896_727, 0.003_957_948_667_448_363),
            (0, 7, 0.015_625, 1.0),
            (10, 10, 1.0, 0.588_098_526_000_976_9),
            (0, 0, 1.0, 1.0),
        ] {
            close(mcnemar(b, c), both);
            close(one_sided_mcnemar(b, c), one);
        }
    }

    #[test]
    fn a_margin_is_tested_by_the_constrained_likelihood() {
        // The likelihood maximised by scipy.optimize.minimize_scalar, which finds its maximum to 1e-8.
        for (b, c, n, margin, wanted) in [
            (30, 12, 500, 0.01, 2.043_403_865),
            (5, 15, 200, -0.02, -1.385_223_994),
            (0, 4, 100, 0.02, -2.474_358_297),
            (40, 40, 1000, 0.01, -1.110_878_477),
        ] {
            assert!((tango(b, c, n, margin) - wanted).abs() < 1e-6, "{b} {c} {n} {margin}: {}", tango(b, c, n, margin));
        }
        for (b, c, n, low, high) in
            [(30, 12, 500, 0.011_095_210, 0.063_170_027), (5, 15, 200, -0.098_789_405, -0.006_784_728)]
        {
            let found = tango_interval(b, c, n, 0.95);
            assert!((found.0 - low).abs() < 1e-6 && (found.1 - high).abs() < 1e-6, "{found:?}");
        }
        // All rows discordant one way, and none.
        assert_eq!(tango(0, 0, 50, 0.0), 0.0);
        let (low, high) = tango_interval(0, 0, 50, 0.95);
        assert!(low < -0.03 && high > 0.03 && (low + high).abs() < 1e-9, "{low} {high}");
    }

    /// Rows of 60 predictions by two models, as in the script beside the references.
    fn scores() -> (Vec<bool>, [Vec<f64>; 2]) {
        let labels: Vec<bool> = (0..60).map(|i| (i * 7) % 3 == 0).collect();
        let score = |factor: usize, modulus: usize, gain: f64| {
            let of = |(i, positive): (usize, &bool)| {
                (i * factor % modulus) as f64 / modulus as f64 + if *positive { gain } else { 0.0 }
            };
            labels.iter().enumerate().map(of).collect::<Vec<_>>()
        };
        let scores = [score(37, 101, 0.3), score(53, 97, 0.2)];
        (labels, scores)
    }

    fn differences(metric: PerformanceMetric, labels: &[bool], scores: [&[f64]; 2]) -> (f64, Vec<f64>) {
        let of = |scores: &[f64]| {
            let row = |(&score, &positive): (&f64, &bool)| ClassifiedRow {
                chance: f64::from(u8::from(positive)),
                predicted: score >= 0.5,
                score,
            };
            let rows: Vec<ClassifiedRow> = scores.iter().zip(labels).map(row).collect();
            let found = influences(metric, &rows).unwrap();
            let at = found.of.iter().zip(labels).map(|(of, positive)| of[usize::from(*positive)]).collect::<Vec<_>>();
            (found.value, at)
        };
        let ((a, ours), (b, theirs)) = (of(scores[0]), of(scores[1]));
        let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
        (sign * (a - b), ours.iter().zip(&theirs).map(|(a, b)| sign * (a - b)).collect())
    }

    #[test]
    fn areas_under_the_curve_are_compared_as_delong_has_it() {
        let (labels, scores) = scores();
        let (value, influences) = differences(PerformanceMetric::Auc, &labels, [&scores[0], &scores[1]]);
        let kind = PairKind::Auc(&labels);
        let found = Improvement::test(&Pairs { value, influences: &influences, days: None, kind }, 0.0, 0.95);
        // By the definition over all pairs, in numpy; roc.test(paired = TRUE) of pROC 1.18 has twice the p-value.
        close(found.value, 0.755 - 0.683_75);
        close(found.error, 0.090_897_946_846_398_51);
        close(found.p_value, 0.216_565_213_623_731_88);
    }

    #[test]
    fn days_are_tested_by_their_sums() {
        let (labels, scores) = scores();
        let scores = scores.map(|scores| scores.iter().map(|s| (s / 1.3).clamp(0.0, 1.0)).collect::<Vec<_>>());
        let (value, influences) = differences(PerformanceMetric::Brier, &labels, [&scores[0], &scores[1]]);
        let days = Days::new(&(0..60).map(|i| i % 5).collect::<Vec<_>>(), &[]);
        let pairs = Pairs { value, influences: &influences, days: Some(&days), kind: PairKind::Other };
        let found = Improvement::test(&pairs, 0.0, 0.95);
        // scipy.stats.t with 4 degrees of freedom
        close(found.value, 0.017_874_123_200_876_83);
        close(found.error, 0.017_694_592_227_716_077);
        close(found.p_value, 0.184_783_531_179_973_73);
        close(found.low, -0.031_253_940_778_236_386);
    }

    #[test]
    fn one_day_says_nothing_and_equal_models_are_no_better() {
        let days = Days::new(&[0, 0, 0], &[]);
        let pairs = |days, influences| Pairs { value: 0.2, influences, days, kind: PairKind::Other };
        let one = Improvement::test(&pairs(Some(&days), &[0.1, -0.2, 0.1]), 0.0, 0.95);
        assert_eq!((one.p_value, one.low, one.high), (1.0, f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!((one.needed(0.01, 0.05), one.power(0.01, 0.05)), (None, None));
        let equal = Improvement::test(&Pairs { value: 0.0, ..pairs(None, &[0.0; 3]) }, 0.0, 0.95);
        assert_eq!(equal.p_value, 1.0);
        assert_eq!(Improvement::test(&pairs(None, &[0.0; 3]), 0.0, 0.95).p_value, 0.0, "better on each row alike");
    }

    #[test]
    fn what_is_needed_is_enough() {
        let of = |n: usize, days: Option<&Days>| {
            let influences: Vec<f64> = (0..n).map(|i| [0.3, -0.3][(i * i / 7 + i / 3) % 2]).collect();
            Improvement::test(&Pairs { value: 0.01, influences: &influences, days, kind: PairKind::Other }, 0.0, 0.95)
        };
        // 6.18 times the variance over the square of the difference: one-sided at 5 %, seen in 80 %.
        let (rows, days) = of(1000, None).needed(0.01, 0.05).unwrap();
        assert!(days.is_none() && (rows - 6.182 * 0.09 / 0.0001).abs() < 20.0, "{rows}");
        assert!((of(rows as usize, None).power(0.01, 0.05).unwrap() - 0.8).abs() < 0.01);
        let seven = Days::new(&(0..1001).map(|i| i % 7).collect::<Vec<_>>(), &[]);
        let found = of(1001, Some(&seven));
        let (_, days) = found.needed(0.01, 0.05).unwrap();
        let ratio = days.unwrap() / 7.0;
        let wider = Improvement { error: found.error / ratio.sqrt(), days: days.map(|days| days as usize), ..found };
        let power = wider.power(0.01, 0.05).unwrap();
        assert!((0.78..0.85).contains(&power), "{days:?} {power}");
    }

    /// Simulates validations of days of these sizes, in which the candidate is as good as the champion, but a day is good for one
    /// or the other. How often it is found to be better, by days and by rows.
    fn false_passes(sizes: &[u64], times: u32) -> (u32, u32) {
        let mut random = Pcg64::new(1, 1);
        let effects = Effects::new(0.0, 0.04).unwrap();
        let (mut by_days, mut by_rows) = (0, 0);
        for _ in 0..times {
            let (mut differences, mut days) = (Vec::new(), Vec::new());
            for (day, &size) in sizes.iter().enumerate() {
                let effect: f64 = effects.sample(&mut random);
                let chance = |sign: f64| (0.1 + sign * effect / 2.0).clamp(0.0, 0.5);
                let better = Draws::new(size, chance(1.0)).unwrap().sample(&mut random);
                let worse = Draws::new(size, chance(-1.0)).unwrap().sample(&mut random).min(size - better);
                let values = [(1.0, better), (-1.0, worse), (0.0, size - better - worse)];
                differences.extend(values.into_iter().flat_map(|(value, n)| vec![value; n as usize]));
                days.extend(vec![day as u32; size as usize]);
            }
            let value = differences.iter().sum::<f64>() / differences.len() as f64;
            let influences: Vec<f64> = differences.iter().map(|d| d - value).collect();
            let count = |wanted: f64| differences.iter().filter(|d| **d == wanted).count() as u64;
            let kind = || PairKind::Accuracy { candidate: count(1.0), champion: count(-1.0) };
            let days = Days::new(&days, &[]);
            let of = |days| Improvement::test(&Pairs { value, influences: &influences, days, kind: kind() }, 0.0, 0.95);
            by_days += u32::from(of(Some(&days)).p_value <= 0.05);
            by_rows += u32::from(of(None).p_value <= 0.05);
        }
        (by_days, by_rows)
    }

    #[test]
    fn an_equal_candidate_passes_no_more_often_than_the_level_says() {
        const TIMES: u32 = 2000;
        let (by_days, by_rows) = false_passes(&[300; 7], TIMES);
        // 5 % and three standard errors of 2,000 draws. By rows it is far above.
        assert!(by_days <= TIMES / 20 + 30, "{by_days} of {TIMES}");
        assert!(by_rows > TIMES / 8, "{by_rows} of {TIMES}: days matter");
        // A day that holds half of the rows: the level is missed by little.
        let (by_days, _) = false_passes(&[1800, 300, 300, 300, 300, 300, 300], TIMES);
        assert!(by_days <= TIMES * 8 / 100 + 36, "{by_days} of {TIMES}");
    }

    #[test]
    fn days_without_rows_that_a_metric_is_about_do_not_count() {
        let of = [0, 0, 1, 1, 2, 2];
        let about = |rows: [u8; 6]| rows.map(|row| row == 1).to_vec();
        assert_eq!(Days::new(&of, &[]).count(), 3);
        assert_eq!(Days::new(&of, &[about([1, 1, 0, 0, 0, 0])]).count(), 1);
        let two = Days::new(&of, &[about([1, 1, 1, 1, 1, 1]), about([1, 0, 1, 0, 0, 0])]);
        assert_eq!((two.count(), two.shares), (2, vec![0.5, 0.5, 1.0 / 3.0]));
        // All positives on one day: the sums of days are zero, and that is no certainty.
        let day = Days::new(&of, &[about([1, 1, 0, 0, 0, 0])]);
        let pairs =
            Pairs { value: 0.2, influences: &[0.5, -0.5, 0.0, 0.0, 0.0, 0.0], days: Some(&day), kind: PairKind::Other };
        assert_eq!(Improvement::test(&pairs, 0.0, 0.95).p_value, 1.0);
    }
}
