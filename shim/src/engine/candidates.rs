//! The engines in order of preference, and which of them a thread gets.

use super::Engine;
use super::linux_aio::LinuxAio;
use super::threads::Threads;
use super::uring::{ForOne, Uring};
use crate::state::options;
use format::options::EngineChoice;
use once_cell::race::OnceBox;
use std::ffi::c_int;
use std::os::unix::ffi::OsStrExt;
use sys::errno::Errno;

/// An engine, and why the preferred ones were refused. The reasons go to the log and the
/// statistics.
pub struct EngineSelection {
    pub engine: Option<Box<dyn Engine>>,
    pub rejections: Vec<String>,
    /// An engine was refused because no descriptor number was free, which the program caused
    /// itself.
    pub out_of_descriptors: bool,
}

/// Creates the calling thread's engine: the chosen one, or the next one that the kernel grants.
/// `wake_fd` is an eventfd that must end the engine's waits; without it there is no engine and the
/// thread pool does everything. `has_one_fiber` says that the program knows this thread only as an
/// ordinary thread.
pub fn make(choice: EngineChoice, wake_fd: Option<c_int>, has_one_fiber: bool) -> EngineSelection {
    type Candidate = (
        EngineChoice,
        &'static str,
        fn(c_int) -> Result<Box<dyn Engine>, Errno>,
    );
    let uring: fn(c_int) -> Result<Box<dyn Engine>, Errno> = if has_one_fiber {
        |fd| Ok(Box::new(ForOne(Uring::new(fd)?)))
    } else {
        |fd| Ok(Box::new(Uring::new(fd)?))
    };
    let candidates: [Candidate; 3] = [
        (EngineChoice::Uring, "io_uring", uring),
        (EngineChoice::Aio, "Linux AIO", |fd| {
            Ok(Box::new(LinuxAio::new(fd)?))
        }),
        (EngineChoice::Threads, "threads", |fd| {
            Ok(Box::new(Threads::new(fd)?))
        }),
    ];
    let mut rejections = Vec::new();
    let mut out_of_descriptors = false;
    for (candidate, name, make) in candidates {
        if candidate < choice {
            continue;
        }
        match wake_fd.ok_or(Errno::MFILE).and_then(make) {
            Ok(engine) => {
                return EngineSelection {
                    engine: Some(engine),
                    rejections,
                    out_of_descriptors,
                };
            }
            Err(Errno::MFILE) => {
                rejections.push(format!(
                    "{name}: no descriptor number from {} up is free",
                    sys::LEAST
                ));
                out_of_descriptors = true;
            }
            Err(error) => rejections.push(format!("{name}: {error}")),
        }
    }
    let engine =
        out_of_descriptors.then(|| Box::new(Threads::without_descriptors()) as Box<dyn Engine>);
    EngineSelection {
        engine,
        rejections,
        out_of_descriptors,
    }
}

/// The first engine that a thread may try. Valgrind runs one thread at a time, and it runs no other
/// thread during a blocking call that it does not know, such as io_uring_enter. Therefore io_uring
/// is used under valgrind only if AIOSHIM_ENGINE names it, for counting the instructions of a
/// single-threaded program.
pub fn first() -> EngineChoice {
    if options::current().engine != EngineChoice::Uring && is_under_valgrind() {
        EngineChoice::Threads
    } else {
        EngineChoice::Auto
    }
}

/// Whether the program runs under valgrind, which preloads a library of its own.
fn is_under_valgrind() -> bool {
    static UNDER_VALGRIND: OnceBox<bool> = OnceBox::new();
    *UNDER_VALGRIND.get_or_init(|| {
        let preloaded = std::env::var_os("LD_PRELOAD").unwrap_or_default();
        Box::new(
            preloaded
                .as_bytes()
                .windows(10)
                .any(|name| name == b"vgpreload_"),
        )
    })
}

/// Selects the replacement for `engine`, which the kernel refuses with `error`: the next engine, or
/// a new one of the same kind if the program merely closed its descriptor.
pub fn successor(engine: &dyn Engine, error: Errno) -> EngineChoice {
    match engine.choice() {
        candidate if error == Errno::BADF => candidate,
        EngineChoice::Auto | EngineChoice::Uring => EngineChoice::Aio,
        EngineChoice::Aio => EngineChoice::Threads,
        EngineChoice::Threads | EngineChoice::Sync => EngineChoice::Sync,
    }
}
