//! A sweep that finds a damaged journal gives the report of one that finds none, or of what the journal holds; with the
//! checksums that belong to its records.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use driftsweep::metric::Metric;
use driftsweep::sweep::SweepReport;
use driftsweep_fuzz::journals::SweptFleet;
use driftsweep_fuzz::{folder, options, seal, start};
use libfuzzer_sys::fuzz_target;

static SWEPT: OnceLock<SweptFleet> = OnceLock::new();

fuzz_target!(init: start(), |data: &[u8]| {
    let swept = SWEPT.get_or_init(|| {
        let files = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/damage"));
        let (baseline, current) = (files.join("none-v1-plain.parquet"), files.join("zstd-v1-delta.parquet"));
        let mut options = options(1 << 30);
        // Metrics that take little time: what they give is in the records of the seeds.
        options.metrics = [Metric::Ks, Metric::Moments].into_iter().collect();
        SweptFleet::new(folder(), &baseline, &current, &options)
    });
    // The keys of its records are of other files: none of them is used. That takes long, so it is tried now and then.
    if data.len() % 8 == 0
        && let Some(report) = swept.resume(data)
    {
        assert_eq!(report, swept.report, "records of another sweep were used");
    }
    let sealed = seal::journal(data, &swept.keys);
    if let Some(report) = swept.resume(&sealed) {
        let names = |report: &SweepReport| {
            let features = report.models.iter().flat_map(|model| &model.features);
            features.map(|feature| feature.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&report), names(&swept.report), "features were lost, or came from elsewhere");
    }
});
