//! The shim sees every libc name of a converted call, and each gives the same result as without the
//! shim.

use testprogs::{Call, Flavor, Run, Scratch, Stats, program};

/// The programs, and the number of names that each calls.
const PROGRAMS: [(&str, usize); 2] = [("file/aliases", 39), ("socket/aliases", 25)];

#[test]
fn every_name_is_seen_and_gives_the_same() {
    PROGRAMS
        .into_iter()
        .for_each(|(name, names)| seen(name, names));
}

fn seen(name: &str, count: usize) {
    let [plain_dir, fiber_dir, out] = [(); 3].map(|()| Scratch::new());
    let aliases = program(name, Flavor::Plain);
    let plain = Run::new(&aliases)
        .arg("--threads")
        .dir(plain_dir.path())
        .output();
    let stats_file = out.join("stats");
    let run = Run::new(&aliases)
        .dir(fiber_dir.path())
        .preload(true)
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", &stats_file);
    assert_eq!(run.output(), plain);

    let stats = Stats::read(&stats_file).expect("statistics");
    let names: Vec<&str> = plain
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| name)
        .collect();
    let names: Vec<&str> = names.into_iter().filter(|name| *name != "file").collect();
    assert_eq!(names.len(), count, "{plain}");
    let escaped: Vec<&&str> = names
        .iter()
        .filter(|name| stats.call(name).total() == 0)
        .collect();
    assert!(
        escaped.is_empty(),
        "not seen by the shim: {escaped:?}\n{stats:#?}"
    );
}

/// Each flavor calls `pread` under its own name. A checked flavor uses the plain name where the
/// compiler does not know the size of the buffer.
#[test]
fn every_flavour_is_converted() {
    let dir = Scratch::new();
    let file = dir.file("file", vec![7; 1 << 20]);
    let names = [
        &["pread"][..],
        &["pread64"],
        &["pread64", "__pread64_chk"],
        &["pread", "__pread_chk"],
    ];
    for (flavor, names) in Flavor::ALL.into_iter().zip(names) {
        let stats_file = dir.join(flavor.name());
        let run = Run::new(program("apps/randread", flavor))
            .args(["--direct", "-n8", "-r20"])
            .arg(&file)
            .preload(true);
        run.env("AIOSHIM_STATS", "json")
            .env("AIOSHIM_OUT", &stats_file)
            .output();
        let stats = Stats::read(&stats_file).expect("statistics");
        let sum = |count: fn(&Call) -> u64| {
            names
                .iter()
                .map(|name| count(&stats.call(name)))
                .sum::<u64>()
        };
        let converted = sum(|call| call.converted);
        // The disk decides which fibers are alone at the end and make the plain call.
        let alone = sum(|call| call.through.get("alone").copied().unwrap_or(0));
        assert_eq!(converted + alone, 160, "{flavor:?}: {stats:#?}");
        assert!(converted > 0, "{flavor:?}: {stats:#?}");
    }
}

#[test]
fn checked_names_still_check() {
    for case in 0..=5 {
        let run = |preload: bool| {
            let dir = Scratch::new();
            let run = Run::new(program("file/fortify", Flavor::Plain))
                .dir(dir.path())
                .preload(preload);
            run.env("CASE", case.to_string()).run()
        };
        let (plain, preloaded) = (run(false), run(true));
        assert_eq!(plain.status.success(), case == 5, "{}", plain.report());
        assert_eq!(preloaded.status, plain.status, "{}", preloaded.report());
        assert_eq!(preloaded.text(), plain.text());
        assert_eq!(preloaded.error_text(), plain.error_text());
    }
}
