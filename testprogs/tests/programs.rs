//! Every program prints the same on pthreads, on fibers, on fibers with the preload, and where
//! io_uring is refused.

use std::fs;
use std::path::{Path, PathBuf};

use testprogs::{Flavor, Refusal, Run, Scratch, c_sources, program};

/// A program and its arguments.
struct Case {
    program: &'static str,
    /// Makes the arguments from the input directory and an empty output directory.
    args: fn(input: &Path, output: &Path) -> Vec<PathBuf>,
    /// Numbers of workers for the runs in which a read or write blocks its OS thread.
    blocking_workers: [u32; 2],
}

/// The variants of a run, which must all give the same output.
#[derive(Clone, Copy)]
enum On {
    Threads,
    Fibers(u32),
    Preloaded(u32),
    Engine(&'static str, u32),
    Refused(Refusal, u32),
}

/// The engines that can be chosen by name, except for the first, which `auto` uses here.
const ENGINES: [&str; 2] = ["aio", "threads"];

impl Case {
    /// The output of one flavor in one variant.
    fn output(&self, flavor: Flavor, on: On, input: &Scratch) -> String {
        let output = Scratch::new();
        let run =
            Run::new(program(self.program, flavor)).args((self.args)(input.path(), output.path()));
        match on {
            On::Threads => run.arg("--threads"),
            On::Fibers(workers) => run.args(["-w", &workers.to_string()]),
            On::Preloaded(workers) => run.args(["-w", &workers.to_string()]).preload(true),
            On::Engine(engine, workers) => run
                .args(["-w", &workers.to_string()])
                .preload(true)
                .env("AIOSHIM_ENGINE", engine),
            On::Refused(refusal, workers) => {
                let launcher = refusal.launcher().expect("tried before");
                run.args(["-w", &workers.to_string()])
                    .preload(true)
                    .under(launcher)
            }
        }
        .output()
    }

    fn same_everywhere(&self) {
        let input = input();
        let expected = self.output(Flavor::Plain, On::Threads, &input);
        assert!(expected.contains("checksum"), "{expected}");
        let [few, many] = self.blocking_workers;
        let ways = [
            On::Threads,
            On::Fibers(few),
            On::Fibers(many),
            On::Preloaded(1),
            On::Preloaded(3),
        ];
        for flavor in Flavor::ALL {
            for on in ways {
                assert_eq!(
                    self.output(flavor, on, &input),
                    expected,
                    "{} {flavor:?}",
                    self.program
                );
            }
        }
    }

    fn same_on_every_engine(&self) {
        let input = input();
        let expected = self.output(Flavor::Plain, On::Threads, &input);
        for engine in ENGINES {
            for workers in [1, 3] {
                let output = self.output(Flavor::Lfs64, On::Engine(engine, workers), &input);
                assert_eq!(output, expected, "{} on {engine}", self.program);
            }
        }
        for workers in self.blocking_workers {
            let output = self.output(Flavor::Lfs64, On::Engine("sync", workers), &input);
            assert_eq!(output, expected, "{} on sync", self.program);
        }
    }

    fn same_where_refused(&self) {
        if Refusal::ALL[0].launcher().is_none() {
            return;
        }
        let input = input();
        let expected = self.output(Flavor::Plain, On::Threads, &input);
        for refusal in Refusal::ALL {
            for workers in [1, 3] {
                let output = self.output(Flavor::Fortify, On::Refused(refusal, workers), &input);
                assert_eq!(output, expected, "{} with {refusal:?}", self.program);
            }
        }
    }
}

/// The input of the programs: a large file, a tree with some unusual entries, and texts.
fn input() -> Scratch {
    let dir = Scratch::new();
    dir.file("large", noise(2 << 20));
    let tree = dir.subdir("tree");
    for (i, size) in [0, 1, 4095, 4096, 4097, 65536, 200_000]
        .into_iter()
        .cycle()
        .take(60)
        .enumerate()
    {
        let sub = tree.join(format!("d{}/e{}", i % 4, i % 3));
        fs::create_dir_all(&sub).expect("a directory");
        fs::write(sub.join(format!("f{i}")), &noise(size + i)[i..]).expect("a file");
    }
    fs::create_dir(tree.join("empty")).expect("a directory");
    std::os::unix::fs::symlink("nowhere", tree.join("d0/link")).expect("a link");
    dir
}

/// Pseudorandom bytes that are the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// The C sources, as input for wordcount.
fn sources() -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = ["apps", "file"]
        .map(|family| c_sources().join(family))
        .iter()
        .flat_map(|dir| {
            fs::read_dir(dir)
                .expect("the sources")
                .map(|entry| entry.expect("an entry").path())
        })
        .filter(|path| path.is_file())
        .collect();
    sources.sort();
    sources
}

fn words(words: &[&str], path: PathBuf) -> Vec<PathBuf> {
    words.iter().map(PathBuf::from).chain([path]).collect()
}

macro_rules! cases {
    ($($name:ident: $program:literal, $args:expr, $workers:expr;)*) => {$(
        mod $name {
            use super::*;

            const CASE: Case = Case { program: $program, args: $args, blocking_workers: $workers };

            #[test]
            fn prints_the_same_on_threads_on_fibers_and_with_the_preload() {
                CASE.same_everywhere();
            }

            #[test]
            fn prints_the_same_on_every_engine() {
                CASE.same_on_every_engine();
            }

            #[test]
            fn prints_the_same_where_io_uring_is_refused() {
                CASE.same_where_refused();
            }
        }
    )*};
}

cases! {
    randread_direct: "apps/randread",
        |input, _| words(&["-r50", "--direct"], input.join("large")), [1, 3];
    randread_cold: "apps/randread",
        |input, _| words(&["-r50", "--cold"], input.join("large")), [1, 3];
    randread_cached: "apps/randread", |input, _| words(&["-r50"], input.join("large")), [1, 3];
    copytree: "apps/copytree",
        |input, output| words(&["-b5000"], input.join("tree"))
            .into_iter().chain([output.join("copy")]).collect(), [1, 3];
    copytree_synced: "apps/copytree",
        |input, output| words(&["--sync", "-n8"], input.join("tree"))
            .into_iter().chain([output.join("copy")]).collect(), [1, 3];
    wordcount: "apps/wordcount",
        |_, _| [PathBuf::from("-b700")].into_iter().chain(sources()).collect(), [1, 3];
    applog: "apps/applog", |_, output| words(&["-n16", "-r10"], output.join("log")), [1, 3];
    applog_data: "apps/applog",
        |_, output| words(&["--data", "--every", "5"], output.join("log")), [1, 3];
    kvstore: "apps/kvstore", |_, output| words(&["-r60"], output.join("store")), [1, 3];
    // The tasks wait for each other inside read and write. If these block, each task needs its own
    // worker.
    pipeline: "apps/pipeline", |_, _| vec!["-n6".into()], [8, 9];
}

#[test]
fn each_program_explains_itself() {
    for name in [
        "randread",
        "copytree",
        "wordcount",
        "applog",
        "kvstore",
        "pipeline",
    ] {
        let run = Run::new(program(&format!("apps/{name}"), Flavor::Plain));
        let help = run.clone().arg("--help").output();
        assert!(
            help.starts_with(name) && help.contains("--threads") && help.contains("-n N"),
            "{help}"
        );
        let outcome = run.arg("--no-such-option").run();
        assert_eq!(outcome.status.code(), Some(1), "{}", outcome.report());
    }
}
