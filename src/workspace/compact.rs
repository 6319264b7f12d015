//! Keeping the layers few and small: a stack that has grown deep becomes one layer, and what nobody uses goes, the least recently used first.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::base::{BaseError, Layer, Layers};
use super::cache::merge::{merge, sync};
use super::private_git;
use super::removal;
use super::state::{self, Lock};
use super::walk::Folder;

/// Further packs would make git slower than one whole layer is to build.
const PACKS_MAX: usize = 40;
/// Whoever was given a layer and has not mounted it yet: not removed without being asked.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// Longer than a layer takes to build.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of a story's record decides whether a layer stays.
#[derive(Deserialize)]
struct Uses {
    layer: String,
}

impl Layers<'_> {
    /// A layer and all below it as one, made of further names of the same files: nothing is copied. `None` when a whole one is better.
    /// Under the lock.
    pub(super) fn flatten(&self, name: &str, layer: &Layer) -> Result<Option<(String, Layer)>, BaseError> {
        let flat_name = format!("{name}-flat");
        let target = self.state.layers().join(&flat_name);
        if let Some(known) = state::read_record::<Layer>(&target.join("layer.json"))? {
            return Ok(Some((flat_name, known)));
        }
        let Some(stack) = self.stack_of(name)? else { return Ok(None) };
        let place = self.state.layers().join(state::unique(".building-"));
        let made = self.flatten_into(&place, &stack.trees(), layer);
        match made {
            Ok(Some(flat)) => {
                state::write_record(&place.join("layer.json"), &flat)?;
                if target.exists() {
                    removal::discard(&target, &self.state.trash())?;
                }
                fs_err::rename(&place, &target)?;
                state::sync_folder(&self.state.layers())?;
                Ok(Some((flat_name, flat)))
            }
            other => {
                removal::discard(&place, &self.state.trash())?;
                other.map(|_| None)
            }
        }
    }

    fn flatten_into(&self, place: &Path, trees: &[std::path::PathBuf], layer: &Layer) -> Result<Option<Layer>, BaseError> {
        let open =
            |folders: Vec<std::path::PathBuf>| folders.iter().map(|folder| Folder::open_root(folder)).collect::<io::Result<Vec<_>>>();
        let files = place.join("tree");
        fs_err::create_dir_all(&files)?;
        let measured = merge(open(trees.to_vec())?, &Folder::open_root(&files)?)?;
        if measured.plain != layer.files {
            // Somebody changed a layer: none of it is built upon.
            return Ok(None);
        }
        let parts: Vec<_> = trees.iter().filter_map(|tree| private_git::part(tree.parent()?)).collect();
        if parts.len() == trees.len() {
            let git = place.join("git");
            fs_err::create_dir(&git)?;
            merge(open(parts)?, &Folder::open_root(&git)?)?;
            let packs = fs_err::read_dir(git.join(".git/objects/pack"))?.count();
            if packs > 3 * PACKS_MAX {
                return Ok(None);
            }
        }
        sync(&Folder::open_root(place)?)?;
        Ok(Some(Layer { over: None, depth: 0, bytes: measured.bytes, ..layer.clone() }))
    }

    /// Makes a stack into one layer in a thread of its own. Nobody waits for it, and what goes wrong is left to the next one: a layer that is
    /// not there is not used, and what was half built is swept.
    pub(super) fn compact_beside(&self, name: &str) {
        let (state, name) = (self.state.clone(), name.to_owned());
        let Ok(repository) = self.repository.reopen() else { return };
        let compact = move || -> Result<(), BaseError> {
            let layers = Layers::new(&state, &repository);
            // Whoever builds now makes a stack of its own; there is no hurry.
            let _lock = state.lock("layers", PATIENCE)?;
            if let Some(stack) = layers.stack_of(&name)?
                && let Some(top) = stack.top()
            {
                layers.flatten(&name, top)?;
            }
            Ok(())
        };
        drop(std::thread::Builder::new().name("compact".to_owned()).spawn(move || drop(compact())));
    }

    /// Removes layers that nobody uses until the rest fits, without being asked: after a new one was built.
    pub(super) fn keep_small(&self) -> Result<(), BaseError> {
        let kept = self.state.layers_kept();
        let mut layers = self.all()?;
        let mut total: u64 = layers.iter().map(|(_, _, layer)| layer.bytes).sum();
        if total <= kept {
            return Ok(());
        }
        let _lock = self.state.lock("layers", Duration::from_secs(60))?;
        let mut used = HashSet::new();
        for entry in fs_err::read_dir(self.state.stories())? {
            // One that cannot be read may use any: then nothing is removed.
            if let Some(uses) = state::read_record::<Uses>(&entry?.path().join("story.json"))? {
                used.insert(uses.layer);
            }
        }
        layers.retain(|(name, ..)| self.state.layers().join(name).is_dir());
        while total > kept {
            let below: HashSet<&String> = layers.iter().filter_map(|(_, _, layer)| layer.over.as_ref()).collect();
            let idle = |(name, time, _): &(String, SystemTime, Layer)| {
                let age = SystemTime::now().duration_since(*time).unwrap_or_default();
                !used.contains(name) && !below.contains(name) && age > YOUNG
            };
            let Some(at) = layers.iter().rposition(idle) else { break };
            let (name, _, layer) = layers.remove(at);
            let folder = self.state.layers().join(&name);
            // Whoever holds a stack holds each of its layers.
            if Lock::acquire(&folder.join("layer.json"), "a layer", Duration::ZERO).is_ok() {
                removal::discard(&folder, &self.state.trash())?;
            }
            total -= layer.bytes;
        }
        Ok(())
    }
}
