//! Every check fires on a minimal program and is silent on its corrected twin.

use gigac_emulator::{Checks, FindingKind, Launch, Module, Report};

/// A kernel over one 512-byte buffer `%rd1`, with `%r1` the thread, `%rd2` the address of its word.
fn kernel(target: &str, declarations: &str, body: &str) -> String {
    format!(
        ".version 8.0
.target {target}
.address_size 64
.visible .entry k(.param .u64 data) {{
.reg .pred %p<8>; .reg .b16 %h<4>; .reg .b32 %r<32>; .reg .b64 %rd<16>; .reg .f32 %f<16>;
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
    let one = |wrong: &str, right: &str| pair(kind, "bounds", (1, 1), wrong, right);
    one("ld.global.u32 %r4, [%rd1+512];", "ld.global.u32 %r4, [%rd1+508];");
    one("st.global.u32 [%rd1+-4], %r1;", "st.global.u32 [%rd1], %r1;");
    one("st.shared.u32 [tile+512], %r1;", "st.shared.u32 [tile+508], %r1;");
    one(
        "st.shared.v4.u32 [tile+512], {%r1, %r1, %r1, %r1};",
        "st.shared.v4.u32 [tile+496], {%r1, %r1, %r1, %r1};",
    );
    one("mov.u64 %rd3, 0; ld.global.u32 %r4, [%rd3];", "");
    let local =
        |at: u32| format!(".local .b32 x[4]; mov.u64 %rd3, x; st.local.u32 [%rd3+{at}], 1;");
    one(&local(16), &local(12));
    one(
        "cp.async.ca.shared.global [%r2], [%rd1+512], 4; cp.async.wait_all;",
        "cp.async.ca.shared.global [%r2], [%rd1+508], 4; cp.async.wait_all;",
    );
    one(
        "atom.shared.add.u32 %r4, [tile+512], 1;",
        "st.shared.u32 [tile], 0; atom.shared.add.u32 %r4, [tile], 1;",
    );
    one("mbarrier.init.shared.b64 [tile+512], 1;", "mbarrier.init.shared.b64 [tile+504], 1;");
}

#[test]
fn alignment() {
    let kind = FindingKind::Misaligned;
    let one = |wrong: &str, right: &str| pair(kind, "alignment", (1, 1), wrong, right);
    one("ld.global.u64 %rd3, [%rd1+4];", "ld.global.u64 %rd3, [%rd1+8];");
    one("st.shared.u16 [tile+1], 0;", "st.shared.u16 [tile+2], 0;");
    one(
        "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd1+8];",
        "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd1+16];",
    );
    one(
        "cp.async.cg.shared.global [%r2], [%rd1+8], 16; cp.async.wait_all;",
        "cp.async.cg.shared.global [%r2], [%rd1+16], 16; cp.async.wait_all;",
    );
    one(
        "cp.async.cg.shared.global [%r2+8], [%rd1], 16; cp.async.wait_all;",
        "cp.async.cg.shared.global [%r2+16], [%rd1], 16; cp.async.wait_all;",
    );
    one("red.global.add.u32 [%rd1+2], 1;", "red.global.add.u32 [%rd1+4], 1;");
    one("mbarrier.init.shared.b64 [tile+4], 1;", "mbarrier.init.shared.b64 [tile+8], 1;");
    let tiles = |at: u32| {
        format!(
            "st.shared.u32 [%r3], 0; bar.warp.sync -1; and.b32 %r4, %r3, -16; add.u32 %r4, %r4, {at}; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r5}}, [%r4];"
        )
    };
    pair(kind, "alignment", (32, 1), &tiles(4), &tiles(0));
}

#[test]
fn uninitialised() {
    let kind = FindingKind::Uninitialised;
    let some = |wrong: &str, right: &str| pair(kind, "uninitialised", (32, 1), wrong, right);
    let read = "ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd2], %r4;";
    some(read, &format!("st.shared.u32 [%r3], 5; {read}"));
    let branch = "ld.shared.u32 %r4, [%r3]; setp.eq.u32 %p1, %r4, 0; @%p1 bra L; L:";
    some(branch, "ld.shared.u32 %r4, [%r3];");
    let local = |write: &str| {
        format!(
            ".local .b32 x[4]; mov.u64 %rd3, x; {write} ld.local.u32 %r4, [%rd3]; st.global.u32 [%rd2], %r4;"
        )
    };
    some(&local(""), &local("st.local.u32 [%rd3], 1;"));
    let atomic = |write: &str| format!("{write} atom.shared.add.u32 %r4, [%r3], 1;");
    some(&atomic(""), &atomic("st.shared.u32 [%r3], 0;"));
    let address = |write: &str| {
        format!(
            "{write} ld.shared.u32 %r4, [%r3]; and.b32 %r4, %r4, 12; cvt.u64.u32 %rd3, %r4; add.u64 %rd3, %rd1, %rd3; ld.global.u32 %r5, [%rd3];"
        )
    };
    some(&address(""), &address("st.shared.u32 [%r3], 4;"));
    let shuffled = |write: &str| {
        format!(
            "{write} ld.shared.u32 %r4, [%r3]; shfl.sync.bfly.b32 %r5, %r4, 1, 31, -1; st.global.u32 [%rd2], %r5;"
        )
    };
    some(&shuffled(""), &shuffled("st.shared.u32 [%r3], %r1;"));
    // Selecting it away again is fine, and so are bits that are masked off.
    let selected = "ld.shared.u32 %r4, [%r3]; setp.lt.u32 %p1, %r1, 99; selp.b32 %r5, %r1, %r4, %p1; st.global.u32 [%rd2], %r5;";
    assert_eq!(kinds(selected, 32, 1), []);
    let field = "ld.shared.u32 %r4, [%r3]; bfi.b32 %r5, %r1, %r4, 8, 8; shl.b32 %r6, %r1, 16; and.b32 %r5, %r5, 65535; or.b32 %r5, %r5, %r6; bfe.u32 %r5, %r5, 8, 24; st.global.u32 [%rd2], %r5;";
    assert_eq!(kinds(field, 32, 1), []);
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
    // Reading first and overwriting then needs its barrier too.
    let back = |sync: &str| {
        format!(
            "xor.b32 %r5, %r3, 128; st.shared.u32 [%r3], %r1; bar.sync 0; ld.shared.u32 %r4, [%r5]; {sync} add.u32 %r6, %r4, 1000; st.shared.u32 [%r3], %r6;"
        )
    };
    pair(kind, "races", (64, 1), &back(""), &back("bar.sync 0;"));
    let counted = "ld.shared.u32 %r4, [tile]; add.u32 %r4, %r4, 1; st.shared.u32 [tile], %r4;";
    let zeroed = "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [tile], 0; bar.sync 0;";
    pair(
        kind,
        "races",
        (64, 1),
        &format!("{zeroed}{counted}"),
        &format!("{zeroed} red.shared.add.u32 [tile], 1;"),
    );
    let atomics = |sync: &str| {
        format!(
            "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [tile], 0; {sync} atom.shared.add.u32 %r4, [tile], 1;"
        )
    };
    pair(kind, "races", (64, 1), &atomics(""), &atomics("bar.sync 0;"));
    let landed = |sync: &str| {
        format!(
            "mul.wide.u32 %rd3, %r1, 4; add.u64 %rd3, %rd1, %rd3; cp.async.ca.shared.global [%r3], [%rd3], 4; cp.async.wait_all; {sync}
             xor.b32 %r5, %r3, 4; ld.shared.u32 %r4, [%r5];"
        )
    };
    pair(kind, "races", (64, 1), &landed(""), &landed("bar.sync 0;"));
    let object = |sync: &str| {
        format!(
            "setp.eq.u32 %p1, %r1, 0; @%p1 mbarrier.init.shared.b64 [tile], 64; {sync} mbarrier.arrive.shared.b64 %rd3, [tile];"
        )
    };
    let found = kinds(&object(""), 64, 1);
    assert!(found.contains(&kind), "{found:?}");
    assert_eq!(kinds(&object("bar.sync 0;"), 64, 1), []);
    // Values may be stored twice, and halves of a word belong to different threads.
    assert_eq!(
        kinds("mov.u32 %r4, 7; st.shared.u32 [tile], %r4; st.global.u32 [%rd1], %r4;", 64, 1),
        []
    );
    assert_eq!(
        kinds(
            "shl.b32 %r4, %r1, 1; add.s32 %r4, %r4, %r2; cvt.u16.u32 %h1, %r1; st.shared.u16 [%r4], %h1;",
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
    // Atomics of one block's scope do not reach the others.
    pair(
        kind,
        "races",
        (1, 4),
        "red.relaxed.cta.global.add.u32 [%rd1], 1;",
        "red.relaxed.gpu.global.add.u32 [%rd1], 1;",
    );
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
    // A flag that is set without a release does not hand over what it announces.
    let handed = |set: &str| {
        format!(
            "mov.u32 %r7, %ctaid.x; setp.eq.u32 %p1, %r7, 0; @!%p1 bra C; st.global.u32 [%rd1], 5; {set} bra E;
             C: ld.acquire.gpu.global.u32 %r4, [%rd1+4]; setp.eq.u32 %p2, %r4, 0; @%p2 bra C; ld.global.u32 %r5, [%rd1]; E:"
        )
    };
    pair(
        kind,
        "races",
        (1, 2),
        &handed("st.relaxed.gpu.global.u32 [%rd1+4], 1;"),
        &handed("st.release.gpu.global.u32 [%rd1+4], 1;"),
    );
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
    // The group is waited for, but the copy was not in it.
    let late = |first: &str, second: &str| {
        format!(
            "{first} cp.async.ca.shared.global [%r3], [%rd2], 4; {second} cp.async.wait_group 0; ld.shared.u32 %r5, [%r3];"
        )
    };
    pair(
        kind,
        "waits",
        (32, 1),
        &late("cp.async.commit_group;", ""),
        &late("", "cp.async.commit_group;"),
    );
}

/// Without a commit there is no group to wait for: the copy stays in flight.
#[test]
fn copies_that_were_never_committed() {
    let copy = |commit: &str| {
        format!(
            "cp.async.ca.shared.global [%r3], [%rd2], 4; {commit} cp.async.wait_group 0; ld.shared.u32 %r5, [%r3];"
        )
    };
    pair(FindingKind::MissingWait, "waits", (32, 1), &copy(""), &copy("cp.async.commit_group;"));
    let store = |commit: &str| {
        bulk(&format!(
            "st.shared.v4.u32 [tile], {{%r1, %r1, %r1, %r1}}; fence.proxy.async;
             cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 16; {commit} cp.async.bulk.wait_group 0;"
        ))
    };
    pair_of_texts(FindingKind::MissingWait, 1, &store(""), &store("cp.async.bulk.commit_group;"));
}

/// Two names of one place: the generic address of a shared variable, of a global one, of a local one.
#[test]
fn races_through_another_name() {
    let kind = FindingKind::Race;
    let shared = |sync: &str| {
        format!(
            "cvt.u64.u32 %rd3, %r3; cvta.shared.u64 %rd3, %rd3; xor.b64 %rd3, %rd3, 128;
             st.shared.u32 [%r3], %r1; {sync} ld.u32 %r4, [%rd3];"
        )
    };
    pair(kind, "races", (64, 1), &shared(""), &shared("bar.sync 0;"));
    let global = |sync: &str| {
        format!(
            "xor.b64 %rd3, %rd2, 128; st.global.u32 [%rd2], %r1; {sync} ld.u32 %r4, [%rd3]; add.u32 %r4, %r4, 1;"
        )
    };
    pair(kind, "races", (64, 1), &global(""), &global("bar.sync 0;"));
}

/// Bulk copies of one thread, with an mbarrier behind the data.
fn bulk(body: &str) -> String {
    kernel(
        "sm_90a",
        ".shared .align 8 .b64 bar;",
        &format!(
            "mov.u32 %r10, bar; mbarrier.init.shared.b64 [%r10], 1; fence.mbarrier_init.release.cluster; {body}"
        ),
    )
}

fn pair_of_texts(kind: FindingKind, threads: u32, wrong: &str, right: &str) {
    let found: Vec<FindingKind> =
        run_with(wrong, threads, 1, Checks::ALL).findings.iter().map(|f| f.kind).collect();
    assert!(!found.is_empty() && found.iter().all(|k| *k == kind), "{found:?} for\n{wrong}");
    let fine = run_with(right, threads, 1, Checks::ALL).findings;
    assert!(fine.is_empty(), "{fine:?} for\n{right}");
    let off = run_with(wrong, threads, 1, Checks { waits: false, ..Checks::ALL });
    assert!(off.findings.is_empty(), "{:?}", off.findings);
}

#[test]
fn waits_for_bulk_copies() {
    let load = |wait: &str| {
        bulk(&format!(
            "mbarrier.arrive.expect_tx.shared.b64 %rd4, [%r10], 64;
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 64, [%r10]; {wait}
             ld.shared.u32 %r4, [tile];"
        ))
    };
    let wait = "W: mbarrier.try_wait.shared.b64 %p1, [%r10], %rd4; @!%p1 bra W;";
    pair_of_texts(FindingKind::MissingWait, 1, &load(""), &load(wait));
    let store = |wait: &str| {
        bulk(&format!(
            "st.shared.v4.u32 [tile], {{%r1, %r1, %r1, %r1}}; fence.proxy.async;
             cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 16; cp.async.bulk.commit_group; {wait}"
        ))
    };
    pair_of_texts(
        FindingKind::MissingWait,
        1,
        &store(""),
        &store("cp.async.bulk.wait_group.read 0;"),
    );
}

#[test]
fn fences_between_proxies() {
    let store = |fence: &str| {
        bulk(&format!(
            "st.shared.v4.u32 [tile], {{%r1, %r1, %r1, %r1}}; {fence}
             cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 16; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        ))
    };
    pair_of_texts(
        FindingKind::MissingFence,
        1,
        &store(""),
        &store("fence.proxy.async.shared::cta;"),
    );
}

/// A product of zeros in shared memory; the accumulators start at 1.
fn wgmma(fence: &str, wait: &str) -> String {
    kernel(
        "sm_90a",
        ".shared .align 128 .b8 ab[4096]; .reg .f32 %d<4>;",
        &format!(
            "mov.u32 %r8, ab; shl.b32 %r9, %r1, 4; add.u32 %r9, %r8, %r9; st.shared.v4.u32 [%r9], {{0, 0, 0, 0}};
             st.shared.v4.u32 [%r9+2048], {{0, 0, 0, 0}}; fence.proxy.async; bar.sync 0;
             shr.u32 %r8, %r8, 4; cvt.u64.u32 %rd4, %r8; or.b64 %rd4, %rd4, {};
             ld.global.f32 %f1, [%rd2]; add.f32 %d0, %f1, 0f3f800000; mov.f32 %d1, %d0; mov.f32 %d2, %d0; mov.f32 %d3, %d0;
             {fence}
             wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{%d0, %d1, %d2, %d3}}, %rd4, %rd4, 1, 1, 1, 0, 0;
             wgmma.commit_group.sync.aligned; {wait} add.f32 %f2, %d0, %d3; st.global.f32 [%rd2], %f2;
             wgmma.wait_group.sync.aligned 0;",
            8u64 << 16 | 16u64 << 32
        ),
    )
}

/// Waiting with the wrong parity returns at once, so the data of the copy is not there yet.
#[test]
fn mbarrier_parity() {
    let load = |parity: u32| {
        bulk(&format!(
            "mbarrier.arrive.expect_tx.shared.b64 %rd4, [%r10], 64;
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 64, [%r10];
             W: mbarrier.try_wait.parity.shared.b64 %p1, [%r10], {parity}; @!%p1 bra W;
             ld.shared.u32 %r4, [tile];"
        ))
    };
    pair_of_texts(FindingKind::MissingWait, 1, &load(1), &load(0));
}

#[test]
fn waits_and_fences_of_wgmma() {
    let (fence, wait) = ("wgmma.fence.sync.aligned;", "wgmma.wait_group.sync.aligned 0;");
    pair_of_texts(FindingKind::MissingWait, 128, &wgmma(fence, ""), &wgmma(fence, wait));
    let weak = "wgmma.wait_group.sync.aligned 1;";
    pair_of_texts(FindingKind::MissingWait, 128, &wgmma(fence, weak), &wgmma(fence, wait));
    pair_of_texts(FindingKind::MissingFence, 128, &wgmma("", wait), &wgmma(fence, wait));
}

#[test]
fn barriers() {
    let kind = FindingKind::BarrierDivergence;
    let divergent = "setp.lt.u32 %p1, %r1, 16; @%p1 bar.sync 0; st.global.u32 [%rd2], %r1;";
    let found = kinds(divergent, 32, 1);
    assert!(found.contains(&kind), "{found:?}");
    assert_eq!(kinds("bar.sync 0; st.global.u32 [%rd2], %r1;", 32, 1), []);
    // Whole warps on two sides of a branch, each with a barrier of its own.
    let sides = |second: &str| {
        format!(
            "setp.lt.u32 %p1, %r1, 32; @%p1 bra A; bar.sync {second}; bra E; A: bar.sync 0; E: st.global.u32 [%rd2], %r1;"
        )
    };
    pair(kind, "barriers", (64, 1), &sides("0"), "bar.sync 0; st.global.u32 [%rd2], %r1;");
    let counts = "setp.lt.u32 %p1, %r1, 32; selp.u32 %r4, 64, 96, %p1; bar.sync 1, %r4;";
    assert!(kinds(counts, 64, 1).contains(&kind));
    assert_eq!(kinds("bar.sync 1, 64;", 64, 1), []);
    // Threads that leave at once do not count; that is how the hardware does it.
    assert_eq!(
        kinds("setp.lt.u32 %p1, %r1, 16; @!%p1 ret; bar.sync 0; st.global.u32 [%rd2], %r1;", 64, 1),
        []
    );
    // The unaligned form may stand in divergent code.
    let unaligned = "setp.lt.u32 %p1, %r1, 16; @%p1 bra A; barrier.sync 0; bra E; A: barrier.sync 0; E: st.global.u32 [%rd2], %r1;";
    assert_eq!(kinds(unaligned, 32, 1), []);
}

#[test]
fn deadlock() {
    let kind = FindingKind::Deadlock;
    pair(kind, "", (64, 1), "bar.sync 1, 96;", "bar.sync 1, 64;");
    let spin = |value: u32| {
        format!(
            "st.volatile.global.u32 [%rd1], 1; L: ld.volatile.global.u32 %r4, [%rd1]; setp.ne.u32 %p1, %r4, {value}; @%p1 bra L;"
        )
    };
    pair(kind, "", (1, 1), &spin(2), &spin(1));
    // Two warps that wait for each other at two barriers.
    let crossed = |second: u32| {
        format!(
            "setp.lt.u32 %p1, %r1, 32; selp.u32 %r4, 1, {second}, %p1; bar.sync %r4, 64; xor.b32 %r4, %r4, 3; bar.sync %r4, 64;"
        )
    };
    pair(kind, "", (64, 1), &crossed(2), &crossed(1));
    // A block that polls through a barrier and shared memory.
    let round = |value: u32| {
        format!(
            "L: setp.eq.u32 %p1, %r1, 0; @%p1 atom.global.or.b32 %r4, [%rd1], {value}; @%p1 st.shared.u32 [tile], %r4; bar.sync 0;
             ld.shared.u32 %r5, [tile]; bar.sync 0; setp.eq.u32 %p2, %r5, 0; @%p2 bra L;"
        )
    };
    pair(kind, "", (64, 1), &round(0), &round(1));
    // An mbarrier that one arrival never reaches.
    let object = |count: u32| {
        format!(
            "setp.eq.u32 %p1, %r1, 0; @%p1 mbarrier.init.shared.b64 [tile], {count}; bar.sync 0; mbarrier.arrive.shared.b64 %rd3, [tile];
             W: mbarrier.test_wait.shared.b64 %p2, [tile], %rd3; @!%p2 bra W;"
        )
    };
    pair(kind, "", (32, 1), &object(33), &object(32));
    // Two threads that undo each other's step for ever: memory changes, yet nobody gets on.
    let polite = |turn: u32| {
        format!(
            "L: atom.global.exch.b32 %r4, [%rd1], {turn}; setp.eq.u32 %p1, %r4, 7; @!%p1 bra L;"
        )
    };
    pair(kind, "", (1, 2), &polite(3), &polite(7));
    // The parity of the phase that comes after this one.
    let parity = |parity: u32| {
        format!(
            "setp.eq.u32 %p1, %r1, 0; @%p1 mbarrier.init.shared.b64 [tile], 32; bar.sync 0; mbarrier.arrive.shared.b64 %rd3, [tile];
             W: mbarrier.test_wait.parity.shared.b64 %p2, [tile], {parity}; @!%p2 bra W;
             mbarrier.arrive.shared.b64 %rd3, [tile]; V: mbarrier.test_wait.parity.shared.b64 %p2, [tile], 1; @!%p2 bra V;"
        )
    };
    assert_eq!(kinds(&parity(0), 32, 1), []);
    let again = parity(0).replace("[tile], 1; @!%p2 bra V", "[tile], 0; @!%p2 bra V");
    assert_eq!(kinds(&again, 32, 1), [kind], "the third phase never completes");
    // A lock that its holder never gives back.
    let locked = |unlock: &str| {
        format!(
            "L: atom.acquire.gpu.global.cas.b32 %r5, [%rd1], 0, 1; setp.ne.u32 %p1, %r5, 0; @%p1 bra L; {unlock}"
        )
    };
    pair(kind, "", (1, 3), &locked(""), &locked("st.release.gpu.global.u32 [%rd1], 0;"));
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
    let reduced = |mask: &str| format!("redux.sync.add.s32 %r4, %r1, {mask};");
    pair(kind, "masks", (32, 1), &reduced("0x7fffffff"), &reduced("-1"));
    let warp = |mask: &str| format!("bar.warp.sync {mask};");
    pair(kind, "masks", (32, 1), &warp("0xff"), &warp("-1"));
}

#[test]
fn partial_warps() {
    let kind = FindingKind::PartialWarp;
    let tile = "shl.b32 %r4, %r1, 4; and.b32 %r4, %r4, 127; add.s32 %r4, %r4, %r2; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r4];";
    let ready = format!("st.shared.u32 [%r3], 0; bar.sync 0; {tile}");
    assert!(kinds(&ready, 16, 1).contains(&kind));
    assert_eq!(kinds(&ready, 32, 1), []);
    // Half of the lanes have left when the product comes.
    let product = |leave: &str| {
        format!(
            "setp.lt.u32 %p1, %r1, 16; {leave} mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {{%f0, %f1, %f2, %f3}}, {{%r1, %r1}}, {{%r1}}, {{%f4, %f4, %f4, %f4}};"
        )
    };
    pair(kind, "masks", (32, 1), &product("@!%p1 ret;"), &product(""));
}

#[test]
fn traps() {
    pair(FindingKind::Trap, "", (1, 1), "trap;", "");
}

#[test]
fn operands_that_the_manual_forbids() {
    let kind = FindingKind::BadOperand;
    pair(kind, "", (32, 1), "mov.u32 %r4, 16; bar.sync %r4;", "mov.u32 %r4, 15; bar.sync %r4;");
    pair(
        kind,
        "",
        (32, 1),
        "mov.u32 %r4, 40; bar.sync 1, %r4;",
        "mov.u32 %r4, 32; bar.sync 1, %r4;",
    );
    let sized = |n: u32| {
        format!(
            "mov.u32 %r4, {n}; cp.async.ca.shared.global [%r3], [%rd2], 4, %r4; cp.async.wait_all;"
        )
    };
    pair(kind, "", (1, 1), &sized(5), &sized(3));
    let table = |i: u32| format!("T: .branchtargets A, B; mov.u32 %r4, {i}; brx.idx %r4, T; A: B:");
    pair(kind, "", (1, 1), &table(2), &table(1));
    pair(kind, "", (1, 1), "call.uni %rd1, P; P: .callprototype _ ();", "");
}

/// Everything that a finding says, for an access and for a race.
#[test]
fn findings_say_where() {
    let body = "setp.eq.u32 %p1, %r1, 5; @%p1 st.global.u32 [%rd1+600], %r1;";
    let report = run_with(&kernel("sm_80", "", body), 32, 2, Checks::ALL);
    let finding = &report.findings[0];
    assert_eq!(finding.at.thread, [5, 0, 0]);
    assert_eq!(finding.at.text, body);
    assert!(finding.address.is_some_and(|a| a % 4096 == 600));
    assert_eq!(finding.count, 2, "once in each block");
    let text = finding.to_string();
    for part in ["out of bounds", "line 15", "thread (5, 0, 0)", "0x", "`data`: byte 600 of 512"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let race = "st.shared.u32 [tile], %r1;\nld.shared.u32 %r4, [tile];";
    let report = run_with(&kernel("sm_80", "", race), 64, 1, Checks::ALL);
    let finding = report.findings.iter().find(|f| f.message.contains("read")).expect("a race");
    let other = finding.other.as_ref().expect("the other access");
    assert_eq!((finding.at.line, other.at.line), (16, 15));
    assert_ne!(finding.at.thread, other.at.thread);
    assert!(finding.to_string().contains("against a write on line 15"), "{finding}");
}

#[test]
fn unknown_instructions_name_their_line() {
    let text = kernel("sm_80", "", "frobnicate.b32 %r1, %r2;");
    let error = Module::parse(&text).expect_err("rejected");
    assert_eq!(error.source_line, "frobnicate.b32 %r1, %r2;");
    assert!(error.to_string().contains("unknown instruction"));
    let wide = Module::parse(&kernel("sm_80", "", "add.s32 %r1, %rd1, 1;")).expect_err("rejected");
    assert!(wide.message.contains("64-bit register"), "{wide}");
    let modifier =
        Module::parse(&kernel("sm_80", "", "add.wide.s32 %r1, %r1, 1;")).expect_err("rejected");
    assert!(modifier.message.contains(".wide"), "{modifier}");
}
