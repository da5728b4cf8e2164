// 64-bit integers of two words.

/// Low word, high word.
alias Wide = vec2<u32>;

fn shift_right(x: Wide, by: u32) -> Wide {
    if by == 0u {
        return x;
    }
    if by < 32u {
        return Wide((x.x >> by) | (x.y << (32u - by)), x.y >> by);
    }
    return Wide(x.y >> (by - 32u), 0u);
}

/// The lowest bits; fewer than 64.
fn low_bits(x: Wide, bits: u32) -> Wide {
    if bits < 32u {
        return Wide(x.x & ((1u << bits) - 1u), 0u);
    }
    return Wide(x.x, x.y & ((1u << (bits - 32u)) - 1u));
}

fn add(a: Wide, b: Wide) -> Wide {
    let low = a.x + b.x;
    return Wide(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn subtract(a: Wide, b: Wide) -> Wide {
    return Wide(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn negate(a: Wide) -> Wide {
    return subtract(Wide(0u, 0u), a);
}

/// a < b as unsigned integers.
fn below(a: Wide, b: Wide) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

/// a < b as signed integers.
fn less(a: Wide, b: Wide) -> bool {
    return bitcast<i32>(a.y) < bitcast<i32>(b.y) || (a.y == b.y && a.x < b.x);
}

/// a - b, or 0 where b is larger.
fn subtract_saturating(a: Wide, b: Wide) -> Wide {
    return select(subtract(a, b), Wide(0u, 0u), below(a, b));
}

/// The whole product of two words.
fn multiply(a: u32, b: u32) -> Wide {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return Wide((other << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}
