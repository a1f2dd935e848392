//! Lines for the person who runs the program: `aioshim: ...`, to standard error or `AIOSHIM_OUT`. Past our own hooks.

use crate::conf::Level;
use crate::{start, sys};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsRawFd;

/// Writes `line` when `AIOSHIM_LOG` lets `level` through.
pub fn say(level: Level, line: std::fmt::Arguments<'_>) {
    if level <= start::conf().log {
        write(format!("aioshim: {line}\n").as_bytes());
    }
}

/// Appends `text` to `AIOSHIM_OUT`; to standard error without it, or when it cannot be opened (said as well).
pub fn write(text: &[u8]) {
    let Some(pattern) = &start::conf().out else {
        return sys::write_all(libc::STDERR_FILENO, text);
    };
    let path = out_path(pattern, rustix::process::getpid().as_raw_nonzero().get());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    match rustix::fs::open(path.as_slice(), flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => {
            sys::write_all(file.as_raw_fd(), text);
            // Rust's own drop would go through libc's close, which is our hook.
            let _ = sys::close(std::os::fd::IntoRawFd::into_raw_fd(file));
        }
        Err(error) => {
            let path = String::from_utf8_lossy(&path);
            let line = format!("aioshim: AIOSHIM_OUT={path}: {error}; using standard error\n");
            sys::write_all(libc::STDERR_FILENO, line.as_bytes());
            sys::write_all(libc::STDERR_FILENO, text);
        }
    }
}

fn out_path(pattern: &[u8], pid: i32) -> Vec<u8> {
    let mut path = Vec::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some(at) = rest.windows(2).position(|w| w == b"%p") {
        path.extend_from_slice(&rest[..at]);
        path.extend_from_slice(pid.to_string().as_bytes());
        rest = &rest[at + 2..];
    }
    path.extend_from_slice(rest);
    path
}

#[cfg(test)]
mod tests {
    use super::out_path;

    #[test]
    fn percent_p_becomes_the_process_id() {
        assert_eq!(out_path(b"/tmp/a.%p.b%p", 17), b"/tmp/a.17.b17");
        assert_eq!(out_path(b"plain%", 17), b"plain%");
    }
}
