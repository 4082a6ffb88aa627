//! Instructions that move control, wait, name places or manage the stack, each in a small program against a model in Rust.

use std::path::Path;

use gigac_emulator::forms::{SECTIONS, forms};
use gigac_emulator::{Launch, Module};

use crate::memory::opcodes;

const THREADS: u32 = 64;
const SYNC: &str = "Synchronisation and communication";

/// Runs `body` in two blocks of one cluster; what it leaves in `%r10` must be `want(block, thread)`. `%r1` is the thread, `%r2` the block,
/// `%l1` the address of this thread's word of `out`.
fn check(body: &str, want: impl Fn(u32, u32) -> u32) {
    let text = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.const .b32 fixed[2] = {{11, 12}};\n.global .b32 shelf[256];\n\
         .func (.reg .b32 o) fib(.reg .b32 n) {{ .reg .pred %q; .reg .b32 %a, %b; setp.lt.u32 %q, n, 2; @!%q bra M; mov.b32 o, n; ret;\n\
         M: sub.u32 n, n, 1; call (%a), fib, (n); sub.u32 n, n, 1; call.uni (%b), fib, (n); add.u32 o, %a, %b; ret.uni; }}\n\
         .func (.reg .b32 o) twice(.reg .b32 n) {{ shl.b32 o, n, 1; ret; }}\n\
         .visible .entry k(.param .u64 out) {{\n.reg .pred %p<8>; .reg .b32 %r<40>; .reg .b64 %l<40>;\n.shared .align 16 .b8 tile[1024];\n\
         .shared .align 8 .b64 bar;\n.local .align 16 .b8 own[64];\nld.param.u64 %l1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;\n\
         mad.lo.u32 %r3, %r2, {THREADS}, %r1; mad.wide.u32 %l1, %r3, 4, %l1; mov.u32 %r10, 0; setp.eq.u32 %p7, %r1, 0; mov.u32 %r30, tile;\n\
         mad.lo.u32 %r31, %r1, 4, %r30; mov.u32 %r32, bar;\n{body}\nst.global.u32 [%l1], %r10; ret; }}"
    );
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let launch =
        Launch::new(&module, "k").grid([2, 1, 1]).block([THREADS, 1, 1]).cluster([2, 1, 1]);
    let report =
        launch.buffer("out", vec![0; 8 * THREADS as usize]).run().unwrap_or_else(|e| panic!("{e}"));
    assert!(report.findings.is_empty(), "{:?}\n{text}", report.findings);
    let out = report.buffer("out").expect("a buffer");
    for (i, word) in out.chunks_exact(4).enumerate() {
        let (block, thread) = (i as u32 / THREADS, i as u32 % THREADS);
        let got = u32::from_le_bytes(word.try_into().expect("four bytes"));
        assert_eq!(got, want(block, thread), "block {block}, thread {thread} of\n{body}");
    }
}

#[test]
fn branches() {
    let steps = |thread: u32| {
        let (mut n, mut steps) = (thread + 1, 0);
        while n != 1 {
            n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
            steps += 1;
        }
        steps
    };
    check(
        "add.u32 %r4, %r1, 1; L: setp.eq.u32 %p1, %r4, 1; @%p1 bra E; add.u32 %r10, %r10, 1; and.b32 %r5, %r4, 1; setp.ne.u32 %p2, %r5, 0;
         @%p2 bra O; shr.u32 %r4, %r4, 1; bra.uni L; O: mad.lo.u32 %r4, %r4, 3, 1; bra L; E:",
        |_, thread| steps(thread),
    );
    for opcode in opcodes("Control flow", "brx", 10) {
        // The uniform form needs one index for all.
        let (index, pick) = if opcode.ends_with("uni") { ("%r2", 1) } else { ("%r1", 0) };
        check(
            &format!(
                "T: .branchtargets A, B, C, D; and.b32 %r4, {index}, 3; {opcode} %r4, T; A: mov.u32 %r10, 7; bra E; B: mov.u32 %r10, 5; bra E;
                 C: mov.u32 %r10, 3; D: add.u32 %r10, %r10, 1; E:"
            ),
            |block, thread| [7, 5, 4, 1][if pick == 1 { block } else { thread } as usize % 4],
        );
    }
    check(
        "setp.lt.u32 %p1, %r1, 20; mov.u32 %r10, 4; @!%p1 st.global.u32 [%l1], %r1; @!%p1 exit;",
        |_, thread| {
            if thread < 20 { 4 } else { thread }
        },
    );
    check(
        "setp.lt.u32 %p1, %r1, 40; mov.u32 %r10, 4; @!%p1 st.global.u32 [%l1], %r1; @!%p1 ret;",
        |_, thread| {
            if thread < 40 { 4 } else { thread }
        },
    );
}

#[test]
fn calls() {
    let fib = |n: u32| (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0;
    check("rem.u32 %r4, %r1, 11; call (%r10), fib, (%r4);", |_, thread| fib(thread % 11));
    check(
        "P: .callprototype (.reg .b32 _) _ (.reg .b32 _); mov.u64 %l2, fib; mov.u64 %l3, twice; and.b32 %r4, %r1, 1; setp.eq.u32 %p1, %r4, 0;
         selp.b64 %l2, %l2, %l3, %p1; rem.u32 %r4, %r1, 9; call (%r10), %l2, (%r4), P;",
        |_, thread| if thread % 2 == 0 { fib(thread % 9) } else { thread % 9 * 2 },
    );
}

/// Every space's address made generic and back, and which window it lies in.
#[test]
fn addresses() {
    let places = [("global", "shelf"), ("shared", "tile"), ("local", "own"), ("const", "fixed")];
    for (space, name) in places {
        let write = if space == "const" {
            String::new()
        } else {
            format!("mad.lo.u32 %r4, %r2, 100, 9; st.{space}.u32 [%l2+4], %r4;")
        };
        let of = match space {
            "global" => "mov.u64 %l2, shelf; mul.wide.u32 %l5, %r3, 8; add.u64 %l2, %l2, %l5;".into(),
            "shared" => "and.b32 %r5, %r1, 63; mul.wide.u32 %l5, %r5, 8; mov.u64 %l2, tile; add.u64 %l2, %l2, %l5;".into(),
            _ => format!("mov.u64 %l2, {name};"),
        };
        let value = |block: u32, _: u32| if space == "const" { 12 } else { block * 100 + 9 };
        check(&format!("{of} {write} cvta.{space}.u64 %l3, %l2; ld.u32 %r10, [%l3+4];"), value);
        let back = format!(
            "{of} {write} cvta.{space}.u64 %l3, %l2; cvta.to.{space}.u64 %l4, %l3; ld.{space}.u32 %r10, [%l4+4];"
        );
        check(&back, value);
        for asked in ["global", "shared", "shared::cta", "shared::cluster", "local", "const"] {
            let inside = asked.split("::").next() == Some(space);
            let ask = format!(
                "{of} cvta.{space}.u64 %l3, %l2; isspacep.{asked} %p1, %l3; selp.u32 %r10, 1, 2, %p1;"
            );
            check(&ask, |_, _| if inside { 1 } else { 2 });
        }
    }
}

/// Shared memory of the other block of a cluster, under every form of the cluster's barrier.
#[test]
fn clusters() {
    let arrivals: Vec<String> = opcodes(SYNC, "barrier", 1000)
        .into_iter()
        .filter(|o| o.contains("cluster.arrive") && !o.contains("relaxed"))
        .collect();
    let waits: Vec<String> =
        opcodes(SYNC, "barrier", 1000).into_iter().filter(|o| o.contains("cluster.wait")).collect();
    assert!(!arrivals.is_empty() && !waits.is_empty());
    for (i, arrive) in arrivals.iter().enumerate() {
        let wait = &waits[i % waits.len()];
        for wide in [false, true] {
            let far = if wide {
                "cvt.u64.u32 %l2, %r31; cvta.shared.u64 %l2, %l2; mapa.u64 %l3, %l2, %r4; getctarank.u64 %r6, %l3; ld.u32 %r5, [%l3];"
            } else {
                "mapa.shared::cluster.u32 %r5, %r31, %r4; getctarank.shared::cluster.u32 %r6, %r5; ld.shared::cluster.u32 %r5, [%r5];"
            };
            check(
                &format!(
                    "mad.lo.u32 %r4, %r2, 1000, %r1; st.shared.u32 [%r31], %r4; {arrive}; {wait}; xor.b32 %r4, %r2, 1; {far}
                     mad.lo.u32 %r10, %r6, 100000, %r5; {arrive}; {wait};"
                ),
                |block, thread| (block ^ 1) * 101_000 + thread,
            );
        }
    }
}

/// One warp hands over to the other through a barrier at which it does not wait.
#[test]
fn arrivals_without_waiting() {
    for opcode in ["bar.arrive", "bar.cta.arrive", "barrier.arrive", "barrier.cta.arrive.aligned"] {
        check(
            &format!(
                "setp.ge.u32 %p1, %r1, 32; @%p1 bra C; mul.lo.u32 %r4, %r1, 3; st.shared.u32 [%r31], %r4; {opcode} 2, 64; bra E;
                 C: bar.sync 2, 64; ld.shared.u32 %r10, [%r31+-128]; E:"
            ),
            |_, thread| if thread < 32 { 0 } else { 3 * (thread - 32) },
        );
    }
}

/// What an mbarrier counts, by the manual's words.
#[derive(Clone, Copy)]
struct Model {
    expected: u32,
    pending: u32,
    bytes: i64,
    phase: u32,
}

impl Model {
    fn settle(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            (self.pending, self.phase) = (self.expected, self.phase + 1);
        }
    }
}

/// One thread goes through a script; after each step the pending count of a fresh token and two tests go into a hash.
#[test]
fn mbarriers() {
    let script = "arrive 1, drop 1, expect 8, arrive 2, complete 8, arrive 1, tx 16, drop 2, complete 16, none 1, arrive 1";
    let mut model = Model { expected: 5, pending: 5, bytes: 0, phase: 0 };
    let mut body = String::from(
        "@!%p7 bra E; mbarrier.init.shared.b64 [%r32], 5; mbarrier.arrive.noComplete.shared.b64 %l9, [%r32], 1;\n",
    );
    model.pending -= 1;
    let mut hash = 0u32;
    for step in script.split(", ") {
        let (what, n) = step.split_once(' ').expect("two words");
        let n: u32 = n.parse().expect("a number");
        let token = model;
        let code = match what {
            "arrive" => format!("mbarrier.arrive.shared.b64 %l2, [%r32], {n};"),
            "none" => format!("mbarrier.arrive.noComplete.shared::cta.b64 %l2, [%r32], {n};"),
            "drop" => format!("mbarrier.arrive_drop.release.cta.shared.b64 %l2, [%r32], {n};"),
            "tx" => format!("mbarrier.arrive.expect_tx.shared.b64 %l2, [%r32], {n};"),
            "expect" => format!("mbarrier.expect_tx.relaxed.cta.shared.b64 [%r32], {n};"),
            _ => format!("mbarrier.complete_tx.relaxed.cta.shared.b64 [%r32], {n};"),
        };
        match what {
            "arrive" | "none" => model.pending -= n,
            "drop" => (model.pending, model.expected) = (model.pending - n, model.expected - n),
            "tx" => (model.pending, model.bytes) = (model.pending - 1, model.bytes + i64::from(n)),
            "expect" => model.bytes += i64::from(n),
            _ => model.bytes -= i64::from(n),
        }
        model.settle();
        let gives = !matches!(what, "expect" | "complete");
        body += &code;
        if gives {
            body += "mbarrier.pending_count.b64 %r4, %l2; mbarrier.test_wait.shared.b64 %p1, [%r32], %l2; selp.u32 %r5, 1, 0, %p1;
                     mad.lo.u32 %r10, %r10, 31, %r4; mad.lo.u32 %r10, %r10, 31, %r5;\n";
            hash = hash.wrapping_mul(31).wrapping_add(token.pending);
            hash = hash.wrapping_mul(31).wrapping_add(u32::from(model.phase != token.phase));
        }
        body += "mbarrier.test_wait.parity.shared.b64 %p1, [%r32], 1; selp.u32 %r5, 1, 0, %p1; mad.lo.u32 %r10, %r10, 31, %r5;\n";
        hash = hash.wrapping_mul(31).wrapping_add(u32::from(model.phase % 2 != 1));
    }
    body += "mbarrier.inval.shared.b64 [%r32]; E:";
    check(&body, |_, thread| if thread == 0 { hash } else { 0 });
}

/// Arrivals that come once the thread's copies have landed, counted in or not.
#[test]
fn arrivals_after_copies() {
    for opcode in opcodes("Asynchronous copies", "cp", 10_000)
        .into_iter()
        .filter(|o| o.contains("async.mbarrier"))
    {
        // Without `.noinc` the instruction adds the arrival that it makes, so that a further one per thread is due.
        let arrive =
            if opcode.contains("noinc") { "" } else { "mbarrier.arrive.shared.b64 _, [%r32];" };
        check(
            &format!(
                "mov.u64 %l4, shelf; mad.wide.u32 %l4, %r3, 4, %l4; mad.lo.u32 %r4, %r3, 7, 1; st.global.u32 [%l4], %r4;
                 @%p7 mbarrier.init.shared.b64 [%r32], {THREADS}; bar.sync 0; cp.async.ca.shared.global [%r31], [%l4], 4; {opcode} [%r32]; {arrive}
                 W: mbarrier.try_wait.parity.shared.b64 %p1, [%r32], 0; @!%p1 bra W; xor.b32 %r5, %r31, 128; ld.shared.u32 %r10, [%r5];"
            ),
            |block, thread| (block * THREADS + (thread ^ 32)) * 7 + 1,
        );
    }
}

/// Memory of the stack: each piece apart from the last and aligned, given back by `stackrestore`.
#[test]
fn stacks() {
    check(
        "stacksave.u64 %l2; alloca.u64 %l3, 20, 16; alloca.u64 %l4, 8, 16; st.local.u32 [%l3], %r1; st.local.u32 [%l3+16], 5; st.local.u64 [%l4], 0;
         ld.local.u32 %r4, [%l3]; ld.local.u32 %r5, [%l3+16]; or.b64 %l5, %l3, %l4; and.b64 %l5, %l5, 15; cvt.u32.u64 %r6, %l5;
         stackrestore.u64 %l2; alloca.u64 %l6, 20, 16; xor.b64 %l6, %l6, %l3; cvt.u32.u64 %r7, %l6;
         mad.lo.u32 %r10, %r4, 10, %r5; mad.lo.u32 %r10, %r6, 1000, %r10; mad.lo.u32 %r10, %r7, 10000, %r10;",
        |_, thread| 10 * thread + 5,
    );
}

/// What the manual calls a hint, a fence, or a pause leaves registers and memory alone.
#[test]
fn hints_and_fences() {
    let keeps = |code: &str| {
        check(
            &format!(
                "mov.u64 %l2, shelf; mad.wide.u32 %l2, %r3, 4, %l2; and.b64 %l3, %l2, -128; mov.u32 %r10, %r3; st.global.u32 [%l2], %r3; {code}
                 ld.global.u32 %r4, [%l2]; mad.lo.u32 %r10, %r4, 1000, %r10;"
            ),
            |block, thread| (block * THREADS + thread) * 1001,
        );
    };
    for base in ["membar", "fence", "griddepcontrol"] {
        for opcode in opcodes(SYNC, base, 1000).into_iter().filter(|o| !o.contains("tensormap")) {
            keeps(&format!("{opcode};"));
        }
    }
    for base in ["prefetch", "prefetchu", "applypriority"] {
        for opcode in opcodes("Data movement", base, 100)
            .into_iter()
            .filter(|o| !o.contains("local") && !o.contains("param") && !o.contains("const"))
        {
            let size = if base == "applypriority" { ", 128" } else { "" };
            let address = if opcode.contains("global") || !size.is_empty() { "%l3" } else { "%l2" };
            keeps(&format!("{opcode} [{address}]{size};"));
        }
    }
    for code in [
        "nanosleep.u32 20;",
        "pmevent 3;",
        "pmevent.mask 3;",
        "setmaxnreg.inc.sync.aligned.u32 64;",
        "setmaxnreg.dec.sync.aligned.u32 32;",
    ] {
        keeps(code);
    }
    // Whoever discards a line must write it again before reading it.
    keeps("bar.sync 0; @%p7 discard.global.L2 [%l3], 128; bar.sync 0; st.global.u32 [%l2], %r3;");
}

/// Each family of the sections without values stands in a test of this folder.
#[test]
fn every_family_has_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let tests: String = std::fs::read_dir(folder)
        .expect("the tests")
        .flatten()
        .filter_map(|f| std::fs::read_to_string(f.path()).ok())
        .collect();
    for section in SECTIONS.iter().filter(|s| !s.values) {
        for form in forms(section) {
            let opcode = form.opcodes().next().expect("an opcode");
            // `ldu` and `prefetchu` are walked with `ld` and `prefetch`.
            let base = opcode.split('.').next().expect("a word").trim_end_matches('u');
            // `trap` and `brkpt` end a program: `tests/findings.rs` has them.
            let named =
                [format!("{base}."), format!("{base} "), format!("\"{base}\""), format!("{base};")];
            assert!(
                matches!(base, "trap" | "brkpt") || named.iter().any(|n| tests.contains(n)),
                "{opcode} has no test"
            );
        }
    }
}
