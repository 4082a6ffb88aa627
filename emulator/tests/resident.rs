//! How little memory a launch takes. Alone in its process, because it asks the system.
#![cfg(target_os = "linux")]

use std::sync::Arc;

use gigac_emulator::{Launch, Module};

fn module(body: &str) -> Module {
    let text = format!(
        ".version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 data) {{
.reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
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

/// The largest resident memory of this process so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find(|l| l.starts_with("VmHWM")).expect("VmHWM");
    1024 * line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("kilobytes")
}

/// Memory follows what is touched: neither the size of the grid nor that of the buffers.
#[test]
fn memory_is_bounded_by_what_is_touched() {
    let big = module(
        "mov.u32 %r1, %ctaid.x; mul.wide.u32 %rd2, %r1, 4096; add.s64 %rd2, %rd1, %rd2; ld.global.u32 %r2, [%rd2]; st.global.u32 [%rd2+4], %r2;",
    );
    let before = peak();
    let fill = Arc::new(|offset: u64, bytes: &mut [u8]| bytes.fill((offset >> 16) as u8));
    let last = (32 << 30) / 4096 - 1;
    let report = Launch::new(&big, "k")
        .grid([last as u32 + 1, 1, 1])
        .lazy_buffer("weights", 32 << 30, fill)
        .only_blocks(vec![0, 4000, last])
        .run()
        .expect("a launch");
    assert_eq!((report.findings.as_slice(), report.blocks, report.pages.len()), (&[][..], 3, 3));
    let taken = peak() - before;
    assert!(taken < 64 << 20, "{taken} bytes for three blocks of 32 GiB");

    let small = module(
        "mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 99999; @%p1 st.global.u32 [%rd1], %r1;",
    );
    let before = peak();
    let launch = Launch::new(&small, "k").grid([100_000, 1, 1]).buffer("data", vec![0; 4]);
    let report = launch.run().expect("a launch");
    assert_eq!((report.blocks, report.buffer("data")), (100_000, Some(&words(&[99999])[..])));
    let taken = peak() - before;
    assert!(taken < 64 << 20, "{taken} bytes for a grid of 100 000 blocks");

    // Blocks that follow one another, each with what the one before left: its knowledge is about all of them.
    let chain = module(
        "atom.global.add.u32 %r1, [%rd1], 0; membar.gl; ld.global.u32 %r2, [%rd1+4]; add.u32 %r2, %r2, 1; st.global.u32 [%rd1+4], %r2;
         membar.gl; red.global.add.u32 [%rd1], 1;",
    );
    let before = peak();
    let launch = Launch::new(&chain, "k").grid([200_000, 1, 1]).buffer("data", vec![0; 8]);
    let report = launch.threads(1).run().expect("a launch");
    assert_eq!(report.findings, []);
    assert_eq!(report.buffer("data"), Some(&words(&[200_000, 200_000])[..]));
    let taken = peak() - before;
    assert!(taken < 256 << 20, "{taken} bytes for a chain of 200 000 blocks");
}
