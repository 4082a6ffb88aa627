//! Rates of matrix products beside the peak of multiply-adds measured in the same moment.
//!
//! ```text
//! cargo bench -p gigac-codegen --bench matmul
//! GIGAC_BENCH_PYTHON=…/bin/python cargo bench -p gigac-codegen --bench matmul    # beside PyTorch
//! ```
//! Operands are `a[m, k]` and `b[k, n]`; `ta` and `tb` mark those that lie transposed. Every rate
//! is the best of a few rounds, by the wall clock, with as many threads as the machine has cores.

#[path = "matmul/peak.rs"]
mod peak;
#[path = "matmul/peer.rs"]
mod peer;

use std::thread::{available_parallelism, scope};
use std::time::Instant;

use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_ir::image::KernelFn;
use gigac_ir::kernel::{Kernel, contraction_tiles};
use memmap2::{Mmap, MmapMut};

/// `batch` products of `m × k` by `k × n`.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: u64,
    m: u64,
    n: u64,
    k: u64,
    ta: bool,
    tb: bool,
}

impl Shape {
    fn flops(self) -> f64 {
        2.0 * (self.batch * self.m * self.n * self.k) as f64
    }
}

/// Batch, m, n, k and which operands lie transposed, as a training step has them.
const SHAPES: &[(u64, u64, u64, u64, bool, bool)] = &[
    (1, 2048, 256, 256, false, true),
    (1, 2048, 688, 256, false, true),
    (1, 2048, 256, 688, false, true),
    (1, 2048, 4096, 256, false, true),
    (1, 2048, 42000, 256, false, true),
    (1, 2048, 256, 42000, false, false),
    (1, 256, 256, 2048, true, false),
    (1, 688, 256, 2048, true, false),
    (1, 42000, 256, 2048, true, false),
    (32, 256, 256, 64, false, true),
    (32, 256, 64, 256, false, false),
    (4, 2048, 2048, 64, false, true),
    (1, 256, 2304, 768, false, true),
    (1, 256, 3072, 768, false, true),
    (1, 256, 50257, 768, false, true),
    (1, 64, 176, 64, false, true),
    (1, 1024, 1024, 1024, false, false),
];

const ROUNDS: usize = 5;
/// Multiply-adds of a round: enough for a stable time.
const ROUND_FLOPS: f64 = 1e10;

fn main() {
    let threads = available_parallelism().map_or(1, |n| n.get() as u64);
    let shapes: Vec<Shape> =
        SHAPES.iter().map(|&(batch, m, n, k, ta, tb)| Shape { batch, m, n, k, ta, tb }).collect();
    let peers = peer::rates(&shapes, threads);
    println!(
        "{threads} threads, GFLOP/s\n{:>32} {:>7} {:>7} {:>6} {:>7}",
        "", "peak", "gigac", "", "torch"
    );
    for (i, shape) in shapes.iter().enumerate() {
        let Shape { batch, m, n, k, ta, tb } = *shape;
        let layout = format!("{}{}", if ta { "ta" } else { "" }, if tb { "tb" } else { "" });
        let name = format!("{batch} × {m}×{n}×{k} {layout}");
        let peak = peak::rate(threads);
        let ours = rate(*shape, threads);
        let share = 100.0 * ours / peak;
        let peer = peers.get(i).map_or(String::new(), |rate| format!("{rate:7.0}"));
        println!("{name:>32} {peak:7.0} {ours:7.0} {share:5.0}% {peer}");
    }
}

/// The kernel of a shape, with the tiles that the compiler would choose.
fn kernel(shape: Shape) -> Kernel {
    let Shape { batch, m, n, k, ta, tb } = shape;
    let tiles = contraction_tiles(batch, m, n, k);
    let a = if ta { format!("{m}*k + m") } else { format!("{k}*m + k") };
    let b = if tb { format!("{k}*n + k") } else { format!("{n}*k + n") };
    let text = format!(
        "kernel product \"\" {{
  read a: f32[{}]
  read b: f32[{}]
  write c: f32[{}]
  var i: {batch} / 1
  var m: {m} / {}
  var n: {n} / {}
  var k: {k} / {}
  grid i, m, n
  %0: f32 = 0.0
  loop k carry (%1: f32[i, m, n] = %0 -> %2) {{
    %3: f32[i, m, k] = load a[{}*i + {a}]
    %4: f32[i, n, k] = load b[{}*i + {b}]
    %5: f32[i, m, n] = dot %3, %4 along k
    %6: f32[i, m, n] = add %1, %5
    next %6
  }}
  store c[{}*i + {n}*m + n] = %2
}}",
        batch * m * k,
        batch * k * n,
        batch * m * n,
        tiles.rows,
        tiles.cols,
        tiles.depth,
        m * k,
        k * n,
        m * n,
    );
    Kernel::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// GFLOP/s of a shape.
fn rate(shape: Shape, threads: u64) -> f64 {
    let kernel = kernel(shape);
    let target = CpuTarget::host().expect("benchmarks need AVX2");
    let image = compile_cpu(&[kernel], &target).expect("the kernel is a product");
    let entry = &image.entries[0];
    let code = executable(&image.bytes);
    // SAFETY: the bytes at the entry are a function of this type, compiled for this CPU.
    let run: KernelFn = unsafe { std::mem::transmute(code.as_ptr().add(entry.offset as usize)) };
    let Shape { batch, m, n, k, .. } = shape;
    let sizes = [batch * m * k, batch * k * n, batch * m * n];
    let buffers = sizes.map(|size| vec![0.5f32; size as usize]);
    let scratch: Vec<Vec<u8>> =
        (0..threads).map(|_| vec![0; entry.scratch as usize + 64]).collect();
    let turns = (ROUND_FLOPS / shape.flops()).clamp(1.0, 1000.0) as u64;
    let points = entry.grid_points;
    let round = || {
        let start = Instant::now();
        scope(|scope| {
            for (thread, scratch) in (0..threads).zip(&scratch) {
                let buffers = &buffers;
                scope.spawn(move || {
                    let addresses = buffers.each_ref().map(|b| b.as_ptr().cast_mut().cast::<u8>());
                    let scratch = scratch.as_ptr().cast_mut();
                    let scratch = scratch.wrapping_add(scratch.align_offset(64));
                    let share = |t: u64| points * t / threads;
                    for _ in 0..turns {
                        // SAFETY: buffers and scratch are as large as the kernel says, and no
                        // two threads write the same elements.
                        unsafe {
                            run(
                                addresses.as_ptr(),
                                std::ptr::null(),
                                share(thread),
                                share(thread + 1),
                                scratch,
                            );
                        }
                    }
                });
            }
        });
        start.elapsed().as_secs_f64()
    };
    let best = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
    shape.flops() * turns as f64 / best / 1e9
}

fn executable(bytes: &[u8]) -> Mmap {
    let mut map = MmapMut::map_anon(bytes.len()).expect("memory for code");
    map.copy_from_slice(bytes);
    map.make_exec().expect("memory may become executable")
}
