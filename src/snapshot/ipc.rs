//! Arrow IPC files (Feather), one column of one record batch at a time.

mod check;

use std::path::Path;

use polars_arrow::array::Array;
use polars_arrow::datatypes::Field;
use polars_arrow::io::ipc::format::ipc::Block;
use polars_arrow::io::ipc::read::{FileMetadata, FileReader, deserialize_footer};

use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage::StoredFile;

pub(crate) struct IpcFile {
    file: StoredFile,
    metadata: FileMetadata,
    fields: Vec<Field>,
    chunks: Vec<Chunk>,
    /// The dictionaries with compressed buffers.
    compressed_dictionaries: Vec<Block>,
}

struct Chunk {
    rows: usize,
    /// Whether its buffers are compressed.
    compressed: bool,
}

impl IpcFile {
    pub fn open(path: &Path) -> Result<Self> {
        let file = StoredFile::open(path)?;
        if file.length() == 0 {
            return Err(Error::Unreadable { path: path.into(), reason: super::EMPTY.into() });
        }
        let opened = || {
            let footer = check::footer(&file)?;
            let metadata =
                super::catch_panics(|| deserialize_footer(&footer, file.length())).map_err(|e| e.to_string())?;
            let mut dictionaries = Vec::new();
            for block in metadata.dictionaries.iter().flatten() {
                if check::batch(&file, block, true)?.is_compressed() {
                    dictionaries.push(*block);
                }
            }
            let chunk = |block| {
                let batch = check::batch(&file, block, false)?;
                Ok(Chunk { rows: batch.rows, compressed: batch.is_compressed() })
            };
            let chunks = metadata.blocks.iter().map(chunk).collect::<std::result::Result<_, String>>()?;
            Ok((metadata, chunks, dictionaries))
        };
        let (metadata, chunks, compressed_dictionaries) = opened().map_err(|reason: String| Error::Unreadable {
            path: path.into(),
            reason: format!(
                "not a readable Arrow IPC file ({reason}); write it again if it is damaged; streams must be converted to the file format"
            ),
        })?;
        let fields = metadata.schema.iter_values().cloned().collect();
        Ok(Self { file, metadata, fields, chunks, compressed_dictionaries })
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn chunk_rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.chunks.iter().map(|chunk| chunk.rows)
    }

    /// Reads one column of one record batch.
    pub fn read(&self, chunk: usize, column: usize) -> std::result::Result<Vec<Box<dyn Array>>, String> {
        // The buffers that will be read and whose lengths must be checked.
        let dictionaries = self.compressed_dictionaries.iter().map(|block| (block, true));
        let own = self.chunks[chunk].compressed.then_some((&self.metadata.blocks[chunk], false));
        let batches =
            dictionaries.chain(own).map(|(block, is_dictionary)| check::batch(&self.file, block, is_dictionary));
        let batches = batches.collect::<std::result::Result<Vec<_>, _>>()?;
        super::catch_panics(|| {
            let reader = check::CheckedReader::new(&self.file, batches);
            let mut reader = FileReader::new(reader, self.metadata.clone(), Some(vec![column]), None);
            reader.set_current_block(chunk);
            Ok(match reader.next().transpose()? {
                Some(batch) => batch.into_arrays(),
                None => Vec::new(),
            })
        })
        .map_err(|e| format!("cannot be decoded ({e}); the file is damaged"))
    }
}
