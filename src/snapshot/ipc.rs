//! Arrow IPC files (Feather), one column of one record batch at a time.

use std::io::BufReader;
use std::path::Path;

use polars_arrow::array::Array;
use polars_arrow::datatypes::Field;
use polars_arrow::io::ipc::read::{FileMetadata, FileReader, get_row_count_from_blocks, read_file_metadata};

use crate::error::{Error, Result};
use crate::storage::StoredFile;

pub struct IpcFile {
    file: StoredFile,
    metadata: FileMetadata,
    fields: Vec<Field>,
    chunk_rows: Vec<usize>,
}

impl IpcFile {
    pub fn open(path: &Path) -> Result<Self> {
        let stored = StoredFile::open(path)?;
        if stored.length() == 0 {
            return Err(Error::Unreadable { path: path.into(), reason: super::EMPTY.into() });
        }
        let mut file = BufReader::new(stored.reader());
        let opened = super::guarded(|| {
            let metadata = read_file_metadata(&mut file)?;
            let chunk_rows = metadata
                .blocks
                .iter()
                .map(|block| Ok(get_row_count_from_blocks(&mut file, std::slice::from_ref(block))?.max(0) as usize))
                .collect::<polars::prelude::PolarsResult<_>>()?;
            Ok((metadata, chunk_rows))
        });
        let (metadata, chunk_rows) = opened.map_err(|e| Error::Unreadable {
            path: path.into(),
            reason: format!("not a readable Arrow IPC file ({e}); streams must be converted to the file format"),
        })?;
        let fields = metadata.schema.iter_values().cloned().collect();
        drop(file);
        Ok(Self { file: stored, metadata, fields, chunk_rows })
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub fn chunk_rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.chunk_rows.iter().copied()
    }

    /// Reads one column of one record batch.
    pub fn read(&self, chunk: usize, column: usize) -> std::result::Result<Vec<Box<dyn Array>>, String> {
        super::guarded(|| {
            let mut reader =
                FileReader::new(BufReader::new(self.file.reader()), self.metadata.clone(), Some(vec![column]), None);
            reader.set_current_block(chunk);
            Ok(match reader.next().transpose()? {
                Some(batch) => batch.into_arrays(),
                None => Vec::new(),
            })
        })
        .map_err(|e| format!("cannot be decoded ({e}); the file is damaged"))
    }
}
