//! The mechanisms that are compared, by name.

use std::os::fd::RawFd;

use anyhow::{Context, Result};

use super::linux_aio::LinuxAio;
use super::mechanism::{Blocking, Mechanism, Slots};
use super::pool::Pool;
use super::posix_aio::PosixAio;
use super::uring::{Setup, Uring};

/// A mechanism that is compared with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Blocking,
    LinuxAio,
    Uring,
    Registered,
    Sqpoll,
    Iopoll,
    PosixAio,
    Pool,
}

impl Contender {
    pub const ALL: [Contender; 8] = [
        Contender::Blocking,
        Contender::LinuxAio,
        Contender::Uring,
        Contender::Registered,
        Contender::Sqpoll,
        Contender::Iopoll,
        Contender::PosixAio,
        Contender::Pool,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Blocking => "pread",
            Contender::LinuxAio => "Linux AIO",
            Contender::Uring => "io_uring",
            Contender::Registered => "io_uring, registered",
            Contender::Sqpoll => "io_uring, SQPOLL",
            Contender::Iopoll => "io_uring, IOPOLL",
            Contender::PosixAio => "POSIX AIO",
            Contender::Pool => "thread pool",
        }
    }

    /// What it needs that a machine may not have.
    pub fn needs(self) -> &'static str {
        match self {
            Contender::Iopoll => ", which needs O_DIRECT and a device with queues for polling",
            Contender::Sqpoll => {
                ", which needs the right to start a polling kernel thread (root, or Linux 5.11)"
            }
            Contender::Registered => ", which needs the right to lock memory (ulimit -l)",
            _ => "",
        }
    }

    pub fn named(name: &str) -> Result<Contender> {
        let found = Contender::ALL.into_iter().find(|who| who.name() == name);
        found.with_context(|| format!("no mechanism {name:?}"))
    }

    /// Makes the mechanism for `depth` reads at once of `size` bytes from `fd`.
    pub fn make(self, fd: RawFd, depth: usize, size: usize) -> Result<Box<dyn Mechanism>> {
        let slots = Slots::new(depth, size);
        let ring = |slots, registered, sqpoll, iopoll| -> Result<Box<dyn Mechanism>> {
            let setup = Setup {
                registered,
                sqpoll,
                iopoll,
            };
            Ok(Box::new(Uring::new(fd, slots, depth, setup)?))
        };
        match self {
            Contender::Blocking => Ok(Box::new(Blocking { fd, slots })),
            Contender::LinuxAio => Ok(Box::new(LinuxAio::new(fd, slots, depth)?)),
            Contender::Uring => ring(slots, false, false, false),
            Contender::Registered => ring(slots, true, false, false),
            Contender::Sqpoll => ring(slots, false, true, false),
            Contender::Iopoll => ring(slots, false, false, true),
            Contender::PosixAio => Ok(Box::new(PosixAio::new(fd, slots))),
            Contender::Pool => Ok(Box::new(Pool::new(fd, slots, depth)?)),
        }
    }
}
