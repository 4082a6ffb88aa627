//! Products of one operand with several others in one loop: several sums, and what follows them.
//!
//! On tensor cores the reference is the interpreter in f64. Products of two bf16 numbers are exact in
//! f32, so a sum of `n` of them, in any order and in `t` tiles, has at most `n + t` roundings on the
//! way of each product: it is off by at most `γ·Σ|x·w|` with `γ = (n + t)·u / (1 − (n + t)·u)`, `u = 2⁻²⁴`
//! (Higham, Accuracy and Stability of Numerical Algorithms, §4.2). What is stored as bf16 is off by
//! 2⁻⁸ of itself more: half a step of eight digits. Without tensor cores the bits are the interpreter's.

#[path = "../support/mod.rs"]
mod support;

use gigac_ir::kernel::Arithmetic;
use support::{check_gpu_with, content, gpu, kernel, number};

/// Which side of the products the shared operand is on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Rows,
    Cols,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Every sum.
    Sums,
    /// Every sum, and `silu` of the first times the second.
    Gate,
}

/// Sums `y_p[i, s, o] = Σ_k x[i, s, k]·w_p[i, o, k] + Σ_j a[i, s, j]·b_p[i, o, j]`.
#[derive(Clone, Debug)]
struct Siblings {
    shared: Side,
    /// Positions of `i`, of `s` and of `k`.
    extents: [u64; 3],
    /// Positions of `o`: of one variable for all sums, or of one for each of them.
    own: Vec<u64>,
    sums: usize,
    /// Positions of `j`; 0 for no second loop.
    more: u64,
    /// Tiles of `s`, of `o`, of `k` and `j`. A variable of one sum has one tile.
    tiles: [u64; 3],
    /// Whether `k` is the slower variable of the shared operand, and of the others.
    transposed: [bool; 2],
    storage: [&'static str; 2],
    end: End,
}

impl Siblings {
    fn new(shared: Side, extents: [u64; 3], own: u64, tiles: [u64; 3]) -> Self {
        Self {
            shared,
            extents,
            own: vec![own],
            sums: 2,
            more: 0,
            tiles,
            transposed: [false; 2],
            storage: ["bf16"; 2],
            end: End::Sums,
        }
    }

    /// The number of the variable of a sum.
    fn var(&self, sum: usize) -> usize {
        if self.own.len() == 1 { 0 } else { sum }
    }

    /// The offset of an operand with so many positions of its own.
    fn operand(&self, (own, size): (&str, u64), (k, depth): (&str, u64), across: bool) -> String {
        match across {
            true => format!("{}*i + {size}*{k} + {own}", size * depth),
            false => format!("{}*i + {depth}*{own} + {k}", size * depth),
        }
    }

    /// A loop over `k` that adds to all sums; `from` and `to` are their names.
    fn turns(&self, (k, depth): (&str, u64), [x, w]: [&str; 2], [from, to]: [&str; 2]) -> String {
        let of = |p: usize| format!("f32[i, s, o{}]", self.var(p));
        let carried = |p| format!("%{k}c{p}: {} = %{from}{p} -> %{to}{p}", of(p));
        let each = |f: &dyn Fn(usize) -> String, between: &str| {
            (0..self.sums).map(f).collect::<Vec<_>>().join(between)
        };
        let shared = self.operand(("s", self.extents[1]), (k, depth), self.transposed[0]);
        let product = |p: usize| {
            let v = self.var(p);
            let own = (&*format!("o{v}"), self.own[v]);
            let offset = self.operand(own, (k, depth), self.transposed[1]);
            format!(
                "%{k}w{p}: f32[i, o{v}, {k}] = load {w}{p}[{offset}]
%{k}d{p}: {ty} = dot %{k}x, %{k}w{p} along {k}
%{k}n{p}: {ty} = add %{k}c{p}, %{k}d{p}",
                ty = of(p)
            )
        };
        format!(
            "loop {k} carry ({}) {{\n%{k}x: f32[i, s, {k}] = load {x}[{shared}]\n{}\nnext {}\n}}",
            each(&carried, ", "),
            each(&product, "\n"),
            each(&|p| format!("%{k}n{p}"), ", ")
        )
    }

    /// The kernel as text; `%name` values are numbered.
    fn text(&self) -> String {
        let ([batch, s, k], j, [ts, to, tk]) = (self.extents, self.more, self.tiles);
        let [operands, results] = self.storage;
        let each = |f: &dyn Fn(usize) -> String, count: usize| {
            (0..count).map(f).collect::<Vec<_>>().join("\n")
        };
        let own = |p: usize| self.own[self.var(p)];
        let read = |name: &str, depth: u64| {
            let others = |p| format!("read {name}{p}: {operands}[{}]", batch * own(p) * depth);
            each(&others, self.sums)
        };
        let written = |p| format!("write y{p}: {results}[{}]", batch * s * own(p));
        let var = |v: usize| {
            let tile = if self.own.len() == 1 { to } else { self.own[v] };
            format!("var o{v}: {} / {tile}", self.own[v])
        };
        let grid: Vec<String> = (0..self.own.len()).map(|v| format!("o{v}")).collect();
        let place = |p: usize| {
            let (v, n) = (self.var(p), own(p));
            match self.shared {
                Side::Rows => format!("{}*i + {n}*s + o{v}", s * n),
                Side::Cols => format!("{}*i + {s}*o{v} + s", s * n),
            }
        };
        let second = match j {
            0 => String::new(),
            _ => self.turns(("j", j), ["a", "b"], ["p", "q"]),
        };
        let sum = if j == 0 { "p" } else { "q" };
        let stores = each(&|p| format!("store y{p}[{}] = %{sum}{p}", place(p)), self.sums);
        let (gate, gated) = match self.end {
            End::Sums => (String::new(), String::new()),
            End::Gate => (
                format!("write z: {results}[{}]", batch * s * own(0)),
                format!(
                    "%half: f32 = 0.5
%g0: f32[i, s, o0] = mul %{sum}0, %half
%g1: f32[i, s, o0] = tanh %g0
%g2: f32[i, s, o0] = mul %g1, %half
%g3: f32[i, s, o0] = add %g2, %half
%g4: f32[i, s, o0] = mul %{sum}0, %g3
%g5: f32[i, s, o0] = mul %g4, %{sum}1
store z[{}] = %g5",
                    place(0)
                ),
            ),
        };
        let more = match j {
            0 => String::new(),
            _ => format!("read a: {operands}[{}]\n{}", batch * s * j, read("b", j)),
        };
        let depth = if j == 0 { String::new() } else { format!("var j: {j} / {tk}") };
        number(&format!(
            "kernel siblings \"\" {{
read x: {operands}[{}]
{}
{more}
{}
{gate}
var i: {batch} / 1
var s: {s} / {ts}
{}
var k: {k} / {tk}
{depth}
grid i, s, {}
%zero: f32 = 0.0
{}
{second}
{stores}
{gated}
}}",
            batch * s * k,
            read("w", k),
            each(&written, self.sums),
            each(&var, self.own.len()),
            grid.join(", "),
            self.turns(("k", k), ["x", "w"], ["zero", "p"])
                .replace("%zero0", "%zero")
                .replace("%zero1", "%zero")
                .replace("%zero2", "%zero"),
        ))
    }

    /// The first of the buffers that are written.
    fn first_result(&self) -> usize {
        1 + self.sums + if self.more == 0 { 0 } else { 1 + self.sums }
    }

    /// Runs on tensor cores beside f64.
    fn check(&self) {
        let text = self.text();
        let kernel = kernel(&text);
        let arguments = content(&kernel);
        // What the interpreter stores in f64 is rounded to the buffer's type all the same.
        let wide = Self { storage: [self.storage[0], "f32"], ..self.clone() }.text();
        let exact = interpreted(&wide, &arguments);
        let magnitudes: Vec<Vec<f64>> =
            arguments.iter().map(|a| a.iter().map(|x| x.abs()).collect()).collect();
        let sizes = interpreted(&wide, &magnitudes);
        let depth = self.extents[2] + self.more;
        let tiles = self.extents[2].div_ceil(self.tiles[2]) + self.more.div_ceil(self.tiles[2]);
        let rounded = (depth + tiles) as f64 * 2f64.powi(-24);
        let gamma = rounded / (1.0 - rounded);
        let first = self.first_result();
        for (schedule, results) in gpu::run(&kernel, &arguments, &[]) {
            let near = |buffer: usize, i: usize, bound: f64| {
                let (got, want) = (results[buffer][i], exact[buffer][i]);
                let bound = match self.storage[1] {
                    "bf16" => bound + (want.abs() + bound) / 256.0,
                    _ => bound + (want.abs() + bound) * 2f64.powi(-24),
                };
                let off = (got - want).abs();
                assert!(off <= bound, "{buffer}[{i}]: {got}, not {want}; {schedule:?}\n{text}");
            };
            for (buffer, sizes) in sizes.iter().enumerate().skip(first).take(self.sums) {
                for (i, size) in sizes.iter().enumerate() {
                    near(buffer, i, gamma * size);
                }
            }
            if self.end == End::Gate {
                for i in 0..exact[first].len() {
                    let [gate, up] = [0, 1].map(|p| exact[first + p][i].abs());
                    let [of_gate, of_up] = [0, 1].map(|p| gamma * sizes[first + p][i]);
                    // |silu'| ≤ 1.1, |silu(x)| ≤ |x|; seven operations of at most four units each.
                    let carried = 1.1 * of_gate * (up + of_up) + gate * of_up;
                    let own = 28.0 * 2f64.powi(-24) * (gate + of_gate) * (up + of_up);
                    near(first + self.sums, i, carried + own);
                }
            }
        }
    }

    /// Runs without tensor cores, to the bits of the interpreter.
    fn check_f32(&self) {
        let text = Self { storage: ["f32"; 2], ..self.clone() }.text();
        check_gpu_with(&text, &content(&kernel(&text)), &[], 0.0);
    }
}

fn interpreted(text: &str, arguments: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut memory = arguments.to_vec();
    kernel(text).interpret(&mut memory, &[], Arithmetic::F64).expect("arguments fit");
    memory
}

const TRANSPOSITIONS: [[bool; 2]; 4] = [[false, false], [true, true], [false, true], [true, false]];

/// Either side shared, all transpositions, extents with and without edges, several turns.
#[test]
fn tensor_cores_take_several_sums_of_one_loop() {
    let cases = [
        ([1, 136, 104], 72, [128, 128, 32]),
        ([2, 75, 50], 129, [64, 64, 32]),
        ([1, 40, 33], 25, [32, 32, 16]),
        ([1, 128, 160], 128, [128, 64, 64]),
    ];
    for (i, (extents, own, tiles)) in cases.into_iter().enumerate() {
        for (turn, transposed) in TRANSPOSITIONS.into_iter().enumerate() {
            for shared in [Side::Rows, Side::Cols] {
                let results = if (i + turn) % 2 == 0 { "bf16" } else { "f32" };
                let end = if (i + turn) % 3 == 0 { End::Gate } else { End::Sums };
                let plain = Siblings::new(shared, extents, own, tiles);
                Siblings { transposed, storage: ["bf16", results], end, ..plain }.check();
            }
        }
    }
}

#[test]
fn three_sums() {
    for (shared, transposed) in
        [Side::Rows, Side::Cols].into_iter().flat_map(|s| TRANSPOSITIONS.map(|t| (s, t)))
    {
        let plain = Siblings::new(shared, [1, 136, 72], 80, [128, 64, 32]);
        Siblings { sums: 3, transposed, end: End::Gate, ..plain }.check();
    }
}

/// Grouped queries beside their keys and values: as many groups, other numbers of columns.
#[test]
fn sums_with_columns_of_their_own() {
    for own in [vec![64, 16, 16], vec![40, 24, 33]] {
        for shared in [Side::Rows, Side::Cols] {
            for transposed in TRANSPOSITIONS {
                let plain = Siblings::new(shared, [2, 90, 56], 0, [64, 0, 32]);
                let several = Siblings { own: own.clone(), sums: 3, transposed, ..plain };
                several.check();
                if transposed[0] == transposed[1] {
                    several.check_f32();
                }
            }
        }
    }
}

/// Sums of products, several at a time.
#[test]
fn further_loops_into_the_same_sums() {
    for shared in [Side::Rows, Side::Cols] {
        for (own, more) in [(72, 40), (33, 77)] {
            let plain = Siblings::new(shared, [1, 100, 64], own, [64, 64, 32]);
            let both = Siblings { more, end: End::Gate, ..plain };
            both.check();
            Siblings { end: End::Sums, ..both }.check_f32();
        }
    }
}

#[test]
fn without_tensor_cores_the_bits_are_those_of_the_reference() {
    for (extents, own, tiles) in [([1, 70, 40], 50, [64, 64, 32]), ([2, 33, 65], 17, [32, 32, 32])]
    {
        for transposed in TRANSPOSITIONS {
            for shared in [Side::Rows, Side::Cols] {
                Siblings { transposed, ..Siblings::new(shared, extents, own, tiles) }.check_f32();
            }
        }
    }
}

/// An operand is fetched once, whoever shares it: copies are those of one tile as wide as both.
#[test]
fn the_shared_operand_is_staged_once() {
    for (shared, own) in [(Side::Rows, 128), (Side::Cols, 128)] {
        let two = Siblings::new(shared, [1, 128, 256], own, [128, 128, 32]);
        let code = gpu::compiled(&kernel(&two.text()));
        assert_eq!(code.threads, 256);
        // Three panels of 128 × 32 in four stages.
        assert_eq!(code.shared_bytes, 4 * 3 * 128 * 32 * 2);
        assert!(!code.ptx.contains(".local"), "{}", code.ptx);
    }
}
