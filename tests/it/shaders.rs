//! What can be said of the GPU backend without a device.

use std::fs;
use std::process::Command;

use driftsweep::count::gpu::Stage;
use serde_json::Value;

use crate::support::data::dataset;

#[test]
fn a_device_that_is_not_there_is_named_and_auto_does_without() {
    let flights = dataset("nycflights13/flights-2013-01.parquet").display().to_string();
    let without = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(["compare", &flights, &flights, "--format", "json"]).args(args);
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent").output().unwrap()
    };
    let refused = without(&["--backend", "gpu"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(6), "{message}");
    assert!(message.contains("no GPU was found") && message.contains("--backend cpu"), "{message}");
    let auto: Value = serde_json::from_slice(&without(&[]).stdout).unwrap();
    assert_eq!(auto["engine"]["backend"], "cpu");
    let reason = auto["engine"]["reason"].as_str().unwrap();
    assert!(reason.contains("predicted") || reason.contains("no GPU"), "{reason}");
}

#[test]
fn every_shader_is_valid_and_reads_structs_as_they_are_written() {
    use driftsweep::count::gpu::{CountComparison, CountJob, Tile};
    use std::mem::offset_of;

    let folder = crate::support::data::root().join("shaders");
    let mut files: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".wgsl").map(str::to_owned))
        .collect();
    files.sort();
    let mut entries: Vec<&str> = Stage::ALL.iter().map(|stage| stage.entry()).collect();
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(files, entries, "every shader has a stage and every stage a shader of its name");

    for stage in Stage::ALL {
        let module = naga::front::wgsl::parse_str(stage.source()).unwrap_or_else(|e| panic!("{stage:?}: {e}"));
        let mut validator =
            naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
        validator.validate(&module).unwrap_or_else(|e| panic!("{stage:?}: {e:?}"));
        assert!(module.entry_points.iter().any(|entry| entry.name == stage.entry()));

        let layout = |name: &str| {
            let found = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name));
            let Some((_, naga::Type { inner: naga::TypeInner::Struct { members, span }, .. })) = found else {
                panic!("no struct {name}")
            };
            let members: Vec<(String, u32)> =
                members.iter().map(|member| (member.name.clone().unwrap(), member.offset)).collect();
            (members, *span as usize)
        };
        macro_rules! offsets {
            ($ty:ty, $($field:ident),*) => {
                [$((stringify!($field).to_owned(), offset_of!($ty, $field) as u32)),*]
            };
        }
        let (members, span) = layout("Job");
        let fields = offsets!(
            CountJob,
            table,
            ranges,
            coarse_shift,
            cells,
            origin_low,
            origin_high,
            results,
            wanted,
            decided,
            room
        );
        assert_eq!(members[..fields.len()], fields);
        assert_eq!(span, size_of::<CountJob>());
        let (members, span) = layout("Comparison");
        let fields = offsets!(
            CountComparison,
            counts_a,
            counts_b,
            cells,
            n,
            m,
            ranks_a,
            ranks_a_count,
            ranks_b,
            ranks_b_count,
            inside,
            distance,
            transport,
            outcome
        );
        assert_eq!(members[..fields.len()], fields);
        assert_eq!(span, size_of::<CountComparison>());
        let (members, span) = layout("Tile");
        assert_eq!(members[..], offsets!(Tile, job, first, count, padding));
        assert_eq!(span, size_of::<Tile>());
    }
}
