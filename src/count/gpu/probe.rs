//! The maximum throughput of a device, which counting is compared with.

use wgpu::{Buffer, BufferDescriptor, BufferUsages};

use super::GpuCounter;
use driftsweep_common::error::{Error, Result};

/// Two buffers on the device, to send to and to copy between. The caller measures the time.
pub struct DeviceProbe<'a> {
    gpu: &'a GpuCounter,
    from: Buffer,
    to: Buffer,
    data: Vec<u8>,
}

impl<'a> DeviceProbe<'a> {
    /// Buffers of this size, or of the largest possible size.
    pub fn new(gpu: &'a GpuCounter, bytes: u64) -> Self {
        let bytes = bytes.min(gpu.device.limits.max_buffer_size) & !3;
        let buffer = || {
            gpu.device.device.create_buffer(&BufferDescriptor {
                label: Some("probe"),
                size: bytes,
                usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST | BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        Self { gpu, from: buffer(), to: buffer(), data: vec![1; bytes as usize] }
    }

    /// Bytes that each call moves.
    pub fn bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// Sends the bytes to the device and waits until they are there.
    ///
    /// # Errors
    /// [`Error::Backend`] where the device failed.
    pub fn upload(&self) -> Result<()> {
        self.gpu.device.queue.write_buffer(&self.from, 0, &self.data);
        self.finish(|_| ())
    }

    /// Copies the bytes from one buffer to the other (each byte is read and written) a number of times, and waits.
    ///
    /// # Errors
    /// [`Error::Backend`] where the device failed.
    pub fn copy(&self, times: usize) -> Result<()> {
        self.finish(|encoder| {
            (0..times).for_each(|_| encoder.copy_buffer_to_buffer(&self.from, 0, &self.to, 0, self.bytes()));
        })
    }

    fn finish(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<()> {
        let device = &self.gpu.device;
        let mut encoder = device.device.create_command_encoder(&Default::default());
        record(&mut encoder);
        let index = device.queue.submit([encoder.finish()]);
        device.wait(index).map_err(Error::Backend)
    }
}
