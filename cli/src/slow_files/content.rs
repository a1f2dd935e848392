//! The content of the files, computed from the number of the file and the position.
//!
//! The content repeats after [`PERIOD`] bytes. The period is no multiple of a page, so a page that
//! is returned for another one is noticed.

/// The number of bytes after which the content repeats.
const PERIOD: usize = 4104;

/// The largest part that [`Content::part`] can return: the longest read of FUSE.
const LONGEST: usize = 16 << 20;

/// The content of all files. File `n` begins `n` words into the repeated sequence.
pub struct Content(Vec<u8>);

impl Content {
    /// Computes the repeated sequence.
    pub fn new() -> Content {
        let word = |n: usize| {
            let n = (n % (PERIOD / 8)) as u64;
            (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes()
        };
        Content((0..(PERIOD + LONGEST) / 8).flat_map(word).collect())
    }

    /// The `length` bytes at `offset` of file `file`, of which there are at most [`LONGEST`].
    pub fn part(&self, file: u64, offset: u64, length: usize) -> &[u8] {
        let period = PERIOD as u64;
        let from = ((file % period * 8 + offset % period) % period) as usize;
        &self.0[from..from + length.min(LONGEST)]
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, LONGEST, PERIOD};

    #[test]
    fn parts_agree_with_each_other() {
        let content = Content::new();
        let whole = content.part(3, 0, 3 * PERIOD);
        assert_eq!(content.part(3, 5000, 100), &whole[5000..5100]);
        assert_ne!(content.part(3, 4096, 4096), &whole[..4096]);
        assert_ne!(content.part(4, 0, 4096), &whole[..4096]);
        assert_eq!(content.part(7, u64::MAX - 1, LONGEST).len(), LONGEST);
    }
}
