//! Makes the overlay for one Go, and keeps it in the user's cache under a hash of its content.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::sources;
use super::toolchain::Toolchain;

/// The file that `go build -overlay` reads.
#[derive(Default, Deserialize, Serialize)]
struct OverlayFile {
    #[serde(rename = "Replace", default)]
    replace: BTreeMap<PathBuf, PathBuf>,
    /// The user's own overlay, if it was merged into this one. Go ignores this entry.
    #[serde(rename = "AioshimMerged", skip_serializing_if = "Option::is_none")]
    merged: Option<PathBuf>,
}

/// Makes the overlay for `go`, merged with the overlay `user` of a build in the directory `dir`.
/// Returns the path of the file for `-overlay`.
pub fn make(go: &Toolchain, user: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let src = go.src();
    let files = sources::overlay(&src, go.version()).with_context(|| {
        format!(
            "{} in {} cannot be converted",
            go.version(),
            go.root.display()
        )
    })?;
    let mut hasher = DefaultHasher::new();
    (&src, &files).hash(&mut hasher);
    let folder = cache.join(format!("{}-{:016x}", go.version(), hasher.finish()));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;

    let mut ours = OverlayFile::default();
    for (path, text) in &files {
        let backing = folder.join(path.replace('/', "_"));
        store(&backing, text)?;
        ours.replace.insert(src.join(path), backing);
    }
    let user = match user {
        Some(user) => read_user(&dir.join(user), &cache)?,
        None => None,
    };
    let mut name = "overlay.json".to_owned();
    if let Some((path, theirs)) = user {
        for (key, value) in theirs.replace {
            let key = dir.join(key);
            let value = if value.as_os_str().is_empty() {
                value // the file is deleted
            } else {
                dir.join(value)
            };
            if ours.replace.insert(key.clone(), value).is_some() {
                bail!(
                    "{}: it replaces {}, which this overlay must replace, too",
                    path.display(),
                    key.display()
                );
            }
        }
        let mut hasher = DefaultHasher::new();
        (&ours.replace, &path).hash(&mut hasher);
        name = format!("merged-{:016x}.json", hasher.finish());
        ours.merged = Some(path);
    }
    let file = folder.join(name);
    store(&file, &serde_json::to_string_pretty(&ours)?)?;
    Ok(file)
}

/// The user's own overlay: `file`, unless this command has made it.
pub fn users_own(file: &Path, dir: &Path) -> Result<Option<PathBuf>> {
    Ok(read_user(&dir.join(file), &cache_dir()?)?.map(|(path, _)| path))
}

/// Reads the user's overlay. If this command has made the file, the user's is the overlay that was
/// merged into it, if any.
fn read_user(file: &Path, cache: &Path) -> Result<Option<(PathBuf, OverlayFile)>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let overlay: OverlayFile = serde_json::from_str(&text)
        .with_context(|| format!("{}: not an overlay of Go", file.display()))?;
    if !file.starts_with(cache) {
        return Ok(Some((file.to_owned(), overlay)));
    }
    match overlay.merged {
        Some(merged) => read_user(&merged, cache),
        None => Ok(None),
    }
}

/// Where overlays are kept.
fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .context("there is no cache directory: set XDG_CACHE_HOME or HOME")?;
    Ok(base.join("aioshim").join("go"))
}

/// Writes a file unless it has this content. Another process may write the same file.
fn store(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        std::fs::File::create(&temporary)?.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| path.display().to_string())
}

/// Whether `file` and `ours` replace files of the same Go. Also true if this command did not make
/// `file`.
pub fn same_go(file: &Path, ours: &Path) -> bool {
    let replaced = |file: &Path| -> Option<OverlayFile> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    };
    match (cache_dir(), replaced(file), replaced(ours)) {
        (Ok(cache), Some(other), Some(ours)) if file.starts_with(&cache) => ours
            .replace
            .keys()
            .all(|path| other.replace.contains_key(path)),
        _ => true,
    }
}
