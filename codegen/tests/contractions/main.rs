//! Contraction kernels against the kernel interpreter: the same bits, on every target, for any
//! split of the grid.

#[path = "../support/mod.rs"]
mod support;

use gigac_codegen::x86::{CpuTarget, compile_cpu, emit_asm, emit_llvm};
use support::{check, check_cpu, kernel, number};

/// Extents around register tiles and blocks.
const EXTENTS: [u64; 6] = [1, 3, 17, 64, 65, 200];

/// A product `c[b, m, n] = Σ a[b, m, k] · b[b, k, n]`, by the pieces that differ.
struct Product {
    /// batch, m, n, k.
    extents: [u64; 4],
    /// m, n, k.
    tiles: [u64; 3],
    /// Offsets of the operands and of the result.
    a: String,
    b: String,
    c: String,
    /// Type of the loaded `%a`.
    a_type: &'static str,
    /// Further buffers.
    buffers: &'static str,
    /// Storage of the operands and of the result.
    storage: &'static str,
    /// Statements before the loop; between loads (`%a`, `%b`) and `dot`; after the loop (`%c`).
    before: &'static str,
    prologue: &'static str,
    epilogue: &'static str,
    /// The stores, `store c[…]` by default.
    stores: String,
}

impl Product {
    /// A plain product of operands that lie row by row, or transposed.
    fn new([batch, m, n, k]: [u64; 4], transposed: [bool; 2]) -> Self {
        let by_row = |rows: &str, cols: &str, width: u64, size: u64| {
            format!("{size}*i + {width}*{rows} + {cols}")
        };
        let [at, bt] = transposed;
        let a = if at { by_row("k", "m", m, m * k) } else { by_row("m", "k", k, m * k) };
        let b = if bt { by_row("n", "k", k, n * k) } else { by_row("k", "n", n, n * k) };
        let c = by_row("m", "n", n, m * n);
        Self {
            extents: [batch, m, n, k],
            tiles: [64, 48, 64],
            a,
            b,
            stores: format!("store c[{c}] = %c"),
            c,
            a_type: "f32[i, m, k]",
            buffers: "",
            storage: "f32",
            before: "",
            prologue: "%aa: f32[i, m, k] = stop %a\n%bb: f32[i, n, k] = stop %b",
            epilogue: "",
        }
    }

    /// The kernel; `%name` values are numbered.
    fn text(&self) -> String {
        let [batch, m, n, k] = self.extents;
        let [tm, tn, tk] = self.tiles;
        let Self { a, b, a_type, buffers, storage, before, prologue, epilogue, stores, .. } = self;
        let (left, right, result) = (batch * m * k, batch * k * n, batch * m * n);
        let operands = if prologue.is_empty() { "%a, %b" } else { "%aa, %bb" };
        let named = format!(
            "kernel product \"\" {{
read a: {storage}[{left}]
read b: {storage}[{right}]
update c: {storage}[{result}]
{buffers}
var i: {batch} / 1
var m: {m} / {tm}
var n: {n} / {tn}
var k: {k} / {tk}
grid i, m, n
{before}
%zero: f32 = 0.0
loop k carry (%sum: f32[i, m, n] = %zero -> %c) {{
%a: {a_type} = load a[{a}]
%b: f32[i, n, k] = load b[{b}]
{prologue}
%dot: f32[i, m, n] = dot {operands} along k
%more: f32[i, m, n] = add %sum, %dot
next %more
}}
{epilogue}
{stores}
}}"
        );
        number(&named)
    }

    fn check(&self, tolerance: f64) {
        check(&self.text(), &[], tolerance);
    }
}

#[test]
fn all_extents_and_transpositions() {
    // Every pair of extents meets two of the transpositions; k takes its turns.
    let transpositions = [[false, false], [true, true], [false, true], [true, false]];
    for (i, m) in EXTENTS.into_iter().enumerate() {
        for (j, n) in EXTENTS.into_iter().enumerate() {
            for turn in 0..2 {
                let k = EXTENTS[(i + 2 * j + 3 * turn) % EXTENTS.len()];
                let transposed = transpositions[(i + j) % 2 + 2 * turn];
                Product::new([1 + (i + j) as u64 % 2, m, n, k], transposed).check(0.0);
            }
        }
    }
}

/// Operands that are loads and nothing else: rows may be read in place, and columns that are
/// contiguous are packed by the first tiles of a block, turn by turn or once for several blocks.
#[test]
fn plain_operands() {
    for (extents, tiles) in [
        ([1, 8, 64, 150], [8, 64, 64]),
        ([1, 100, 96, 150], [64, 32, 64]),
        ([2, 100, 96, 150], [64, 96, 150]),
        ([1, 70, 160, 300], [36, 64, 256]),
        ([3, 25, 40, 33], [25, 40, 16]),
        ([1, 61, 33, 65], [64, 48, 64]),
    ] {
        for transposed in [[false, false], [true, true], [false, true], [true, false]] {
            let plain = Product::new(extents, transposed);
            Product { prologue: "", tiles, ..plain }.check(0.0);
        }
    }
}

#[test]
fn digits_of_merged_axes() {
    for (high, low) in [(4, 16), (3, 32), (5, 7), (2, 64)] {
        let k = high * low;
        // k = (h, j) with m between them: a[h, m, j]; b[j, h, n].
        let a = format!("{}*i + {}*k/{low} + {low}*m + k%{low}", 40 * k, 40 * low);
        let b = format!("{}*i + 50*k/{low} + {}*k%{low} + n", 50 * k, 50 * high);
        Product { a, b, ..Product::new([1, 40, 50, k], [false; 2]) }.check(0.0);
        // m = (t, j) with k between them, n = (h, j) with m between them in the result.
        let a = format!("{}*i + {}*m/{low} + {low}*k + m%{low}", 20 * k, 20 * low);
        let c = format!("{}*n/{low} + {low}*m + n%{low}", k * low);
        let stores = format!("store c[{c}] = %c");
        let product = Product::new([1, k, k, 20], [true, true]);
        Product { a, c, stores, tiles: [32, 48, 8], ..product }.check(0.0);
    }
}

#[test]
fn result_contiguous_along_m() {
    for transposed in [[false, false], [true, true]] {
        let product = Product::new([2, 65, 33, 70], transposed);
        Product { stores: "store c[2145*i + m + 65*n] = %c".to_owned(), ..product }.check(0.0);
    }
}

/// Where neighbours lie far apart, each has a line of its own: too many to fetch ahead.
#[test]
fn distant_results_take_no_more_code() {
    let product = Product::new([512, 64, 64, 64], [true, false]);
    let stores = "store c[i + 512*m + 32768*n] = %c".to_owned();
    let text = Product { stores, ..product }.text();
    let llvm = emit_llvm(&[kernel(&text)], &CpuTarget::x86_64_v4()).expect("the kernel compiles");
    assert!(llvm.lines().count() < 20_000, "{} lines", llvm.lines().count());
}

#[test]
fn result_scattered() {
    let product = Product::new([2, 10, 33, 20], [false; 2]);
    Product { stores: "store c[i + 2*m + 20*n] = %c".to_owned(), ..product }.check(0.0);
}

#[test]
fn prologue_on_both_operands() {
    for transposed in [[false, false], [false, true], [true, false], [true, true]] {
        Product {
            buffers: "read r: f32[50]\nread w: f32[90]",
            before: "%r: f32[m] = load r[m]",
            prologue: "%w: f32[k] = load w[k]
%aw: f32[m, k] = mul %r, %w
%aa: f32[i, m, k] = mul %a, %aw
%bb: f32[i, n, k] = exp %b",
            ..Product::new([1, 50, 40, 90], transposed)
        }
        .check(1e-5);
    }
}

#[test]
fn epilogue_with_bias_residual_activation_and_two_stores() {
    let product = Product::new([2, 30, 70, 90], [false, true]);
    Product {
        buffers: "read bias: f32[70]\nread rest: f32[4200]\nread r: f32[30]\nwrite t: bf16[4200]",
        epilogue: "%bias: f32[n] = load bias[n]
%row: f32[m] = load r[m]
%x: f32[i, m, n] = mul %c, %row
%y: f32[i, m, n] = add %x, %bias
%t: f32[i, m, n] = tanh %y
%rest: f32[i, m, n] = load rest[2100*i + 70*m + n]
%z: f32[i, m, n] = add %t, %rest",
        stores: format!("store c[{0}] = %z\nstore t[{0}] = %x", product.c),
        ..product
    }
    .check(1e-6);
}

/// Kernel formation shares constants: the sum's first value may be an operand elsewhere.
#[test]
fn rectified_with_the_zero_of_the_sum() {
    let product = Product::new([1, 30, 40, 50], [false, true]);
    Product {
        epilogue: "%y: f32[i, m, n] = max %c, %zero",
        stores: format!("store c[{}] = %y", product.c),
        ..product
    }
    .check(0.0);
}

#[test]
fn accumulating_and_masked_stores() {
    for m in [1, 40] {
        let product = Product::new([3, m, 40, 100], [true, false]);
        Product {
            before: "%im: i32[m] = index m\n%in: i32[n] = index n\n%low: bool[m, n] = ge %im, %in",
            stores: format!("store c[{}] += %c where %low", product.c),
            ..product
        }
        .check(0.0);
    }
}

#[test]
fn bf16_operands_and_result() {
    for transposed in [[false, false], [true, true]] {
        Product { storage: "bf16", ..Product::new([1, 65, 50, 130], transposed) }.check(0.0);
    }
}

/// The tiles of tensor cores: odd extents, every transposition, several turns of the pipeline.
#[test]
fn bf16_over_tiles_and_extents() {
    let cases = [
        ([128, 128, 32], [200, 264, 136]),
        ([128, 256, 64], [130, 300, 200]),
        ([64, 128, 32], [64, 128, 32]),
        ([64, 64, 64], [100, 72, 520]),
        ([32, 48, 16], [33, 50, 17]),
        ([16, 256, 16], [24, 256, 48]),
        ([16, 16, 16], [7, 9, 40]),
    ];
    for (i, (tiles, [m, n, k])) in cases.into_iter().enumerate() {
        for turn in 0..2 {
            let transposed = [(i + turn) % 2 == 0, (i / 2 + turn) % 2 == 0];
            let product = Product::new([1 + turn as u64, m, n, k], transposed);
            let buffers = "read bias: f32[512]\nwrite f: f32[160000]";
            Product {
                tiles,
                storage: "bf16",
                buffers,
                epilogue: "%bias: f32[n] = load bias[n]\n%y: f32[i, m, n] = add %c, %bias",
                stores: format!("store c[{0}] = %c\nstore f[{0}] = %y", product.c),
                ..product
            }
            .check(0.0);
        }
    }
}

#[test]
fn masked_and_gathered_operands() {
    Product {
        buffers: "read rows: i32[30]",
        before: "%row: i32[m] = load rows[m]\n%im: i32[m] = index m",
        a: "50*%row + k".to_owned(),
        a_type: "f32[m, k]",
        prologue: "%ik: i32[k] = index k
%low: bool[m, k] = le %ik, %im
%none: f32 = 0.0
%aa: f32[m, k] = where %low, %a, %none
%bb: f32[i, n, k] = stop %b",
        ..Product::new([1, 30, 40, 50], [false, true])
    }
    .check(0.0);
}

#[test]
fn noise_in_the_epilogue() {
    let product = Product::new([1, 20, 35, 40], [false; 2]);
    Product {
        epilogue: "%at: i32[m, n] = index 35*m + n
%seed: i32 = 11
%u: f32[m, n] = noise 5 (%seed, %at)
%half: f32 = 0.5
%keep: bool[m, n] = lt %u, %half
%nothing: f32 = 0.0
%dropped: f32[i, m, n] = where %keep, %c, %nothing",
        stores: format!("store c[{}] = %dropped", product.c),
        ..product
    }
    .check(0.0);
}

/// What is no product with prologue and epilogue is lowered as a block program.
#[test]
fn sums_that_start_elsewhere() {
    let text = Product::new([2, 20, 20, 20], [false; 2]).text();
    for (from, to) in [("= 0.0", "= 1.0"), ("= add %", "= sub %")] {
        check_cpu(&text.replacen(from, to, 1), &[], 1e-6);
    }
}

#[test]
fn other_kernels_with_a_dot_are_refused_with_a_reason() {
    let text = Product::new([2, 20, 20, 20], [false; 2]).text();
    let kernel = kernel(&text.replacen("var i: 2 / 1", "var i: 2 / 2", 1));
    let error = compile_cpu(&[kernel], &CpuTarget::x86_64_v3()).expect_err("is refused");
    let reason = "no matrix product (a batch variable has a tile above 1)";
    assert!(error.to_string().contains(reason), "{error}");
}

/// A sum of products over different depths, each packed in its own way.
#[test]
fn sums_of_products() {
    for [m, n, k, j] in [[50, 70, 90, 40], [13, 33, 300, 513]] {
        let text = format!(
            "kernel sums \"\" {{
  read a: f32[{}]
  read b: f32[{}]
  read d: f32[{}]
  read e: f32[{}]
  write c: f32[{}]
  var m: {m} / 24
  var n: {n} / 48
  var k: {k} / 64
  var j: {j} / 32
  grid n, m
  %0: f32 = 0.0
  loop k carry (%1: f32[m, n] = %0 -> %2) {{
    %3: f32[m, k] = load a[{k}*m + k]
    %4: f32[n, k] = load b[{k}*n + k]
    %5: f32[m, n] = dot %3, %4 along k
    %6: f32[m, n] = add %1, %5
    next %6
  }}
  loop j carry (%7: f32[m, n] = %2 -> %8) {{
    %9: f32[m, j] = load d[{m}*j + m]
    %10: f32[n, j] = load e[{n}*j + n]
    %11: f32[m, n] = dot %10, %9 along j
    %12: f32[m, n] = add %7, %11
    next %12
  }}
  store c[{n}*m + n] = %8
}}",
            m * k,
            k * n,
            m * j,
            j * n,
            m * n,
        );
        check(&text, &[], 0.0);
    }
}

/// Sums stay in registers: the micro-kernels keep no vector on the stack.
#[test]
fn micro_kernels_do_not_spill() {
    for target in [CpuTarget::x86_64_v3(), CpuTarget::x86_64_v4()] {
        for transposed in [[false, false], [true, true]] {
            let text = Product::new([1, 64, 64, 64], transposed).text();
            let assembly = emit_asm(&[kernel(&text)], &target).expect("the kernel compiles");
            let mut count = 0;
            for part in ["tile0", "0.sum."] {
                for function in assembly.split(&format!(".type\tproduct.{part}")).skip(1) {
                    let end = function.find(".Lfunc_end").expect("functions end");
                    let spills = |line: &&str| line.contains("mm") && line.contains("%rsp");
                    let spilled = function[..end].lines().find(spills);
                    assert_eq!(spilled, None, "{target:?}:\n{}", &function[..end]);
                    count += 1;
                }
            }
            assert!(count >= 2, "{target:?}: {count} micro-kernels found");
        }
    }
}

/// Rows or columns that are in no operand: products of vectors, and of a vector and a matrix, for each of a batch, of
/// which one axis may have one position too.
#[test]
fn vectors() {
    for storage in ["f32", "bf16"] {
        for (t, f) in [(1, 1), (1, 24), (24, 1)] {
            let vars = |var: &str, n: u64| if n > 1 { format!("{var}, ") } else { String::new() };
            let (rows, cols) = (vars("t", t), vars("f", f));
            let at = |var: &str, n: u64, by: u64| match n {
                1 => String::new(),
                _ => format!(" + {by}*{var}"),
            };
            let sum = format!("f32[b, {rows}{cols}]").replace(", ]", "]");
            let text = format!(
                r#"kernel vectors "" {{
  read x: {storage}[{0}]
  read w: {storage}[{1}]
  write y: f32[{2}]
  var a: 1 / 1
  var b: 3 / 1
  var t: {t} / 32
  var f: {f} / 32
  var k: 40 / 32
  grid a, b, t, f
  %0: f32 = 0.0
  loop k carry (%1: {sum} = %0 -> %2) {{
    %3: f32[b, {rows}k] = load x[{3}*b + k{4}]
    %4: f32[b, {cols}k] = load w[{5}*b + k{6}]
    %5: {sum} = dot %3, %4 along k
    %6: {sum} = add %1, %5
    next %6
  }}
  store y[{7}*b{8}{9}] = %2
}}"#,
                120 * t,
                120 * f,
                3 * t * f,
                40 * t,
                at("t", t, 40),
                40 * f,
                at("f", f, 40),
                t * f,
                at("t", t, f),
                at("f", f, 1),
            );
            check(&text, &[], 1e-4);
        }
    }
}
