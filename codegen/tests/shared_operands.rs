//! Kernels of several products that share an operand, against the kernel interpreter: the same bits,
//! on every target, for any split of the grid.

mod support;

use std::fmt::Write;

use gigac_codegen::x86::{CpuTarget, emit_asm};
use support::{check_cpu, kernel};

/// Products of one operand with several others, of `m × k` by `k × n` each, into results that lie
/// row by row.
struct Siblings {
    /// m, n, k, and their tiles.
    extents: [u64; 3],
    tiles: [u64; 3],
    products: usize,
    /// Whether the shared operand has the rows; else it has the columns.
    rows_shared: bool,
    /// Whether the operands of rows and of columns are contiguous along k.
    by_k: [bool; 2],
    storage: &'static str,
    /// Buffers of the epilogue, and the epilogue on `%c0`, `%c1`, ….
    buffers: String,
    epilogue: String,
}

impl Siblings {
    /// Results stored as they are.
    fn new(extents: [u64; 3], products: usize, rows_shared: bool) -> Self {
        let [_, n, _] = extents;
        let store = |i| format!("store c{i}[{n}*m + n] = %c{i}\n");
        Self {
            extents,
            tiles: [64, 48, 64],
            products,
            rows_shared,
            by_k: [true, true],
            storage: "f32",
            buffers: String::new(),
            epilogue: (0..products).map(store).collect(),
        }
    }

    fn text(&self) -> String {
        let [m, n, k] = self.extents;
        let [tm, tn, tk] = self.tiles;
        let Self { products, storage, buffers, epilogue, .. } = self;
        let sides = [("a", "m", m), ("b", "n", n)];
        let (mut reads, mut loads, mut dots) = (String::new(), String::new(), String::new());
        for (side, (name, var, size)) in sides.into_iter().enumerate() {
            let shared = (side == 0) == self.rows_shared;
            let offset = match self.by_k[side] {
                true => format!("{k}*{var} + k"),
                false => format!("{size}*k + {var}"),
            };
            for i in 0..if shared { 1 } else { *products } {
                writeln!(reads, "read {name}{i}: {storage}[{}]", size * k).unwrap();
                writeln!(loads, "%{name}{i}: f32[{var}, k] = load {name}{i}[{offset}]").unwrap();
            }
        }
        for i in 0..*products {
            let [a, b] = if self.rows_shared { [0, i] } else { [i, 0] };
            writeln!(reads, "update c{i}: {storage}[{}]", m * n).unwrap();
            writeln!(dots, "%d{i}: f32[m, n] = dot %a{a}, %b{b} along k").unwrap();
            writeln!(dots, "%n{i}: f32[m, n] = add %s{i}, %d{i}").unwrap();
        }
        let list = |of: &dyn Fn(usize) -> String| (0..*products).map(of).collect::<Vec<_>>();
        let carried = list(&|i| format!("%s{i}: f32[m, n] = %zero -> %c{i}")).join(", ");
        let next = list(&|i| format!("%n{i}")).join(", ");
        support::number(&format!(
            "kernel siblings \"\" {{
{reads}{buffers}
var m: {m} / {tm}
var n: {n} / {tn}
var k: {k} / {tk}
grid n, m
%zero: f32 = 0.0
loop k carry ({carried}) {{
{loads}{dots}next {next}
}}
{epilogue}
}}"
        ))
    }

    fn check(&self, tolerance: f64) {
        check_cpu(&self.text(), &[], tolerance);
    }
}

/// One block and several, whole tiles and edges, one turn and many.
const SHAPES: [([u64; 3], [u64; 3]); 7] = [
    ([48, 64, 64], [48, 64, 64]),
    ([100, 96, 150], [64, 96, 150]),
    ([100, 96, 150], [36, 32, 64]),
    ([61, 33, 65], [64, 48, 64]),
    ([13, 17, 200], [12, 16, 48]),
    ([1, 70, 40], [1, 32, 16]),
    ([70, 1, 30], [24, 1, 30]),
];

#[test]
fn odd_shapes_and_transpositions() {
    for (turn, (extents, tiles)) in SHAPES.into_iter().enumerate() {
        for rows_shared in [true, false] {
            for (i, by_k) in
                [[true, true], [true, false], [false, true], [false, false]].into_iter().enumerate()
            {
                let siblings = Siblings::new(extents, 2 + (turn + i) % 2, rows_shared);
                Siblings { tiles, by_k, ..siblings }.check(0.0);
            }
        }
    }
}

/// A gated unit: the last store needs both sums, and the gate may be stored or not.
#[test]
fn an_epilogue_of_both_sums() {
    for (extents, tiles) in SHAPES {
        for kept in [true, false] {
            let [m, n, _] = extents;
            let gate = if kept { format!("store c0[{n}*m + n] = %c0\n") } else { String::new() };
            let epilogue = format!(
                "{gate}%l: f32[m, n] = tanh %c0\n%y: f32[m, n] = mul %l, %c1\nstore c1[{n}*m + n] = \
                 %c1\nstore y[{n}*m + n] = %y"
            );
            let buffers = format!("write y: f32[{}]", m * n);
            let siblings = Siblings::new(extents, 2, true);
            Siblings { tiles, buffers, epilogue, ..siblings }.check(1e-6);
        }
    }
}

/// Three sums of which the stores read two at a time, not in the order of the sums.
#[test]
fn stores_keep_their_order() {
    for (extents, tiles) in SHAPES {
        let [m, n, _] = extents;
        let epilogue = format!(
            "%bias: f32[n] = load bias[n]
%x: f32[m, n] = mul %c0, %c2
%y: f32[m, n] = add %c1, %bias
%z: f32[m, n] = sub %c0, %c1
store x[{n}*m + n] = %x
store c1[{n}*m + n] += %y
store z[{n}*m + n] = %z
store c0[{n}*m + n] = %zero"
        );
        let buffers = format!("read bias: f32[{n}]\nwrite x: f32[{0}]\nwrite z: bf16[{0}]", m * n);
        for rows_shared in [true, false] {
            let siblings = Siblings::new(extents, 3, rows_shared);
            let (buffers, epilogue) = (buffers.clone(), epilogue.clone());
            Siblings { tiles, buffers, epilogue, ..siblings }.check(0.0);
        }
    }
}

#[test]
fn bf16_operands_and_results() {
    for (extents, tiles) in SHAPES {
        for rows_shared in [true, false] {
            let siblings = Siblings::new(extents, 3, rows_shared);
            Siblings { tiles, storage: "bf16", ..siblings }.check(0.0);
        }
    }
}

/// Two sums over one depth, then another product into one of them.
#[test]
fn a_later_loop_goes_on_with_one_sum() {
    for [m, n, k, j] in [[50, 70, 90, 40], [24, 64, 300, 65]] {
        let text = format!(
            "kernel sums \"\" {{
  read a: f32[{0}]
  read b: f32[{1}]
  read w: f32[{1}]
  read d: f32[{2}]
  read e: f32[{3}]
  write c: f32[{4}]
  write g: f32[{4}]
  var m: {m} / 24
  var n: {n} / 48
  var k: {k} / 64
  var j: {j} / 32
  grid n, m
  %0: f32 = 0.0
  loop k carry (%1: f32[m, n] = %0 -> %2, %13: f32[m, n] = %0 -> %14) {{
    %3: f32[m, k] = load a[{k}*m + k]
    %4: f32[n, k] = load b[{k}*n + k]
    %15: f32[n, k] = load w[{k}*n + k]
    %5: f32[m, n] = dot %3, %4 along k
    %6: f32[m, n] = add %1, %5
    %16: f32[m, n] = dot %3, %15 along k
    %17: f32[m, n] = add %13, %16
    next %6, %17
  }}
  loop j carry (%7: f32[m, n] = %2 -> %8) {{
    %9: f32[m, j] = load d[{m}*j + m]
    %10: f32[n, j] = load e[{n}*j + n]
    %11: f32[m, n] = dot %10, %9 along j
    %12: f32[m, n] = add %7, %11
    next %12
  }}
  %18: f32[m, n] = mul %8, %14
  store c[{n}*m + n] = %8
  store g[{n}*m + n] = %18
}}",
            m * k,
            k * n,
            m * j,
            j * n,
            m * n,
        );
        check_cpu(&text, &[], 0.0);
    }
}

/// Sums stay in registers, and the operand that the products share is packed once.
#[test]
fn shared_operands_are_packed_once() {
    for target in [CpuTarget::x86_64_v3(), CpuTarget::x86_64_v4()] {
        for rows_shared in [true, false] {
            let siblings = Siblings::new([64, 64, 64], 3, rows_shared);
            let siblings = Siblings { tiles: [64, 64, 64], by_k: [false, true], ..siblings };
            let assembly = emit_asm(&[kernel(&siblings.text())], &target).unwrap();
            let parts = |part: &str| assembly.matches(&format!(".type\tsiblings.{part}")).count();
            let expected = if rows_shared { [1, 3] } else { [3, 1] };
            assert_eq!([parts("rows"), parts("cols")], expected, "{target:?}");
            for tile in assembly.split(".type\tsiblings.tile").skip(1) {
                let end = tile.find(".Lfunc_end").expect("functions end");
                let spills = |line: &&str| line.contains("mm") && line.contains("%rsp");
                assert_eq!(tile[..end].lines().find(spills), None, "{target:?}:\n{}", &tile[..end]);
            }
        }
    }
}
