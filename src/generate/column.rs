//! One generated column: what it looks like, how it drifts, and its cells.

use std::sync::Arc;

use rand_distr::{Distribution, Open01, StandardNormal};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{GenerateOptions, TableSide};
use crate::snapshot::table::{CellType, Cells};
use driftsweep_common::error::Error;

/// The distribution of a column: a monotone function of a standard normal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratedShape {
    /// Doubles, normal.
    Normal,
    /// Doubles, log-normal.
    LogNormal,
    /// Doubles with two decimals, many of them equal.
    Money,
    /// Single precision, normal.
    Float32,
    /// Integers, skewed, many of them equal.
    Integer,
    /// Categories; the share of the k-th is proportional to 1/k.
    Category(u32),
}

impl GeneratedShape {
    pub(super) fn cell_type(self) -> CellType {
        match self {
            Self::Normal | Self::LogNormal | Self::Money => CellType::Float,
            Self::Float32 => CellType::Float32,
            Self::Integer => CellType::Signed,
            Self::Category(_) => CellType::Text,
        }
    }
}

/// A kind of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// The latent value is shifted.
    Shift,
    /// The latent value is spread out.
    Scale,
    /// More values are missing.
    Missing,
}

impl std::str::FromStr for DriftKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "shift" => Ok(Self::Shift),
            "scale" => Ok(Self::Scale),
            "missing" => Ok(Self::Missing),
            _ => Err(Error::unknown("kind of drift", name, ["shift", "scale", "missing"])),
        }
    }
}

/// Drift of the current side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratedDrift {
    /// The kind of drift.
    pub kind: DriftKind,
    /// Population stability index over ten quantile bins of the latent value, or the rate of missing values added.
    pub size: f64,
    /// What the latent value is multiplied by.
    pub factor: f64,
    /// What is then added to it.
    pub shift: f64,
}

/// A column of a generated table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratedColumn {
    /// Its name.
    pub name: String,
    /// Its distribution.
    pub shape: GeneratedShape,
    /// Share of nulls.
    pub nulls: f64,
    /// Its drift on the current side, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<GeneratedDrift>,
    seed: u64,
}

impl GeneratedColumn {
    /// The `c`-th column of table `t`.
    pub(super) fn new(spec: &GenerateOptions, t: usize, c: usize) -> Self {
        let seed = mix(mix(spec.seed ^ mix(t as u64)) ^ c as u64);
        // Evenly spread shares: every k-th column, whatever the share.
        let every = |share: f64, salt: f64| {
            let at = |c: usize| (c as f64 * share + salt).floor();
            at(c + 1) > at(c)
        };
        let shape = if every(spec.categorical, 0.5) {
            let sizes = [10, 3, 100, 2, 1000, 30, usize::MAX];
            GeneratedShape::Category(sizes[(seed % sizes.len() as u64) as usize].min(spec.cardinality) as u32)
        } else {
            let shapes = [
                GeneratedShape::Normal,
                GeneratedShape::Integer,
                GeneratedShape::Money,
                GeneratedShape::Float32,
                GeneratedShape::LogNormal,
            ];
            shapes[(seed % shapes.len() as u64) as usize]
        };
        let drift = every(spec.drift, 0.25).then(|| {
            let nth = (c as f64 * spec.drift + 0.25).floor() as usize;
            GeneratedDrift::of_size(spec.kinds[nth % spec.kinds.len()], spec.drift_size)
        });
        let nulls = if c % 5 == 4 { spec.nulls } else { 0.0 };
        Self { name: format!("f{c:05}"), shape, nulls, drift, seed }
    }

    /// The cells of one row group of one side.
    pub(super) fn cells(&self, side: TableSide, group: u64, rows: usize) -> Cells {
        let mut rng = Pcg64Mcg::new(
            u128::from(mix(self.seed ^ group)) << 64 | u128::from(mix(self.seed + u64::from(side.night))),
        );
        let drift = self.drift.filter(|_| side.drifts);
        let (factor, shift) = drift.map_or((1.0, 0.0), |d| (d.factor, d.shift));
        let more = drift.filter(|d| d.kind == DriftKind::Missing).map_or(0.0, |d| d.size);
        let nulls = self.nulls + (1.0 - self.nulls) * more.min(1.0);
        let mut latent = || {
            let z: f64 = StandardNormal.sample(&mut rng);
            let missing = nulls > 0.0 && {
                let u: f64 = Open01.sample(&mut rng);
                u < nulls
            };
            (!missing).then_some(z * factor + shift)
        };
        let scale = 1.0 + (self.seed % 97) as f64;
        match self.shape {
            GeneratedShape::Normal => Cells::Float((0..rows).map(|_| latent().map(|z| scale * (10.0 + z))).collect()),
            GeneratedShape::LogNormal => Cells::Float((0..rows).map(|_| latent().map(f64::exp)).collect()),
            GeneratedShape::Money => {
                let price = |z: f64| ((0.5 * z).exp() * scale * 100.0).round() / 100.0;
                Cells::Float((0..rows).map(|_| latent().map(price)).collect())
            }
            GeneratedShape::Float32 => {
                Cells::Float32((0..rows).map(|_| latent().map(|z| (scale + z) as f32)).collect())
            }
            GeneratedShape::Integer => {
                Cells::Signed((0..rows).map(|_| latent().map(|z| (z.exp() * scale * 4.0) as i64)).collect())
            }
            GeneratedShape::Category(size) => {
                let bounds = zipf_bounds(size);
                let names: Arc<[String]> = (0..size).map(|k| format!("c{k:05}")).collect();
                let category = |z: f64| bounds.partition_point(|&bound| bound <= z) as u32;
                Cells::Names((0..rows).map(|_| latent().map(category)).collect(), names)
            }
        }
    }
}

/// Where a standard normal is cut so that the k-th of `size` parts has a share proportional to 1/k.
fn zipf_bounds(size: u32) -> Vec<f64> {
    let total: f64 = (1..=size).map(|k| 1.0 / f64::from(k)).sum();
    let mut sum = 0.0;
    let bound = |k: u32| {
        sum += 1.0 / f64::from(k) / total;
        Normal::standard().inverse_cdf(sum.min(1.0))
    };
    (1..size).map(bound).collect()
}

impl GeneratedDrift {
    /// Drift of one kind whose population stability index over the ten quantile bins of the latent value is `size`.
    pub(crate) fn of_size(kind: DriftKind, size: f64) -> Self {
        let (factor, shift) = match kind {
            DriftKind::Missing => (1.0, 0.0),
            DriftKind::Shift => (1.0, solve(size, |x| psi(1.0, x))),
            DriftKind::Scale => (1.0 + solve(size, |x| psi(1.0 + x, 0.0)), 0.0),
        };
        Self { kind, size, factor, shift }
    }
}

/// Population stability index of `factor * z + shift` against `z`, over the ten quantile bins of `z`.
fn psi(factor: f64, shift: f64) -> f64 {
    let normal = Normal::standard();
    let below = |k: u32| match k {
        0 => 0.0,
        10 => 1.0,
        k => normal.cdf((normal.inverse_cdf(f64::from(k) / 10.0) - shift) / factor),
    };
    (0..10).map(|k| below(k + 1) - below(k)).map(|share| (share - 0.1) * (share / 0.1).ln()).sum()
}

/// The `x` in `0..16` at which an increasing function has a value.
fn solve(value: f64, f: impl Fn(f64) -> f64) -> f64 {
    let (mut lo, mut hi) = (0.0, 16.0);
    for _ in 0..60 {
        let middle = (lo + hi) / 2.0;
        if f(middle) < value { lo = middle } else { hi = middle }
    }
    (lo + hi) / 2.0
}

/// SplitMix64's finaliser: neighbouring numbers give unrelated ones.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_has_the_size_it_was_asked_for() {
        for size in [0.01, 0.1, 0.25, 1.0] {
            let shift = GeneratedDrift::of_size(DriftKind::Shift, size);
            assert!((psi(shift.factor, shift.shift) - size).abs() < 1e-9, "{shift:?}");
            let scale = GeneratedDrift::of_size(DriftKind::Scale, size);
            assert!(scale.factor > 1.0 && (psi(scale.factor, scale.shift) - size).abs() < 1e-9, "{scale:?}");
        }
    }

    #[test]
    fn shares_of_categories_fall_as_one_over_their_rank() {
        let bounds = zipf_bounds(4);
        let cdf: Vec<f64> = bounds.iter().map(|&z| Normal::standard().cdf(z)).collect();
        for (found, wanted) in cdf.iter().zip([12.0 / 25.0, 18.0 / 25.0, 22.0 / 25.0]) {
            assert!((found - wanted).abs() < 1e-9, "{cdf:?}");
        }
    }
}
