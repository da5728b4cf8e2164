//! The shaders, and the pipelines made of them.

use std::sync::OnceLock;

use wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, ComputePipeline,
    ComputePipelineDescriptor, PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModuleDescriptor,
    ShaderSource, ShaderStages,
};

use super::device::Device;
use super::layout::PRIVATE_WORDS;

/// The source of a shader: what is shared, then the stage.
macro_rules! shader {
    ($stage:literal) => {
        concat!(
            include_str!("../../../shaders/shared/job.wgsl"),
            include_str!("../../../shaders/shared/wide.wgsl"),
            include_str!("../../../shaders/shared/cells.wgsl"),
            include_str!(concat!("../../../shaders/", $stage, ".wgsl"))
        )
    };
}

/// What a dispatch does, in the order in which the stages of a request depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Counts keys per cell.
    Count {
        /// Whether offsets are summed too.
        with_offsets: bool,
    },
    /// Compares the counts of two columns.
    Compare,
    /// Collects keys of wanted cells.
    Collect,
}

impl Stage {
    /// All stages.
    pub const ALL: [Stage; 4] =
        [Stage::Count { with_offsets: false }, Stage::Count { with_offsets: true }, Stage::Compare, Stage::Collect];

    /// Its entry point, which has the name of its file.
    pub fn entry(self) -> &'static str {
        match self {
            Stage::Count { .. } => "count_keys",
            Stage::Compare => "compare_counts",
            Stage::Collect => "collect_keys",
        }
    }

    /// Its WGSL.
    pub fn source(self) -> &'static str {
        match self {
            Stage::Count { .. } => shader!("count_keys"),
            Stage::Compare => shader!("compare_counts"),
            Stage::Collect => shader!("collect_keys"),
        }
    }
}

/// The binding that shaders write to.
const RESULTS: u32 = 4;

/// Pipelines of one device, made when first used.
pub(crate) struct Pipelines {
    layout: BindGroupLayout,
    private_words: u32,
    made: [OnceLock<ComputePipeline>; 8],
}

impl Pipelines {
    /// None yet.
    pub fn new(device: &Device) -> Self {
        let storage = |binding, read_only| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer {
                ty: BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries = [0, 1, 2, 3, 4, 5].map(|binding| storage(binding, binding != RESULTS));
        let layout =
            device.device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries });
        let private_words = PRIVATE_WORDS.min(device.limits.max_compute_workgroup_storage_size / 4);
        Self { layout, private_words, made: std::array::from_fn(|_| OnceLock::new()) }
    }

    /// The layout of the bindings of every stage.
    pub fn layout(&self) -> &BindGroupLayout {
        &self.layout
    }

    /// Words of a private histogram.
    pub(crate) fn private_words(&self) -> u32 {
        self.private_words
    }

    /// The pipeline of a stage for keys of one word or two.
    pub fn get(&self, device: &Device, stage: Stage, wide: bool) -> &ComputePipeline {
        let at = Stage::ALL.iter().position(|&known| known == stage).unwrap_or(0);
        self.made[2 * at + usize::from(wide)].get_or_init(|| {
            let module = device.device.create_shader_module(ShaderModuleDescriptor {
                label: Some(stage.entry()),
                source: ShaderSource::Wgsl(stage.source().into()),
            });
            let layout = device.device.create_pipeline_layout(&PipelineLayoutDescriptor {
                label: Some(stage.entry()),
                bind_group_layouts: &[Some(&self.layout)],
                ..Default::default()
            });
            let flag = |on: bool| f64::from(u8::from(on));
            let mut constants = Vec::new();
            if stage != Stage::Compare {
                constants.push(("wide", flag(wide)));
            }
            if let Stage::Count { with_offsets } = stage {
                constants.extend([("with_offsets", flag(with_offsets)), ("private_words", self.private_words.into())]);
            }
            device.device.create_compute_pipeline(&ComputePipelineDescriptor {
                label: Some(stage.entry()),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(stage.entry()),
                compilation_options: PipelineCompilationOptions {
                    constants: &constants,
                    // The shader clears what it uses.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        })
    }
}
