//! How long a launch takes: a roofline with tile and wave quantisation.
//!
//! A launch has `points` pieces of work and a device `units` that take them. The fullest unit has
//! `⌈points / units⌉` of them, and the launch ends with it (**wave quantisation**). A product's
//! pieces are tiles of its result, and the last tile of a row costs as much as a whole one
//! (**tile quantisation**); where the device lists tiles, the fastest of them is taken.
//!
//! Seconds of a launch = `launch + max(compute, memory, cache)`, where
//! - compute adds up the products, at the rate of their storage, and the vector operations;
//!   a tile also takes the time of loading its operands: beside the arithmetic on GPUs, before it
//!   on CPUs, where loading is packing; an operand of several products is loaded once, and their
//!   tiles together are no larger than the largest one;
//! - memory is the different bytes over the bandwidth of memory, or over what the units that have
//!   work can load, when they are few;
//! - cache is all bytes that the grid points load and store, over the bandwidth of the last cache.
//!
//! **Kernels launched together** pay for one launch, and share the waves: the whole waves of each stand one after
//! another, what is left over of all of them is spread over the units, and nothing ends before its own longest
//! point. Bytes add up. So one launch of several kernels never takes longer than a launch of each.
//!
//! Source: S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009; quantisation:
//! NVIDIA, "Matrix Multiplication Background", section 3.

use gigac_ir::kernel::Storage;
use gigac_ir::plan::Memory;

use crate::target::{Device, Kind};
use crate::work::{Product, Work};

/// What a launch waits for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// Matrix products.
    Product,
    /// Operations on single elements.
    Vector,
    /// Bytes from and to memory.
    Memory,
    /// Bytes from and to the last cache.
    Cache,
    /// Starting at all.
    Launch,
}

impl Bound {
    /// One word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Vector => "vector",
            Self::Memory => "memory",
            Self::Cache => "cache",
            Self::Launch => "launch",
        }
    }
}

/// Seconds of a launch by what they are spent on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    /// The whole launch.
    pub seconds: f64,
    /// Products, at full waves of whole tiles.
    pub product: f64,
    /// Vector operations.
    pub vector: f64,
    /// Bytes from and to memory.
    pub memory: f64,
    /// Bytes from and to the last cache.
    pub cache: f64,
    /// What it waits for most.
    pub bound: Bound,
}

/// Seconds of copying so many bytes from one memory to another, or within one.
pub fn copy(bytes: u64, from: Memory, to: Memory, device: &Device) -> f64 {
    let bytes = bytes as f64;
    let seconds = match from == to {
        true => 2.0 * bytes / (device.bandwidth.value * device.bandwidth_share.value),
        false => bytes / device.host_bandwidth.value,
    };
    device.launch.value + seconds
}

/// The time of a launch of one kernel.
pub fn time(work: &Work, device: &Device) -> Time {
    together(&[work], device)
}

/// The time of one launch of several kernels.
pub fn together(works: &[&Work], device: &Device) -> Time {
    let product: f64 = works.iter().map(|work| products_seconds(&work.products, device)).sum();
    let vector = vector_seconds(works, device);
    let points = works.iter().map(|work| work.points).sum();
    let bytes: f64 = works.iter().map(|work| work.bytes()).sum();
    let alone = works.iter().map(|work| work.bytes() / reachable(work.points, device));
    let memory = alone.fold(bytes / reachable(points, device), f64::max);
    let moved: f64 = works.iter().map(|work| work.moved).sum();
    let cache = moved / device.cache_bandwidth.value;
    let launch = device.launch.value;
    let busy = (product + vector).max(memory).max(cache);
    let bound = [
        (product, Bound::Product),
        (vector, Bound::Vector),
        (memory, Bound::Memory),
        (cache, Bound::Cache),
        (launch, Bound::Launch),
    ];
    let bound = bound.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("five candidates").1;
    Time { seconds: launch + busy, product, vector, memory, cache, bound }
}

/// Seconds of the products of one kernel.
fn products_seconds(products: &[Product], device: &Device) -> f64 {
    match products {
        [product] => product_seconds(product, device),
        [first, others @ ..] if others.iter().all(|p| p.is_sibling(first)) => {
            siblings_seconds(products, device)
        }
        // Products that share a grid point keep its tile.
        products => products.iter().map(|p| tiled_seconds(p, p.tile, device)).sum(),
    }
}

/// Seconds of the vector operations of kernels that share waves.
fn vector_seconds(works: &[&Work], device: &Device) -> f64 {
    let units = device.units.value;
    let (mut whole, mut rest, mut longest) = (0.0, 0.0, 0.0_f64);
    for work in works {
        let points = work.points.max(1) as f64;
        let point = work.vector / points / per_unit(&device.vector, device);
        let left = points % units;
        whole += (points / units).floor() * point;
        rest += left / units * point;
        longest = longest.max(if left > 0.0 { point } else { 0.0 });
    }
    whole + longest.max(rest)
}

/// Seconds of a product, with the device's best tile for it.
fn product_seconds(product: &Product, device: &Device) -> f64 {
    let own = [product.tile];
    let tiles = device.tiles.as_ref().map_or(&own[..], |t| &t.value);
    let times = tiles.iter().map(|tile| tiled_seconds(product, *tile, device));
    times.min_by(f64::total_cmp).expect("there is a tile")
}

/// Seconds of products that share an operand, in tiles that together are no larger than the device's
/// largest: a grid point has one of each.
fn siblings_seconds(products: &[Product], device: &Device) -> f64 {
    let own = [products[0].tile];
    let tiles = device.tiles.as_ref().map_or(&own[..], |t| &t.value);
    let area = |[rows, cols]: &[u64; 2]| rows * cols;
    let most = tiles.iter().map(area).max().unwrap_or(0);
    let fit = |tile: &&[u64; 2]| area(tile) * products.len() as u64 <= most;
    let listed = device.tiles.is_some() && tiles.iter().any(|tile| fit(&tile));
    let times = tiles.iter().filter(|tile| !listed || fit(tile)).map(|tile| {
        products.iter().map(|product| tiled_seconds(product, *tile, device)).sum::<f64>()
    });
    times.min_by(f64::total_cmp).expect("there is a tile")
}

/// Seconds of a product in tiles of so many rows and columns.
fn tiled_seconds(product: &Product, [rows, cols]: [u64; 2], device: &Device) -> f64 {
    let (down, across) = (product.rows.div_ceil(rows), product.cols.div_ceil(cols));
    let points = product.batch * down * across;
    let rate = match product.storage {
        Storage::Bf16 => &device.product_bf16,
        _ => &device.product_f32,
    };
    let rate = per_unit(rate, device) * device.product_share.value;
    let depth = product.depth as f64;
    let flops = 2.0 * (rows * cols) as f64 * depth;
    let [left, right] = product.loads.map(u64::from);
    let lines = (left * rows + right * cols) as f64;
    let bytes = lines * depth * product.storage.bytes() as f64;
    let (compute, load) = (flops / rate, bytes / device.unit_bandwidth.value);
    let tile = match device.kind {
        Kind::Gpu => compute.max(load),
        Kind::Cpu => compute + load,
    };
    // A CPU computes the part of an edge tile that is there.
    let whole = (down * rows * across * cols) as f64;
    let present = match device.kind {
        Kind::Gpu => 1.0,
        Kind::Cpu => (product.rows * product.cols) as f64 / whole,
    };
    waves(points, device) * tile * present * product.share
}

/// Pieces of the fullest unit.
fn waves(points: u64, device: &Device) -> f64 {
    (points as f64 / device.units.value).ceil().max(1.0)
}

fn per_unit(rate: &crate::target::Figure, device: &Device) -> f64 {
    rate.value / device.units.value
}

/// Bytes per second that so many grid points can draw from memory.
fn reachable(points: u64, device: &Device) -> f64 {
    let busy = (points as f64).clamp(1.0, device.units.value);
    let all = device.bandwidth.value * device.bandwidth_share.value;
    all.min(busy * device.unit_bandwidth.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a100() -> Device {
        Device::named("a100").unwrap()
    }

    fn product(rows: u64, cols: u64, depth: u64, storage: Storage) -> Product {
        let (tile, loads) = ([256, 256], [true; 2]);
        Product { batch: 1, rows, cols, depth, tile, storage, share: 1.0, loads }
    }

    #[test]
    fn large_products_reach_the_measured_share() {
        let device = a100();
        // 1024 × 10240 × 5120, the shape of the measurement behind the share: 271 TFLOP/s.
        let p = product(1024, 10240, 5120, Storage::Bf16);
        let rate = p.flops() / product_seconds(&p, &device);
        assert!((0.85 * 271e12..1.01 * 271e12).contains(&rate), "{rate:e}");
        // In f32 it is sixteen times slower.
        let slow = product_seconds(&Product { storage: Storage::F32, ..p }, &device);
        assert!((slow / product_seconds(&p, &device) / 16.0 - 1.0).abs() < 0.1);
    }

    #[test]
    fn one_tile_too_many_costs_a_wave() {
        let device = a100();
        let tile = [128, 128];
        // 108 tiles fill the device once; 109 need a second wave.
        let one = tiled_seconds(&product(128, 128 * 108, 4096, Storage::Bf16), tile, &device);
        let two = tiled_seconds(&product(128, 128 * 108 + 1, 4096, Storage::Bf16), tile, &device);
        assert!((two / one - 2.0).abs() < 1e-9);
        // And a ragged tile costs a whole one.
        let ragged = tiled_seconds(&product(1, 128 * 108, 4096, Storage::Bf16), tile, &device);
        assert_eq!(ragged, one);
    }

    #[test]
    fn streaming_runs_at_the_bandwidth() {
        let device = a100();
        let work = Work { read: 1e9, written: 1e9, moved: 2e9, points: 10_000, ..Work::default() };
        let t = time(&work, &device);
        assert_eq!(t.bound, Bound::Memory);
        assert!((t.memory - 2e9 / (0.9 * 2039e9)).abs() < 1e-12);
        assert_eq!(t.seconds, t.memory + 2e-6);
        // One block alone draws what one multiprocessor can.
        let lone = time(&Work { points: 1, ..work }, &device);
        assert!((lone.memory - 2e9 / 90.2e9).abs() < 1e-9);
    }

    #[test]
    fn nothing_costs_a_launch() {
        let t = time(&Work { points: 1, ..Work::default() }, &a100());
        assert_eq!((t.seconds, t.bound), (2e-6, Bound::Launch));
    }

    /// A launch is saved, and a wave where two were half full; never is one launch slower than two.
    #[test]
    fn kernels_launched_together_share_waves() {
        let device = a100();
        let vector = |points: u64| Work { points, vector: points as f64 * 1e6, ..Work::default() };
        let seconds = |works: &[&Work]| together(works, &device).seconds;
        let (half, full) = (vector(54), vector(108));
        let wave = seconds(&[&full]) - device.launch.value;
        assert!((seconds(&[&half, &half]) - seconds(&[&full])).abs() < 1e-12);
        assert!((seconds(&[&half]) - seconds(&[&full])).abs() < 1e-12, "half a wave is a wave");
        assert!((seconds(&[&full, &half]) - device.launch.value - 2.0 * wave).abs() < 1e-12);
        for (a, b) in [(1, 1), (1, 108), (107, 3), (109, 109), (1000, 30)] {
            let (mut a, b) = (vector(a), vector(b));
            (a.read, a.moved) = (1e5 * a.points as f64, 1e6);
            a.vector *= 10.0;
            let both = seconds(&[&a, &b]);
            assert!(both <= seconds(&[&a]) + seconds(&[&b]) - device.launch.value + 1e-15);
            assert!(both >= seconds(&[&a]).max(seconds(&[&b])));
        }
    }

    #[test]
    fn an_operand_of_several_products_is_loaded_once() {
        let device = crate::target::cpu(&crate::target::CpuFacts::default());
        let first = product(512, 256, 256, Storage::F32);
        let second = Product { loads: [false, true], ..first };
        let saved = product_seconds(&first, &device) - product_seconds(&second, &device);
        // Two threads load 256 rows of 256 floats each.
        let loading = 4.0 * 256.0 * 256.0 / device.unit_bandwidth.value;
        assert!((saved / loading - 1.0).abs() < 1e-9, "{saved} {loading}");
    }

    #[test]
    fn threads_share_tiles() {
        let facts = crate::target::CpuFacts { peak: Some(200e9), ..Default::default() };
        let device = crate::target::cpu(&facts);
        let even = product(512, 256, 256, Storage::F32);
        let odd = product(768, 256, 256, Storage::F32);
        // Three equal blocks on two threads take as long as four.
        assert!(
            (product_seconds(&odd, &device) / product_seconds(&even, &device) - 2.0).abs() < 1e-9
        );
    }
}
