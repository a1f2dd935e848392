//! Reports and messages of the libraries go to standard error or to the requested file, and nowhere
//! else.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use testprogs::{Flavor, Outcome, Run, Scratch, Tool, program};

/// Runs a program that replaces descriptor 2 by its file `data`; returns the content of that file,
/// and the outcome.
fn own_stderr(
    how: &str,
    end: &str,
    preload: bool,
    variables: &[(&str, &str)],
) -> (String, Outcome) {
    let dir = Scratch::new();
    let run = Run::new(program("environment/own_stderr", Flavor::Plain))
        .args([how, end])
        .dir(dir.path())
        .preload(preload);
    let outcome = variables
        .iter()
        .fold(run, |run, (name, value)| run.env(*name, *value))
        .run();
    let data = std::fs::read_to_string(dir.join("data")).expect("the program makes it");
    (data, outcome)
}

#[test]
fn no_report_goes_into_the_file_that_a_program_opened_as_descriptor_2() {
    for how in ["close", "dup2", "fclose", "range", "raw"] {
        for end in ["return", "fork"] {
            let (data, outcome) = own_stderr(
                how,
                end,
                true,
                &[("AIOSHIM_STATS", "1"), ("AIOSHIM_LOG", "debug")],
            );
            let outcome = outcome.success();
            assert_eq!(data, "mine\n", "{how}, {end}: {}", outcome.report());
            // The original standard error still gets the report, as long as the shim has a
            // duplicate of it.
            let told = outcome.error_text().matches("aioshim: pid ").count();
            let expected = match (how, end) {
                ("raw", _) => 0,
                (_, "fork") => 2,
                _ => 1,
            };
            assert_eq!(told, expected, "{how}, {end}: {}", outcome.report());
        }
    }
}

#[test]
fn no_message_goes_into_the_file_that_a_program_opened_as_descriptor_2() {
    let (data, outcome) = own_stderr(
        "close",
        "return",
        true,
        &[("AIOSHIM_TRACE", "/nowhere/at/all")],
    );
    outcome.success();
    assert_eq!(data, "mine\n", "a trace that cannot be written");
    let (data, outcome) = own_stderr(
        "close",
        "return",
        true,
        &[("AIOSHIM_STATS", "1"), ("AIOSHIM_OUT", "/nowhere/at/all")],
    );
    outcome.success();
    assert_eq!(data, "mine\n", "an AIOSHIM_OUT that cannot be written");
    for preload in [false, true] {
        let (data, outcome) = own_stderr(
            "dup2",
            "return",
            preload,
            &[("FIBER_WORKERS", "none"), ("FIBER_STACK", "1")],
        );
        outcome.success();
        assert_eq!(data, "mine\n", "values that libfiber does not understand");
        let (data, outcome) = own_stderr("fclose", "deadlock", preload, &[]);
        assert_eq!(
            outcome.status.signal(),
            Some(libc::SIGABRT),
            "{}",
            outcome.report()
        );
        assert_eq!(data, "mine\n", "libfiber's deadlock report");
    }
}

#[test]
fn the_report_comes_out_though_the_program_closes_standard_error_before() {
    // The GNU tools close standard error in an exit handler that runs before the report.
    let Some(cat) = Tool::find("cat") else { return };
    let outcome = Run::new(cat.path())
        .preload(true)
        .env("AIOSHIM_MAIN", "fiber")
        .env("AIOSHIM_STATS", "json")
        .stdin("text")
        .run()
        .success();
    assert!(
        outcome.error_text().contains("\"read\""),
        "{}",
        outcome.report()
    );
}

/// Runs a converted program whose report goes to `out`.
fn report_to(out: &Path) -> Outcome {
    Run::new("/bin/true")
        .preload(true)
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", out)
        .run()
        .success()
}

#[test]
fn an_output_file_is_made_for_its_user_alone_and_keeps_the_mode_it_has() {
    let dir = Scratch::new();
    let (fresh, old) = (dir.join("fresh"), dir.file("old", "before\n"));
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o664)).expect("ours");
    for out in [&fresh, &old] {
        assert_eq!(report_to(out).error_text(), "");
    }
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").mode() & 0o777;
    assert_eq!((mode(&fresh), mode(&old)), (0o600, 0o664));
    assert!(
        std::fs::read_to_string(&old)
            .expect("text")
            .starts_with("before\n{")
    );
}

#[test]
fn an_output_file_is_not_looked_for_through_a_symbolic_link() {
    let dir = Scratch::new();
    let (target, link) = (dir.file("target", "untouched"), dir.join("link"));
    symlink(&target, &link).expect("a symbolic link");
    let told = report_to(&link).error_text();
    assert!(
        told.contains("symbolic link") && told.contains("\"engine\""),
        "{told}"
    );
    Run::new(program("environment/own_stderr", Flavor::Plain))
        .args(["none", "return"])
        .dir(dir.path())
        .preload(true)
        .env("AIOSHIM_TRACE", &link)
        .run();
    assert_eq!(std::fs::read_to_string(&target).expect("text"), "untouched");
}
