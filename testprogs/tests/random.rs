//! Random scripts of file calls give the same output on fibers with the preload as in a plain
//! program.
//!
//! Hundreds of scripts run in one process, many at a time, each in its own directory. A script
//! whose output differs is shrunk until every line of it matters. `AIOSHIM_TEST_SEED` selects other
//! scripts, and `AIOSHIM_TEST_CASES` sets their number.

use std::fmt::{self, Display, Write};
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use testprogs::{Flavor, Run, Scratch, number, program, target_dir};

const CASES: u64 = 10_000;
const BATCH: usize = 500;
const SEED: u64 = 20_160_601;

/// One line of a script, in the format that `file/script` reads.
#[derive(Clone, Debug)]
struct Call {
    letter: char,
    slot: i64,
    args: Vec<i64>,
}

impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.letter, self.slot)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

type Script = Vec<Call>;

fn length() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => 0..200_i64,
        2 => 0..9000_i64,
        2 => prop::sample::select(vec![0, 512, 4096, 8192]),
        1 => 4000..4200_i64,
    ]
}

fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..9000_i64,
        2 => prop::sample::select(vec![0, 512, 4096, 8192]),
        1 => 9000..30_000_i64,
        1 => -3..3_i64,
    ]
}

/// Flags for open, mostly ones that create a file to work with. O_DIRECT is left out: a misaligned
/// direct write that fails with EINVAL may or may not change the file, even in plain runs. The
/// probes `direct` and `full` test it.
fn open_flags() -> impl Strategy<Value = i64> {
    let mode = prop::sample::select(vec![
        libc::O_RDWR,
        libc::O_RDWR,
        libc::O_RDONLY,
        libc::O_WRONLY,
    ]);
    let creation = prop::sample::select(vec![
        libc::O_CREAT,
        libc::O_CREAT,
        0,
        libc::O_CREAT | libc::O_EXCL,
    ]);
    // A synchronous write waits for the disk in both runs, so it is rare.
    let rest = prop_oneof![
        12 => Just(0),
        2 => Just(libc::O_TRUNC),
        4 => Just(libc::O_APPEND),
        2 => Just(libc::O_NONBLOCK),
        1 => Just(libc::O_DSYNC),
    ];
    (mode, creation, rest).prop_map(|(mode, creation, rest)| i64::from(mode | creation | rest))
}

fn call() -> impl Strategy<Value = Call> {
    // There are few slots, so a call usually finds an open one; the others are for dup.
    let slot = || prop_oneof![4 => 0..3_i64, 1 => 3..8_i64];
    let make = |letter: char, args: BoxedStrategy<Vec<i64>>| {
        (slot(), args)
            .prop_map(move |(slot, args)| Call { letter, slot, args })
            .boxed()
    };
    let none = || Just(Vec::new()).boxed();
    let one = |a: BoxedStrategy<i64>| a.prop_map(|a| vec![a]).boxed();
    let two =
        |a: BoxedStrategy<i64>, b: BoxedStrategy<i64>| (a, b).prop_map(|(a, b)| vec![a, b]).boxed();
    let three = || vec(0..4000_i64, 3).boxed();
    let flags = prop::sample::select(vec![
        0,
        i64::from(libc::O_APPEND),
        i64::from(libc::O_NONBLOCK),
    ]);
    prop_oneof![
        10 => make('o', two((0..3_i64).boxed(), open_flags().boxed())),
        10 => make('r', one(length().boxed())),
        12 => make('w', two(length().boxed(), (0..100_i64).boxed())),
        8 => make('R', two(length().boxed(), offset().boxed())),
        8 => make('W', two(length().boxed(), offset().boxed())),
        4 => make('v', three()),
        5 => make('V', three()),
        8 => make('l', two(offset().boxed(), (0..5_i64).boxed())),
        3 => make('d', one((0..8_i64).boxed())),
        3 => make('D', one((0..8_i64).boxed())),
        3 => make('c', none()),
        3 => make('t', one(offset().boxed())),
        1 => make('f', one((0..2_i64).boxed())),
        2 => make('a', one(flags.boxed())),
    ]
}

/// A script opens a file first; otherwise all other calls would return EBADF.
fn script() -> impl Strategy<Value = Script> {
    let first = open_flags().prop_map(|flags| Call {
        letter: 'o',
        slot: 0,
        args: vec![0, flags | i64::from(libc::O_CREAT)],
    });
    (first, vec(call(), 1..30)).prop_map(|(first, rest)| [vec![first], rest].concat())
}

fn text(scripts: &[Script]) -> String {
    let mut text = String::new();
    for script in scripts {
        for call in script {
            let _ = writeln!(text, "{call}");
        }
        text += ".\n";
    }
    text
}

/// How one batch runs: the numbers of workers and fibers, and the engine.
#[derive(Clone, Copy, Debug)]
struct Shape(u32, u32, &'static str);

const SHAPES: [Shape; 7] = [
    Shape(1, 8, "uring"),
    Shape(3, 24, "uring"),
    Shape(1, 8, "aio"),
    Shape(3, 24, "threads"),
    Shape(1, 1, "uring"),
    Shape(2, 2, "auto"),
    Shape(2, 16, "aio"),
];

/// The output of each script.
fn outputs(scripts: &[Script], on_fibers: Option<Shape>) -> Vec<String> {
    let dir = Scratch::new();
    let run = Run::new(program("file/script", Flavor::Lfs64))
        .dir(dir.path())
        .stdin(text(scripts));
    let run = match on_fibers {
        None => run.args(["--threads", "-n1"]),
        Some(Shape(workers, fibers, engine)) => run
            .args([format!("-w{workers}"), format!("-n{fibers}")])
            .preload(true)
            .env("AIOSHIM_ENGINE", engine),
    };
    let output = run.output();
    let parts: Vec<String> = output.split("script ").skip(1).map(str::to_owned).collect();
    assert_eq!(parts.len(), scripts.len(), "{output}");
    parts
}

/// The smallest script whose output still differs; None if the script in `tree` does not differ
/// when it runs alone.
fn shrink(mut tree: impl ValueTree<Value = Script>, shape: Shape) -> Option<Script> {
    let differs = |script: &Script| {
        let scripts = std::slice::from_ref(script);
        outputs(scripts, None) != outputs(scripts, Some(shape))
    };
    let mut smallest = None;
    loop {
        let script = tree.current();
        let more = if differs(&script) {
            smallest = Some(script);
            tree.simplify()
        } else {
            smallest.as_ref()?;
            tree.complicate()
        };
        if !more {
            return smallest;
        }
    }
}

/// Saves a batch that failed, because its scripts may fail only when they run together.
fn keep(batch: &[Script]) -> PathBuf {
    let path = target_dir().join("testprogs").join("failed-scripts.txt");
    std::fs::write(&path, text(batch)).expect("the target directory is writable");
    path
}

#[test]
fn random_scripts_give_the_same() {
    let seed = number("AIOSHIM_TEST_SEED", SEED);
    let cases = usize::try_from(number("AIOSHIM_TEST_CASES", CASES)).expect("a number of cases");
    println!("AIOSHIM_TEST_SEED={seed} AIOSHIM_TEST_CASES={cases}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
    );
    let strategy = script();
    for (round, first) in (0..cases).step_by(BATCH).enumerate() {
        let size = BATCH.min(cases - first);
        let trees: Vec<_> = (0..size)
            .map(|_| strategy.new_tree(&mut runner).expect("a script"))
            .collect();
        let batch: Vec<Script> = trees.iter().map(ValueTree::current).collect();
        let shape = SHAPES[round % SHAPES.len()];
        let (expected, found) = (outputs(&batch, None), outputs(&batch, Some(shape)));
        let Some(at) = (0..size).find(|&i| expected[i] != found[i]) else {
            continue;
        };
        let path = keep(&batch);
        let tree = trees.into_iter().nth(at).expect("it is one of them");
        let (plain, preloaded) = (&expected[at], &found[at]);
        match shrink(tree, shape) {
            Some(smallest) => {
                let scripts = std::slice::from_ref(&smallest);
                let (plain, preloaded) = (outputs(scripts, None), outputs(scripts, Some(shape)));
                let script = text(scripts);
                panic!(
                    "{shape:?}\n{script}--- plain\n{}--- preloaded\n{}",
                    plain[0], preloaded[0]
                );
            }
            None => panic!(
                "{shape:?}: script {at} of {}, but not alone\n--- plain\n{plain}--- \
                preloaded\n{preloaded}",
                path.display()
            ),
        }
    }
}
