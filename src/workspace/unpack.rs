//! Decoding what an agent's git wrote, in a process that can do nothing else: ourselves, executed anew as `cofferdam __unpack FOLDER`, without
//! capabilities, network, other files or much memory. Inflating, deltas and pack indexes of a stranger's making happen there alone; what comes back
//! through a pipe is kind, length and bytes, which we name by their content ourselves.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::git::{GitError, ObjectKind};
use crate::sandbox::only_this_folder;

/// The hidden command that makes this binary a decoder.
pub const COMMAND: &str = "__unpack";

/// What the decoder may use: address space (a pack is mapped), and seconds of a processor.
const MEMORY: u64 = 4 << 30;
const SECONDS: u64 = 120;

/// Upper bounds of what is taken.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub objects: u64,
    pub object_bytes: u64,
    pub total_bytes: u64,
}

/// Decodes every object of `folder`, which holds `objects/` as it was copied, and hands each to `take`.
///
/// # Errors
/// When there is more than the bounds, or the decoder died of what it read. Objects that cannot be decoded are left out.
pub fn each(folder: &Path, bounds: Bounds, mut take: impl FnMut(ObjectKind, &[u8]) -> Result<(), GitError>) -> Result<(), GitError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(COMMAND).arg(folder).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut decoder = command.spawn()?;
    let read = decoder.stdout.take().map_or(Ok(()), |pipe| receive(&mut io::BufReader::new(pipe), bounds, &mut take));
    if read.is_err() {
        // It may be in the middle of something endless.
        drop(decoder.kill());
    }
    let status = decoder.wait()?;
    read?;
    if status.success() { Ok(()) } else { Err(io::Error::other("what its git wrote could not be decoded").into()) }
}

fn receive(
    pipe: &mut impl io::Read,
    bounds: Bounds,
    take: &mut impl FnMut(ObjectKind, &[u8]) -> Result<(), GitError>,
) -> Result<(), GitError> {
    let too_much = || GitError::Io(io::Error::other("there is more than is imported"));
    let (mut count, mut total) = (0_u64, 0_u64);
    loop {
        let mut head = [0; 9];
        if pipe.read(&mut head[..1])? == 0 {
            return Ok(());
        }
        pipe.read_exact(&mut head[1..])?;
        let kind = match head[0] {
            b'c' => ObjectKind::Commit,
            b't' => ObjectKind::Tree,
            b'b' => ObjectKind::Blob,
            _ => return Err(io::Error::other("the decoder said something else").into()),
        };
        let length = u64::from_le_bytes([head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8]]);
        count += 1;
        total = total.saturating_add(length);
        if length > bounds.object_bytes || count > bounds.objects || total > bounds.total_bytes {
            return Err(too_much());
        }
        let mut content = Vec::new();
        pipe.take(length).read_to_end(&mut content)?;
        if content.len() as u64 != length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        take(kind, &content)?;
    }
}

/// The decoder. Nothing of the folder is read before it is confined.
pub fn serve(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let Some(folder) = arguments.last().map(std::path::PathBuf::from) else { return ExitCode::FAILURE };
    match only_this_folder(&folder, MEMORY, SECONDS).and_then(|()| decode(&folder).map_err(io::Error::other)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn decode(folder: &Path) -> Result<(), git2::Error> {
    let failed = |e: io::Error| git2::Error::from_str(&e.to_string());
    let objects = folder.join("objects");
    let odb = git2::Odb::new()?;
    for entry in fs_err::read_dir(folder.join("packs")).map_err(failed)? {
        let pack = fs_err::read(entry.map_err(failed)?.path()).map_err(failed)?;
        let mut indexer = git2::Indexer::new(Some(&odb), &objects.join("pack"), 0o444, false)?;
        indexer.write_all(&pack).map_err(failed)?;
        indexer.commit()?;
    }
    odb.add_disk_alternate(objects.to_str().ok_or_else(|| git2::Error::from_str("the folder's name is not UTF-8"))?)?;
    let mut ids = Vec::new();
    odb.foreach(|id| {
        ids.push(*id);
        true
    })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for id in ids {
        // One that cannot be read is one that is not there: whoever needs it is refused.
        let Ok(object) = odb.read(id) else { continue };
        let kind = match object.kind() {
            ObjectKind::Commit => b'c',
            ObjectKind::Tree => b't',
            ObjectKind::Blob => b'b',
            _ => continue,
        };
        let said = out.write_all(&[kind]).and_then(|()| out.write_all(&(object.len() as u64).to_le_bytes()));
        said.and_then(|()| out.write_all(object.data())).map_err(failed)?;
    }
    out.flush().map_err(failed)
}
