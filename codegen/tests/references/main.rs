//! Families of kernels without products beside references in f64, on the emulated GPU under several
//! schedules and in the interpreter. No bound is a guess: each is the first-order sum of the roundings
//! that the kernel's text has, a tenth more for the higher orders.
//!
//! `U` and `HALF` are the unit roundoffs of f32 and bf16. A sum of `n` numbers in any order is off by at
//! most `n·U·Σ|x|`, a function of `e` ulp by `2·e·U` of its value.

#[path = "../support/mod.rs"]
mod support;

use gigac_ir::kernel::{Access, Arithmetic, Kernel, Storage};
use support::{content, gpu, kernel};

const U: f64 = 1.0 / (1 << 24) as f64;
const HALF: f64 = 1.0 / 256.0;

/// Bounds are first-order sums.
const HIGHER_ORDERS: f64 = 1.1;

/// What a result must be, and by how much f32 may miss it. Rounding to what is stored comes on top.
type Expect = (f64, f64);

/// Rows and columns: one, odd ones, ones that fill tiles, ones with a ragged last tile.
const SHAPES: [[usize; 2]; 7] =
    [[1, 1], [3, 17], [5, 64], [4, 100], [7, 128], [2, 1000], [1, 2049]];

/// The same with several rows a block where there are several.
fn shapes() -> impl Iterator<Item = [usize; 4]> {
    SHAPES.into_iter().flat_map(|[rows, cols]| {
        let tile = cols.next_power_of_two().min(1024);
        let together = if rows > 1 && tile <= 256 { vec![1, 4] } else { vec![1] };
        together.into_iter().map(move |rows_of_a_block| [rows, cols, rows_of_a_block, tile])
    })
}

/// Runs a kernel on the emulator and in the interpreter, and compares the buffers that something is
/// expected of.
fn check(text: &str, arguments: &[Vec<f64>], expected: &[(usize, Vec<Expect>)]) {
    let kernel = kernel(text);
    let mut interpreted = arguments.to_vec();
    kernel.interpret(&mut interpreted, &[], Arithmetic::F32).expect("the arguments fit");
    compare("the interpreter", &kernel, &interpreted, expected);
    for (schedule, results) in gpu::run(&kernel, arguments, &[]) {
        compare(&format!("{schedule:?}"), &kernel, &results, expected);
    }
}

fn compare(who: &str, kernel: &Kernel, results: &[Vec<f64>], expected: &[(usize, Vec<Expect>)]) {
    let declared: Vec<_> = kernel.buffers.iter().filter(|b| b.access != Access::Local).collect();
    for (buffer, expected) in expected {
        let (result, declared) = (&results[*buffer], declared[*buffer]);
        assert_eq!(result.len(), expected.len(), "{} of\n{kernel}", declared.name);
        let rounding = if declared.storage == Storage::Bf16 { HALF } else { 0.0 };
        for (i, (x, (y, bound))) in result.iter().zip(expected).enumerate() {
            let bound = bound * HIGHER_ORDERS;
            let allowed = bound + rounding * (y.abs() + bound);
            let off = (x - y).abs();
            assert!(
                off <= allowed,
                "{who}: {}[{i}] is {x}, not {y}, off by {off:e}, not {allowed:e}, in\n{kernel}",
                declared.name
            );
        }
    }
}

fn row(x: &[f64], r: usize, cols: usize) -> &[f64] {
    &x[r * cols..(r + 1) * cols]
}

/// `f32` constants as they are.
fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

#[test]
fn rms_norm_forward() {
    for [rows, n, together, tile] in shapes() {
        let text = format!(
            r#"kernel rms "" {{
  read x: bf16[{size}]
  read w: f32[{n}]
  write s: f32[{rows}]
  write y: bf16[{size}]
  var r: {rows} / {together}
  var d: {n} / {tile}
  var e: {n} / {tile}
  grid r
  %0: f32 = 0.0
  loop d carry (%1: f32[r, d] = %0 -> %2) {{
    %3: f32[r, d] = load x[{n}*r + d]
    %4: f32[r, d] = mul %3, %3
    %5: f32[r, d] = add %1, %4
    next %5
  }}
  %6: f32[r] = reduce sum %2 along d
  store s[r] = %6
  %7: f32 = {n}.0
  %8: f32[r] = div %6, %7
  %9: f32 = 0.00001
  %10: f32[r] = add %8, %9
  %11: f32[r] = sqrt %10
  loop e {{
    %12: f32[r, e] = load x[{n}*r + e]
    %13: f32[r, e] = div %12, %11
    %14: f32[e] = load w[e]
    %15: f32[r, e] = mul %13, %14
    store y[{n}*r + e] = %15
  }}
}}"#,
            size = rows * n
        );
        let arguments = content(&kernel(&text));
        let (x, w) = (&arguments[0], &arguments[1]);
        let (mut sums, mut results) = (Vec::new(), Vec::new());
        for r in 0..rows {
            let x = row(x, r, n);
            let sum: f64 = x.iter().map(|x| x * x).sum();
            sums.push((sum, (n + 1) as f64 * U * sum));
            let root = (sum / n as f64 + single(1e-5)).sqrt();
            // The sum, its quotient and what is added, halved by the root; the root, a quotient, a product.
            let relative = ((n + 3) as f64 / 2.0 + 3.0) * U;
            results.extend(
                x.iter().zip(w).map(|(x, w)| x / root * w).map(|y| (y, relative * y.abs())),
            );
        }
        check(&text, &arguments, &[(2, sums), (3, results)]);
    }
}

#[test]
fn rms_norm_backward() {
    for [rows, n, together, tile] in shapes() {
        let text = format!(
            r#"kernel rms_backward "" {{
  read x: bf16[{size}]
  read g: bf16[{size}]
  read w: f32[{n}]
  read q: f32[{rows}]
  write y: f32[{size}]
  var r: {rows} / {together}
  var d: {n} / {tile}
  var e: {n} / {tile}
  grid r
  %0: f32 = 0.0
  loop d carry (%1: f32[r, d] = %0 -> %2) {{
    %3: f32[r, d] = load x[{n}*r + d]
    %4: f32[r, d] = load g[{n}*r + d]
    %5: f32[d] = load w[d]
    %6: f32[r, d] = mul %4, %5
    %7: f32[r, d] = mul %6, %3
    %8: f32[r, d] = add %1, %7
    next %8
  }}
  %9: f32[r] = reduce sum %2 along d
  %10: f32[r] = load q[r]
  %11: f32[r] = mul %10, %10
  %12: f32[r] = mul %11, %10
  %13: f32[r] = mul %12, %9
  %14: f32 = {n}.0
  %15: f32[r] = div %13, %14
  loop e {{
    %16: f32[r, e] = load g[{n}*r + e]
    %17: f32[e] = load w[e]
    %18: f32[r, e] = mul %16, %17
    %19: f32[r, e] = mul %18, %10
    %20: f32[r, e] = load x[{n}*r + e]
    %21: f32[r, e] = mul %20, %15
    %22: f32[r, e] = sub %19, %21
    store y[{n}*r + e] = %22
  }}
}}"#,
            size = rows * n
        );
        let arguments = content(&kernel(&text));
        let [x, g, w, q] = [0, 1, 2, 3].map(|i| &arguments[i]);
        let mut results = Vec::new();
        for (r, q) in q.iter().enumerate() {
            let (x, g) = (row(x, r, n), row(g, r, n));
            let terms: Vec<f64> = (0..n).map(|i| g[i] * w[i] * x[i]).collect();
            let (sum, size): (f64, f64) = (terms.iter().sum(), terms.iter().map(|t| t.abs()).sum());
            let scale = q.powi(3) / n as f64;
            let shared = scale.abs() * (n + 2) as f64 * U * size + 4.0 * U * (scale * sum).abs();
            for i in 0..n {
                let (own, rest) = (g[i] * w[i] * q, x[i] * scale * sum);
                let bound = 2.0 * U * own.abs() + x[i].abs() * shared + U * rest.abs();
                results.push((own - rest, bound + U * (own - rest).abs()));
            }
        }
        check(&text, &arguments, &[(4, results)]);
    }
}

#[test]
fn layer_norm_forward() {
    for [rows, n, together, tile] in shapes() {
        let text = format!(
            r#"kernel layer_norm "" {{
  read x: f32[{size}]
  read w: f32[{n}]
  write y: f32[{size}]
  var r: {rows} / {together}
  var d: {n} / {tile}
  var e: {n} / {tile}
  var f: {n} / {tile}
  grid r
  %0: f32 = 0.0
  %1: f32 = {n}.0
  loop d carry (%2: f32[r, d] = %0 -> %3) {{
    %4: f32[r, d] = load x[{n}*r + d]
    %5: f32[r, d] = add %2, %4
    next %5
  }}
  %6: f32[r] = reduce sum %3 along d
  %7: f32[r] = div %6, %1
  loop e carry (%8: f32[r, e] = %0 -> %9) {{
    %10: f32[r, e] = load x[{n}*r + e]
    %11: f32[r, e] = sub %10, %7
    %12: f32[r, e] = mul %11, %11
    %13: f32[r, e] = add %8, %12
    next %13
  }}
  %14: f32[r] = reduce sum %9 along e
  %15: f32[r] = div %14, %1
  %16: f32 = 0.00001
  %17: f32[r] = add %15, %16
  %18: f32[r] = sqrt %17
  loop f {{
    %19: f32[r, f] = load x[{n}*r + f]
    %20: f32[r, f] = sub %19, %7
    %21: f32[r, f] = div %20, %18
    %22: f32[f] = load w[f]
    %23: f32[r, f] = mul %21, %22
    store y[{n}*r + f] = %23
  }}
}}"#,
            size = rows * n
        );
        let arguments = content(&kernel(&text));
        let (x, w) = (&arguments[0], &arguments[1]);
        let mut results = Vec::new();
        for r in 0..rows {
            let x = row(x, r, n);
            let mean = x.iter().sum::<f64>() / n as f64;
            let size = x.iter().map(|x| x.abs()).sum::<f64>() / n as f64;
            let off = (n as f64 * size + mean.abs()) * U;
            let centred: Vec<f64> = x.iter().map(|x| x - mean).collect();
            let wrong = |c: &f64| off + U * c.abs();
            let variance = centred.iter().map(|c| c * c).sum::<f64>() / n as f64;
            let squares: f64 =
                centred.iter().map(|c| 2.0 * c.abs() * wrong(c) + wrong(c).powi(2)).sum();
            let total = variance + single(1e-5);
            let of_total = squares / n as f64 + (n + 3) as f64 * U * total;
            let root = total.sqrt();
            for (c, w) in centred.iter().zip(w) {
                let y = c / root * w;
                let relative = of_total / (2.0 * total) + 3.0 * U;
                results.push((y, wrong(c) / root * w.abs() + relative * y.abs()));
            }
        }
        check(&text, &arguments, &[(2, results)]);
    }
}

#[test]
fn cross_entropy_and_its_gradient() {
    for [rows, n, together, tile] in shapes() {
        let text = format!(
            r#"kernel cross_entropy "" {{
  read x: bf16[{size}]
  read t: i32[{rows}] below {n}
  write l: f32[{rows}]
  write y: bf16[{size}]
  var r: {rows} / {together}
  var d: {n} / {tile}
  var e: {n} / {tile}
  var f: {n} / {tile}
  grid r
  %0: f32 = -inf
  loop d carry (%1: f32[r, d] = %0 -> %2) {{
    %3: f32[r, d] = load x[{n}*r + d]
    %4: f32[r, d] = max %1, %3
    next %4
  }}
  %5: f32[r] = reduce max %2 along d
  %6: f32 = 0.0
  loop e carry (%7: f32[r, e] = %6 -> %8) {{
    %9: f32[r, e] = load x[{n}*r + e]
    %10: f32[r, e] = sub %9, %5
    %11: f32[r, e] = exp %10
    %12: f32[r, e] = add %7, %11
    next %12
  }}
  %13: f32[r] = reduce sum %8 along e
  %14: i32[r] = load t[r]
  %15: f32[r] = load x[%14 + {n}*r]
  %16: f32[r] = log %13
  %17: f32[r] = add %16, %5
  %18: f32[r] = sub %17, %15
  store l[r] = %18
  %19: f32 = 1.0
  loop f {{
    %20: f32[r, f] = load x[{n}*r + f]
    %21: f32[r, f] = sub %20, %5
    %22: f32[r, f] = exp %21
    %23: f32[r, f] = div %22, %13
    %24: i32[f] = index f
    %25: bool[r, f] = eq %14, %24
    %26: f32[r, f] = where %25, %19, %6
    %27: f32[r, f] = sub %23, %26
    store y[{n}*r + f] = %27
  }}
}}"#,
            size = rows * n
        );
        let mut arguments = content(&kernel(&text));
        arguments[1].iter_mut().for_each(|target| *target %= n as f64);
        let (x, targets) = (&arguments[0], &arguments[1]);
        let (mut losses, mut results) = (Vec::new(), Vec::new());
        for (r, target) in targets.iter().enumerate() {
            let x = row(x, r, n);
            let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let far = x.iter().map(|x| most - x).fold(0.0, f64::max);
            let sum: f64 = x.iter().map(|x| (x - most).exp()).sum();
            // The difference's rounding, and 1 ulp of `exp`.
            let exponential = (far + 2.0) * U;
            let of_sum = exponential + n as f64 * U;
            let (log, loss) = (sum.ln(), sum.ln() + most - x[*target as usize]);
            let roundings = 1.6 * log.abs() + (log + most).abs() + loss.abs();
            losses.push((loss, of_sum + U * roundings));
            results.extend(x.iter().enumerate().map(|(i, x)| {
                let p = (x - most).exp() / sum;
                let y = p - f64::from(i == *target as usize);
                (y, p * (exponential + of_sum + U) + U * y.abs())
            }));
        }
        check(&text, &arguments, &[(2, losses), (3, results)]);
    }
}

#[test]
fn swiglu() {
    for [rows, n, _, tile] in shapes() {
        let n = rows * n;
        let text = format!(
            r#"kernel swiglu "" {{
  read g: bf16[{n}]
  read u: bf16[{n}]
  write y: bf16[{n}]
  var d: {n} / {tile}
  grid d
  %0: f32 = 0.5
  %1: f32[d] = load g[d]
  %2: f32[d] = mul %1, %0
  %3: f32[d] = tanh %2
  %4: f32[d] = mul %3, %0
  %5: f32[d] = add %4, %0
  %6: f32[d] = mul %1, %5
  %7: f32[d] = load u[d]
  %8: f32[d] = mul %6, %7
  store y[d] = %8
}}"#
        );
        let arguments = content(&kernel(&text));
        let of = |(g, u): (&f64, &f64)| {
            let (tanh, sigmoid) = ((g / 2.0).tanh(), 1.0 / (1.0 + (-g).exp()));
            let y = g * sigmoid * u;
            // 1.5 ulp of `tanh`, halved; a sum and two products.
            (y, (g * u).abs() * (1.5 * U * tanh.abs() + U * sigmoid) + 2.0 * U * y.abs())
        };
        let results = arguments[0].iter().zip(&arguments[1]).map(of).collect();
        check(&text, &arguments, &[(2, results)]);
    }
}

#[test]
fn rope_over_heads() {
    for (tokens, heads, half, [t, h]) in
        [(3, 5, 8, [2, 4]), (4, 3, 5, [1, 2]), (5, 8, 64, [2, 8]), (2, 1, 32, [1, 1])]
    {
        let (width, tile) = (2 * half, usize::next_power_of_two(half));
        let (line, size) = (heads * width, tokens * heads * width);
        let text = format!(
            r#"kernel rope "" {{
  read x: bf16[{size}]
  read c: f32[{angles}]
  read s: f32[{angles}]
  write y: bf16[{size}]
  var t: {tokens} / {t}
  var h: {heads} / {h}
  var a: {half} / {tile}
  var b: {half} / {tile}
  grid t, h
  loop a {{
    %0: f32[t, h, a] = load x[a + {width}*h + {line}*t]
    %1: f32[t, h, a] = load x[a + {width}*h + {line}*t + {half}]
    %2: f32[t, a] = load c[a + {half}*t]
    %3: f32[t, a] = load s[a + {half}*t]
    %4: f32[t, h, a] = mul %0, %2
    %5: f32[t, h, a] = mul %1, %3
    %6: f32[t, h, a] = sub %4, %5
    store y[a + {width}*h + {line}*t] = %6
  }}
  loop b {{
    %7: f32[t, h, b] = load x[b + {width}*h + {line}*t]
    %8: f32[t, h, b] = load x[b + {width}*h + {line}*t + {half}]
    %9: f32[t, b] = load c[b + {half}*t]
    %10: f32[t, b] = load s[b + {half}*t]
    %11: f32[t, h, b] = mul %8, %9
    %12: f32[t, h, b] = mul %7, %10
    %13: f32[t, h, b] = add %11, %12
    store y[b + {width}*h + {line}*t + {half}] = %13
  }}
}}"#,
            angles = tokens * half
        );
        let arguments = content(&kernel(&text));
        let [x, c, s] = [0, 1, 2].map(|i| &arguments[i]);
        let of = |i: usize| {
            let (token, k) = (i / line, i % width);
            let (c, s) = (c[token * half + k % half], s[token * half + k % half]);
            let (first, second) =
                if k < half { (x[i] * c, -x[i + half] * s) } else { (x[i] * c, x[i - half] * s) };
            let y = first + second;
            (y, U * (first.abs() + second.abs() + y.abs()))
        };
        check(&text, &arguments, &[(3, (0..size).map(of).collect())]);
    }
}

#[test]
fn sums_down_columns() {
    for (rows, cols, [tile, positions]) in
        [(5, 3, [4, 2]), (100, 17, [16, 8]), (64, 64, [64, 32]), (130, 256, [128, 16])]
    {
        let text = format!(
            r#"kernel down "" {{
  read x: bf16[{size}]
  read q: f32[{rows}]
  write y: f32[{cols}]
  var d: {cols} / {tile}
  var t: {rows} / {positions}
  grid d
  %0: f32 = 0.0
  loop t carry (%1: f32[d, t] = %0 -> %2) {{
    %3: f32[d, t] = load x[{cols}*t + d]
    %4: f32[t] = load q[t]
    %5: f32[d, t] = mul %3, %4
    %6: f32[d, t] = add %1, %5
    next %6
  }}
  %7: f32[d] = reduce sum %2 along t
  store y[d] = %7
}}"#,
            size = rows * cols
        );
        let arguments = content(&kernel(&text));
        let of = |d: usize| {
            let terms: Vec<f64> =
                (0..rows).map(|t| arguments[0][t * cols + d] * arguments[1][t]).collect();
            let size: f64 = terms.iter().map(|t| t.abs()).sum();
            (terms.iter().sum(), (rows + 1) as f64 * U * size)
        };
        check(&text, &arguments, &[(2, (0..cols).map(of).collect())]);
    }
}

#[test]
fn scatters_shared_out_over_positions() {
    for (tokens, words, cols, shares) in
        [(9, 5, 3, 2), (40, 7, 64, 3), (33, 100, 130, 8), (12, 4, 16, 1)]
    {
        let tile = usize::next_power_of_two(cols).min(128);
        let text = format!(
            r#"kernel scatter "" {{
  update y: f32[{size}]
  read t: i32[{tokens}] below {words}
  read x: bf16[{given}]
  var d: {cols} / {tile}
  var s: {shares} / 1
  var f: {fill} / 1
  var w: {tokens} / 1
  grid s, d
  %0: f32 = 0.0
  %1: i32 = {words}
  loop f {{
    %2: i32[s, f] = index {shares}*f + s
    %3: bool[s, f] = lt %2, %1
    store y[{step}*f + {cols}*s + d] = %0 where %3
  }}
  %4: i32 = {shares}
  %5: i32[s] = index s
  loop w {{
    %6: i32[w] = load t[w]
    %7: i32[w] = mod %6, %4
    %8: bool[s, w] = eq %7, %5
    when %8
    %9: f32[d, s, w] = load x[{cols}*w + d] where %8
    store y[{cols}*%6 + d] += %9 where %8
  }}
}}"#,
            size = words * cols,
            given = tokens * cols,
            fill = usize::div_ceil(words, shares),
            step = shares * cols
        );
        let mut arguments = content(&kernel(&text));
        arguments[1].iter_mut().for_each(|token| *token %= words as f64);
        let of = |i: usize| {
            let (word, d) = (i / cols, i % cols);
            let met = (0..tokens).filter(|t| arguments[1][*t] as usize == word);
            let terms: Vec<f64> = met.map(|t| arguments[2][t * cols + d]).collect();
            let size: f64 = terms.iter().map(|x| x.abs()).sum();
            (terms.iter().sum(), terms.len() as f64 * U * size)
        };
        check(&text, &arguments, &[(0, (0..words * cols).map(of).collect())]);
    }
}

#[test]
fn adamw() {
    for n in [1, 7, 64, 1000, 1030] {
        let text = format!(
            r#"kernel adamw "" {{
  read g: f32[{n}]
  update m: f32[{n}]
  update v: f32[{n}]
  update p: f32[{n}]
  var d: {n} / 1024
  grid d
  %0: f32 = 0.9
  %1: f32 = 0.1
  %2: f32 = 0.95
  %3: f32 = 0.05
  %4: f32 = 0.00000001
  %5: f32 = 0.001
  %6: f32[d] = load g[d]
  %7: f32[d] = load m[d]
  %8: f32[d] = mul %7, %0
  %9: f32[d] = mul %6, %1
  %10: f32[d] = add %8, %9
  store m[d] = %10
  %11: f32[d] = load v[d]
  %12: f32[d] = mul %11, %2
  %13: f32[d] = mul %6, %6
  %14: f32[d] = mul %13, %3
  %15: f32[d] = add %12, %14
  store v[d] = %15
  %16: f32[d] = div %10, %1
  %17: f32[d] = div %15, %3
  %18: f32[d] = sqrt %17
  %19: f32[d] = add %18, %4
  %20: f32[d] = div %16, %19
  %21: f32[d] = load p[d]
  %22: f32[d] = mul %21, %1
  %23: f32[d] = add %20, %22
  %24: f32[d] = mul %23, %5
  %25: f32[d] = sub %21, %24
  store p[d] = %25
}}"#
        );
        let mut arguments = content(&kernel(&text));
        arguments[2].iter_mut().for_each(|v| *v = v.abs());
        let [b1, c1, b2, c2, eps, rate] = [0.9, 0.1, 0.95, 0.05, 1e-8, 1e-3].map(single);
        let mut results = [Vec::new(), Vec::new(), Vec::new()];
        let [g, m, v, p] = [0, 1, 2, 3].map(|k| arguments[k].iter());
        for (((g, m), v), p) in g.zip(m).zip(v).zip(p) {
            let (m, of_m) = (m * b1 + g * c1, 2.0 * U * ((m * b1).abs() + (g * c1).abs()));
            let v = v * b2 + g * g * c2;
            let root = (v / c2).sqrt() + eps;
            let step = m / c1 / root;
            // Moment and its quotient; three roundings of `v` and a quotient, halved, root and sum; a quotient.
            let of_step = of_m / c1 / root + U * step.abs() + 4.0 * U * step.abs() + U * step.abs();
            let all = step + p * c1;
            let of_all = of_step + U * (p * c1).abs() + U * all.abs();
            let next = p - rate * all;
            results[0].push((m, of_m));
            results[1].push((v, 3.0 * U * v));
            results[2].push((next, rate * of_all + U * (rate * all).abs() + U * next.abs()));
        }
        let [m, v, p] = results;
        check(&text, &arguments, &[(1, m), (2, v), (3, p)]);
    }
}

/// What training reports of a gradient, and what one may ask of any tensor: how many of its elements are not finite,
/// its norm without them, its smallest and its largest element.
#[test]
fn statistics_of_a_tensor() {
    for [rows, n, together, tile] in shapes() {
        let text = format!(
            r#"kernel statistics "" {{
  read x: f32[{size}]
  write count: f32[{rows}]
  write squares: f32[{rows}]
  write low: f32[{rows}]
  write high: f32[{rows}]
  var r: {rows} / {together}
  var d: {n} / {tile}
  grid r
  %0: f32 = 0.0
  %1: f32 = -inf
  loop d carry (%2: f32[r, d] = %0 -> %3, %4: f32[r, d] = %0 -> %5, %6: f32[r, d] = %1 -> %7, %8: f32[r, d] = %1 -> %9) {{
    %10: f32[r, d] = load x[{n}*r + d]
    %11: f32[r, d] = sub %10, %10
    %12: bool[r, d] = eq %11, %0
    %13: bool[r, d] = not %12
    %14: f32[r, d] = real %13
    %15: f32[r, d] = add %2, %14
    %16: f32[r, d] = where %12, %10, %0
    %17: f32[r, d] = mul %16, %16
    %18: f32[r, d] = add %4, %17
    %19: f32[r, d] = neg %16
    %20: f32[r, d] = max %6, %19
    %21: f32[r, d] = max %8, %16
    next %15, %18, %20, %21
  }}
  %22: f32[r] = reduce sum %3 along d
  store count[r] = %22
  %23: f32[r] = reduce sum %5 along d
  store squares[r] = %23
  %24: f32[r] = reduce max %7 along d
  %25: f32[r] = neg %24
  store low[r] = %25
  %26: f32[r] = reduce max %9 along d
  store high[r] = %26
}}"#,
            size = rows * n
        );
        let mut arguments = content(&kernel(&text));
        for (i, x) in arguments[0].iter_mut().enumerate() {
            match i % 23 {
                5 => *x = f64::NAN,
                11 => *x = f64::INFINITY,
                _ => {}
            }
        }
        let mut results = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for r in 0..rows {
            let x = row(&arguments[0], r, n);
            let finite: Vec<f64> = x.iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect();
            let squares: f64 = finite.iter().map(|x| x * x).sum();
            results[0].push((x.iter().filter(|x| !x.is_finite()).count() as f64, 0.0));
            results[1].push((squares, (n + 1) as f64 * U * squares));
            results[2].push((finite.iter().copied().fold(f64::INFINITY, f64::min), 0.0));
            results[3].push((finite.iter().copied().fold(f64::NEG_INFINITY, f64::max), 0.0));
        }
        let [count, squares, low, high] = results;
        check(&text, &arguments, &[(1, count), (2, squares), (3, low), (4, high)]);
    }
}
