//! Kernels that are launched together: one entry, whose blocks are those of its parts in a row.
//!
//! A block compares its number with where the parts end, takes the arguments of its own part, and runs the code of
//! that part's kernel for the grid point that it would be alone. Parts of one kernel share its code: they come
//! to it with different arguments. The entry has the threads and the shared memory of the part that needs most;
//! threads that a part has no work for leave at once, and do not count at its barriers.

use gigac_ir::kernel::Kernel;
use inkwell::basic_block::BasicBlock;
use inkwell::values::FunctionValue;

use super::gpu::Gpu;
use super::lower::Refusal;
use super::{BLOCKS, GpuTarget, Resources, bounded, dots, parameters, refused, region};
use crate::CodegenError;
use crate::llvm::emit::Value;

/// Threads that a multiprocessor has room for at least: 128 registers each.
const RESIDENT: u64 = 512;

/// The code of a kernel among the parts, and who comes to it.
struct Body<'k, 'c> {
    kernel: &'k Kernel,
    code: FunctionValue<'c>,
    threads: u64,
    /// Blocks of the entry that go on here, and with what arguments.
    arrivals: Vec<(BasicBlock<'c>, Vec<Value<'c>>)>,
}

/// Emits the entry of several kernels.
pub(super) fn lower(
    gpu: &Gpu<'_>,
    name: &str,
    parts: &[&Kernel],
    target: GpuTarget,
) -> Result<Resources, CodegenError> {
    let blocks: u64 = parts.iter().map(|kernel| kernel.grid_points()).sum();
    if blocks > BLOCKS {
        let what = format!("{blocks} grid points are more than a launch has");
        return Err(CodegenError::Unsupported { kernel: name.to_owned(), what });
    }
    let mut threads = 0;
    for kernel in parts {
        threads = threads.max(threads_of(kernel).map_err(refused(kernel))?);
    }
    let (bodies, shared) = bodies(gpu, parts, target, threads)?;
    entry(gpu, name, parts, bodies, threads);
    Ok(Resources { threads, shared })
}

/// Threads of a part. Blocks of products have other shapes, and take more than others can spare.
fn threads_of(kernel: &Kernel) -> Result<u64, Refusal> {
    bounded(kernel)?;
    match dots(&kernel.body) {
        0 => region::threads(kernel),
        _ => Err("it multiplies matrices, and is not launched together with others".to_owned()),
    }
}

/// The different kernels among the parts, and the shared memory of the one that needs most.
fn bodies<'k, 'c>(
    gpu: &Gpu<'c>,
    parts: &[&'k Kernel],
    target: GpuTarget,
    of_block: u64,
) -> Result<(Vec<Body<'k, 'c>>, u64), CodegenError> {
    let (mut bodies, mut most): (Vec<Body<'k, 'c>>, u64) = (Vec::new(), 0);
    for kernel in parts.iter().copied() {
        if bodies.iter().all(|body| body.kernel.name != kernel.name) {
            let emitted = region::lower_part(gpu, kernel, target, of_block);
            let Resources { threads, shared } = emitted.map_err(refused(kernel))?;
            let code = gpu.module.get_function(&kernel.name).expect("it was just emitted");
            most = most.max(shared);
            bodies.push(Body { kernel, code, threads, arrivals: Vec::new() });
        }
    }
    Ok((bodies, most))
}

/// The entry: every block finds its part, and with it a body.
fn entry<'c>(
    gpu: &Gpu<'c>,
    name: &str,
    parts: &[&Kernel],
    mut bodies: Vec<Body<'_, 'c>>,
    threads: u64,
) {
    let all: Vec<_> = parts.iter().flat_map(|kernel| parameters(gpu, kernel)).collect();
    let function = gpu.kernel(name, &all, threads);
    // Left alone, `ptxas` spills a few addresses to fit in more.
    gpu.resident(function, (RESIDENT / threads).max(1));
    let (block, mut given) = (gpu.block_number(), function.get_param_iter());
    let entries: Vec<_> = bodies.iter().map(|_| gpu.block("body")).collect();
    let mut first = 0;
    for (i, kernel) in parts.iter().enumerate() {
        let of_kernel = |body: &Body<'_, '_>| body.kernel.name == kernel.name;
        let body = bodies.iter().position(of_kernel).expect("a body for every kernel");
        let end = first + kernel.grid_points();
        let (found, next) = (gpu.block("part"), gpu.block("next"));
        if i + 1 < parts.len() {
            gpu.branch(gpu.below(block, gpu.i32(end)), found, next);
        } else {
            gpu.jump(found);
        }
        gpu.enter(found);
        let mut arguments: Vec<Value> =
            given.by_ref().take(parameters(gpu, kernel).len()).collect();
        arguments.push(gpu.plus_constant(block, -(first as i64)).into());
        gpu.jump(entries[body]);
        bodies[body].arrivals.push((found, arguments));
        gpu.enter(next);
        first = end;
    }
    gpu.unreachable();
    for (body, entry) in bodies.iter().zip(entries) {
        gpu.enter(entry);
        run(gpu, body, threads);
    }
}

/// Runs a body with the arguments of whoever came, in the threads that it has work for.
fn run<'c>(gpu: &Gpu<'c>, body: &Body<'_, 'c>, of_block: u64) {
    let arguments = |at: usize| body.arrivals.iter().map(move |(from, given)| (given[at], *from));
    let all: Vec<Value<'c>> = (0..body.arrivals[0].1.len())
        .map(|at| {
            let phi = gpu.phi(body.arrivals[0].1[at].get_type());
            arguments(at).for_each(|(value, from)| phi.add_incoming(&[(&value, from)]));
            phi.as_basic_value()
        })
        .collect();
    if body.threads < of_block {
        let (busy, idle) = (gpu.block("busy"), gpu.block("idle"));
        gpu.branch(gpu.below(gpu.thread(), gpu.i32(body.threads)), busy, idle);
        gpu.enter(idle);
        gpu.ret();
        gpu.enter(busy);
    }
    gpu.call(body.code, &all);
    gpu.ret();
}
