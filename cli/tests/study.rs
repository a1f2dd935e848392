//! Checks the study: each number of a report is in the result file, an interrupted study can be
//! resumed, and result files are compared or refused clearly. It does not
//! check how fast anything is.

mod bench;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use bench::{measure_in, scratch};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The result file of a study of one question, which all tests share.
fn study() -> &'static Path {
    static STUDY: OnceLock<PathBuf> = OnceLock::new();
    STUDY.get_or_init(|| {
        let dir = scratch().keep();
        let mut command = measure_in(&dir);
        let output = succeed(command.args(["--question", "6", "--rounds", "1"]));
        let stdout = text(&output.stdout);
        assert!(stdout.contains("\nreport: "), "{stdout}");
        dir.join("study.json")
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    output
}

fn report(args: &[&str], files: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aioshim"));
    command.arg("report").args(args).args(files);
    command
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("a readable file");
    serde_json::from_str(&text).expect("JSON")
}

/// A number of a report: its value, its place in the result file, and how it is shown.
struct Number {
    value: f64,
    at: String,
    shown: String,
}

/// All numbers of a report that are shown as text.
fn numbers(html: &str) -> Vec<Number> {
    let between = |text: &str, from: &str, to: &str| {
        let (_, rest) = text.split_once(from)?;
        Some(rest.split_once(to)?.0.to_owned())
    };
    let parts = html.split("data-value=\"").skip(1);
    parts
        .map(|part| Number {
            value: part
                .split('"')
                .next()
                .expect("a value")
                .parse()
                .expect("a number"),
            at: between(part, "data-at=\"", "\"").expect("a place"),
            shown: between(part, ">", "<").unwrap_or_default(),
        })
        .collect()
}

/// Whether `shown` is `value` in some unit, rounded.
fn agrees(shown: &str, value: f64) -> bool {
    let end = shown.find(|c: char| !c.is_ascii_digit() && !".-".contains(c));
    let number: f64 = shown[..end.unwrap_or(shown.len())].parse().expect(shown);
    let steps = [1.0, 1e3, 1e6, 1e9, 1024.0, 1048576.0, 1073741824.0, 0.01];
    // Three digits, of which small numbers show fewer.
    let close = |step: &f64| (number - value / step).abs() <= 0.006 * (value / step).abs() + 0.0051;
    steps.iter().any(close)
}

#[test]
fn every_number_of_a_report_is_in_the_result_file() {
    let html = fs::read_to_string(study().with_extension("html")).expect("the report");
    let json = json(study());
    let numbers = numbers(&html);
    assert!(numbers.len() > 100, "{} numbers", numbers.len());
    let mut in_sentences = 0;
    for Number { value, at, shown } in &numbers {
        let held = json.pointer(at).and_then(Value::as_f64);
        assert_eq!(held, Some(*value), "{at}");
        // The mark of a plot shows no text.
        if !shown.is_empty() && shown.chars().next().is_some_and(|c| c.is_ascii_digit()) {
            assert!(agrees(shown, *value), "{at}: {shown:?} for {value}");
            in_sentences += usize::from(at.contains("/answer/findings/"));
        }
    }
    assert!(in_sentences >= 8, "{in_sentences} numbers in sentences");
}

#[test]
fn a_report_needs_nothing_but_itself() {
    let html = fs::read_to_string(study().with_extension("html")).expect("the report");
    for foreign in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    for element in [
        "html", "body", "section", "figure", "svg", "table", "details", "span",
    ] {
        let opened = html.matches(&format!("<{element}>")).count()
            + html.matches(&format!("<{element} ")).count();
        assert_eq!(
            opened,
            html.matches(&format!("</{element}>")).count(),
            "{element}"
        );
    }
}

#[test]
fn markdown_has_the_same_sentences() {
    let output = succeed(&mut report(&["--markdown", "--output", "-"], &[study()]));
    let markdown = text(&output.stdout);
    assert!(markdown.contains("## 6. What do more threads than processors cost?"));
    let answer = &json(study())["experiments"][0]["answer"];
    let sentence = answer["sentence"].as_str().expect("a sentence");
    let start = sentence.split('{').next().expect("a start");
    assert!(markdown.contains(start), "{markdown}");
    assert!(
        !markdown.contains('{'),
        "every figure is filled in: {markdown}"
    );
    assert!(markdown.contains("| count | threads | fibers, 1 worker | fibers, 2 workers |"));
}

/// A study of two questions is interrupted when the second one begins.
#[test]
fn an_interrupted_study_is_kept_and_goes_on() {
    let dir = scratch();
    let mut child = measure_in(dir.path())
        .args(["--question", "6", "--question", "9", "--rounds", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let begins = |line: &String| line.ends_with(" left") && !line.contains("More threads");
    let found = said.by_ref().map_while(Result::ok).find(begins);
    assert!(found.is_some(), "the second question never began");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("it runs");
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{rest:?}");
    assert!(text(&output.stdout).contains("\nreport: "));

    let path = dir.path().join("study.json");
    let interrupted = json(&path);
    assert_eq!(interrupted["complete"], false);
    let first = interrupted["experiments"][0].clone();
    assert_eq!(
        (&first["id"], &first["finished"]),
        (&"many-threads".into(), &true.into())
    );
    let html = fs::read_to_string(path.with_extension("html")).expect("the report");
    assert!(html.contains("This study was interrupted"));

    succeed(measure_in(dir.path()).args(["--resume", "--rounds", "1"]));
    let resumed = json(&path);
    assert_eq!(resumed["complete"], true);
    assert_eq!(resumed["experiments"][0], first, "it is not measured again");
    for experiment in resumed["experiments"].as_array().expect("experiments") {
        assert_eq!(experiment["finished"], true);
        let cells = experiment["cells"].as_array().expect("cells");
        for cell in cells {
            let figures = cell["figures"].as_object().expect("figures");
            assert!(!figures.is_empty() || cell["failure"].is_string(), "{cell}");
        }
    }
    let again = measure_in(dir.path())
        .arg("--resume")
        .output()
        .expect("it starts");
    let stderr = text(&again.stderr);
    assert!(
        stderr.contains("this study is complete, there is nothing to resume"),
        "{stderr}"
    );
}

#[test]
fn two_studies_are_compared_number_by_number() {
    let dir = scratch();
    let other = dir.path().join("other.json");
    let mut changed = json(study());
    changed["machine"]["cpu"] = "Another processor".into();
    let finding = &mut changed["experiments"][0]["answer"]["findings"]["rate"];
    finding["value"] = 123.0.into();
    finding["direction"] = "async-wins".into();
    fs::write(&other, changed.to_string()).expect("written");
    let mut command = report(&["--output", "-", "--compare"], &[study(), &other]);
    // Whether they agree depends on what was measured.
    let output = command.output().expect("it starts");
    assert!(matches!(output.status.code(), Some(0 | 1)));
    let html = text(&output.stdout);
    assert!(html.contains("Another processor"));
    assert!(html.contains("<h2>Do they agree?</h2>"), "{html}");
    let numbers = numbers(&html);
    let (mut left, mut right) = (0, 0);
    let (a, b) = (json(study()), changed);
    for Number { value, at, .. } in &numbers {
        let (file, place) = at.split_at(1);
        let held = match file {
            "A" => {
                left += 1;
                a.pointer(place)
            }
            _ => {
                right += 1;
                b.pointer(place)
            }
        };
        assert_eq!(held.and_then(Value::as_f64), Some(*value), "{at}");
    }
    assert!(left > 20 && left == right, "{left} and {right}");
    assert!(html.contains("data-value=\"123\" data-at=\"B/experiments/0/answer/findings/rate"));
}

/// The shared study, with this ratio of fibers to threads.
fn study_with_rate(dir: &Path, name: &str, value: f64, low: f64, high: f64) -> PathBuf {
    let direction = match (low > 1.0, high < 1.0) {
        (true, _) => "async-wins",
        (_, true) => "async-loses",
        _ => "no-difference",
    };
    let mut study = json(study());
    let rate = &mut study["experiments"][0]["answer"]["findings"]["rate"];
    rate["value"] = value.into();
    rate["interval"] = vec![low, high].into();
    rate["direction"] = direction.into();
    let path = dir.join(name);
    fs::write(&path, study.to_string()).expect("written");
    path
}

#[test]
fn a_comparison_says_whether_the_studies_agree() {
    let dir = scratch();
    let dir = dir.path();
    let wins = study_with_rate(dir, "wins.json", 1.2, 1.1, 1.3);
    let unsure = study_with_rate(dir, "unsure.json", 1.0, 0.9, 1.1);
    let same = study_with_rate(dir, "same.json", 1.0, 0.99, 1.01);
    let compare = |a: &Path, b: &Path| {
        let output = report(&["--compare"], &[a, b]).output().expect("it starts");
        (
            output.status.code(),
            text(&output.stdout).replace('\n', " "),
        )
    };
    let agree = "The two studies agree on the direction of all 4 ratios";
    let (status, said) = compare(&wins, &wins);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(agree), "{said}");
    assert!(said.contains("4 have the same direction in both"), "{said}");

    let (status, said) = compare(&wins, &unsure);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(agree), "{said}");
    assert!(said.contains("and 1 are decided in only one"), "{said}");

    let (status, said) = compare(&wins, &same);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("disagree on the direction of 1 of 4 ratios"),
        "{said}"
    );
    assert!(
        said.contains(
            "many-threads: rate: A 1.20x (1.10x to 1.30x), asynchronous I/O wins; B 1.00x (0.99x \
             to 1.01x), no difference"
        ),
        "{said}"
    );
    let html = fs::read_to_string(dir.join("compare.html")).expect("the report");
    assert!(html.contains("Ratios on which they disagree: 1"), "{html}");

    let (status, _) = compare(&wins, &dir.join("missing.json"));
    assert_eq!(status, Some(2));
}

/// The page without what stands between its marks.
fn prose(page: &str) -> String {
    let mut inside = false;
    let outside = |line: &&str| {
        let ends = *line == "<!-- end -->";
        let was_inside = inside;
        inside = !ends && (inside || line.starts_with("<!-- study: "));
        ends || !was_inside
    };
    page.lines().filter(outside).collect::<Vec<_>>().join("\n")
}

/// The parts of a page between marks, by the name of the mark.
fn parts(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("<!-- study: ").skip(1);
    let part = |part| {
        let (name, rest) = str::split_once(part, " -->\n")?;
        Some((name, rest.split_once("<!-- end -->")?.0))
    };
    parts.map(|text| part(text).expect("an end")).collect()
}

/// The words of a text: everything but figures and their units.
fn words(text: &str) -> Vec<&str> {
    let units = ["ns", "us", "ms", "s", "%", "B", "KiB", "MiB", "GiB"];
    let words = text.split_whitespace();
    words
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
        .filter(|word| !units.contains(&word.trim_end_matches(['.', ',', ';'])))
        .collect()
}

fn findings() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/findings.md");
    fs::read_to_string(path).expect("docs/findings.md")
}

#[test]
fn a_page_gets_its_figures_from_one_run() {
    let dir = scratch();
    let path = dir.path().join("findings.md");
    let before = findings();
    fs::write(&path, &before).expect("written");
    let page = path.to_str().expect("UTF-8");
    succeed(&mut report(&["--page", page], &[study()]));
    let after = fs::read_to_string(&path).expect("the page");
    assert_eq!(prose(&before), prose(&after));
    let study = json(study());
    let date = study["machine"]["date"].as_str().expect("a date");
    for (name, part) in parts(&after) {
        match name {
            "machine" => assert!(part.contains(date), "{part}"),
            "answer many-threads" => assert!(part.contains("waiting readers"), "{part}"),
            "verdict" | "rounds" | "notes" | "agreement" => {}
            other => assert!(part.contains("did not ask it"), "{other}: {part}"),
        }
    }
    // The committed page has the sentences that the command writes now.
    let of = |page, wanted| {
        let mut parts = parts(page).into_iter();
        parts.find(|(name, _)| *name == wanted).expect("a part").1
    };
    let many = "answer many-threads";
    assert_eq!(words(of(&before, many)), words(of(&after, many)));

    succeed(&mut report(&["--page", page], &[self::study()]));
    let again = fs::read_to_string(&path).expect("the page");
    assert_eq!(after, again, "a second time changes nothing");
}

/// A figure outside the marks would come from another run.
#[test]
fn the_findings_have_no_ratio_outside_their_marks() {
    let page = findings();
    let ratio = |word: &&str| {
        let number = word
            .trim_matches(['(', ')', ',', '.', ';', ':'])
            .strip_suffix('x');
        number.is_some_and(|number| number.parse::<f64>().is_ok())
    };
    let prose = prose(&page);
    let ratios: Vec<&str> = prose.split_whitespace().filter(ratio).collect();
    assert_eq!(ratios, [""; 0]);
    for (name, part) in parts(&page) {
        let asked = !part.contains("did not ask it") && !part.contains("was measured.)");
        assert!(asked && !part.trim().is_empty(), "{name}: {part}");
    }
}

#[test]
fn a_wrong_mark_gives_one_clear_line() {
    let dir = scratch();
    let path = dir.path().join("page.md");
    let end = "<!-- end -->";
    let cases = [
        ("text\n".to_owned(), "there is no line that begins with"),
        (
            format!("<!-- study: nonsense -->\n{end}\n"),
            "unknown mark \"nonsense\"",
        ),
        (
            "a\n<!-- study: verdict -->\nb\n".to_owned(),
            "line 2: <!-- end --> is missing",
        ),
        (format!("{end}\n"), "line 1: <!-- end --> without a begin"),
        (
            format!("<!-- study: verdict\n{end}\n"),
            "line 1: the comment does not end",
        ),
    ];
    for (page, expected) in cases {
        fs::write(&path, &page).expect("written");
        let name = path.to_str().expect("UTF-8");
        let output = report(&["--page", name], &[study()]).output();
        let output = output.expect("it starts");
        let stderr = text(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(
            fs::read_to_string(&path).expect("the page"),
            page,
            "it stays"
        );
    }
}

#[test]
fn a_file_of_another_version_gives_one_clear_line() {
    let dir = scratch();
    let path = dir.path().join("study.json");
    let mut newer = json(study());
    newer["version"] = 1000.into();
    let cases = [
        (
            newer.to_string(),
            "version 1000 of the format, but this command reads version 1",
        ),
        (
            "{\"samples\": []}".to_owned(),
            "not a result file of a study",
        ),
        ("{\"format\":".to_owned(), "not a result file of a study"),
    ];
    for (content, expected) in cases {
        fs::write(&path, content).expect("written");
        let output = report(&[], &[&path]).output().expect("it starts");
        let stderr = text(&output.stderr);
        assert!(!output.status.success());
        let start = format!("aioshim: {}: {expected}", path.display());
        assert!(stderr.starts_with(&start), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
