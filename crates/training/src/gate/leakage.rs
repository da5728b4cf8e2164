//! Features that tell the label on their own, which none should that is known before it.

use std::collections::HashMap;

use driftsweep::metric::performance::{ClassifiedRow, PerformanceMetric, influences};

/// The area under the curve of a single numeric feature, in the better direction, missing values (NaN) below all others.
/// `None` where one class only is there.
pub fn area_of_numbers(values: &[f64], positive: &[bool]) -> Option<f64> {
    let rows: Vec<ClassifiedRow> = values
        .iter()
        .zip(positive)
        .map(|(&value, &positive)| ClassifiedRow {
            chance: f64::from(u8::from(positive)),
            predicted: false,
            score: if value.is_nan() { f64::NEG_INFINITY } else { value + 0.0 },
        })
        .collect();
    let area = influences(PerformanceMetric::Auc, &rows)?.value;
    Some(area.max(1.0 - area))
}

/// The area of a categorical feature: the share of positives of each category, learned on every other row, orders the rows
/// between, so that an id tells nothing.
pub fn area_of_categories(codes: &[u32], positive: &[bool]) -> Option<f64> {
    let mut seen: HashMap<u32, (f64, f64)> = HashMap::new();
    let half = |parity: usize| codes.iter().zip(positive).skip(parity).step_by(2);
    for (&code, &positive) in half(0) {
        let (rows, positives) = seen.entry(code).or_default();
        *rows += 1.0;
        *positives += f64::from(u8::from(positive));
    }
    let rows: f64 = seen.values().map(|(rows, _)| rows).sum();
    let overall = seen.values().map(|(_, positives)| positives).sum::<f64>() / rows;
    let share = |code| seen.get(code).map_or(overall, |(rows, positives)| positives / rows);
    let (shares, labels): (Vec<f64>, Vec<bool>) = half(1).map(|(code, &positive)| (share(code), positive)).unzip();
    area_of_numbers(&shares, &labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_alone_is_as_good_as_its_order_in_either_direction() {
        let positive: Vec<bool> = (0..100).map(|row| row >= 60).collect();
        let numbers: Vec<f64> = (0..100).map(f64::from).collect();
        let turned: Vec<f64> = numbers.iter().map(|x| -x).collect();
        assert_eq!(area_of_numbers(&numbers, &positive), Some(1.0));
        assert_eq!(area_of_numbers(&turned, &positive), Some(1.0));
        // Missing only where the label is negative: that it is missing tells it.
        let missing: Vec<f64> = positive.iter().map(|positive| if *positive { 5.0 } else { f64::NAN }).collect();
        assert_eq!(area_of_numbers(&missing, &positive), Some(1.0));
        assert_eq!(area_of_numbers(&numbers, &[true; 100]), None);
    }

    #[test]
    fn categories_tell_the_label_and_ids_do_not() {
        let positive: Vec<bool> = (0..1000).map(|row| row % 10 < 3).collect();
        let told: Vec<u32> =
            positive.iter().enumerate().map(|(row, p)| (row / 2 % 2) as u32 + 2 * u32::from(*p)).collect();
        assert_eq!(area_of_categories(&told, &positive), Some(1.0));
        let ids: Vec<u32> = (0..1000).collect();
        assert_eq!(area_of_categories(&ids, &positive), Some(0.5));
    }
}
