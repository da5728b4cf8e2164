//! Results of tests, and the false discovery rate over many of them.

/// The result of a test.
#[derive(Clone, Copy, Debug)]
pub struct TestResult {
    /// Its p-value.
    pub p_value: f64,
    /// Its q-value, once the sweep has tested it.
    pub q_value: Option<f64>,
}

/// The q-values of Benjamini and Hochberg 1995: the smallest false discovery rate at which each test would
/// be called. Same order as the p-values; NaN stays NaN and is not counted as a test.
pub(crate) fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).filter(|&i| !p_values[i].is_nan()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let tests = order.len() as f64;
    let mut q_values = vec![f64::NAN; p_values.len()];
    let mut smallest = 1.0f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        smallest = smallest.min(p_values[i] * tests / (rank + 1) as f64);
        q_values[i] = smallest;
    }
    q_values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_values_are_those_of_scipy() {
        // scipy.stats.false_discovery_control([0.01, 0.04, 0.03, 0.005, 0.8])
        let found = benjamini_hochberg(&[0.01, 0.04, 0.03, 0.005, f64::NAN, 0.8]);
        let wanted = [0.025, 0.05, 0.05, 0.025, f64::NAN, 0.8];
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() < 1e-15 || (f.is_nan() && w.is_nan()), "{found:?}");
        }
    }
}
