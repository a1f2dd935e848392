//! Compiles each C program once per set of flags.
//!
//! The directory of a result is named by a hash of all inputs, and a result appears by rename.
//! Several test processes may request the same program at the same time, and none of them sees a
//! partial file.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, ensure};

use crate::libraries::{c_sources, libraries, target_dir, workspace};
use crate::tool::skip;

/// The compiler flags of a program. They decide under which names it calls libc (`pread`,
/// `pread64`, `__pread64_chk`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// The compiler's defaults.
    Plain,
    /// Large files: `open` becomes `open64`.
    Lfs64,
    /// Large files and checked buffers: `pread` becomes `__pread64_chk`.
    Fortify,
    /// Checked buffers only: `pread` becomes `__pread_chk`.
    FortifyNoLfs,
}

impl Flavor {
    /// All flavors, plainest first.
    pub const ALL: [Flavor; 4] = [
        Flavor::Plain,
        Flavor::Lfs64,
        Flavor::Fortify,
        Flavor::FortifyNoLfs,
    ];

    /// The name of the flavor's directory.
    pub fn name(self) -> &'static str {
        match self {
            Flavor::Plain => "plain",
            Flavor::Lfs64 => "lfs64",
            Flavor::Fortify => "fortify",
            Flavor::FortifyNoLfs => "fortify-nolfs",
        }
    }

    /// The compiler options that distinguish the flavor.
    pub fn cflags(self) -> &'static [&'static str] {
        match self {
            Flavor::Plain => &["-O2"],
            Flavor::Lfs64 => &["-O2", "-D_FILE_OFFSET_BITS=64"],
            Flavor::Fortify => &["-O2", "-D_FILE_OFFSET_BITS=64", "-D_FORTIFY_SOURCE=2"],
            Flavor::FortifyNoLfs => &["-O2", "-D_FORTIFY_SOURCE=2"],
        }
    }
}

// The compilers of some distributions fortify by default, so every flavor undefines that first.
const CFLAGS: [&str; 7] = [
    "-std=gnu11",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
    "-U_FORTIFY_SOURCE",
];

/// `$CC`, or `cc` if that is not set.
pub fn c_compiler() -> OsString {
    std::env::var_os("CC").unwrap_or_else(|| "cc".into())
}

/// `$CXX`, or `c++` if that is not set.
pub fn cxx_compiler() -> OsString {
    std::env::var_os("CXX").unwrap_or_else(|| "c++".into())
}

/// Compiles `c/<source>.cc` into `dir` and links it with libfiber. `how` are additional compiler
/// arguments. Without a C++ compiler it skips and returns None.
///
/// # Panics
/// When it does not compile.
pub fn cxx_program(source: &str, how: &[&str], dir: &Path) -> Option<PathBuf> {
    let compiler = cxx_compiler();
    if Command::new(&compiler).arg("--version").output().is_err() {
        skip(&format!("no compiler {}", compiler.display()));
        return None;
    }
    let libraries = libraries();
    let libdir = libraries.fiber.parent().expect("a directory");
    let program = dir.join(Path::new(source).file_name().expect("a name"));
    let output = Command::new(&compiler)
        .args([
            "-std=c++20",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pthread",
        ])
        .args(libraries.include.iter().map(|dir| joined("-I", dir)))
        .arg(c_sources().join(source).with_extension("cc"))
        .arg("-o")
        .arg(&program)
        .args(how)
        .args([joined("-L", libdir), joined("-Wl,-rpath,", libdir)])
        .arg("-lfiber")
        .output()
        .expect("the compiler runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(program)
}

/// The executable of `c/<source>.c`, linked with libfiber; compiled first if necessary. A source
/// that begins with `bench/` is a benchmark program, which lies beside `testprogs`.
///
/// # Panics
/// When it does not compile; the message contains the diagnostics.
pub fn program(source: &str, flavor: Flavor) -> PathBuf {
    once(source, flavor, Kind::Program)
}

/// `c/<source>.c` as a shared object, to be loaded with dlopen or preloaded.
///
/// # Panics
/// When it does not compile.
pub fn shared_object(source: &str, flavor: Flavor) -> PathBuf {
    once(source, flavor, Kind::SharedObject)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Program,
    SharedObject,
}

type Key = (String, Flavor, Kind);

/// Hashes and compiles each file once per process. Tests that need the same file wait for it; the
/// others continue.
fn once(source: &str, flavor: Flavor, kind: Kind) -> PathBuf {
    static DONE: Mutex<Option<HashMap<Key, Arc<OnceLock<PathBuf>>>>> = Mutex::new(None);
    let cell = {
        let mut done = DONE.lock().unwrap_or_else(|e| e.into_inner());
        done.get_or_insert_default()
            .entry((source.to_owned(), flavor, kind))
            .or_default()
            .clone()
    };
    cell.get_or_init(|| {
        compile(source, flavor, kind).unwrap_or_else(|e| panic!("c/{source}.c: {e:#}"))
    })
    .clone()
}

fn compile(source: &str, flavor: Flavor, kind: Kind) -> Result<PathBuf> {
    let libraries = libraries();
    let libdir = libraries
        .fiber
        .parent()
        .context("libfiber.so has no directory")?;
    let root = match source.starts_with("bench/") {
        true => workspace().to_owned(),
        false => c_sources(),
    };
    let file = root.join(source).with_extension("c");
    let name = Path::new(source).file_name().context("a name")?;

    let mut args: Vec<OsString> = CFLAGS
        .iter()
        .chain(flavor.cflags())
        .map(OsString::from)
        .collect();
    for dir in [&c_sources(), &libraries.include[0], &libraries.include[1]] {
        args.push(joined("-I", dir));
    }
    if kind == Kind::SharedObject {
        args.extend(["-shared".into(), "-fPIC".into()]);
    }
    args.push(file.clone().into());
    args.extend([joined("-L", libdir), joined("-Wl,-rpath,", libdir)]);
    // Since glibc 2.34 these libraries are part of libc. On an older glibc, `--as-needed` links
    // only the ones that a program needs.
    args.extend(
        [
            "-lfiber",
            "-Wl,--as-needed",
            "-ldl",
            "-lrt",
            "-lutil",
            "-lresolv",
        ]
        .map(OsString::from),
    );

    let compiler = c_compiler();
    let dir = target_dir()
        .join("testprogs")
        .join(flavor.name())
        .join(key(&compiler, &args, &file)?);
    let out = match kind {
        Kind::Program => dir.join(name),
        Kind::SharedObject => dir
            .join(joined("lib", Path::new(name)))
            .with_extension("so"),
    };
    if out.exists() {
        return Ok(out);
    }
    fs::create_dir_all(&dir)?;
    let partial = dir.join(format!(".{}.{}", std::process::id(), serial()));
    let result = Command::new(&compiler)
        .args(&args)
        .arg("-o")
        .arg(&partial)
        .output()
        .with_context(|| format!("{}", compiler.display()))?;
    ensure!(
        result.status.success(),
        "does not compile ({flavor:?})\n{}",
        String::from_utf8_lossy(&result.stderr)
    );
    fs::rename(&partial, &out)?;
    Ok(out)
}

/// A hash of all inputs: the compiler, its arguments, the source, and every header that may be
/// included.
fn key(compiler: &OsString, args: &[OsString], file: &Path) -> Result<String> {
    let mut hash = DefaultHasher::new();
    (compiler, args).hash(&mut hash);
    fs::read(file)?.hash(&mut hash);
    let mut headers = Vec::new();
    let beside = file
        .parent()
        .context("a source has a directory")?
        .to_owned();
    let dirs = [
        &beside,
        &c_sources(),
        &libraries().include[0],
        &libraries().include[1],
    ];
    for dir in dirs {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "h") {
                headers.push(path);
            }
        }
    }
    headers.sort();
    for header in headers {
        fs::read(header)?.hash(&mut hash);
    }
    Ok(format!("{:016x}", hash.finish()))
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(path);
    joined
}

fn serial() -> u32 {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}
