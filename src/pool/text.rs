//! A short text that several processes may read while one writes it; a reader may see half of each.
//!
//! ```
//! use sharding::pool::text::SharedText;
//! let text = SharedText::<8>::new();
//! text.set("eighty days");
//! assert_eq!(text.get(), "eighty d");
//! ```

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// At most `N` bytes of text; longer ones are cut at a character.
#[derive(Debug)]
pub struct SharedText<const N: usize> {
    length: AtomicU32,
    bytes: [AtomicU8; N],
}

impl<const N: usize> Default for SharedText<N> {
    fn default() -> Self {
        SharedText::new()
    }
}

impl<const N: usize> SharedText<N> {
    pub fn new() -> SharedText<N> {
        SharedText { length: AtomicU32::new(0), bytes: [const { AtomicU8::new(0) }; N] }
    }

    pub fn set(&self, text: &str) {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.length.store(0, Ordering::Relaxed);
        for (to, from) in self.bytes.iter().zip(&text.as_bytes()[..end]) {
            to.store(*from, Ordering::Relaxed);
        }
        self.length.store(end as u32, Ordering::Release);
    }

    pub fn get(&self) -> String {
        let length = (self.length.load(Ordering::Acquire) as usize).min(N);
        let bytes: Vec<u8> = self.bytes[..length].iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = SharedText::<4>::new();
        text.set("abcä");
        assert_eq!(text.get(), "abc");
        text.set("ä");
        assert_eq!(text.get(), "ä");
    }
}
