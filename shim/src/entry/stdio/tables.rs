//! stdio's jump tables: finds them in libc's memory by their content, and points them at our
//! functions.
//!
//! stdio makes its system calls inside libc, where a preloaded library does not see them. It makes
//! them through tables of functions, one table per kind of stream. Two of the tables have exported
//! names. The others (for mapped streams, for processes, for functions of the program) are
//! identified by their content, because they share functions with the first. Their distance, order
//! and section differ between versions of libc, so this code assumes nothing about them.
//!
//! The tables lie in memory that the dynamic loader has made read-only. libc checks that a stream's
//! table is in the expected range, but not its content. If the memory cannot be made writable,
//! stdio stays as it is.
//!
//! Invariant: the original content of a table is published before its first word is changed.

use super::slots;
use crate::runtime::stream::layout::{SLOTS, Slot};
use crate::state::loaded;
use once_cell::race::OnceBox;
use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A jump table, and its original content.
struct JumpTable {
    at: *const usize,
    originals: [usize; SLOTS],
}

// SAFETY: an address that stays valid, and numbers.
unsafe impl Send for JumpTable {}
// SAFETY: the address stays valid, and nothing in here ever changes.
unsafe impl Sync for JumpTable {}

/// The table of files, which most streams use; separate, so it is found at once.
struct FileTable {
    at: AtomicUsize,
    originals: [AtomicUsize; SLOTS],
}

static FILES: FileTable = FileTable {
    at: AtomicUsize::new(0),
    originals: [const { AtomicUsize::new(0) }; SLOTS],
};

/// The kind of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableKind {
    /// For streams on a descriptor.
    File,
    /// For streams on functions of the program (fopencookie, fmemopen), whose buffer is handled
    /// like a file's.
    Cookie,
}

/// All tables.
static TABLES: OnceBox<Vec<JumpTable>> = OnceBox::new();

/// The original function in `slot` of a stream's table.
#[inline(always)]
pub fn original(jumps: *const usize, slot: Slot) -> usize {
    if FILES.at.load(Ordering::Relaxed) == jumps as usize {
        FILES.originals[slot as usize].load(Ordering::Relaxed)
    } else {
        original_of_other(jumps, slot)
    }
}

/// A table that the program made may contain copies of our functions. It is treated like the table
/// of files.
#[inline(never)]
fn original_of_other(jumps: *const usize, slot: Slot) -> usize {
    let tables = TABLES.get().map_or(&[][..], Vec::as_slice);
    match tables.iter().find(|table| table.at == jumps) {
        Some(table) => table.originals[slot as usize],
        None => FILES.originals[slot as usize].load(Ordering::Relaxed),
    }
}

/// Points the tables at the functions of [`slots`]; returns the reason if that is impossible.
pub fn patch() -> Result<(), &'static str> {
    let file = symbol(c"_IO_file_jumps").ok_or("this libc has no _IO_file_jumps")?;
    let image = Image::of(file as usize).ok_or("libc is not among the loaded objects")?;
    // SAFETY: libc's own table.
    let reference: [usize; SLOTS] = unsafe { file.cast::<[usize; SLOTS]>().read() };
    if !image.is_table(&reference)
        || reference[Slot::Read as usize] == 0
        || reference[Slot::Write as usize] == 0
    {
        return Err("_IO_file_jumps does not look as expected");
    }
    let found = image.tables(&reference);
    let kinds: Vec<TableKind> = found.iter().map(|(_, kind)| *kind).collect();
    let tables: Vec<JumpTable> = found.into_iter().map(|(table, _)| table).collect();
    let writable = Writable::make(image.read_only.clone())?;
    let tables = TABLES.get_or_init(|| Box::new(tables));
    for (to, from) in FILES.originals.iter().zip(reference) {
        to.store(from, Ordering::Relaxed);
    }
    FILES.at.store(file as usize, Ordering::Relaxed);
    for (table, kind) in tables.iter().zip(kinds) {
        let usual = |slot: Slot| table.originals[slot as usize] == reference[slot as usize];
        for (slot, function) in slots::functions(kind, usual(Slot::Close)) {
            // Skip streams that reach the kernel in their own way, which is unknown to us.
            if kind == TableKind::File
                && matches!(slot, Slot::Read | Slot::Write | Slot::Seek)
                && !usual(slot)
            {
                continue;
            }
            // SAFETY: a word of the table, which is writable now; other threads read it as a whole.
            let word = unsafe { AtomicUsize::from_ptr(table.at.cast_mut().add(slot as usize)) };
            word.store(function, Ordering::Release);
        }
    }
    drop(writable);
    Ok(())
}

fn symbol(name: &CStr) -> Option<*const c_void> {
    let found = loaded::next_anyway(name);
    (!found.is_null()).then_some(found.cast_const())
}

/// The parts of libc in memory.
#[derive(Default)]
struct Image {
    key: usize,
    text: Range<usize>,
    /// The part that the loader made read-only after relocation.
    read_only: Range<usize>,
}

impl Image {
    /// The object that contains `address`.
    fn of(address: usize) -> Option<Self> {
        let mut image = Self {
            key: address,
            ..Self::default()
        };
        // SAFETY: the callback gets the image passed here, which outlives the call.
        let found = unsafe { libc::dl_iterate_phdr(Some(look_at), (&raw mut image).cast()) };
        (found == 1 && !image.text.is_empty() && !image.read_only.is_empty()).then_some(image)
    }

    /// Whether these words may be a table: two unused words, then functions of libc. Any function
    /// except the first may be null.
    fn is_table(&self, words: &[usize; SLOTS]) -> bool {
        words[..2] == [0, 0]
            && self.text.contains(&words[2])
            && words[3..]
                .iter()
                .all(|word| *word == 0 || self.text.contains(word))
    }

    /// The tables of streams on descriptors, and of streams whose buffer is handled in the same
    /// way.
    fn tables(&self, reference: &[usize; SLOTS]) -> Vec<(JumpTable, TableKind)> {
        let begin = self.read_only.start.next_multiple_of(size_of::<usize>());
        let end = self
            .read_only
            .end
            .saturating_sub(size_of::<[usize; SLOTS]>());
        (begin..=end)
            .step_by(size_of::<usize>())
            .map(|address| address as *const usize)
            .filter_map(|at| {
                // SAFETY: the address is within a part of libc that is mapped and readable.
                let words: [usize; SLOTS] = unsafe { at.cast::<[usize; SLOTS]>().read() };
                let kind = self
                    .is_table(&words)
                    .then(|| kind(&words, reference))
                    .flatten()?;
                Some((
                    JumpTable {
                        at,
                        originals: words,
                    },
                    kind,
                ))
            })
            .collect()
    }
}

/// The kind of the table with these words, in comparison with the table of files.
fn kind(words: &[usize; SLOTS], reference: &[usize; SLOTS]) -> Option<TableKind> {
    let same = |slot: Slot| words[slot as usize] == reference[slot as usize];
    let alike = words
        .iter()
        .zip(reference)
        .skip(2)
        .filter(|(a, b)| a == b)
        .count();
    if alike < 4 || words[Slot::PutN as usize] == 0 || words[Slot::Read as usize] == 0 {
        return None;
    }
    if [Slot::Read, Slot::Write, Slot::Seek, Slot::Close, Slot::Stat]
        .into_iter()
        .any(same)
    {
        Some(TableKind::File)
    } else if same(Slot::Overflow) && same(Slot::Underflow) {
        Some(TableKind::Cookie)
    } else {
        // String streams use only memory.
        None
    }
}

/// Called for each loaded object: stores its parts if it is the one searched for.
unsafe extern "C" fn look_at(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    image: *mut c_void,
) -> c_int {
    // SAFETY: the loader's own description, and the image passed by `Image::of`.
    let (info, image) = unsafe { (&*info, &mut *image.cast::<Image>()) };
    // SAFETY: the loader says how many headers there are.
    let headers =
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let range = |header: &libc::Elf64_Phdr| {
        let begin = info.dlpi_addr as usize + header.p_vaddr as usize;
        begin..begin + header.p_memsz as usize
    };
    let loaded = || {
        headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD)
    };
    if !loaded().any(|header| range(header).contains(&image.key)) {
        return 0;
    }
    if let Some(text) = loaded().find(|header| header.p_flags & libc::PF_X != 0) {
        image.text = range(text);
    }
    if let Some(relro) = headers
        .iter()
        .find(|header| header.p_type == libc::PT_GNU_RELRO)
    {
        image.read_only = range(relro);
    }
    1
}

/// Makes libc's read-only data writable while this lives.
struct Writable {
    begin: usize,
    length: usize,
}

impl Writable {
    fn make(range: Range<usize>) -> Result<Self, &'static str> {
        let page = sys::page_size();
        // Like the loader, leave the last page alone, because it is shared with data that stays
        // writable.
        let begin = range.start & !(page - 1);
        let writable = Self {
            begin,
            length: (range.end & !(page - 1)).saturating_sub(begin),
        };
        if writable.protect(libc::PROT_READ | libc::PROT_WRITE) {
            Ok(writable)
        } else {
            Err("mprotect is refused")
        }
    }

    fn protect(&self, protection: c_int) -> bool {
        // SAFETY: pages of libc's data, which stay readable.
        self.length == 0
            || unsafe { libc::mprotect(self.begin as *mut c_void, self.length, protection) } == 0
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        self.protect(libc::PROT_READ);
    }
}
