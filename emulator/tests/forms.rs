//! Every form in the table decodes, and nothing beside the table does.

use gigac_emulator::Module;
use gigac_emulator::forms::{SECTIONS, forms};

/// Opcodes of one form at most; longer lists are thinned out evenly.
const AT_MOST: usize = 400;

/// A register of a type: its class by the first letters, numbered by `n`.
fn register(ty: &str, n: usize) -> String {
    let class = match ty {
        "pred" => "%p",
        "f32" => "%f",
        "f64" => "%d",
        "b128" => "%q",
        "b8" | "u8" | "s8" | "b16" | "u16" | "s16" | "f16" | "bf16" => "%h",
        "b64" | "u64" | "s64" => "%l",
        _ => "%r",
    };
    format!("{class}{n}")
}

fn vector(ty: &str, count: usize, from: usize) -> String {
    let items: Vec<String> = (0..count).map(|i| register(ty, from + i)).collect();
    if count == 1 { items[0].clone() } else { format!("{{{}}}", items.join(", ")) }
}

/// Registers of `elements` elements of `ty` in 32 lanes, packed in words where they are narrow.
fn fragment(ty: &str, elements: usize, from: usize) -> String {
    let (class, per) = match ty {
        "f64" => ("f64", 1),
        "f32" => ("f32", 1),
        "s32" | "tf32" => ("b32", 1),
        "f16" | "bf16" => ("b32", 2),
        "s8" | "u8" | "e4m3" | "e5m2" => ("b32", 4),
        "s4" | "u4" => ("b32", 8),
        _ => ("b32", 32),
    };
    let count = (elements / 32).div_ceil(per).max(1);
    format!("{{{}}}", (0..count).map(|i| register(class, from + i)).collect::<Vec<_>>().join(", "))
}

/// `m16n8k16` → its numbers.
fn shape(word: &str) -> Option<[usize; 3]> {
    let rest = word.strip_prefix('m')?;
    let (m, rest) = rest.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
}

fn matrix_operands(words: &[&str]) -> String {
    let types: Vec<&str> = words
        .iter()
        .copied()
        .filter(|w| {
            matches!(
                *w,
                "f16"
                    | "bf16"
                    | "tf32"
                    | "f32"
                    | "f64"
                    | "s8"
                    | "u8"
                    | "s4"
                    | "u4"
                    | "b1"
                    | "s32"
                    | "e4m3"
                    | "e5m2"
            )
        })
        .collect();
    let Some([m, n, k]) = words.iter().find_map(|w| shape(w)) else { return String::new() };
    match words[0] {
        "mma" => {
            let (d, a, b, c) = (types[0], types[1], types[2], types[3]);
            let volta = [m, n, k] == [8, 8, 4] && a == "f16";
            let times = if volta { 4 } else { 1 };
            let operands = [
                fragment(d, times * m * n, 0),
                fragment(a, times * m * k, 20),
                fragment(b, times * n * k, 40),
                fragment(c, times * m * n, 60),
            ];
            operands.join(", ")
        }
        "wmma" => {
            let half_ab = |ty: &str, elements: usize, from| {
                if ty == "f16" { vector("b32", 8, from) } else { fragment(ty, elements, from) }
            };
            match words[1] {
                "load" => {
                    let ty = types[0];
                    let regs = match words[2] {
                        "a" => half_ab(ty, m * k, 0),
                        "b" => half_ab(ty, n * k, 0),
                        _ => fragment(ty, m * n, 0),
                    };
                    format!("{regs}, [%l1], %r90")
                }
                "store" => format!("[%l1], {}, %r90", fragment(types[0], m * n, 0)),
                _ => {
                    let (d, a, b, c) = match types.as_slice() {
                        [d, c] => (*d, "f16", "f16", *c),
                        all => (all[0], all[1], all[2], all[3]),
                    };
                    let operands = [
                        fragment(d, m * n, 0),
                        half_ab(a, m * k, 20),
                        half_ab(b, n * k, 40),
                        fragment(c, m * n, 60),
                    ];
                    operands.join(", ")
                }
            }
        }
        _ => {
            let d = fragment(types[0], 64 * n / 4, 0);
            let scales = match types[1] {
                "s8" | "u8" | "b1" => "",
                "f16" | "bf16" => ", 1, -1, 0, 1",
                _ => ", 1, 1",
            };
            format!("{d}, %l1, %l2, %p1{scales}")
        }
    }
}

fn has(words: &[&str], word: &str) -> bool {
    words.contains(&word)
}

/// Operands that fit an opcode of the sections without values.
fn operands(opcode: &str) -> String {
    let words: Vec<&str> = opcode.split('.').collect();
    let last = words[words.len() - 1];
    let count =
        [("v2", 2), ("v4", 4), ("v8", 8)].iter().find(|(v, _)| has(&words, v)).map_or(1, |v| v.1);
    let hint = if has(&words, "L2::cache_hint") { ", %l7" } else { "" };
    let shared = words.iter().any(|w| w.starts_with("shared"));
    let address = if shared { "[%r9]" } else { "[%l9]" };
    let complete = has(&words, "mbarrier::complete_tx::bytes");
    match words[0] {
        "mov" => format!("{}, {}", register(last, 1), register(last, 2)),
        "ld" | "ldu" => format!("{}, {address}{hint}", vector(last, count, 1)),
        "st" if complete => format!("[%r9], {}, [%r8]", vector(last, count, 1)),
        "st" => format!("{address}, {}{hint}", vector(last, count, 1)),
        "prefetch" | "prefetchu" => "[%l9]".into(),
        "applypriority" | "discard" => "[%l9], 128".into(),
        "createpolicy" if has(&words, "range") => "%l1, [%l2], %r1, %r2".into(),
        "createpolicy" if has(&words, "cvt") => "%l1, %l2".into(),
        "createpolicy" => "%l1, 0.5".into(),
        "cvta" => "%l1, %l2".into(),
        "isspacep" => "%p1, %l1".into(),
        "mapa" => format!("{}, {}, %r3", register(last, 1), register(last, 2)),
        "getctarank" => format!("%r1, {}", register(last, 2)),
        "tensormap" if has(&words, "cp_fenceproxy") => "[%l1], [%r2], 128".into(),
        "tensormap" => {
            let indexed = ["box_dim", "global_dim", "global_stride", "element_stride"];
            let ordinal = if indexed.iter().any(|w| has(&words, w)) { "1, " } else { "" };
            format!("{address}, {ordinal}{}", register(last, 1))
        }
        "cp" => copy_operands(&words, complete, hint),
        "bra" => "L".into(),
        "brx" => "%r1, T".into(),
        "call" => "(%r1), f, (%r2)".into(),
        "bar" | "barrier" if has(&words, "warp") => "%r1".into(),
        "bar" | "barrier" if has(&words, "cluster") => String::new(),
        "bar" | "barrier" if has(&words, "popc") => "%r1, 1, 64, !%p1".into(),
        "bar" | "barrier" if has(&words, "red") => "%p1, %r1, %p2".into(),
        "bar" | "barrier" => "%r1, 64".into(),
        "fence" if opcode.starts_with("fence.proxy.tensormap") && has(&words, "acquire") => {
            "[%l1], 128".into()
        }
        "atom" | "red" => atomic_operands(&words, last, count, address, hint),
        "vote" if has(&words, "ballot") => "%r1, !%p1, -1".into(),
        "vote" => "%p1, %p2, 0xffff".into(),
        "match" => {
            let pair = if has(&words, "all") { "%r1|%p1" } else { "%r1" };
            format!("{pair}, {}, -1", register(last, 2))
        }
        "activemask" => "%r1".into(),
        "redux" => "%r1, %r2, -1".into(),
        "shfl" => "%r1|%p1, %r2, 1, 31, -1".into(),
        "elect" => "_|%p1, -1".into(),
        "mbarrier" => mbarrier_operands(&words, address),
        "ldmatrix" | "stmatrix" => {
            let n = [("x1", 1), ("x2", 2), ("x4", 4)]
                .iter()
                .find(|(x, _)| has(&words, x))
                .map_or(1, |x| x.1);
            let regs = (0..n).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(", ");
            if words[0] == "ldmatrix" {
                format!("{{{regs}}}, {address}")
            } else {
                format!("{address}, {{{regs}}}")
            }
        }
        "movmatrix" => "%r1, %r2".into(),
        "wgmma" if has(&words, "wait_group") => "1".into(),
        "mma" | "wmma" | "wgmma" => matrix_operands(&words),
        "stacksave" | "stackrestore" => "%l1".into(),
        "alloca" => "%l1, %l2, 16".into(),
        "setmaxnreg" => "40".into(),
        "nanosleep" => "%r1".into(),
        "pmevent" => "3".into(),
        _ => String::new(),
    }
}

fn copy_operands(words: &[&str], complete: bool, hint: &str) -> String {
    let multicast = if has(words, "multicast::cluster") { ", %h1" } else { "" };
    if has(words, "wait_group") {
        return "1".into();
    }
    if has(words, "commit_group") || has(words, "wait_all") {
        return String::new();
    }
    if has(words, "mbarrier") {
        return "[%r1]".into();
    }
    if has(words, "tensor") {
        let dims =
            words.iter().find_map(|w| w.strip_suffix('d')?.parse::<usize>().ok()).unwrap_or(1);
        let map = format!("[%l1, {}]", vector("b32", dims, 1));
        let map = if dims == 1 { "[%l1, {%r1}]".into() } else { map };
        return match (has(words, "prefetch"), complete) {
            (true, _) => format!("{map}{hint}"),
            (_, true) => format!("[%r9], {map}, [%r8]{multicast}{hint}"),
            _ => format!("{map}, [%r9]{hint}"),
        };
    }
    if has(words, "prefetch") {
        return format!("[%l1], 64{hint}");
    }
    if has(words, "bulk") {
        let to_shared = complete;
        let from_shared =
            words.iter().filter(|w| w.starts_with("shared")).count() > usize::from(to_shared);
        let (to, from) = (
            if to_shared { "[%r9]" } else { "[%l9]" },
            if from_shared { "[%r7]" } else { "[%l7]" },
        );
        let mbar = if complete { ", [%r8]" } else { "" };
        return format!("{to}, {from}, 64{mbar}{multicast}{hint}");
    }
    format!("[%r1], [%l1], 16, %r2{hint}")
}

fn atomic_operands(words: &[&str], last: &str, count: usize, address: &str, hint: &str) -> String {
    let d =
        if words[0] == "atom" { format!("{}, ", vector(last, count, 1)) } else { String::new() };
    let swap = if has(words, "cas") { format!(", {}", register(last, 4)) } else { String::new() };
    let mbar = if has(words, "async") { ", [%r8]" } else { "" };
    let address = if has(words, "async") { "[%r9]" } else { address };
    let first = if has(words, "cas") { 3 } else { 9 };
    format!("{d}{address}, {}{swap}{mbar}{hint}", vector(last, count, first))
}

fn mbarrier_operands(words: &[&str], address: &str) -> String {
    match words[1] {
        "init" => format!("{address}, 32"),
        "inval" => address.into(),
        "arrive" | "arrive_drop" => {
            let remote = has(words, "shared::cluster");
            let state = if remote { "_" } else { "%l1" };
            let count =
                if has(words, "expect_tx") || has(words, "noComplete") { ", %r1" } else { "" };
            format!("{state}, {address}{count}")
        }
        "expect_tx" | "complete_tx" => format!("{address}, %r1"),
        "pending_count" => "%r1, %l1".into(),
        _ if has(words, "parity") => format!("%p1, {address}, %r1"),
        _ => format!("%p1, {address}, %l1"),
    }
}

/// A module with these statements.
fn module(body: &str) -> String {
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.func (.reg .b32 o) f(.reg .b32 i) {{ mov.b32 o, i; ret; }}\n\
         .visible .entry k() {{\n.reg .pred %p<8>; .reg .b16 %h<20>; .reg .b32 %r<160>; .reg .b64 %l<20>; .reg .f32 %f<160>;\n\
         .reg .f64 %d<80>; .reg .b128 %q<20>;\nT: .branchtargets L;\n{body}\nL: ret;\n}}\n"
    )
}

#[test]
fn every_form_decodes() {
    for section in SECTIONS.iter().filter(|s| !s.values) {
        for (form, line) in forms(section).iter().zip(section.lines.lines()) {
            // An odd step goes through the choices of every place.
            let step = form.count().div_ceil(AT_MOST) | 1;
            let body: Vec<String> = form
                .opcodes()
                .step_by(step)
                .map(|opcode| format!("{opcode} {};", operands(&opcode)))
                .collect();
            if let Err(e) = Module::parse(&module(&body.join("\n"))) {
                panic!("{line}: {e}");
            }
        }
    }
}

#[test]
fn modifiers_stand_in_any_order() {
    for body in [
        "ld.global.relaxed.gpu.u32 %r1, [%l1];",
        "atom.add.relaxed.cta.s32 %r1, [%l1], %r2;",
        "vote.ballot.sync.b32 %r1, %p1, -1;",
        "ldmatrix.sync.aligned.x4.m8n8.shared.b16 {%r1, %r2, %r3, %r4}, [%r5];",
        "max.s32.relu %r1, %r2, %r3;",
    ] {
        assert!(Module::parse(&module(body)).is_ok(), "{body}");
    }
}

#[test]
fn what_is_not_in_the_table_is_an_error() {
    for body in [
        "add.ftz.u32 %r1, %r2, %r3;",
        "add.sat.u32 %r1, %r2, %r3;",
        "mul.f32.f32 %f1, %f2, %f3;",
        "fma.f32 %f1, %f2, %f3, %f4;",
        "min.NaN.f64 %d1, %d2, %d3;",
        "cvt.s32.f32 %r1, %f1;",
        "shfl.bfly.b32 %r1, %r2, 1, 31;",
        "ld.global.nonsense.u32 %r1, [%l1];",
        "mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r1, %r2}, {%r3}, {%f0, %f1, %f2, %f3};",
    ] {
        let error =
            Module::parse(&module(body)).err().unwrap_or_else(|| panic!("{body} is accepted"));
        assert_eq!((error.line, error.column), (9, 1), "{error}");
        assert!(error.message.contains("not supported"), "{error}");
    }
}
