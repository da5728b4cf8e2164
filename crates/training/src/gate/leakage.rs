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

/// The area of a categorical feature: the share of positives of each category, learned on one half of the rows, orders the rows
/// of the other half, so that an id tells nothing. `halves` says in which half a row is, which must not depend on its label.
pub fn area_of_categories(codes: &[u32], halves: &[bool], positive: &[bool]) -> Option<f64> {
    // By half: the rows and the positives of each category, and of all.
    let mut seen: [HashMap<u32, (f64, f64)>; 2] = Default::default();
    let mut all = [(0.0, 0.0); 2];
    for ((&code, &half), &positive) in codes.iter().zip(halves).zip(positive) {
        let half = usize::from(half);
        for (rows, positives) in [seen[half].entry(code).or_default(), &mut all[half]] {
            *rows += 1.0;
            *positives += f64::from(u8::from(positive));
        }
    }
    let share = |(&code, &half): (&u32, &bool)| {
        let other = usize::from(!half);
        let (rows, positives) = seen[other].get(&code).copied().unwrap_or(all[other]);
        positives / rows
    };
    let shares: Vec<f64> = codes.iter().zip(halves).map(share).collect();
    area_of_numbers(&shares, positive)
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
        let halves: Vec<bool> = (0..1000).map(|row| row / 10 % 2 == 0).collect();
        assert_eq!(area_of_categories(&told, &halves, &positive), Some(1.0));
        let ids: Vec<u32> = (0..1000).collect();
        let of_ids = area_of_categories(&ids, &halves, &positive).unwrap();
        assert!((of_ids - 0.5).abs() < 0.05, "{of_ids}");
        // Rows of both labels in turn: halves that follow the label would have one class each.
        let turns: Vec<bool> = (0..1000).map(|row| row % 2 == 0).collect();
        let told: Vec<u32> = turns.iter().map(|positive| u32::from(*positive)).collect();
        let halves: Vec<bool> = (0..1000).map(|row| row / 2 % 2 == 0).collect();
        assert_eq!(area_of_categories(&told, &halves, &turns), Some(1.0));
    }
}
