//! Postgres's partition hash of commonest keys, straight from the bytes of a record.
//!
//! ```
//! use sharding::copy::key_hash::KeyType;
//! let hash = KeyType::Int8.of_text(b"42").unwrap();
//! assert_eq!(hash, 0xafd30d9a116a5a62);                       // of 8 shards the third one
//! assert_eq!(KeyType::Int8.of_binary(&42i64.to_be_bytes()), Some(hash));
//! assert_eq!(KeyType::Int8.of_text(b"0x2a"), None);
//! ```
//!
//! The functions are `hashint8extended` and its like with the seed of hash partitions, combined as
//! `compute_partition_hash_value` does for one column (access/hash/hashfunc.c, common/hashfn.c). `None` leaves a value to
//! the type's own functions: whatever is not written as it mostly is, whatever may be wrong. The nodes check each row:
//! one that went astray would be refused.

use crate::copy::field::plain_integer;

/// catalog/partition.h
const SEED: u64 = 0x7a5b_2236_7996_dcfd;
/// What one column's hash is combined with (`hash_combine64` of nothing before it).
const COMBINED: u64 = 0x49a0_f4dd_15e5_a8e3;
/// How the state begins, but for the length.
const START: u32 = 0x9e37_79b9u32.wrapping_add(3_923_095);

/// Types whose keys are hashed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    Int2,
    Int4,
    Int8,
    Uuid,
    /// `text` and `varchar`, under a deterministic collation; no value is cut or refused up to so many bytes.
    Text {
        most: usize,
    },
}

impl KeyType {
    /// The hash of a value in the type's text form.
    pub fn of_text(self, text: &[u8]) -> Option<u64> {
        match self {
            KeyType::Int2 => plain_integer(text).and_then(|n| i16::try_from(n).ok()).map(|n| of_int4(n.into())),
            KeyType::Int4 => plain_integer(text).and_then(|n| i32::try_from(n).ok()).map(of_int4),
            KeyType::Int8 => plain_integer(text).map(of_int8),
            KeyType::Uuid => plain_uuid(text).and_then(|bytes| of_bytes(&bytes)),
            KeyType::Text { most } => (text.len() <= most).then(|| of_bytes(text)).flatten(),
        }
    }

    /// The hash of a value in the type's binary form.
    pub fn of_binary(self, value: &[u8]) -> Option<u64> {
        match self {
            KeyType::Int2 => value.try_into().ok().map(|b| of_int4(i16::from_be_bytes(b).into())),
            KeyType::Int4 => value.try_into().ok().map(|b| of_int4(i32::from_be_bytes(b))),
            KeyType::Int8 => value.try_into().ok().map(|b| of_int8(i64::from_be_bytes(b))),
            KeyType::Uuid => (value.len() == 16).then(|| of_bytes(value)).flatten(),
            KeyType::Text { most } => (value.len() <= most).then(|| of_bytes(value)).flatten(),
        }
    }
}

/// A UUID as it is mostly written: in groups of 8, 4, 4, 4 and 12 digits.
pub fn plain_uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut at = 0;
    for (i, byte) in bytes.iter_mut().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let digit = |byte: u8| (byte as char).to_digit(16);
        *byte = (digit(text[at])? << 4 | digit(text[at + 1])?) as u8;
        at += 2;
    }
    Some(bytes)
}

fn of_int8(value: i64) -> u64 {
    // The same for values that int4 has too.
    let high = (value >> 32) as u32;
    of_word(value as u32 ^ if value >= 0 { high } else { !high })
}

fn of_int4(value: i32) -> u64 {
    of_word(value as u32)
}

fn of_word(value: u32) -> u64 {
    let mut state = State::new(4);
    state.a = state.a.wrapping_add(value);
    state.end()
}

/// On other machines Postgres reads words in another order.
fn of_bytes(key: &[u8]) -> Option<u64> {
    if cfg!(target_endian = "big") {
        return None;
    }
    let mut state = State::new(u32::try_from(key.len()).ok()?);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    let (blocks, rest) = key.as_chunks::<12>();
    for block in blocks {
        state.add(word(&block[..4]), word(&block[4..8]), word(&block[8..]));
        state.mix();
    }
    let part = |from: usize, to: usize| word(&rest[from.min(rest.len())..to.min(rest.len())]);
    // The lowest byte of the third word is left to the length.
    state.add(part(0, 4), part(4, 8), part(8, 11) << 8);
    Some(state.end())
}

/// Bob Jenkins's lookup3.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(length: u32) -> State {
        let start = START.wrapping_add(length);
        let mut state = State { a: start, b: start, c: start };
        state.add((SEED >> 32) as u32, SEED as u32, 0);
        state.mix();
        state
    }

    fn add(&mut self, a: u32, b: u32, c: u32) {
        self.a = self.a.wrapping_add(a);
        self.b = self.b.wrapping_add(b);
        self.c = self.c.wrapping_add(c);
    }

    fn mix(&mut self) {
        let State { a, b, c } = self;
        let step = |x: &mut u32, y: &mut u32, z: &mut u32, turn: u32| {
            *x = x.wrapping_sub(*z) ^ z.rotate_left(turn);
            *z = z.wrapping_add(*y);
        };
        step(a, b, c, 4);
        step(b, c, a, 6);
        step(c, a, b, 8);
        step(a, b, c, 16);
        step(b, c, a, 19);
        step(c, a, b, 4);
    }

    fn end(self) -> u64 {
        let State { mut a, mut b, mut c } = self;
        let step = |x: &mut u32, y: u32, turn: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(turn));
        step(&mut c, b, 14);
        step(&mut a, c, 11);
        step(&mut b, a, 25);
        step(&mut c, b, 16);
        step(&mut a, c, 4);
        step(&mut b, a, 14);
        step(&mut c, b, 24);
        (u64::from(b) << 32 | u64::from(c)).wrapping_add(COMBINED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Postgres's function says, combined.
    fn combined(hash: i64) -> Option<u64> {
        Some((hash as u64).wrapping_add(COMBINED))
    }

    #[test]
    fn hashes_are_those_of_postgres() {
        const TEXT: KeyType = KeyType::Text { most: usize::MAX };
        let said = [
            (KeyType::Int2, "0", -4403592609991167795),
            (KeyType::Int2, "42", 7363975540656877951),
            (KeyType::Int2, "-1", -5017072347659237694),
            (KeyType::Int2, "-32768", 5885242512097991578),
            (KeyType::Int2, "32767", -6436696229286267413),
            (KeyType::Int4, "0", -4403592609991167795),
            (KeyType::Int4, "42", 7363975540656877951),
            (KeyType::Int4, "-1", -5017072347659237694),
            (KeyType::Int4, "-2147483648", 4938542303000433043),
            (KeyType::Int4, "2147483647", -6050265599104649060),
            (KeyType::Int8, "0", -4403592609991167795),
            (KeyType::Int8, "42", 7363975540656877951),
            (KeyType::Int8, "-1", -5017072347659237694),
            (KeyType::Int8, "5000000000", -2799505259769899283),
            (KeyType::Int8, "-5000000000", -4482100988868492312),
            (KeyType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", 424513190990560493),
            (KeyType::Uuid, "ffffffff-0000-4000-8000-00000000abcd", 9130770192999960317),
            (TEXT, "", -5700645584453517373),
            (TEXT, "a", -6705225459120232837),
            (TEXT, "abc", 3628778498291917250),
            (TEXT, "abcd", 4029384952263848046),
            (TEXT, "abcde", 4809259092934399961),
            (TEXT, "abcdefgh", -7754745184861941070),
            (TEXT, "abcdefghi", -7860738947571725408),
            (TEXT, "abcdefghijk", -2046435308545367432),
            (TEXT, "abcdefghijkl", -7876791541613377658),
            (TEXT, "abcdefghijklm", -6785754114725280077),
            (TEXT, "abcdefghijklmnopqrstuvw", -7324642668702903167),
            (TEXT, "abcdefghijklmnopqrstuvwx", -10959101940276370),
            (TEXT, "abcdefghijklmnopqrstuvwxyz", -7171292135076916904),
            (TEXT, "東京 ü", 5341635792606432377),
        ];
        for (kind, text, hash) in said {
            assert_eq!(kind.of_text(text.as_bytes()), combined(hash), "{kind:?} {text}");
        }
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_postgres() {
        for text in [&b""[..], b" 1", b"1e3", b"+1", b"0x10", b"99999", b"1_000"] {
            assert_eq!(KeyType::Int2.of_text(text), None);
        }
        for text in [
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
            "a0eebc99-9c0b-4ef8-bb6d6-bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380+11",
        ] {
            assert_eq!(KeyType::Uuid.of_text(text.as_bytes()), None, "{text}");
        }
        assert_eq!(KeyType::Text { most: 3 }.of_text(b"four"), None);
        assert_eq!(KeyType::Int4.of_binary(b"123"), None);
        assert_eq!(KeyType::Uuid.of_binary(b"123"), None);
    }
}
