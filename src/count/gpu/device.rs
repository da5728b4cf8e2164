//! Finding and opening a device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wgpu::{Adapter, Backends, DeviceType, Features, Instance, InstanceDescriptor, Limits, PollType};

use super::layout::TILE;
use driftsweep_common::error::{Error, Result};

/// The variable for `--adapter`: part of its name, or its index.
pub const ADAPTER_VARIABLE: &str = "DRIFTSWEEP_ADAPTER";

/// The time after which a device counts as hung.
pub(crate) const DEVICE_TIMEOUT: Duration = Duration::from_secs(300);

/// An adapter that a machine has.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterDescription {
    /// Position in the list; what `--adapter` takes.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// The programming interface, `Vulkan` or the like.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Whether it times its own work.
    pub timestamps: bool,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Bytes that one binding may hold.
    pub binding: u64,
}

impl AdapterDescription {
    fn of(index: usize, adapter: &Adapter) -> Self {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        Self {
            index,
            name: info.name,
            kind: kind(info.device_type),
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            timestamps: adapter.features().contains(Features::TIMESTAMP_QUERY),
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            binding: limits.max_storage_buffer_binding_size,
        }
    }

    /// Whether it is the CPU behind a driver.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }
}

fn kind(device_type: DeviceType) -> &'static str {
    match device_type {
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Cpu => "software",
        DeviceType::Other => "other",
    }
}

/// Which adapters come first when none is named.
fn rank(kind: &str) -> usize {
    ["discrete", "integrated", "virtual", "other", "software"].iter().position(|&k| k == kind).unwrap_or(5)
}

fn list() -> Vec<(Adapter, AdapterDescription)> {
    let instance = Instance::new(InstanceDescriptor {
        backends: Backends::PRIMARY,
        ..InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(Backends::PRIMARY));
    let describe = |(index, adapter)| {
        let description = AdapterDescription::of(index, &adapter);
        (adapter, description)
    };
    adapters.into_iter().enumerate().map(describe).collect()
}

/// The adapters of this machine.
pub fn adapters() -> Vec<AdapterDescription> {
    list().into_iter().map(|(_, description)| description).collect()
}

/// An opened device.
pub(crate) struct Device {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// What it is.
    pub adapter: AdapterDescription,
    /// The granted limits.
    pub limits: Limits,
    /// The first failure, after which nothing more is sent to it.
    pub failure: Arc<OnceLock<String>>,
    /// Keys that a workgroup counts, at least and at most.
    pub tile: (u32, u32),
}

/// The requirements for a device.
///
/// ```
/// use driftsweep::DeviceChoice;
///
/// let choice = DeviceChoice { adapter: Some("NVIDIA".into()), hardware_only: true, ..DeviceChoice::default() };
/// assert!(choice.tile.is_none(), "measured on the device");
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeviceChoice {
    /// Part of the adapter's name, or its index; the most capable one without.
    pub adapter: Option<String>,
    /// Refuse a software adapter.
    pub hardware_only: bool,
    /// The machine is known to have no GPU, so that [`crate::count::Backend::Auto`] need not ask the driver: that would
    /// load a whole software device (55 MB) only to reject it.
    pub known_absent: bool,
    /// Ask only for the limits that every device grants.
    pub default_limits: bool,
    /// Keys that a workgroup counts, if that is fixed.
    pub tile: Option<u32>,
}

impl Device {
    /// Waits until a submission is done.
    ///
    /// # Errors
    /// What went wrong; after that the device is not used again.
    pub fn wait(&self, submission_index: wgpu::SubmissionIndex) -> std::result::Result<(), String> {
        let wait = PollType::Wait { submission_index: Some(submission_index), timeout: Some(DEVICE_TIMEOUT) };
        // wgpu panics where the driver reports a lost device while it is waited for.
        let waited = catch_unwind(AssertUnwindSafe(|| self.device.poll(wait)));
        let failure = match waited {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the device was lost while it worked".to_owned()),
        };
        if let Some(failure) = failure {
            let _ = self.failure.set(failure);
        }
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Backend`] where there is none, or the chosen one cannot be opened.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        let (adapter, description) = choose(list(), choice)?;
        let granted = adapter.limits();
        let limits = if choice.default_limits { Limits::default() } else { granted };
        let wanted = Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("driftsweep"),
            required_features: adapter.features() & wanted,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::Backend(format!("{}: cannot be opened: {e}", description.name)))?;
        let failure = Arc::new(OnceLock::new());
        let seen = failure.clone();
        // Without a handler an error would end the process; with one the CPU takes over.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = seen.set(error.to_string());
        }));
        let seen = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = seen.set(format!("device lost ({reason:?}): {message}"));
        });
        Ok(Self {
            device,
            queue,
            adapter: description,
            limits,
            failure,
            tile: choice.tile.map_or(TILE, |tile| (tile, tile)),
        })
    }
}

/// The adapter that a choice selects.
fn best<'a>(
    adapters: impl Iterator<Item = &'a AdapterDescription> + Clone,
    choice: &DeviceChoice,
) -> Option<&'a AdapterDescription> {
    let adapters = adapters.filter(|a| !(choice.hardware_only && a.is_software()));
    let Some(wanted) = &choice.adapter else { return adapters.min_by_key(|a| rank(a.kind)) };
    // Digits are an index, or else part of a name ("4090").
    let index = wanted.parse::<usize>().ok();
    let named = |a: &&AdapterDescription| a.name.to_lowercase().contains(&wanted.to_lowercase());
    let indexed = adapters.clone().find(|a| Some(a.index) == index);
    indexed.or_else(|| adapters.filter(named).min_by_key(|a| rank(a.kind)))
}

/// The adapter of this machine that a choice selects.
pub fn chosen<'a>(adapters: &'a [AdapterDescription], choice: &DeviceChoice) -> Option<&'a AdapterDescription> {
    best(adapters.iter(), choice)
}

fn choose(
    adapters: Vec<(Adapter, AdapterDescription)>,
    choice: &DeviceChoice,
) -> Result<(Adapter, AdapterDescription)> {
    let names = || {
        let known: Vec<String> =
            adapters.iter().map(|(_, a)| format!("{} ({}, {})", a.index, a.name, a.kind)).collect();
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    };
    match best(adapters.iter().map(|(_, a)| a), choice).map(|a| a.index) {
        Some(index) => adapters.into_iter().nth(index).ok_or_else(|| Error::Backend("no adapter".into())),
        None => Err(Error::Backend(match &choice.adapter {
            Some(wanted) => format!("no adapter is called '{wanted}'; there are: {}", names()),
            None => format!(
                "no GPU was found (adapters: {}); install its Vulkan driver, or use --backend cpu, which gives the same integers",
                names()
            ),
        })),
    }
}
