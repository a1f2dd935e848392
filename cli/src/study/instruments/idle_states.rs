//! The idle states of the processors: where an idle processor waits, and how long it takes to
//! leave that state.

use std::fs;
use std::path::Path;

/// One idle state, as the kernel describes it for processor 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleState {
    pub name: String,
    /// Microseconds that it takes to leave the state, as the kernel's driver says.
    pub latency_us: u64,
}

/// The idle states and who chooses among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdleStates {
    pub states: Vec<IdleState>,
    /// The kernel's driver, such as `intel_idle` or `haltpoll`.
    pub driver: String,
    /// Whether this is a virtual machine, whose host uses states that are not visible here.
    pub virtual_machine: bool,
}

impl IdleStates {
    /// Reads the states of this machine.
    pub fn read() -> IdleStates {
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let virtual_machine = flags.split_whitespace().any(|word| word == "hypervisor");
        IdleStates::read_in(Path::new("/sys/devices/system/cpu"), virtual_machine)
    }

    fn read_in(cpus: &Path, virtual_machine: bool) -> IdleStates {
        let text = |path: &Path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.trim().to_owned()
        };
        let state = |number: usize| {
            let dir = cpus.join(format!("cpu0/cpuidle/state{number}"));
            let name = text(&dir.join("name"));
            (!name.is_empty()).then(|| IdleState {
                name,
                latency_us: text(&dir.join("latency")).parse().unwrap_or_default(),
            })
        };
        IdleStates {
            states: (0..).map_while(state).collect(),
            driver: text(&cpus.join("cpuidle/current_driver")),
            virtual_machine,
        }
    }

    /// Names the states in a sentence.
    pub fn describe(&self) -> String {
        let names: Vec<String> = self
            .states
            .iter()
            .map(|state| format!("{} ({} us to leave)", state.name, state.latency_us))
            .collect();
        let mut text = match names.is_empty() {
            true => "The kernel shows no idle states".to_owned(),
            false => format!("Idle states of {}: {}", self.driver, names.join(", ")),
        };
        if self.virtual_machine {
            text += "; this is a virtual machine, and the host's own idle states are not visible";
        }
        text + "."
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::IdleStates;

    #[test]
    fn states_are_read_until_the_last() {
        let dir = tempfile::tempdir().expect("a directory");
        for (number, name, latency) in [(0, "POLL", 0), (1, "C1", 2), (2, "C6", 133)] {
            let state = dir.path().join(format!("cpu0/cpuidle/state{number}"));
            fs::create_dir_all(&state).expect("a directory");
            fs::write(state.join("name"), format!("{name}\n")).expect("a file");
            fs::write(state.join("latency"), format!("{latency}\n")).expect("a file");
        }
        fs::create_dir(dir.path().join("cpuidle")).expect("a directory");
        let driver = dir.path().join("cpuidle/current_driver");
        fs::write(driver, "intel_idle\n").expect("a file");
        let states = IdleStates::read_in(dir.path(), false);
        assert_eq!(states.states.len(), 3);
        assert_eq!(states.states[2].latency_us, 133);
        assert_eq!(
            states.describe(),
            "Idle states of intel_idle: POLL (0 us to leave), C1 (2 us to leave), C6 (133 us to \
            leave)."
        );
    }

    #[test]
    fn a_machine_without_states_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = IdleStates::read_in(dir.path(), true).describe();
        assert!(text.starts_with("The kernel shows no idle states; this is a virtual"));
    }
}
