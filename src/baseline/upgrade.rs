//! Upgrades of baseline files, as JSON with their `header` and their `features`.

use serde_json::Value;

use crate::snapshot::ColumnType;

/// From version 2: types that cannot be compared had the name that a library gives them, which is not kept from one of its
/// versions to the next. What they were is unknown.
pub(super) fn name_types(file: &mut Value) {
    let features = file["features"].as_array_mut().into_iter().flatten();
    for name in features.filter_map(|feature| feature.pointer_mut("/dtype/unsupported")) {
        *name = ColumnType::UNKNOWN.into();
    }
}
