//! Order-preserving integer keys: the form of numbers inside the engine.
//!
//! A key compares as an unsigned integer exactly as its number compares, so bins are found without a single
//! floating-point comparison and every device finds the same ones. `-0.0` becomes `0.0`; NaN has no key (it is counted
//! separately); infinities have keys.

use bytemuck::Pod;

/// A bulk key: `u32` for 32-bit types, `u64` for the rest.
pub trait Key: Pod + Ord + Send + Sync + Into<u64> {
    /// Narrows a wide key of the same domain.
    fn narrow(wide: u64) -> Self;
}

impl Key for u32 {
    #[inline(always)]
    fn narrow(wide: u64) -> Self {
        wide as u32
    }
}

impl Key for u64 {
    #[inline(always)]
    fn narrow(wide: u64) -> Self {
        wide
    }
}

/// The key of an `f32`; NaN must have been taken out.
#[inline(always)]
pub fn key_f32(x: f32) -> u32 {
    // Adding +0.0 turns -0.0 into +0.0 and leaves every other value as it is.
    let bits = (x + 0.0).to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

/// The key of an `f64`; NaN must have been taken out.
#[inline(always)]
pub fn key_f64(x: f64) -> u64 {
    let bits = (x + 0.0).to_bits();
    bits ^ (((bits as i64 >> 63) as u64) | 0x8000_0000_0000_0000)
}

/// The key of an `i32`.
#[inline(always)]
pub fn key_i32(x: i32) -> u32 {
    x as u32 ^ 0x8000_0000
}

/// The key of an `i64`.
#[inline(always)]
pub fn key_i64(x: i64) -> u64 {
    x as u64 ^ 0x8000_0000_0000_0000
}

fn value_f32(key: u32) -> f32 {
    f32::from_bits(key ^ ((!((key as i32) >> 31)) as u32 | 0x8000_0000))
}

fn value_f64(key: u64) -> f64 {
    f64::from_bits(key ^ ((!((key as i64) >> 63)) as u64 | 0x8000_0000_0000_0000))
}

/// What the keys of a column stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// 32-bit floats.
    F32,
    /// 64-bit floats (and decimals, as their nearest double).
    F64,
    /// Integers that fit 32 signed bits, and dates.
    I32,
    /// Wider integers, and timestamps.
    I64,
    /// Unsigned 64-bit integers.
    U64,
}

impl Domain {
    /// The domain in which values of both can be compared: integers stay integers, anything mixed with a float becomes a
    /// float of that precision, for the same number may be stored as another one at a higher precision (0.1).
    pub fn common(self, other: Self) -> Self {
        use Domain::*;
        match (self, other) {
            (a, b) if a == b => a,
            (I32, I64) | (I64, I32) => I64,
            (F32, _) | (_, F32) => F32,
            _ => F64,
        }
    }

    /// Whether bulk keys are `u32`.
    pub fn is_narrow(self) -> bool {
        matches!(self, Domain::F32 | Domain::I32)
    }

    /// Bytes of one bulk key.
    pub fn key_bytes(self) -> usize {
        if self.is_narrow() { 4 } else { 8 }
    }

    /// How many low bits of a key can vary while the value stays an affine function of the key:
    /// the mantissa of a float, everything of an integer.
    pub(crate) fn linear_bits(self) -> u32 {
        match self {
            Domain::F32 => 23,
            Domain::F64 => 52,
            Domain::I32 => 32,
            Domain::I64 | Domain::U64 => 63,
        }
    }

    /// The value of a key as a double (integers beyond 2^53 round to nearest, as numpy does).
    #[inline(always)]
    pub fn value(self, key: u64) -> f64 {
        match self {
            Domain::F32 => f64::from(value_f32(key as u32)),
            Domain::F64 => value_f64(key),
            Domain::I32 => f64::from((key as u32 ^ 0x8000_0000) as i32),
            Domain::I64 => (key ^ 0x8000_0000_0000_0000) as i64 as f64,
            Domain::U64 => key as f64,
        }
    }

    /// The distance between the values of two keys, and what rounding it to a double lost.
    pub fn width(self, from: u64, to: u64) -> (f64, f64) {
        if self.is_float() {
            two_sum(self.value(to), -self.value(from))
        } else {
            // Keys of integers are as far apart as the integers.
            let width = to - from;
            (width as f64, (i128::from(width) - width as f64 as i128) as f64)
        }
    }

    /// Appends the values of many keys.
    pub fn values<K: Key>(self, keys: &[K], into: &mut Vec<f64>) {
        // One loop per domain, so that the choice is made once.
        macro_rules! each {
            ($domain:ident) => {
                into.extend(keys.iter().map(|&key| Domain::$domain.value(key.into())))
            };
        }
        match self {
            Domain::F32 => each!(F32),
            Domain::F64 => each!(F64),
            Domain::I32 => each!(I32),
            Domain::I64 => each!(I64),
            Domain::U64 => each!(U64),
        }
    }

    /// The smallest and the largest key a value can have, infinities included.
    pub fn range(self) -> (u64, u64) {
        match self {
            Domain::F32 => (key_f32(f32::NEG_INFINITY).into(), key_f32(f32::INFINITY).into()),
            Domain::F64 => (key_f64(f64::NEG_INFINITY), key_f64(f64::INFINITY)),
            Domain::I32 => (0, u32::MAX.into()),
            Domain::I64 | Domain::U64 => (0, u64::MAX),
        }
    }

    /// Whether the domain has infinities and NaN.
    pub fn is_float(self) -> bool {
        matches!(self, Domain::F32 | Domain::F64)
    }

    /// The smallest key whose value is at least `x`, or one past the largest (saturating) if none is.
    ///
    /// A half-open bin `[a, b)` on doubles is therefore exactly `[edge(a), edge(b))` on keys, for every
    /// domain: an edge between two `f32` values becomes the next one up.
    pub fn edge(self, x: f64) -> u64 {
        let (mut lo, hi) = self.range();
        if self.value(hi) < x {
            return hi.saturating_add(1);
        }
        let mut hi = hi;
        while lo < hi {
            let mid = lo + (hi - lo) / 2;
            if self.value(mid) >= x {
                hi = mid;
            } else {
                lo = mid + 1;
            }
        }
        lo
    }
}

/// Knuth's two-sum: the rounded sum, and what rounding lost.
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// The keys of a column, dense: nulls and NaN taken out, infinities kept.
#[derive(Clone, Debug)]
pub enum KeyVec {
    /// Keys of a 32-bit domain.
    U32(Vec<u32>),
    /// Keys of a 64-bit domain.
    U64(Vec<u64>),
}

impl KeyVec {
    /// No keys, of the width the domain uses.
    pub fn new(domain: Domain) -> Self {
        if domain.is_narrow() { KeyVec::U32(Vec::new()) } else { KeyVec::U64(Vec::new()) }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        match self {
            KeyVec::U32(v) => v.len(),
            KeyVec::U64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the values of all keys.
    pub fn values(&self, domain: Domain, into: &mut Vec<f64>) {
        match self {
            KeyVec::U32(v) => domain.values(v, into),
            KeyVec::U64(v) => domain.values(v, into),
        }
    }

    /// The `i`-th key, widened.
    pub fn get(&self, i: usize) -> u64 {
        match self {
            KeyVec::U32(v) => v[i].into(),
            KeyVec::U64(v) => v[i],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F64S: [f64; 13] = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1.5,
        -1.0,
        -f64::MIN_POSITIVE,
        -5e-324,
        0.0,
        5e-324,
        f64::MIN_POSITIVE,
        1.0,
        1.0 + f64::EPSILON,
        f64::MAX,
        f64::INFINITY,
    ];

    #[test]
    fn keys_order_as_their_values_do_and_turn_back_into_them() {
        for pair in F64S.windows(2) {
            assert!(key_f64(pair[0]) < key_f64(pair[1]), "{pair:?}");
        }
        for x in F64S {
            assert_eq!(Domain::F64.value(key_f64(x)).to_bits(), x.to_bits());
            let y = x as f32;
            assert_eq!(Domain::F32.value(key_f32(y).into()), f64::from(y));
        }
        for pair in [i64::MIN, -1, 0, 1, (1 << 53) + 1, i64::MAX].windows(2) {
            assert!(key_i64(pair[0]) < key_i64(pair[1]));
        }
        for pair in [i32::MIN, -1, 0, 1, i32::MAX].windows(2) {
            assert!(key_i32(pair[0]) < key_i32(pair[1]));
        }
    }

    #[test]
    fn negative_zero_has_the_key_of_zero() {
        assert_eq!(key_f64(-0.0), key_f64(0.0));
        assert_eq!(key_f32(-0.0), key_f32(0.0));
    }

    #[test]
    fn an_edge_is_the_first_key_at_or_above_it() {
        for domain in [Domain::F32, Domain::F64, Domain::I32, Domain::I64, Domain::U64] {
            for x in [-3.5, -1.0, 0.1, 0.5, 1.0, 7.0, 1e9 + 0.5, 9007199254740993.0] {
                let (lo, hi) = domain.range();
                let edge = domain.edge(x);
                assert!(edge > hi || domain.value(edge) >= x, "{domain:?} {x}");
                assert!(edge == lo || domain.value(edge - 1) < x, "{domain:?} {x}");
            }
        }
        // 0.1 lies between two f32 values: the half-open rule needs the upper one.
        assert_eq!(Domain::F32.edge(0.1), u64::from(key_f32(0.1)));
        assert_eq!(Domain::F32.edge(0.3), u64::from(key_f32(0.3)));
        assert_eq!(Domain::F32.edge(0.7), u64::from(key_f32(0.7)) + 1);
    }

    #[test]
    fn mixed_domains_meet_where_both_can_be_compared() {
        assert_eq!(Domain::I32.common(Domain::I64), Domain::I64);
        assert_eq!(Domain::F32.common(Domain::F64), Domain::F32);
        assert_eq!(Domain::I64.common(Domain::F32), Domain::F32);
        assert_eq!(Domain::I64.common(Domain::F64), Domain::F64);
        assert_eq!(Domain::U64.common(Domain::I64), Domain::F64);
        assert_eq!(Domain::F32.common(Domain::F32), Domain::F32);
    }
}
