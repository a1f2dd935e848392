//! The file system: one directory of files of equal size. Reads, writes and fsync take the latency,
//! everything else is answered at once. Written data is discarded.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::content::Content;
use super::timer::Timer;

/// How long the kernel may keep attributes and names: they never change.
const FOREVER: Duration = Duration::from_secs(1 << 20);

/// File 0 has this inode number.
const FIRST: u64 = 2;

/// The number of asynchronous requests that the kernel may have under way. The kernel's default of
/// 12 would make such requests wait for each other.
const BACKGROUND: u16 = 4096;

pub struct SlowFiles {
    timer: Timer,
    content: Arc<Content>,
    files: u64,
    size: u64,
}

impl SlowFiles {
    pub fn new(latency: Duration, files: u64, size: u64) -> Result<SlowFiles> {
        Ok(SlowFiles {
            timer: Timer::start(latency)?,
            content: Arc::new(Content::new()),
            files,
            size,
        })
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match u64::from(inode) {
            1 => (FileType::Directory, 0o755, 0),
            n if (FIRST..FIRST + self.files).contains(&n) => {
                (FileType::RegularFile, 0o644, self.size)
            }
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn answer_attributes(&self, inode: INodeNo, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }
}

impl Filesystem for SlowFiles {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without these, the kernel waits for each part of a large read before it asks for the
        // next one. An old kernel that lacks one of them works, but more slowly.
        for wanted in [InitFlags::FUSE_ASYNC_READ, InitFlags::FUSE_ASYNC_DIO] {
            let _ = config.add_capabilities(wanted);
        }
        // Both refuse only zero.
        let _ = config.set_max_background(BACKGROUND);
        let _ = config.set_congestion_threshold(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        let inode = number.filter(|_| parent == INodeNo::ROOT);
        let inode = inode.and_then(|number| number.checked_add(FIRST));
        match inode.and_then(|inode| self.attributes(INodeNo(inode))) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer_attributes(inode, reply);
    }

    /// Changes nothing: a file that is truncated keeps its size.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.answer_attributes(inode, reply);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.size.saturating_sub(offset);
        let length = left.min(u64::from(size)) as usize;
        let file = u64::from(inode) - FIRST;
        let content = Arc::clone(&self.content);
        self.timer
            .answer_later(move || reply.data(content.part(file, offset, length)));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = data.len() as u32;
        self.timer.answer_later(move || reply.written(length));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.timer.answer_later(move || reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for number in offset..self.files {
            let inode = INodeNo(FIRST + number);
            let name = number.to_string();
            if reply.add(inode, number + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }
}
