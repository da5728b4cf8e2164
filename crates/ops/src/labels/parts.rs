//! Rows of predictions and labels by id, in memory or, where that is too small, in temporary files.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};

use bytemuck::Pod;

use driftsweep_common::error::{Error, Result};

/// Rows that are partitioned by a hash, each partition small enough for memory.
pub struct HashPartitions<T> {
    kind: PartitionStorage<T>,
}

enum PartitionStorage<T> {
    Memory(Vec<T>),
    Files(Vec<BufWriter<File>>),
}

fn failed(source: std::io::Error) -> Error {
    Error::Write { path: std::env::temp_dir(), source }
}

impl<T: Pod> HashPartitions<T> {
    /// One partition is kept in memory, several in files that are deleted when dropped.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn new(parts: usize) -> Result<Self> {
        let file = |_| tempfile::tempfile().map(BufWriter::new).map_err(failed);
        let kind = match parts {
            0 | 1 => PartitionStorage::Memory(Vec::new()),
            _ => PartitionStorage::Files((0..parts).map(file).collect::<Result<_>>()?),
        };
        Ok(Self { kind })
    }

    /// Adds a row to the partition of a hash.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn push(&mut self, hash: u128, row: T) -> Result<()> {
        match &mut self.kind {
            PartitionStorage::Memory(rows) => rows.push(row),
            PartitionStorage::Files(files) => {
                let part = (hash % files.len() as u128) as usize;
                files[part].write_all(bytemuck::bytes_of(&row)).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Finishes writing. Returns all rows, where they are in memory.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn rows_in_memory(&mut self) -> Result<Option<&mut Vec<T>>> {
        match &mut self.kind {
            PartitionStorage::Memory(rows) => Ok(Some(rows)),
            PartitionStorage::Files(files) => {
                files.iter_mut().try_for_each(Write::flush).map_err(failed)?;
                Ok(None)
            }
        }
    }

    /// The rows of one partition.
    ///
    /// # Errors
    /// [`Error::Write`], where a temporary file cannot be read back.
    pub fn read(&self, part: usize) -> Result<Vec<T>> {
        match &self.kind {
            PartitionStorage::Memory(rows) => Ok(rows.clone()),
            PartitionStorage::Files(files) => {
                let mut file = files[part].get_ref();
                file.rewind().map_err(failed)?;
                let bytes = file.metadata().map_err(failed)?.len() as usize;
                let mut rows = vec![T::zeroed(); bytes / size_of::<T>()];
                file.read_exact(bytemuck::cast_slice_mut(&mut rows)).map_err(failed)?;
                Ok(rows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_memory_and_from_files() {
        for parts in [1, 3, 7] {
            let mut rows = HashPartitions::<u64>::new(parts).unwrap();
            (0..1000u64).for_each(|x| rows.push(u128::from(x % 10), x).unwrap());
            assert_eq!(rows.rows_in_memory().unwrap().is_some(), parts == 1);
            let mut all: Vec<u64> = (0..parts).flat_map(|part| rows.read(part).unwrap()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
        }
    }
}
