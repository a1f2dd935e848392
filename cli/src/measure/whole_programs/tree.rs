//! The tree of small files that the indexer reads and the copier copies: the same in every run,
//! written once and kept for later runs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::data_file::ensure_space;
use crate::bench::progress;

/// The smallest and the largest file. Sizes are spread evenly on a logarithmic scale, so the mean
/// is 11 KiB.
const SIZES: (f64, f64) = (256.0, 62_000.0);
const MEAN: u64 = 11_300;

const FILES_IN_DIRECTORY: u32 = 23;
const DIRECTORIES_IN_DIRECTORY: u32 = 25;

/// A pseudorandom generator; the tree is the same in every run.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A size between the two limits.
    fn size(&mut self) -> usize {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (SIZES.0 * (SIZES.1 / SIZES.0).powf(part)) as usize
    }
}

/// Returns the tree of `files` files in `dir`. Makes it if it does not exist.
pub fn tree(dir: &Path, files: u32) -> Result<PathBuf> {
    let top = dir.join(format!("tree.{files}"));
    if top.is_dir() {
        return Ok(top);
    }
    // Every file occupies whole blocks.
    let mib = (u64::from(files) * (MEAN + 4096)).div_ceil(1 << 20);
    ensure_space(dir, mib)?;
    progress::say(&format!(
        "writing {} ({files} files, about {mib} MiB, once)",
        top.display()
    ));
    // The tree gets its name only when it is complete.
    let partial = top.with_extension("partial");
    let context = || format!("cannot write {}", partial.display());
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(context)?;
    }
    write(&partial, files).with_context(context)?;
    fs::rename(&partial, &top)?;
    Ok(top)
}

/// Pseudorandom bytes, the same ones each time.
pub fn noise(size: usize) -> Vec<u8> {
    let mut random = Random::new();
    let mut bytes = vec![0; size];
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = random.next().to_ne_bytes();
    }
    bytes
}

fn write(top: &Path, files: u32) -> std::io::Result<()> {
    let bytes = noise(2 * SIZES.1 as usize);
    let mut random = Random::new();
    let mut directory = PathBuf::new();
    for number in 0..files {
        let of = number / FILES_IN_DIRECTORY;
        if number % FILES_IN_DIRECTORY == 0 {
            let outer = format!("{:03}", of / DIRECTORIES_IN_DIRECTORY);
            directory = top
                .join(outer)
                .join(format!("{:02}", of % DIRECTORIES_IN_DIRECTORY));
            fs::create_dir_all(&directory)?;
        }
        let size = random.size();
        let from = random.next() as usize % (bytes.len() - size);
        let mut file = File::create(directory.join(format!("{number:05}")))?;
        file.write_all(&bytes[from..from + size])?;
    }
    // Only clean pages can be dropped from the page cache.
    rustix::fs::syncfs(File::open(top)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MEAN, Random, SIZES, tree};

    #[test]
    fn the_mean_size_is_as_announced() {
        let mut random = Random(1);
        let sizes: Vec<usize> = (0..20_000).map(|_| random.size()).collect();
        let mean = sizes.iter().sum::<usize>() as u64 / sizes.len() as u64;
        assert!(mean.abs_diff(MEAN) < MEAN / 20, "{mean}");
        assert!(sizes.iter().all(|&size| size <= SIZES.1 as usize));
    }

    #[test]
    fn a_tree_has_its_files_and_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = tree(dir.path(), 50).expect("a tree");
        let files = || {
            let directories = std::fs::read_dir(top.join("000")).expect("the directories");
            let count = |directory: std::fs::DirEntry| {
                let files = std::fs::read_dir(directory.path()).expect("the files");
                files.count()
            };
            directories
                .map(|directory| count(directory.expect("an entry")))
                .sum::<usize>()
        };
        assert_eq!(files(), 50);
        std::fs::remove_file(top.join("000/00/00000")).expect("it was there");
        tree(dir.path(), 50).expect("the same tree");
        assert_eq!(files(), 49);
    }
}
