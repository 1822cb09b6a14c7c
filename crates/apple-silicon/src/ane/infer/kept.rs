//! Vectors that are kept to be used again.

/// At most 64 vectors of 4 MB together, whose memory the pool does not count.
#[derive(Default)]
pub(super) struct Kept {
    vectors: Vec<Vec<f32>>,
    bytes: usize,
}

impl Kept {
    const MOST: usize = 64;
    const MOST_BYTES: usize = 4 << 20;

    /// The one that was kept last, or a new one. It may hold what its last user wrote.
    pub(super) fn take(&mut self) -> Vec<f32> {
        let vector = self.vectors.pop().unwrap_or_default();
        self.bytes -= bytes(&vector);
        vector
    }

    /// Keeps a vector. One that is not kept is given back, to be freed where no lock is held.
    pub(super) fn keep(&mut self, vector: Vec<f32>) -> Option<Vec<f32>> {
        let more = bytes(&vector);
        if more == 0 || self.vectors.len() == Kept::MOST || more > Kept::MOST_BYTES - self.bytes {
            return Some(vector);
        }
        self.bytes += more;
        self.vectors.push(vector);
        None
    }
}

fn bytes(vector: &Vec<f32>) -> usize {
    vector.capacity() * size_of::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes() {
        let check = |sizes: &[usize], expected: usize| {
            let mut kept = Kept::default();
            let refused = sizes.iter().filter_map(|&size| kept.keep(Vec::with_capacity(size))).count();
            assert_eq!((kept.vectors.len(), refused), (expected, sizes.len() - expected), "{sizes:?}");
            let held: usize = kept.vectors.iter().map(bytes).sum();
            assert!(kept.bytes == held && held <= 4 << 20, "{held} bytes, counted as {}", kept.bytes);
            (0..=expected).for_each(|_| drop(kept.take()));
            assert_eq!(kept.bytes, 0);
        };
        check(&[], 0);
        check(&[0], 0);
        check(&[1; 100], 64);
        // 1 MB each.
        check(&[1 << 18; 6], 4);
        check(&[1 << 20], 1);
        check(&[(1 << 20) + 1, 16], 1);
        check(&[16, 1 << 20, 16], 2);
    }
}
