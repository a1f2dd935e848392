//! The program to run: where it is, and whether a preload has an effect on it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What the checks need of a file's beginning: the ELF header, or the first line of a script.
const HEAD: usize = 256;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// ELF: the class of 64-bit files, and the program header that names the dynamic loader.
const CLASS_64: u8 = 2;
const PT_INTERP: u32 = 3;

/// The file that execvp(3) would run for `name`, or None if there is none.
pub fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return path.exists().then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    let found: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .filter(|file| file.is_file())
        .collect();
    let executable = found.iter().find(|file| is_executable(file));
    executable.or(found.first()).cloned()
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|status| status.mode() & 0o111 != 0)
}

/// Fails with the reason if the dynamic loader would ignore a preload for `program`. Files that the
/// kernel will refuse pass this check: exec(2) reports the error.
pub fn check(program: &Path) -> Result<()> {
    check_privileges(program)?;
    let Ok(file) = File::open(program) else {
        // Executable but not readable.
        return Ok(());
    };
    let mut head = Vec::new();
    (&file)
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .with_context(|| program.display().to_string())?;
    if head.starts_with(b"\x7fELF") {
        return check_elf(program, &file, &head);
    }
    match interpreter(&head) {
        Some(interpreter) if interpreter != program => {
            check(&interpreter).with_context(|| format!("{}: a script", program.display()))
        }
        _ => Ok(()),
    }
}

/// The loader ignores preloads in a process that gains privileges.
fn check_privileges(program: &Path) -> Result<()> {
    let status = program
        .metadata()
        .with_context(|| program.display().to_string())?;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let gains_user = status.mode() & SETUID != 0 && status.uid() != uid.as_raw();
    let gains_group = status.mode() & SETGID != 0 && status.gid() != gid.as_raw();
    ensure!(
        !gains_user && !gains_group,
        "{}: a setuid or setgid program: it ignores LD_PRELOAD",
        program.display()
    );
    let mut value = [0_u8; 64];
    let capabilities = rustix::fs::getxattr(program, "security.capability", &mut value);
    ensure!(
        uid.is_root() || capabilities.is_err(),
        "{}: has file capabilities: it ignores LD_PRELOAD",
        program.display()
    );
    Ok(())
}

/// A program without a dynamic loader is static.
fn check_elf(program: &Path, file: &File, head: &[u8]) -> Result<()> {
    let name = program.display();
    ensure!(
        head.get(4) == Some(&CLASS_64) && head.len() >= 64,
        "{name}: not a 64-bit program, but libaioshim.so is a 64-bit library"
    );
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let table = u64::from_le_bytes(head[32..40].try_into().expect("eight bytes"));
    let (size, count) = (u64::from(half(54)), u64::from(half(56)));
    let has_loader = (0..count).any(|index| {
        let mut kind = [0_u8; 4];
        let at = table.saturating_add(index * size);
        file.read_exact_at(&mut kind, at).is_ok() && u32::from_le_bytes(kind) == PT_INTERP
    });
    ensure!(
        has_loader,
        "{name}: a static program: it cannot be preloaded (for Go, see `aioshim go`)"
    );
    Ok(())
}

/// The interpreter that the first line of a script names.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line
        .split(|byte| b" \t".contains(byte))
        .filter(|word| !word.is_empty());
    Some(PathBuf::from(OsStr::from_bytes(words.next()?)))
}
