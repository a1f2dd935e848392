//! Databases that others wrote, badger and goleveldb, as Debian installs their sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::build::{self, Built};
use crate::bench::data_file::ensure_space;
use crate::bench::programs::scrub;

/// Where Debian puts the sources of Go libraries.
const SOURCES: &str = "/usr/share/gocode";

/// One database.
struct Source {
    /// The first part of the kind of its cases.
    name: &'static str,
    package: &'static str,
    import: &'static str,
    driver: &'static str,
}

const MAIN: &str = include_str!("../../../../go/bench/database/main.go");

const DATABASES: [Source; 2] = [
    Source {
        name: "badger",
        package: "golang-github-dgraph-io-badger-dev",
        import: "github.com/dgraph-io/badger",
        driver: include_str!("../../../../go/bench/database/badger.go"),
    },
    Source {
        name: "goleveldb",
        package: "golang-github-syndtr-goleveldb-dev",
        import: "github.com/syndtr/goleveldb",
        driver: include_str!("../../../../go/bench/database/goleveldb.go"),
    },
];

/// A database that is there and filled.
pub struct Database {
    pub name: &'static str,
    pub built: Built,
    pub dir: PathBuf,
    pub entries: String,
}

/// Builds and fills the databases that are installed and `wanted`. A note says what is missing.
pub fn prepare(
    dir: &Path,
    entries: u32,
    wanted: impl Fn(&str) -> bool,
    notes: &mut Vec<String>,
) -> Vec<Database> {
    let mut all = Vec::new();
    for source in DATABASES.iter().filter(|source| wanted(source.name)) {
        let Source { name, package, .. } = source;
        if !Path::new(SOURCES).join("src").join(source.import).is_dir() {
            notes.push(format!(
                "{name} is not measured: its sources are not installed (Debian: {package})"
            ));
            continue;
        }
        match one(source, dir, entries) {
            Ok(database) => all.push(database),
            Err(error) => notes.push(format!("{name} is not measured: {error:#}")),
        }
    }
    all
}

fn one(source: &Source, dir: &Path, entries: u32) -> Result<Database> {
    // Debian's libraries are found by GOPATH, not by modules.
    let workspace = dir.join("gopath");
    let gopath = PathBuf::from(format!("{}:{SOURCES}", workspace.display()));
    let driver = (source.name, source.driver);
    let files = [build::MEASURED, ("main.go", MAIN), ("driver.go", driver.1)];
    let built = build::build(
        &workspace.join("src").join(source.name),
        &files,
        &[("GO111MODULE", Path::new("off")), ("GOPATH", &gopath)],
    )?;
    let entries = entries.to_string();
    let filled = dir.join(format!("{}.{entries}", source.name));
    if !filled.exists() {
        ensure_space(dir, 1024)?;
        let partly = filled.with_extension("partly");
        let mut fill = Command::new(&built.stock);
        fill.arg("fill").arg(&partly).arg(&entries);
        scrub(&mut fill);
        let status = fill.status().context("the database")?;
        ensure!(status.success(), "filling the database failed: {status}");
        std::fs::rename(&partly, &filled).with_context(|| filled.display().to_string())?;
    }
    Ok(Database {
        name: source.name,
        built,
        dir: filled,
        entries,
    })
}
