//! The last words of what runs, as files beside the database: shown while they are said, never decided by, and gone with the run.
//! What was really said is evidence, as a whole, once its process has ended.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;

use crate::base::id::StoryId;

const FOLDER: &str = "live";
/// More than any writer writes; a reader trusts no size.
const LARGEST: u64 = 256 << 10;

/// Tells one state of somebody's words from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(SystemTime, u64);

fn place(folder: &Path, story: &StoryId) -> PathBuf {
    folder.join(FOLDER).join(story.encoded())
}

/// Puts these lines where the story's words are. Whole or not at all; not synced, because nobody needs them after a crash.
///
/// # Errors
/// When they cannot be written.
pub fn write(folder: &Path, story: &StoryId, lines: &VecDeque<String>) -> io::Result<()> {
    let path = place(folder, story);
    let parent = folder.join(FOLDER);
    super::place::make_private(&parent)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&parent)?;
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    file.write_all(text.as_bytes())?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// The story says nothing any more.
pub fn remove(folder: &Path, story: &StoryId) {
    // What is left is swept by the next run, and believed by nobody without one.
    drop(fs::remove_file(place(folder, story)));
}

/// Removes everybody's words: for the one runner, when it begins and when it ends.
pub fn clear(folder: &Path) {
    drop(fs::remove_dir_all(folder.join(FOLDER)));
}

/// What there is to read, without reading it.
pub fn mark(folder: &Path, story: &StoryId) -> Option<Mark> {
    let metadata = fs::metadata(place(folder, story)).ok()?;
    Some(Mark(metadata.modified().ok()?, metadata.len()))
}

/// When the story's agent spoke last.
pub fn spoke(folder: &Path, story: &StoryId) -> Option<jiff::Timestamp> {
    mark(folder, story)?.0.try_into().ok()
}

/// The lines. None of them when there are none.
pub fn read(folder: &Path, story: &StoryId) -> Vec<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let opened = fs::File::open(place(folder, story));
    if opened.and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)).is_err() {
        return Vec::new();
    }
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_there_until_they_are_cleared() {
        let dir = tempfile::tempdir().expect("dir");
        let story: StoryId = "../US/1".parse().expect("an id");
        assert_eq!((mark(dir.path(), &story), read(dir.path(), &story)), (None, Vec::new()));
        write(dir.path(), &story, &VecDeque::from(["one".to_owned(), "two".to_owned()])).expect("written");
        assert_eq!(read(dir.path(), &story), ["one", "two"]);
        let before = mark(dir.path(), &story).expect("there");
        write(dir.path(), &story, &VecDeque::from(["three".to_owned()])).expect("written");
        assert_ne!(mark(dir.path(), &story), Some(before));
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1, "an id is no path");
        remove(dir.path(), &story);
        assert_eq!(mark(dir.path(), &story), None);
        write(dir.path(), &story, &VecDeque::new()).expect("written");
        clear(dir.path());
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
    }
}
