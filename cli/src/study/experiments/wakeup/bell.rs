//! The ways to wake a sleeping thread.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use rustix::thread::futex;

/// A way to wake a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Futex,
    Pipe,
    Condition,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Futex, Way::Pipe, Way::Condition];

    pub fn name(self) -> &'static str {
        match self {
            Way::Futex => "futex",
            Way::Pipe => "pipe",
            Way::Condition => "condition variable",
        }
    }

    pub fn named(name: &str) -> Result<Way> {
        let found = Way::ALL.into_iter().find(|way| way.name() == name);
        found.with_context(|| format!("no way {name:?}"))
    }
}

/// What the sleeper waits for. Each ring wakes it once.
pub enum Bell {
    /// The number of rings.
    Futex(AtomicU32),
    Pipe(PipeReader, PipeWriter),
    /// The number of rings.
    Condition(Mutex<u32>, Condvar),
}

impl Bell {
    pub fn new(way: Way) -> Result<Bell> {
        Ok(match way {
            Way::Futex => Bell::Futex(AtomicU32::new(0)),
            Way::Pipe => {
                let (reader, writer) = pipe()?;
                Bell::Pipe(reader, writer)
            }
            Way::Condition => Bell::Condition(Mutex::new(0), Condvar::new()),
        })
    }

    /// Wakes the sleeper.
    pub fn ring(&self) -> Result<()> {
        match self {
            Bell::Futex(rings) => {
                rings.fetch_add(1, Ordering::Release);
                futex::wake(rings, futex::Flags::PRIVATE, 1)?;
            }
            Bell::Pipe(_, writer) => {
                let mut writer = writer;
                writer.write_all(&[1])?;
            }
            Bell::Condition(rings, condition) => {
                *rings.lock().map_err(|_| anyhow!("the sleeper died"))? += 1;
                condition.notify_one();
            }
        }
        Ok(())
    }

    /// Sleeps until there were more than `heard` rings.
    pub fn wait(&self, heard: u32) -> Result<()> {
        match self {
            Bell::Futex(rings) => {
                while rings.load(Ordering::Acquire) == heard {
                    match futex::wait(rings, futex::Flags::PRIVATE, heard, None) {
                        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Bell::Pipe(reader, _) => {
                let mut reader = reader;
                reader.read_exact(&mut [0])?;
            }
            Bell::Condition(rings, condition) => {
                let guard = rings.lock().map_err(|_| anyhow!("the waker died"))?;
                let woken = condition.wait_while(guard, |rings| *rings == heard);
                drop(woken.map_err(|_| anyhow!("the waker died"))?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{Bell, Way};

    #[test]
    fn every_ring_wakes_the_sleeper() {
        for way in Way::ALL {
            assert_eq!(Way::named(way.name()).expect("its name"), way);
            let bell = Bell::new(way).expect("a bell");
            thread::scope(|scope| {
                let sleeper = scope.spawn(|| (0..2).try_for_each(|heard| bell.wait(heard)));
                // The second ring may come before the first was heard: both count.
                bell.ring().expect("a ring");
                thread::yield_now();
                bell.ring().expect("a ring");
                if way == Way::Pipe {
                    sleeper.join().expect("no panic").expect("two bytes");
                }
            });
        }
    }
}
