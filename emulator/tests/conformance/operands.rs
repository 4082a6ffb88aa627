//! Operands to try: every edge of a type against every edge of the next, and random bits.

/// Whether a word of an opcode is a type.
pub(crate) fn is_type(word: &str) -> bool {
    let plain = word.strip_suffix("x2").unwrap_or(word);
    matches!(plain, "pred" | "bf16" | "tf32" | "e4m3" | "e5m2")
        || plain.len() > 1
            && matches!(&plain[..1], "b" | "u" | "s" | "f")
            && matches!(&plain[1..], "2" | "4" | "8" | "16" | "32" | "64")
}

/// A generator of random bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const INTEGERS: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    23,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    129,
    255,
    256,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x00ff_ffff,
    0x0100_0001,
    0x1234_5678,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_8000_0000,
    u64::MAX,
];

const SINGLES: &[f32] = &[
    0.0,
    1.0,
    0.5,
    1.5,
    2.5,
    3.0,
    0.1,
    1.0 / 3.0,
    0.75,
    127.5,
    128.5,
    255.5,
    256.5,
    32767.5,
    65504.0,
    65519.9,
    65520.0,
    65535.5,
    448.0,
    464.0,
    479.9,
    57344.0,
    61440.0,
    16_777_217.0,
    2_147_483_648.0,
    4_294_967_296.0,
    9.223_372e18,
    1.844_674_4e19,
    3.0e38,
    f32::MAX,
    f32::MIN_POSITIVE,
    1.0e-38,
    1.0e-45,
    6.1e-5,
    5.96e-8,
    2.98e-8,
    0.001_953_125,
    9.765_625e-4,
    f32::INFINITY,
];

/// Both signs of a format's edges: zero, subnormals, one and its neighbours, the largest, infinity, NaN.
fn small_floats(fraction: u32, width: u32) -> Vec<u64> {
    let top = 1u64 << (width - 1);
    let one = (top >> 1) - (1 << fraction);
    let infinity = top - (1 << fraction);
    let list = [
        0,
        1,
        2,
        (1 << fraction) - 1,
        1 << fraction,
        (1 << fraction) + 1,
        one - 1,
        one,
        one + 1,
        one + (1 << fraction),
        one + (3 << (fraction - 1)),
        infinity - 1,
        infinity,
        infinity + 1,
        top - 1,
    ];
    list.iter().flat_map(|&v| [v, v | top]).collect()
}

fn floats(ty: &str, random: &mut Random, count: usize) -> Vec<u64> {
    let mut list: Vec<u64> = match ty {
        "f16" => small_floats(10, 16),
        "bf16" => small_floats(7, 16),
        "f32" => {
            let nans = [0x7fc0_0000, 0x7f80_0001, 0xffff_ffff];
            SINGLES
                .iter()
                .flat_map(|v| [*v, -*v])
                .map(|v| u64::from(v.to_bits()))
                .chain(nans)
                .collect()
        }
        _ => {
            let more = [
                5e-324,
                2.2e-308,
                f64::MIN_POSITIVE,
                f64::MAX,
                1e300,
                1.0 + f64::EPSILON,
                4_294_967_295.5,
            ];
            let singles = SINGLES.iter().map(|v| f64::from(*v));
            singles.chain(more).chain([f64::NAN]).flat_map(|v| [v, -v]).map(f64::to_bits).collect()
        }
    };
    let near_one = |bits: u64| match ty {
        "f64" => bits & 0xc03f_ffff_ffff_ffff ^ 0x3fe0_0000_0000_0000,
        "f32" => bits & 0x87ff_ffff ^ 0x3c00_0000,
        _ => bits,
    };
    for i in 0..count {
        let bits = random.next();
        // Ties and their neighbours in the narrower formats.
        let dropped: &[u32] = if ty == "f64" { &[29, 42, 45, 52] } else { &[13, 16, 20, 21] };
        let n = dropped[i / 4 % dropped.len()];
        let tie = bits & !((1 << n) - 1) | 1 << (n - 1);
        list.push(match i % 4 {
            0 => bits,
            1 => near_one(bits),
            2 => near_one(tie),
            _ => near_one(tie.wrapping_add(bits >> 60).wrapping_sub(8)),
        });
    }
    list
}

/// Edges of a type and `count` random values.
fn values(ty: &str, random: &mut Random, count: usize) -> Vec<u64> {
    let mut list = match ty {
        "pred" => return vec![0, 1],
        "f16" | "bf16" | "f32" | "f64" => floats(ty, random, count),
        "f16x2" | "bf16x2" => {
            let half = floats(ty.trim_end_matches("x2"), random, count);
            let n = half.len();
            (0..n).map(|i| half[i] & 0xffff | (half[(i * 7 + 3) % n] & 0xffff) << 16).collect()
        }
        "e4m3x2" | "e5m2x2" => {
            (0..=0xffff).step_by(37).chain([0x7f7e, 0xfffe, 0x7c7b, 0xfcfb, 0x8000]).collect()
        }
        _ => {
            let mut list = INTEGERS.to_vec();
            list.extend((0..count).map(|_| random.next()));
            list
        }
    };
    let width = match ty.strip_suffix("x2") {
        Some("e4m3" | "e5m2") => 16,
        Some(_) => 32,
        None => crate::integer::width(ty).max(16),
    };
    let mask = if width >= 64 { u64::MAX } else { (1 << width) - 1 };
    list.iter_mut().for_each(|v| *v &= mask);
    list.sort_unstable();
    list.dedup();
    list
}

/// Rows of operands for these types.
pub(crate) fn rows(types: &[String]) -> Vec<Vec<u64>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let count = if types.len() == 1 { 400 } else { 12 };
    let lists: Vec<Vec<u64>> = types.iter().map(|ty| values(ty, &mut random, count)).collect();
    if lists.len() == 1 {
        return lists[0].iter().map(|v| vec![*v]).collect();
    }
    let mut rows = Vec::new();
    for a in &lists[0] {
        for b in &lists[1] {
            let mut row = vec![*a, *b];
            row.extend(lists[2..].iter().map(|l| l[random.next() as usize % l.len()]));
            rows.push(row);
        }
    }
    rows
}
