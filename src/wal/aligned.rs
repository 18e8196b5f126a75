//! Block-aligned memory for `O_DIRECT`.

use super::BLOCK_BYTES;

/// Zeroed memory that starts on a [`BLOCK_BYTES`] boundary, as `O_DIRECT` requires. Allocated once
/// with one block to spare; the part before the boundary is never used.
#[derive(Debug)]
pub(super) struct AlignedBuffer {
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    pub(super) fn new(len: usize) -> Self {
        assert!(len > 0 && len.is_multiple_of(BLOCK_BYTES), "O_DIRECT moves whole blocks");
        let memory = vec![0_u8; len + BLOCK_BYTES].into_boxed_slice();
        let address = memory.as_ptr().addr();
        let start = address.next_multiple_of(BLOCK_BYTES) - address;
        assert!(start + len <= memory.len(), "the aligned part lies within the memory");
        Self { memory, start, len }
    }

    #[expect(clippy::indexing_slicing, reason = "one block to spare: start + len is within memory")]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    #[expect(clippy::indexing_slicing, reason = "one block to spare: start + len is within memory")]
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_aligned_zeroed_and_complete() {
        for len in [BLOCK_BYTES, 3 * BLOCK_BYTES, 1024 * 1024] {
            let mut buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.as_slice().as_ptr().addr() % BLOCK_BYTES, 0);
            assert_eq!(buffer.as_slice().len(), len);
            assert!(buffer.as_slice().iter().all(|&byte| byte == 0));
            buffer.as_mut_slice().fill(7);
            assert!(buffer.as_slice().iter().all(|&byte| byte == 7));
        }
    }
}
