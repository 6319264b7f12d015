//! Finds a profile by name or path and lays its chain of `extends` on one another.

use std::io;
use std::path::{Path, PathBuf};

use super::read::{self, ReadError};
use super::{BUILT_IN, Layer, Profile};
use crate::base::suggest::nearest;
use crate::base::text;

/// Longer chains are a mistake, and would be a way to make us read without end.
const DEEPEST: usize = 16;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("there is no profile `{}`{}", text::one_line(.name), .near.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown { name: String, near: Option<String>, looked: Option<PathBuf> },
    #[error("the profile file {} cannot be read: {why}", text::one_line(&.path.display().to_string()))]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{0}")]
    Malformed(#[from] ReadError),
    #[error("the profiles extend each other in a circle: {}", .0.iter().map(|n| text::one_line(n)).collect::<Vec<_>>().join(" → "))]
    Circle(Vec<String>),
    #[error("the profile extends more than {DEEPEST} others: {}", .0.join(" → "))]
    TooDeep(Vec<String>),
    #[error("{} has the name of a built-in profile, and would silently change what `{name}` means", text::one_line(&.path.display().to_string()))]
    Shadows { name: String, path: PathBuf },
}

/// The text of one profile and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    /// A file's path, or `built in`.
    pub origin: String,
    /// What `extends` in this file is relative to, when it is a path.
    pub folder: Option<PathBuf>,
    pub text: String,
}

/// Finds the source that a name stands for in a file of a folder.
pub type Find<'a> = &'a dyn Fn(&str, Option<&Path>) -> Result<Source, ProfileError>;

/// Lays a chain of sources on one another. Pure but for what `find` does.
///
/// # Errors
/// The first file of the chain that is wrong, or the circle it makes.
pub fn chain(start: Source, find: Find<'_>) -> Result<Profile, ProfileError> {
    let mut seen: Vec<String> = Vec::new();
    let mut layers: Vec<(String, Layer)> = Vec::new();
    let mut next = Some(start);
    while let Some(source) = next.take() {
        // A file is itself by its path, a built-in by its name.
        let identity = if source.folder.is_some() { source.origin.clone() } else { source.name.clone() };
        if let Some(at) = seen.iter().position(|s| *s == identity) {
            seen.push(identity);
            return Err(ProfileError::Circle(seen.split_off(at)));
        }
        seen.push(identity);
        if seen.len() > DEEPEST {
            return Err(ProfileError::TooDeep(seen));
        }
        let layer = read::layer(&source.origin, &source.text)?;
        next = layer.extends.as_ref().map(|name| find(name, source.folder.as_deref())).transpose()?;
        layers.push((source.name, layer));
    }
    let bottom = Profile::nothing("nothing");
    Ok(layers.into_iter().rev().fold(bottom, |below, (name, layer)| layer.widen(&name, below)))
}

/// Finds and reads a profile: a built-in or one of the user's own by name, or a file by its path.
///
/// # Errors
/// See [`ProfileError`].
pub fn load(name: &str, own: Option<&Path>) -> Result<Profile, ProfileError> {
    let find = |name: &str, folder: Option<&Path>| find(name, own, folder);
    let start = find(name, None)?;
    // The built-in one: a file of that name in somebody's own folder was refused just now.
    if name == "default"
        && let Ok(kept) = serde_json::from_str(KEPT_DEFAULT)
    {
        return Ok(kept);
    }
    chain(start, &find)
}

/// What `sandbox-profiles/default.toml` says, as it is when it has been read: it is used more than all others, and reading it as the file of
/// a person takes a fiftieth of a whole `exec`. A test compares the two.
const KEPT_DEFAULT: &str = include_str!("default.json");

/// The source of one profile. `own` is the folder of the user's own profiles; `folder` is what a relative path starts from.
///
/// # Errors
/// See [`ProfileError`].
pub fn find(name: &str, own: Option<&Path>, folder: Option<&Path>) -> Result<Source, ProfileError> {
    if name.contains('/') || name.ends_with(".toml") {
        let path = folder.unwrap_or(Path::new("")).join(name);
        return file(&path).map_err(|why| ProfileError::Unreadable { path, why });
    }
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
    let mine = own.map(|own| own.join(format!("{name}.toml")));
    if let Some(path) = &mine {
        match file(path) {
            Ok(_) if built_in.is_some() => return Err(ProfileError::Shadows { name: name.to_owned(), path: path.clone() }),
            Ok(source) => return Ok(source),
            // A folder in the way, or a file without permission, is a mistake to tell, not a profile that is not there.
            Err(why) if !matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(ProfileError::Unreadable { path: path.clone(), why });
            }
            Err(_) => {}
        }
    }
    let Some((known, text)) = built_in else {
        let own_names = own.map(names).unwrap_or_default();
        let known = BUILT_IN.iter().map(|(known, _)| *known).chain(own_names.iter().map(String::as_str));
        let near = nearest(name, known).map(str::to_owned);
        return Err(ProfileError::Unknown { name: name.to_owned(), near, looked: own.map(Path::to_path_buf) });
    };
    Ok(Source { name: (*known).to_owned(), origin: "built in".to_owned(), folder: None, text: (*text).to_owned() })
}

/// The names of the user's own profiles, sorted.
pub fn names(own: &Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(own) else { return Vec::new() };
    let name = |entry: fs_err::DirEntry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned);
    let mut names: Vec<String> = entries.filter_map(|entry| name(entry.ok()?)).collect();
    names.sort();
    names
}

fn file(path: &Path) -> io::Result<Source> {
    use io::Read;
    // The path is followed: it is the caller's own. Only what is read from is bounded, and only regular files: a FIFO would hang.
    let real = std::path::absolute(path)?;
    // Which file it is, whoever tells of this says already.
    if nix::sys::stat::stat(&real)?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = String::new();
    fs_err::File::open(&real)?.take(read::LONGEST as u64 + 1).read_to_string(&mut text)?;
    let name = real.file_stem().map_or_else(|| "profile".to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok(Source { name, origin: real.display().to_string(), folder: real.parent().map(Path::to_path_buf), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `COFFERDAM_UPDATE_PROFILE=1` keeps it anew.
    #[test]
    fn the_kept_profile_is_what_its_file_says() {
        let find = |name: &str, folder: Option<&Path>| find(name, None, folder);
        let read = chain(find("default", None).expect("built in"), &find).expect("a profile");
        if std::env::var_os("COFFERDAM_UPDATE_PROFILE").is_some() {
            let text = serde_json::to_string_pretty(&read).expect("json") + "\n";
            fs_err::write("src/sandbox/profile/default.json", text).expect("kept");
        } else {
            let why = "run COFFERDAM_UPDATE_PROFILE=1 cargo test --lib the_kept_profile";
            assert_eq!(serde_json::from_str::<Profile>(KEPT_DEFAULT).expect(why), read, "{why}");
        }
    }
}
