//! The kernels of a step of 29 billion parameters, as they are: some blocks of each family run over memory that exists where
//! it is touched, beside the kernel interpreter, for products in f64, for attention in exact arithmetic with bounds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gigac::compile::{self, Request};
use gigac_cost::work::Work;
use gigac_emulator::{Filler, Launch, Module, Report, Schedule};
use gigac_ir::kernel::{Access, Arithmetic, Buffer, Expr, Kernel, Sparse, Stmt, Storage, VarId};
use gigac_ir::plan::Item;
use gigac_passes::driver::Alone;
use gigac_passes::pass::{Purpose, Stage};
use gigac_passes::pipeline::{self, PIPELINE};
use half::bf16;

use crate::bound::{Bounded, bounded};
use crate::{a100, additions, gpu, is_attention, tolerance, unnamed};

/// A kernel, and the last turns of the loops around one of its launches.
struct Launched {
    kernel: Kernel,
    scalars: Vec<i64>,
}

/// The kernels that the training step of the largest model launches.
fn launched() -> Vec<Launched> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/gigachat-pro-29b.giga");
    let request = Request::read(&path, &[], a100()).expect("shipped models are right");
    let phases = compile::checked(&request).expect("shipped models are right");
    let (source, options) = (phases[0].source(), &request.options);
    let end = PIPELINE.len();
    let Stage::Placed(placed) = pipeline::compile(source, Purpose::Step, options, end, &mut Alone)
    else {
        unreachable!("the pipeline ends with a plan")
    };
    let mut scalars = BTreeMap::new();
    last_turns(&placed.plan.items, &mut Vec::new(), &mut scalars);
    let with = |(i, kernel)| Some(Launched { kernel, scalars: scalars.remove(&(i as u32))? });
    placed.kernels.into_iter().enumerate().filter_map(with).collect()
}

fn last_turns(items: &[Item], turns: &mut Vec<u64>, found: &mut BTreeMap<u32, Vec<i64>>) {
    for item in items {
        match item {
            Item::Launch { parts, .. } => found.extend(parts.iter().map(|part| {
                let last = part.scalars.iter().map(|depth| turns[*depth as usize] as i64).collect();
                (part.kernel, last)
            })),
            Item::Loop { first, count, body, .. } => {
                turns.push(first + count - 1);
                last_turns(body, turns, found);
                turns.pop();
            }
            Item::Copy { .. } => {}
        }
    }
}

/// The kernels of that step.
pub(crate) fn step() -> Vec<Kernel> {
    launched().into_iter().map(|launched| launched.kernel).collect()
}

/// What kernels that differ in numbers alone have in common.
fn family(kernel: &Kernel) -> String {
    let text = unnamed(kernel);
    let parts = text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("#")
}

/// Operations of a grid point; a byte that is read or written counts as ten.
fn work_of_a_point(kernel: &Kernel) -> f64 {
    let work = Work::of(kernel);
    let all = work.product_flops() + work.vector + 10.0 * (work.read + work.written);
    all / kernel.grid_points() as f64
}

/// Operations that a kernel's sample may take, unless one point takes more.
const BUDGET: f64 = 6e8;

/// The same for attention, of which no two blocks take the same turns.
const BUDGET_OF_ATTENTION: f64 = 6e9;

fn budget(kernel: &Kernel) -> f64 {
    if is_attention(kernel) { BUDGET_OF_ATTENTION } else { BUDGET }
}

/// The last point, the first one, one in between, and the last one along each variable: as many as
/// the budget allows.
fn points(kernel: &Kernel) -> Vec<u64> {
    let count = kernel.grid_points();
    let mut found = vec![count - 1, 0, count * 5 / 8];
    let mut stride = 1;
    for var in kernel.grid.iter().rev() {
        let tiles = kernel.var(*var).tiles();
        found.push((tiles - 1) * stride);
        stride *= tiles;
    }
    found.truncate((budget(kernel) / work_of_a_point(kernel)).max(1.0) as usize);
    let mut distinct = Vec::new();
    for point in found {
        if !distinct.contains(&point) {
            distinct.push(point);
        }
    }
    distinct
}

/// Spreads the points over the schedules. When there are fewer, and they take little, schedules
/// share them.
fn check(launched: &Launched) {
    let points = points(&launched.kernel);
    let count = gpu::SCHEDULES.len();
    let little = count as f64 * work_of_a_point(&launched.kernel) < budget(&launched.kernel);
    let runs = if little { count } else { count.min(points.len()) };
    for (i, schedule) in gpu::SCHEDULES.into_iter().take(runs).enumerate() {
        let step = runs.min(points.len());
        let own: Vec<u64> = points.iter().copied().skip(i % points.len()).step_by(step).collect();
        run(launched, schedule, own);
    }
}

/// An element of a buffer before the launch: a real in [−1, 1), an int that the buffer may hold, a
/// truth value.
fn initial(buffer: &Buffer, seed: u64, at: u64) -> f64 {
    let mut x = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed << 32);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40;
    match buffer.storage {
        Storage::F32 => f64::from((x as f64 / 8_388_608.0 - 1.0) as f32),
        Storage::Bf16 => bf16::from_f64(x as f64 / 8_388_608.0 - 1.0).to_f64(),
        Storage::I32 => (x % buffer.below.unwrap_or(2)) as f64,
        Storage::Bool => (x % 2) as f64,
    }
}

fn filler(buffer: &Buffer, seed: u64) -> Filler {
    let buffer = buffer.clone();
    Arc::new(move |offset, page| {
        let size = buffer.storage.bytes();
        let first = offset / size;
        let elements = first..first + page.len() as u64 / size;
        let content: Vec<f64> = elements.map(|at| initial(&buffer, seed, at)).collect();
        page.copy_from_slice(&gpu::bytes(buffer.storage, &content));
    })
}

/// The rows and columns of a product that the reference computes, at the first and the last corner
/// of each block: the same program with small tiles, which no sum depends on.
fn corners(kernel: &Kernel, points: &[u64]) -> (Kernel, Vec<u64>) {
    const TILE: u64 = 16;
    let mut small = kernel.clone();
    let summed = summed(&kernel.body);
    for var in kernel.grid.iter().filter(|var| !summed.contains(var)) {
        let var = &mut small.vars[var.0 as usize];
        var.tile = var.tile.min(TILE);
    }
    let corner = |point: u64, last: bool| {
        let (mut rest, mut found, mut stride) = (point, 0, 1);
        for var in kernel.grid.iter().rev() {
            let (whole, part) = (kernel.var(*var), small.var(*var));
            let first = rest % whole.tiles() * whole.tile;
            let end = (first + whole.tile).min(whole.extent);
            found += if last { end - 1 } else { first } / part.tile * stride;
            rest /= whole.tiles();
            stride *= part.tiles();
        }
        found
    };
    let both = |point: &u64| [corner(*point, false), corner(*point, true)];
    let mut found: Vec<u64> = points.iter().flat_map(both).collect();
    found.dedup();
    (small, found)
}

/// Variables that sums and maxima run along.
fn summed(body: &[Stmt]) -> Vec<VarId> {
    let of = |stmt: &Stmt| match stmt {
        Stmt::Let(_, Expr::Dot(.., var) | Expr::Reduce(.., var)) => vec![*var],
        Stmt::Loop { body, .. } => summed(body),
        _ => Vec::new(),
    };
    body.iter().flat_map(of).collect()
}

/// Runs some blocks and compares what they touched: all of it, of products the corners.
fn run(Launched { kernel, scalars }: &Launched, schedule: Schedule, points: Vec<u64>) {
    let arguments: Vec<&Buffer> =
        kernel.buffers.iter().filter(|b| b.access != Access::Local).collect();
    let product = Work::of(kernel).product_flops() > 0.0;
    // What f32 makes of large angles is part of a kernel without products.
    let ((mut reference, sampled), arithmetic) = match product {
        true => (corners(kernel, &points), Arithmetic::F64),
        false => ((kernel.clone(), points.clone()), Arithmetic::F32),
    };
    let mut bounds = Vec::new();
    if is_attention(kernel) {
        Bounded { kernel: reference, bounds } = bounded(&reference);
    }
    let all: Vec<&Buffer> =
        reference.buffers.iter().filter(|b| b.access != Access::Local).collect();
    let first = |(seed, buffer)| move |at| initial(buffer, seed, at);
    let content: Vec<_> = (0..).zip(all.iter().copied()).map(first).collect();
    let sparse = |(buffer, initial): (&&Buffer, _)| Sparse {
        elements: buffer.elements,
        initial,
        written: BTreeMap::new(),
    };
    let content = content.iter().map(|f| f as &dyn Fn(u64) -> f64);
    let mut expect: Vec<Sparse> = all.iter().zip(content).map(sparse).collect();
    reference
        .interpret_points(&sampled, &mut expect, scalars, arithmetic)
        .expect("the arguments fit");
    assert!(expect.iter().any(|buffer| !buffer.written.is_empty()), "{kernel}");

    let code = gpu::compiled(kernel);
    let module = Module::parse(&code.ptx).unwrap_or_else(|e| panic!("{e}\n{}", code.ptx));
    let mut launch = Launch::new(&module, &code.name)
        .grid([code.blocks as u32, 1, 1])
        .block([code.threads as u32, 1, 1])
        .dynamic_shared(code.shared_bytes as u32)
        .only_blocks(points);
    for (seed, buffer) in (0..).zip(&arguments) {
        let bytes = buffer.elements * buffer.storage.bytes();
        launch = launch.lazy_buffer(&buffer.name, bytes, filler(buffer, seed));
    }
    for scalar in scalars {
        launch = launch.u32(*scalar as u32);
    }
    let report = launch.schedule(schedule).run().expect("the launch fits");
    assert!(report.findings.is_empty(), "{schedule:?}: {:#?}\n{kernel}", report.findings);
    for (i, buffer) in arguments.iter().enumerate() {
        let bound = bounds.iter().find(|(of, _)| *of == i).map(|(_, bound)| &expect[*bound]);
        compare(kernel, buffer, (&expect[i], bound), &report, !product);
    }
}

/// Pages that were touched hold what was to be written, all of it, and, if that was `everything`, what
/// was there elsewhere: within bounds where there are some.
fn compare(
    kernel: &Kernel,
    buffer: &Buffer,
    (expect, bound): (&Sparse, Option<&Sparse>),
    report: &Report,
    everything: bool,
) {
    let tolerance = tolerance(buffer.storage, additions(kernel));
    let mut written = 0;
    for (_, offset, page) in report.pages.iter().filter(|page| page.0 == buffer.name) {
        let first = offset / buffer.storage.bytes();
        for (at, x) in (first..).zip(gpu::numbers(buffer.storage, page)) {
            let there = (expect.initial)(at);
            let y = expect.written.get(&at).copied();
            written += u64::from(y.is_some());
            let near = |y: f64| match bound {
                Some(bound) => (x - y).abs() <= bound.written[&at],
                None => {
                    let equal = x == y || x.is_nan() && y.is_nan();
                    equal || (x - y).abs() <= tolerance * y.abs().max(1.0)
                }
            };
            let right = y.map_or(x == there || !everything, near);
            assert!(right, "{}[{at}] is {x}, not {y:?}, before {there}, in\n{kernel}", buffer.name);
        }
    }
    assert_eq!(written, expect.written.len() as u64, "{} of\n{kernel}", buffer.name);
}

#[test]
fn families_of_the_largest_model() {
    let mut families: BTreeMap<String, Launched> = BTreeMap::new();
    for launched in launched() {
        let family = family(&launched.kernel);
        let known = families.get(&family).map_or(f64::INFINITY, |k| work_of_a_point(&k.kernel));
        if work_of_a_point(&launched.kernel) < known {
            families.insert(family, launched);
        }
    }
    assert!(families.len() > 20, "{} families", families.len());
    let attention = families.values().filter(|l| is_attention(&l.kernel)).count();
    assert_eq!(attention, 3, "forward, and the gradients of queries and of keys and values");
    families.values().for_each(check);
}
