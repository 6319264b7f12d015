//! A patch between files that are in no repository: what a throw-away run changed.

use git2::build::TreeUpdateBuilder;

use super::{GitError, Oid, doing, print_patch};

/// What a file is to git, and its content; of a link, where it leads.
#[derive(Clone, Debug)]
pub struct Blob {
    pub kind: BlobKind,
    pub content: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    File,
    Executable,
    Link,
}

/// One file before and after; `None` where it is not there.
#[derive(Clone, Debug)]
pub struct Pair {
    /// From the root, without a leading slash.
    pub path: Vec<u8>,
    pub before: Option<Blob>,
    pub after: Option<Blob>,
}

/// The patch that `git apply` would take. Objects are made in memory; nothing is written anywhere.
///
/// # Errors
/// When a path is none that git can hold.
pub fn patch_between(pairs: &[Pair]) -> Result<Vec<u8>, GitError> {
    let make = || -> Result<Vec<u8>, git2::Error> {
        let objects = git2::Odb::new()?;
        objects.add_new_mempack_backend(1)?;
        let repository = git2::Repository::from_odb(objects)?;
        let before = tree(&repository, pairs.iter().map(|pair| (&pair.path, &pair.before)))?;
        let after = tree(&repository, pairs.iter().map(|pair| (&pair.path, &pair.after)))?;
        print_patch(&repository, before, after, true)
    };
    make().or_else(doing(|| "make a patch of what changed".to_owned()))
}

fn tree<'a>(repository: &git2::Repository, files: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Blob>)>) -> Result<Oid, git2::Error> {
    let mut builder = TreeUpdateBuilder::new();
    for (path, blob) in files {
        let Some(blob) = blob else { continue };
        let mode = match blob.kind {
            BlobKind::File => git2::FileMode::Blob,
            BlobKind::Executable => git2::FileMode::BlobExecutable,
            BlobKind::Link => git2::FileMode::Link,
        };
        builder.upsert(path.as_slice(), repository.blob(&blob.content)?, mode);
    }
    let empty = repository.find_tree(repository.treebuilder(None)?.write()?)?;
    builder.create_updated(repository, &empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(kind: BlobKind, content: &[u8]) -> Option<Blob> {
        Some(Blob { kind, content: content.to_vec() })
    }

    #[test]
    fn a_patch_says_what_git_would_say() {
        let pairs = [
            Pair { path: b"gone".to_vec(), before: blob(BlobKind::File, b"one\n"), after: None },
            Pair { path: b"a folder/new".to_vec(), before: None, after: blob(BlobKind::Executable, b"two\n") },
            Pair { path: b"kept".to_vec(), before: blob(BlobKind::File, b"x\n"), after: blob(BlobKind::Executable, b"x\n") },
            Pair { path: b"link".to_vec(), before: None, after: blob(BlobKind::Link, b"kept") },
            Pair { path: b"bytes".to_vec(), before: None, after: blob(BlobKind::File, b"a\0b") },
        ];
        let text = String::from_utf8(patch_between(&pairs).expect("a patch")).expect("text");
        for part in [
            "deleted file mode 100644\nindex 5626abf..0000000\n--- a/gone\n+++ /dev/null\n",
            "new file mode 100755\nindex 0000000..f719efd\n--- /dev/null\n",
            "old mode 100644\nnew mode 100755\n",
            "new file mode 120000\n",
            "+kept\n\\ No newline at end of file\n",
            "GIT binary patch\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_git_cannot_hold_is_an_error() {
        let pair = Pair { path: b"a/.git/config".to_vec(), before: None, after: blob(BlobKind::File, b"x") };
        assert!(patch_between(&[pair]).is_err());
    }
}
