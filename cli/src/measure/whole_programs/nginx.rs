//! nginx as a reference for the file server: an epoll loop in each of its workers, with sendfile.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process, set_parent_process_death_signal};

use super::processors::{PROCESSORS, restrict};
use crate::bench::programs::scrub;

/// How long it may take until nginx accepts connections.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running nginx. It is stopped when this is dropped.
pub struct Nginx {
    pub port: u16,
    child: Child,
}

impl Nginx {
    /// The name and version of the installed one.
    pub fn version() -> Option<String> {
        let output = Command::new(find()?).arg("-v").output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let version = said.trim().strip_prefix("nginx version: ")?;
        Some(version.replace('/', " "))
    }

    /// Starts it on a free port for the files in `www`; its own files are put in `dir`.
    pub fn start(dir: &Path, www: &Path) -> Result<Nginx> {
        let own = dir.join("nginx");
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let free = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        let port = free.local_addr()?.port();
        drop(free);
        let conf = own.join("nginx.conf");
        fs::write(&conf, configuration(port, www, geteuid().is_root()))
            .with_context(|| format!("cannot write {}", conf.display()))?;
        let log = own.join("log");
        let errors =
            fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(find().context("nginx is not installed")?);
        command
            .arg("-p")
            .arg(&own)
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        scrub(&mut command);
        restrict(&mut command, false)?;
        // SAFETY: the closure runs in the child between fork and exec, where only
        // async-signal-safe functions are allowed. It makes one system call and does not allocate.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let child = command.spawn().context("cannot start nginx")?;
        let mut nginx = Nginx { port, child };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err()
            || nginx.workers()?.len() < PROCESSORS
        {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = nginx.child.try_wait()? {
                bail!("nginx: {status}. {}", said().trim());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "nginx accepts no connections. {}",
                said().trim()
            );
            thread::sleep(Duration::from_millis(2));
        }
        Ok(nginx)
    }

    /// The processor time that its workers have used.
    pub fn cpu_us(&self) -> Result<f64> {
        let of = |pid: String| {
            let path = format!("/proc/{pid}/schedstat");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            nanoseconds(&text).with_context(|| format!("{path}: {text:?}"))
        };
        let each: Result<Vec<f64>> = self.workers()?.into_iter().map(of).collect();
        Ok(each?.iter().sum::<f64>() / 1000.0)
    }

    /// The process ids of its workers.
    fn workers(&self) -> Result<Vec<String>> {
        let master = self.child.id();
        let path = format!("/proc/{master}/task/{master}/children");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only if it has already ended. Killed, it would leave its workers behind.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Its directory is often not in a user's PATH.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join("nginx"))
        .find(|file| file.is_file())
}

/// The first number of a schedstat file: the time on a processor.
fn nanoseconds(schedstat: &str) -> Option<f64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Settings as in Debian, except for paths, limits, and the access log, which our server does not
/// have either.
fn configuration(port: u16, www: &Path, root: bool) -> String {
    // Workers of root's nginx would run as a user who may not be able to read the files.
    let user = if root { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {name};\n"))
        .concat();
    format!(
        "{user}daemon off;\n\
        worker_processes {PROCESSORS};\n\
        worker_rlimit_nofile 8192;\n\
        pid pid;\n\
        error_log stderr error;\n\
        events {{ worker_connections 4096; }}\n\
        http {{\n{temporary}\
        \x20   access_log off;\n\
        \x20   sendfile on;\n\
        \x20   tcp_nopush on;\n\
        \x20   keepalive_requests 1000000;\n\
        \x20   server {{\n\
        \x20       listen 127.0.0.1:{port} backlog=4096;\n\
        \x20       root \"{}\";\n\
        \x20   }}\n\
        }}\n",
        www.display()
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{configuration, nanoseconds};

    #[test]
    fn schedstat_begins_with_the_time_on_a_processor() {
        assert_eq!(nanoseconds("1500 20 3\n"), Some(1500.0));
        assert_eq!(nanoseconds(""), None);
    }

    #[test]
    fn only_root_names_a_user() {
        let of = |root| configuration(4096, Path::new("/srv"), root);
        assert!(of(true).starts_with("user root;\ndaemon off;\n"));
        assert!(of(false).starts_with("daemon off;\n"));
        assert!(of(false).contains("        listen 127.0.0.1:4096 backlog=4096;\n"));
        assert!(of(false).contains("    proxy_temp_path proxy;\n"));
    }
}
