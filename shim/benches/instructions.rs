//! Instructions per call, counted by callgrind. The result is the same on every run, whatever else
//! the machine does.
//!
//!     cargo bench -p aioshim
//!
//! All instructions in user space are counted: the C program's loop, libc, the hook, the scheduler.
//! The difference between a long and a short run removes the cost of the start. The program warms
//! up with an eighth of each round; those calls are counted, too.

#![expect(
    clippy::disallowed_macros,
    reason = "a separate program, which contains no hooks"
)]

use testprogs::{Flavor, Run, Scratch, Tool, program};

/// The number of calls in the two runs.
const FEW: u64 = 6_400;
const MANY: u64 = 64_000;

const CALLS: [&str; 4] = ["pread4k", "read4k", "write4k", "open+close"];

/// How the calls are made, in the terms of overhead.c: the mode, the number of tasks, and whether
/// the shim is preloaded.
const WAYS: [(&str, &str, u32, bool); 5] = [
    ("plain", "off", 1, false),
    ("off a fiber", "off", 1, true),
    ("lone fiber", "fibers", 1, true),
    ("beside one", "beside", 1, true),
    ("among 64", "fibers", 64, true),
];

fn instructions(
    valgrind: &Tool,
    call: &str,
    how: &str,
    slots: u32,
    preload: bool,
    calls: u64,
) -> Option<u64> {
    let dir = Scratch::new();
    let outcome = Run::new(valgrind.path())
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program("bench/overhead", Flavor::Plain))
        .args([call, how, &slots.to_string()])
        .arg(dir.path())
        .stdin(format!("{calls}\n"))
        .preload(preload)
        // Under valgrind the shim would choose the thread engine.
        .env("AIOSHIM_ENGINE", "uring")
        .run();
    // valgrind does not always follow a switch of stacks.
    if !outcome.status.success() {
        return None;
    }
    let text = outcome.error_text();
    let (_, collected) = text
        .lines()
        .find_map(|line| line.split_once("Collected :"))?;
    collected.trim().parse().ok()
}

fn main() {
    // `cargo test --benches` runs benchmarks with --test to check that they start.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let Some(valgrind) = Tool::find("valgrind") else {
        return;
    };
    println!("instructions per call");
    let names = WAYS.map(|(name, ..)| format!("{name:>12}"));
    println!("{:<12}{}", "", names.concat());
    for call in CALLS {
        let counts = WAYS.map(|(_, how, slots, preload)| {
            let count = |calls| instructions(&valgrind, call, how, slots, preload, calls);
            let each = count(MANY).zip(count(FEW)).map(|(many, few)| {
                many.saturating_sub(few) as f64 / ((MANY - FEW) as f64 * 9.0 / 8.0)
            });
            each.map_or_else(|| format!("{:>12}", "?"), |each| format!("{each:>12.0}"))
        });
        println!("{call:<12}{}", counts.concat());
    }
}
