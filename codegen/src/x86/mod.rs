//! Kernels for x86-64.
//!
//! ```text
//! kernel ── frame, grid ──┬─ region (no `dot`) ──┬─ LLVM ── object ── link ── image
//!                         ├─ contraction (`dot`) ┤
//!                         └─ block (several)     ┘
//! ```
//! A kernel becomes one function with the interface of [`KernelFn`](gigac_ir::image::KernelFn).
//! Vectors are explicit and loops are written as they shall run, so LLVM's vectoriser and
//! unroller stay off; what is left to it is simplification, addressing, registers, scheduling.
//! Floats follow IEEE exactly: no fast-math flag is ever set.

mod address;
mod block;
mod contraction;
mod emit;
mod frame;
mod grid;
mod link;
mod memory;
mod region;
mod target;
mod tile;
mod window;

pub use target::CpuTarget;

use std::collections::HashMap;

use gigac_ir::image::{ALIGNMENT, Entry, Image};
use gigac_ir::kernel::{Access, Buffer, Expr, Kernel, Stmt};
use inkwell::context::Context;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{FileType, TargetMachine};
use rayon::prelude::*;

use crate::CodegenError;
use crate::llvm::{convert, noise, pointwise, reduce};
use emit::Emitter;
use link::{Linked, link};

/// What LLVM does before instruction selection.
const PASSES: &str = "function(early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,\
    loop-mssa(licm),early-cse,instcombine<no-verify-fixpoint>,simplifycfg)";

/// Kernels of one LLVM module: enough that setting a module up costs little, few enough that all
/// cores have work. Part of what decides the bytes, so not a function of the machine.
const BATCH: usize = 6;

/// Compiles verified kernels to one image, on all cores. Kernels that differ in name and origin
/// alone share their code. The same kernels and target give the same bytes.
///
/// # Errors
/// Kernels that the lowering does not support, by name.
pub fn compile_cpu(kernels: &[Kernel], target: &CpuTarget) -> Result<Image, CodegenError> {
    let Distinct { kernels: distinct, of } = Distinct::new(kernels);
    let batches = distinct.par_chunks(BATCH).map(|batch| compile(batch, target));
    let mut bytes = Vec::new();
    let mut places = Vec::new();
    for batch in batches.collect::<Result<Vec<_>, _>>()? {
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
        let start = bytes.len() as u64;
        places.extend(batch.functions.iter().map(|(offset, scratch)| (start + offset, *scratch)));
        bytes.extend_from_slice(&batch.bytes);
    }
    let entry = |(kernel, of): (&Kernel, &usize)| {
        let (offset, scratch) = places[*of];
        Entry {
            name: kernel.name.clone(),
            offset,
            grid_points: kernel.grid_points(),
            scratch,
            args: arguments(kernel).map(|b| b.access).collect(),
            scalars: kernel.scalars.len() as u32,
        }
    };
    let entries = kernels.iter().zip(&of).map(entry).collect();
    let features = target.features().iter().map(|f| (*f).to_owned()).collect();
    Ok(Image { bytes, features, entries })
}

/// Kernels without those that repeat another one's code.
struct Distinct {
    /// The first of each.
    kernels: Vec<Kernel>,
    /// By kernel: which of them has its code.
    of: Vec<usize>,
}

impl Distinct {
    fn new(all: &[Kernel]) -> Self {
        let mut known = HashMap::new();
        let mut distinct = Self { kernels: Vec::new(), of: Vec::new() };
        for kernel in all {
            let code = Kernel { name: String::new(), origin: String::new(), ..kernel.clone() };
            let next = distinct.kernels.len();
            let index = *known.entry(format!("{code:?}")).or_insert(next);
            if index == next {
                distinct.kernels.push(kernel.clone());
            }
            distinct.of.push(index);
        }
        distinct
    }
}

/// Linked code of a few kernels: its bytes, and offset and scratch bytes of each kernel.
struct Batch {
    bytes: Vec<u8>,
    functions: Vec<(u64, u64)>,
}

fn compile(kernels: &[Kernel], target: &CpuTarget) -> Result<Batch, CodegenError> {
    let context = Context::create();
    let module = Module::lower(&context, kernels, target)?;
    let object = module.write(FileType::Object)?;
    let Linked { bytes, functions } = link(object.as_slice())?;
    let places = kernels.iter().zip(&module.scratch);
    let functions = places.map(|(k, scratch)| (functions[&k.name], *scratch)).collect();
    Ok(Batch { bytes, functions })
}

/// The optimised LLVM module of kernels, as text.
///
/// # Errors
/// As [`compile_cpu`].
pub fn emit_llvm(kernels: &[Kernel], target: &CpuTarget) -> Result<String, CodegenError> {
    let context = Context::create();
    let module = Module::lower(&context, kernels, target)?;
    Ok(module.emitter.module.print_to_string().to_string_lossy().into_owned())
}

/// The assembly of kernels, as text.
///
/// # Errors
/// As [`compile_cpu`].
pub fn emit_asm(kernels: &[Kernel], target: &CpuTarget) -> Result<String, CodegenError> {
    let context = Context::create();
    let module = Module::lower(&context, kernels, target)?;
    let text = module.write(FileType::Assembly)?;
    Ok(String::from_utf8_lossy(text.as_slice()).trim_end_matches('\0').to_owned())
}

/// Buffers that are passed.
fn arguments(kernel: &Kernel) -> impl Iterator<Item = &Buffer> {
    kernel.buffers.iter().filter(|b| b.access != Access::Local)
}

/// Kernels lowered to an optimised LLVM module.
struct Module<'c> {
    emitter: Emitter<'c>,
    machine: TargetMachine,
    /// Scratch bytes of each kernel.
    scratch: Vec<u64>,
}

impl<'c> Module<'c> {
    fn lower(
        context: &'c Context,
        kernels: &[Kernel],
        target: &CpuTarget,
    ) -> Result<Self, CodegenError> {
        let emitter = Emitter::new(context, target);
        let machine = target.machine()?;
        emitter.module.set_triple(&machine.get_triple());
        emitter.module.set_data_layout(&machine.get_target_data().get_data_layout());
        let scratch = kernels.iter().map(|kernel| lower(&emitter, kernel));
        let scratch = scratch.collect::<Result<Vec<u64>, _>>()?;
        let llvm = |e: inkwell::support::LLVMString| CodegenError::Llvm(e.to_string());
        emitter.module.verify().map_err(llvm)?;
        emitter.module.run_passes(PASSES, &machine, PassBuilderOptions::create()).map_err(llvm)?;
        Ok(Self { emitter, machine, scratch })
    }

    fn write(&self, file: FileType) -> Result<MemoryBuffer<'static>, CodegenError> {
        let buffer = self.machine.write_to_memory_buffer(&self.emitter.module, file);
        buffer.map_err(|e| CodegenError::Llvm(e.to_string()))
    }
}

/// Emits the function of a kernel; returns the bytes of scratch memory it needs.
fn lower(emit: &Emitter<'_>, kernel: &Kernel) -> Result<u64, CodegenError> {
    if !holds_dot(&kernel.body) {
        return region::lower(emit, kernel);
    }
    contraction::lower(emit, kernel).or_else(|product| {
        block::lower(emit, kernel).map_err(|block| CodegenError::Unsupported {
            kernel: kernel.name.clone(),
            what: format!("it is no matrix product ({product}) and no block program ({block})"),
        })
    })
}

fn holds_dot(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::Let(_, expr) => matches!(expr, Expr::Dot(..)),
        Stmt::Loop { body, .. } => holds_dot(body),
        Stmt::Store { .. } | Stmt::When(_) => false,
    })
}
