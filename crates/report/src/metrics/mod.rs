//! Figures for monitoring: gauges of a sweep, as the text that Prometheus reads and as OTLP.
//!
//! All of them are gauges without timestamps: they stand for the last sweep until the next one. The collector of
//! node_exporter for text files takes nothing else.

mod otlp;
mod prometheus;
mod sweep;

use indexmap::IndexMap;

pub use sweep::gauges as of_sweep;

/// A set of gauges, each with its samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges(IndexMap<&'static str, Gauge>);

#[derive(Clone, Debug, PartialEq)]
struct Gauge {
    help: &'static str,
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Gauges {
    /// Adds a sample of a gauge. A value that is not finite is left out, as are labels without a value.
    pub fn add(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: f64) {
        if !value.is_finite() {
            return;
        }
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|&(name, value)| (name, value.to_owned())).collect();
        let gauge = self.0.entry(name).or_insert_with(|| Gauge { help, samples: Vec::new() });
        gauge.samples.push(Sample { labels, value });
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|gauge| gauge.samples.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
