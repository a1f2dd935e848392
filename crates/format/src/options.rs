//! The options: the `AIOSHIM*` environment variables, one table row each. A bad value is reported
//! once, and the default is used.

use std::fmt::Write;

/// The value of `AIOSHIM_ENGINE`: the first engine to try. The next ones are fallbacks; `Sync`
/// comes after the last of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EngineChoice {
    Auto,
    Uring,
    Aio,
    Threads,
    Sync,
}

/// The largest value of `AIOSHIM_THREADS`.
const MAX_THREADS: usize = 4096;

/// The value of `AIOSHIM_STATS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatsFormat {
    Off,
    Table,
    Json,
}

/// The value of `AIOSHIM_LOG`; each level includes the levels before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conf {
    pub on: bool,
    /// The main thread of a program that does not use fibers becomes a fiber.
    pub main_is_fiber: bool,
    pub engine: EngineChoice,
    /// Lock calls are converted.
    pub locks: bool,
    /// The maximum number of threads of the offload pool.
    pub threads: usize,
    pub stats: StatsFormat,
    pub log: Level,
    /// Where statistics and log lines are written; None is standard error. `%p` stands for the
    /// process id.
    pub out: Option<Vec<u8>>,
    /// Where the trace of the calls on fibers is written, with `%p` as in `out`; None is no trace.
    pub trace: Option<Vec<u8>>,
    /// Count blocking system calls that no hook sees.
    pub escapes: bool,
    /// Check for mistakes of the scheduler.
    pub check: bool,
    /// A fiber that does not yield for this many nanoseconds is reported.
    pub stall: Option<u64>,
}

impl Conf {
    pub const DEFAULT: Self = Self {
        on: true,
        main_is_fiber: false,
        engine: EngineChoice::Auto,
        locks: true,
        threads: 128,
        stats: StatsFormat::Off,
        log: Level::Warn,
        out: None,
        trace: None,
        escapes: false,
        check: false,
        stall: None,
    };

    /// The shim is off and silent.
    pub const PASS_THROUGH: Self = Self {
        on: false,
        log: Level::Off,
        ..Self::DEFAULT
    };
}

/// One option: its name, a description of its values, and the setter, which returns false for a bad
/// value.
struct Option_ {
    name: &'static str,
    takes: &'static str,
    set: fn(&mut Conf, &str) -> bool,
}

/// The values of an option that is on or off.
const SWITCH: &str = "on or off, or 1 or 0";

/// All options. The README's table lists the same rows; a test compares them.
const OPTIONS: [Option_; 12] = [
    Option_ {
        name: "AIOSHIM",
        takes: SWITCH,
        set: |c, v| switch(&mut c.on, v),
    },
    Option_ {
        name: "AIOSHIM_MAIN",
        takes: "thread or fiber",
        set: |c, v| {
            choose(
                &mut c.main_is_fiber,
                v,
                &[("thread", false), ("fiber", true)],
            )
        },
    },
    Option_ {
        name: "AIOSHIM_ENGINE",
        takes: "auto, uring, aio, threads or sync",
        set: |c, v| {
            use EngineChoice::{Aio, Auto, Sync, Threads, Uring};
            let words = [
                ("auto", Auto),
                ("uring", Uring),
                ("aio", Aio),
                ("threads", Threads),
                ("sync", Sync),
            ];
            choose(&mut c.engine, v, &words)
        },
    },
    Option_ {
        name: "AIOSHIM_LOCKS",
        takes: SWITCH,
        set: |c, v| switch(&mut c.locks, v),
    },
    Option_ {
        name: "AIOSHIM_THREADS",
        takes: "a number from 1 to 4096",
        set: |c, v| match v.parse() {
            Ok(threads @ 1..=MAX_THREADS) => {
                c.threads = threads;
                true
            }
            _ => false,
        },
    },
    Option_ {
        name: "AIOSHIM_STATS",
        takes: "0, 1 or json",
        set: |c, v| {
            use StatsFormat::{Json, Off, Table};
            choose(&mut c.stats, v, &[("0", Off), ("1", Table), ("json", Json)])
        },
    },
    Option_ {
        name: "AIOSHIM_LOG",
        takes: "off, error, warn, info or debug",
        set: |c, v| {
            use Level::{Debug, Error, Info, Off, Warn};
            choose(
                &mut c.log,
                v,
                &[
                    ("off", Off),
                    ("error", Error),
                    ("warn", Warn),
                    ("info", Info),
                    ("debug", Debug),
                ],
            )
        },
    },
    Option_ {
        name: "AIOSHIM_OUT",
        takes: "a file path, in which %p stands for the process id",
        set: |c, v| {
            c.out = Some(v.as_bytes().to_vec());
            true
        },
    },
    Option_ {
        name: "AIOSHIM_TRACE",
        takes: "a file path, in which %p stands for the process id",
        set: |c, v| {
            c.trace = Some(v.as_bytes().to_vec());
            true
        },
    },
    Option_ {
        name: "AIOSHIM_ESCAPES",
        takes: SWITCH,
        set: |c, v| switch(&mut c.escapes, v),
    },
    Option_ {
        name: "AIOSHIM_CHECK",
        takes: SWITCH,
        set: |c, v| switch(&mut c.check, v),
    },
    Option_ {
        name: "AIOSHIM_STALL",
        takes: "a time of at least 100us, such as 10ms or 1s, or 0",
        set: |c, v| {
            let time = duration(v);
            if let Some(nanos) = time {
                c.stall = Some(nanos).filter(|nanos| *nanos > 0);
            }
            time.is_some()
        },
    },
];

/// Parses a number with a unit into nanoseconds; None if it is malformed or too short to watch for.
fn duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match &text[digits..] {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    let nanos = text[..digits].parse::<u64>().ok()?.checked_mul(unit)?;
    (nanos >= 100_000).then_some(nanos)
}

fn switch(slot: &mut bool, value: &str) -> bool {
    let words = [("on", true), ("off", false), ("1", true), ("0", false)];
    choose(slot, value, &words)
}

fn choose<T: Copy>(slot: &mut T, value: &str, words: &[(&str, T)]) -> bool {
    let Some((_, chosen)) = words.iter().find(|(word, _)| *word == value) else {
        return false;
    };
    *slot = *chosen;
    true
}

/// The names of all options.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|option| option.name)
}

/// Whether a variable of this name may be an option of the shim.
pub fn is_option(name: &[u8]) -> bool {
    name.starts_with(b"AIOSHIM")
}

/// The configuration that an environment gives, and one line for each mistake in it. An empty value
/// means the default.
pub fn read<'a>(environment: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> (Conf, Vec<String>) {
    let mut conf = Conf::DEFAULT;
    let mut complaints = Vec::new();
    for (name, value) in environment {
        if !is_option(name) || value.is_empty() {
            continue;
        }
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        let Some(option) = OPTIONS.iter().find(|o| o.name == name) else {
            complaints.extend(unknown(&name));
            continue;
        };
        if !(option.set)(&mut conf, &value) {
            complaints.push(format!(
                "{name}={value}: expected {}; using the default",
                option.takes
            ));
        }
    }
    if conf.escapes && conf.stats == StatsFormat::Off {
        // The statistics are the only place that reports them.
        conf.stats = StatsFormat::Table;
    }
    (conf, complaints)
}

/// Names that merely begin like ours (`AIOSHIMMER`), and names that the test suite and the launcher
/// use, are not reported.
fn unknown(name: &str) -> Option<String> {
    let ours = name.starts_with("AIOSHIM_")
        && !name.starts_with("AIOSHIM_TEST_")
        && name != "AIOSHIM_LIBDIR";
    if !ours {
        return None;
    }
    let nearest = OPTIONS
        .iter()
        .min_by_key(|o| strsim::damerau_levenshtein(o.name, name))?;
    let mut line = format!("{name}: no such option; ignored");
    if strsim::damerau_levenshtein(nearest.name, name) <= 3 {
        let _ = write!(line, "; did you mean {}?", nearest.name);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(environment: &[(&str, &str)]) -> (Conf, Vec<String>) {
        read(
            environment
                .iter()
                .map(|(n, v)| (n.as_bytes(), v.as_bytes())),
        )
    }

    #[test]
    fn an_environment_without_our_names_is_silent_and_the_default() {
        assert_eq!(
            of(&[("PATH", "/bin"), ("AIOSHIMMER", "x"), ("AIOSHIM_STATS", "")]),
            (Conf::DEFAULT, vec![])
        );
    }

    #[test]
    fn each_option_takes_its_words() {
        let (conf, complaints) = of(&[
            ("AIOSHIM", "off"),
            ("AIOSHIM_MAIN", "fiber"),
            ("AIOSHIM_ENGINE", "uring"),
            ("AIOSHIM_LOCKS", "off"),
            ("AIOSHIM_THREADS", "7"),
            ("AIOSHIM_STATS", "json"),
            ("AIOSHIM_LOG", "debug"),
            ("AIOSHIM_OUT", "/tmp/x.%p"),
            ("AIOSHIM_TRACE", "/tmp/trace"),
            ("AIOSHIM_ESCAPES", "1"),
            ("AIOSHIM_CHECK", "1"),
            ("AIOSHIM_STALL", "10ms"),
        ]);
        let expected = Conf {
            on: false,
            main_is_fiber: true,
            engine: EngineChoice::Uring,
            locks: false,
            threads: 7,
            stats: StatsFormat::Json,
            log: Level::Debug,
            out: Some(b"/tmp/x.%p".to_vec()),
            trace: Some(b"/tmp/trace".to_vec()),
            escapes: true,
            check: true,
            stall: Some(10_000_000),
        };
        assert_eq!((conf, complaints), (expected, vec![]));
    }

    #[test]
    fn a_switch_also_takes_a_digit() {
        let (conf, complaints) = of(&[("AIOSHIM", "0"), ("AIOSHIM_CHECK", "on")]);
        assert_eq!((conf.on, conf.check, complaints), (false, true, vec![]));
    }

    #[test]
    fn a_time_needs_a_unit() {
        assert_eq!(
            ["0", "100us", "2s"].map(duration),
            [Some(0), Some(100_000), Some(2_000_000_000)]
        );
        let wrong = [
            "",
            "10",
            "ms",
            "-1ms",
            "1.5ms",
            "99us",
            "1m",
            "99999999999999999999s",
            "9999999999999999s",
        ];
        assert_eq!(wrong.map(duration), [None; 9]);
    }

    #[test]
    fn the_readme_lists_the_same_options() {
        let readme = include_str!("../../../README.md");
        let rows: Vec<&str> = readme
            .lines()
            .filter_map(|l| l.strip_prefix("| `AIOSHIM")?.split('`').next())
            .collect();
        let options: Vec<&str> = OPTIONS
            .iter()
            .filter_map(|o| o.name.strip_prefix("AIOSHIM"))
            .collect();
        assert_eq!(rows, options);
    }

    #[test]
    fn a_bad_value_says_what_was_expected_and_what_is_used() {
        let (conf, complaints) = of(&[("AIOSHIM_STATS", "yes")]);
        assert_eq!(conf, Conf::DEFAULT);
        assert_eq!(
            complaints,
            ["AIOSHIM_STATS=yes: expected 0, 1 or json; using the default"]
        );
    }

    #[test]
    fn an_unknown_name_gets_the_nearest() {
        let (_, complaints) = of(&[("AIOSHIM_STAT", "1"), ("AIOSHIM_COLOUR_OF_BIKESHED", "red")]);
        assert_eq!(
            complaints,
            [
                "AIOSHIM_STAT: no such option; ignored; did you mean AIOSHIM_STATS?",
                "AIOSHIM_COLOUR_OF_BIKESHED: no such option; ignored"
            ]
        );
    }
}
