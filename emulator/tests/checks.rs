//! Every check fires on a minimal program and is silent on its corrected twin.

use gigac_emulator::{Checks, FindingKind, Launch, Module, Report};

/// A kernel over one 512-byte buffer `%rd1`, with `%r1` the thread, `%rd2` the address of its word.
fn kernel(target: &str, declarations: &str, body: &str) -> String {
    format!(
        ".version 8.0
.target {target}
.address_size 64
.visible .entry k(.param .u64 data) {{
.reg .pred %p<8>; .reg .b32 %r<32>; .reg .b64 %rd<16>; .reg .f32 %f<16>;
.shared .align 16 .b8 tile[512];
{declarations}
ld.param.u64 %rd1, [data];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd2, %rd1, %rd2;
mov.u32 %r2, tile;
shl.b32 %r3, %r1, 2;
add.s32 %r3, %r2, %r3;
{body}
ret;
}}"
    )
}

fn run_with(text: &str, threads: u32, blocks: u32, checks: Checks) -> Report {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let launch = Launch::new(&module, "k")
        .grid([blocks, 1, 1])
        .block([threads, 1, 1])
        .buffer("data", vec![0; 512]);
    launch.checks(checks).patience(1_000_000).run().unwrap_or_else(|e| panic!("{e}"))
}

/// The kinds that a body raises.
fn kinds(body: &str, threads: u32, blocks: u32) -> Vec<FindingKind> {
    let report = run_with(&kernel("sm_80", "", body), threads, blocks, Checks::ALL);
    report.findings.iter().map(|f| f.kind).collect()
}

/// `wrong` raises `kind` and nothing else, `right` raises nothing, and the switch silences it.
fn pair(kind: FindingKind, check: &str, (threads, blocks): (u32, u32), wrong: &str, right: &str) {
    let found = kinds(wrong, threads, blocks);
    assert!(!found.is_empty() && found.iter().all(|k| *k == kind), "{found:?} for\n{wrong}");
    assert_eq!(kinds(right, threads, blocks), [], "for\n{right}");
    let mut checks = Checks::ALL;
    if checks.set(check, false) {
        let report = run_with(&kernel("sm_80", "", wrong), threads, blocks, checks);
        assert!(report.findings.is_empty(), "{check} off: {:?}", report.findings);
    }
}

#[test]
fn bounds() {
    let kind = FindingKind::OutOfBounds;
    pair(
        kind,
        "bounds",
        (1, 1),
        "ld.global.u32 %r4, [%rd1+512];",
        "ld.global.u32 %r4, [%rd1+508];",
    );
    pair(kind, "bounds", (1, 1), "st.global.u32 [%rd1+-4], %r1;", "st.global.u32 [%rd1], %r1;");
    pair(
        kind,
        "bounds",
        (1, 1),
        "st.shared.u32 [tile+512], %r1;",
        "st.shared.u32 [tile+508], %r1;",
    );
    pair(kind, "bounds", (1, 1), "mov.u64 %rd3, 0; ld.global.u32 %r4, [%rd3];", "");
}

#[test]
fn alignment() {
    let kind = FindingKind::Misaligned;
    pair(
        kind,
        "alignment",
        (1, 1),
        "ld.global.u64 %rd3, [%rd1+4];",
        "ld.global.u64 %rd3, [%rd1+8];",
    );
    pair(kind, "alignment", (1, 1), "st.shared.u16 [tile+1], 0;", "st.shared.u16 [tile+2], 0;");
}

#[test]
fn uninitialised() {
    let kind = FindingKind::Uninitialised;
    let read = "ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd2], %r4;";
    pair(kind, "uninitialised", (32, 1), read, &format!("st.shared.u32 [%r3], 5; {read}"));
    let branch = "ld.shared.u32 %r4, [%r3]; setp.eq.u32 %p1, %r4, 0; @%p1 bra L; L:";
    pair(kind, "uninitialised", (32, 1), branch, "ld.shared.u32 %r4, [%r3];");
    // Selecting it away again is fine.
    let selected = "ld.shared.u32 %r4, [%r3]; setp.lt.u32 %p1, %r1, 99; selp.b32 %r5, %r1, %r4, %p1; st.global.u32 [%rd2], %r5;";
    assert_eq!(kinds(selected, 32, 1), []);
}

#[test]
fn races_in_a_block() {
    let kind = FindingKind::Race;
    let exchange = |sync: &str| {
        format!(
            "xor.b32 %r5, %r3, 4; st.shared.u32 [%r3], %r1; {sync} ld.shared.u32 %r4, [%r5]; st.global.u32 [%rd2], %r4;"
        )
    };
    pair(kind, "races", (32, 1), &exchange(""), &exchange("bar.warp.sync -1;"));
    let across = |sync: &str| {
        format!("xor.b32 %r5, %r3, 128; st.shared.u32 [%r3], %r1; {sync} ld.shared.u32 %r4, [%r5];")
    };
    pair(kind, "races", (64, 1), &across("bar.warp.sync -1;"), &across("bar.sync 0;"));
    // Values may be stored twice, and halves of a word belong to different threads.
    assert_eq!(
        kinds("mov.u32 %r4, 7; st.shared.u32 [tile], %r4; st.global.u32 [%rd1], %r4;", 64, 1),
        []
    );
    assert_eq!(
        kinds(
            "shl.b32 %r4, %r1, 1; add.s32 %r4, %r4, %r2; cvt.u16.u32 %r5, %r1; st.shared.u16 [%r4], %r5;",
            64,
            1
        ),
        []
    );
}

#[test]
fn races_between_blocks() {
    let kind = FindingKind::Race;
    let plain = "ld.global.u32 %r4, [%rd1]; add.u32 %r4, %r4, 1; st.global.u32 [%rd1], %r4;";
    pair(kind, "races", (1, 4), plain, "red.global.add.u32 [%rd1], 1;");
    // A lock of relaxed atomics with fences protects plain accesses.
    let locked = |fence: &str| {
        format!(
            "L: atom.global.cas.b32 %r5, [%rd1+256], 0, 1; setp.ne.u32 %p1, %r5, 0; @%p1 bra L; {fence}
             {plain} {fence} atom.global.exch.b32 %r6, [%rd1+256], 0;"
        )
    };
    pair(kind, "races", (1, 4), &locked(""), &locked("membar.gl;"));
    let ordered = "L: atom.acquire.gpu.global.cas.b32 %r5, [%rd1+256], 0, 1; setp.ne.u32 %p1, %r5, 0; @%p1 bra L;
        ld.global.u32 %r4, [%rd1]; add.u32 %r4, %r4, 1; st.global.u32 [%rd1], %r4; st.release.gpu.global.u32 [%rd1+256], 0;";
    assert_eq!(kinds(ordered, 1, 4), []);
    assert_eq!(kinds(ordered, 32, 4), [], "lanes of one warp contend for the lock");
}

#[test]
fn waits() {
    let kind = FindingKind::MissingWait;
    let copy = |wait: &str| {
        format!(
            "shl.b32 %r4, %r1, 4; add.s32 %r4, %r4, %r2; mul.wide.u32 %rd3, %r1, 16; add.s64 %rd3, %rd1, %rd3;
             cp.async.cg.shared.global [%r4], [%rd3], 16; cp.async.commit_group; {wait}
             ld.shared.u32 %r5, [%r4];"
        )
    };
    pair(kind, "waits", (32, 1), &copy("cp.async.wait_group 1;"), &copy("cp.async.wait_group 0;"));
    pair(kind, "waits", (32, 1), &copy(""), &copy("cp.async.wait_all;"));
}

#[test]
fn barriers() {
    let divergent = "setp.lt.u32 %p1, %r1, 16; @%p1 bar.sync 0; st.global.u32 [%rd2], %r1;";
    let found = kinds(divergent, 32, 1);
    assert!(found.contains(&FindingKind::BarrierDivergence), "{found:?}");
    assert_eq!(kinds("bar.sync 0; st.global.u32 [%rd2], %r1;", 32, 1), []);
    // Threads that leave at once do not count; that is how the hardware does it.
    assert_eq!(
        kinds("setp.lt.u32 %p1, %r1, 16; @!%p1 ret; bar.sync 0; st.global.u32 [%rd2], %r1;", 64, 1),
        []
    );
}

#[test]
fn deadlock() {
    pair(FindingKind::Deadlock, "", (64, 1), "bar.sync 1, 96;", "bar.sync 1, 64;");
    let spin = |value: u32| {
        format!(
            "st.volatile.global.u32 [%rd1], 1; L: ld.volatile.global.u32 %r4, [%rd1]; setp.ne.u32 %p1, %r4, {value}; @%p1 bra L;"
        )
    };
    pair(FindingKind::Deadlock, "", (1, 1), &spin(2), &spin(1));
}

#[test]
fn member_masks() {
    let kind = FindingKind::MemberMask;
    let vote =
        |mask: &str| format!("setp.eq.u32 %p1, %r1, 0; vote.sync.ballot.b32 %r4, %p1, {mask};");
    pair(kind, "masks", (32, 1), &vote("0xffff"), &vote("-1"));
    let half = |mask: &str| {
        format!(
            "setp.lt.u32 %p1, %r1, 16; @!%p1 bra L; shfl.sync.bfly.b32 %r4, %r1, 1, 31, {mask}; bra M; L: st.global.u32 [%rd2], %r1; M:"
        )
    };
    assert!(kinds(&half("-1"), 32, 1).contains(&kind));
    assert_eq!(kinds(&half("0xffff"), 32, 1), []);
}

#[test]
fn partial_warps() {
    let tile = "shl.b32 %r4, %r1, 4; and.b32 %r4, %r4, 127; add.s32 %r4, %r4, %r2; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r4];";
    let ready = format!("st.shared.u32 [%r3], 0; bar.sync 0; {tile}");
    assert!(kinds(&ready, 16, 1).contains(&FindingKind::PartialWarp));
    assert_eq!(kinds(&ready, 32, 1), []);
}

#[test]
fn traps() {
    pair(FindingKind::Trap, "", (1, 1), "trap;", "");
}

#[test]
fn unknown_instructions_name_their_line() {
    let text = kernel("sm_80", "", "frobnicate.b32 %r1, %r2;");
    let error = Module::parse(&text).err().expect("rejected");
    assert_eq!(error.source_line, "frobnicate.b32 %r1, %r2;");
    assert!(error.to_string().contains("unknown instruction"));
    let wide =
        Module::parse(&kernel("sm_80", "", "add.s32 %r1, %rd1, 1;")).err().expect("rejected");
    assert!(wide.message.contains("64-bit register"), "{wide}");
    let modifier =
        Module::parse(&kernel("sm_80", "", "add.wide.s32 %r1, %r1, 1;")).err().expect("rejected");
    assert!(modifier.message.contains(".wide"), "{modifier}");
}
