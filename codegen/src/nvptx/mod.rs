//! Kernels for NVIDIA GPUs, as PTX.
//!
//! ```text
//! kernel ── spreads ──┬─ region (no `dot`) ───────────┬─ LLVM ── PTX
//!                     ├─ product (sums of `dot`s) ────┤
//!                     └─ block (`dot`s of `dot`s) ────┘
//! ```
//! One block of threads computes one grid point. A tile value is spread over the threads and
//! their registers (`layout.rs`); everything but `dot` works register by register in any spread. A
//! product fixes the spread of its accumulators, which its epilogue leaves for one with wide
//! accesses. Floats follow IEEE exactly: no fast-math flag is ever set.
//!
//! **Interface.** A kernel takes the addresses of its buffers but local ones, in order, then its
//! scalars as 32-bit ints. Addresses are aligned to the largest power of two up to 16 that divides
//! the buffer's bytes. Grid points are blocks along x, the last grid variable fastest. Kernels that are launched together
//! are one entry (`together`): it takes what each of them takes, one after the other, and their
//! blocks in a row.

mod access;
mod block;
mod exchange;
mod gpu;
mod layout;
mod lower;
mod panel;
mod product;
mod reduce;
mod region;
mod runs;
mod slab;
mod target;
mod tensor;
mod together;

pub use target::GpuTarget;

use gigac_ir::kernel::{Access, Buffer, Expr, Kernel, Stmt};
use inkwell::context::Context;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::FileType;
use inkwell::types::BasicMetadataTypeEnum;
use inkwell::values::{BasicValueEnum, FunctionValue, IntValue};
use rayon::prelude::*;

use crate::CodegenError;
use crate::pattern::Products;
use gpu::Gpu;
use lower::{Frame, Refusal};
use runs::WIDEST;

/// What LLVM does before its NVPTX back end.
const PASSES: &str = "function(early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,\
    loop-mssa(licm),early-cse,instcombine<no-verify-fixpoint>,simplifycfg)";

/// A kernel as PTX, and how it is launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxKernel {
    /// Its name, also that of the entry.
    pub name: String,
    /// A module with this kernel alone.
    pub ptx: String,
    /// Blocks along x.
    pub blocks: u64,
    /// Threads of a block, along x.
    pub threads: u64,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u64,
}

/// What a block needs.
pub(crate) struct Resources {
    threads: u64,
    shared: u64,
}

/// Most blocks along x.
const BLOCKS: u64 = (1 << 31) - 1;

/// Compiles verified kernels to PTX, each to a module of its own, on all cores. The same kernels
/// and target give the same text.
///
/// # Errors
/// The first kernel that the lowering does not support, by name.
pub fn compile_ptx(kernels: &[Kernel], target: GpuTarget) -> Result<Vec<PtxKernel>, CodegenError> {
    kernels.par_iter().map(|kernel| compile_launch(&kernel.name, &[kernel], target)).collect()
}

/// Compiles what one launch runs, a verified kernel or several, to a module with one entry. A kernel
/// alone keeps its own name.
///
/// # Errors
/// The first kernel that the lowering does not support, by name.
pub fn compile_launch(
    name: &str,
    kernels: &[&Kernel],
    target: GpuTarget,
) -> Result<PtxKernel, CodegenError> {
    let context = Context::create();
    let gpu = Gpu::new(&context);
    let machine = target.machine()?;
    gpu.module.set_triple(&machine.get_triple());
    gpu.module.set_data_layout(&machine.get_target_data().get_data_layout());
    let (Resources { threads, shared }, passes) = match kernels {
        [kernel] => (lower(&gpu, kernel, target).map_err(refused(kernel))?, PASSES.to_owned()),
        several => {
            (together::lower(&gpu, name, several, target)?, format!("always-inline,{PASSES}"))
        }
    };
    let llvm = |e: inkwell::support::LLVMString| CodegenError::Llvm(e.to_string());
    gpu.module.verify().map_err(llvm)?;
    gpu.module.run_passes(&passes, &machine, PassBuilderOptions::create()).map_err(llvm)?;
    let text = machine.write_to_memory_buffer(&gpu.module, FileType::Assembly).map_err(llvm)?;
    let ptx = String::from_utf8_lossy(text.as_slice()).trim_end_matches('\0').to_owned();
    let blocks = kernels.iter().map(|kernel| kernel.grid_points()).sum();
    let name = if let [kernel] = kernels { kernel.name.clone() } else { name.to_owned() };
    Ok(PtxKernel { name, ptx, blocks, threads, shared_bytes: shared })
}

/// Names the kernel that is not lowered.
fn refused(kernel: &Kernel) -> impl Fn(Refusal) -> CodegenError + '_ {
    |what| CodegenError::Unsupported { kernel: kernel.name.clone(), what }
}

/// Whether all positions of a kernel have 32 bits.
fn bounded(kernel: &Kernel) -> Result<(), Refusal> {
    if kernel.grid_points() > BLOCKS {
        return Err(format!("{} grid points are more than a launch has", kernel.grid_points()));
    }
    match kernel.vars.iter().find(|v| v.extent.saturating_add(v.tile) > BLOCKS) {
        Some(var) => Err(format!("`{}` has positions beyond 32 bits", var.name)),
        None => Ok(()),
    }
}

/// Emits the function of a kernel.
fn lower(gpu: &Gpu<'_>, kernel: &Kernel, target: GpuTarget) -> Result<Resources, Refusal> {
    bounded(kernel)?;
    match dots(&kernel.body) {
        0 => region::lower(gpu, kernel, target),
        1 => product::lower(gpu, kernel, target),
        _ if Products::recognise(kernel).is_ok() => product::lower(gpu, kernel, target),
        _ => block::lower(gpu, kernel, target),
    }
}

/// How many products there are.
fn dots(body: &[Stmt]) -> usize {
    let of = |stmt: &Stmt| match stmt {
        Stmt::Let(_, expr) => usize::from(matches!(expr, Expr::Dot(..))),
        Stmt::Loop { body, .. } => dots(body),
        Stmt::Store { .. } | Stmt::When(_) => 0,
    };
    body.iter().map(of).sum()
}

impl<'c> Frame<'c> {
    /// Begins the function of a kernel. Buffers of a grid point lie in shared memory, one after
    /// the other.
    fn new(gpu: &Gpu<'c>, kernel: &Kernel, threads: u64) -> Self {
        let function = gpu.kernel(&kernel.name, &parameters(gpu, kernel), threads);
        Self::inside(gpu, kernel, function, gpu.block_number(), threads)
    }

    /// Begins a function that takes what the kernel takes, and last the grid point; so many threads of a block
    /// call it.
    fn of_part(gpu: &Gpu<'c>, kernel: &Kernel, threads: u64, of_block: u64) -> Self {
        let all = [parameters(gpu, kernel), gpu.parameters(0, 1)].concat();
        let meeting = (threads < of_block).then_some(threads);
        let function = gpu.part(&kernel.name, &all, meeting);
        let point = function.get_last_param().expect("the grid point").into_int_value();
        Self::inside(gpu, kernel, function, point, threads)
    }

    fn inside(
        gpu: &Gpu<'c>,
        kernel: &Kernel,
        function: FunctionValue<'c>,
        point: IntValue<'c>,
        threads: u64,
    ) -> Self {
        let mut parameters = function.get_param_iter();
        let mut local = 0;
        let mut place = |buffer: &Buffer| {
            if buffer.access != Access::Local {
                let pointer = parameters.next().expect("a parameter for every argument");
                return pointer.into_pointer_value();
            }
            let start = gpu.i32(local);
            local += (buffer.elements * buffer.storage.bytes()).next_multiple_of(WIDEST);
            gpu.bytes(gpu.shared_memory(), start)
        };
        let buffers = kernel.buffers.iter().map(&mut place).collect();
        let scalars = parameters.take(kernel.scalars.len());
        let scalars = scalars.map(BasicValueEnum::into_int_value).collect();
        Self { function, buffers, scalars, thread: gpu.thread(), point, threads, local }
    }
}

/// What a kernel takes: its buffers but local ones, then its scalars.
fn parameters<'c>(gpu: &Gpu<'c>, kernel: &Kernel) -> Vec<BasicMetadataTypeEnum<'c>> {
    let arguments = kernel.buffers.iter().filter(|b| b.access != Access::Local).count();
    gpu.parameters(arguments, kernel.scalars.len())
}
