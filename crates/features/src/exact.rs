//! Sums of floating-point numbers without rounding: the result does not depend on the order, and what is taken away again leaves
//! no trace. A window that slides over rows adds and removes values millions of times; a plain sum would keep the rounding of
//! each step, and one infinite value would stay for ever.
//!
//! A sum is kept as an expansion: numbers that do not overlap, whose exact sum it is (J. R. Shewchuk, "Adaptive precision
//! floating-point arithmetic and fast robust geometric predicates", Discrete & Computational Geometry 18, 1997; Python's
//! `math.fsum` works in the same way). Huge numbers are summed apart, so that a sum may leave the range of `f64` and come back.

/// An exact sum of finite numbers, from small to large and without zeros.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expansion(Vec<f64>);

impl Expansion {
    /// Adds a finite number.
    pub fn add(&mut self, value: f64) {
        let mut x = value;
        let mut kept = 0;
        for i in 0..self.0.len() {
            let (high, low) = two_sum(x, self.0[i]);
            if low != 0.0 {
                self.0[kept] = low;
                kept += 1;
            }
            x = high;
        }
        self.0.truncate(kept);
        if x != 0.0 {
            self.0.push(x);
        }
    }

    fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|&x| self.add(x));
    }

    /// The product with another expansion.
    fn times(&self, other: &Self) -> Self {
        let mut product = Self::default();
        for &x in &self.0 {
            for &y in &other.0 {
                let (high, low) = two_product(x, y);
                product.add(high);
                product.add(low);
            }
        }
        product
    }

    fn negated(&self) -> Self {
        Self(self.0.iter().map(|x| -x).collect())
    }

    /// The nearest number; of two the even one.
    pub fn rounded(&self) -> f64 {
        let Some((&last, rest)) = self.0.split_last() else { return 0.0 };
        let mut high = last;
        for (i, &x) in rest.iter().enumerate().rev() {
            let (sum, low) = two_sum(high, x);
            high = sum;
            if low != 0.0 {
                // Half-way cases are decided by what is left below.
                if i > 0 && (low < 0.0) == (rest[i - 1] < 0.0) {
                    let doubled = low * 2.0;
                    let up = high + doubled;
                    if up - high == doubled {
                        high = up;
                    }
                }
                break;
            }
        }
        high
    }
}

/// The rounded sum of two numbers, and what the rounding left out (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// The rounded product of two numbers, and what the rounding left out.
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

/// Numbers from here on are summed apart, divided by [`SCALE`]: their sum may leave the range of `f64` and come back.
const HUGE: f64 = 1e290;

/// A power of two (2^100), by which division is exact there.
const SCALE: f64 = (1_u128 << 100) as f64;

/// The squares of numbers from here on leave the range of `f64`.
const SQUARE_LIMIT: f64 = 1e150;

/// Count, sum and, where it is wanted, sum of squares of numbers that come and go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    count: i64,
    nan: i64,
    infinite: i64,
    negative_infinite: i64,
    /// Numbers whose square leaves the range.
    without_square: i64,
    sum: Expansion,
    /// The sum of huge numbers, scaled.
    huge: Expansion,
    squares: Option<Expansion>,
}

impl Moments {
    /// Of no numbers; `squares` says whether the variance is wanted.
    pub fn new(squares: bool) -> Self {
        Self { squares: squares.then(Expansion::default), ..Self::default() }
    }

    /// Adds a number.
    pub fn add(&mut self, value: f64) {
        self.change(value, 1);
    }

    /// Takes away a number that was added.
    pub fn remove(&mut self, value: f64) {
        self.change(value, -1);
    }

    fn change(&mut self, value: f64, by: i64) {
        self.count += by;
        if value.is_nan() {
            self.nan += by;
        } else if value == f64::INFINITY {
            self.infinite += by;
        } else if value == f64::NEG_INFINITY {
            self.negative_infinite += by;
        } else {
            let sign = by as f64;
            match value.abs() < HUGE {
                true => self.sum.add(sign * value),
                false => self.huge.add(sign * (value / SCALE)),
            }
            if value.abs() >= SQUARE_LIMIT {
                self.without_square += by;
            } else if let Some(squares) = &mut self.squares {
                let (high, low) = two_product(value, value);
                squares.add(sign * high);
                squares.add(sign * low);
            }
        }
    }

    /// Adds all numbers of another.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.negative_infinite += other.negative_infinite;
        self.without_square += other.without_square;
        self.sum.add_all(&other.sum);
        self.huge.add_all(&other.huge);
        if let (Some(own), Some(other)) = (&mut self.squares, &other.squares) {
            own.add_all(other);
        }
    }

    /// What is not finite decides the sum, as in a plain addition.
    fn not_finite(&self) -> Option<f64> {
        match (self.nan, self.infinite, self.negative_infinite) {
            (0, 0, 0) => None,
            (0, _, 0) => Some(f64::INFINITY),
            (0, 0, _) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// The sum; `None` of no numbers.
    pub fn sum(&self) -> Option<f64> {
        (self.count > 0).then(|| self.not_finite().unwrap_or_else(|| self.finite_sum()))
    }

    /// The sum of the finite numbers; infinite where it leaves the range.
    fn finite_sum(&self) -> f64 {
        if self.huge.0.is_empty() {
            return self.sum.rounded();
        }
        let mut scaled = self.huge.clone();
        self.sum.0.iter().for_each(|x| scaled.add(x / SCALE));
        scaled.rounded() * SCALE
    }

    /// The mean; `None` of no numbers.
    pub fn mean(&self) -> Option<f64> {
        self.sum().map(|sum| sum / self.count as f64)
    }

    /// The variance: `n·Σx² − (Σx)²` without rounding, over `n·(n − freedom)`. `None` of too few numbers; NaN where a number is
    /// not finite, and infinite where the square of one leaves the range.
    pub fn variance(&self, freedom: i64) -> Option<f64> {
        let squares = self.squares.as_ref()?;
        if self.count <= freedom {
            return None;
        }
        if self.not_finite().is_some() {
            return Some(f64::NAN);
        }
        if self.without_square > 0 {
            return Some(f64::INFINITY);
        }
        let n = self.count as f64;
        let mut numerator = squares.times(&Expansion(vec![n]));
        numerator.add_all(&self.sum.times(&self.sum).negated());
        Some(numerator.rounded().max(0.0) / n / (self.count - freedom) as f64)
    }

    /// As bytes, to be merged elsewhere.
    pub fn to_bytes(&self) -> Vec<u8> {
        let lengths = [self.sum.0.len() as i64, self.huge.0.len() as i64];
        let counts = [self.count, self.nan, self.infinite, self.negative_infinite, self.without_square];
        let counts = counts.into_iter().chain(lengths).flat_map(i64::to_le_bytes);
        let squares = self.squares.iter().flat_map(|squares| &squares.0);
        let numbers = self.sum.0.iter().chain(&self.huge.0).chain(squares).flat_map(|x| x.to_le_bytes());
        counts.chain(numbers).collect()
    }

    /// From [`Moments::to_bytes`]; `None` for other bytes.
    pub fn from_bytes(bytes: &[u8], squares: bool) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let ([count, nan, infinite, negative_infinite, without_square, sum, huge], numbers) =
            words.split_first_chunk::<7>()?;
        let length = |word: &[u8; 8]| usize::try_from(i64::from_le_bytes(*word)).ok();
        let (sum, rest) = numbers.split_at_checked(length(sum)?)?;
        let (huge, rest) = rest.split_at_checked(length(huge)?)?;
        let expansion = |words: &[[u8; 8]]| Expansion(words.iter().map(|word| f64::from_le_bytes(*word)).collect());
        Some(Self {
            count: i64::from_le_bytes(*count),
            nan: i64::from_le_bytes(*nan),
            infinite: i64::from_le_bytes(*infinite),
            negative_infinite: i64::from_le_bytes(*negative_infinite),
            without_square: i64::from_le_bytes(*without_square),
            sum: expansion(sum),
            huge: expansion(huge),
            squares: squares.then(|| expansion(rest)),
        })
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        8 * (self.sum.0.capacity() + self.squares.as_ref().map_or(0, |squares| squares.0.capacity()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f64]) -> Moments {
        let mut moments = Moments::new(true);
        values.iter().for_each(|&x| moments.add(x));
        moments
    }

    // math.fsum and statistics.pvariance/variance of Python 3.11 (exact fractions, rounded once).
    #[test]
    fn sums_are_those_of_exact_arithmetic() {
        assert_eq!(moments(&[0.1; 10]).sum(), Some(1.0));
        assert_eq!(moments(&[1e16, 1.0, -1e16]).sum(), Some(1.0));
        assert_eq!(moments(&[1e100, 1.0, -1e100, 1e-300]).sum(), Some(1.0));
        // Half-way: 2^53 + 1 is decided by what is below.
        assert_eq!(moments(&[9007199254740992.0, 1.0]).sum(), Some(9007199254740992.0));
        assert_eq!(moments(&[9007199254740992.0, 1.0, 1e-16]).sum(), Some(9007199254740994.0));
        assert_eq!(moments(&[]).sum(), None);
        assert_eq!(moments(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).variance(0), Some(22.5));
        assert_eq!(moments(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).variance(1), Some(30.0));
        assert_eq!(moments(&[0.1, 0.1, 0.1]).variance(1), Some(0.0));
        assert_eq!(moments(&[3.0]).variance(1), None);
    }

    #[test]
    fn the_order_does_not_matter_and_what_is_removed_leaves_no_trace() {
        let mut state = 12345_u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) * 10_f64.powi((state % 40) as i32 - 20)
        };
        let values: Vec<f64> = (0..500).map(|_| next()).collect();
        let forwards = moments(&values);
        let backwards: Vec<f64> = values.iter().rev().copied().collect();
        assert_eq!(forwards.sum().map(f64::to_bits), moments(&backwards).sum().map(f64::to_bits));
        assert_eq!(forwards.variance(1).map(f64::to_bits), moments(&backwards).variance(1).map(f64::to_bits));
        let mut sliding = moments(&values);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            sliding.add(bad);
            assert!(!sliding.sum().unwrap().is_finite() && sliding.variance(1).unwrap().is_nan());
            sliding.remove(bad);
        }
        values[..400].iter().for_each(|&x| sliding.remove(x));
        let rest = moments(&values[400..]);
        assert_eq!(sliding.sum().map(f64::to_bits), rest.sum().map(f64::to_bits));
        assert_eq!(sliding.variance(1).map(f64::to_bits), rest.variance(1).map(f64::to_bits));
        values[400..].iter().for_each(|&x| sliding.remove(x));
        assert_eq!((sliding.sum(), sliding.sum.0.len()), (None, 0));
    }

    #[test]
    fn a_sum_that_leaves_the_range_comes_back() {
        let mut sliding = moments(&[1e308, 1e308, 1.0, 2.0]);
        assert_eq!((sliding.sum(), sliding.variance(1)), (Some(f64::INFINITY), Some(f64::INFINITY)));
        sliding.remove(1e308);
        assert_eq!(sliding.sum(), Some(1e308));
        sliding.add(-1e308);
        assert_eq!(sliding.sum(), Some(3.0));
        sliding.remove(-1e308);
        sliding.remove(1e308);
        assert_eq!((sliding.sum(), sliding.variance(1)), (Some(3.0), Some(0.5)));
        // The square leaves the range, the number does not.
        sliding.add(1e200);
        assert_eq!((sliding.sum(), sliding.variance(0)), (Some(1e200), Some(f64::INFINITY)));
        sliding.remove(1e200);
        assert_eq!(sliding.variance(1), Some(0.5));
        assert_eq!(moments(&[f64::MAX, -f64::MAX, 1e-300]).sum(), Some(1e-300));
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let (a, b) = (moments(&[0.1, 1e20, f64::INFINITY]), moments(&[-1e20, 0.2]));
        let mut merged = Moments::from_bytes(&a.to_bytes(), true).unwrap();
        merged.merge(&Moments::from_bytes(&b.to_bytes(), true).unwrap());
        merged.remove(f64::INFINITY);
        assert_eq!(merged.sum(), Some(0.30000000000000004));
        assert_eq!(Moments::from_bytes(&[1, 2, 3], true), None);
    }
}
