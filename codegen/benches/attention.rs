//! Rates of attention beside the peak of multiply-adds measured in the same moment.
//!
//! ```text
//! cargo bench -p gigac-codegen --bench attention
//! cargo bench -p gigac-codegen --bench attention -- 64 128          # tiles of queries and keys
//! GIGAC_BENCH_PYTHON=…/bin/python cargo bench -p gigac-codegen --bench attention  # and PyTorch
//! ```
//! Times are the best of a few rounds, by the wall clock, with as many threads as the machine has
//! cores. GFLOP/s count two products forward and five backward, causal ones by half; the share of
//! the peak counts whole tiles, also where blocks of them are left out.

#[path = "../tests/support/attention.rs"]
mod attention;
#[path = "matmul/peak.rs"]
mod peak;
#[path = "attention/peer.rs"]
mod peer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use attention::{Attention, Mask};
use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_ir::image::{ALIGNMENT, KernelFn};
use gigac_ir::kernel::{AttentionKernel, Kernel, Machine};
use memmap2::{Mmap, MmapMut};

/// `b` batches of `h` heads of width `c` over `t` positions.
#[derive(Clone, Copy, Debug)]
struct Shape {
    b: u64,
    h: u64,
    t: u64,
    c: u64,
    causal: bool,
}

const SHAPES: &[(u64, u64, u64, u64, bool)] = &[
    (8, 4, 256, 64, true),
    (4, 8, 512, 64, true),
    (1, 4, 2048, 64, true),
    (4, 8, 1024, 64, true),
    (4, 8, 512, 64, false),
    (1, 8, 1024, 128, true),
    (4, 12, 64, 64, true),
    (2, 4, 500, 80, true),
];

const ROUNDS: usize = 5;
/// Multiply-adds of a round: enough for a stable time.
const ROUND_FLOPS: f64 = 5e9;
/// Chunks of grid points for each thread, as the runtime hands them out.
const CHUNKS: u64 = 4;

fn main() {
    let threads = available_parallelism().map_or(1, |n| n.get() as u64);
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let given = if let [t, s] = numbers[..] { Some([t, s]) } else { None };
    let shapes: Vec<Shape> =
        SHAPES.iter().map(|&(b, h, t, c, causal)| Shape { b, h, t, c, causal }).collect();
    let peers = peer::times(&shapes, threads);
    println!(
        "{threads} threads\n{:>26} {:>8} {:>8} {:>7} {:>6} {:>8}",
        "", "ms", "GFLOP/s", "peak", "share", "torch ms"
    );
    for (i, shape) in shapes.iter().enumerate() {
        for (pass, products) in [("forward", 2.0), ("backward", 5.0)] {
            let kernel = match pass {
                "forward" => AttentionKernel::Forward,
                _ => AttentionKernel::Backward,
            };
            let chosen = Machine::Cpu.attention(kernel, [shape.t; 2], shape.c);
            let tiles = given.unwrap_or([chosen.queries, chosen.keys]);
            let (name, rate) = run(*shape, tiles, pass, products, threads);
            let peer = peers.get(i).map_or(String::new(), |p| {
                format!("{:8.3}", p[usize::from(pass == "backward")] * 1e3)
            });
            println!("{name:>26} {rate} {peer}");
        }
    }
}

/// The name of a measurement and its figures.
fn run(shape: Shape, tiles: [u64; 2], pass: &str, products: f64, threads: u64) -> (String, String) {
    let Shape { b, h, t, c, causal } = shape;
    let mask = if causal { Mask::Causal(0) } else { Mask::Full };
    let attention = Attention::heads(b, h, t, c, tiles, mask);
    let text = if pass == "forward" { attention.forward() } else { attention.backward() };
    let all = products * 2.0 * (b * h * t * t * c) as f64;
    let useful = if causal { all / 2.0 } else { all };
    let computed = all * computed_share(shape, tiles);
    let peak = peak::rate(threads, CpuTarget::host().expect("benchmarks need AVX2").lanes());
    let seconds = time(&text, computed, threads);
    let share = 100.0 * computed / seconds / 1e9 / peak;
    let rate = useful / seconds / 1e9;
    let name = format!("{pass} {b}·{h} {t} {c}{}", if causal { " causal" } else { "" });
    (name, format!("{:8.3} {rate:8.0} {peak:7.0} {share:5.0}%", seconds * 1e3))
}

/// The share of pairs of positions in tiles that are not masked throughout.
fn computed_share(shape: Shape, tiles: [u64; 2]) -> f64 {
    if !shape.causal {
        return 1.0;
    }
    let size = |i: u64, tile: u64| tile.min(shape.t - i * tile);
    let rows = 0..shape.t.div_ceil(tiles[0]);
    let pairs = rows.flat_map(|i| {
        let last = i * tiles[0] + size(i, tiles[0]) - 1;
        (0..=last / tiles[1]).map(move |j| size(i, tiles[0]) * size(j, tiles[1]))
    });
    pairs.sum::<u64>() as f64 / (shape.t * shape.t) as f64
}

/// Seconds of one launch.
fn time(text: &str, flops: f64, threads: u64) -> f64 {
    let kernel = Kernel::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let target = CpuTarget::host().expect("benchmarks need AVX2");
    let image = compile_cpu(std::slice::from_ref(&kernel), &target).expect("it is a block program");
    let entry = &image.entries[0];
    let code = executable(&image.bytes);
    // SAFETY: the bytes at the entry are a function of this type, compiled for this CPU.
    let run: KernelFn = unsafe { std::mem::transmute(code.as_ptr().add(entry.offset as usize)) };
    let random = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 8_388_608.0 - 1.0;
    let buffers: Vec<Vec<f32>> = kernel
        .buffers
        .iter()
        .map(|b| {
            (0..b.elements).map(|i| random(i) + if b.name == "lse" { 6.0 } else { 0.0 }).collect()
        })
        .collect();
    let scratch: Vec<Vec<u8>> =
        (0..threads).map(|_| vec![0; entry.scratch as usize + 64]).collect();
    let (points, turns) = (entry.grid_points, (ROUND_FLOPS / flops).clamp(1.0, 1000.0) as u64);
    let chunk = (points / (threads * CHUNKS)).max(1);
    let next: Vec<AtomicU64> = (0..turns).map(|_| AtomicU64::new(0)).collect();
    let round = || {
        next.iter().for_each(|n| n.store(0, Ordering::SeqCst));
        let start = Instant::now();
        scope(|scope| {
            for scratch in &scratch {
                let (buffers, next) = (&buffers, &next);
                scope.spawn(move || {
                    let addresses: Vec<*mut u8> =
                        buffers.iter().map(|b| b.as_ptr().cast_mut().cast::<u8>()).collect();
                    let scratch = scratch.as_ptr().cast_mut();
                    let scratch = scratch.wrapping_add(scratch.align_offset(64));
                    for next in next {
                        // SAFETY: every launch begins with a zeroed header.
                        unsafe { scratch.write_bytes(0, ALIGNMENT as usize) };
                        loop {
                            let first = next.fetch_add(chunk, Ordering::SeqCst);
                            if first >= points {
                                break;
                            }
                            let last = (first + chunk).min(points);
                            // SAFETY: buffers and scratch are as large as the kernel says, and no
                            // two threads write the same elements.
                            unsafe {
                                run(addresses.as_ptr(), std::ptr::null(), first, last, scratch);
                            }
                        }
                    }
                });
            }
        });
        start.elapsed().as_secs_f64() / turns as f64
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn executable(bytes: &[u8]) -> Mmap {
    let mut map = MmapMut::map_anon(bytes.len()).expect("memory for code");
    map.copy_from_slice(bytes);
    map.make_exec().expect("memory may become executable")
}
