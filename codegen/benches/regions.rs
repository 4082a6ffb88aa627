//! Bandwidth of region kernels on all cores.
//!
//! ```text
//! cargo bench -p gigac-codegen --bench regions
//! GIGAC_BENCH_PYTHON=…/bin/python cargo bench -p gigac-codegen --bench regions    # beside PyTorch
//! ```
//! Prints GB/s: bytes of all arguments read and written once, over the fastest time. Arrays of 64 MB
//! and more show what memory gives, arrays of 256 KB, on one thread, what the second cache gives; on
//! this machine's instruction set and on AVX2. First comes a triad in Rust, the machine's measure.

#[path = "regions/peer.rs"]
mod peer;
#[path = "../tests/support/mod.rs"]
mod support;

use std::thread::{available_parallelism, scope};
use std::time::Instant;

use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_ir::kernel::{Access, Kernel};
use support::{Aligned, Code, content, kernel, targets};

const KERNELS: [&str; 12] = [
    include_str!("regions/triad.kernel"),
    include_str!("regions/adamw.kernel"),
    include_str!("regions/swiglu.kernel"),
    include_str!("regions/swiglu_grad.kernel"),
    include_str!("regions/rope.kernel"),
    include_str!("regions/rms_norm.kernel"),
    include_str!("regions/rms_norm_grad.kernel"),
    include_str!("regions/softmax.kernel"),
    include_str!("regions/cross_entropy.kernel"),
    include_str!("regions/column_sums.kernel"),
    include_str!("regions/gather.kernel"),
    include_str!("regions/scatter.kernel"),
];

/// Sizes of large arrays, and of the small ones that replace them.
const SMALL: [[&str; 2]; 7] = [
    ["16777216", "65536"],
    ["16384 / 1", "64 / 1"],
    ["i32[16384] below 16384", "i32[64] below 64"],
    ["b: 8 / 1", "b: 1 / 1"],
    ["t: 2048 / 1", "t: 64 / 1"],
    ["21504000", "84000"],
    ["r: 512 / 1", "r: 2 / 1"],
];

/// Turns of each measurement.
const TURNS: usize = 15;

fn main() {
    let threads = available_parallelism().map_or(1, usize::from);
    let kernels: Vec<Kernel> = KERNELS.iter().map(|text| kernel(text)).collect();
    let names: Vec<String> = kernels.iter().map(|k| k.name.clone()).collect();
    let peers = peer::times(&names, threads);
    println!("{threads} threads, GB/s; a triad in Rust has {:.1}", stream(threads));
    let targets = targets();
    for target in &targets {
        println!("{target:?}: {:.1} ms to compile a kernel", compile_seconds(target) * 1e3);
    }
    let columns = targets.iter().map(|_| format!("{:>8} {:>8}", "memory", "cache"));
    let columns: Vec<String> = columns.collect();
    println!("{:>14} {}   torch compiled", "", columns.join(" "));
    for (i, (large, text)) in kernels.iter().zip(KERNELS).enumerate() {
        let small = SMALL.iter().fold(text.to_owned(), |text, [a, b]| text.replace(a, b));
        let small = kernel(&small);
        print!("{:>14}", large.name);
        for target in &targets {
            let [memory, cache] = [(large, threads), (&small, 1)]
                .map(|(kernel, threads)| bytes(kernel) / seconds(kernel, target, threads) / 1e9);
            print!(" {memory:8.1} {cache:8.1}");
        }
        let rate = |seconds: &f64| format!(" {:8.1}", bytes(large) / seconds / 1e9);
        println!("{}", peers.get(i).map_or(String::new(), |p| p.iter().map(rate).collect()));
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

fn stream(threads: usize) -> f64 {
    let size = 1 << 24;
    let (a, b, mut y) = (vec![1.0f32; size], vec![2.0f32; size], vec![0.0f32; size]);
    let part = size.div_ceil(threads);
    let seconds = fastest(TURNS, || {
        scope(|scope| {
            for ((y, a), b) in y.chunks_mut(part).zip(a.chunks(part)).zip(b.chunks(part)) {
                scope.spawn(move || {
                    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                        *y = a + 3.0 * b;
                    }
                });
            }
        });
        std::hint::black_box(&mut y);
    });
    (12 * size) as f64 / seconds / 1e9
}

/// Bytes that a kernel must move.
fn bytes(kernel: &Kernel) -> f64 {
    let each = kernel.buffers.iter().map(|buffer| {
        let times = match buffer.access {
            Access::Local => 0,
            Access::ReadWrite => 2,
            Access::Read | Access::Write => 1,
        };
        times * buffer.elements * buffer.storage.bytes()
    });
    each.sum::<u64>() as f64
}

fn seconds(kernel: &Kernel, target: &CpuTarget, threads: usize) -> f64 {
    let image = compile_cpu(std::slice::from_ref(kernel), target).unwrap_or_else(|e| panic!("{e}"));
    let code = Code::load(image);
    let passed = kernel.buffers.iter().filter(|b| b.access != Access::Local);
    let memory = passed.zip(content(kernel)).map(|(buffer, numbers)| {
        let mut memory = Aligned::zeroed((buffer.elements * buffer.storage.bytes()) as usize);
        let positive: Vec<f64> = numbers.iter().map(|x| x.abs()).collect();
        memory.write(buffer.storage, &positive);
        memory
    });
    let memory: Vec<Aligned> = memory.collect();
    let entry = &code.image.entries[0];
    let turns = if bytes(kernel) < 1e7 { 20 * TURNS } else { TURNS };
    let run = |thread: usize| {
        let pointers: Vec<*mut u8> = memory.iter().map(Aligned::pointer).collect();
        let point = |part: usize| entry.grid_points * part as u64 / threads as u64;
        code.run(entry, &pointers, &[], (point(thread), point(thread + 1)));
    };
    fastest(turns, || match threads {
        1 => run(0),
        _ => scope(|scope| (0..threads).for_each(|thread| drop(scope.spawn(move || run(thread))))),
    })
}
