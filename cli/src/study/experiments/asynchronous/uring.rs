//! io_uring: alone, with registered files and buffers, with a polling thread of the kernel, and
//! with polled completions.

use std::io;
use std::os::fd::RawFd;

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, squeue, types};

use super::mechanism::{Mechanism, Request, Slots, check};

/// How a ring is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Files and buffers are registered with the ring.
    pub registered: bool,
    /// A thread of the kernel takes submissions, so that none needs a system call.
    pub sqpoll: bool,
    /// The device is asked for completions, and sends no interrupts.
    pub iopoll: bool,
}

/// Milliseconds after which an idle SQPOLL thread sleeps.
const SQPOLL_IDLE: u32 = 20;

/// Reads through a ring.
pub struct Uring {
    ring: IoUring,
    setup: Setup,
    fd: RawFd,
    slots: Slots,
    under_way: usize,
}

impl Uring {
    /// A ring for `depth` reads at once. Fails where the kernel or its limits refuse a part of the
    /// setup.
    pub fn new(fd: RawFd, mut slots: Slots, depth: usize, setup: Setup) -> Result<Uring> {
        let entries = u32::try_from(depth.next_power_of_two())?;
        let ring = build(entries, setup).context("io_uring_setup")?;
        if setup.registered {
            let submitter = ring.submitter();
            submitter
                .register_files(&[fd])
                .context("registering a file")?;
            // SAFETY: the slots live as long as the ring, because `drop` waits for all reads, and
            // the ring is dropped before them.
            let buffers = unsafe { submitter.register_buffers(&slots.vectors()) };
            buffers.context("registering buffers (is the limit of locked memory too low?)")?;
        }
        Ok(Uring {
            ring,
            setup,
            fd,
            slots,
            under_way: 0,
        })
    }

    /// Puts a read into the submission queue. The kernel may not see it before `enter`.
    pub fn push(&mut self, request: &Request) -> Result<()> {
        let entry = self.entry(request);
        loop {
            // SAFETY: the slot that the entry names lives until the read is done, and only one read
            // at a time uses it. The descriptor is open as long as the mechanism exists.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            match pushed {
                Ok(()) => break,
                // A completion may be there before the kernel's thread has freed its entry.
                Err(_) if self.setup.sqpoll => drop(self.ring.submitter().squeue_wait()?),
                Err(error) => return Err(error).context("io_uring"),
            }
        }
        self.under_way += 1;
        Ok(())
    }

    fn entry(&mut self, request: &Request) -> squeue::Entry {
        let address = self.slots.address(request.slot);
        let length = request.size as u32;
        let entry = if self.setup.registered {
            opcode::ReadFixed::new(types::Fixed(0), address, length, request.slot as u16)
                .offset(request.offset)
                .build()
        } else {
            opcode::Read::new(types::Fd(self.fd), address, length)
                .offset(request.offset)
                .build()
        };
        entry.user_data((request.slot as u64) << 32 | u64::from(length))
    }

    /// Submits the pushed reads, and waits until `count` reads are done.
    pub fn enter(&mut self, count: usize) -> Result<()> {
        loop {
            match self.ring.submit_and_wait(count) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("io_uring_enter"),
            }
        }
    }

    /// Takes the completions that are there. Returns the slots.
    pub fn reap(&mut self, slots: &mut Vec<usize>) -> Result<()> {
        for done in self.ring.completion() {
            self.under_way -= 1;
            let data = done.user_data();
            slots.push((data >> 32) as usize);
            check(i64::from(done.result()), (data & 0xffff_ffff) as usize)?;
        }
        Ok(())
    }
}

/// Builds a ring with the options that a loop of one thread uses, as far as the kernel has them.
fn build(entries: u32, setup: Setup) -> io::Result<IoUring> {
    let build = |modern: bool| {
        let mut builder = IoUring::builder();
        if setup.sqpoll {
            builder.setup_sqpoll(SQPOLL_IDLE);
        } else if modern {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        if setup.iopoll {
            builder.setup_iopoll();
        }
        builder.build(entries)
    };
    build(true).or_else(|_| build(false))
}

impl Mechanism for Uring {
    fn submit(&mut self, requests: &[Request]) -> Result<()> {
        for request in requests {
            self.push(request)?;
        }
        self.ring.submit().context("io_uring_enter")?;
        Ok(())
    }

    fn wait(&mut self, count: usize) -> Result<()> {
        ensure!(count <= self.under_way, "only {} reads", self.under_way);
        let left = self.under_way - count;
        let mut slots = Vec::with_capacity(count);
        while self.under_way > left {
            self.enter(self.under_way - left)?;
            self.reap(&mut slots)?;
        }
        Ok(())
    }
}

impl Drop for Uring {
    /// Waits for reads under way, whose memory goes afterwards.
    fn drop(&mut self) {
        let mut slots = Vec::new();
        while self.under_way > 0 {
            let before = self.under_way;
            // A failed read is done, too.
            let failed = self.enter(1).is_err();
            let _ = self.reap(&mut slots);
            if failed && self.under_way == before {
                // The kernel itself waits for them when it closes the ring.
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::super::linux_aio::LinuxAio;
    use super::super::mechanism::{Blocking, Mechanism, Request, Slots};
    use super::super::pool::Pool;
    use super::super::posix_aio::PosixAio;
    use super::{Setup, Uring};

    const DEPTH: usize = 8;
    const SIZE: usize = 4096;

    /// Reads each block of a file twice, in two batches.
    fn check(name: &str, fd: i32, mechanism: anyhow::Result<Box<dyn Mechanism>>) {
        let mut mechanism = match mechanism {
            Ok(mechanism) => mechanism,
            Err(error) => {
                eprintln!("skipped: {name}: {error:#}");
                return;
            }
        };
        let requests: Vec<Request> = (0..DEPTH)
            .map(|slot| Request {
                slot,
                offset: (slot * SIZE) as u64,
                size: SIZE,
            })
            .collect();
        for _ in 0..2 {
            mechanism.submit(&requests).expect(name);
            mechanism.wait(DEPTH).expect(name);
        }
        // A read past the end is no whole read, and is reported.
        let past = Request {
            slot: 0,
            offset: (DEPTH * SIZE) as u64,
            size: SIZE,
        };
        let result = mechanism.submit(&[past]).and_then(|()| mechanism.wait(1));
        assert!(result.is_err(), "{name}");
        // Dropping it waits for the reads under way.
        mechanism.submit(&requests).expect(name);
        drop(mechanism);
        assert!(fd >= 0);
    }

    #[test]
    fn every_mechanism_reads_and_reports_errors() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![7; DEPTH * SIZE])
            .expect("it takes data");
        let fd = file.as_raw_fd();
        let slots = || Slots::new(DEPTH, SIZE);
        let ring = |setup| -> anyhow::Result<Box<dyn Mechanism>> {
            Ok(Box::new(Uring::new(fd, slots(), DEPTH, setup)?))
        };
        let registered = Setup {
            registered: true,
            ..Setup::default()
        };
        let sqpoll = Setup {
            sqpoll: true,
            ..Setup::default()
        };
        let blocking = Blocking { fd, slots: slots() };
        let aio = LinuxAio::new(fd, slots(), DEPTH).map(|m| Box::new(m) as Box<dyn Mechanism>);
        let pool = Pool::new(fd, slots(), 3).map(|m| Box::new(m) as Box<dyn Mechanism>);
        check("blocking", fd, Ok(Box::new(blocking)));
        check("io_uring", fd, ring(Setup::default()));
        check("io_uring, registered", fd, ring(registered));
        check("io_uring, SQPOLL", fd, ring(sqpoll));
        check("Linux AIO", fd, aio);
        check("POSIX AIO", fd, Ok(Box::new(PosixAio::new(fd, slots()))));
        check("thread pool", fd, pool);
    }
}
