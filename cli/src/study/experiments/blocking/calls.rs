//! Blocking calls on files, each in a state of the caches.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, fadvise};

use super::super::buffer::Buffer;
use super::super::stopwatch::{Length, Series, time};

/// A blocking call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opening a file whose name is cached, and closing it.
    Open,
    CachedRead,
    /// A read of data that is not in the page cache.
    ColdRead,
    DirectRead,
    /// A write over data in the page cache.
    CachedWrite,
    DirectWrite,
    /// The fsync after a write; the time of the write is included.
    WriteAndSync,
}

impl Call {
    pub const ALL: [Call; 7] = [
        Call::Open,
        Call::CachedRead,
        Call::ColdRead,
        Call::DirectRead,
        Call::CachedWrite,
        Call::DirectWrite,
        Call::WriteAndSync,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Call::Open => "open and close",
            Call::CachedRead => "cached read",
            Call::ColdRead => "cold read",
            Call::DirectRead => "O_DIRECT read",
            Call::CachedWrite => "cached write",
            Call::DirectWrite => "O_DIRECT write",
            Call::WriteAndSync => "write and fsync",
        }
    }

    pub fn named(name: &str) -> Result<Call> {
        let found = Call::ALL.into_iter().find(|call| call.name() == name);
        found.with_context(|| format!("no call {name:?}"))
    }

    pub fn is_direct(self) -> bool {
        matches!(self, Call::DirectRead | Call::DirectWrite)
    }

    /// O_DIRECT transfers whole blocks only.
    pub fn allows(self, size: u64) -> bool {
        !self.is_direct() || size.is_multiple_of(4096)
    }
}

/// The files on which the calls are made, and the memory.
pub struct Files {
    read_path: PathBuf,
    read: File,
    /// `None` where the file system has no O_DIRECT.
    direct_read: Option<File>,
    write: File,
    direct_write: Option<File>,
    read_size: u64,
    write_size: u64,
    buffer: Buffer,
    /// Whether the page cache can be emptied.
    pub can_be_cold: bool,
    seed: u64,
}

impl Files {
    /// Opens the files, which exist, are full of data and have nothing left to write back.
    pub fn open(read_path: &Path, write_path: &Path, can_be_cold: bool) -> Result<Files> {
        let open = |path: &Path, write: bool| {
            let file = OpenOptions::new().read(true).write(write).open(path);
            file.with_context(|| format!("cannot open {}", path.display()))
        };
        let direct = |path: &Path, write: bool| {
            let mut options = OpenOptions::new();
            options.read(true).write(write);
            options.custom_flags(libc::O_DIRECT).open(path).ok()
        };
        let (read, write) = (open(read_path, false)?, open(write_path, true)?);
        Ok(Files {
            read_path: read_path.to_owned(),
            read_size: read.metadata()?.len(),
            write_size: write.metadata()?.len(),
            read,
            direct_read: direct(read_path, false),
            write,
            direct_write: direct(write_path, true),
            buffer: Buffer::new(4 << 20),
            can_be_cold,
            seed: 0,
        })
    }

    /// Creates two files of `size` bytes in `dir` and opens them.
    pub fn create(dir: &Path, size: u64, can_be_cold: bool) -> Result<Files> {
        let create = |name: &str| {
            let path = dir.join(name);
            write_data(&path, size).with_context(|| format!("cannot write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        Files::open(&create("read")?, &create("write")?, can_be_cold)
    }

    /// Whether `call` is possible here.
    pub fn can(&self, call: Call) -> bool {
        match call {
            Call::ColdRead => self.can_be_cold,
            Call::DirectRead => self.direct_read.is_some(),
            Call::DirectWrite => self.direct_write.is_some(),
            _ => true,
        }
    }

    /// Makes `call` with `size` bytes for `length`. Each call meets another block, at random.
    pub fn measure(&mut self, call: Call, size: u64, mut length: Length) -> Result<Series> {
        let of_reads = matches!(call, Call::CachedRead | Call::ColdRead | Call::DirectRead);
        let file_size = if of_reads {
            self.read_size
        } else {
            self.write_size
        };
        // A single byte lies in a block of its own, or a cold read would find the block cached.
        let step = size.next_multiple_of(4096);
        let blocks = file_size / step;
        ensure!(blocks > 0, "the file is smaller than {size} bytes");
        if call == Call::ColdRead {
            fadvise(&self.read, 0, None, Advice::DontNeed)?;
            fadvise(&self.read, 0, None, Advice::Random)?;
            length.most = length.most.min(blocks);
            length.least = length.least.min(blocks);
        }
        if call == Call::CachedRead {
            self.warm(file_size.min(CACHED))?;
        }
        let blocks = match call {
            Call::CachedRead => (CACHED.min(file_size) / step).max(1),
            _ => blocks,
        };
        self.seed += 1;
        let first = self.seed.wrapping_mul(0x9e37_79b9) % blocks;
        // With this step, which shares no factor with the number of blocks, the series meets each
        // block once before it meets one again.
        let stride = stride(blocks);
        let block = |n: u64| (first + n % blocks * stride) % blocks * step;
        let path = &self.read_path;
        let buffer = &mut self.buffer.bytes()[..size as usize];
        let (read, write) = (&self.read, &self.write);
        let direct = || "no O_DIRECT here".to_owned();
        match call {
            Call::Open => time(length, |_| {
                File::open(path)?;
                Ok(())
            }),
            Call::CachedRead | Call::ColdRead => {
                time(length, |n| Ok(read.read_exact_at(buffer, block(n))?))
            }
            Call::DirectRead => {
                let file = self.direct_read.as_ref().with_context(direct)?;
                time(length, |n| Ok(file.read_exact_at(buffer, block(n))?))
            }
            Call::CachedWrite => time(length, |n| Ok(write.write_all_at(buffer, block(n))?)),
            Call::DirectWrite => {
                let file = self.direct_write.as_ref().with_context(direct)?;
                time(length, |n| Ok(file.write_all_at(buffer, block(n))?))
            }
            Call::WriteAndSync => time(length, |n| {
                write.write_all_at(buffer, block(n))?;
                Ok(write.sync_all()?)
            }),
        }
    }

    /// Reads the first `size` bytes, so that they are cached.
    fn warm(&mut self, size: u64) -> Result<()> {
        let buffer = self.buffer.bytes();
        let mut at = 0;
        while at < size {
            let part = (size - at).min(buffer.len() as u64) as usize;
            self.read.read_exact_at(&mut buffer[..part], at)?;
            at += part as u64;
        }
        Ok(())
    }
}

/// The part of a file that cached reads meet: small enough to be cached within moments.
const CACHED: u64 = 8 << 20;

/// A number near the golden part of `blocks` that shares no factor with it.
fn stride(blocks: u64) -> u64 {
    let shares = |n: u64| {
        let (mut a, mut b) = (n, blocks);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a > 1
    };
    let golden = (blocks as f64 * 0.618) as u64;
    (golden.max(1)..).find(|&n| !shares(n)).unwrap_or(1)
}

/// Writes `size` bytes that no disk can compress, down to the disk.
pub fn write_data(path: &Path, size: u64) -> std::io::Result<()> {
    let file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunk = vec![0; (1 << 20).min(size as usize)];
    let mut at = 0;
    while at < size {
        for word in chunk.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_ne_bytes();
        }
        let part = (size - at).min(chunk.len() as u64) as usize;
        file.write_all_at(&chunk[..part], at)?;
        at += part as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Call, Files, Length, stride};

    #[test]
    fn a_series_meets_each_block_once() {
        for blocks in [1, 2, 3, 4, 6, 32, 1000, 4096] {
            let stride = stride(blocks);
            let mut met: Vec<u64> = (0..blocks).map(|n| n * stride % blocks).collect();
            met.sort_unstable();
            assert!(met.into_iter().eq(0..blocks), "{blocks}");
        }
    }

    #[test]
    fn every_call_can_be_measured() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = Files::create(dir.path(), 1 << 20, true).expect("the files");
        let length = Length {
            time: Duration::from_micros(100),
            least: 1,
            most: 10,
        };
        for call in Call::ALL {
            assert_eq!(Call::named(call.name()).expect("its name"), call);
            if !files.can(call) {
                eprintln!("skipped: {} on {}", call.name(), dir.path().display());
                continue;
            }
            for size in [1, 4096, 1 << 20] {
                if call.allows(size) {
                    let series = files.measure(call, size, length);
                    let series = series.unwrap_or_else(|error| panic!("{}: {error}", call.name()));
                    assert!(series.latency.count() >= 1 && series.usage.wall > 0.0);
                }
            }
        }
        assert!(files.measure(Call::CachedRead, 2 << 20, length).is_err());
    }
}
