//! Every finding that the sources can report, message by message: the smallest program that has it, and its corrected twin that
//! has none. A place in the sources that reports and has no row here fails the test.

use std::path::Path;

use gigac_emulator::types::Ty;
use gigac_emulator::{FindingKind, Launch, Memory, Module, Report, TensorMap};

use FindingKind::*;

/// One message: the file that reports it and how often it is written there, its kind, a part of it, threads, the program, its twin.
struct Row {
    file: &'static str,
    kind: FindingKind,
    says: &'static str,
    threads: u32,
    wrong: String,
    right: String,
}

fn row(
    file: &'static str,
    kind: FindingKind,
    says: &'static str,
    threads: u32,
    wrong: impl Into<String>,
    right: impl Into<String>,
) -> Row {
    Row { file, kind, says, threads, wrong: wrong.into(), right: right.into() }
}

/// A kernel over a 512-byte buffer `%rd1` and a tensor map of its first 64 bytes `%rd9`; `%r1` is the thread, `%rd2` the address of
/// its word, `%r3` that of its word of `tile`, `%r10` that of an mbarrier for one arrival.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.0
.target sm_90a
.address_size 64
.extern .func __assertfail(.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 s);
.global .b8 text[4] = {{110, 111, 0, 0}};
.func down(.reg .b32 n) {{ .reg .pred %q; setp.eq.u32 %q, n, 0; @%q ret; sub.u32 n, n, 1; call down, (n); ret; }}
.visible .entry k(.param .u64 data, .param .u64 map) {{
.reg .pred %p<8>; .reg .b16 %h<4>; .reg .b32 %r<32>; .reg .b64 %rd<16>; .reg .f32 %f<16>;
.shared .align 128 .b8 tile[4096];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [data];
ld.param.u64 %rd9, [map];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd2, %rd1, %rd2;
mov.u32 %r2, tile;
shl.b32 %r3, %r1, 2;
add.s32 %r3, %r2, %r3;
mov.u32 %r10, bar;
setp.eq.u32 %p7, %r1, 0;
{body}
ret;
}}"
    )
}

fn run(body: &str, threads: u32) -> Report {
    let text = kernel(body);
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut memory = Memory::new();
    let data = memory.buffer("data", vec![0; 512]);
    let map = TensorMap::tiled(Ty::U32, data, &[16], &[], &[16]);
    let map = memory.buffer("map", map.encode().expect("a map").to_vec());
    Launch::new(&module, "k")
        .block([threads, 1, 1])
        .pointer(data)
        .pointer(map)
        .patience(1_000_000)
        .run_in(&memory)
        .unwrap_or_else(|e| panic!("{e}"))
}

const INIT: &str =
    "@%p7 mbarrier.init.shared.b64 [%r10], 1; fence.mbarrier_init.release.cluster; bar.sync 0;";

fn accesses() -> Vec<Row> {
    let file = "access.rs";
    let copied = |wait: &str| {
        format!(
            "cp.async.ca.shared.global [%r3], [%rd2], 4; {wait} ld.shared.u32 %r4, [%r3]; cp.async.wait_all;"
        )
    };
    let store = |fence: &str| {
        format!(
            "st.shared.v4.u32 [tile], {{%r1, %r1, %r1, %r1}}; {fence} cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 16;
             cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        )
    };
    vec![
        row(
            file,
            MissingWait,
            "that the copy of line",
            1,
            copied(""),
            copied("cp.async.wait_all;"),
        ),
        row(
            file,
            OutOfBounds,
            "4 bytes outside buffer",
            1,
            "ld.global.u32 %r4, [%rd1+512];",
            "ld.global.u32 %r4, [%rd1+508];",
        ),
        row(
            file,
            Misaligned,
            "an access of 8 bytes",
            1,
            "ld.global.u64 %rd3, [%rd1+4];",
            "ld.global.u64 %rd3, [%rd1+8];",
        ),
        row(
            file,
            MissingFence,
            "through the asynchronous proxy",
            1,
            store(""),
            store("fence.proxy.async;"),
        ),
    ]
}

fn calls() -> Vec<Row> {
    let file = "call.rs";
    let indirect = |target: &str| {
        format!("mov.u64 %rd3, {target}; P: .callprototype _ (.reg .b32 _); call %rd3, (0), P;")
    };
    let down = |n: u32| format!("call down, ({n});");
    let check = |holds: u32| {
        format!(
            "mov.u32 %r4, {holds}; setp.ne.u32 %p1, %r4, 0; @%p1 bra E; mov.u64 %rd3, text; cvta.global.u64 %rd3, %rd3;
             call __assertfail, (%rd3, %rd3, 7, %rd3, 1); E:"
        )
    };
    vec![
        row(file, BadOperand, "no function", 1, indirect("4096"), indirect("down")),
        row(file, Trap, "nested calls", 1, down(5000), down(500)),
        row(file, Trap, "assertion failed: no", 1, check(0), check(1)),
    ]
}

fn collectives() -> Vec<Row> {
    let file = "collective.rs";
    let vote = |mask: &str| format!("vote.sync.ballot.b32 %r4, %p7, {mask};");
    let gone = |mask: &str| {
        format!(
            "setp.lt.u32 %p1, %r1, 16; @%p1 bra S; st.global.u32 [%rd2], %r1; exit; S: shfl.sync.bfly.b32 %r4, %r1, 1, 31, {mask};"
        )
    };
    vec![
        row(file, MemberMask, "which leaves them out", 32, vote("0xffff"), vote("-1")),
        row(file, MemberMask, "which left the kernel", 32, gone("-1"), gone("0xffff")),
    ]
}

fn copies() -> Vec<Row> {
    let (file, bulk) = ("copy.rs", "bulk.rs");
    let sized = |n: u32| {
        format!(
            "mov.u32 %r4, {n}; cp.async.ca.shared.global [%r2], [%rd1], 4, %r4; cp.async.wait_all;"
        )
    };
    let copy = |to: u32, from: u32| {
        format!("cp.async.cg.shared.global [%r2+{to}], [%rd1+{from}], 16; cp.async.wait_all;")
    };
    let twice = |wait: &str| {
        format!(
            "cp.async.cg.shared.global [%r2], [%rd1], 16; {wait} cp.async.cg.shared.global [%r2], [%rd1+16], 16; cp.async.wait_all;"
        )
    };
    let load = |at: u32, bar: &str| {
        format!(
            "{INIT} mbarrier.arrive.expect_tx.shared.b64 %rd4, [%r10], 64; mov.u32 %r11, {bar};
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1+{at}], 64, [%r11];"
        )
    };
    let waited = |text: String| {
        format!("{text} W: mbarrier.try_wait.shared.b64 %p1, [%r10], %rd4; @!%p1 bra W;")
    };
    let remote = |at: u32| {
        format!(
            "{INIT} mbarrier.arrive.expect_tx.shared.b64 %rd4, [%r10], 8; mapa.shared::cluster.u32 %r4, %r2, 0; mapa.shared::cluster.u32 %r5, %r10, 0;
             add.u32 %r4, %r4, {at}; st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%r4], {{%r1, %r1}}, [%r5];"
        )
    };
    let store = |wait: &str| {
        format!(
            "st.shared.v4.u32 [tile], {{%r1, %r1, %r1, %r1}}; fence.proxy.async; cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 16;
             cp.async.bulk.commit_group; {wait}"
        )
    };
    let tensor = |map: &str, dims: u32, coords: &str, at: u32| {
        format!(
            "{INIT} mbarrier.arrive.expect_tx.shared.b64 %rd4, [%r10], 64; mov.u32 %r4, 0;
             cp.async.bulk.tensor.{dims}d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+{at}], [{map}, {{{coords}}}], [%r10];"
        )
    };
    let whole = || waited(tensor("%rd9", 1, "%r4", 0));
    vec![
        row(file, BadOperand, "the source size 5", 1, sized(5), sized(3)),
        row(file, Misaligned, "needs a shared address", 1, copy(8, 0), copy(16, 0)),
        row(
            file,
            MissingWait,
            "that an earlier copy has not reached",
            1,
            twice(""),
            twice("cp.async.wait_all;"),
        ),
        row(file, Misaligned, "needs a global address", 1, copy(0, 8), copy(0, 16)),
        row(bulk, Misaligned, "a bulk copy needs", 1, load(8, "bar"), waited(load(16, "bar"))),
        row(bulk, Misaligned, "a store of 8 bytes", 1, remote(4), waited(remote(8))),
        row(
            bulk,
            OutOfBounds,
            "an mbarrier outside shared memory",
            1,
            load(0, "1000000"),
            waited(load(0, "bar")),
        ),
        row(
            file,
            MissingWait,
            "the block ends before",
            1,
            store(""),
            store("cp.async.bulk.wait_group 0;"),
        ),
        row(
            bulk,
            BadOperand,
            "a map of 1 dimensions and 2",
            1,
            tensor("%rd9", 2, "%r4, %r4", 0),
            whole(),
        ),
        row(bulk, Misaligned, "a bulk tensor copy needs", 1, tensor("%rd9", 1, "%r4", 64), whole()),
        row(bulk, BadOperand, "not a tensor map", 1, tensor("%rd1", 1, "%r4", 0), whole()),
    ]
}

/// A product of zeros in shared memory.
fn wgmma(fence: &str, wait: &str) -> String {
    format!(
        "shl.b32 %r9, %r1, 4; add.u32 %r9, %r2, %r9; st.shared.v4.u32 [%r9], {{0, 0, 0, 0}}; st.shared.v4.u32 [%r9+2048], {{0, 0, 0, 0}};
         fence.proxy.async; bar.sync 0; shr.u32 %r8, %r2, 4; cvt.u64.u32 %rd4, %r8; or.b64 %rd4, %rd4, {};
         mov.f32 %f0, 0f3f800000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0; {fence}
         wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{%f0, %f1, %f2, %f3}}, %rd4, %rd4, 1, 1, 1, 0, 0;
         wgmma.commit_group.sync.aligned; {wait} add.f32 %f5, %f0, %f3; st.global.f32 [%rd1], %f5; wgmma.wait_group.sync.aligned 0;",
        8u64 << 16 | 16u64 << 32
    )
}

fn matrices() -> Vec<Row> {
    let (file, wgmma_file) = ("matrix.rs", "wgmma.rs");
    let product = |leave: &str| {
        format!(
            "setp.lt.u32 %p1, %r1, 16; {leave} mov.f32 %f1, 0f00000000;
             mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {{%f2, %f3, %f4, %f5}}, {{%r1, %r1}}, {{%r1}}, {{%f1, %f1, %f1, %f1}};"
        )
    };
    let (fence, wait) = ("wgmma.fence.sync.aligned;", "wgmma.wait_group.sync.aligned 0;");
    vec![
        row(file, PartialWarp, "needs all 32 lanes", 32, product("@!%p1 ret;"), product("")),
        row(
            wgmma_file,
            MissingFence,
            "after the last `wgmma.fence`",
            128,
            wgmma("", wait),
            wgmma(fence, wait),
        ),
        row(
            wgmma_file,
            MissingWait,
            "has not delivered yet",
            128,
            wgmma(fence, ""),
            wgmma(fence, wait),
        ),
    ]
}

fn mbarriers() -> Vec<Row> {
    let file = "mbarrier.rs";
    let init = |at: &str| format!("mbarrier.init.shared.b64 [{at}], 1;");
    let arrive = |first: &str| format!("{first} @%p7 mbarrier.arrive.shared.b64 %rd4, [%r10];");
    let count = |n: u32| {
        format!("{INIT} mov.u32 %r4, {n}; @%p7 mbarrier.arrive.shared.b64 %rd4, [%r10], %r4;")
    };
    vec![
        row(file, OutOfBounds, "an mbarrier outside", 1, init("tile+4096"), init("tile+4088")),
        row(file, Misaligned, "a multiple of 8", 1, init("tile+4"), init("tile+8")),
        row(file, Uninitialised, "never initialised", 1, arrive(""), arrive(INIT)),
        row(file, BarrierDivergence, "more arrivals", 1, count(2), count(1)),
    ]
}

/// What one lane wrote into a map that the warp then copies.
#[test]
fn a_map_is_copied_by_the_whole_warp() {
    let copy = |sync: &str| {
        format!(
            "st.shared.u32 [%r3], 0; bar.warp.sync -1; @%p7 st.shared.u64 [tile+120], %rd1; {sync}
             tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd1], [tile], 128;"
        )
    };
    let found = run(&copy(""), 32).findings;
    assert!(found.iter().any(|f| f.kind == Race), "{found:#?}");
    let twin = run(&copy("bar.warp.sync -1;"), 32).findings;
    assert!(twin.is_empty(), "{twin:#?}");
}

fn reports() -> Vec<Row> {
    let file = "report.rs";
    let exchange = |sync: &str| {
        format!("xor.b32 %r5, %r3, 4; st.shared.u32 [%r3], %r1; {sync} ld.shared.u32 %r4, [%r5];")
    };
    let local = |first: &str| {
        format!(
            ".local .b32 x[4]; mov.u64 %rd3, x; {first} ld.local.u32 %r4, [%rd3]; st.global.u32 [%rd2], %r4;"
        )
    };
    let half = |sync: &str| format!("setp.lt.u32 %p1, %r1, 16; @%p1 bra A; L: bra L; A: {sync}");
    let sides = |mask: &str| {
        format!(
            "setp.lt.u32 %p1, %r1, 16; @!%p1 bra E; vote.sync.ballot.b32 %r4, %p7, {mask}; E: barrier.sync 1, 32;"
        )
    };
    let named = |n: u32| format!("bar.sync 1, {n};");
    let spin = |value: u32| {
        format!(
            "st.volatile.global.u32 [%rd1], 1; L: ld.volatile.global.u32 %r4, [%rd1]; setp.ne.u32 %p1, %r4, {value}; @%p1 bra L;"
        )
    };
    let cluster = |who: &str| format!("barrier.cluster.arrive; {who} barrier.cluster.wait;");
    vec![
        row(file, Race, "are not ordered", 32, exchange(""), exchange("bar.warp.sync -1;")),
        row(file, Uninitialised, "nobody wrote", 1, local(""), local("st.local.u32 [%rd3], 1;")),
        row(
            file,
            BarrierDivergence,
            "never come",
            32,
            half("bar.sync 0; L2: bra L2;"),
            "bar.sync 0;",
        ),
        row(file, MemberMask, "which never come", 32, sides("-1"), sides("0xffff")),
        row(file, Deadlock, "barrier 1 waits for 96 threads, 64 arrived", 64, named(96), named(64)),
        row(
            file,
            Deadlock,
            "the cluster barrier waits",
            64,
            "setp.lt.u32 %p1, %r1, 32; @!%p1 bar.sync 1, 64; barrier.cluster.arrive; barrier.cluster.wait;",
            cluster(""),
        ),
        row(file, Deadlock, "this loop never ends", 1, spin(2), spin(1)),
    ]
}

fn steps() -> Vec<Row> {
    let file = "step.rs";
    let table = |i: u32| format!("T: .branchtargets A, B; mov.u32 %r4, {i}; brx.idx %r4, T; A: B:");
    vec![
        row(file, Trap, "executed `trap`", 1, "@%p7 trap;", "@!%p7 trap;"),
        row(file, BadOperand, "branch index 2", 1, table(2), table(1)),
    ]
}

fn barriers() -> Vec<Row> {
    let file = "sync.rs";
    let id = |n: u32| format!("mov.u32 %r4, {n}; bar.sync %r4;");
    let count = |n: u32| format!("mov.u32 %r4, {n}; bar.sync 1, %r4;");
    let sides = |second: u32| {
        format!("setp.lt.u32 %p1, %r1, 32; selp.u32 %r4, 64, {second}, %p1; bar.sync 1, %r4;")
    };
    let branch = |one: &str, other: &str| {
        format!("{one} setp.lt.u32 %p1, %r1, 32; @%p1 bra A; {other} bra E; A: {other} E:")
    };
    let leave =
        |work: &str| format!("setp.lt.u32 %p1, %r1, 32; @%p1 bra A; {work} exit; A: bar.sync 0;");
    let lanes = |work: &str| {
        format!("setp.lt.u32 %p1, %r1, 16; @!%p1 bra W; bar.sync 0; exit; W: {work} exit;")
    };
    let cluster = |arrive: &str| format!("{arrive} barrier.cluster.wait;");
    vec![
        row(file, BadOperand, "not a multiple of the warp size", 32, count(40), count(32)),
        row(file, BadOperand, "there are sixteen", 32, id(16), id(15)),
        row(file, BarrierDivergence, "expects", 64, sides(96), sides(64)),
        row(
            file,
            BarrierDivergence,
            "wait at a different barrier",
            64,
            branch("", "bar.sync 0;"),
            branch("bar.sync 0;", ""),
        ),
        row(
            file,
            BarrierDivergence,
            "left the kernel without coming to this barrier",
            64,
            leave("st.global.u32 [%rd2], %r1;"),
            leave(""),
        ),
        row(
            file,
            BarrierDivergence,
            "of the warp left the kernel without coming here",
            32,
            lanes("st.global.u32 [%rd2], %r1;"),
            lanes(""),
        ),
        row(
            file,
            BarrierDivergence,
            "without having arrived",
            32,
            cluster(""),
            cluster("barrier.cluster.arrive;"),
        ),
    ]
}

fn rows() -> Vec<Row> {
    let families = [
        accesses(),
        calls(),
        collectives(),
        copies(),
        matrices(),
        mbarriers(),
        reports(),
        steps(),
        barriers(),
    ];
    families.into_iter().flatten().collect()
}

#[test]
fn every_message_has_a_program_and_a_twin() {
    for row in rows() {
        let found = run(&row.wrong, row.threads).findings;
        let hit = found.iter().any(|f| f.kind == row.kind && f.message.contains(row.says));
        assert!(hit, "no `{}` among {found:#?} for\n{}", row.says, row.wrong);
        let twin = run(&row.right, row.threads).findings;
        assert!(twin.is_empty(), "{}: {twin:#?} for\n{}", row.says, row.right);
    }
}

/// Places with more than one message: a barrier's number or count, what a deadlock waits for.
const SEVERAL: [(&str, usize); 2] = [("sync.rs", 1), ("report.rs", 1)];

#[test]
fn every_place_that_reports_has_a_row() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/exec");
    let mut files: Vec<_> = std::fs::read_dir(sources).expect("the sources").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name().into_string().expect("a name");
        let text = std::fs::read_to_string(file.path()).expect("a source");
        let places = text
            .lines()
            .filter(|l| l.contains("FindingKind::") && !l.contains("seen(FindingKind"))
            .count();
        let extra = SEVERAL.iter().find(|s| s.0 == name).map_or(0, |s| s.1);
        let here = rows().iter().filter(|r| r.file == name).count();
        assert_eq!(places + extra, here, "{name}: rows of this table, places that report");
    }
}
