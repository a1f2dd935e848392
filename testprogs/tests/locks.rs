//! Locks that the probes do not cover: the C++ library, preloaded allocators that lock inside
//! malloc, locks in signal handlers.

use testprogs::{Run, Scratch, cxx_program};

/// std::mutex and its variants, condition_variable, shared_mutex, waiting on atomics; call_once,
/// whose exceptions pass through the hook and whose callable is in thread-local variables; and a
/// thread that is cancelled in a wait.
#[test]
fn cxx_locks_on_fibers_and_threads() {
    let dir = Scratch::new();
    let Some(program) = cxx_program("sync/cxx_locks", &[], dir.path()) else {
        return;
    };
    let expected = Run::new(&program).output();
    assert!(expected.contains("cancelled: 1"), "{expected}");
    assert_eq!(
        Run::new(&program).preload(true).output(),
        expected,
        "threads"
    );
    for engine in ["uring", "aio", "threads", "sync"] {
        for workers in ["1", "3"] {
            let run = Run::new(&program).arg(workers).preload(true);
            assert_eq!(
                run.env("AIOSHIM_ENGINE", engine).output(),
                expected,
                "{engine}, {workers}"
            );
        }
    }
}
