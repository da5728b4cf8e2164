//! `driftsweep canary`: decisions by looks.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::data::run;
use crate::support::output::{parsed, says};

/// The command on looks at both arms: rows and good outcomes of the candidate, and of production.
fn canary(looks: &[[u64; 4]], more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("looks.csv");
    let lines = looks.iter().map(|look| format!("{},{},{},{}\n", look[0], look[1], look[2], look[3]));
    let text =
        "candidate_rows,candidate_good,production_rows,production_good\n".to_owned() + &lines.collect::<String>();
    fs::write(&path, text).unwrap();
    run(["canary", path.to_str().unwrap(), "--prior", "0.9"].iter().chain(more))
}

#[test]
fn a_candidate_is_taken_back_goes_on_or_is_looked_at_again() {
    says(&canary(&[[1510, 1284, 28_690, 25_821]], &[]), 16, &["Roll back", "0.8503 of 1510 rows"]);
    // As good, with enough rows to show that it is not worse by two points.
    let nights = vec![[1000, 900, 19_000, 17_100]; 8];
    says(&canary(&nights, &[]), 0, &["Go on", "that it is not worse by 0.02"]);
    says(&canary(&nights[..1], &[]), 17, &["Hold", "more rows of the candidate, if it is as good"]);
    // Without rows of both arms nothing is shown, however bad one looks.
    says(&canary(&[[5000, 0, 0, 0], [0, 0, 5000, 5000]], &[]), 17, &["there are no rows of both arms yet"]);
    // Evidence beyond the largest number is still a number.
    let report = parsed(&canary(&[[1_000_000, 0, 1_000_000, 1_000_000]], &["--format", "json"]));
    assert!(report["looks"][0]["worse"].as_f64().unwrap() > 1e300, "{report}");
    // What was shown once stays shown.
    let mut later = vec![[1510, 1284, 28_690, 25_821]];
    later.extend(vec![[100, 99, 1900, 1710]; 20]);
    says(&canary(&later, &[]), 16, &["Roll back"]);
}

/// From numpy: n_c = 1000, x = 850, n_p = 19000, x = 17100, alternative (.85, .90): log E = 11.545749807695756.
#[test]
fn the_evidence_is_that_of_the_reference() {
    let report: Value = parsed(&canary(&[[1000, 850, 19_000, 17_100]], &["--format", "json"]));
    assert_eq!(report["decision"], "roll_back");
    let evidence = report["looks"][0]["worse"].as_f64().unwrap();
    assert!((evidence.ln() - 11.545749807695756).abs() < 1e-9, "{evidence}");
}

#[test]
fn what_cannot_be_looks_is_refused_with_its_place() {
    for (looks, more, code, words) in [
        ([10, 11, 20, 1], &[][..], 3, "row 0 has 11 good outcomes of 10 rows"),
        ([10, 9, 20, 21], &[], 3, "row 0 has 21 good outcomes of 20 rows"),
        ([10, 9, 20, 1], &["--level", "0"], 2, "--level"),
        ([10, 9, 20, 1], &["--margin", "0"], 2, "margin is 0"),
        ([10, 9, 20, 1], &["--tolerance", "0.05"], 2, "worse is 0.05"),
        ([10, 9, 20, 1], &["--tolerance", "nan"], 2, "tolerance is NaN"),
    ] {
        says(&canary(&[looks], more), code, &[words]);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("looks.csv");
    fs::write(&path, "candidate_rows,candidate_good,production_rows,production_good\n1.5,1,2,1\n").unwrap();
    says(&run(["canary", path.to_str().unwrap(), "--prior", "0.9"]), 3, &["column 'candidate_rows'", "row 0 is 1.5"]);
    fs::write(&path, "candidate_rows,candidate_good,production_rows\n1,1,2\n").unwrap();
    says(&run(["canary", path.to_str().unwrap(), "--prior", "0.9"]), 3, &["no column 'production_good'"]);
    says(&run(["canary", path.to_str().unwrap(), "--prior", "2"]), 2, &["prior is 2"]);
}
