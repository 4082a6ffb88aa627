//! Region kernels, feature by feature, against the kernel interpreter.

#[path = "../support/mod.rs"]
mod support;

use support::{check, check_with, content, kernel, run, targets};

/// Extents around tile sizes.
const EXTENTS: [u64; 8] = [1, 3, 7, 15, 16, 17, 64, 65];

#[test]
fn pointwise_over_ragged_extents() {
    for n in EXTENTS {
        for tile in [1, 8, 16, 64] {
            check(
                &format!(
                    r#"kernel axpy "" {{
  read x: f32[{n}]
  update y: f32[{n}]
  var i: {n} / {tile}
  grid i
  %0: f32[i] = load x[i]
  %1: f32[i] = load y[i]
  %2: f32 = 0.5
  %3: f32[i] = mul %0, %2
  %4: f32[i] = add %3, %1
  store y[i] = %4
}}"#
                ),
                &[],
                0.0,
            );
        }
    }
}

#[test]
fn rows_with_loops_and_reductions() {
    let wide = [(17, 256), (65, 256), (100, 64)];
    for (n, tile) in EXTENTS.map(|n| (n, 16)).into_iter().chain(wide) {
        let rows = 5;
        let size = n * rows;
        check(
            &format!(
                r#"kernel softmax "" {{
  read x: f32[{size}]
  write y: bf16[{size}]
  write l: f32[{rows}]
  var r: {rows} / 1
  var d: {n} / {tile}
  grid r
  %0: f32[d] = -inf
  loop d carry (%1: f32[d] = %0 -> %2) {{
    %3: f32[r, d] = load x[{n}*r + d]
    %4: f32[r, d] = max %1, %3
    %5: f32[d] = reduce max %4 along r
    next %5
  }}
  %6: f32 = reduce max %2 along d
  %7: f32[d] = 0.0
  loop d carry (%8: f32[d] = %7 -> %9) {{
    %10: f32[r, d] = load x[{n}*r + d]
    %11: f32[r, d] = sub %10, %6
    %12: f32[r, d] = exp %11
    %13: f32[r, d] = add %8, %12
    %14: f32[d] = reduce sum %13 along r
    next %14
  }}
  %15: f32 = reduce sum %9 along d
  %16: f32 = 1.0
  %17: f32 = div %16, %15
  loop d {{
    %18: f32[r, d] = load x[{n}*r + d]
    %19: f32[r, d] = sub %18, %6
    %20: f32[r, d] = exp %19
    %21: f32[r, d] = mul %20, %17
    store y[{n}*r + d] = %21
  }}
  %22: f32 = log %15
  store l[r] = %22
}}"#
            ),
            &[],
            5e-3,
        );
    }
}

#[test]
fn ragged_tiles_in_two_grid_variables() {
    for (m, n) in [(1, 1), (3, 17), (4, 16), (7, 65), (9, 33)] {
        let size = m * n;
        check(
            &format!(
                r#"kernel transpose "" {{
  read x: f32[{size}]
  write y: f32[{size}]
  var k: {n} / 8
  var i: {m} / 4
  grid i, k
  %0: f32[k, i] = load x[{n}*i + k]
  store y[{m}*k + i] = %0
}}"#
            ),
            &[],
            0.0,
        );
    }
}

#[test]
fn reductions_of_unrolled_and_vector_variables() {
    for (m, n) in [(3, 17), (4, 16), (5, 40)] {
        let size = m * n;
        check(
            &format!(
                r#"kernel reductions "" {{
  read x: f32[{size}]
  write rows: f32[{m}]
  write columns: f32[{n}]
  write largest: f32[{n}]
  var i: {m} / {m}
  var k: {n} / {n}
  grid i, k
  %0: f32[i, k] = load x[{n}*i + k]
  %1: f32[i] = reduce sum %0 along k
  %2: f32[k] = reduce sum %0 along i
  %3: f32[k] = reduce max %0 along i
  store rows[i] = %1
  store columns[k] = %2
  store largest[k] = %3
}}"#
            ),
            &[],
            1e-5,
        );
    }
}

#[test]
fn nan_wins_reductions_to_the_largest() {
    for n in EXTENTS {
        let text = format!(
            r#"kernel largest "" {{
  read x: f32[{n}]
  write y: f32[1]
  var k: {n} / {n}
  grid k
  %0: f32[k] = load x[k]
  %1: f32 = reduce max %0 along k
  store y[0] = %1
}}"#
        );
        for at in [0, n / 2, n - 1] {
            let mut arguments = content(&kernel(&text));
            arguments[0][at as usize] = f64::NAN;
            check_with(&text, &arguments, &[], 0.0);
        }
    }
}

#[test]
fn digits_of_merged_axes() {
    // i merges axes of 3, 4 and 6; tiles divide digits, are divided by them, and do neither.
    for tile in [1, 2, 4, 6, 8, 12, 24, 16, 72] {
        check(
            &format!(
                r#"kernel permute "" {{
  read x: f32[72]
  read b: bf16[6]
  write y: f32[72]
  write n: i32[72]
  var i: 72 / {tile}
  grid i
  %0: f32[i] = load x[24*i%3 + 6*i/3%4 + i/12]
  %1: f32[i] = load b[i%6]
  %2: f32[i] = add %0, %1
  %3: i32[i] = index 7*i/5 - 2*i%9 + 3
  store y[12*i%6 + 3*i/6%4 + i/24] = %2
  store n[i] = %3
}}"#
            ),
            &[],
            0.0,
        );
    }
}

#[test]
fn gathers_scatters_and_scalars() {
    for n in EXTENTS {
        check(
            &format!(
                r#"kernel embed "" {{
  read tokens: i32[5]
  read table: f32[{}]
  write y: f32[{}]
  scalar l
  var t: 5 / 1
  var d: {n} / 16
  grid t, d
  %0: i32[t] = load tokens[t]
  %1: f32[t, d] = load table[{n}*%0 + d]
  store y[{n}*t + d + {}*l] = %1
}}"#,
                7 * n,
                15 * n,
                5 * n
            ),
            &[2],
            0.0,
        );
        // Several lanes may meet in one element: they are added in order.
        check(
            &format!(
                r#"kernel scatter "" {{
  read tokens: i32[{n}]
  read x: f32[{n}]
  update y: f32[7]
  var t: {n} / 16
  grid
  loop t {{
    %0: i32[t] = load tokens[t]
    %1: f32[t] = load x[t]
    store y[%0] += %1
  }}
}}"#
            ),
            &[],
            0.0,
        );
    }
}

#[test]
fn masks() {
    for (n, tile) in EXTENTS.map(|n| (n, if n % 2 == 0 { 16 } else { 64 })) {
        for storage in ["f32", "bf16"] {
            check(
                &format!(
                    r#"kernel masks "" {{
  read m: bool[{n}]
  read x: {storage}[{n}]
  read w: {storage}[{}]
  update y: {storage}[{n}]
  update z: {storage}[{}]
  var i: {n} / {tile}
  grid
  loop i {{
    %0: bool[i] = load m[i]
    %1: f32[i] = load x[i] where %0
    %2: f32[i] = load w[3*i] where %0
    %3: f32[i] = add %1, %2
    %4: bool[i] = not %0
    store y[i] = %3 where %0
    store y[i] += %1 where %4
    store z[2*i] += %3 where %0
  }}
}}"#,
                    3 * n,
                    2 * n
                ),
                &[],
                0.0,
            );
        }
    }
}

#[test]
fn uniform_masks_guard_offsets_outside_of_the_buffer() {
    check(
        r#"kernel window "" {
  read x: f32[20]
  write y: f32[80]
  var t: 4 / 1
  var i: 20 / 16
  grid t, i
  %0: i32[t] = index t
  %1: i32 = 2
  %2: bool[t] = lt %0, %1
  %3: f32[t, i] = load x[i + 100000*t/2] where %2
  store y[20*t + i] = %3
}"#,
        &[],
        0.0,
    );
}

#[test]
fn a_tile_is_loaded_before_it_is_stored() {
    for n in EXTENTS {
        check(
            &format!(
                r#"kernel reverse "" {{
  update x: f32[{n}]
  var i: {n} / {n}
  grid i
  %0: f32[i] = load x[-1*i + {}]
  %1: f32[i] = mul %0, %0
  store x[i] = %1
}}"#,
                n - 1
            ),
            &[],
            0.0,
        );
    }
}

#[test]
fn local_buffers_carry_values_between_loops() {
    for n in EXTENTS {
        check(
            &format!(
                r#"kernel reverse "" {{
  read x: f32[{0}]
  write y: f32[{0}]
  local line: f32[{n}]
  local flags: bool[{n}]
  var r: 3 / 1
  var i: {n} / 8
  grid r
  loop i {{
    %0: f32[r, i] = load x[{n}*r + i]
    %1: f32[r, i] = mul %0, %0
    %2: f32[i] = reduce sum %1 along r
    %3: f32 = 1.0
    %4: bool[i] = gt %2, %3
    store line[i] = %2
    store flags[i] = %4
  }}
  loop i {{
    %5: f32[i] = load line[-1*i + {1}]
    %6: bool[i] = load flags[i]
    %7: f32 = 0.0
    %8: f32[i] = where %6, %5, %7
    store y[{n}*r + i] = %8
  }}
}}"#,
                3 * n,
                n - 1
            ),
            &[],
            0.0,
        );
    }
}

#[test]
fn noise_is_philox() {
    for n in EXTENTS {
        check(
            &format!(
                r#"kernel noise "" {{
  read seed: i32[1]
  write y: f32[{n}]
  scalar step
  var i: {n} / 16
  grid i
  %0: i32 = load seed[0]
  %1: i32[i] = index i
  %2: i32 = index step
  %3: f32[i] = noise 77 (%0, %1, %2)
  store y[i] = %3
}}"#
            ),
            &[12345],
            0.0,
        );
    }
}

/// One kernel per function, over the whole argument range of interest.
#[test]
fn every_function() {
    use gigac_ir::pointwise::{POINTWISE, Typing};
    let special =
        [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    for def in POINTWISE {
        let (input, output) = match def.typing {
            Typing::Real
            | Typing::Rounding
            | Typing::Arithmetic
            | Typing::ToReal
            | Typing::Select => ("f32", "f32"),
            Typing::Integer => ("i32", "i32"),
            Typing::Compare => ("f32", "bool"),
            Typing::Logic => ("bool", "bool"),
        };
        let first = if def.typing == Typing::Select { "bool" } else { input };
        let operands: Vec<_> = (0..def.arity).map(|i| format!("%{i}")).collect();
        let loads: String = (0..def.arity)
            .map(|i| format!("  %{i}: {}[i] = load x{i}[i]\n", if i == 0 { first } else { input }))
            .collect();
        let reads: String = (0..def.arity)
            .map(|i| format!("  read x{i}: {}[67]\n", if i == 0 { first } else { input }))
            .collect();
        let text = format!(
            "kernel f \"\" {{\n{reads}  write y: {output}[67]\n  var i: 67 / 32\n  grid i\n{loads}  %{}: {output}[i] = {} {}\n  store y[i] = %{}\n}}",
            def.arity,
            def.name,
            operands.join(", "),
            def.arity
        );
        let mut arguments = content(&kernel(&text));
        if input == "f32" && def.name != "mod" {
            for (i, x) in special.iter().enumerate() {
                let last = def.arity - 1;
                arguments[last][i] = *x;
                arguments[last][i + 20] = *x;
                if def.arity == 2 {
                    arguments[0][i + 20] = special[(i + 3) % special.len()];
                }
            }
        }
        if def.typing == Typing::Integer {
            arguments[1].iter_mut().for_each(|x| *x -= 8.0);
        }
        check_with(&text, &arguments, &[], 1e-6);
    }
}

#[test]
fn functions_have_the_bits_of_their_definition() {
    use gigac_ir::math::{self, Single};
    type Function = fn(&Single, f32) -> f32;
    let count = 4096;
    let angle = |i: u32| f32::from_bits((i * 0x000f_f00d) ^ ((i & 1) << 31));
    let x: Vec<f32> = (0..count).map(angle).filter(|x| !x.is_nan()).collect();
    let numbers: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let functions: [(&str, Function); 7] = [
        ("exp", math::exp),
        ("log", math::log),
        ("tanh", math::tanh),
        ("erf", math::erf),
        ("sin", math::sin),
        ("cos", math::cos),
        ("bf16", math::bf16),
    ];
    for (name, function) in functions {
        let text = format!(
            r#"kernel {name} "" {{
  read x: f32[{0}]
  write y: f32[{0}]
  var i: {0} / 64
  grid i
  %0: f32[i] = load x[i]
  %1: f32[i] = {name} %0
  store y[i] = %1
}}"#,
            x.len()
        );
        let kernel = kernel(&text);
        for target in targets() {
            let arguments = [numbers.clone(), vec![0.0; x.len()]];
            let results = run(&kernel, &target, &arguments, &[], false);
            for (x, result) in x.iter().zip(&results[1]) {
                let (expect, result) = (function(&Single, *x), *result as f32);
                let same =
                    expect.to_bits() == result.to_bits() || expect.is_nan() && result.is_nan();
                assert!(same, "{name}({x:e}) is {result:e}, expected {expect:e}");
            }
        }
    }
}

#[test]
fn ints_wrap_and_divide_downwards() {
    let text = r#"kernel ints "" {
  read a: i32[8]
  read b: i32[8]
  write q: i32[8]
  write r: i32[8]
  write s: i32[8]
  write p: i32[8]
  write n: i32[8]
  write m: i32[8]
  write f: f32[8]
  var i: 8 / 8
  grid i
  %0: i32[i] = load a[i]
  %1: i32[i] = load b[i]
  %2: i32[i] = floordiv %0, %1
  %3: i32[i] = mod %0, %1
  %4: i32[i] = sub %0, %1
  %5: i32[i] = mul %0, %1
  %6: i32[i] = min %0, %1
  %7: i32[i] = max %0, %1
  %8: f32[i] = real %0
  store q[i] = %2
  store r[i] = %3
  store s[i] = %4
  store p[i] = %5
  store n[i] = %6
  store m[i] = %7
  store f[i] = %8
}"#;
    let least = f64::from(i32::MIN);
    let a = vec![7.0, -7.0, 7.0, -7.0, least, least, 2_147_483_647.0, 0.0];
    let b = vec![2.0, 2.0, -2.0, -2.0, -1.0, 3.0, 2_147_483_647.0, 5.0];
    let mut arguments = vec![a, b];
    arguments.extend(vec![vec![0.0; 8]; 7]);
    check_with(text, &arguments, &[], 0.0);
}

#[test]
fn bf16_rounds_to_nearest_even_and_keeps_nan() {
    let text = r#"kernel convert "" {
  read x: f32[16]
  write y: bf16[16]
  var i: 16 / 16
  grid i
  %0: f32[i] = load x[i]
  store y[i] = %0
}"#;
    let bits = [
        0x3f80_8000u32,
        0x3f81_8000,
        0x3f80_8001,
        0x3f80_7fff,
        0x7f80_0000,
        0xff80_0000,
        0x7f80_0001,
        0xffff_ffff,
        0x7f7f_ffff,
        0x0000_0001,
        0x8000_8000,
        0x0001_8000,
        0x0000_7fff,
        0x8000_0000,
        0,
        0x7fc0_0000,
    ];
    let x = bits.iter().map(|b| f64::from(f32::from_bits(*b))).collect();
    check_with(text, &[x, vec![0.0; 16]], &[], 0.0);
}

/// A rounded value that is used further in the same kernel is rounded there too.
#[test]
fn rounding_to_bf16_holds_inside_a_kernel() {
    let text = r#"kernel inside "" {
  read x: f32[131072]
  write y: f32[131072]
  var i: 131072 / 64
  grid i
  %0: f32[i] = load x[i]
  %1: f32[i] = bf16 %0
  %2: f32[i] = sub %0, %1
  store y[i] = %2
}"#;
    let halves =
        (0..=u16::MAX).flat_map(|b| [(u32::from(b) << 16) + 0x7fff, (u32::from(b) << 16) + 0x8000]);
    let x = halves.map(|b| f64::from(f32::from_bits(b))).collect();
    check_with(text, &[x, vec![0.0; 131_072]], &[], 0.0);
}
