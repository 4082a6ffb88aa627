//! Rates of matrix products beside the peak of multiply-adds measured in the same moment.
//!
//! ```text
//! cargo bench -p gigac-codegen --bench matmul
//! GIGAC_BENCH_PYTHON=…/bin/python cargo bench -p gigac-codegen --bench matmul    # beside PyTorch
//! GIGAC_BENCH_TARGET=avx2 cargo bench -p gigac-codegen --bench matmul            # AVX2 code
//! GIGAC_BENCH_ONLY=6,9 cargo bench -p gigac-codegen --bench matmul               # these rows alone
//! ```
//! Operands are `a[m, k]` and `b[k, n]`; `ta` and `tb` mark those that lie transposed. Every rate
//! is the best of some rounds, by the wall clock, with as many threads as the machine has cores;
//! `memory` is with operands that no cache holds, as most are in a training step.

#[path = "matmul/peak.rs"]
mod peak;
#[path = "matmul/peer.rs"]
mod peer;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_ir::image::{ALIGNMENT, KernelFn};
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
    (1, 4096, 256, 2048, true, false),
    (1, 42000, 256, 2048, true, false),
    (1, 2048, 512, 512, false, true),
    (1, 2048, 1376, 512, false, true),
    (1, 2048, 512, 1376, false, true),
    (1, 2048, 8192, 512, false, true),
    (1, 512, 512, 2048, true, false),
    (1, 1376, 512, 2048, true, false),
    (1, 8192, 512, 2048, true, false),
    (32, 256, 256, 64, false, true),
    (32, 256, 64, 256, false, false),
    (4, 2048, 2048, 64, false, true),
    (1, 256, 2304, 768, false, true),
    (1, 256, 3072, 768, false, true),
    (1, 256, 50257, 768, false, true),
    (1, 64, 176, 64, false, true),
    (1, 1024, 1024, 1024, false, false),
];

const ROUNDS: usize = 25;
/// Bytes of operands and results that launches take in turns, so that caches do not hold them.
const COLD_BYTES: u64 = 384 << 20;
/// Multiply-adds of a round: enough for a stable time.
const ROUND_FLOPS: f64 = 3e9;

fn main() {
    let threads = available_parallelism().map_or(1, |n| n.get() as u64);
    let only = std::env::var("GIGAC_BENCH_ONLY").unwrap_or_default();
    let asked = |i: usize| only.is_empty() || only.split(',').any(|o| o.parse() == Ok(i));
    let shapes = SHAPES.iter().enumerate().filter(|(i, _)| asked(*i)).map(|(_, shape)| shape);
    let shapes: Vec<Shape> =
        shapes.map(|&(batch, m, n, k, ta, tb)| Shape { batch, m, n, k, ta, tb }).collect();
    let target = match std::env::var("GIGAC_BENCH_TARGET").as_deref() {
        Ok("avx2") => CpuTarget::x86_64_v3(),
        _ => CpuTarget::host().expect("benchmarks need AVX2"),
    };
    let peers = [false, true].map(|cold| peer::rates(&shapes, threads, cold));
    println!(
        "{threads} threads, GFLOP/s\n{:>32} {:>7} {:>7} {:>6} {:>7} {:>7} {:>7}",
        "", "peak", "gigac", "", "memory", "torch", "memory"
    );
    for (i, shape) in shapes.iter().enumerate() {
        let Shape { batch, m, n, k, ta, tb } = *shape;
        let layout = format!("{}{}", if ta { "ta" } else { "" }, if tb { "tb" } else { "" });
        let name = format!("{batch} × {m}×{n}×{k} {layout}");
        let peak = peak::rate(threads, target.lanes());
        let [hot, cold] = [false, true].map(|cold| rate(*shape, &target, threads, cold));
        let share = 100.0 * hot / peak;
        let peer = |rates: &Vec<f64>| rates.get(i).map_or(String::new(), |r| format!("{r:7.0}"));
        let [peer_hot, peer_cold] = peers.each_ref().map(peer);
        println!("{name:>32} {peak:7.0} {hot:7.0} {share:5.0}% {cold:7.0} {peer_hot} {peer_cold}");
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
  grid i, n, m
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
fn rate(shape: Shape, target: &CpuTarget, threads: u64, cold: bool) -> f64 {
    let kernel = kernel(shape);
    let image = compile_cpu(&[kernel], target).expect("the kernel is a product");
    let entry = &image.entries[0];
    let code = executable(&image.bytes);
    // SAFETY: the bytes at the entry are a function of this type, compiled for this CPU.
    let run: KernelFn = unsafe { std::mem::transmute(code.as_ptr().add(entry.offset as usize)) };
    let Shape { batch, m, n, k, .. } = shape;
    let sizes = [batch * m * k, batch * k * n, batch * m * n];
    let bytes = 4 * sizes.iter().sum::<u64>();
    let sets = if cold { (COLD_BYTES / bytes).max(1) } else { 1 };
    let sets: Vec<[MmapMut; 3]> = (0..sets).map(|_| sizes.map(|size| memory(4 * size))).collect();
    let scratch: Vec<MmapMut> =
        (0..threads).map(|_| memory(entry.scratch.max(ALIGNMENT))).collect();
    let turns = (ROUND_FLOPS / shape.flops()).clamp(1.0, 1000.0) as u64;
    let launches: Vec<Launch> = (0..turns).map(|_| Launch::default()).collect();
    let round = |number: usize| {
        launches.iter().for_each(Launch::reset);
        let start = Instant::now();
        scope(|scope| {
            for scratch in &scratch {
                let (sets, launches) = (&sets, &launches);
                scope.spawn(move || {
                    let scratch = scratch.as_ptr().cast_mut();
                    for (launch, buffers) in
                        launches.iter().zip(sets.iter().cycle().skip(number * launches.len()))
                    {
                        let addresses = buffers.each_ref().map(|b| b.as_ptr().cast_mut());
                        // SAFETY: every launch begins with a zeroed header.
                        unsafe { scratch.write_bytes(0, ALIGNMENT as usize) };
                        launch.run(entry.grid_points, threads, |first, last| {
                            // SAFETY: buffers and scratch are as large as the kernel says, and no
                            // two threads write the same elements.
                            unsafe {
                                run(addresses.as_ptr(), std::ptr::null(), first, last, scratch);
                            }
                        });
                    }
                });
            }
        });
        start.elapsed().as_secs_f64()
    };
    let best = (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min);
    shape.flops() * turns as f64 / best / 1e9
}

/// One launch: threads share its points as the executor's do, and wait for each other in the end.
#[derive(Default)]
struct Launch {
    next: AtomicU64,
    done: AtomicU64,
}

impl Launch {
    fn reset(&self) {
        self.next.store(0, SeqCst);
        self.done.store(0, SeqCst);
    }

    fn run(&self, points: u64, threads: u64, body: impl Fn(u64, u64)) {
        let chunk = |first: u64| ((points - first) / (2 * threads)).max(1);
        let next = |first| (first < points).then(|| first + chunk(first));
        while let Ok(first) = self.next.fetch_update(SeqCst, SeqCst, next) {
            body(first, first + chunk(first));
        }
        self.done.fetch_add(1, SeqCst);
        while self.done.load(SeqCst) < threads {
            std::hint::spin_loop();
        }
    }
}

/// Memory in huge pages, as the executor's arena has it, with finite numbers in it.
fn memory(bytes: u64) -> MmapMut {
    let mut map = MmapMut::map_anon(bytes as usize).expect("memory for operands");
    map.advise(memmap2::Advice::HugePage).expect("advice on memory of our own");
    map.fill(0x3f);
    map
}

fn executable(bytes: &[u8]) -> Mmap {
    let mut map = MmapMut::map_anon(bytes.len()).expect("memory for code");
    map.copy_from_slice(bytes);
    map.make_exec().expect("memory may become executable")
}
