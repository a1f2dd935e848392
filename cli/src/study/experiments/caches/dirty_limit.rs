//! How much written data may wait in memory for the disk.
//!
//! The machine has one limit for all. Each device may have a lower one of its own, which the study
//! sets for its own loop device only, and restores.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::study::places::cleanup::{Guard, guard};

/// The bytes that may wait for the disks of this machine, as the kernel computes them at present.
pub fn of_machine() -> Option<u64> {
    threshold(&fs::read_to_string("/proc/vmstat").ok()?)
}

/// The pages of `nr_dirty_threshold`, in bytes.
fn threshold(vmstat: &str) -> Option<u64> {
    let mut lines = vmstat.lines();
    let pages = lines.find_map(|line| line.strip_prefix("nr_dirty_threshold "))?;
    Some(pages.trim().parse::<u64>().ok()? * rustix::param::page_size() as u64)
}

/// Lets at most `bytes` bytes wait for `device`, until the guard is dropped.
pub fn set_for(device: &Path, bytes: u64) -> Result<Guard> {
    let number = fs::metadata(device)?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let dir = PathBuf::from(format!("/sys/class/bdi/{major}:{minor}"));
    let before = |name: &str| -> Result<(PathBuf, String)> {
        let path = dir.join(name);
        let value = fs::read_to_string(&path);
        let value = value.with_context(|| format!("no {}", path.display()))?;
        Ok((path, value))
    };
    let (strict, strict_before) = before("strict_limit")?;
    // The kernel keeps the limit as a part of the machine's, which changes all the time.
    let (part, part_before) = before("max_ratio_fine")?;
    let most = dir.join("max_bytes");
    let restore = [(part, part_before), (strict.clone(), strict_before)];
    let guard = guard(move || {
        for (path, value) in restore {
            // The device may be gone.
            let _ = fs::write(path, value);
        }
    });
    fs::write(&most, bytes.to_string()).with_context(|| format!("{}", most.display()))?;
    fs::write(&strict, "1").with_context(|| format!("{}", strict.display()))?;
    Ok(guard)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{of_machine, set_for, threshold};

    #[test]
    fn the_threshold_is_in_pages() {
        let page = rustix::param::page_size() as u64;
        let text = "nr_dirty 5\nnr_dirty_threshold 1000\nnr_dirty_background_threshold 500\n";
        assert_eq!(threshold(text), Some(1000 * page));
        assert_eq!(threshold("nr_dirty 5\n"), None);
        assert!(of_machine().is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn a_limit_is_restored() {
        // The kernel makes eight loop devices at boot, and no other test uses the last one.
        let limits = || {
            let values = ["strict_limit", "max_ratio_fine"]
                .map(|name| fs::read_to_string(format!("/sys/class/bdi/7:7/{name}")));
            let [strict, part] = values;
            Some((strict.ok()?, part.ok()?))
        };
        let before = limits();
        match set_for("/dev/loop7".as_ref(), 16 << 20) {
            Ok(guard) => {
                let strict = limits().expect("the settings").0;
                assert_eq!(strict.trim(), "1");
                drop(guard);
            }
            Err(error) => eprintln!("skipped: /dev/loop7: {error:#}"),
        }
        assert_eq!(limits(), before);
    }
}
