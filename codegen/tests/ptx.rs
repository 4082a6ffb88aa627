//! What matters in the PTX of kernels: instructions, widths of accesses, banks, determinism.

#[path = "support/attention.rs"]
mod attention;
mod support;

use attention::{Attention, Mask, Score};
use gigac_codegen::nvptx::{GpuTarget, compile_ptx};
use gigac_emulator::{Launch, Module, Profile};
use gigac_ir::kernel::Kernel;
use support::{gpu, kernel};

/// `y = x·wᵀ + bias` in bf16, with a tile of 128 × 128 × 32.
fn linear(y: &str, size: u64) -> String {
    format!(
        r#"kernel linear "y = dot(x, w; D) + b" {{
  read x: bf16[{0}]
  read w: bf16[{0}]
  read b: bf16[{size}]
  write y: bf16[{0}]
  var t: {size} / 128
  var f: {size} / 128
  var d: {size} / 32
  grid t, f
  %0: f32[t, f] = 0.0
  loop d carry (%1: f32[t, f] = %0 -> %2) {{
    %3: f32[t, d] = load x[{size}*t + d]
    %4: f32[f, d] = load w[{size}*f + d]
    %5: f32[t, f] = dot %3, %4 along d
    %6: f32[t, f] = add %1, %5
    next %6
  }}
  %7: f32[f] = load b[f]
  %8: f32[t, f] = add %2, %7
  store y[{y}] = %8
}}"#,
        size * size
    )
}

/// Rows of odd lengths are read by element: how many blocks share a multiprocessor is said then, which keeps `ptxas` from spills.
#[test]
fn rows_of_odd_lengths_say_how_many_blocks_they_share_with() {
    for (size, said) in [(256, false), (129, true)] {
        let ptx = gpu::compiled(&kernel(&row_by_row(size))).ptx;
        assert_eq!(ptx.contains(".minnctapersm 2"), said, "{ptx}");
    }
}

fn row_by_row(size: u64) -> String {
    linear(&format!("{size}*t + f"), size)
}

#[test]
fn products_use_tensor_cores_and_wide_accesses() {
    let ptx = gpu::compiled(&kernel(&row_by_row(256))).ptx;
    for wanted in [
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16",
        "cp.async.cg.shared.global",
        "cp.async.wait_group",
        "st.global.v4.b32",
        "cvt.rn.bf16x2.f32",
    ] {
        assert!(ptx.contains(wanted), "no {wanted} in\n{ptx}");
    }
    for unwanted in [".local", "ld.shared.b16", "st.global.b16", "st.global.b32"] {
        assert!(!ptx.contains(unwanted), "{unwanted} in\n{ptx}");
    }
}

/// What the emulator counts while a kernel runs on zeros; it may find nothing wrong.
fn profile(kernel: &Kernel) -> Profile {
    let code = gpu::compiled(kernel);
    let module = Module::parse(&code.ptx).expect("LLVM's PTX is understood");
    let mut launch = Launch::new(&module, &code.name)
        .grid([code.blocks as u32, 1, 1])
        .block([code.threads as u32, 1, 1])
        .dynamic_shared(code.shared_bytes as u32);
    for buffer in &kernel.buffers {
        let bytes = buffer.elements * buffer.storage.bytes();
        launch = launch.buffer(&buffer.name, vec![0; bytes as usize]);
    }
    let report = launch.run().expect("the launch fits");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    report.profile
}

/// A result that lies across is stored without a detour through shared memory, so what is counted
/// is the main loop's.
#[test]
fn main_loops_meet_every_bank_once() {
    for (x, w) in
        [("256*t + d", "256*f + d"), ("t + 256*d", "f + 256*d"), ("t + 256*d", "256*f + d")]
    {
        let text = linear("f + 256*t", 256).replace("store y[f + 256*t]", "store y[4*f + 1024*t]");
        let text = text.replace("write y: bf16[65536]", "write y: bf16[262144]");
        let text = text.replace("load x[256*t + d]", &format!("load x[{x}]"));
        let kernel = kernel(&text.replace("load w[256*f + d]", &format!("load w[{w}]")));
        let profile = profile(&kernel);
        assert_eq!(profile.bank_conflicts, 0, "x[{x}], w[{w}]");
        assert_eq!(profile.tensor_multiply_adds, 256 * 256 * 256);
    }
}

/// Forward and both halves of backward.
fn attention(width: u64, t: u64, mask: Mask) -> [String; 3] {
    let heads = Attention::heads(1, 1, t, width, [128, 64], mask);
    let heads = Attention { half: true, ..heads };
    let keys = Attention { tiles: [if width > 64 { 32 } else { 64 }, 128], ..heads };
    [heads.forward(), heads.queries(), keys.values([true; 2])]
}

#[test]
fn attention_keeps_rows_in_registers() {
    for text in attention(128, 256, Mask::Causal(0)) {
        let code = gpu::compiled(&kernel(&text));
        assert_eq!(code.threads, 256);
        for wanted in [
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16",
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16",
            "cp.async.cg.shared.global",
            "ex2.approx.ftz.f32",
            "st.global.v4.b32",
        ] {
            assert!(code.ptx.contains(wanted), "no {wanted} in\n{}", code.ptx);
        }
        for unwanted in [".local", "st.shared", "\tatom", "\tred"] {
            assert!(!code.ptx.contains(unwanted), "{unwanted} in\n{}", code.ptx);
        }
        // Device memory is read and written in 16 bytes, vectors of a number for each row included.
        for access in code.ptx.lines().filter(|line| line.contains(".global")) {
            let wide = ["cp.async.cg.shared.global", "st.global.v4.b32", ".param"];
            assert!(wide.iter().any(|w| access.contains(w)), "{access} in\n{}", code.ptx);
        }
    }
}

/// A number for each query and key: a thread has eight neighbouring keys.
#[test]
fn biases_come_in_16_bytes() {
    let heads = Attention::heads(1, 1, 256, 64, [128, 64], Mask::Causal(0));
    let heads = Attention { half: true, score: Score::Bias { trained: false }, ..heads };
    for text in [heads.forward(), heads.queries()] {
        let kernel = kernel(&text);
        let ptx = gpu::compiled(&kernel).ptx;
        for access in ptx.lines().filter(|line| line.contains(".global")) {
            let wide = ["cp.async.cg.shared.global", ".v4.b32", ".param"];
            assert!(wide.iter().any(|w| access.contains(w)), "{access} in\n{ptx}");
        }
        assert!(ptx.contains("ld.global.nc.v4.b32"), "{ptx}");
        assert_eq!(profile(&kernel).bank_conflicts, 0, "{text}");
    }
}

/// No access meets a bank twice, and of the pairs of tiles that no query sees none is multiplied. Causal: of two tiles
/// of 128 queries the first takes two tiles of 64 keys, the second four. With the first 40 keys and the last 50, where
/// tiles that count do not follow one another: of three tiles of 128 queries the first takes two, the second four, the
/// third the first one and three; tiles of 128 keys take all queries, those from 128 on up to 320, and from 256 on.
#[test]
fn attention_leaves_out_masked_tiles_and_meets_every_bank_once() {
    for (t, mask, queries, keys) in
        [(256, Mask::Causal(0), 2 + 4, 4 + 2), (384, Mask::Sinks(40, 50), 2 + 4 + 4, 6 + 3 + 2)]
    {
        for width in [64, 128] {
            let products = [2 * queries, 3 * queries, 4 * keys];
            for (text, products) in attention(width, t, mask).iter().zip(products) {
                let profile = profile(&kernel(text));
                assert_eq!(profile.bank_conflicts, 0, "{text}");
                assert_eq!(profile.tensor_multiply_adds, products * 128 * 64 * width, "{text}");
            }
        }
    }
}

#[test]
fn rows_are_read_in_vectors() {
    let text = r#"kernel scale "" {
  read x: bf16[65536]
  read w: f32[1024]
  write y: bf16[65536]
  var t: 64 / 1
  var d: 1024 / 1024
  grid t, d
  %0: f32[t, d] = load x[1024*t + d]
  %1: f32[d] = load w[d]
  %2: f32[t, d] = mul %0, %1
  store y[1024*t + d] = %2
}"#;
    let code = gpu::compiled(&kernel(text));
    assert_eq!((code.blocks, code.threads, code.shared_bytes), (64, 128, 0));
    for access in ["ld.global.nc.v4.b32", "st.global.v4.b32"] {
        assert!(code.ptx.contains(access), "no {access} in\n{}", code.ptx);
    }
    assert!(!code.ptx.contains(".b16 \t["), "{}", code.ptx);
}

#[test]
fn the_same_kernels_give_the_same_text() {
    let kernels = [kernel(&row_by_row(128)), kernel(&row_by_row(256))];
    for target in [GpuTarget::Sm80, GpuTarget::Sm90] {
        let [first, second] = [0, 1].map(|_| compile_ptx(&kernels, target).expect("they compile"));
        assert_eq!(first, second);
        assert!(first[0].ptx.contains(&format!(".target {}", target.name())));
    }
}

#[test]
fn what_is_not_lowered_is_refused_with_a_reason() {
    let text = row_by_row(256).replace("next %6", "next %5");
    let error = compile_ptx(&[kernel(&text)], GpuTarget::Sm80).expect_err("is refused");
    let reason =
        "kernel `linear`: it is no matrix product (its carry adds nothing to its argument)";
    assert_eq!(error.to_string(), reason);
    let wide = row_by_row(512).replace("/ 128", "/ 512");
    let error = compile_ptx(&[kernel(&wide)], GpuTarget::Sm80).expect_err("is refused");
    assert!(error.to_string().contains("registers of each thread"), "{error}");
}

/// How often each instruction that touches memory, threads or tensor cores stands in the text.
fn instructions(ptx: &str) -> String {
    const KINDS: [&str; 11] = [
        "ld.",
        "st.",
        "cp.",
        "mma",
        "ldmatrix",
        "atom",
        "red.",
        "bar",
        "shfl",
        "cvt.rn.bf16",
        "ex2",
    ];
    let mut counts = std::collections::BTreeMap::new();
    for line in ptx.lines() {
        let line = line.trim();
        let line =
            if line.starts_with('@') { line.split_once(' ').map_or("", |l| l.1) } else { line };
        let name = line.split([' ', '\t', ';']).next().unwrap_or_default();
        if KINDS.iter().any(|kind| name.starts_with(kind)) && !name.starts_with("ld.param") {
            *counts.entry(name).or_insert(0) += 1;
        }
    }
    counts.into_iter().map(|(name, count)| format!("{count:4} {name}\n")).collect()
}

#[test]
fn instructions_of_a_product() {
    let code = gpu::compiled(&kernel(&row_by_row(256)));
    let found = instructions(&code.ptx);
    let count = |name: &str| -> usize {
        let of = found.lines().filter(|l| l.contains(name));
        of.map(|l| l.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)).sum()
    };
    // Per warp 64 × 64 sums and 32 positions: 4 × 8 tiles in two steps. Copies stand in front of the
    // loop once for each stage but the last one, and in it once.
    let stages = code.shared_bytes / (2 * 128 * 32 * 2);
    assert_eq!((count("mma.sync"), count("ldmatrix")), (64, 16));
    assert_eq!(count("cp.async.cg.shared.global") as u64, 8 * stages);
    assert_eq!(count("cp.async.commit_group") as u64, stages);
    for unwanted in
        ["atom.", " red.", ".local", "ld.global.b16", "ld.global.nc.b16", "st.global.b16"]
    {
        assert_eq!(count(unwanted), 0, "{unwanted} in\n{found}");
    }
    insta::assert_snapshot!(found);
}

#[test]
fn instructions_of_a_norm() {
    let text = r#"kernel norm "" {
  read x: bf16[65536]
  read w: f32[1024]
  write y: bf16[65536]
  var t: 64 / 1
  var d: 1024 / 1024
  var e: 1024 / 1024
  grid t
  %0: f32 = 0.0
  loop d carry (%1: f32[t, d] = %0 -> %2) {
    %3: f32[t, d] = load x[1024*t + d]
    %4: f32[t, d] = mul %3, %3
    %5: f32[t, d] = add %1, %4
    next %5
  }
  %6: f32[t] = reduce sum %2 along d
  %7: f32[t] = sqrt %6
  loop e {
    %8: f32[t, e] = load x[1024*t + e]
    %9: f32[t, e] = div %8, %7
    %10: f32[e] = load w[e]
    %11: f32[t, e] = mul %9, %10
    store y[1024*t + e] = %11
  }
}"#;
    let found = instructions(&gpu::compiled(&kernel(text)).ptx);
    let global = found.lines().filter(|line| line.contains(".global"));
    assert!(
        global.clone().count() >= 2 && global.clone().all(|l| l.contains(".v4.b32")),
        "{found}"
    );
    assert!(!found.contains(".local") && !found.contains("atom"), "{found}");
    insta::assert_snapshot!(found);
}
