//! The machine that is studied, and the rights of this process on it.

use crate::bench::Bench;
use crate::bench::environment::Environment;

/// What experiments know of the machine.
pub struct Machine {
    /// The benchmark programs, the directory for files, and whether the study is a quick one.
    pub bench: Bench,
    pub environment: Environment,
    /// The number of processors that this process may use.
    pub processors: usize,
}

impl Machine {
    pub fn new(bench: Bench, environment: Environment) -> Machine {
        Machine {
            bench,
            environment,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Returns the first of a pair in a quick study, else the second.
    pub fn pick<T>(&self, pair: (T, T)) -> T {
        self.bench.pick(pair)
    }
}
