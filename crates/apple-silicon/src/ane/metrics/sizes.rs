//! How large batches are.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::shards::Shards;

/// Upper bounds of all but the last bucket, which has none.
const BOUNDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Counts sizes up to each power of two. Cost: see [`Shards`]; 128 bytes for each thread.
pub(super) struct Sizes {
    cells: Shards<Cells>,
}

#[derive(Default)]
#[repr(align(128))]
struct Cells {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Sizes {
    pub(super) fn new() -> Sizes {
        Sizes { cells: Shards::new() }
    }

    #[inline]
    pub(super) fn record(&self, size: u64) {
        let (cells, writer) = self.cells.mine();
        writer.add(&cells.buckets[bucket(size)], 1);
        writer.add(&cells.sum, size);
    }

    pub(super) fn counts(&self) -> SizeCounts {
        let mut counts = SizeCounts::default();
        for Cells { buckets, sum } in self.cells.all() {
            counts.buckets.iter_mut().zip(buckets).for_each(|(count, more)| *count += more.load(Relaxed));
            counts.sum = counts.sum.wrapping_add(sum.load(Relaxed));
        }
        counts
    }
}

/// The first whose bound is not below the size.
#[inline]
fn bucket(size: u64) -> usize {
    let bits_below = u64::BITS - size.saturating_sub(1).leading_zeros();
    (bits_below as usize).min(BOUNDS.len())
}

/// How many batches there were of which sizes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SizeCounts {
    buckets: [u64; BOUNDS.len() + 1],
    sum: u64,
}

impl SizeCounts {
    /// How many batches.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Samples in all batches.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Samples in a batch; 0 where there is none.
    pub fn average(&self) -> f64 {
        if self.count() == 0 { 0.0 } else { self.sum as f64 / self.count() as f64 }
    }

    /// How many batches have at most 1, 2, 4, and so on to 1024 samples.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        BOUNDS.into_iter().zip(self.buckets).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }
}

impl fmt::Debug for SizeCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SizeCounts")
            .field("count", &self.count())
            .field("average", &self.average())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_up_to_their_bounds() {
        let sizes = Sizes::new();
        assert_eq!((sizes.counts().count(), sizes.counts().average()), (0, 0.0));
        [1, 1, 2, 3, 4, 5, 1024, 1025, 1_000_000].into_iter().for_each(|size| sizes.record(size));
        let counts = sizes.counts();
        assert_eq!((counts.count(), counts.sum()), (9, 1_002_065));
        let cumulative: Vec<_> = counts.cumulative().collect();
        assert_eq!(cumulative[..4], [(1, 2), (2, 3), (4, 5), (8, 6)]);
        assert_eq!(cumulative.last(), Some(&(1024, 7)));
    }

    #[test]
    fn buckets_are_up_to_their_bounds() {
        for size in (0..3000).chain([u64::MAX - 1, u64::MAX]) {
            assert_eq!(bucket(size), BOUNDS.partition_point(|bound| *bound < size), "{size}");
        }
    }
}
