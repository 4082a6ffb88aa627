//! Runs kernels as PTX on the emulator, with all checks, under several schedules.

use gigac_codegen::nvptx::{GpuTarget, PtxKernel, compile_ptx};
use gigac_emulator::{Launch, Module, Schedule};
use gigac_ir::kernel::{Access, Buffer, Kernel, Storage};
use half::bf16;

/// The orders in which warps advance.
pub(crate) const SCHEDULES: [Schedule; 3] =
    [Schedule::LowestFirst, Schedule::HighestFirst, Schedule::Random(7)];

pub(crate) fn compiled(kernel: &Kernel) -> PtxKernel {
    let compiled = compile_ptx(std::slice::from_ref(kernel), GpuTarget::Sm80);
    compiled.unwrap_or_else(|e| panic!("{e}")).remove(0)
}

/// Runs all grid points under several schedules, or under one where threads share no memory;
/// nothing that the emulator checks may be found.
pub(crate) fn run(
    kernel: &Kernel,
    arguments: &[Vec<f64>],
    scalars: &[i64],
) -> Vec<(Schedule, Vec<Vec<f64>>)> {
    let part = Part { kernel, arguments: arguments.to_vec(), scalars: scalars.to_vec() };
    run_launch(&compiled(kernel), &[part])
}

/// A kernel with its arguments.
pub(crate) struct Part<'k> {
    pub(crate) kernel: &'k Kernel,
    pub(crate) arguments: Vec<Vec<f64>>,
    pub(crate) scalars: Vec<i64>,
}

/// The same for a launch of several parts: their arguments stand in a row.
pub(crate) fn run_launch(code: &PtxKernel, parts: &[Part<'_>]) -> Vec<(Schedule, Vec<Vec<f64>>)> {
    let module = Module::parse(&code.ptx).unwrap_or_else(|e| panic!("{e}\n{}", code.ptx));
    let mut launch = Launch::new(&module, &code.name)
        .grid([code.blocks as u32, 1, 1])
        .block([code.threads as u32, 1, 1])
        .dynamic_shared(code.shared_bytes as u32);
    let mut declared: Vec<&Buffer> = Vec::new();
    for part in parts {
        let buffers = part.kernel.buffers.iter().filter(|b| b.access != Access::Local);
        for (buffer, numbers) in buffers.zip(&part.arguments) {
            let name = format!("{}{}", buffer.name, ".".repeat(declared.len()));
            launch = launch.buffer(&name, bytes(buffer.storage, numbers));
            declared.push(buffer);
        }
        for scalar in &part.scalars {
            launch = launch.u32(*scalar as u32);
        }
    }
    let schedules = if code.shared_bytes == 0 { &SCHEDULES[..1] } else { &SCHEDULES };
    let run = |schedule: &Schedule| {
        let report = launch.clone().schedule(*schedule).run();
        let report = report.unwrap_or_else(|e| panic!("{e}\n{}", code.ptx));
        assert!(report.findings.is_empty(), "{schedule:?}: {:#?}\n{}", report.findings, code.ptx);
        let read =
            |(buffer, (_, bytes)): (&&Buffer, &(String, Vec<u8>))| numbers(buffer.storage, bytes);
        (*schedule, declared.iter().zip(&report.buffers).map(read).collect())
    };
    schedules.iter().map(run).collect()
}

pub(crate) fn bytes(storage: Storage, numbers: &[f64]) -> Vec<u8> {
    let bytes = |x: &f64| match storage {
        Storage::F32 => (*x as f32).to_le_bytes().to_vec(),
        Storage::Bf16 => bf16::from_f64(*x).to_le_bytes().to_vec(),
        Storage::I32 => (*x as i32).to_le_bytes().to_vec(),
        Storage::Bool => vec![u8::from(*x != 0.0)],
    };
    numbers.iter().flat_map(bytes).collect()
}

pub(crate) fn numbers(storage: Storage, bytes: &[u8]) -> Vec<f64> {
    let number = |b: &[u8]| match storage {
        Storage::F32 => f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Storage::Bf16 => bf16::from_le_bytes([b[0], b[1]]).to_f64(),
        Storage::I32 => f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Storage::Bool => f64::from(b[0]),
    };
    bytes.chunks_exact(storage.bytes() as usize).map(number).collect()
}
