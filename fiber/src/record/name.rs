//! The names of fibers, as programs set them and as messages show them.

use super::fiber::{Fiber, NAME_LEN};
use crate::errno::Errno;
use crate::spin::SpinLock;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

/// Guards the names of all fibers.
pub(crate) static NAMES: SpinLock<()> = SpinLock::new(());

/// Converts a name to the stored form, padded with NULs. Returns `ERANGE` if it is longer than 15
/// bytes.
pub(crate) fn checked_name(name: &[u8]) -> Result<[u8; NAME_LEN], Errno> {
    let mut stored = [0; NAME_LEN];
    stored[..NAME_LEN - 1]
        .get_mut(..name.len())
        .ok_or(Errno::ERANGE)?
        .copy_from_slice(name);
    Ok(stored)
}

pub(crate) fn set_name(fiber: &Fiber, name: [u8; NAME_LEN]) {
    let _names = NAMES.lock();
    // SAFETY: we hold the name lock.
    unsafe { *fiber.name.get() = name };
}

pub(crate) fn name(fiber: &Fiber) -> [u8; NAME_LEN] {
    let _names = NAMES.lock();
    // SAFETY: we hold the name lock.
    unsafe { *fiber.name.get() }
}

/// Returns the text of a stored name, without its NULs.
pub(crate) fn text(name: &[u8; NAME_LEN]) -> &[u8] {
    &name[..name.iter().position(|&b| b == 0).unwrap_or(NAME_LEN)]
}

/// Returns the name for a fiber in messages: its number and its name.
pub(crate) fn title(fiber: &Fiber) -> String {
    let mut title = String::new();
    write_title(&mut title, fiber);
    title
}

/// Writes the name for a fiber in messages.
pub(crate) fn write_title(out: &mut impl Write, fiber: &Fiber) {
    let _ = write!(out, "fiber {}", fiber.id.load(Ordering::Relaxed));
    let name = name(fiber);
    if name[0] != 0 {
        let _ = write!(out, " \"{}\"", Printable(text(&name)));
    }
}

/// The bytes of a name, with dots in place of characters that could disturb a terminal.
pub(crate) struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &b in self.0 {
            f.write_char(if b.is_ascii_graphic() || b == b' ' {
                b.into()
            } else {
                '.'
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fifteen_bytes() {
        assert_eq!(
            text(&checked_name(b"fifteen letters").unwrap()),
            b"fifteen letters"
        );
        assert_eq!(checked_name(b"sixteen letters!"), Err(Errno::ERANGE));
        assert_eq!(text(&checked_name(b"").unwrap()), b"");
        assert_eq!(Printable(b"a\x1b[2J\xff").to_string(), "a.[2J.");
    }
}
