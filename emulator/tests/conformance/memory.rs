//! Loads, stores and atomics of every type and space.

use gigac_emulator::forms::{SECTIONS, forms};
use gigac_emulator::{Launch, Module};

use crate::exact::{self, BF16, F16, F32, F64, Format, Mode};
use crate::integer::{is_signed, low, value, width};

/// Opcodes of a section that begin with `prefix`, evenly thinned out to `most` a form.
pub(crate) fn opcodes(title: &str, prefix: &str, most: usize) -> Vec<String> {
    let section = SECTIONS.iter().find(|s| s.title == title).expect("the section is in the table");
    let mut list = Vec::new();
    for form in forms(section) {
        if !form.base.starts_with(prefix.split('.').next().expect("a word")) {
            continue;
        }
        let step = form.count().div_ceil(most) | 1;
        list.extend(form.opcodes().step_by(step).filter(|o| o.starts_with(prefix)));
    }
    assert!(!list.is_empty(), "{prefix}");
    list
}

fn bytes(ty: &str) -> usize {
    width(ty) as usize / 8
}

fn class(ty: &str) -> &'static str {
    match ty {
        "f32" => "%f",
        "f64" => "%d",
        "b8" | "u8" | "s8" | "b16" | "u16" | "s16" | "f16" | "bf16" => "%h",
        "b64" | "u64" | "s64" => "%l",
        "b128" => "%q",
        _ => "%r",
    }
}

fn kernel(body: &str) -> String {
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.const .align 16 .b8 table[64] = {{{}}};\n.visible .entry k(.param .u64 a, .param .u64 d) {{\n\
         .reg .pred %p<4>; .reg .b16 %h<40>; .reg .b32 %r<60>; .reg .b64 %l<60>; .reg .f32 %f<40>; .reg .f64 %d<40>; .reg .b128 %q<40>;\n\
         .shared .align 16 .b8 tile[64]; .local .align 16 .b8 stack[64];\n\
         ld.param.u64 %l50, [a]; ld.param.u64 %l51, [d]; mov.u32 %r50, tile;\n{body}ret;\n}}\n",
        (0..64).map(|i| pattern(i).to_string()).collect::<Vec<_>>().join(", ")
    )
}

/// What memory holds: the sign bit set in every other byte.
pub(crate) fn pattern(i: usize) -> u8 {
    (i * 29 + 7) as u8 ^ if i.is_multiple_of(3) { 0x80 } else { 0 }
}

fn run(text: &str, a: Vec<u8>, out: usize) -> (Vec<u8>, Vec<u8>) {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let launch = Launch::new(&module, "k").buffer("a", a).buffer("d", vec![0; out]);
    let report = launch.run().unwrap_or_else(|e| panic!("{e}"));
    assert!(report.findings.is_empty(), "{:?}\n{text}", report.findings);
    let buffer = |name| report.buffer(name).expect("a buffer").to_vec();
    (buffer("a"), buffer("d"))
}

/// Fills shared and local memory from `a`, whose space the opcode may not be.
const FILL: &str = "\
mov.u64 %l52, 0;
F: add.u64 %l53, %l50, %l52; ld.global.u8 %h39, [%l53]; cvt.u32.u64 %r51, %l52; add.u32 %r52, %r50, %r51; st.shared.u8 [%r52], %h39;
mov.u64 %l54, stack; add.u64 %l54, %l54, %l52; st.local.u8 [%l54], %h39; add.u64 %l52, %l52, 1; setp.lt.u64 %p1, %l52, 64; @%p1 bra F;
mov.u64 %l55, stack; mov.u64 %l56, table;
";

/// The address of byte 16 in the space of an opcode.
fn address(words: &[&str]) -> Option<&'static str> {
    let space = words.iter().find(|w| {
        let known = ["const", "global", "local", "shared", "param"];
        known.iter().any(|k| w.split("::").next() == Some(k))
    });
    Some(match space {
        None | Some(&"global") => "[%l50+16]",
        Some(&"const") => "[%l56+16]",
        Some(&"local") => "[%l55+16]",
        Some(w) if w.starts_with("shared") => "[%r50+16]",
        _ => return None,
    })
}

fn lanes(words: &[&str]) -> usize {
    [("v2", 2), ("v4", 4), ("v8", 8)].iter().find(|v| words.contains(&v.0)).map_or(1, |v| v.1)
}

fn vector(class: &str, n: usize, from: usize) -> String {
    let all: Vec<String> = (0..n).map(|i| format!("{class}{}", from + i)).collect();
    if n == 1 { all[0].clone() } else { format!("{{{}}}", all.join(", ")) }
}

/// Values by type, bits and space; narrow ones extended to the register.
#[test]
fn loads() {
    let mut tried = 0;
    for opcode in opcodes("Data movement", "ld", 1500) {
        let words: Vec<&str> = opcode.split('.').collect();
        let (ty, n) = (words[words.len() - 1], lanes(&words));
        let Some(address) = address(&words) else { continue };
        if bytes(ty) * n > 16 {
            continue;
        }
        let hint = if words.contains(&"L2::cache_hint") { ", %l59" } else { "" };
        let policy = "createpolicy.fractional.L2::evict_first.b64 %l59, 1.0;\n";
        // Wider registers are allowed: a 64-bit one shows how the value is extended.
        let register = if matches!(ty, "f32" | "f64" | "b128") { class(ty) } else { "%l" };
        let size = if ty == "b128" {
            16
        } else if ty == "f32" {
            4
        } else {
            8
        };
        let mut store = String::new();
        for i in 0..n {
            store += &format!("st.global.b{} [%l51+{}], {register}{i};\n", 8 * size, size * i);
        }
        let text = kernel(&format!(
            "{FILL}{policy}{opcode} {}, {address}{hint};\n{store}",
            vector(register, n, 0)
        ));
        let memory: Vec<u8> = (0..64).map(pattern).collect();
        let (_, d) = run(&text, memory.clone(), size * n);
        for i in 0..n {
            let from = &memory[16 + i * bytes(ty)..][..bytes(ty)];
            let mut want =
                [if is_signed(ty) && from[bytes(ty) - 1] >= 0x80 { 0xff } else { 0 }; 16];
            want[..bytes(ty)].copy_from_slice(from);
            assert_eq!(d[size * i..size * (i + 1)], want[..size], "{opcode}, element {i}");
        }
        tried += 1;
    }
    assert!(tried > 500);
}

#[test]
fn stores() {
    let mut tried = 0;
    for opcode in opcodes("Data movement", "st", 1500) {
        let words: Vec<&str> = opcode.split('.').collect();
        let (ty, n) = (words[words.len() - 1], lanes(&words));
        let Some(address) = address(&words).filter(|a| !a.contains("%l56")) else { continue };
        if bytes(ty) * n > 16 || words.contains(&"async") {
            continue;
        }
        let hint = if words.contains(&"L2::cache_hint") { ", %l59" } else { "" };
        let register = if matches!(ty, "f32" | "f64" | "b128") { class(ty) } else { "%l" };
        let size = if ty == "b128" {
            16
        } else if ty == "f32" {
            4
        } else {
            8
        };
        let loads: String = (0..n)
            .map(|i| format!("ld.global.b{} {register}{i}, [%l50+{}];\n", 8 * size, 16 + size * i))
            .collect();
        // Back out of whatever space it went to.
        let space = if address.contains("%r50") {
            "shared"
        } else if address.contains("%l55") {
            "local"
        } else {
            "global"
        };
        let base = if space == "shared" {
            "%r50"
        } else if space == "local" {
            "%l55"
        } else {
            "%l50"
        };
        let text = kernel(&format!(
            "{FILL}createpolicy.fractional.L2::evict_first.b64 %l59, 1.0;\n{loads}{opcode} {address}, {}{hint};\n\
             ld.{space}.v4.b32 {{%r1, %r2, %r3, %r4}}, [{base}+16]; st.global.v4.b32 [%l51], {{%r1, %r2, %r3, %r4}};\n",
            vector(register, n, 0)
        ));
        let memory: Vec<u8> = (0..64).map(pattern).collect();
        let (_, d) = run(&text, memory.clone(), 16);
        let mut want = memory[16..32].to_vec();
        for i in 0..n {
            want[i * bytes(ty)..][..bytes(ty)]
                .copy_from_slice(&memory[16 + size * i..][..bytes(ty)]);
        }
        assert_eq!(d, want, "{opcode}");
        tried += 1;
    }
    assert!(tried > 500);
}

// --- atomics ------------------------------------------------------------------------------------

fn format(ty: &str) -> Option<Format> {
    Some(match ty {
        "f64" => F64,
        "f32" => F32,
        "f16" => F16,
        "bf16" => BF16,
        _ => return None,
    })
}

/// The new value of a place.
pub(crate) fn updated(op: &str, ty: &str, flush: bool, old: u64, v: u64, swap: u64) -> u64 {
    if let Some(half) = ty.strip_suffix("x2") {
        let part = |at: u32| updated(op, half, flush, old >> at & 0xffff, v >> at & 0xffff, 0);
        return part(0) | part(16) << 16;
    }
    if let Some(f) = format(ty) {
        let [a, b] = [old, v].map(|bits| f.decode(f.flush(flush && ty == "f32", bits)));
        return match op {
            "add" => f.flush(
                flush && ty == "f32",
                f.encode(&exact::add(&a, &b, Mode::Even), Mode::Even, false),
            ),
            _ => {
                // A NaN loses; the zeros are ordered.
                let below = match exact::compare(&a, &b) {
                    _ if a.is_nan() && b.is_nan() => return f.nan(),
                    _ if a.is_nan() => op == "max",
                    None => op == "min",
                    Some(std::cmp::Ordering::Equal) => a.negative && !b.negative,
                    Some(o) => o.is_lt(),
                };
                if below == (op == "min") { old } else { v }
            }
        };
    }
    let (a, b) = (value(old, ty), value(v, ty));
    let new = match op {
        "add" => a + b,
        "min" => a.min(b),
        "max" => a.max(b),
        "inc" => {
            if a >= b {
                0
            } else {
                a + 1
            }
        }
        "dec" => {
            if a == 0 || a > b {
                b
            } else {
                a - 1
            }
        }
        "and" => a & b,
        "or" => a | b,
        "xor" => a ^ b,
        "exch" => b,
        _ => {
            if a == b {
                value(swap, ty)
            } else {
                a
            }
        }
    };
    low(new, width(ty))
}

const EDGES: &[u64] = &[
    0,
    1,
    2,
    5,
    0x7fff,
    0x8000,
    0x3c00,
    0xbc00,
    0x7e00,
    0x0001,
    0x3f80,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x3f80_0000,
    0xbf80_0000,
    0x0000_0001,
    0x7f80_0000,
    0x7fc0_0000,
    0x3c00_4200,
    0x8000_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0xbff8_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    u64::MAX,
    0x7fff_ffff_ffff_ffff,
];

/// Every operation on every pair of edges, in the space of the opcode, one thread at a time.
#[test]
fn atomics() {
    let mut tried = 0;
    for opcode in opcodes("Synchronisation and communication", "atom", 200)
        .into_iter()
        .chain(opcodes("Synchronisation and communication", "red", 200))
    {
        let words: Vec<&str> = opcode.split('.').collect();
        let (ty, n) = (words[words.len() - 1], lanes(&words));
        if matches!(words[0], "redux") || words.contains(&"async") {
            continue;
        }
        let ops = ["add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"];
        let op = ops.iter().find(|o| words[1..].contains(o)).expect("an operation");
        let element = if ty.ends_with("x2") { 4 } else { bytes(ty) };
        let shared = words.iter().any(|w| w.starts_with("shared"));
        let returns = words[0] == "atom";
        let hint = if words.contains(&"L2::cache_hint") { ", %l59" } else { "" };
        let class = class(ty);
        // A row holds the place, the operand and the value to swap in, 16 bytes each.
        let part = |what: &str, register: usize, at: usize| -> String {
            let one = |i: usize| {
                let place = format!("[%l52+{}]", at + element * i);
                let r = format!("{class}{}", register + i);
                let width = 8 * element;
                if what == "ld" {
                    format!("ld.global.b{width} {r}, {place};\n")
                } else {
                    format!("st.global.b{width} {place}, {r};\n")
                }
            };
            (0..n).map(one).collect()
        };
        let address = if shared { "[%r50]" } else { "[%l52]" };
        let to_shared: String = (0..n)
            .map(|i| format!("st.shared.b{} [%r50+{}], {class}{i};\n", 8 * element, element * i))
            .collect();
        let from_shared: String = (0..n)
            .map(|i| format!("ld.shared.b{} {class}{i}, [%r50+{}];\n", 8 * element, element * i))
            .collect();
        let d = if returns { format!("{}, ", vector(class, n, 10)) } else { String::new() };
        let swap = if *op == "cas" { format!(", {class}30") } else { String::new() };
        let body = format!(
            "createpolicy.fractional.L2::evict_first.b64 %l59, 1.0; mov.u64 %l52, %l50; mov.u32 %r53, 0;\nR:\n{}{}{}{}\
             {opcode} {d}{address}, {}{swap}{hint};\n{}{}add.u64 %l52, %l52, 64; add.u32 %r53, %r53, 1; setp.lt.u32 %p2, %r53, {}; @%p2 bra R;\n",
            part("ld", 0, 0),
            part("ld", 20, 16),
            if *op == "cas" { part("ld", 30, 32) } else { String::new() },
            if shared { &to_shared } else { "" },
            vector(class, n, 20),
            if shared { from_shared + &part("st", 0, 0) } else { String::new() },
            if returns { part("st", 10, 48) } else { String::new() },
            EDGES.len() * EDGES.len(),
        );
        let pairs: Vec<(u64, u64)> =
            EDGES.iter().flat_map(|a| EDGES.iter().map(move |b| (*a, *b))).collect();
        let spread = |v: u64, i: usize| v.rotate_left(5 * i as u32);
        let mut memory = vec![0u8; pairs.len() * 64];
        for (row, (a, b)) in memory.chunks_exact_mut(64).zip(&pairs) {
            for i in 0..n {
                for (at, v) in
                    [(0, spread(*a, i)), (16, spread(*b, i)), (32, 0x1234_5678_9abc_def0)]
                {
                    row[at + element * i..][..element.min(8)]
                        .copy_from_slice(&v.to_le_bytes()[..element.min(8)]);
                }
            }
        }
        let before = memory.clone();
        let (after, _) = run(&kernel(&body), memory, 16);
        for (row, (old, new)) in before.chunks_exact(64).zip(after.chunks_exact(64)).enumerate() {
            for i in 0..n {
                let word = |from: &[u8], at: usize| {
                    let mut out = [0; 8];
                    let n = element.min(8);
                    out[..n].copy_from_slice(&from[at + element * i..][..n]);
                    u64::from_le_bytes(out)
                };
                // The upper halves of 128-bit places are zero, so the lower ones decide.
                let narrow = if ty == "b128" { "b64" } else { ty };
                let (a, b) = (word(old, 0), word(old, 16));
                let want = updated(op, narrow, !shared, a, b, word(old, 32));
                let got = word(new, 0);
                let nan = |bits: u64| ty == "f64" && f64::from_bits(bits).is_nan();
                assert!(
                    got == want || nan(got) && nan(want),
                    "{opcode} of {a:#x}, {b:#x}: {got:#x}, expected {want:#x}"
                );
                assert!(
                    !returns || word(new, 48) == a,
                    "{opcode}, row {row}: returns {:#x}",
                    word(new, 48)
                );
            }
        }
        tried += 1;
    }
    assert!(tried > 300);
}

/// `mov` of every type, and of vectors into words and back.
#[test]
fn moves() {
    for opcode in opcodes("Data movement", "mov", 100) {
        let ty = opcode.split('.').next_back().expect("a type");
        if ty == "pred" {
            continue;
        }
        let size = if ty == "b128" { 128 } else { width(ty) };
        let text = kernel(&format!(
            "ld.global.b{size} {c}1, [%l50+16]; {opcode} {c}2, {c}1; st.global.b{size} [%l51], {c}2;\n",
            c = class(ty)
        ));
        let memory: Vec<u8> = (0..64).map(pattern).collect();
        let (_, d) = run(&text, memory.clone(), 16);
        assert_eq!(d[..size as usize / 8], memory[16..16 + size as usize / 8], "{opcode}");
    }
    let packs = [
        ("mov.b32", "%r1", "{%h1, %h2}", 16),
        ("mov.b64", "%l1", "{%r1, %r2}", 32),
        ("mov.b64", "%l1", "{%h1, %h2, %h3, %h4}", 16),
        ("mov.b128", "%q1", "{%l1, %l2}", 64),
    ];
    for (opcode, whole, parts, size) in packs {
        let names: Vec<&str> = parts[1..parts.len() - 1].split(", ").collect();
        let bits = size * names.len();
        let load: String = names
            .iter()
            .enumerate()
            .map(|(i, r)| format!("ld.global.b{size} {r}, [%l50+{}];\n", i * size / 8))
            .collect();
        let store: String = names
            .iter()
            .enumerate()
            .map(|(i, r)| format!("st.global.b{size} [%l51+{}], {r};\n", 16 + i * size / 8))
            .collect();
        let text = kernel(&format!(
            "{load}{opcode} {whole}, {parts}; st.global.b{bits} [%l51], {whole};\n{opcode} {parts}, {whole};\n{store}"
        ));
        let memory: Vec<u8> = (0..64).map(pattern).collect();
        let (_, d) = run(&text, memory.clone(), 32);
        assert_eq!(d[..bits / 8], memory[..bits / 8], "{opcode} {whole}, {parts}");
        assert_eq!(d[16..16 + bits / 8], memory[..bits / 8], "{opcode} {parts}, {whole}");
    }
}
