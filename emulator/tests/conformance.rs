//! Opcodes against an independent model in wide integers and doubles, on edge values and random ones.

use gigac_emulator::{Launch, Module};

/// Functions with the instructions that they model.
type Named<F> = [(&'static str, F)];
/// An instruction, its model, and the largest error.
type Bounded = (&'static str, fn(f64) -> f64, f64);

/// Operands: every edge against every edge, as bits of `width` bytes.
fn edges(width: usize, float: bool) -> Vec<u64> {
    let ints: &[u64] = &[
        0,
        1,
        2,
        3,
        7,
        31,
        32,
        33,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x1234_5678,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];
    let singles: &[f32] = &[
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        3.0e38,
        -3.0e38,
        1.0e-38,
        1.0e-45,
        -1.0e-45,
        0.1,
        1.0 / 3.0,
        16_777_217.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        2147483648.0,
        -2147483904.0,
    ];
    let list: Vec<u64> = match (float, width) {
        (false, _) => ints.to_vec(),
        (true, 4) => singles.iter().map(|f| u64::from(f.to_bits())).collect(),
        (true, _) => singles.iter().map(|f| f64::from(*f).to_bits()).collect(),
    };
    let mask = if width == 8 { u64::MAX } else { (1 << (8 * width)) - 1 };
    let mut list: Vec<u64> = list.iter().map(|v| v & mask).collect();
    let mut seed = 42u64;
    for _ in 0..12 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        list.push(seed >> 7 & mask);
    }
    list
}

/// Runs `opcode d, a, b, c` for all pairs of operands (c is a + 3·b's neighbour) and compares.
struct Case<'a> {
    opcode: &'a str,
    /// Register class and bytes of the result and of each operand.
    result: (char, usize),
    operands: &'a [(char, usize)],
}

fn class(kind: char, bytes: usize) -> &'static str {
    match (kind, bytes) {
        (_, 2) => "%h",
        ('f', 4) => "%f",
        (_, 4) => "%r",
        ('f', 8) => "%d",
        _ => "%l",
    }
}

fn check(case: &Case, model: &dyn Fn(&[u64]) -> u64, same: &dyn Fn(u64, u64) -> bool) {
    let lists: Vec<Vec<u64>> = case.operands.iter().map(|&(k, n)| edges(n, k == 'f')).collect();
    let (first, second) = (&lists[0], lists.get(1).unwrap_or(&lists[0]));
    let mut rows: Vec<Vec<u64>> = Vec::new();
    for (i, a) in first.iter().enumerate() {
        for (j, b) in second.iter().enumerate() {
            let third = lists.get(2).map(|l| l[(i + 3 * j) % l.len()]);
            rows.push(
                [Some(*a), Some(*b), third]
                    .into_iter()
                    .flatten()
                    .take(case.operands.len())
                    .collect(),
            );
            if lists.len() == 1 {
                break;
            }
        }
    }
    let n = case.operands.len();
    let mut body = String::new();
    let mut names = Vec::new();
    for (i, &(kind, bytes)) in case.operands.iter().enumerate() {
        let name = format!("{}{}", class(kind, bytes), i + 1);
        body.push_str(&format!("ld.global.b{} {name}, [%l9+{}];\n", bytes * 8, i * 8));
        names.push(name);
    }
    let d = format!("{}0", class(case.result.0, case.result.1));
    let text = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out, .param .u32 n) {{
        .reg .b16 %h<8>; .reg .b32 %r<10>; .reg .b64 %l<12>; .reg .f32 %f<8>; .reg .f64 %d<8>; .reg .pred %p<2>;
        ld.param.u64 %l9, [in]; ld.param.u64 %l8, [out]; ld.param.u32 %r8, [n];
        mov.u32 %r9, %ctaid.x; shl.b32 %r9, %r9, 8; mov.u32 %r7, %tid.x; add.u32 %r9, %r9, %r7;
        setp.ge.u32 %p1, %r9, %r8; @%p1 ret;
        mad.wide.u32 %l9, %r9, {}, %l9; mad.wide.u32 %l8, %r9, 8, %l8;
        {body} {} {d}, {}; st.global.b{} [%l8], {d}; ret; }}",
        8 * n,
        case.opcode,
        names.join(", "),
        case.result.1 * 8,
    );
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", case.opcode));
    let input: Vec<u8> = rows.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let report = Launch::new(&module, "k")
        .grid([(rows.len() as u32).div_ceil(256), 1, 1])
        .block([256, 1, 1])
        .buffer("in", input)
        .buffer("out", vec![0; rows.len() * 8])
        .u32(rows.len() as u32)
        .run()
        .unwrap_or_else(|e| panic!("{}: {e}", case.opcode));
    assert!(report.findings.is_empty(), "{}: {:?}", case.opcode, report.findings);
    let out = report.buffer("out").expect("it is a buffer");
    for (i, row) in rows.iter().enumerate() {
        let got = u64::from_le_bytes(out[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        let want = model(row);
        assert!(same(got, want), "{} of {row:x?}: got {got:#x}, expected {want:#x}", case.opcode);
    }
}

fn exact(got: u64, want: u64) -> bool {
    got == want
}

/// Value of the low `bytes` bytes.
fn value(bits: u64, bytes: usize, signed: bool) -> i128 {
    let shift = 64 - 8 * bytes as u32;
    if signed {
        i128::from((bits << shift) as i64 >> shift)
    } else {
        i128::from(bits << shift >> shift)
    }
}

fn low(v: i128, bytes: usize) -> u64 {
    if bytes == 8 { v as u64 } else { v as u64 & ((1 << (8 * bytes)) - 1) }
}

#[test]
fn integer_arithmetic() {
    type Model = fn(i128, i128, i128, u32) -> i128;
    let two: &[(&str, Model)] = &[
        ("add", |a, b, _, _| a + b),
        ("sub", |a, b, _, _| a - b),
        ("mul.lo", |a, b, _, _| a.wrapping_mul(b)),
        ("mul.hi", |a, b, _, bits| a.wrapping_mul(b) >> bits),
        ("min", |a, b, _, _| a.min(b)),
        ("max", |a, b, _, _| a.max(b)),
        ("div", |a, b, _, _| if b == 0 { -1 } else { a / b }),
        ("rem", |a, b, _, _| if b == 0 { a } else { a % b }),
    ];
    let three: &[(&str, Model)] = &[
        ("mad.lo", |a, b, c, _| a.wrapping_mul(b).wrapping_add(c)),
        ("mad.hi", |a, b, c, bits| (a.wrapping_mul(b) >> bits) + c),
        ("sad", |a, b, c, _| c + (a - b).abs()),
    ];
    for (bytes, signed) in [(2, false), (2, true), (4, false), (4, true), (8, false), (8, true)] {
        let ty = format!("{}{}", if signed { 's' } else { 'u' }, bytes * 8);
        for (list, n) in [(two, 2), (three, 3)] {
            for (name, model) in list {
                // Products of unsigned 64-bit values exceed i128 only in the sign, which wraps.
                let opcode = format!("{name}.{ty}");
                let operands = vec![('i', bytes); n];
                let case = Case { opcode: &opcode, result: ('i', bytes), operands: &operands };
                let unsigned_high = !signed && bytes == 8 && name.ends_with("hi");
                let compute = |row: &[u64]| {
                    let v = |i: usize| row.get(i).map_or(0, |&b| value(b, bytes, signed));
                    if unsigned_high {
                        let high = ((v(0) as u128 * v(1) as u128) >> 64) as i128;
                        return low(high + v(2), bytes);
                    }
                    low(model(v(0), v(1), v(2), 8 * bytes as u32), bytes)
                };
                check(&case, &compute, &exact);
            }
        }
    }
}

#[test]
fn bits_and_shifts() {
    let u32_two: &Named<fn(u32, u32) -> u32> = &[
        ("and.b32", |a, b| a & b),
        ("or.b32", |a, b| a | b),
        ("xor.b32", |a, b| a ^ b),
        ("shl.b32", |a, b| a.checked_shl(b).unwrap_or(0)),
        ("shr.u32", |a, b| a.checked_shr(b).unwrap_or(0)),
        ("shr.s32", |a, b| (i64::from(a as i32) >> b.min(63)) as u32),
        ("bmsk.clamp.b32", |a, b| {
            if a > 31 { 0 } else { (a..(a.saturating_add(b)).min(32)).fold(0, |m, i| m | 1 << i) }
        }),
        ("szext.clamp.u32", |a, b| if b >= 32 { a } else { a & ((1 << b) - 1) }),
        ("add.sat.s32", |a, b| {
            (i64::from(a as i32) + i64::from(b as i32)).clamp(-(1 << 31), (1 << 31) - 1) as u32
        }),
    ];
    for (opcode, model) in u32_two {
        let case = Case { opcode, result: ('i', 4), operands: &[('i', 4), ('i', 4)] };
        check(&case, &|r| u64::from(model(r[0] as u32, r[1] as u32)), &exact);
    }
    let u32_one: &Named<fn(u32) -> u32> = &[
        ("not.b32", |a| !a),
        ("cnot.b32", |a| u32::from(a == 0)),
        ("brev.b32", |a| (0..32).fold(0, |r, i| r | (a >> i & 1) << (31 - i))),
        ("popc.b32", |a| (0..32).map(|i| a >> i & 1).sum()),
        ("clz.b32", |a| (0..32).rev().take_while(|i| a >> i & 1 == 0).count() as u32),
        ("bfind.u32", |a| (0..32).rev().find(|i| a >> i & 1 != 0).unwrap_or(u32::MAX)),
        ("abs.s32", |a| (i64::from(a as i32)).unsigned_abs() as u32),
        ("neg.s32", |a| (-i64::from(a as i32)) as u32),
    ];
    for (opcode, model) in u32_one {
        check(
            &Case { opcode, result: ('i', 4), operands: &[('i', 4)] },
            &|r| u64::from(model(r[0] as u32)),
            &exact,
        );
    }
    let u32_three: &Named<fn(u32, u32, u32) -> u32> = &[
        ("shf.l.wrap.b32", |a, b, c| {
            ((u64::from(b) << 32 | u64::from(a)) << (c & 31) >> 32) as u32
        }),
        ("shf.r.clamp.b32", |a, b, c| ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32),
        ("prmt.b32", |a, b, c| {
            let bytes: Vec<u8> = a.to_le_bytes().into_iter().chain(b.to_le_bytes()).collect();
            let pick = |i: u32| {
                let s = c >> (4 * i) & 15;
                let byte = bytes[(s & 7) as usize];
                u32::from(if s & 8 == 0 {
                    byte
                } else if byte & 0x80 != 0 {
                    0xff
                } else {
                    0
                }) << (8 * i)
            };
            pick(0) | pick(1) | pick(2) | pick(3)
        }),
        ("bfe.u32", |a, p, l| {
            let (p, l) = (p & 255, l & 255);
            (0..l.min(32)).fold(0, |m, i| m | if p + i < 32 { (a >> (p + i) & 1) << i } else { 0 })
        }),
        ("dp4a.s32.s32", |a, b, c| {
            (0..4).fold(c, |s, i| {
                s.wrapping_add(
                    (i32::from(a.to_le_bytes()[i] as i8) * i32::from(b.to_le_bytes()[i] as i8))
                        as u32,
                )
            })
        }),
    ];
    for (opcode, model) in u32_three {
        let case = Case { opcode, result: ('i', 4), operands: &[('i', 4), ('i', 4), ('i', 4)] };
        check(&case, &|r| u64::from(model(r[0] as u32, r[1] as u32, r[2] as u32)), &exact);
    }
}

/// Equal bits, or both NaN.
fn same_f32(got: u64, want: u64) -> bool {
    let (g, w) = (f32::from_bits(got as u32), f32::from_bits(want as u32));
    got == want || g.is_nan() && w.is_nan()
}

fn same_f64(got: u64, want: u64) -> bool {
    got == want || f64::from_bits(got).is_nan() && f64::from_bits(want).is_nan()
}

#[test]
fn floating_point() {
    let f = |b: u64| f32::from_bits(b as u32);
    let two: &Named<fn(f64, f64) -> f64> = &[
        ("add.f32", |a, b| a + b),
        ("sub.rn.f32", |a, b| a - b),
        ("mul.rn.f32", |a, b| a * b),
        ("div.rn.f32", |a, b| a / b),
        ("min.f32", |a, b| {
            if a.is_nan() {
                b
            } else if b.is_nan() || a.total_cmp(&b).is_lt() {
                a
            } else {
                b
            }
        }),
        ("max.f32", |a, b| {
            if a.is_nan() {
                b
            } else if b.is_nan() || a.total_cmp(&b).is_gt() {
                a
            } else {
                b
            }
        }),
    ];
    for (opcode, model) in two {
        // Sums, products and quotients of singles round twice through double without harm.
        let compute =
            |r: &[u64]| u64::from((model(f64::from(f(r[0])), f64::from(f(r[1]))) as f32).to_bits());
        check(
            &Case { opcode, result: ('f', 4), operands: &[('f', 4), ('f', 4)] },
            &compute,
            &same_f32,
        );
    }
    let one: &Named<fn(f64) -> f64> = &[
        ("sqrt.rn.f32", f64::sqrt),
        ("rcp.rn.f32", |a| 1.0 / a),
        ("abs.f32", f64::abs),
        ("neg.f32", |a| -a),
    ];
    for (opcode, model) in one {
        let compute = |r: &[u64]| u64::from((model(f64::from(f(r[0]))) as f32).to_bits());
        check(&Case { opcode, result: ('f', 4), operands: &[('f', 4)] }, &compute, &same_f32);
    }
    check(
        &Case { opcode: "fma.rn.f32", result: ('f', 4), operands: &[('f', 4); 3] },
        &|r| u64::from(f(r[0]).mul_add(f(r[1]), f(r[2])).to_bits()),
        &same_f32,
    );
    let double: &Named<fn(f64, f64) -> f64> = &[
        ("add.f64", |a, b| a + b),
        ("mul.f64", |a, b| a * b),
        ("div.rn.f64", |a, b| a / b),
        ("sub.f64", |a, b| a - b),
    ];
    for (opcode, model) in double {
        let compute = |r: &[u64]| model(f64::from_bits(r[0]), f64::from_bits(r[1])).to_bits();
        check(
            &Case { opcode, result: ('f', 8), operands: &[('f', 8), ('f', 8)] },
            &compute,
            &same_f64,
        );
    }
}

#[test]
fn approximations_keep_the_manuals_error() {
    let table: &[Bounded] = &[
        ("ex2.approx.f32", f64::exp2, 2.0f64.powi(-22)),
        ("rcp.approx.f32", |a| 1.0 / a, 2.0f64.powi(-23)),
        ("rsqrt.approx.f32", |a| 1.0 / a.sqrt(), 2.0f64.powi(-22)),
        ("sqrt.approx.f32", f64::sqrt, 2.0f64.powi(-23)),
        ("tanh.approx.f32", f64::tanh, 2.0f64.powi(-10)),
        ("lg2.approx.f32", f64::log2, 2.0f64.powi(-22)),
    ];
    for (opcode, model, bound) in table {
        let compute = |r: &[u64]| model(f64::from(f32::from_bits(r[0] as u32))).to_bits();
        let close = |got: u64, want: u64| {
            let (g, w) = (f64::from(f32::from_bits(got as u32)), f64::from_bits(want));
            let w32 = f64::from(w as f32);
            g == w32 || g.is_nan() && w.is_nan() || (g - w).abs() <= bound * w.abs() + 1e-44
        };
        check(&Case { opcode, result: ('f', 4), operands: &[('f', 4)] }, &compute, &close);
    }
}

#[test]
fn conversions() {
    let single = |b: u64| f64::from(f32::from_bits(b as u32));
    let to_int = |x: f64, low: f64, high: f64| if x.is_nan() { 0.0 } else { x.clamp(low, high) };
    let (i32_low, i32_high) = (f64::from(i32::MIN), f64::from(i32::MAX));
    let table: &Named<fn(f64) -> f64> = &[
        ("cvt.rzi.s32.f32", f64::trunc),
        ("cvt.rni.s32.f32", f64::round_ties_even),
        ("cvt.rmi.s32.f32", f64::floor),
        ("cvt.rpi.s32.f32", f64::ceil),
    ];
    for (opcode, model) in table {
        let compute =
            |r: &[u64]| u64::from(to_int(model(single(r[0])), i32_low, i32_high) as i32 as u32);
        check(&Case { opcode, result: ('i', 4), operands: &[('f', 4)] }, &compute, &exact);
    }
    check(
        &Case { opcode: "cvt.rzi.u32.f32", result: ('i', 4), operands: &[('f', 4)] },
        &|r| u64::from(single(r[0]).trunc() as u32),
        &exact,
    );
    check(
        &Case { opcode: "cvt.rn.f32.s32", result: ('f', 4), operands: &[('i', 4)] },
        &|r| u64::from((r[0] as u32 as i32 as f32).to_bits()),
        &exact,
    );
    check(
        &Case { opcode: "cvt.rn.f32.u64", result: ('f', 4), operands: &[('i', 8)] },
        &|r| u64::from((r[0] as f32).to_bits()),
        &exact,
    );
    check(
        &Case { opcode: "cvt.s64.s16", result: ('i', 8), operands: &[('i', 2)] },
        &|r| r[0] as u16 as i16 as i64 as u64,
        &exact,
    );
    check(
        &Case { opcode: "cvt.sat.u8.s32", result: ('i', 4), operands: &[('i', 4)] },
        &|r| (r[0] as u32 as i32).clamp(0, 255) as u64,
        &exact,
    );
    check(
        &Case { opcode: "cvt.rn.f16.f32", result: ('i', 2), operands: &[('f', 4)] },
        &|r| {
            let h = half::f16::from_f32(f32::from_bits(r[0] as u32));
            u64::from(if h.is_nan() { 0x7fff } else { h.to_bits() })
        },
        &exact,
    );
    check(
        &Case { opcode: "cvt.rn.bf16.f32", result: ('i', 2), operands: &[('f', 4)] },
        &|r| {
            let h = half::bf16::from_f32(f32::from_bits(r[0] as u32));
            u64::from(if h.is_nan() { 0x7fff } else { h.to_bits() })
        },
        &exact,
    );
    check(
        &Case { opcode: "cvt.f32.f16", result: ('f', 4), operands: &[('i', 2)] },
        &|r| u64::from(half::f16::from_bits(r[0] as u16).to_f32().to_bits()),
        &same_f32,
    );
}
