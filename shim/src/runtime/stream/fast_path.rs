//! The fast path of a stream: the parts of its buffer that putc, getc and ungetc use before they
//! call any function of its jump table.
//!
//! While a fiber is parked inside a stream its fast path is disabled, so every other task calls a
//! function of the table and waits there. Pending output stays pending: `write_base` and
//! `write_ptr` are not changed.

use super::layout::{Areas, File, flags};
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

/// Flags that make libc change the stream before it calls a function of the table.
const PREMATURE_FLAGS: c_int = flags::IN_BACKUP | flags::CURRENTLY_PUTTING;

/// The saved values for one kind of areas.
struct SavedEnds {
    read_end: *mut c_char,
    read_base: *mut c_char,
    write_end: *mut c_char,
    save_base: *mut c_char,
}

impl SavedEnds {
    fn close(areas: &mut Areas) -> Self {
        let ends = Self {
            read_end: areas.read_end,
            read_base: areas.read_base,
            write_end: areas.write_end,
            save_base: areas.save_base,
        };
        areas.read_end = areas.read_ptr;
        areas.read_base = areas.read_ptr;
        areas.write_end = areas.write_end.min(areas.write_ptr);
        areas.save_base = null_mut();
        ends
    }

    fn restore(&self, areas: &mut Areas) {
        areas.read_end = self.read_end;
        areas.read_base = self.read_base;
        areas.write_end = self.write_end;
        areas.save_base = self.save_base;
    }
}

/// The values to restore when the fiber resumes.
pub struct DisabledFastPath {
    bytes: SavedEnds,
    wide: Option<SavedEnds>,
    markers: *mut c_void,
    flags: c_int,
}

// SAFETY: addresses in a stream's buffers, which any thread that is inside the stream may use.
unsafe impl Send for DisabledFastPath {}

impl DisabledFastPath {
    /// Disables the fast path of `file`.
    ///
    /// # Safety
    /// The stream is open, and no other task is inside it.
    pub unsafe fn disable(file: *mut File) -> Self {
        // SAFETY: our caller makes the same promise; a stream of wide characters has areas for
        // them.
        let (file, wide) = unsafe {
            (
                &mut *file,
                if (*file).mode > 0 {
                    (*file).wide.as_mut()
                } else {
                    None
                },
            )
        };
        let disabled = Self {
            bytes: SavedEnds::close(&mut file.areas),
            wide: wide.map(|wide| SavedEnds::close(&mut wide.areas)),
            markers: std::mem::replace(&mut file.markers, null_mut()),
            flags: file.flags & PREMATURE_FLAGS,
        };
        file.flags &= !PREMATURE_FLAGS;
        disabled
    }

    /// Enables the fast path again.
    ///
    /// # Safety
    /// The same as for [`Self::disable`], with the same stream.
    pub unsafe fn restore(&self, file: *mut File) {
        // SAFETY: our caller makes the same promise.
        let (file, wide) = unsafe { (&mut *file, (*file).wide.as_mut()) };
        self.bytes.restore(&mut file.areas);
        if let (Some(ends), Some(wide)) = (&self.wide, wide) {
            ends.restore(&mut wide.areas);
        }
        file.markers = self.markers;
        // Keep flags that changed since: another task may have reached the end of the file, or
        // cleared an error.
        file.flags |= self.flags;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(buffer: &mut [c_char; 8]) -> File {
        // SAFETY: all fields are numbers and pointers that may be null.
        let mut file: File = unsafe { std::mem::zeroed() };
        let at = |n| buffer.as_ptr().cast_mut().wrapping_add(n);
        file.areas.read_base = at(0);
        file.areas.read_ptr = at(2);
        file.areas.read_end = at(4);
        file.areas.write_base = at(4);
        file.areas.write_ptr = at(5);
        file.areas.write_end = at(8);
        file.areas.save_base = at(1);
        file.flags = flags::CURRENTLY_PUTTING | flags::USER_LOCK;
        file
    }

    #[test]
    fn nothing_can_be_got_put_or_pushed_back_while_it_is_disabled() {
        let mut buffer = [0; 8];
        let mut file = stream(&mut buffer);
        // SAFETY: this function alone uses the stream.
        let disabled = unsafe { DisabledFastPath::disable(&raw mut file) };
        let areas = &file.areas;
        assert_eq!(areas.read_ptr, areas.read_end);
        assert_eq!(areas.read_ptr, areas.read_base);
        assert_eq!(areas.write_ptr, areas.write_end);
        assert!(
            areas.write_base < areas.write_ptr,
            "pending output stays pending"
        );
        assert!(areas.save_base.is_null());
        assert_eq!(file.flags, flags::USER_LOCK);

        file.flags |= flags::ERROR_SEEN;
        // SAFETY: this function alone uses the stream.
        unsafe { disabled.restore(&raw mut file) };
        let same = stream(&mut buffer);
        assert_eq!(file.areas.read_end, same.areas.read_end);
        assert_eq!(file.areas.read_base, same.areas.read_base);
        assert_eq!(file.areas.write_end, same.areas.write_end);
        assert_eq!(file.areas.save_base, same.areas.save_base);
        assert_eq!(file.flags, same.flags | flags::ERROR_SEEN);
    }

    #[test]
    fn a_line_buffered_stream_keeps_its_end_before_what_is_pending() {
        let mut buffer = [0; 8];
        let mut file = stream(&mut buffer);
        file.areas.write_end = file.areas.write_base;
        // SAFETY: this function alone uses the stream.
        let disabled = unsafe { DisabledFastPath::disable(&raw mut file) };
        assert_eq!(file.areas.write_end, file.areas.write_base);
        // SAFETY: this function alone uses the stream.
        unsafe { disabled.restore(&raw mut file) };
        assert_eq!(file.areas.write_end, file.areas.write_base);
    }
}
