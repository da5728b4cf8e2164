//! The text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use std::collections::HashSet;
use std::fmt::Write;

use driftsweep_common::escape::truncated;

use super::Gauges;
use crate::output::Document;

impl Gauges {
    /// The text that Prometheus, its Pushgateway and the text file collector of node_exporter read.
    pub fn prometheus(&self) -> Document {
        let mut text = String::new();
        // Two names may be shown alike. A series that comes twice would make the whole text invalid: the first one stays.
        let mut known = HashSet::new();
        for (name, gauge) in &self.0 {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "# HELP {name} {}", gauge.help);
            let _ = writeln!(text, "# TYPE {name} gauge");
            for sample in &gauge.samples {
                let labels: Vec<String> =
                    sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let series = format!("{name}{labels}");
                if !known.contains(&series) {
                    let _ = writeln!(text, "{series} {}", sample.value);
                    known.insert(series);
                }
            }
        }
        Document::exact(text)
    }
}

/// Most characters of a label.
const MAX_LABEL_CHARS: usize = 300;

/// The value of a label: a quotation mark and a backslash are escaped, and so is what would end the line. A very long one is
/// shortened.
fn escaped(value: &str) -> String {
    truncated(value, MAX_LABEL_CHARS).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_has_its_help_and_type_once_and_no_label_ends_a_line() {
        let mut gauges = Gauges::default();
        gauges.add("rows", "Rows.", &[("model", "a\"b\\c\nd"), ("segment", "")], 1500.0);
        gauges.add("rows", "Rows.", &[("model", "é")], 0.25);
        gauges.add("rows", "Rows.", &[("model", "none")], f64::NAN);
        // It is shown like the first one.
        gauges.add("rows", "Rows.", &[("model", "a\"b\\c\\nd")], 7.0);
        gauges.add("up", "Whether it is up.", &[], 1.0);
        let text = String::from_utf8(gauges.prometheus().bytes(None).into_owned()).unwrap();
        let wanted = "# HELP rows Rows.\n# TYPE rows gauge\nrows{model=\"a\\\"b\\\\c\\\\nd\"} 1500\nrows{model=\"é\"} 0.25\n\
                      # HELP up Whether it is up.\n# TYPE up gauge\nup 1\n";
        assert_eq!(text, wanted);
        assert_eq!(gauges.len(), 4);
    }
}
