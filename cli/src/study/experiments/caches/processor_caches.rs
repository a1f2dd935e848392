//! The sizes of the processor's caches.

use std::fs;
use std::path::Path;

/// The bytes of the second and the last level, as one processor sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorCaches {
    pub second: u64,
    pub last: u64,
}

impl ProcessorCaches {
    /// Reads the sizes of processor 0, or returns `None` where the kernel does not show them.
    pub fn read() -> Option<ProcessorCaches> {
        ProcessorCaches::read_in(Path::new("/sys/devices/system/cpu/cpu0/cache"))
    }

    fn read_in(dir: &Path) -> Option<ProcessorCaches> {
        let text = |path: &Path| fs::read_to_string(path).ok();
        let cache = |number: usize| {
            let dir = dir.join(format!("index{number}"));
            let level: u32 = text(&dir.join("level"))?.trim().parse().ok()?;
            let kind = text(&dir.join("type"))?;
            let size = size(text(&dir.join("size"))?.trim())?;
            Some((level, kind.trim() == "Instruction", size))
        };
        let caches: Vec<_> = (0..).map_while(cache).filter(|cache| !cache.1).collect();
        let of = |level: u32| caches.iter().find(|cache| cache.0 == level);
        let (_, _, last) = caches.iter().max_by_key(|cache| cache.0)?;
        Some(ProcessorCaches {
            second: of(2)?.2,
            last: *last,
        })
    }
}

/// The bytes of a size such as "32768K".
fn size(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    Some(number.parse::<u64>().ok()? << shift)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ProcessorCaches, size};

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("32K"), Some(32 << 10));
        assert_eq!(size("32M"), Some(32 << 20));
        assert_eq!(size("512"), Some(512));
        assert_eq!(size(""), None);
        assert_eq!(size("xK"), None);
    }

    #[test]
    fn instruction_caches_do_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let caches = [
            ("1", "Data", "32K"),
            ("1", "Instruction", "64K"),
            ("2", "Unified", "1024K"),
            ("3", "Unified", "32768K"),
        ];
        for (number, (level, kind, size)) in caches.into_iter().enumerate() {
            let index = dir.path().join(format!("index{number}"));
            fs::create_dir(&index).expect("a directory");
            for (name, value) in [("level", level), ("type", kind), ("size", size)] {
                fs::write(index.join(name), format!("{value}\n")).expect("a file");
            }
        }
        let expected = ProcessorCaches {
            second: 1 << 20,
            last: 32 << 20,
        };
        assert_eq!(ProcessorCaches::read_in(dir.path()), Some(expected));
        assert_eq!(ProcessorCaches::read_in(&dir.path().join("none")), None);
    }
}
