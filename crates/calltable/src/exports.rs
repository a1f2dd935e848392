//! Functions that the shim exports without a row, because they are variadic, written in assembly,
//! or replace the libc function instead of calling it.

/// Exported names, and the file of the shim that defines them.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    pub names: &'static [&'static str],
    /// The path below `shim/src`.
    pub file: &'static str,
    /// Whether libc has the names. If not, they belong to another library.
    pub of_libc: bool,
}

/// All of them, except the functions of aioshim.h.
pub static EXPORTS: &[Export] = &[
    Export {
        names: &["dprintf", "__dprintf_chk", "syslog", "__syslog_chk"],
        file: "entry/variadic.rs",
        of_libc: true,
    },
    Export {
        names: &["vfork", "__vfork"],
        file: "entry/vfork.rs",
        of_libc: true,
    },
    // libc has these since version 2.34.
    Export {
        names: &["close_range", "closefrom"],
        file: "calls/file.rs",
        of_libc: false,
    },
    Export {
        names: &["pthread_exit", "pthread_cancel"],
        file: "entry/main_fiber.rs",
        of_libc: true,
    },
    Export {
        names: &[
            "sigaction",
            "__sigaction",
            "signal",
            "ssignal",
            "bsd_signal",
            "sysv_signal",
            "__sysv_signal",
            "sigset",
        ],
        file: "runtime/signal/actions.rs",
        of_libc: true,
    },
    Export {
        names: &["longjmp", "_longjmp", "siglongjmp", "__longjmp_chk"],
        file: "runtime/signal/jump.rs",
        of_libc: true,
    },
    Export {
        names: &[
            "pthread_sigmask",
            "sigprocmask",
            "sigpending",
            "sigblock",
            "sigsetmask",
            "siggetmask",
            "sighold",
            "sigrelse",
            "pthread_create",
            "thrd_create",
            "posix_spawn",
            "posix_spawnp",
            "execl",
            "execle",
            "execlp",
            "execv",
            "execve",
            "execveat",
            "execvp",
            "execvpe",
            "fexecve",
        ],
        file: "runtime/signal/mask.rs",
        of_libc: true,
    },
    // From the C++ library.
    Export {
        names: &[
            "__cxa_guard_acquire",
            "__cxa_guard_release",
            "__cxa_guard_abort",
        ],
        file: "calls/statics.rs",
        of_libc: false,
    },
    Export {
        names: &["__cxa_get_globals", "__cxa_get_globals_fast"],
        file: "runtime/language.rs",
        of_libc: false,
    },
    // Used only by the sanitizer runtimes.
    Export {
        names: &["__asan_default_options", "__tsan_default_suppressions"],
        file: "entry/sanitizers.rs",
        of_libc: false,
    },
];
