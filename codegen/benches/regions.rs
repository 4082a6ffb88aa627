//! Bandwidth of region kernels, one thread: `cargo bench -p gigac-codegen --bench regions`.
//!
//! Prints GB/s (bytes of all arguments read and written once, over the fastest time) for arrays of
//! 64 MB and for arrays of 256 KB, which stay in the second cache, on this machine's instruction
//! set and on AVX2, beside the number of a triad in Rust, which is what memory gives.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_ir::kernel::{Access, Kernel};
use support::{Aligned, Code, content, kernel, targets};

const KERNELS: [&str; 5] = [
    include_str!("regions/triad.kernel"),
    include_str!("regions/adamw.kernel"),
    include_str!("regions/silu.kernel"),
    include_str!("regions/rms_norm.kernel"),
    include_str!("regions/softmax.kernel"),
];

/// Turns of each measurement.
const TURNS: usize = 15;

fn main() {
    println!("{:>10} {:>8.2} GB/s  triad in Rust", "memory", stream());
    for target in targets() {
        println!("{:?}: {:.1} ms to compile a kernel", target, compile_seconds(&target) * 1e3);
        for text in KERNELS {
            let small = text.replace("16777216", "65536").replace("16384 / 1", "64 / 1");
            let (large, small) = (kernel(text), kernel(&small));
            let [memory, cache] = [&large, &small].map(|kernel| bandwidth(kernel, &target));
            println!("{:>10} {memory:>8.2} GB/s, {cache:>8.2} in cache", large.name);
        }
    }
}

/// Seconds to compile one kernel of many, all of these in turn.
fn compile_seconds(target: &CpuTarget) -> f64 {
    let count = 60;
    let named = |i: usize| Kernel { name: format!("k{i}"), ..kernel(KERNELS[i % KERNELS.len()]) };
    let kernels: Vec<Kernel> = (0..count).map(named).collect();
    let start = Instant::now();
    compile_cpu(&kernels, target).unwrap_or_else(|e| panic!("{e}"));
    start.elapsed().as_secs_f64() / count as f64
}

/// Seconds that a function takes: the fastest turn, as other work disturbs the rest.
fn fastest(turns: usize, mut run: impl FnMut()) -> f64 {
    let seconds = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..turns).map(seconds).fold(f64::INFINITY, f64::min)
}

fn stream() -> f64 {
    let size = 1 << 24;
    let (a, b, mut y) = (vec![1.0f32; size], vec![2.0f32; size], vec![0.0f32; size]);
    let seconds = fastest(TURNS, || {
        for ((y, a), b) in y.iter_mut().zip(&a).zip(&b) {
            *y = a + 3.0 * b;
        }
        std::hint::black_box(&mut y);
    });
    (12 * size) as f64 / seconds / 1e9
}

fn bandwidth(kernel: &Kernel, target: &CpuTarget) -> f64 {
    let image = compile_cpu(std::slice::from_ref(kernel), target).unwrap_or_else(|e| panic!("{e}"));
    let code = Code::load(image);
    let mut bytes = 0;
    let memory = kernel.buffers.iter().zip(content(kernel)).map(|(buffer, numbers)| {
        let size = buffer.elements * buffer.storage.bytes();
        bytes += size * if buffer.access == Access::ReadWrite { 2 } else { 1 };
        let mut memory = Aligned::zeroed(size as usize);
        let positive: Vec<f64> = numbers.iter().map(|x| x.abs()).collect();
        memory.write(buffer.storage, &positive);
        memory
    });
    let memory: Vec<Aligned> = memory.collect();
    let pointers: Vec<*mut u8> = memory.iter().map(Aligned::pointer).collect();
    let entry = &code.image.entries[0];
    let turns = if bytes < 1 << 24 { 20 * TURNS } else { TURNS };
    let seconds = fastest(turns, || code.run(entry, &pointers, &[], (0, entry.grid_points)));
    bytes as f64 / seconds / 1e9
}
