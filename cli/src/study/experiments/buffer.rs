//! Memory that O_DIRECT accepts.

/// A page: O_DIRECT wants the alignment of a block, which is never larger.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

const PAGE: usize = 4096;

/// Pages of memory, all of them written once, so that no measurement meets the first touch.
pub struct Buffer(Vec<Page>);

impl Buffer {
    /// Memory of at least `bytes` bytes.
    pub fn new(bytes: usize) -> Buffer {
        Buffer(vec![Page([0x5a; PAGE]); bytes.div_ceil(PAGE).max(1)])
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        let length = self.0.len() * PAGE;
        // SAFETY: the pages lie behind each other without padding, every byte is initialised, and
        // the borrow of `self` keeps others away from them.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), length) }
    }

    /// The address of its byte `at`.
    pub fn address(&mut self, at: usize) -> *mut u8 {
        &raw mut self.bytes()[at]
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn it_is_aligned_and_large_enough() {
        let mut buffer = Buffer::new(5000);
        assert_eq!(buffer.bytes().len(), 8192);
        assert_eq!(buffer.address(0).addr() % 4096, 0);
    }
}
