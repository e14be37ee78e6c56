//! Sorted merge: streams that are each in order become one that is.
//!
//! ```text
//! n1: 1 4 9      heads 1 2 3   -> 1, and n1 moves on to 4
//! n2: 2 4        heads 4 2 3   -> 2, and n2 moves on to 4
//! n3: 3          heads 4 4 3   -> 3, and n3 is at its end
//! ```
//!
//! A heap of the streams' heads: a row costs as many comparisons as the logarithm of their number, and memory
//! holds one row per stream. What a head is, and which of two comes first, is the caller's business.

/// The heads of the streams that have not ended, the first in order on top.
#[derive(Debug)]
pub struct Merge<T> {
    heap: Vec<T>,
}

impl<T> Merge<T> {
    /// `before`: whether one head comes strictly before another.
    pub fn of(heads: Vec<T>, before: &mut impl FnMut(&T, &T) -> bool) -> Merge<T> {
        let mut merge = Merge { heap: heads };
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sink(at, before);
        }
        merge
    }

    /// The head that comes first; `None` when all streams have ended.
    pub fn first(&mut self) -> Option<&mut T> {
        self.heap.first_mut()
    }

    /// The first stream has moved on to another head.
    pub fn moved(&mut self, before: &mut impl FnMut(&T, &T) -> bool) {
        self.sink(0, before);
    }

    /// The first stream has ended.
    pub fn ended(&mut self, before: &mut impl FnMut(&T, &T) -> bool) {
        if !self.heap.is_empty() {
            self.heap.swap_remove(0);
            self.sink(0, before);
        }
    }

    /// Restores the heap below `at`.
    fn sink(&mut self, mut at: usize, before: &mut impl FnMut(&T, &T) -> bool) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && before(&self.heap[child], &self.heap[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Streams and how far each is read.
    fn merged(streams: &[Vec<i32>]) -> Vec<i32> {
        let mut before = |a: &(usize, usize), b: &(usize, usize)| streams[a.0][a.1] < streams[b.0][b.1];
        let heads = (0..streams.len()).filter(|s| !streams[*s].is_empty()).map(|s| (s, 0)).collect();
        let mut merge = Merge::of(heads, &mut before);
        let mut rows = Vec::new();
        while let Some(head) = merge.first() {
            rows.push(streams[head.0][head.1]);
            head.1 += 1;
            if head.1 < streams[head.0].len() {
                merge.moved(&mut before);
            } else {
                merge.ended(&mut before);
            }
        }
        rows
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(merged(&[]), Vec::<i32>::new());
        assert_eq!(merged(&[vec![], vec![]]), Vec::<i32>::new());
        assert_eq!(merged(&[vec![], vec![7, 7]]), vec![7, 7]);
    }

    proptest! {
        #[test]
        fn merging_sorted_streams_is_sorting(mut streams in prop::collection::vec(prop::collection::vec(-9..9, 0..20), 0..9)) {
            streams.iter_mut().for_each(|s| s.sort_unstable());
            let mut all = streams.concat();
            all.sort_unstable();
            prop_assert_eq!(merged(&streams), all);
        }
    }
}
