//! Matches labels with predictions. Pure: rows in any order give the same result, because only times decide, never the
//! position.

use bytemuck::{Pod, Zeroable};

use super::classes::ClassCode;
use driftsweep_extensions::trigger::labels::LabelCounts;

/// A logged prediction.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct LoggedPrediction {
    /// Hash of its id, or of its position where rows have none.
    pub id: u128,
    /// When it was made: microseconds since 1970.
    pub at: i64,
    /// The predicted class or number, where that is logged.
    pub predicted: ClassCode,
    /// The score, NaN without one.
    pub score: f64,
    /// Its proxy label.
    pub proxy: ClassCode,
    /// The label in the same row ...
    pub own: ClassCode,
    /// ... and when it became known.
    pub own_at: i64,
}

/// A label from a separate table.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ArrivedLabel {
    /// Hash of its id.
    pub id: u128,
    /// When it became known, [`NO_TIME`] where that is not logged.
    pub at: i64,
    /// What came true.
    pub truth: ClassCode,
}

/// The time of labels that have none.
pub const NO_TIME: i64 = i64::MIN;

/// The label of a prediction, and when it became known.
pub type MatchedLabel = Option<(ClassCode, i64)>;

/// Sorts rows into the order in which they are joined.
pub fn sort(predictions: &mut [LoggedPrediction], labels: &mut [ArrivedLabel]) {
    predictions.sort_unstable_by_key(|row| (row.id, row.at, row.predicted, row.score.to_bits()));
    labels.sort_unstable_by_key(|label| (label.id, label.at, label.truth));
}

/// Predictions with labels in the same row. Rows of one id and time are one prediction that was logged more than once,
/// with or without its label: they count once, with the label that was known first, and not at all if they contradict
/// each other.
pub fn labels_in_same_row(
    rows: &[LoggedPrediction],
    counts: &mut LabelCounts,
    each: &mut dyn FnMut(LoggedPrediction, MatchedLabel),
) {
    for same in rows.chunk_by(|a, b| (a.id, a.at) == (b.id, b.at)) {
        let mut labels: Vec<ArrivedLabel> = same
            .iter()
            .filter(|row| row.own.known().is_some())
            .map(|row| ArrivedLabel { id: row.id, at: row.own_at, truth: row.own })
            .collect();
        sort(&mut [], &mut labels);
        counts.labels += labels.len() as u64;
        counts.met += labels.len() as u64;
        let Some(row) = one_prediction(same, counts) else { continue };
        each(row, first_label(&labels, counts));
    }
}

/// Predictions and labels in order, joined by id. A label belongs to the latest prediction of its id that was made at
/// or before the time at which the label became known; without such a time, to the latest prediction of its id. The
/// first label of a prediction is used; later ones are ignored. A prediction followed by another one of the same id
/// before any label arrived is superseded, and does not count. A label without a time of its own becomes known `delay`
/// microseconds after its prediction, and does not count where that is not before the time `before`.
pub fn by_id(
    predictions: &[LoggedPrediction],
    labels: &[ArrivedLabel],
    (delay, before): (i64, i64),
    counts: &mut LabelCounts,
    each: &mut dyn FnMut(LoggedPrediction, MatchedLabel),
) {
    counts.labels += labels.len() as u64;
    let mut left = labels;
    for same_id in predictions.chunk_by(|a, b| a.id == b.id) {
        let id = same_id[0].id;
        left = &left[left.partition_point(|label| label.id < id)..];
        let (own, rest) = left.split_at(left.partition_point(|label| label.id == id));
        left = rest;
        let first = same_id[0].at;
        let early = own.partition_point(|label| label.at != NO_TIME && label.at < first);
        counts.early += early as u64;
        let mut own = &own[early..];
        let mut slots = same_id.chunk_by(|a, b| a.at == b.at).peekable();
        while let Some(slot) = slots.next() {
            let next = slots.peek().map(|next| next[0].at);
            // Labels without a time belong to the last prediction.
            let until = match next {
                Some(next) => own.partition_point(|label| label.at != NO_TIME && label.at < next),
                None => own.len(),
            };
            let (these, later) = own.split_at(until);
            own = later;
            if these.is_empty() && next.is_some() {
                counts.superseded += slot.len() as u64;
                continue;
            }
            counts.met += these.len() as u64;
            let Some(row) = one_prediction(slot, counts) else { continue };
            let known = |(truth, at)| match at {
                NO_TIME => (truth, row.at.saturating_add(delay)),
                at => (truth, at),
            };
            each(row, first_label(these, counts).map(known).filter(|(_, at)| *at < before));
        }
    }
}

/// The prediction of the rows of one id and time, if they agree.
fn one_prediction(rows: &[LoggedPrediction], counts: &mut LabelCounts) -> Option<LoggedPrediction> {
    let first = *rows.first()?;
    if !rows.iter().all(|row| row.predicted == first.predicted && row.score.to_bits() == first.score.to_bits()) {
        counts.contradicting += rows.len() as u64;
        return None;
    }
    // A missing one sorts last.
    let proxy = rows.iter().map(|row| row.proxy).min().unwrap_or(ClassCode::MISSING);
    Some(LoggedPrediction { proxy, ..first })
}

/// The label that became known first, of labels in order of time: none where two of that time contradict each other.
fn first_label(labels: &[ArrivedLabel], counts: &mut LabelCounts) -> MatchedLabel {
    let first = labels.first()?;
    let others = || labels.iter().filter(|other| other.truth != first.truth);
    let at_once = others().filter(|other| other.at == first.at).count() as u64;
    counts.rewritten += others().count() as u64 - at_once;
    if at_once > 0 {
        counts.contradicting += at_once + 1;
        return None;
    }
    Some((first.truth, first.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicted(id: u128, at: i64, class: usize) -> LoggedPrediction {
        let missing = ClassCode::MISSING;
        LoggedPrediction {
            id,
            at,
            predicted: ClassCode::class(class),
            score: f64::NAN,
            proxy: missing,
            own: missing,
            own_at: 0,
        }
    }

    fn came(id: u128, at: i64, class: usize) -> ArrivedLabel {
        ArrivedLabel { id, at, truth: ClassCode::class(class) }
    }

    type Found = Vec<(i64, Option<(usize, i64)>)>;

    /// Time of each prediction that counts, with class and time of its label; and the counts.
    fn met(predictions: &[LoggedPrediction], labels: &[ArrivedLabel]) -> (Found, LabelCounts) {
        let run = |mut predictions: Vec<LoggedPrediction>, mut labels: Vec<ArrivedLabel>| {
            sort(&mut predictions, &mut labels);
            let (mut found, mut counts) = (Vec::new(), LabelCounts::default());
            by_id(&predictions, &labels, (100, 1000), &mut counts, &mut |row, label| {
                let class = |truth| (0..3).find(|&class| ClassCode::class(class) == truth).unwrap();
                found.push((row.at, label.map(|(truth, at)| (class(truth), at))));
            });
            found.sort_unstable();
            (found, counts)
        };
        let found = run(predictions.to_vec(), labels.to_vec());
        let backwards = run(predictions.iter().rev().copied().collect(), labels.iter().rev().copied().collect());
        assert_eq!(found, backwards, "the order of rows must not matter");
        found
    }

    #[test]
    fn a_label_belongs_to_the_latest_prediction_before_it() {
        let predictions = [predicted(1, 10, 1), predicted(1, 50, 0), predicted(2, 10, 1)];
        let (found, counts) = met(&predictions, &[came(1, 20, 1)]);
        assert_eq!(found, [(10, None), (10, Some((1, 20))), (50, None)]);
        assert_eq!((counts.labels, counts.met, counts.early, counts.superseded), (1, 1, 0, 0));
        // Both predictions get theirs.
        assert_eq!(met(&predictions, &[came(1, 20, 1), came(1, 60, 0)]).0[2], (50, Some((0, 60))));
        // Made twice before the label came: the later one counts.
        let (found, counts) = met(&[predicted(1, 10, 1), predicted(1, 50, 0)], &[came(1, 60, 0)]);
        assert_eq!((found, counts.superseded), (vec![(50, Some((0, 60)))], 1));
        // At the very time of the prediction it may be its own; before, it is not.
        assert_eq!(met(&[predicted(1, 10, 1)], &[came(1, 10, 1)]).0, [(10, Some((1, 10)))]);
        let (found, counts) = met(&[predicted(1, 10, 1)], &[came(1, 9, 1)]);
        assert_eq!((found, counts.early, counts.met), (vec![(10, None)], 1, 0));
    }

    #[test]
    fn the_first_label_stays_whatever_is_written_again_later() {
        let predictions = [predicted(1, 10, 1)];
        let (found, counts) = met(&predictions, &[came(1, 20, 1), came(1, 30, 0), came(1, 40, 1)]);
        assert_eq!((found, counts.rewritten, counts.contradicting), (vec![(10, Some((1, 20)))], 1, 0));
        // Two at once that contradict one another are none.
        let (found, counts) = met(&predictions, &[came(1, 20, 1), came(1, 20, 0)]);
        assert_eq!((found, counts.contradicting), (vec![(10, None)], 2));
        assert_eq!(met(&predictions, &[came(1, 20, 1), came(1, 20, 1)]).0, [(10, Some((1, 20)))]);
    }

    #[test]
    fn predictions_of_one_time_must_agree() {
        assert_eq!(met(&[predicted(1, 10, 1), predicted(1, 10, 1)], &[came(1, 20, 1)]).0, [(10, Some((1, 20)))]);
        let (found, counts) = met(&[predicted(1, 10, 1), predicted(1, 10, 0)], &[came(1, 20, 1)]);
        assert_eq!((found.len(), counts.contradicting), (0, 2));
    }

    #[test]
    fn labels_without_a_time_belong_to_the_last_prediction_once_they_have_had_their_delay() {
        let timeless = |class| came(1, NO_TIME, class);
        let (found, counts) = met(&[predicted(1, 10, 1), predicted(1, 50, 0)], &[timeless(0)]);
        assert_eq!((found, counts.superseded, counts.met), (vec![(50, Some((0, 150)))], 1, 1));
        assert_eq!(
            met(&[predicted(1, 950, 1)], &[timeless(1)]).0,
            [(950, None)],
            "known at 1050, after the sweep at 1000"
        );
        assert_eq!(met(&[predicted(1, 10, 1)], &[timeless(1), timeless(0)]).1.contradicting, 2);
    }

    #[test]
    fn rows_logged_again_with_their_label_are_one_prediction() {
        let labelled = LoggedPrediction { own: ClassCode::class(1), own_at: 30, ..predicted(1, 10, 1) };
        let mut rows = [predicted(1, 10, 1), labelled, predicted(1, 20, 0), predicted(2, 10, 1), predicted(2, 10, 0)];
        sort(&mut rows, &mut []);
        let (mut found, mut counts) = (Vec::new(), LabelCounts::default());
        labels_in_same_row(&rows, &mut counts, &mut |row, label| found.push((row.id, row.at, label.map(|(_, at)| at))));
        assert_eq!(found, [(1, 10, Some(30)), (1, 20, None)]);
        assert_eq!((counts.labels, counts.contradicting), (1, 2));
    }
}
