//! Instructions in which lanes exchange values, after the pseudo-code of the manual.

use gigac_emulator::{Launch, Module};

use crate::integer::{low, value};
use crate::memory::opcodes;

const SECTION: &str = "Synchronisation and communication";

/// Runs `body` in a warp; `%r1` is this lane's word of `a`, `%r2` of `b`, `%l1` the same as 64 bits, and
/// `%r10`, `%r11` are stored to `d` and `d + 128`.
fn run(body: &str, a: &[u32; 32], b: &[u32; 32]) -> ([u32; 32], [u32; 32]) {
    let text = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u64 b, .param .u64 d) {{\n\
         .reg .pred %p<8>; .reg .b32 %r<40>; .reg .b64 %l<20>;\n\
         ld.param.u64 %l10, [a]; ld.param.u64 %l11, [b]; ld.param.u64 %l12, [d]; mov.u32 %r20, %tid.x;\n\
         mad.wide.u32 %l10, %r20, 4, %l10; mad.wide.u32 %l11, %r20, 4, %l11; mad.wide.u32 %l12, %r20, 4, %l12;\n\
         ld.global.u32 %r1, [%l10]; ld.global.u32 %r2, [%l11]; mov.b64 %l1, {{%r1, %r2}}; setp.ne.u32 %p1, %r1, 0;\n\
         mov.u32 %r10, 0; mov.u32 %r11, 0;\n{body}\nst.global.u32 [%l12], %r10; st.global.u32 [%l12+128], %r11; ret; }}"
    );
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let bytes = |v: &[u32; 32]| v.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let launch =
        Launch::new(&module, "k").block([32, 1, 1]).buffer("a", bytes(a)).buffer("b", bytes(b));
    let report = launch.buffer("d", vec![0; 256]).run().unwrap_or_else(|e| panic!("{e}"));
    assert!(report.findings.is_empty(), "{:?}\n{text}", report.findings);
    let d = report.buffer("d").expect("a buffer");
    let word = |i: usize| u32::from_le_bytes(d[4 * i..4 * i + 4].try_into().expect("four bytes"));
    (std::array::from_fn(word), std::array::from_fn(|i| word(32 + i)))
}

/// Words that repeat and differ.
fn words(seed: u32) -> [u32; 32] {
    std::array::from_fn(|i| match seed % 4 {
        0 => (i as u32 * 0x9e37 + seed) % 5,
        1 => (i as u32).wrapping_mul(0x9e37_79b9) ^ seed << 13,
        2 => u32::from(i % 7 == 3) * seed,
        _ => seed,
    })
}

/// Lanes that take part, and the code around an instruction that only they execute.
const MASKS: &[u32] = &[u32::MAX, 0x0000_ffff, 0xaaaa_aaaa, 0x8000_0001, 0x0ff0_0f00];

fn guarded(mask: u32, code: &str) -> String {
    format!(
        "mov.u32 %r30, {mask}; shr.u32 %r31, %r30, %r20; and.b32 %r31, %r31, 1; setp.eq.u32 %p7, %r31, 0; @%p7 bra E;\n{code}\nE:"
    )
}

fn members(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |i| mask >> i & 1 != 0)
}

#[test]
fn shuffles() {
    for opcode in opcodes(SECTION, "shfl", 100) {
        let mode = opcode.split('.').nth(2).expect("a mode");
        for c in [0x1f, 0, 0x181f, 0x1c00, 0x1e1f, 0x100f, 0x0207, 0x1f1f] {
            for b in 0..32u32 {
                let a = words(1);
                let (got, ok) = run(
                    &format!("{opcode} %r10|%p2, %r1, {b}, {c}, -1; selp.u32 %r11, 1, 0, %p2;"),
                    &a,
                    &a,
                );
                for lane in 0..32i64 {
                    let (segment, clamp) = (i64::from(c >> 8 & 0x1f), i64::from(c & 0x1f));
                    let most = lane & segment | clamp & !segment & 0x1f;
                    let least = lane & segment;
                    let b = i64::from(b);
                    let (j, valid) = match mode {
                        "up" => (lane - b, lane - b >= most),
                        "down" => (lane + b, lane + b <= most),
                        "bfly" => (lane ^ b, lane ^ b <= most),
                        _ => (least | b & !segment & 0x1f, least | b & !segment & 0x1f <= most),
                    };
                    let valid = if mode == "idx" { j <= most } else { valid };
                    let from = if valid { j } else { lane };
                    assert_eq!(
                        got[lane as usize], a[from as usize],
                        "{opcode} b {b} c {c:#x} lane {lane}"
                    );
                    assert_eq!(
                        ok[lane as usize],
                        u32::from(valid),
                        "{opcode} b {b} c {c:#x} lane {lane}"
                    );
                }
            }
        }
    }
}

#[test]
fn votes_and_matches() {
    for (&mask, seed) in MASKS.iter().flat_map(|m| (0..8).map(move |s| (m, s))) {
        let (a, b) = (words(seed), words(seed + 4));
        let yes = members(mask).filter(|&i| a[i] != 0).fold(0u32, |m, i| m | 1 << i);
        for opcode in opcodes(SECTION, "vote", 100) {
            let ballot = opcode.contains("ballot");
            let code = if ballot {
                format!("{opcode} %r10, %p1, %r30;")
            } else {
                format!("{opcode} %p2, %p1, %r30; selp.u32 %r10, 1, 0, %p2;")
            };
            let want = match opcode.split('.').nth(2) {
                Some("ballot") => yes,
                Some("all") => u32::from(yes == mask),
                Some("any") => u32::from(yes != 0),
                _ => u32::from(yes == 0 || yes == mask),
            };
            let (got, _) = run(&guarded(mask, &code), &a, &b);
            members(mask).for_each(|i| {
                assert_eq!(got[i], want, "{opcode} mask {mask:#x} seed {seed} lane {i}")
            });
        }
        for opcode in opcodes(SECTION, "match", 100) {
            let (wide, all) = (opcode.ends_with("b64"), opcode.contains("all"));
            let key =
                |i: usize| if wide { u64::from(a[i]) | u64::from(b[i]) << 32 } else { a[i].into() };
            let source = if wide { "%l1" } else { "%r1" };
            let code = if all {
                format!("{opcode} %r10|%p2, {source}, %r30; selp.u32 %r11, 1, 0, %p2;")
            } else {
                format!("{opcode} %r10, {source}, %r30;")
            };
            let (got, same) = run(&guarded(mask, &code), &a, &b);
            for i in members(mask) {
                let equal =
                    members(mask).filter(|&j| key(j) == key(i)).fold(0u32, |m, j| m | 1 << j);
                let want = if all && equal != mask { 0 } else { equal };
                assert_eq!(got[i], want, "{opcode} mask {mask:#x} seed {seed} lane {i}");
                assert!(!all || same[i] == u32::from(equal == mask));
            }
        }
    }
}

#[test]
fn reductions_and_elections() {
    for (&mask, seed) in MASKS.iter().flat_map(|m| (0..8).map(move |s| (m, s))) {
        let a = words(seed);
        for opcode in opcodes(SECTION, "redux", 100) {
            let parts: Vec<&str> = opcode.split('.').collect();
            let ty = parts[3];
            let values = members(mask).map(|i| value(a[i].into(), ty));
            let want = match parts[2] {
                "add" => values.sum(),
                "min" => values.min().expect("a member"),
                "max" => values.max().expect("a member"),
                "and" => values.fold(-1, |x, y| x & y),
                "or" => values.fold(0, |x, y| x | y),
                _ => values.fold(0, |x, y| x ^ y),
            };
            let (got, _) = run(&guarded(mask, &format!("{opcode} %r10, %r1, %r30;")), &a, &a);
            members(mask).for_each(|i| {
                assert_eq!(u64::from(got[i]), low(want, 32), "{opcode} mask {mask:#x}")
            });
        }
        let code = "elect.sync %r10|%p2, %r30; selp.u32 %r11, 1, 0, %p2; activemask.b32 %r32;";
        let (leader, chosen) = run(&guarded(mask, code), &a, &a);
        let first = members(mask).next().expect("a member");
        for i in members(mask) {
            assert_eq!((leader[i] as usize, chosen[i]), (first, u32::from(i == first)));
        }
    }
}

/// `bar.red` over two warps.
#[test]
fn barrier_reductions() {
    for opcode in opcodes(SECTION, "bar", 100) {
        if !opcode.contains(".red.") {
            continue;
        }
        for seed in 0..6u32 {
            let input: Vec<u32> = (0..64)
                .map(|i| if seed < 3 { u32::from(i % (seed + 1) == 0) } else { (seed - 3).min(1) })
                .collect();
            let count = input.iter().filter(|v| **v != 0).count() as u32;
            let (d, want) = match () {
                () if opcode.contains("popc") => ("%r3", count),
                () if opcode.contains("and") => ("%p2", u32::from(count == 64)),
                () => ("%p2", u32::from(count > 0)),
            };
            let done = if d == "%p2" { "selp.u32 %r3, 1, 0, %p2;" } else { "" };
            let text = format!(
                ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 a) {{\n\
                 .reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %l<4>;\nld.param.u64 %l1, [a]; mov.u32 %r1, %tid.x;\n\
                 mad.wide.u32 %l1, %r1, 4, %l1; ld.global.u32 %r2, [%l1]; setp.ne.u32 %p1, %r2, 0;\n{opcode} {d}, 1, 64, %p1;\n\
                 {done} st.global.u32 [%l1], %r3; ret; }}"
            );
            let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
            let bytes = input.iter().flat_map(|v| v.to_le_bytes()).collect();
            let report = Launch::new(&module, "k")
                .block([64, 1, 1])
                .buffer("a", bytes)
                .run()
                .unwrap_or_else(|e| panic!("{e}"));
            assert!(report.findings.is_empty(), "{:?}", report.findings);
            let all = report
                .buffer("a")
                .expect("a buffer")
                .chunks_exact(4)
                .all(|c| c == want.to_le_bytes());
            assert!(all, "{opcode} seed {seed}");
        }
    }
}
