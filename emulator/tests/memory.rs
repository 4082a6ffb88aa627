//! Memory that outlives launches, and maps of tensors in it.

use gigac_emulator::types::Ty;
use gigac_emulator::{FindingKind, Launch, LaunchError, Memory, Module, TensorMap};

fn module(body: &str) -> Module {
    let text = format!(
        ".version 8.0
.target sm_90a
.address_size 64
.visible .global .align 4 .u32 calls = 40;
.visible .entry k(.param .u64 data) {{
.reg .pred %p<4>; .reg .b32 %r<16>; .reg .b64 %rd<16>;
.shared .align 128 .b8 tile[4096];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [data];
{body}
ret;
}}"
    );
    Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn buffers_and_variables_outlive_a_launch() {
    let module = module(
        "ld.global.u32 %r1, [calls]; add.u32 %r1, %r1, 1; st.global.u32 [calls], %r1;
         ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %r1; st.global.u32 [%rd1], %r2;",
    );
    let mut memory = Memory::new();
    let sum = memory.buffer("sum", words(&[1, 0]));
    for _ in 0..2 {
        let report = Launch::new(&module, "k").pointer(sum).run_in(&memory).expect("a launch");
        assert_eq!(report.findings, []);
        assert!(report.buffers.is_empty());
    }
    assert_eq!(memory.read(sum, 8), Some(words(&[1 + 41 + 42, 0])));
    // A launch in memory of its own begins with the initial values again.
    let report = Launch::new(&module, "k").buffer("sum", words(&[1])).run().expect("a launch");
    assert_eq!(report.buffer("sum"), Some(&words(&[42])[..]));
    assert!(memory.write(sum + 2, &[7, 8, 9]));
    assert_eq!(memory.read(sum + 1, 5), Some(vec![0, 7, 8, 9, 0]));
    assert!(!memory.write(sum + 6, &[0; 3]) && memory.read(sum, 9).is_none());
}

#[test]
fn the_end_of_a_launch_orders_and_writing_from_outside_initialises() {
    let module = module(
        "ld.global.u32 %r1, [%rd1]; mov.u32 %r2, %tid.x; add.u32 %r1, %r1, %r2; setp.eq.u32 %p1, %r1, 9; @%p1 bra E; setp.eq.u32 %p1, %r2, 0; @%p1 st.global.u32 [%rd1], 5; E:",
    );
    let mut memory = Memory::new();
    let x = memory.fresh_buffer("x", 4);
    let launch = Launch::new(&module, "k").pointer(x);
    let unwritten = launch.clone().run_in(&memory).expect("a launch");
    assert_eq!(unwritten.findings[0].kind, FindingKind::Uninitialised);
    let y = memory.fresh_buffer("y", 4);
    assert!(memory.write(y, &words(&[1])));
    for _ in 0..3 {
        let report = Launch::new(&module, "k").pointer(y).run_in(&memory).expect("a launch");
        assert_eq!(report.findings, []);
    }
}

#[test]
fn a_thousand_buffers_and_a_table_of_their_addresses() {
    let module = module(
        "mov.u32 %r1, %ctaid.x; mul.wide.u32 %rd2, %r1, 8; add.s64 %rd2, %rd1, %rd2; ld.global.u64 %rd3, [%rd2];
         ld.global.u32 %r2, [%rd3]; add.u32 %r2, %r2, %r1; st.global.u32 [%rd3], %r2;",
    );
    let mut memory = Memory::new();
    let all: Vec<u64> =
        (0..1000).map(|i| memory.buffer(&format!("b{i}"), words(&[7 * i]))).collect();
    let table = all.iter().flat_map(|a| a.to_le_bytes()).collect();
    let report = Launch::new(&module, "k")
        .grid([1000, 1, 1])
        .buffer("table", table)
        .run_in(&memory)
        .expect("a launch");
    assert_eq!(report.findings, []);
    for (i, address) in all.iter().enumerate() {
        assert_eq!(memory.read(*address, 4), Some(words(&[8 * i as u32])));
    }
    // One byte behind a buffer belongs to nobody, however many there are.
    let beyond = Launch::new(&module, "k").buffer("table", (all[999] + 4).to_le_bytes().to_vec());
    let found = beyond.run_in(&memory).expect("a launch").findings;
    assert!(found[0].kind == FindingKind::OutOfBounds, "{found:?}");
    (0..2000).for_each(|i| _ = memory.fresh_buffer(&format!("c{i}"), 4));
    let many = Launch::new(&module, "k").pointer(all[0]).run_in(&memory);
    assert!(matches!(many, Err(LaunchError::Arguments(_))));
}

#[test]
fn maps_made_by_the_host() {
    let module = module(
        "mov.u32 %r1, tile; mov.u32 %r2, bar; mbarrier.init.shared.b64 [%r2], 1; fence.mbarrier_init.release.cluster;
         mbarrier.arrive.expect_tx.shared.b64 %rd2, [%r2], 512; add.s64 %rd3, %rd1, 128; mov.u32 %r3, 4; mov.u32 %r4, -1;
         cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r3, %r4}], [%r2];
         W: mbarrier.try_wait.shared.b64 %p1, [%r2], %rd2; @!%p1 bra W;
         mov.u32 %r5, 0; L: add.u32 %r6, %r1, %r5; ld.shared.u32 %r7, [%r6]; cvt.u64.u32 %rd4, %r5; add.s64 %rd4, %rd3, %rd4;
         st.global.u32 [%rd4], %r7; add.u32 %r5, %r5, 4; setp.lt.u32 %p2, %r5, 512; @%p2 bra L;",
    );
    let mut memory = Memory::new();
    // Rows of 12 words, of which the box takes 8 from column 4 on, and 16 rows from the one above the first.
    let x = memory.buffer("x", words(&(0..12 * 20).collect::<Vec<u32>>()));
    let map = TensorMap::tiled(Ty::U32, x, &[12, 20], &[48], &[8, 16]);
    let data = [map.encode().expect("a map").to_vec(), vec![0; 512]].concat();
    let launch = Launch::new(&module, "k").buffer("data", data);
    let report = launch.run_in(&memory).expect("a launch");
    assert_eq!(report.findings, []);
    let want: Vec<u32> = (0..16)
        .flat_map(|row: u32| (4..12).map(move |c| if row == 0 { 0 } else { 12 * (row - 1) + c }))
        .collect();
    assert_eq!(report.buffer("data").map(|d| &d[128..]), Some(&words(&want)[..]));
    for (wrong, why) in [
        (TensorMap::tiled(Ty::U32, x + 4, &[12, 20], &[48], &[8, 16]), "multiples of 16"),
        (TensorMap::tiled(Ty::U32, x, &[12, 20], &[44], &[8, 16]), "multiples of 16"),
        (TensorMap::tiled(Ty::U32, x, &[12, 20], &[], &[8, 16]), "a stride for each axis"),
        (TensorMap::tiled(Ty::U32, x, &[12], &[], &[257]), "1 to 256"),
        (TensorMap::tiled(Ty::U32, x, &[12], &[], &[3]), "12 bytes"),
        (TensorMap::tiled(Ty::U32, x, &[], &[], &[]), "0 axes"),
        (TensorMap::tiled(Ty::U32, x, &[12], &[], &[8]).swizzle(48), "swizzle"),
        (TensorMap::tiled(Ty::U32, x, &[64], &[], &[64]).swizzle(128), "do not fit"),
        (TensorMap::tiled(Ty::U32, x, &[12], &[], &[8]).element_strides(&[9]), "strides"),
        (TensorMap::tiled(Ty::Pred, x, &[12], &[], &[8]), "type"),
    ] {
        let error = wrong.encode().expect_err("no map").to_string();
        assert!(error.contains(why), "{error} has no `{why}`");
    }
}
