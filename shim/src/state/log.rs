//! Messages for the user of the program: lines `aioshim: ...` to standard error or `AIOSHIM_OUT`,
//! written without going through the shim's hooks.

use crate::state::options;
use crate::state::stderr;
use format::options::Level;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes `line` if `AIOSHIM_LOG` allows `level`.
pub fn say(level: Level, line: std::fmt::Arguments<'_>) {
    if level <= options::current().log {
        write(format!("aioshim: {line}\n").as_bytes());
    }
}

/// Appends `text` to `AIOSHIM_OUT`. Without that option, or if the file cannot be opened (which is
/// reported, too), writes it to standard error.
pub fn write(text: &[u8]) {
    let Some(pattern) = &options::current().out else {
        return stderr::write(text);
    };
    if let Err(refusal) = append(pattern, b"", text) {
        stderr::write(format!("aioshim: AIOSHIM_OUT={refusal}; using standard error\n").as_bytes());
        stderr::write(text);
    }
}

/// Reports a panic of the shim, which ends the process, like every other message.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        write(format!("aioshim: {panic}\n").as_bytes())
    }));
}

/// Appends `rows` to `AIOSHIM_TRACE`, after `header` if the file is empty. Reports the first
/// failure only.
pub fn append_trace(header: &str, rows: &str) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let Some(pattern) = &options::current().trace else {
        return;
    };
    if let Err(refusal) = append(pattern, header.as_bytes(), rows.as_bytes())
        && !WARNED.swap(true, Ordering::Relaxed)
    {
        say(
            Level::Warn,
            format_args!("AIOSHIM_TRACE={refusal}; no trace is written"),
        );
    }
}

/// Appends `text` to the file that `pattern` names, after `header` if the file is empty.
///
/// The file is opened with the rights that the process has now. A symbolic link is refused, because
/// in a directory that others can write to it could point anywhere. Only the user may read a file
/// that is created here.
fn append(pattern: &[u8], header: &[u8], text: &[u8]) -> Result<(), String> {
    let path = out_path(pattern, rustix::process::getpid().as_raw_nonzero().get());
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NOCTTY;
    let file =
        rustix::fs::open(path.as_slice(), flags, Mode::RUSR | Mode::WUSR).map_err(|error| {
            let path = String::from_utf8_lossy(&path);
            match error {
                rustix::io::Errno::LOOP => {
                    format!("{path}: a symbolic link, which is not followed")
                }
                error => format!("{path}: {error}"),
            }
        })?;
    if !header.is_empty() && sys::fstat(file.as_raw_fd()).is_ok_and(|stat| stat.st_size == 0) {
        sys::write_all(file.as_raw_fd(), header);
    }
    sys::write_all(file.as_raw_fd(), text);
    // Rust's drop would call libc's close, which is a hook of the shim.
    let _ = sys::close(std::os::fd::IntoRawFd::into_raw_fd(file));
    Ok(())
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
