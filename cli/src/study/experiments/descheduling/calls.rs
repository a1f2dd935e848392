//! The calls that are observed, one at a time.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};

use crate::study::experiments::buffer::Buffer;
use crate::study::experiments::late_writer::{FullPipe, LateWriter};
use crate::study::machine::Machine;
use crate::study::places::Place;

/// How late the writer of the pipe is.
const LATE: Duration = Duration::from_micros(200);

/// The latency of the FUSE file system.
const LATENCY: Duration = Duration::from_millis(1);

const SIZE: u64 = 16 << 20;
const BLOCK: u64 = 4096;

/// A call whose effect on the thread is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    CachedRead,
    /// A read of a pipe with data in it.
    FullPipe,
    /// A read of a pipe into which another thread writes later.
    EmptyPipe,
    ColdRead,
    DirectRead,
    Sync,
    FuseRead,
}

impl Observed {
    pub const ALL: [Observed; 7] = [
        Observed::CachedRead,
        Observed::FullPipe,
        Observed::EmptyPipe,
        Observed::ColdRead,
        Observed::DirectRead,
        Observed::Sync,
        Observed::FuseRead,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Observed::CachedRead => "cached read",
            Observed::FullPipe => "read of a full pipe",
            Observed::EmptyPipe => "read of an empty pipe",
            Observed::ColdRead => "cold read",
            Observed::DirectRead => "O_DIRECT read",
            Observed::Sync => "fsync",
            Observed::FuseRead => "FUSE read",
        }
    }

    pub fn named(name: &str) -> Result<Observed> {
        let found = Observed::ALL.into_iter().find(|call| call.name() == name);
        found.with_context(|| format!("no call {name:?}"))
    }
}

/// The files and pipes. Files are closed before their file systems are unmounted.
pub struct Calls {
    file: File,
    direct: Option<File>,
    fuse: Option<(File, Place)>,
    full: FullPipe,
    late: LateWriter,
    buffer: Buffer,
    next: u64,
    _place: Place,
}

impl Calls {
    /// Makes files in the directory of `machine`; adds a note for each call that is impossible.
    pub fn prepare(machine: &Machine, notes: &mut Vec<String>) -> Result<Calls> {
        let place = Place::inside(&machine.bench.dir, "")?;
        let path = place.dir.join("file");
        super::super::blocking::write_data(&path, SIZE)?;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let direct = open_direct(&path)
            .map_err(|error| notes.push(format!("no O_DIRECT on this file system: {error}")));
        let fuse = Place::slow(&machine.bench.dir, LATENCY, 1, SIZE).and_then(|fuse| {
            let file = open_direct(&fuse.dir.join("0"))?;
            Ok((file, fuse))
        });
        let fuse = fuse.map_err(|error| notes.push(format!("no FUSE read: {error:#}")));
        Ok(Calls {
            file,
            direct: direct.ok(),
            fuse: fuse.ok(),
            full: FullPipe::new()?,
            late: LateWriter::start(LATE)?,
            buffer: Buffer::new(BLOCK as usize),
            next: 0,
            _place: place,
        })
    }

    pub fn can(&self, call: Observed) -> bool {
        match call {
            Observed::DirectRead => self.direct.is_some(),
            Observed::FuseRead => self.fuse.is_some(),
            _ => true,
        }
    }

    /// Prepares a series of `call`.
    pub fn begin(&mut self, call: Observed) -> Result<()> {
        if call == Observed::ColdRead {
            fadvise(&self.file, 0, None, Advice::DontNeed)?;
            fadvise(&self.file, 0, None, Advice::Random)?;
        }
        Ok(())
    }

    /// Prepares one `call`. This is not observed.
    pub fn ready(&mut self, call: Observed) -> Result<()> {
        let block = self.next % (SIZE / BLOCK) * BLOCK;
        match call {
            Observed::CachedRead => self.call(call),
            Observed::FullPipe => self.full.fill(),
            Observed::EmptyPipe => self.late.ask(),
            Observed::Sync => Ok(self.file.write_all_at(&[1], block)?),
            _ => {
                // An odd step meets each of the blocks, whose number is a power of two.
                self.next += 617;
                Ok(())
            }
        }
    }

    /// Makes the call.
    pub fn call(&mut self, call: Observed) -> Result<()> {
        let block = self.next % (SIZE / BLOCK) * BLOCK;
        let buffer = &mut self.buffer.bytes()[..BLOCK as usize];
        let missing = "this file system has no such call";
        match call {
            Observed::CachedRead | Observed::ColdRead => {
                self.file.read_exact_at(buffer, block)?;
            }
            Observed::FullPipe => self.full.read()?,
            Observed::EmptyPipe => self.late.read()?,
            Observed::DirectRead => {
                let file = self.direct.as_ref().context(missing)?;
                file.read_exact_at(buffer, block)?;
            }
            Observed::Sync => self.file.sync_all()?,
            Observed::FuseRead => {
                let (file, _) = self.fuse.as_ref().context(missing)?;
                file.read_exact_at(buffer, block)?;
            }
        }
        Ok(())
    }
}

fn open_direct(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECT).open(path)
}
