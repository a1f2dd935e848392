//! The kernel's counts for the whole machine: interrupts, soft interrupts and the time they take.

use std::collections::BTreeMap;
use std::fs;

/// All counts since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// The interrupts of each line of /proc/interrupts, by its description.
    pub interrupts: BTreeMap<String, u64>,
    /// The soft interrupts by name, such as BLOCK.
    pub soft_interrupts: BTreeMap<String, u64>,
    /// Clock ticks in interrupts and soft interrupts, of all processors.
    pub interrupt_ticks: u64,
}

impl KernelCounts {
    /// Reads the counts. What the kernel does not show is empty.
    pub fn read() -> KernelCounts {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        KernelCounts {
            interrupts: table(&text("/proc/interrupts")),
            soft_interrupts: table(&text("/proc/softirqs")),
            interrupt_ticks: interrupt_ticks(&text("/proc/stat")),
        }
    }

    /// The counts since `earlier`; lines without change are left out.
    pub fn since(&self, earlier: &KernelCounts) -> KernelCounts {
        KernelCounts {
            interrupts: difference(&self.interrupts, &earlier.interrupts),
            soft_interrupts: difference(&self.soft_interrupts, &earlier.soft_interrupts),
            interrupt_ticks: self.interrupt_ticks.saturating_sub(earlier.interrupt_ticks),
        }
    }

    /// The interrupts of devices: those that have a number. The others are the kernel's own.
    pub fn of_devices(&self) -> u64 {
        let numbered = |name: &&String| name.starts_with(|c: char| c.is_ascii_digit());
        let names = self.interrupts.keys().filter(numbered);
        names.map(|name| self.interrupts[name]).sum()
    }
}

/// The table of /proc/interrupts and /proc/softirqs: a header with the processors, then lines of a
/// name, a count for each processor, and a description.
fn table(text: &str) -> BTreeMap<String, u64> {
    let mut lines = text.lines();
    let processors = lines.next().unwrap_or_default().split_whitespace().count();
    lines
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let words: Vec<&str> = rest.split_whitespace().collect();
            let counts = words.iter().take(processors);
            let sum = counts.map_while(|word| word.parse::<u64>().ok()).sum();
            let description = words.get(processors..).unwrap_or_default().join(" ");
            let name = format!("{} {description}", name.trim());
            Some((name.trim().to_owned(), sum))
        })
        .collect()
}

/// The sixth and seventh figure of the first line of /proc/stat.
fn interrupt_ticks(text: &str) -> u64 {
    let first = text.lines().next().unwrap_or_default();
    let figures = first.split_whitespace().skip(6).take(2);
    figures.filter_map(|word| word.parse::<u64>().ok()).sum()
}

fn difference(
    now: &BTreeMap<String, u64>,
    before: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    now.iter()
        .map(|(name, count)| {
            let earlier = before.get(name).copied().unwrap_or_default();
            (name.clone(), count.saturating_sub(earlier))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{KernelCounts, interrupt_ticks, table};

    const INTERRUPTS: &str = "           CPU0       CPU1
 36:          3   37352133 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
LOC:   49534112   46969455   Local timer interrupts
ERR:          0
";

    #[test]
    fn a_line_is_the_sum_of_all_processors() {
        let counts = table(INTERRUPTS);
        let disk = "36 PCI-MSIX-0000:00:02.0 1-edge virtio1-req.0";
        assert_eq!(counts[disk], 37_352_136);
        assert_eq!(counts["LOC Local timer interrupts"], 96_503_567);
        assert_eq!(counts["ERR"], 0);
    }

    #[test]
    fn the_difference_has_only_what_changed() {
        let counts = |disk: u64| KernelCounts {
            interrupts: table(&INTERRUPTS.replace("37352133", &disk.to_string())),
            ..KernelCounts::default()
        };
        let since = counts(150).since(&counts(100));
        assert_eq!(since.of_devices(), 50);
        assert_eq!(since.interrupts.len(), 1);
    }

    #[test]
    fn ticks_in_interrupts() {
        assert_eq!(interrupt_ticks("cpu  1 2 3 4 5 60 700 8 0 0\ncpu0 1"), 760);
        assert_eq!(interrupt_ticks(""), 0);
    }

    #[test]
    fn this_kernel_shows_soft_interrupts() {
        assert!(!KernelCounts::read().soft_interrupts.is_empty());
    }
}
