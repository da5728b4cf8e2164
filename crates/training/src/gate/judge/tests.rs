//! The verdicts over rows that are made for them.

use super::*;
use crate::gate::GateTable;

fn rules(text: &str) -> GateRules {
    let table: GateTable = toml::from_str(text).unwrap();
    table.over(&GateTable::default()).unwrap()
}

/// A number from 0 to 1 for a row.
fn spread(row: usize) -> f64 {
    // SplitMix64 (Steele, Lea and Flood 2014)
    let mut x = (row as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn output(positive: bool, label: bool, score: f64) -> Output {
    Output { positive, correct: positive == label, score, error: f64::NAN }
}

/// Rows of seven days of which the models are wrong in these shares. A label is positive in two of five rows, and scores
/// are 0.8 and 0.2.
fn rows(n: usize, candidate: f64, champion: Option<f64>) -> ValidationRows {
    let positive: Vec<bool> = (0..n).map(|row| spread(row + 7) < 0.4).collect();
    let outputs = |wrong: f64, salt: usize| {
        let said = |(row, &label): (usize, &bool)| {
            let said = label != (spread(row * 3 + salt) < wrong);
            output(said, label, if said { 0.8 } else { 0.2 })
        };
        positive.iter().enumerate().map(said).collect::<Vec<_>>()
    };
    ValidationRows {
        classes: positive.iter().map(|positive| u32::from(*positive)).collect(),
        candidate: outputs(candidate, 1),
        champion: champion.map(|champion| outputs(champion, 5)),
        times: Some((0..n as i64).collect()),
        days: Some((0..n as u32).map(|row| row % 7).collect()),
        has_predictions: true,
        labelled: n,
        positive,
        ..ValidationRows::default()
    }
}

fn verdict(report: &GateReport, name: &str) -> Verdict {
    let found = report.gates.iter().find(|gate| gate.name == name);
    found.unwrap_or_else(|| panic!("no gate {name}: {report:#?}")).verdict
}

#[test]
fn a_better_candidate_passes_and_one_that_is_no_better_does_not() {
    let good = evaluate(&rows(7000, 0.05, Some(0.1)), &GateRules::default());
    assert_eq!(good.verdict, Verdict::Passed, "{good:#?}");
    assert_eq!((good.rows, good.days), (7000, Some(7)));
    for (candidate, gate) in [(0.15, "accuracy.at_least"), (0.1, "accuracy.better_by"), (0.2, "accuracy.better_by")] {
        let found = evaluate(&rows(7000, candidate, Some(0.1)), &GateRules::default());
        assert_eq!(
            (found.verdict, verdict(&found, gate)),
            (Verdict::Failed, Verdict::Failed),
            "{candidate} {found:#?}"
        );
        assert!(found.open().all(|gate| gate.advice.is_some()));
    }
}

#[test]
fn nothing_passes_for_want_of_data() {
    let of = |rows: &ValidationRows, text: &str| evaluate(rows, &rules(text));
    let small = of(&rows(900, 0.02, Some(0.1)), "");
    assert_eq!((small.verdict, verdict(&small, "rows")), (Verdict::InsufficientData, Verdict::InsufficientData));
    let alone = of(&rows(7000, 0.02, None), "");
    assert_eq!(verdict(&alone, "accuracy.better_by"), Verdict::InsufficientData);
    assert_eq!(alone.verdict, Verdict::InsufficientData);
    let lost = ValidationRows { without_candidate: 200, labelled: 7200, ..rows(7000, 0.02, Some(0.1)) };
    assert_eq!(verdict(&of(&lost, ""), "rows.candidate"), Verdict::InsufficientData);
    assert_eq!(verdict(&of(&lost, "max_unmatched = 0.05"), "rows.candidate"), Verdict::Passed);
    // Rows of one class have no area, and rows without scores no loss.
    let mut negative = rows(7000, 0.02, Some(0.1));
    negative.positive.fill(false);
    let auc = of(&negative, "metrics = [{ metric = \"auc\", at_least = 0.5 }]");
    assert_eq!(verdict(&auc, "auc"), Verdict::InsufficientData);
    let mut scoreless = rows(7000, 0.02, Some(0.1));
    scoreless.candidate.iter_mut().for_each(|output| output.score = f64::NAN);
    let loss = of(&scoreless, "metrics = [{ metric = \"log_loss\", at_most = 0.5 }]\n[calibration]");
    assert_eq!(verdict(&loss, "log_loss"), Verdict::InsufficientData);
    assert_eq!(verdict(&loss, "calibration"), Verdict::InsufficientData);
    // Twenty positives among many rows.
    let mut rare = rows(7000, 0.0, None);
    rare.positive.iter_mut().enumerate().for_each(|(row, positive)| *positive = row < 20);
    let recall = of(&rare, "metrics = [{ metric = \"recall\", at_least = 0.0 }]");
    assert_eq!(verdict(&recall, "recall"), Verdict::InsufficientData);
    assert_eq!(evaluate(&ValidationRows::default(), &GateRules::default()).verdict, Verdict::InsufficientData);
    let late = of(&rows(7000, 0.02, Some(0.1)), "latency_p95 = 10.0");
    assert_eq!(verdict(&late, "latency_p95"), Verdict::InsufficientData);
}

#[test]
fn a_metric_whose_rows_are_of_one_day_is_not_tested_and_both_models_need_its_rows() {
    // Sixty positives, all of the first day.
    let mut one_day = rows(7000, 0.0, Some(0.0));
    let champion = one_day.champion.as_mut().unwrap();
    for (row, other) in champion.iter_mut().enumerate() {
        let label = row % 7 == 0 && row < 420;
        (one_day.positive[row], one_day.classes[row]) = (label, u32::from(label));
        one_day.candidate[row] = output(label && row < 217, label, 0.5);
        *other = output(label && row >= 210, label, 0.5);
    }
    let text = |metric: &str| format!("metrics = [{{ metric = \"{metric}\", significance = 0.05 }}]");
    let found = evaluate(&one_day, &rules(&text("recall")));
    assert_eq!(verdict(&found, "recall.significance"), Verdict::InsufficientData, "{found:#?}");
    // A champion that predicted one row positive has no precision to compare with.
    let mut shy = rows(7000, 0.05, Some(0.1));
    for (row, output) in shy.champion.as_mut().unwrap().iter_mut().enumerate() {
        (output.positive, output.correct) = (row == 3, (row == 3) == shy.positive[row]);
    }
    let found = evaluate(&shy, &rules(&text("precision")));
    assert_eq!(verdict(&found, "precision.significance"), Verdict::InsufficientData, "{found:#?}");
    // Days that have no rows of the metric count for none.
    let whole = evaluate(&rows(7000, 0.05, Some(0.1)), &rules(&text("recall")));
    assert_eq!(verdict(&whole, "recall.significance"), Verdict::Passed, "{whole:#?}");
}

#[test]
fn limits_that_are_met_exactly_are_met() {
    let exact = |right: usize| {
        let mut rows = rows(1000, 0.0, Some(0.0));
        for (row, output) in rows.candidate.iter_mut().enumerate() {
            output.correct = row < right;
        }
        for (row, output) in rows.champion.as_mut().unwrap().iter_mut().enumerate() {
            output.correct = row < right - 10;
        }
        rows
    };
    for right in 901..1000 {
        let found = evaluate(&exact(right), &GateRules::default());
        assert_eq!(verdict(&found, "accuracy.better_by"), Verdict::Passed, "{right}");
    }
}

#[test]
fn less_of_a_loss_is_better() {
    let text = "metrics = [{ metric = \"log_loss\", at_most = 0.4, better_by = 0.02, significance = 0.05 }]";
    let better = evaluate(&rows(7000, 0.1, Some(0.15)), &rules(text));
    assert_eq!(better.verdict, Verdict::Passed, "{better:#?}");
    let gate = better.gates.iter().find(|gate| gate.name == "log_loss.better_by").unwrap();
    assert!(gate.figures["improvement"] > 0.02 && gate.figures["candidate"] < gate.figures["champion"], "{gate:?}");
    let worse = evaluate(&rows(7000, 0.15, Some(0.1)), &rules(text));
    let names: Vec<&str> = worse.open().map(|gate| &*gate.name).collect();
    assert_eq!(names, ["log_loss.at_most", "log_loss.better_by", "log_loss.significance"]);
}

#[test]
fn what_is_not_significant_says_how_many_rows_would_be() {
    let text = "metrics = [{ metric = \"accuracy\", better_by = 0.01, significance = 0.05 }]";
    for (together, rows_and_days) in [("day", true), ("none", false)] {
        let found = evaluate(&rows(1400, 0.1, Some(0.1)), &rules(&format!("together = \"{together}\"\n{text}")));
        let gate = found.gates.iter().find(|gate| gate.name == "accuracy.significance").unwrap();
        assert_eq!(gate.verdict, Verdict::Failed);
        assert!(gate.figures["rows_needed"] > 1400.0 && gate.figures["power"] < 0.8, "{gate:#?}");
        assert_eq!(gate.figures.contains_key("days_needed"), rows_and_days);
        assert!(gate.sentence.contains("in 80 of 100 with"), "{}", gate.sentence);
    }
    // Not worse by two points, which is easier to see.
    let text = "metrics = [{ metric = \"accuracy\", significance = 0.05, margin = -0.02 }]";
    let found = evaluate(&rows(14_000, 0.1, Some(0.1)), &rules(text));
    assert_eq!(verdict(&found, "accuracy.significance"), Verdict::Passed, "{found:#?}");
}

#[test]
fn a_feature_that_knows_the_label_is_named() {
    let leaking = ValidationRows {
        features: Some(vec![("age".into(), 0.6), ("paid_at".into(), 0.998)]),
        ..rows(7000, 0.002, Some(0.1))
    };
    let found = evaluate(&leaking, &GateRules::default());
    let gate = found.gates.iter().find(|gate| gate.name == "leakage").unwrap();
    assert_eq!((found.verdict, gate.verdict), (Verdict::Failed, Verdict::Failed));
    assert!(gate.sentence.contains("'paid_at'"), "{}", gate.sentence);
    for features in [None, Some(vec![("age".into(), 0.6)])] {
        let found = evaluate(&ValidationRows { features, ..leaking.clone() }, &GateRules::default());
        assert_eq!((found.verdict, verdict(&found, "leakage")), (Verdict::Warning, Verdict::Warning));
    }
    // A feature that is as good as this is no leak while the model is not.
    let modest = ValidationRows { features: leaking.features.clone(), ..rows(7000, 0.05, Some(0.1)) };
    assert_eq!(verdict(&evaluate(&modest, &GateRules::default()), "leakage"), Verdict::Passed);
}

#[test]
fn a_model_that_is_worse_than_none_is_of_no_use() {
    // One row of a hundred is positive, and the candidate finds none of them.
    let mut rare = rows(7000, 0.0, Some(0.1));
    for row in 0..7000 {
        let label = row % 100 == 0;
        (rare.positive[row], rare.classes[row]) = (label, u32::from(label));
        rare.candidate[row] = output(row % 90 == 1, label, 0.5);
    }
    let found = evaluate(&rare, &GateRules::default());
    assert_eq!(verdict(&found, "accuracy.at_least"), Verdict::Passed);
    assert_eq!(verdict(&found, "accuracy.constant"), Verdict::Failed);
    // Labels that seldom change: the label before is the better prediction.
    let mut slow = rows(7000, 0.05, Some(0.1));
    for row in 0..7000 {
        let label = row / 100 % 2 == 0;
        (slow.positive[row], slow.classes[row]) = (label, u32::from(label));
        slow.candidate[row] = output(label != (row % 20 == 0), label, 0.5);
    }
    let found = evaluate(&slow, &rules("no_change = true"));
    assert_eq!(verdict(&found, "accuracy.constant"), Verdict::Passed);
    assert_eq!(verdict(&found, "accuracy.no_change"), Verdict::Failed);
}

#[test]
fn groups_that_are_treated_unequally_are_named_and_small_ones_do_not_pass() {
    let mut grouped = rows(7000, 0.05, Some(0.1));
    let of: Vec<u32> = (0..7000).map(|row| u32::from(spread(row + 11) < 0.3)).collect();
    grouped.groups.insert("sex".into(), (vec!["f".into(), "m".into()], of.clone()));
    let text = "[fairness.sex]\ntpr = 0.1\nselection_rate = 0.1";
    let fair = evaluate(&grouped, &rules(text));
    assert_eq!(fair.verdict, Verdict::Passed, "{fair:#?}");
    let mut unfair = grouped.clone();
    for (row, group) in of.iter().enumerate() {
        if *group == 1 && spread(row + 3) < 0.3 {
            unfair.candidate[row] = output(false, unfair.positive[row], 0.2);
        }
    }
    let found = evaluate(&unfair, &rules(text));
    let gate = found.gates.iter().find(|gate| gate.name == "fairness.sex.tpr").unwrap();
    assert_eq!(gate.verdict, Verdict::Failed);
    assert!(gate.sentence.contains("'m'") && gate.advice.as_ref().unwrap().contains("'m'"), "{gate:#?}");
    // Six rows of a third group, which nobody can judge.
    let mut small = grouped.clone();
    let (names, of) = &mut small.groups["sex"];
    names.push("x".into());
    of[..6].fill(2);
    for (text, wanted) in [
        (text.to_owned(), Verdict::InsufficientData),
        (format!("{text}\ngroups = [\"f\", \"m\"]"), Verdict::Passed),
        (format!("{text}\ngroups = [\"f\", \"y\"]"), Verdict::InsufficientData),
        ("[fairness.age]\ntpr = 0.1".into(), Verdict::InsufficientData),
    ] {
        assert_eq!(evaluate(&small, &rules(&text)).verdict, wanted, "{text}");
    }
}

#[test]
fn scores_that_are_too_extreme_are_not_calibrated() {
    let text = "metrics = [{ metric = \"accuracy\", at_least = 0.5 }]\n[calibration]\nintercept = [-0.5, 0.5]";
    let scored = |score: &dyn Fn(f64) -> f64| {
        let mut rows = rows(7000, 0.2, None);
        rows.candidate.iter_mut().for_each(|output| output.score = score(output.score));
        rows
    };
    // 80 % of what has a score of 0.8 is positive, nearly.
    let even = evaluate(&scored(&|score| score), &rules(text));
    let slope = even.gates.iter().find(|gate| gate.name == "calibration.slope").unwrap().figures["slope"];
    assert!(slope > 0.8 && slope < 1.25, "{even:#?}");
    let extreme = evaluate(&scored(&|score| if score > 0.5 { 0.99 } else { 0.01 }), &rules(text));
    assert_eq!(verdict(&extreme, "calibration.slope"), Verdict::Failed);
    let shifted = evaluate(&scored(&|score| score / 4.0), &rules(text));
    assert_eq!(verdict(&shifted, "calibration.intercept"), Verdict::Failed, "{shifted:#?}");
}

#[test]
fn errors_of_numbers_are_judged_in_their_unit() {
    let numbers: Vec<f64> = (0..2000).map(|row| 100.0 * spread(row)).collect();
    let outputs = |size: f64| {
        let of = |row: usize| Output {
            positive: false,
            correct: false,
            score: f64::NAN,
            error: size * (spread(row + 1) - 0.5),
        };
        (0..2000).map(of).collect::<Vec<_>>()
    };
    let rows = ValidationRows {
        positive: vec![false; 2000],
        candidate: outputs(10.0),
        champion: Some(outputs(12.0)),
        numbers,
        ..ValidationRows::default()
    };
    let text = "together = \"none\"\nmetrics = [{ metric = \"mae\", at_most = 3.0, better_by = 0.2, significance = 0.01 }, { metric = \"rmse\", at_most = 4.0 }]";
    let found = evaluate(&rows, &rules(text));
    assert_eq!(found.verdict, Verdict::Passed, "{found:#?}");
    assert!(found.gates.iter().all(|gate| gate.name != "leakage"));
    let constant = found.gates.iter().find(|gate| gate.name == "rmse.constant").unwrap();
    // The standard deviation of even numbers from 0 to 100.
    assert!((constant.figures["other"] - 28.9).abs() < 0.5, "{constant:?}");
}

#[test]
fn latencies_are_judged_by_their_95th_percentile() {
    let mut rows = rows(2000, 0.02, Some(0.1));
    rows.latencies = Some((0..2000).map(f64::from).collect());
    // numpy.quantile(numpy.arange(2000), 0.95)
    let found = evaluate(&rows, &rules("latency_p95 = 1899.1"));
    assert_eq!(verdict(&found, "latency_p95"), Verdict::Passed);
    assert!((found.gates.last().unwrap().figures["value"] - 1899.05).abs() < 1e-9);
    assert_eq!(verdict(&evaluate(&rows, &rules("latency_p95 = 1899.0")), "latency_p95"), Verdict::Failed);
}

#[test]
fn mistakes_in_rules_are_named() {
    for (text, words) in [
        ("metrics = []", "judges nothing"),
        ("metrics = [{ metric = \"auc\" }]", "'auc' has no limit; give at_least"),
        ("metrics = [{ metric = \"mae\", at_least = 1.0 }]", "give at_most instead of at_least"),
        ("metrics = [{ metric = \"f1\", at_most = 1.0 }]", "give at_least instead of at_most"),
        ("metrics = [{ metric = \"f1\", at_least = 0.1, significance = 0.5 }]", "between 0 and 0.5"),
        ("metrics = [{ metric = \"f1\", at_least = 0.1, margin = 0.1 }]", "give its level with significance"),
        ("metrics = [{ metric = \"f1\", at_least = 0.1 }, { metric = \"f1\", better_by = 0.1 }]", "'f1' twice"),
        ("[fairness.sex]\nmin_rows = 5", "has no limit"),
        ("[fairness.sex]\ntpr = 2.0", "between 0 and 1"),
        ("[calibration]\nslope = [2.0, 1.0]", "has no figure in it"),
        ("confidence = 1.0", "confidence = 1"),
        ("leakage = 1.5", "leakage = 1.5"),
        ("latency_p95 = 0.0", "latency_p95 = 0"),
    ] {
        let table: GateTable = toml::from_str(text).unwrap();
        let mistake = table.over(&GateTable::default()).unwrap_err();
        assert!(mistake.contains(words), "{text}: {mistake}");
    }
    // Those of the model come before those of the fleet.
    let of = |text: &str| toml::from_str::<GateTable>(text).unwrap();
    let fleet = of("min_rows = 5\nleakage = 0.95");
    let both = of("min_rows = 7").over(&fleet).unwrap();
    assert_eq!((both.min_rows, both.leakage), (7, 0.95));
}
