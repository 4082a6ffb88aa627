//! `mma`, `wmma`, `wgmma`, `ldmatrix`, `stmatrix` and `movmatrix`: every shape and type against sums of
//! products in double, with fragments laid out as the manual's text says.
//!
//! The elements are small whole numbers, so that every sum is exact whatever its order.

use gigac_emulator::forms::{SECTIONS, forms};
use gigac_emulator::{Launch, Module};

use crate::exact::{self, BF16, E4M3, E5M2, F16, F32, F64, Mode};

/// m, n, k.
type Shape = [usize; 3];

fn shape(words: &[&str]) -> Shape {
    let word = words
        .iter()
        .find(|w| w.starts_with('m') && w[1..].starts_with(|c: char| c.is_ascii_digit()));
    let numbers = word.expect("a shape")[1..].split(['n', 'k']);
    let list: Vec<usize> = numbers.map(|n| n.parse().expect("a number")).collect();
    [list[0], list[1], list[2]]
}

fn bits(ty: &str) -> usize {
    match ty {
        "f64" => 64,
        "f32" | "tf32" | "s32" => 32,
        "f16" | "bf16" => 16,
        "s8" | "u8" | "e4m3" | "e5m2" => 8,
        "s4" | "u4" => 4,
        _ => 1,
    }
}

fn element_types(words: &[&'static str]) -> Vec<&'static str> {
    const TYPES: &[&str] =
        &["f16", "bf16", "tf32", "f32", "f64", "s8", "u8", "s4", "u4", "b1", "s32", "e4m3", "e5m2"];
    words.iter().copied().filter(|w| TYPES.contains(w)).collect()
}

/// Bits of a small whole number.
fn encode(v: i64, ty: &str) -> u64 {
    let value = exact::integer(v.into());
    match ty {
        "f64" => F64.encode(&value, Mode::Even, false),
        "f32" | "tf32" => F32.encode(&value, Mode::Even, false),
        "f16" => F16.encode(&value, Mode::Even, false),
        "bf16" => BF16.encode(&value, Mode::Even, false),
        "e4m3" => E4M3.encode(&value, Mode::Even, false),
        "e5m2" => E5M2.encode(&value, Mode::Even, false),
        _ => v as u64 & ((1u128 << bits(ty)) - 1) as u64,
    }
}

/// An element of a matrix: small, of the range of its type, different everywhere.
fn element(ty: &str, seed: usize) -> i64 {
    let h = (seed.wrapping_mul(2_654_435_761) >> 7) as i64;
    match ty {
        "b1" => h & 1,
        "u8" => h % 256,
        "s8" => h % 256 - 128,
        "u4" => h % 16,
        "s4" => h % 16 - 8,
        _ => h % 7 - 3,
    }
}

/// Row and column of element `i` of lane `lane` in A, as the manual's text has it for each type.
fn place_a(ty: &str, [m, _, _]: Shape, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    // So many neighbours along k are in one register, for each row of a group.
    let per = (32 / bits(ty)).max(1);
    let lower = m == 16 && i / per % 2 == 1;
    let far = if m == 16 { i / (2 * per) } else { i / per };
    (group + if lower { 8 } else { 0 }, thread * per + i % per + far * 4 * per)
}

/// The same for B: row along k.
fn place_b(ty: &str, lane: usize, i: usize) -> (usize, usize) {
    let per = (32 / bits(ty)).max(1);
    (lane % 4 * per + i % per + i / per * 4 * per, lane >> 2)
}

/// The same for C and D.
fn place_c(lane: usize, i: usize) -> (usize, usize) {
    ((lane >> 2) + if i % 4 >= 2 { 8 } else { 0 }, lane % 4 * 2 + (i & 1) + i / 4 * 8)
}

/// `D = A × B + C` in whole numbers.
struct Product {
    shape: Shape,
    a: Vec<i64>,
    b: Vec<i64>,
    c: Vec<i64>,
}

impl Product {
    fn new(shape: Shape, ta: &str, tb: &str, td: &str) -> Self {
        let [m, n, k] = shape;
        let start =
            |i: usize| if td == "s32" { element("s8", i) * 1000 } else { element("f16", i) };
        Product {
            shape,
            a: (0..m * k).map(|i| element(ta, i + 1)).collect(),
            b: (0..k * n).map(|i| element(tb, i + 1_000_003)).collect(),
            c: (0..m * n).map(|i| start(i + 77)).collect(),
        }
    }

    fn sum(&self, row: usize, col: usize, words: &[&str]) -> i64 {
        let [_, n, k] = self.shape;
        let times = |i: usize| {
            let (a, b) = (self.a[row * k + i], self.b[i * n + col]);
            match () {
                () if words.contains(&"xor") => a ^ b,
                () if words.contains(&"and") => a & b,
                () => a * b,
            }
        };
        (0..k).map(times).sum()
    }

    fn result(&self, row: usize, col: usize, words: &[&str]) -> i64 {
        let sum = self.c[row * self.shape[1] + col] + self.sum(row, col, words);
        if words.contains(&"satfinite") { sum.clamp(i32::MIN.into(), i32::MAX.into()) } else { sum }
    }
}

/// Packs elements into 32-bit words, the first in the low bits.
fn pack(elements: &[u64], ty: &str) -> Vec<u8> {
    if bits(ty) == 64 {
        return elements.iter().flat_map(|e| e.to_le_bytes()).collect();
    }
    let per = 32 / bits(ty);
    let word =
        |c: &[u64]| c.iter().enumerate().fold(0u64, |w, (i, e)| w | e << (i * bits(ty))) as u32;
    elements.chunks(per).flat_map(|c| word(c).to_le_bytes()).collect()
}

fn unpack(bytes: &[u8], ty: &str, i: usize) -> u64 {
    let at = i * bits(ty);
    let mut word = [0; 8];
    let n = bits(ty).div_ceil(8);
    word[..n].copy_from_slice(&bytes[at / 8..at / 8 + n]);
    u64::from_le_bytes(word)
}

/// Registers of a fragment with `bytes` bytes per lane: names, and the code that loads or stores them
/// at `[base + lane × bytes]`.
fn registers(class: &str, from: usize, bytes: usize) -> Vec<String> {
    let size = if class == "%d" { 8 } else { 4 };
    (0..bytes / size).map(|i| format!("{class}{}", from + i)).collect()
}

fn moves(registers: &[String], base: &str, load: bool) -> String {
    let one = |(i, r): (usize, &String)| {
        let (bits, at) = if r.starts_with("%d") { (64, 8 * i) } else { (32, 4 * i) };
        if load {
            format!("ld.global.b{bits} {r}, [{base}+{at}];\n")
        } else {
            format!("st.global.b{bits} [{base}+{at}], {r};\n")
        }
    };
    registers.iter().enumerate().map(one).collect()
}

fn header(shared: usize) -> String {
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d) {{\n\
         .reg .pred %p<4>; .reg .b32 %r<700>; .reg .b64 %l<20>; .reg .f32 %f<300>; .reg .f64 %d<80>;\n\
         .shared .align 1024 .b8 tile[{}];\n\
         ld.param.u64 %l1, [a]; ld.param.u64 %l2, [b]; ld.param.u64 %l3, [c]; ld.param.u64 %l4, [d]; mov.u32 %r600, %tid.x;\n",
        shared.max(16)
    )
}

fn run(text: &str, threads: u32, buffers: [Vec<u8>; 4]) -> Vec<u8> {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut launch = Launch::new(&module, "k").block([threads, 1, 1]);
    for (name, bytes) in ["a", "b", "c", "d"].iter().zip(buffers) {
        launch = launch.buffer(name, bytes);
    }
    let report = launch.run().unwrap_or_else(|e| panic!("{e}"));
    assert!(report.findings.is_empty(), "{:?}\n{text}", report.findings);
    report.buffer("d").expect("a buffer").to_vec()
}

fn class(ty: &str) -> &'static str {
    match ty {
        "f64" => "%d",
        "f32" => "%f",
        _ => "%r",
    }
}

/// Opcodes of the matrix section that begin with `prefix`.
fn opcodes(prefix: &str) -> Vec<String> {
    let section =
        SECTIONS.iter().find(|s| s.title == "Matrices").expect("the section is in the table");
    let all = forms(section);
    let list: Vec<String> =
        all.iter().flat_map(|f| f.opcodes()).filter(|o| o.starts_with(prefix)).collect();
    assert!(!list.is_empty());
    list
}

fn list(registers: &[String]) -> String {
    format!("{{{}}}", registers.join(", "))
}

#[test]
fn mma() {
    for opcode in opcodes("mma.sync") {
        let opcode: &'static str = opcode.leak();
        let words: Vec<&str> = opcode.split('.').collect();
        let [m, n, k] = shape(&words);
        if k == 4 && words.contains(&"f16") {
            volta(opcode, &words);
            continue;
        }
        let types = element_types(&words);
        let (td, ta, tb, tc) = (types[0], types[1], types[2], types[3]);
        let mut p = Product::new([m, n, k], ta, tb, td);
        if words.contains(&"satfinite") {
            p.c.iter_mut().step_by(2).for_each(|c| *c = i32::MAX.into());
            p.c.iter_mut().skip(1).step_by(2).for_each(|c| *c = i32::MIN.into());
        }
        let lanes = 0..32;
        let a: Vec<u8> = lanes
            .clone()
            .flat_map(|l| {
                let one = |i| {
                    let (row, col) = place_a(ta, p.shape, l, i);
                    encode(p.a[row * k + col], ta)
                };
                pack(&(0..m * k / 32).map(one).collect::<Vec<_>>(), ta)
            })
            .collect();
        let b: Vec<u8> = lanes
            .clone()
            .flat_map(|l| {
                let one = |i| {
                    let (row, col) = place_b(tb, l, i);
                    encode(p.b[row * n + col], tb)
                };
                pack(&(0..k * n / 32).map(one).collect::<Vec<_>>(), tb)
            })
            .collect();
        let c: Vec<u8> = lanes
            .flat_map(|l| {
                let one = |i| {
                    let (row, col) = place_c(l, i);
                    encode(p.c[row * n + col], tc)
                };
                pack(&(0..m * n / 32).map(one).collect::<Vec<_>>(), tc)
            })
            .collect();
        let per_d = m * n / 32 * bits(td) / 8;
        let (ra, rb) =
            (registers(class(ta), 0, a.len() / 32), registers(class(tb), 40, b.len() / 32));
        let (rc, rd) = (registers(class(tc), 20, c.len() / 32), registers(class(td), 60, per_d));
        let text = format!(
            "{}mad.wide.u32 %l1, %r600, {}, %l1; mad.wide.u32 %l2, %r600, {}, %l2; mad.wide.u32 %l3, %r600, {}, %l3;\n\
             mad.wide.u32 %l4, %r600, {per_d}, %l4;\n{}{}{}{opcode} {}, {}, {}, {};\n{}ret; }}",
            header(0),
            a.len() / 32,
            b.len() / 32,
            c.len() / 32,
            moves(&ra, "%l1", true),
            moves(&rb, "%l2", true),
            moves(&rc, "%l3", true),
            list(&rd),
            list(&ra),
            list(&rb),
            list(&rc),
            moves(&rd, "%l4", false),
        );
        let d = run(&text, 32, [a, b, c, vec![0; 32 * per_d]]);
        for lane in 0..32 {
            for i in 0..m * n / 32 {
                let (row, col) = place_c(lane, i);
                let got = unpack(&d[lane * per_d..], td, i);
                let want = encode(p.result(row, col, &words), td);
                assert_eq!(got, want, "{opcode}, row {row}, column {col}");
            }
        }
    }
}

/// `mma.m8n8k4` on halves: four products, one for lanes 4q … 4q + 3 and 4q + 16 … 4q + 19.
fn volta(opcode: &str, words: &[&'static str]) {
    let types = element_types(words);
    let (td, tc) = (types[0], types[3]);
    let shape = [8, 8, 4];
    let layouts: Vec<bool> =
        words.iter().filter(|w| matches!(**w, "row" | "col")).map(|w| *w == "row").collect();
    let products: Vec<Product> = (0..4)
        .map(|q| {
            let mut p = Product::new(shape, "f16", "f16", td);
            p.a.rotate_left(q * 5);
            p.b.rotate_left(q * 3);
            p.c.rotate_left(q * 7);
            p
        })
        .collect();
    let lower = |lane: usize| if lane < 16 { 0 } else { 4 };
    let place = |ty: &str, lane: usize, i: usize| match ty {
        "f32" => ((lane & 1) + (i & 2) + lower(lane), (i & 4) + (lane & 2) + (i & 1)),
        _ => (lane % 4 + lower(lane), i),
    };
    let gather = |f: &dyn Fn(&Product, usize, usize) -> u64, count: usize, ty: &str| -> Vec<u8> {
        (0..32)
            .flat_map(|lane| {
                let p = &products[lane / 4 % 4];
                pack(&(0..count).map(|i| f(p, lane, i)).collect::<Vec<_>>(), ty)
            })
            .collect()
    };
    let a = gather(
        &|p, lane, i| {
            let (row, col) =
                if layouts[0] { (lane % 4 + lower(lane), i) } else { (i + lower(lane), lane % 4) };
            encode(p.a[row * 4 + col], "f16")
        },
        4,
        "f16",
    );
    let b = gather(
        &|p, lane, i| {
            let (row, col) =
                if layouts[1] { (lane % 4, i + lower(lane)) } else { (i, lane % 4 + lower(lane)) };
            encode(p.b[row * 8 + col], "f16")
        },
        4,
        "f16",
    );
    let c = gather(
        &|p, lane, i| {
            let (row, col) = place(tc, lane, i);
            encode(p.c[row * 8 + col], tc)
        },
        8,
        tc,
    );
    let per_d = bits(td);
    let (ra, rb) = (registers("%r", 0, 8), registers("%r", 40, 8));
    let (rc, rd) = (registers(class(tc), 20, c.len() / 32), registers(class(td), 60, per_d));
    let text = format!(
        "{}mad.wide.u32 %l1, %r600, 8, %l1; mad.wide.u32 %l2, %r600, 8, %l2; mad.wide.u32 %l3, %r600, {}, %l3;\n\
         mad.wide.u32 %l4, %r600, {per_d}, %l4;\n{}{}{}{opcode} {}, {}, {}, {};\n{}ret; }}",
        header(0),
        c.len() / 32,
        moves(&ra, "%l1", true),
        moves(&rb, "%l2", true),
        moves(&rc, "%l3", true),
        list(&rd),
        list(&ra),
        list(&rb),
        list(&rc),
        moves(&rd, "%l4", false),
    );
    let d = run(&text, 32, [a, b, c, vec![0; 32 * per_d]]);
    for lane in 0..32 {
        for i in 0..8 {
            let (row, col) = place(td, lane, i);
            let want = encode(products[lane / 4 % 4].result(row, col, words), td);
            assert_eq!(
                unpack(&d[lane * per_d..], td, i),
                want,
                "{opcode}, lane {lane}, element {i}"
            );
        }
    }
}

// --- wmma ---------------------------------------------------------------------------------------

/// A matrix in memory, by rows or by columns.
fn image(values: &[i64], ty: &str, rows: usize, cols: usize, by_rows: bool) -> Vec<u8> {
    let at = |i: usize| if by_rows { values[i] } else { values[i % rows * cols + i / rows] };
    let elements: Vec<u64> = (0..rows * cols).map(|i| encode(at(i), ty)).collect();
    match bits(ty) {
        n @ (1 | 4) => elements
            .chunks(8 / n)
            .map(|c| c.iter().enumerate().fold(0, |byte, (i, e)| byte | (*e as u8) << (i * n)))
            .collect(),
        n => elements.iter().flat_map(|e| e.to_le_bytes()[..n / 8].to_vec()).collect(),
    }
}

/// Registers of a `wmma` fragment.
fn wmma_registers(ty: &str, elements: usize, from: usize) -> Vec<String> {
    let bytes = match ty {
        "f16" if elements == 8 => 16,
        _ => (elements * bits(ty) / 8).max(4),
    };
    registers(class(ty), from, bytes)
}

#[test]
fn wmma() {
    for opcode in opcodes("wmma.mma") {
        let opcode: &'static str = opcode.leak();
        let words: Vec<&str> = opcode.split('.').collect();
        let shape = shape(&words);
        let [m, n, k] = shape;
        let (td, ta, tb, tc) = match element_types(&words)[..] {
            [d, c] => (d, "f16", "f16", c),
            [d, a, b, c] => (d, a, b, c),
            ref other => panic!("{other:?}"),
        };
        let layouts: Vec<bool> =
            words.iter().filter(|w| matches!(**w, "row" | "col")).map(|w| *w == "row").collect();
        let word = |row: bool| if row { "row" } else { "col" };
        let p = Product::new(shape, ta, tb, td);
        let named = format!("m{m}n{n}k{k}");
        let half = |ty: &str, elements: usize| if ty == "f16" { 16 } else { elements };
        let ab = |ty: &str, elements: usize, from: usize| {
            if ty == "f16" {
                registers("%r", from, 32)
            } else {
                wmma_registers(ty, half(ty, elements), from)
            }
        };
        let (ra, rb) = (ab(ta, m * k / 32, 0), ab(tb, k * n / 32, 20));
        let (rc, rd) = (wmma_registers(tc, m * n / 32, 40), wmma_registers(td, m * n / 32, 60));
        let text = format!(
            "{}wmma.load.a.sync.aligned.{}.{named}.global.{ta} {}, [%l1], {};\n\
             wmma.load.b.sync.aligned.{}.{named}.global.{tb} {}, [%l2];\n\
             wmma.load.c.sync.aligned.col.{named}.global.{tc} {}, [%l3];\n\
             {opcode} {}, {}, {}, {};\nwmma.store.d.sync.aligned.row.{named}.global.{td} [%l4], {}, {n};\nret; }}",
            header(0),
            word(layouts[0]),
            list(&ra),
            if layouts[0] { k } else { m },
            word(layouts[1]),
            list(&rb),
            list(&rc),
            list(&rd),
            list(&ra),
            list(&rb),
            list(&rc),
            list(&rd),
        );
        let a = image(&p.a, ta, m, k, layouts[0]);
        let b = image(&p.b, tb, k, n, layouts[1]);
        let c = image(&p.c, tc, m, n, false);
        let d = run(&text, 32, [a, b, c, vec![0; m * n * bits(td) / 8]]);
        for row in 0..m {
            for col in 0..n {
                let result = p.result(row, col, &words);
                // An exact zero from terms of both signs is negative when rounding down.
                let negative = result == 0 && words.contains(&"rm");
                let want = if negative { 1 << 63 } else { encode(result, td) };
                assert_eq!(
                    unpack(&d, td, row * n + col),
                    want,
                    "{opcode}, row {row}, column {col}"
                );
            }
        }
    }
}

// --- wgmma --------------------------------------------------------------------------------------

/// Both operands in shared memory without swizzle: 8 × 16-byte core matrices, one after the other
/// along k, then along the rows.
fn core_matrices(values: impl Fn(usize, usize) -> u64, rows: usize, ty: &str) -> Vec<u8> {
    let per = 128 / bits(ty);
    let mut out = Vec::new();
    for (block, half) in (0..rows / 8).flat_map(|b| [(b, 0), (b, 1)]) {
        for row in 0..8 {
            let elements: Vec<u64> =
                (0..per).map(|c| values(block * 8 + row, half * per + c)).collect();
            out.extend(pack(&elements, ty));
        }
    }
    out
}

#[test]
fn wgmma() {
    for opcode in opcodes("wgmma.mma_async") {
        let opcode: &'static str = opcode.leak();
        let words: Vec<&str> = opcode.split('.').collect();
        let shape = shape(&words);
        let [m, n, k] = shape;
        // Widths differ in nothing but their number of columns.
        if ![8, 24, 64, 256].contains(&n) {
            continue;
        }
        let types = element_types(&words);
        let (td, ta, tb) = (types[0], types[1], types[2]);
        let p = Product::new(shape, ta, tb, td);
        let a = core_matrices(|row, i| encode(p.a[row * k + i], ta), m, ta);
        let b = core_matrices(|col, i| encode(p.b[i * n + col], tb), n, tb);
        let per_d = m * n / 128 * bits(td) / 8;
        let rd = registers(class(td), 0, per_d);
        // Leading: 128 bytes to the next core matrix along k; stride: 256 to the next eight rows.
        let descriptor = (128u64 >> 4) << 16 | (256u64 >> 4) << 32;
        let scales = match ta {
            "s8" | "u8" | "b1" => "",
            "f16" | "bf16" => ", 1, 1, 0, 0",
            _ => ", 1, 1",
        };
        let total = a.len() + b.len();
        let text = format!(
            "{}mad.wide.u32 %l4, %r600, {per_d}, %l4;\nmov.u32 %r601, tile; shl.b32 %r602, %r600, 2; mov.u32 %r603, %r602;\n\
             C: setp.ge.u32 %p1, %r603, {total}; @%p1 bra E; cvt.u64.u32 %l5, %r603; add.u64 %l5, %l1, %l5;\n\
             ld.global.u32 %r604, [%l5]; add.u32 %r605, %r601, %r603; st.shared.u32 [%r605], %r604; add.u32 %r603, %r603, 512; bra C;\n\
             E: fence.proxy.async; bar.sync 0;\n{}wgmma.fence.sync.aligned;\n\
             shr.u32 %r601, %r601, 4; cvt.u64.u32 %l6, %r601; add.u64 %l7, %l6, {}; or.b64 %l6, %l6, {descriptor}; or.b64 %l7, %l7, {descriptor};\n\
             {opcode} {}, %l6, %l7, 1{scales};\nwgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n{}ret; }}",
            header(total),
            moves(&rd, "%l4", true),
            a.len() / 16,
            list(&rd),
            moves(&rd, "%l4", false),
        );
        let mut memory = a;
        memory.extend(b);
        // Each warp has sixteen rows of the accumulator.
        let start: Vec<u8> = (0..128)
            .flat_map(|t| {
                let one = |i| {
                    let (row, col) = place_c(t % 32, i);
                    encode(p.c[(row + t / 32 * 16) * n + col], td)
                };
                pack(&(0..m * n / 128).map(one).collect::<Vec<_>>(), td)
            })
            .collect();
        let d = run(&text, 128, [memory, vec![0; 16], vec![0; 16], start]);
        for t in 0..128 {
            for i in 0..m * n / 128 {
                let (row, col) = place_c(t % 32, i);
                let row = row + t / 32 * 16;
                let want = encode(p.result(row, col, &words), td);
                assert_eq!(
                    unpack(&d[t * per_d..], td, i),
                    want,
                    "{opcode}, row {row}, column {col}"
                );
            }
        }
    }
}

// --- moving tiles -------------------------------------------------------------------------------

/// Tile `t`, row `r`, column `c` holds `64 t + 8 r + c`; lane `8 t + r` addresses row `r` of tile `t`.
#[test]
fn tiles() {
    let one = |t: usize, r: usize, c: usize| (64 * t + 8 * r + c) as u16;
    for opcode in opcodes("ldmatrix").iter().chain(&opcodes("stmatrix")) {
        let words: Vec<&str> = opcode.split('.').collect();
        let n = [("x1", 1), ("x2", 2), ("x4", 4)]
            .iter()
            .find(|x| words.contains(&x.0))
            .expect("a count")
            .1;
        let trans = words.contains(&"trans");
        let regs = registers("%r", 0, 4 * n);
        let load = words[0] == "ldmatrix";
        let address =
            if words.iter().any(|w| w.starts_with("shared")) { "[%r603]" } else { "[%l5]" };
        let moved = if load {
            format!("{opcode} {}, {address};\n{}", list(&regs), moves(&regs, "%l4", false))
        } else {
            format!(
                "{}{opcode} {address}, {};\nbar.warp.sync -1;\nld.shared.v4.b32 {{%r610, %r611, %r612, %r613}}, [%r603];\n{}",
                moves(&regs, "%l1", true),
                list(&regs),
                moves(&["%r610", "%r611", "%r612", "%r613"].map(String::from), "%l4", false)
            )
        };
        let text = format!(
            "{}mov.u32 %r601, tile; shl.b32 %r602, %r600, 4; add.u32 %r603, %r601, %r602; cvt.u64.u32 %l5, %r603; cvta.shared.u64 %l5, %l5;\n\
             mad.wide.u32 %l1, %r600, 16, %l1; mad.wide.u32 %l4, %r600, 16, %l4;\n\
             ld.global.v4.b32 {{%r610, %r611, %r612, %r613}}, [%l1]; st.shared.v4.b32 [%r603], {{%r610, %r611, %r612, %r613}}; bar.warp.sync -1;\n{moved}ret; }}",
            header(512),
        );
        // Lane l holds elements (l / 4, l mod 4 · 2 and the next), or the transposed ones.
        let held = |lane: usize, t: usize, e: usize| {
            let (r, c) = (lane / 4, lane % 4 * 2 + e);
            if trans { one(t, c, r) } else { one(t, r, c) }
        };
        let rows: Vec<u8> = (0..32)
            .flat_map(|l| (0..8).flat_map(move |c| one(l / 8, l % 8, c).to_le_bytes()))
            .collect();
        let fragments: Vec<u8> = (0..32)
            .flat_map(|l| (0..4).flat_map(move |t| [held(l, t, 0), held(l, t, 1)]))
            .flat_map(u16::to_le_bytes)
            .collect();
        let input = if load { rows.clone() } else { fragments.clone() };
        let d = run(&text, 32, [input, vec![0; 16], vec![0; 16], vec![0; 512]]);
        for lane in 0..32 {
            for i in 0..8 {
                let got = u16::from_le_bytes([d[16 * lane + 2 * i], d[16 * lane + 2 * i + 1]]);
                let want = if load {
                    (i / 2 < n).then(|| held(lane, i / 2, i % 2))
                } else {
                    (lane / 8 < n).then(|| one(lane / 8, lane % 8, i))
                };
                // Lanes beyond the tiles of a store keep what was there.
                if let Some(want) = want {
                    assert_eq!(got, want, "{opcode}, lane {lane}, element {i}");
                }
            }
        }
    }
}

#[test]
fn movmatrix() {
    let text = format!(
        "{}mad.wide.u32 %l1, %r600, 4, %l1; mad.wide.u32 %l4, %r600, 4, %l4; ld.global.u32 %r1, [%l1];\n\
         {} %r2, %r1; st.global.u32 [%l4], %r2; ret; }}",
        header(0),
        opcodes("movmatrix")[0],
    );
    let input: Vec<u8> = (0..64u16).flat_map(u16::to_le_bytes).collect();
    let d = run(&text, 32, [input, vec![0; 16], vec![0; 16], vec![0; 128]]);
    for i in 0..64 {
        let got = u16::from_le_bytes([d[2 * i], d[2 * i + 1]]);
        assert_eq!(usize::from(got), i % 8 * 8 + i / 8);
    }
}
