//! New objects, kept apart until they are moved into the repository.

use std::path::{Path, PathBuf};

use super::{Author, Entry, GitError, ObjectKind, Objects, Oid, Repository, doing, patch, read_tree, sync_files};

/// A place for new objects that nothing reaches until they are moved: a folder of our own, reading through to the repository's objects.
pub struct Quarantine {
    pub(super) inner: git2::Repository,
    folder: PathBuf,
    target: PathBuf,
}

impl std::fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantine").field("folder", &self.folder).finish()
    }
}

impl Quarantine {
    /// Makes a quarantine in a folder that does not exist yet.
    pub fn create(folder: &Path, repository: &Repository) -> Result<Self, GitError> {
        fs_err::create_dir_all(folder.join("objects/info"))?;
        // libgit2 looks for packs only where a folder for them was when it opened.
        fs_err::create_dir_all(folder.join("objects/pack"))?;
        fs_err::create_dir_all(folder.join("refs"))?;
        fs_err::write(folder.join("HEAD"), "ref: refs/heads/none\n")?;
        fs_err::write(folder.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
        let target = repository.objects_dir();
        let inner = git2::Repository::open_bare(folder).or_else(doing(|| format!("open the quarantine {}", folder.display())))?;
        // Not written to a file: a path with a line end in it cannot be.
        let odb = inner.odb().or_else(doing(|| "read the quarantine".to_owned()))?;
        let text = target.to_str().ok_or_else(|| std::io::Error::other(format!("{} is not UTF-8", target.display())))?;
        odb.add_disk_alternate(text).or_else(doing(|| format!("read through to {}", target.display())))?;
        drop(odb);
        Ok(Self { inner, folder: folder.to_owned(), target })
    }

    /// Takes an object under the name that its own content gives it.
    pub fn write_object(&self, kind: ObjectKind, content: &[u8]) -> Result<Oid, GitError> {
        self.write(kind, content)
    }

    /// Takes a loose object as it lies on disk. Whether it is what its name says is checked when it is read.
    pub fn take_loose(&self, name: &str, content: &[u8]) -> Result<(), GitError> {
        let (fan, rest) = name.split_at_checked(2).ok_or_else(|| std::io::Error::other("an object's name is too short"))?;
        let folder = self.folder.join("objects").join(fan);
        fs_err::create_dir_all(&folder)?;
        Ok(fs_err::write(folder.join(rest), content)?)
    }

    /// Kind and size of an object, without reading it.
    pub fn header(&self, id: Oid) -> Result<(ObjectKind, usize), GitError> {
        let odb = self.inner.odb().or_else(doing(|| "open the quarantine".to_owned()))?;
        odb.refresh().or_else(doing(|| "read the quarantine".to_owned()))?;
        odb.read_header(id).map(|(size, kind)| (kind, size)).or_else(doing(|| format!("find object {id}")))
    }

    /// An object, checked against its name.
    pub fn object(&self, id: Oid) -> Result<Vec<u8>, GitError> {
        let odb = self.inner.odb().or_else(doing(|| "open the quarantine".to_owned()))?;
        odb.read(id).map(|object| object.data().to_vec()).or_else(doing(|| format!("read object {id}")))
    }

    /// A commit's tree, parents and message.
    pub fn commit(&self, id: Oid) -> Result<(Oid, Vec<Oid>, String), GitError> {
        let commit = self.inner.find_commit(id).or_else(doing(|| format!("read commit {id}")))?;
        Ok((commit.tree_id(), commit.parent_ids().collect(), String::from_utf8_lossy(commit.message_bytes()).into_owned()))
    }

    pub fn write_blob(&self, content: &[u8]) -> Result<Oid, GitError> {
        self.write(git2::ObjectType::Blob, content)
    }

    /// Writes a tree; the entries may come in any order.
    pub fn write_tree(&self, mut entries: Vec<Entry>) -> Result<Oid, GitError> {
        entries.sort_by(Entry::order);
        let mut bytes = Vec::with_capacity(entries.len() * 48);
        for entry in &entries {
            bytes.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
            bytes.extend_from_slice(&entry.name);
            bytes.push(0);
            bytes.extend_from_slice(entry.id.as_bytes());
        }
        self.write(git2::ObjectType::Tree, &bytes)
    }

    pub fn write_commit(&self, tree: Oid, parents: &[Oid], author: &Author, message: &str) -> Result<Oid, GitError> {
        let commit = || -> Result<Oid, git2::Error> {
            let signature = git2::Signature::now(&author.name, &author.email)?;
            let tree = self.inner.find_tree(tree)?;
            let parents = parents.iter().map(|id| self.inner.find_commit(*id)).collect::<Result<Vec<_>, _>>()?;
            self.inner.commit(None, &signature, &signature, message, &tree, &parents.iter().collect::<Vec<_>>())
        };
        commit().or_else(doing(|| "write the commit".to_owned()))
    }

    /// Forgets every object that was written.
    pub fn abandon(self) -> Result<(), GitError> {
        Ok(fs_err::remove_dir_all(&self.folder)?)
    }

    /// The change between two trees as a patch.
    pub fn patch(&self, from: Oid, to: Oid) -> Result<Vec<u8>, GitError> {
        patch(&self.inner, from, to, true)
    }

    fn write(&self, kind: git2::ObjectType, content: &[u8]) -> Result<Oid, GitError> {
        let odb = self.inner.odb().or_else(doing(|| "open the quarantine".to_owned()))?;
        odb.write(kind, content).or_else(doing(|| format!("write an object into {}", self.folder.display())))
    }

    /// Moves every object into the repository, durably: files first, the names after. Nothing points to them yet.
    pub fn release(self) -> Result<u64, GitError> {
        let mut moves = Vec::new();
        for fan in fs_err::read_dir(self.folder.join("objects"))? {
            let fan = fan?;
            if fan.file_name().len() != 2 {
                continue;
            }
            for object in fs_err::read_dir(fan.path())? {
                let object = object?;
                moves.push((object.path(), self.target.join(fan.file_name()), object.file_name()));
            }
        }
        sync_files(&self.folder, moves.iter().map(|(from, ..)| from.as_path()))?;
        for (from, fan, name) in &moves {
            match fs_err::create_dir(fan) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.into()),
                _ => {}
            }
            let to = fan.join(name);
            // The same name is the same content; one that is there already is left alone.
            if !to.exists() {
                move_object(from, fan, &to)?;
            }
        }
        fs_err::remove_dir_all(&self.folder)?;
        Ok(moves.len() as u64)
    }
}

impl Objects for Quarantine {
    fn tree(&self, id: Oid) -> Result<Vec<Entry>, GitError> {
        read_tree(&self.inner, id)
    }

    fn blob(&self, id: Oid) -> Result<Vec<u8>, GitError> {
        self.inner.find_blob(id).map(|blob| blob.content().to_vec()).or_else(doing(|| format!("read blob {id}")))
    }
}

/// Moves an object into the repository, which may lie on another disk: then it is copied beside its place, made durable, and named.
fn move_object(from: &Path, fan: &Path, to: &Path) -> std::io::Result<()> {
    match fs_err::rename(from, to) {
        Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {
            let mut copy = tempfile::Builder::new().prefix("tmp_obj_cofferdam").tempfile_in(fan)?;
            std::io::copy(&mut fs_err::File::open(from)?, &mut copy)?;
            // As git's own objects: nobody writes to one.
            copy.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
            copy.as_file().sync_data()?;
            copy.persist(to).map(drop).map_err(|e| e.error)
        }
        other => other,
    }
}
