//! The symbol table of a loaded object, read without the loader: hashes, names and versions, as the
//! System V ABI and the GNU extensions define them.
//!
//! Invariant: the object stays loaded while its tables are used.

use std::ffi::{CStr, c_char};
use std::iter;

/// `Elf64_Dyn`: an entry of an object's dynamic section.
#[repr(C)]
pub struct Entry {
    tag: i64,
    value: usize,
}

/// The hash function of DT_GNU_HASH.
pub fn hash(name: &CStr) -> u32 {
    name.to_bytes().iter().fold(5381_u32, |hash, byte| {
        hash.wrapping_mul(33).wrapping_add(u32::from(*byte))
    })
}

/// `Elf64_Sym`.
#[repr(C)]
pub struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    pub value: usize,
    pub size: usize,
}

// The kinds of symbols that need the loader.
pub const TLS: u8 = 6;
pub const IFUNC: u8 = 10;

impl Symbol {
    pub fn kind(&self) -> u8 {
        self.info & 0xf
    }

    fn is_defined(&self) -> bool {
        self.section != 0 && (self.value != 0 || self.kind() == TLS)
    }

    /// The address of the symbol in the object that was loaded at `base`.
    pub fn address(&self, base: usize) -> usize {
        const ABSOLUTE: u16 = 0xfff1;
        if self.section == ABSOLUTE {
            self.value
        } else {
            base + self.value
        }
    }
}

/// `Elf64_Verdef` and its first `Elf64_Verdaux`: one of the versions that an object defines.
#[repr(C)]
struct Version {
    version: u16,
    flags: u16,
    index: u16,
    names: u16,
    hash: u32,
    auxiliary: u32,
    next: u32,
}

/// The bit in a symbol's version that marks versions which are not the default, and the other bits.
const HIDDEN: u16 = 0x8000;

/// The entries of a dynamic section: tags and values.
pub fn entries(dynamic: *const Entry) -> impl Iterator<Item = (i64, usize)> {
    let mut entry = dynamic;
    iter::from_fn(move || {
        // SAFETY: the section belongs to a loaded object, and ends with an entry of tag 0.
        let (tag, value) = unsafe { ((*entry).tag, (*entry).value) };
        // SAFETY: the last entry ends the iteration.
        entry = unsafe { entry.add(1) };
        (tag != 0).then_some((tag, value))
    })
}

/// The address that an entry holds. The loader relocates it, unless the section is read-only.
fn address(base: usize, value: usize) -> usize {
    if value < base { base + value } else { value }
}

/// The names of the libraries that an object needs (true), and its own name (false), if it has one.
pub fn names(base: usize, dynamic: *const Entry) -> impl Iterator<Item = (bool, &'static CStr)> {
    const NEEDED: i64 = 1;
    const OWN: i64 = 14;
    let strings = entries(dynamic)
        .find(|(tag, _)| *tag == STRTAB)
        .map(|(_, value)| address(base, value) as *const c_char);
    entries(dynamic).filter_map(move |(tag, offset)| {
        let is_name = tag == NEEDED || tag == OWN;
        let strings = strings.filter(|_| is_name)?;
        // SAFETY: an offset of the object's own section into its strings, which end in a NUL each.
        Some((tag == NEEDED, unsafe {
            CStr::from_ptr(strings.add(offset))
        }))
    })
}

const STRTAB: i64 = 5;

/// The tables of one object.
#[derive(Clone, Copy)]
pub struct Object {
    pub base: usize,
    strings: *const c_char,
    symbols: *const Symbol,
    /// DT_GNU_HASH: four words, the Bloom filter, the buckets and the chains.
    hashes: *const u32,
    /// The version of each symbol; null if the object has no versions.
    symbol_versions: *const u16,
    versions: *const u8,
}

impl Object {
    /// The tables of the object. None if they are not in the form that glibc has used since 2006.
    pub fn of(base: usize, dynamic: *const Entry) -> Option<Self> {
        const SYMTAB: i64 = 6;
        const GNU_HASH: i64 = 0x6fff_fef5;
        const VERSYM: i64 = 0x6fff_fff0;
        const VERDEF: i64 = 0x6fff_fffc;
        let mut object = Self {
            base,
            strings: std::ptr::null(),
            symbols: std::ptr::null(),
            hashes: std::ptr::null(),
            symbol_versions: std::ptr::null(),
            versions: std::ptr::null(),
        };
        for (tag, value) in entries(dynamic) {
            let at = address(base, value);
            match tag {
                STRTAB => object.strings = at as *const c_char,
                SYMTAB => object.symbols = at as *const Symbol,
                GNU_HASH => object.hashes = at as *const u32,
                VERSYM => object.symbol_versions = at as *const u16,
                VERDEF => object.versions = at as *const u8,
                _ => {}
            }
        }
        let is_complete =
            !object.strings.is_null() && !object.symbols.is_null() && !object.hashes.is_null();
        is_complete.then_some(object)
    }

    /// The definition of `name`, whose hash is `hash`: the version `wanted` if the object has it,
    /// otherwise the default, unless `exactly` forbids that.
    pub fn find(
        &self,
        name: &CStr,
        hash: u32,
        wanted: Option<&CStr>,
        exactly: bool,
    ) -> Option<&'static Symbol> {
        let mut default = None;
        for index in self.with_hash(hash) {
            // SAFETY: the hash table refers to entries of the symbol table.
            let symbol = unsafe { &*self.symbols.add(index) };
            if !symbol.is_defined() || self.string(symbol.name) != name {
                continue;
            }
            let version = (!self.symbol_versions.is_null())
                // SAFETY: the table has an entry for each symbol.
                .then(|| unsafe { *self.symbol_versions.add(index) });
            if let (Some(version), Some(wanted)) = (version, wanted)
                && self.version(version & !HIDDEN) == Some(wanted)
            {
                return Some(symbol);
            }
            if version.is_none_or(|version| version & HIDDEN == 0) {
                default = default.or(Some(symbol));
            }
        }
        default.filter(|_| !exactly)
    }

    /// The indices of the symbols whose names have this hash. The lowest bit of a hash is not
    /// compared.
    fn with_hash(&self, hash: u32) -> impl Iterator<Item = usize> {
        // SAFETY: the layout of DT_GNU_HASH.
        let (buckets, first, words, shift) = unsafe {
            let head = self.hashes;
            ((*head).max(1), *head.add(1), *head.add(2), *head.add(3))
        };
        // SAFETY: the filter of 64-bit words follows the head, and the buckets follow the filter.
        let (filter, bucket) = unsafe {
            let filter = self.hashes.add(4).cast::<u64>();
            let filter_end = filter.add(words as usize).cast::<u32>();
            (
                *filter.add((hash / 64) as usize & (words as usize - 1)),
                filter_end.add((hash % buckets) as usize),
            )
        };
        let may_have = filter >> (hash % 64) & filter >> ((hash >> shift) % 64) & 1 != 0;
        // SAFETY: the bucket was computed from the number of buckets, and the chains follow the
        // last one.
        let (begin, chains) = unsafe {
            let chains = bucket.sub((hash % buckets) as usize).add(buckets as usize);
            (if may_have { *bucket } else { 0 }, chains)
        };
        let mut at = (begin >= first && begin != 0).then_some(begin);
        iter::from_fn(move || {
            loop {
                let index = at?;
                // SAFETY: a chain has an entry for each symbol from `first` on, and the last one of
                // a bucket ends with a set bit.
                let entry = unsafe { *chains.add((index - first) as usize) };
                at = (entry & 1 == 0).then_some(index + 1);
                if entry | 1 == hash | 1 {
                    return Some(index as usize);
                }
            }
        })
    }

    fn string(&self, offset: u32) -> &'static CStr {
        // SAFETY: an offset of the object's own tables into its strings, which end in a NUL each.
        unsafe { CStr::from_ptr(self.strings.add(offset as usize)) }
    }

    /// The name of the version with this index, if the object defines it.
    fn version(&self, index: u16) -> Option<&'static CStr> {
        let mut at = self.versions;
        while !at.is_null() {
            // SAFETY: the list of versions: each entry says how far away its first name and the
            // next entry are.
            let (entry, name) = unsafe {
                let entry = &*at.cast::<Version>();
                (entry, *at.add(entry.auxiliary as usize).cast::<u32>())
            };
            if entry.index & !HIDDEN == index {
                return Some(self.string(name));
            }
            at = match entry.next {
                0 => return None,
                // SAFETY: as above.
                next => unsafe { at.add(next as usize) },
            };
        }
        None
    }
}
