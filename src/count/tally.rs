//! The counts beside the distribution: rows, missing values, infinities, and the moments.

use serde::{Deserialize, Serialize};

/// The plain counts of one column of one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// All rows.
    pub rows: u64,
    /// Rows that are null.
    pub null: u64,
    /// Rows that are NaN.
    pub nan: u64,
    /// Rows that are `-inf`.
    pub neg_inf: u64,
    /// Rows that are `+inf`.
    pub pos_inf: u64,
    /// Mean and spread of the finite values, if requested.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub moments: Option<Moments>,
}

impl Tally {
    /// Rows with a value: neither null nor NaN.
    pub fn values(&self) -> u64 {
        self.rows - self.missing()
    }

    /// Rows that are null or NaN.
    pub fn missing(&self) -> u64 {
        self.null + self.nan
    }

    /// Adds the tally of further rows. Counts do not depend on the order; the moments, being doubles, are
    /// reproducible because chunks are always merged in file order.
    pub fn merge(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            null: self.null + other.null,
            nan: self.nan + other.nan,
            neg_inf: self.neg_inf + other.neg_inf,
            pos_inf: self.pos_inf + other.pos_inf,
            moments: match (self.moments, other.moments) {
                (Some(a), Some(b)) => Some(a.merge(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// Count, mean and sum of squared deviations of finite values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Number of values.
    pub n: u64,
    /// Their mean.
    #[serde(with = "exact")]
    pub mean: f64,
    /// The sum of squared deviations from the mean; infinite where it exceeds a double.
    #[serde(with = "exact")]
    pub m2: f64,
}

/// Doubles as text that reads back to the same double, infinities and NaN included, which JSON lacks.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{x:?}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Moments {
    /// The moments of a block of finite values, two passes over it.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len();
        if n == 0 {
            return Self::default();
        }
        let mean = lanes(values, |x| x) / n as f64;
        let m2 = lanes(values, |x| (x - mean) * (x - mean));
        Self { n: n as u64, mean, m2 }
    }

    /// Pools two groups (Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for
    /// computing sample variances").
    pub fn merge(self, other: Self) -> Self {
        if self.n == 0 || other.n == 0 {
            return if self.n == 0 { other } else { self };
        }
        let (n1, n2) = (self.n as f64, other.n as f64);
        let delta = other.mean - self.mean;
        Self {
            n: self.n + other.n,
            mean: self.mean + delta * (n2 / (n1 + n2)),
            m2: self.m2 + other.m2 + delta * delta * (n1 * n2 / (n1 + n2)),
        }
    }

    /// The population standard deviation (numpy's default, `ddof = 0`).
    pub fn std(self) -> f64 {
        (self.m2 / self.n as f64).sqrt()
    }
}

/// A sum in eight independent lanes: as fast as the vector unit, and the same on every machine.
fn lanes(values: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; 8];
    let mut chunks = values.chunks_exact(8);
    for chunk in &mut chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    sums.iter().sum::<f64>() + chunks.remainder().iter().map(|&x| f(x)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooled_moments_are_those_of_the_whole() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i * i % 777) + 1e6).collect();
        let whole = Moments::of(&values);
        let pooled = values.chunks(137).map(Moments::of).fold(Moments::default(), Moments::merge);
        assert_eq!(whole.n, pooled.n);
        assert!((whole.mean - pooled.mean).abs() < 1e-9 * whole.mean);
        assert!((whole.std() - pooled.std()).abs() < 1e-12 * whole.std());
    }
}
