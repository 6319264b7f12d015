//! Evidence: files named by the SHA-256 of their content. Written once, never changed, checked whenever they are read.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha2::Digest;

use crate::base::id::EvidenceId;

/// Why evidence cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error("evidence {} is not there ({})", id.short(), path.display())]
    Missing { id: EvidenceId, path: PathBuf },
    #[error("evidence {} is damaged: its content has the hash {}… ({})", id.short(), found.short(), path.display())]
    Damaged { id: EvidenceId, found: EvidenceId, path: PathBuf },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The folder of evidence of one store.
#[derive(Clone, Debug)]
pub struct Evidence {
    folder: PathBuf,
}

impl Evidence {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where a piece of evidence lies: two digits as a folder, so that no folder holds too many.
    pub fn path(&self, id: &EvidenceId) -> PathBuf {
        let (start, rest) = id.as_str().split_at(2);
        self.folder.join(start).join(rest)
    }

    /// Keeps these bytes.
    ///
    /// # Errors
    /// When they cannot be written. Nothing is kept then.
    pub fn put(&self, bytes: &[u8]) -> io::Result<EvidenceId> {
        let mut writer = self.writer()?;
        writer.write_all(bytes)?;
        writer.finish()
    }

    /// Keeps what is written to the writer, once it is finished: for what is too large to hold, such as transcripts.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn writer(&self) -> io::Result<EvidenceWriter> {
        super::place::make_private(&self.folder)?;
        // The temporary file removes itself when it is dropped, and has no name that anybody would take for evidence.
        let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
        Ok(EvidenceWriter { evidence: self.clone(), file, digest: sha2::Sha256::new(), bytes: 0 })
    }

    /// The content, when it is what its name says.
    ///
    /// # Errors
    /// When it is missing, damaged or cannot be read.
    pub fn read(&self, id: &EvidenceId) -> Result<Vec<u8>, EvidenceError> {
        let path = self.path(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(EvidenceError::Missing { id: id.clone(), path }),
            Err(error) => return Err(error.into()),
        };
        let found = EvidenceId::of(&bytes);
        if found == *id { Ok(bytes) } else { Err(EvidenceError::Damaged { id: id.clone(), found, path }) }
    }

    /// Checks a piece of evidence without holding it, and gives its size.
    ///
    /// # Errors
    /// When it is missing, damaged or cannot be read.
    pub fn verify(&self, id: &EvidenceId) -> Result<u64, EvidenceError> {
        let path = self.path(id);
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(EvidenceError::Missing { id: id.clone(), path }),
            Err(error) => return Err(error.into()),
        };
        let (mut digest, mut bytes, mut buffer) = (sha2::Sha256::new(), 0_u64, vec![0; 64 << 10]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            digest.update(&buffer[..count]);
            bytes += count as u64;
        }
        let found: EvidenceId = EvidenceId::from_digest(&digest.finalize());
        if found == *id { Ok(bytes) } else { Err(EvidenceError::Damaged { id: id.clone(), found, path }) }
    }

    /// Removes what writers left that were killed. Only for the one runner, when it starts: nobody else writes then.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn sweep(&self) -> io::Result<u64> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut swept = 0;
        for entry in entries {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".new-") {
                fs::remove_file(entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// Evidence that is being written.
#[derive(Debug)]
pub struct EvidenceWriter {
    evidence: Evidence,
    file: tempfile::NamedTempFile,
    digest: sha2::Sha256,
    bytes: u64,
}

impl EvidenceWriter {
    /// How much was written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts it in its place: on the disk first, under its name then, and the name on the disk last.
    ///
    /// # Errors
    /// When it cannot be put there. Nothing is kept then.
    pub fn finish(self) -> io::Result<EvidenceId> {
        let id: EvidenceId = EvidenceId::from_digest(&self.digest.finalize());
        let path = self.evidence.path(&id);
        self.file.as_file().sync_all()?;
        let folder = path.parent().unwrap_or(&self.evidence.folder);
        super::place::make_private(folder)?;
        // Also over an existing file: its content is the same, unless it was damaged, and then this mends it.
        self.file.persist(&path).map_err(|error| error.error)?;
        sync_folder(folder)?;
        sync_folder(&self.evidence.folder)?;
        Ok(id)
    }
}

impl Write for EvidenceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
