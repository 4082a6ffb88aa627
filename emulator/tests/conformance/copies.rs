//! Asynchronous copies: sizes, zero-fill, bulk copies and reductions of every type, boxes of tensors in
//! every number of dimensions.

use gigac_emulator::{Launch, Module};

use crate::memory::{opcodes, pattern, updated};

const SECTION: &str = "Asynchronous copies";

fn run(text: &str, buffers: &[(&str, Vec<u8>)]) -> Vec<Vec<u8>> {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut launch = Launch::new(&module, "k");
    for (name, bytes) in buffers {
        launch = launch.buffer(name, bytes.clone());
    }
    let report = launch.run().unwrap_or_else(|e| panic!("{e}"));
    assert!(report.findings.is_empty(), "{:?}\n{text}", report.findings);
    buffers.iter().map(|(name, _)| report.buffer(name).expect("a buffer").to_vec()).collect()
}

/// One thread; `%r1` is the address of 8192 bytes of shared memory, `%r2` of an mbarrier for it.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u64 d) {{\n\
         .reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<40>; .reg .b64 %l<40>; .shared .align 1024 .b8 tile[8192]; .shared .align 8 .b64 bar;\n\
         ld.param.u64 %l1, [a]; ld.param.u64 %l2, [d]; mov.u32 %r1, tile; mov.u32 %r2, bar;\n\
         mbarrier.init.shared.b64 [%r2], 1; fence.mbarrier_init.release.cluster;\n{body}\nret; }}"
    )
}

/// Waits for `bytes` bytes on the mbarrier; the copy stands in between.
fn awaited(bytes: u32, copy: &str) -> String {
    format!(
        "mbarrier.arrive.expect_tx.shared.b64 %l30, [%r2], {bytes};\n{copy}\n\
         W: mbarrier.try_wait.shared.b64 %p7, [%r2], %l30; @!%p7 bra W;\n"
    )
}

/// Words of shared memory from byte `at` on, to the buffer `d`.
fn show(at: usize, bytes: usize) -> String {
    (0..bytes / 4)
        .map(|i| {
            format!(
                "ld.shared.u32 %r20, [%r1+{}]; st.global.u32 [%l2+{}], %r20;\n",
                at + 4 * i,
                4 * i
            )
        })
        .collect()
}

/// Shared memory from the buffer `a`.
fn fill(bytes: usize) -> String {
    let words: String = (0..bytes / 4)
        .map(|i| {
            format!("ld.global.u32 %r20, [%l1+{at}]; st.shared.u32 [%r1+{at}], %r20;\n", at = 4 * i)
        })
        .collect();
    words + "fence.proxy.async;\n"
}

fn memory(bytes: usize) -> Vec<u8> {
    (0..bytes).map(pattern).collect()
}

#[test]
fn small_copies() {
    for opcode in opcodes(SECTION, "cp.async.c", 100) {
        if opcode.contains("commit") {
            continue;
        }
        let sizes: &[usize] = if opcode.contains(".cg") { &[16] } else { &[4, 8, 16] };
        let hint = if opcode.contains("cache_hint") { ", %l9" } else { "" };
        let policy = "createpolicy.fractional.L2::evict_last.b64 %l9, 1.0;\n";
        for &size in sizes {
            for (third, taken) in (0..=size).map(|n| (format!(", {n}"), n)).chain([
                (String::new(), size),
                (", %p1".into(), 0),
                (", %p2".into(), size),
            ]) {
                let body = format!(
                    "{policy}setp.eq.u32 %p1, 0, 0; setp.ne.u32 %p2, 0, 0;\n{opcode} [%r1], [%l1+16], {size}{third}{hint};\n\
                     cp.async.commit_group; cp.async.wait_group 0;\n{}",
                    show(0, size)
                );
                let input = memory(64);
                let out = run(&kernel(&body), &[("a", input.clone()), ("d", vec![1; size])]);
                let mut want = vec![0; size];
                want[..taken].copy_from_slice(&input[16..16 + taken]);
                assert_eq!(out[1], want, "{opcode}, {size} bytes{third}");
            }
        }
    }
}

#[test]
fn bulk_copies() {
    for opcode in opcodes(SECTION, "cp.async.bulk", 100) {
        let skip = ["commit", "wait", "prefetch", "tensor"].iter().any(|w| opcode.contains(w));
        if skip {
            continue;
        }
        let hint = if opcode.contains("cache_hint") { ", %l9" } else { "" };
        let mask = if opcode.contains("multicast") { ", %h1" } else { "" };
        let setup = "createpolicy.fractional.L2::evict_last.b64 %l9, 1.0; mov.u16 %h1, 1;\n";
        let body = if opcode.contains("bulk_group") {
            format!(
                "{setup}{}{opcode} [%l2], [%r1], 96{hint};\ncp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
                fill(96)
            )
        } else if opcode.contains(".shared::cta.mbarrier") {
            let copy = format!("add.u32 %r3, %r1, 128;\n{opcode} [%r3], [%r1], 96, [%r2];");
            format!("{setup}{}{}{}", fill(96), awaited(96, &copy), show(128, 96))
        } else {
            let copy = format!("{opcode} [%r1], [%l1], 96, [%r2]{mask}{hint};");
            format!("{setup}{}{}", awaited(96, &copy), show(0, 96))
        };
        let input = memory(96);
        let out = run(&kernel(&body), &[("a", input.clone()), ("d", vec![1; 96])]);
        assert_eq!(out[1], input, "{opcode}");
    }
}

/// Bytes of an element.
fn size(ty: &str) -> usize {
    match ty {
        "f16" | "bf16" => 2,
        _ => crate::integer::width(ty) as usize / 8,
    }
}

fn element(bytes: &[u8], ty: &str, i: usize) -> u64 {
    let n = size(ty);
    let mut word = [0; 8];
    word[..n].copy_from_slice(&bytes[n * i..n * (i + 1)]);
    u64::from_le_bytes(word)
}

/// Elements of a type that are interesting to combine.
fn elements(ty: &str, seed: usize, bytes: usize) -> Vec<u8> {
    let n = size(ty);
    (0..bytes / n)
        .flat_map(|i| {
            let h = ((i * 7 + seed) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let bits = match ty {
                "f16" => h & 0xbfff,
                "bf16" => h & 0xbfff,
                "f32" => h & 0xbf7f_ffff,
                "f64" => h & 0xbfef_ffff_ffff_ffff,
                _ if i % 3 == 0 => h % 5,
                _ => h,
            };
            bits.to_le_bytes()[..n].to_vec()
        })
        .collect()
}

#[test]
fn bulk_reductions() {
    for opcode in opcodes(SECTION, "cp.reduce.async.bulk", 100) {
        if opcode.contains("tensor") {
            continue;
        }
        let words: Vec<&str> = opcode.split('.').collect();
        let ty = words[words.len() - 1];
        let ops = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];
        let op = ops.iter().find(|o| words.contains(o)).expect("an operation");
        if matches!(*op, "inc" | "dec") && ty != "u32"
            || matches!(ty, "f32" | "f64") && *op != "add"
        {
            continue;
        }
        let hint = if opcode.contains("cache_hint") { ", %l9" } else { "" };
        let setup = "createpolicy.fractional.L2::evict_last.b64 %l9, 1.0;\n";
        let (operand, old) = (elements(ty, 1, 64), elements(ty, 100, 64));
        let body = if opcode.contains("bulk_group") {
            format!(
                "{setup}{}{opcode} [%l2], [%r1], 64{hint};\ncp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
                fill(64)
            )
        } else {
            // The old values lie behind the operands.
            let copy = format!("add.u32 %r3, %r1, 64;\n{opcode} [%r3], [%r1], 64, [%r2];");
            format!("{setup}{}{}{}", fill(128), awaited(64, &copy), show(64, 64))
        };
        let a = [operand.clone(), old.clone()].concat();
        let out = run(&kernel(&body), &[("a", a), ("d", old.clone())]);
        for i in 0..64 / size(ty) {
            let (was, v) = (element(&old, ty, i), element(&operand, ty, i));
            let (got, want) = (element(&out[1], ty, i), updated(op, ty, false, was, v, 0));
            assert_eq!(got, want, "{opcode} of {was:#x} and {v:#x}");
        }
    }
}

#[test]
fn stores_that_complete_on_an_mbarrier() {
    let cases = opcodes("Data movement", "st.async", 200).into_iter().chain(opcodes(
        "Synchronisation and communication",
        "red.async",
        200,
    ));
    for opcode in cases {
        let words: Vec<&str> = opcode.split('.').collect();
        let ty = words[words.len() - 1];
        let n = if words.contains(&"v4") {
            4
        } else if words.contains(&"v2") {
            2
        } else {
            1
        };
        let bytes = n * size(ty);
        let registers: Vec<String> = (0..n)
            .map(|i| if size(ty) == 8 { format!("%l{}", 10 + i) } else { format!("%r{}", 10 + i) })
            .collect();
        let floats = ty.starts_with('f');
        let class =
            |r: &String| if floats { r.replace("%r", "%f").replace("%l", "%d") } else { r.clone() };
        let loads: String = registers
            .iter()
            .enumerate()
            .map(|(i, r)| {
                format!("ld.global.b{} {}, [%l1+{}];\n", 8 * size(ty), class(r), i * size(ty))
            })
            .collect();
        let list: Vec<String> = registers.iter().map(class).collect();
        let vector = if n == 1 { list[0].clone() } else { format!("{{{}}}", list.join(", ")) };
        let ops = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];
        let op = ops.iter().find(|o| words.contains(o)).unwrap_or(&"exch");
        let (operand, old) = (elements(ty, 3, 64), elements(ty, 50, 64));
        let copy = format!("add.u32 %r3, %r1, 64;\n{opcode} [%r3], {vector}, [%r2];");
        let body = format!(
            ".reg .f32 %f<20>; .reg .f64 %d<20>;\n{}{loads}{}{}",
            fill(128),
            awaited(bytes as u32, &copy),
            show(64, bytes)
        );
        let a = [operand.clone(), old.clone()].concat();
        let out = run(&kernel(&body), &[("a", a), ("d", vec![0; bytes])]);
        for i in 0..n {
            let want = updated(
                op,
                if floats { "b64" } else { ty },
                false,
                element(&old, ty, i),
                element(&operand, ty, i),
                0,
            );
            assert_eq!(element(&out[1], ty, i), want, "{opcode}");
        }
    }
}

// --- tensors --------------------------------------------------------------------------------------

/// A tensor in memory, and a box of it.
struct Tensor {
    dims: Vec<i64>,
    boxes: Vec<i64>,
    steps: Vec<i64>,
    corner: Vec<i64>,
    /// Number of the element type in a map, and its bytes.
    ty: (u32, usize),
    swizzle: u32,
}

impl Tensor {
    fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Bytes from one row to the next along dimension `d + 1`; sixteen divides them.
    fn stride(&self, d: usize) -> i64 {
        let row = (self.dims[0] * self.ty.1 as i64 + 15) / 16 * 16;
        (1..=d).fold(row, |s, i| s * self.dims[i])
    }

    fn bytes(&self) -> usize {
        self.stride(self.rank() - 1) as usize
    }

    fn counts(&self) -> Vec<i64> {
        self.boxes.iter().zip(&self.steps).map(|(b, s)| (b + s - 1) / s).collect()
    }

    /// For each element of the box, in order: its place in memory, if it has one, and in shared memory.
    fn elements(&self) -> Vec<(Option<usize>, usize)> {
        let counts = self.counts();
        let total: i64 = counts.iter().product();
        (0..total)
            .map(|i| {
                let (mut rest, mut at, mut inside) = (i, 0, true);
                for (d, count) in counts.iter().enumerate() {
                    let x = self.corner[d] + rest % count * self.steps[d];
                    rest /= count;
                    inside &= x >= 0 && x < self.dims[d];
                    at += x * if d == 0 { self.ty.1 as i64 } else { self.stride(d - 1) };
                }
                let linear = i as usize * self.ty.1;
                // Sixteen-byte units trade places within their row of 32, 64 or 128 bytes.
                let shared = linear ^ ((linear >> 7 & ((1 << self.swizzle) - 1)) << 4);
                (inside.then_some(at as usize), shared)
            })
            .collect()
    }

    /// Code that writes the map to `[%l3]`, for the tensor at `%l4`.
    fn map(&self) -> String {
        let set = |field: &str, ordinal: Option<usize>, v: i64, ty: &str| {
            let ordinal = ordinal.map_or(String::new(), |o| format!("{o}, "));
            format!("tensormap.replace.tile.{field}.global.b1024.{ty} [%l3], {ordinal}{v};\n")
        };
        let mut code =
            "tensormap.replace.tile.global_address.global.b1024.b64 [%l3], %l4;\n".to_string();
        code += &set("rank", None, self.rank() as i64 - 1, "b32");
        for d in 0..self.rank() {
            code += &set("box_dim", Some(d), self.boxes[d], "b32");
            code += &set("global_dim", Some(d), self.dims[d], "b32");
            code += &set("element_stride", Some(d), self.steps[d], "b32");
        }
        for d in 1..self.rank() {
            code += &set("global_stride", Some(d - 1), self.stride(d - 1), "b64");
        }
        code += &set("elemtype", None, self.ty.0.into(), "b32");
        code += &set("swizzle_mode", None, self.swizzle.into(), "b32");
        code += &(set("interleave_layout", None, 0, "b32") + &set("fill_mode", None, 0, "b32"));
        code + "fence.proxy.tensormap::generic.acquire.gpu [%l3], 128;\n"
    }

    fn coordinates(&self) -> String {
        self.corner.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Boxes that lie inside, stick out at both ends, and skip elements.
fn tensors(rank: usize) -> Vec<Tensor> {
    let dims = [19, 5, 4, 3, 2];
    let boxes = [16, 4, 2, 2, 1];
    let corners = [[0, 0, 0, 0, 0], [-3, -1, 1, -1, 0], [8, 3, 3, 2, 1]];
    let mut all = Vec::new();
    for corner in corners {
        for (ty, swizzle, step) in
            [((0, 1), 0, 1), ((1, 2), 1, 1), ((7, 4), 2, 1), ((2, 4), 3, 1), ((1, 2), 0, 2)]
        {
            let inner = if swizzle > 0 { (16 << swizzle) / ty.1 as i64 } else { boxes[0] };
            let steps = |d: usize| if d == 0 || d == 1 { step } else { 1 };
            all.push(Tensor {
                dims: dims[..rank].to_vec(),
                boxes: (0..rank).map(|d| if d == 0 { inner } else { boxes[d] }).collect(),
                steps: (0..rank).map(steps).collect(),
                corner: corner[..rank].to_vec(),
                ty,
                swizzle,
            });
        }
    }
    all
}

#[test]
fn tensor_copies() {
    for opcode in opcodes(SECTION, "cp.async.bulk.tensor", 100) {
        let words: Vec<&str> = opcode.split('.').collect();
        let rank = words
            .iter()
            .find_map(|w| w.strip_suffix('d')?.parse().ok())
            .expect("a number of dimensions");
        let load = !opcode.contains("bulk_group");
        let hint = if opcode.contains("cache_hint") { ", %l9" } else { "" };
        let mask = if opcode.contains("multicast") { ", %h1" } else { "" };
        for t in tensors(rank) {
            let bytes = t.elements().len() * t.ty.1;
            let setup = format!(
                "createpolicy.fractional.L2::evict_last.b64 %l9, 1.0; mov.u16 %h1, 1; mov.u64 %l3, %l1; add.u64 %l4, %l1, 128;\n{}",
                t.map()
            );
            let place = format!("[%l3, {{{}}}]", t.coordinates());
            let body = if load {
                let copy = format!("{opcode} [%r1], {place}, [%r2]{mask}{hint};");
                format!(
                    "{setup}{}{}",
                    awaited(bytes as u32, &copy),
                    show(0, bytes.next_multiple_of(4))
                )
            } else {
                // The box comes from `d`, through shared memory.
                let fill = fill(bytes.next_multiple_of(4)).replace("[%l1", "[%l2");
                format!(
                    "{setup}{fill}{opcode} {place}, [%r1]{hint};\ncp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
                )
            };
            let input = [vec![0; 128], memory(t.bytes())].concat();
            let source: Vec<u8> =
                (0..bytes.next_multiple_of(4)).map(|i| (i * 11 + 3) as u8).collect();
            let d = if load { vec![0xee; bytes.next_multiple_of(4)] } else { source.clone() };
            if bytes % 4 != 0 {
                continue;
            }
            let out = run(&kernel(&body), &[("a", input.clone()), ("d", d)]);
            let mut want = input[128..].to_vec();
            for (global, shared) in t.elements() {
                let n = t.ty.1;
                if load {
                    let expect =
                        global.map_or(vec![0; n], |g| input[128 + g..128 + g + n].to_vec());
                    assert_eq!(out[1][shared..shared + n], expect, "{opcode} at {:?}", t.corner);
                } else if let Some(g) = global {
                    want[g..g + n].copy_from_slice(&source[shared..shared + n]);
                }
            }
            assert_eq!(out[0][128..], want, "{opcode} at {:?}", t.corner);
        }
    }
}

#[test]
fn tensor_reductions() {
    for opcode in opcodes(SECTION, "cp.reduce.async.bulk.tensor", 200) {
        let words: Vec<&str> = opcode.split('.').collect();
        let rank = words
            .iter()
            .find_map(|w| w.strip_suffix('d')?.parse().ok())
            .expect("a number of dimensions");
        let ops = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];
        let op = ops.iter().find(|o| words.contains(o)).expect("an operation");
        let hint = if opcode.contains("cache_hint") { ", %l9" } else { "" };
        let t = Tensor { ty: (2, 4), swizzle: 0, ..tensors(rank).swap_remove(6) };
        let bytes = t.elements().len() * 4;
        let body = format!(
            "createpolicy.fractional.L2::evict_last.b64 %l9, 1.0; mov.u64 %l3, %l1; add.u64 %l4, %l1, 128;\n{}{}\
             {opcode} [%l3, {{{}}}], [%r1]{hint};\ncp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
            t.map(),
            fill(bytes).replace("[%l1", "[%l2"),
            t.coordinates(),
        );
        let input = [vec![0; 128], elements("u32", 9, t.bytes())].concat();
        let operand = elements("u32", 2, bytes);
        let out = run(&kernel(&body), &[("a", input.clone()), ("d", operand.clone())]);
        let mut want = input[128..].to_vec();
        for (global, shared) in t.elements() {
            if let Some(g) = global {
                let new = updated(
                    op,
                    "u32",
                    false,
                    element(&input[128..], "u32", g / 4),
                    element(&operand, "u32", shared / 4),
                    0,
                );
                want[g..g + 4].copy_from_slice(&(new as u32).to_le_bytes());
            }
        }
        assert_eq!(out[0][128..], want, "{opcode}");
    }
}
