//! How a live story shows in the user's own `git worktree list`: locked, with the reason, HEAD at the last collected commit.
//!
//! libgit2 can only register a worktree by checking it out, which is what an overlay saves. So the four small files are written here, in
//! the order git itself uses: the lock first, so that no `git worktree prune` beside us takes an unfinished one away.

use std::io;
use std::path::{Path, PathBuf};

use super::git::{Oid, Repository};

/// The registration's name in the repository.
fn name(slug: &str) -> String {
    format!("cofferdam-{slug}")
}

fn folder(repository: &Repository, slug: &str) -> PathBuf {
    repository.common_dir().join("worktrees").join(name(slug))
}

/// Registers a story, or moves its HEAD. `place` is the folder that the list shows.
pub fn register(repository: &Repository, slug: &str, story: &str, place: &Path, head: Oid) -> io::Result<()> {
    let folder = folder(repository, slug);
    if folder.exists() && !is_ours(&folder) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} belongs to a worktree of yours", folder.display())));
    }
    fs_err::create_dir_all(&folder)?;
    let reason = format!("cofferdam story {}", crate::base::text::one_line(story));
    write(&folder.join("locked"), &format!("{reason}\n"))?;
    write(&folder.join("commondir"), "../..\n")?;
    write(&folder.join("HEAD"), &format!("{head}\n"))?;
    write(&folder.join("gitdir"), &format!("{}/.git\n", place.display()))
}

/// Registers the folder of a person as a worktree on a story's commit; returns where its index belongs.
///
/// It stands beside the story's own entry, which goes on following what is collected. From here on it is the person's: nothing of
/// cofferdam moves or removes it.
pub fn fill_in(repository: &Repository, slug: &str, story: &str, place: &Path, head: Oid) -> io::Result<PathBuf> {
    // A plus never stands in a slug.
    let free = (1..).map(|n| format!("{slug}+{n}")).find(|name| !folder(repository, name).exists());
    let name = free.ok_or_else(|| io::Error::other("no name is free"))?;
    register(repository, &name, &format!("{story} (checked out)"), place, head)?;
    let folder = folder(repository, &name);
    write(&place.join(".git"), &format!("gitdir: {}\n", folder.display()))?;
    fs_err::remove_file(folder.join("locked"))?;
    Ok(folder.join("index"))
}

/// Takes a story off the list.
pub fn unregister(repository: &Repository, slug: &str) -> io::Result<()> {
    let folder = folder(repository, slug);
    if !is_ours(&folder) {
        return Ok(());
    }
    match take_away(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // As git does: an empty folder of worktrees is none.
    drop(fs_err::remove_dir(repository.common_dir().join("worktrees")));
    Ok(())
}

/// Removes an entry, the lock last: whoever is killed in the middle leaves one that is still known as ours.
fn take_away(folder: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == "locked" {
            continue;
        }
        if entry.file_type()?.is_dir() { fs_err::remove_dir_all(entry.path())? } else { fs_err::remove_file(entry.path())? }
    }
    fs_err::remove_dir_all(folder)
}

/// The slugs of all stories on the list.
pub fn registered(repository: &Repository) -> io::Result<Vec<String>> {
    let entries = match fs_err::read_dir(repository.common_dir().join("worktrees")) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut slugs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_ours(&entry.path())
            && let Some(slug) = entry.file_name().to_str().and_then(|name| name.strip_prefix("cofferdam-"))
            && !slug.contains('+')
        {
            slugs.push(slug.to_owned());
        }
    }
    Ok(slugs)
}

/// A user's own worktree may have such a name too; the lock tells whose it is.
fn is_ours(folder: &Path) -> bool {
    match fs_err::read_to_string(folder.join("locked")) {
        Ok(reason) => reason.starts_with("cofferdam story "),
        // Killed before its first file.
        Err(_) => fs_err::read_dir(folder)
            .is_ok_and(|mut entries| entries.all(|e| e.is_ok_and(|e| e.file_name().as_encoded_bytes().starts_with(b".tmp")))),
    }
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    if fs_err::read_to_string(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, content.as_bytes())?;
    // Root may have written it for a user who reads it.
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_was_half_removed_is_still_ours() {
        let top = tempfile::tempdir().expect("a folder");
        let folder = top.path().join("cofferdam-x");
        fs_err::create_dir_all(folder.join("logs")).expect("a folder");
        for (name, content) in [("locked", "cofferdam story X\n"), ("HEAD", "0\n"), ("gitdir", "/x/.git\n")] {
            fs_err::write(folder.join(name), content).expect("a file");
        }
        // What a removal leaves at each step of its way: never an entry without its lock.
        for name in ["HEAD", "gitdir"] {
            fs_err::remove_file(folder.join(name)).expect("removed");
            assert!(is_ours(&folder));
        }
        take_away(&folder).expect("taken away");
        assert!(!folder.exists());
        // The control: without its lock an entry with content is somebody else's.
        fs_err::create_dir_all(&folder).expect("a folder");
        fs_err::write(folder.join("HEAD"), "0\n").expect("a file");
        assert!(!is_ours(&folder));
    }
}
