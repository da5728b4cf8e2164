//! The choice of what counts, made in one place.

use std::iter::Sum;
use std::str::FromStr;

use super::gpu::{DeviceChoice, GpuCounter};
use super::{BACKENDS, Counter, CpuCounter};
use driftsweep_common::error::{Error, Result};

/// What the choice has to know of a backend.
#[derive(Debug)]
pub struct BackendSpec {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// Opens it: which device, and the bytes of its memory that keys may take.
    pub open: fn(&DeviceChoice, u64) -> Result<Box<dyn Counter>>,
}

/// The backend to use.
///
/// ```
/// use driftsweep::{Backend, DeviceChoice};
///
/// # fn main() -> driftsweep::Result<()> {
/// let backend: Backend = "cpu".parse()?;
/// let chosen = backend.counter(Default::default, &DeviceChoice::default(), 1 << 30)?;
/// assert_eq!(chosen.counter.name(), "cpu");
/// assert!("tpu".parse::<Backend>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub enum Backend {
    /// The one that should be faster for this workload.
    #[default]
    Auto,
    /// This one, or an error.
    Fixed(&'static BackendSpec),
}

/// The name of [`Backend::Auto`].
const AUTO: &str = "auto";

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = BACKENDS.into_iter().find(|spec| spec.name == name).map(Backend::Fixed);
        let found = found.or_else(|| (name == AUTO).then_some(Backend::Auto));
        found.ok_or_else(|| Error::unknown("backend", name, Backend::names()))
    }
}

/// The amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Numeric values, of both sides.
    pub values: u64,
    /// Bytes of their keys.
    pub bytes: u64,
}

impl Sum for Workload {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts
            .fold(Self::default(), |sum, part| Self { values: sum.values + part.values, bytes: sum.bytes + part.bytes })
    }
}

/// The chosen counter, and why.
pub struct ChosenCounter {
    /// It.
    pub counter: Box<dyn Counter>,
    /// The reason, for reports.
    pub reason: String,
}

/// Values that one thread counts in a second, both passes together (`benches/RESULTS.md`).
const CPU_VALUES_PER_SECOND: f64 = 250e6;

/// Seconds to open a device and make its pipelines (measured on a software device; not measured on a GPU).
const DEVICE_START_SECONDS: f64 = 0.5;

/// Bytes of keys that reach a device in a second (assumed of PCI Express; not measured on a GPU).
const UPLOAD_BYTES_PER_SECOND: f64 = 6e9;

impl Backend {
    /// The names of all choices.
    pub fn names() -> impl Iterator<Item = &'static str> {
        std::iter::once(AUTO).chain(BACKENDS.into_iter().map(|spec| spec.name))
    }

    /// The counter for this choice. `Auto` takes a GPU, never a software one, where the time that counting takes on all
    /// threads exceeds that of opening a device and sending it the keys; the workload is only computed if it matters.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Backend`] where a GPU is requested and not available.
    pub fn counter(
        self,
        workload: impl FnOnce() -> Workload,
        choice: &DeviceChoice,
        memory: u64,
    ) -> Result<ChosenCounter> {
        let cpu = |reason: String| ChosenCounter { counter: Box::new(CpuCounter), reason };
        match self {
            Backend::Fixed(spec) => {
                Ok(ChosenCounter { counter: (spec.open)(choice, memory)?, reason: "asked for".into() })
            }
            Backend::Auto if choice.known_absent => Ok(cpu("this machine has no GPU".into())),
            Backend::Auto => {
                let workload = workload();
                let (on_cpu, on_gpu) = predicted(workload, rayon::current_num_threads());
                let figures = format!(
                    "{} values: predicted {on_cpu:.2} s of counting, {on_gpu:.2} s of opening a GPU and sending keys",
                    workload.values
                );
                if on_cpu <= on_gpu {
                    return Ok(cpu(figures));
                }
                let hardware = DeviceChoice { hardware_only: true, ..choice.clone() };
                Ok(match GpuCounter::open(&hardware, memory) {
                    Ok(gpu) => ChosenCounter { counter: Box::new(gpu), reason: figures },
                    Err(error) => cpu(format!("{figures}; {error}")),
                })
            }
        }
    }
}

/// Seconds of counting on the CPU, and of what a GPU costs instead.
fn predicted(workload: Workload, threads: usize) -> (f64, f64) {
    (
        workload.values as f64 / (CPU_VALUES_PER_SECOND * threads as f64),
        DEVICE_START_SECONDS + workload.bytes as f64 / UPLOAD_BYTES_PER_SECOND,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::cpu;

    #[test]
    fn every_name_is_read_as_the_choice_that_has_it() {
        for name in Backend::names() {
            let found = match name.parse().unwrap() {
                Backend::Auto => AUTO,
                Backend::Fixed(spec) => spec.name,
            };
            assert_eq!(found, name);
        }
        assert!("CPU".parse::<Backend>().is_err());
    }

    #[test]
    fn small_work_stays_on_the_cpu_without_looking_for_a_device() {
        let work = || Workload { values: 1000, bytes: 8000 };
        let chosen = Backend::Auto.counter(work, &DeviceChoice::default(), 1 << 20).unwrap();
        assert_eq!(chosen.counter.name(), cpu::BACKEND.name);
        assert!(chosen.reason.contains("1000 values"), "{}", chosen.reason);
    }

    #[test]
    fn only_work_that_outweighs_sending_it_is_sent() {
        let worth = |values, bytes, threads| {
            let (cpu, gpu) = predicted(Workload { values, bytes: values * bytes }, threads);
            cpu > gpu
        };
        assert!(worth(4_000_000_000, 4, 2));
        assert!(!worth(100_000_000, 4, 2));
        // Many threads count faster than keys travel.
        assert!(!worth(4_000_000_000, 8, 32));
    }
}
