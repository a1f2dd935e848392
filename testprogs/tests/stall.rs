//! A fiber that does not yield its thread for long is reported with its name, the duration and the
//! location. The fibers of the probe continue once they see the report.

use testprogs::{Flavor, Run, Scratch, program};

fn stalling(variables: &[(&str, &str)]) -> (String, String) {
    let dir = Scratch::new();
    let run = Run::new(program("unhooked/stall", Flavor::Plain))
        .dir(dir.path())
        .preload(true);
    let run = run.env("AIOSHIM_STALL", "2ms").env("AIOSHIM_OUT", "said");
    let outcome = variables
        .iter()
        .fold(run, |run, (name, value)| run.env(*name, *value))
        .run()
        .success();
    let said = std::fs::read_to_string(dir.join("said")).expect("a report");
    (outcome.text(), said)
}

#[test]
fn who_computes_or_blocks_is_said_once_a_place() {
    for variables in [
        &[][..],
        &[("AIOSHIM_ESCAPES", "1")],
        &[("AIOSHIM_ENGINE", "threads")],
    ] {
        let (printed, said) = stalling(variables);
        assert_eq!(printed, "it read 1\n", "{said}");
        let lines: Vec<&str> = said.lines().collect();
        // On a busy machine there may be reports about other fibers; ignore them.
        let computing = |line: &&str| line.ends_with("computing at");
        let reports = lines.iter().enumerate().filter(|(_, line)| computing(line));
        let reports = reports.map(|(at, line)| {
            (
                *line,
                lines[at + 1..].iter().take_while(|l| l.starts_with("  #")),
            )
        });
        // With AIOSHIM_ESCAPES, the shim makes the system calls of the computing fiber, and the
        // report may come during one.
        let of_program = |frame: &&str| !frame.contains(" libaioshim.so");
        let reports: Vec<(&str, Vec<&str>)> = reports
            .map(|(line, frames)| {
                let frames = frames.copied().skip_while(|frame| !of_program(frame));
                (line, frames.collect())
            })
            .collect();
        let spinner = reports
            .iter()
            .find(|(line, _)| line.starts_with("aioshim: fiber 2 \"spinner\" has kept thread "));
        let (_, frames) = spinner.unwrap_or_else(|| panic!("{said}"));
        assert!(frames.len() >= 3 && frames[0].contains(" stall"), "{said}");
        // A location is reported only once, whichever fiber is there.
        let callers = |frames: &[&str]| frames[1..].join(" ");
        let there = reports
            .iter()
            .filter(|(_, f)| callers(f) == callers(frames))
            .count();
        assert_eq!(there, 1, "{said}");
        let blocked = lines
            .iter()
            .find(|line| {
                line.contains("\"reader\" has kept thread ") && line.contains("blocked in read")
            })
            .unwrap_or_else(|| panic!("{said}"));
        // With AIOSHIM_ESCAPES, the shim makes some of these calls; its statistics name the place.
        let by_shim = said.lines().any(|line| {
            blocked.contains("called at libaioshim.so")
                && line.trim_start().starts_with("read ")
                && line.contains("waits for data, at stall")
        });
        assert!(blocked.contains("called at stall") || by_shim, "{said}");
    }
}

#[test]
fn a_scheduler_that_shows_no_turns_is_told_so() {
    let dir = Scratch::new();
    let file = dir.file("file", "some bytes");
    let run = Run::new(program("host/minihost", Flavor::Plain))
        .arg(file)
        .preload(true);
    let text = run.env("AIOSHIM_STALL", "1ms").run().success().error_text();
    assert!(
        text.lines()
            .any(|line| line.contains("AIOSHIM_STALL: this scheduler does not count")),
        "{text}"
    );
}
