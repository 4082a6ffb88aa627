//! Runs compiled kernels, and compares them with the kernel interpreter.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod gpu;

use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_ir::image::{Entry, Image, KernelFn, missing_features};
use gigac_ir::kernel::{Access, Arithmetic, Buffer, Expr, Kernel, Stmt, Storage, VarId};
use half::bf16;
use memmap2::{Mmap, MmapMut};

/// An image mapped executable.
pub(crate) struct Code {
    map: Mmap,
    pub(crate) image: Image,
}

impl Code {
    pub(crate) fn load(image: Image) -> Self {
        let missing = missing_features(&image.features);
        assert!(missing.is_empty(), "this CPU lacks {missing:?}");
        let mut map = MmapMut::map_anon(image.bytes.len()).expect("memory for code");
        map.copy_from_slice(&image.bytes);
        Self { map: map.make_exec().expect("memory may become executable"), image }
    }

    /// Runs the grid points `first..last` of a kernel.
    pub(crate) fn run(
        &self,
        entry: &Entry,
        buffers: &[*mut u8],
        scalars: &[i64],
        range: (u64, u64),
    ) {
        let scratch = Aligned::zeroed(entry.scratch as usize);
        // SAFETY: the bytes at the entry are a function of this type, compiled for this CPU.
        let kernel: KernelFn = unsafe {
            std::mem::transmute::<*const u8, KernelFn>(self.map.as_ptr().add(entry.offset as usize))
        };
        // SAFETY: callers pass buffers as large as the kernel declares them.
        unsafe { kernel(buffers.as_ptr(), scalars.as_ptr(), range.0, range.1, scratch.pointer()) }
    }
}

/// Bytes at an address aligned to 64, between two guards.
pub(crate) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

const GUARD: usize = 256;
const CANARY: u8 = 0xa5;

impl Aligned {
    pub(crate) fn zeroed(bytes: usize) -> Self {
        let memory = vec![CANARY; bytes + 2 * GUARD + 64];
        let start = GUARD + memory.as_ptr().wrapping_add(GUARD).align_offset(64);
        let mut aligned = Self { memory, start, bytes };
        aligned.content().fill(0);
        aligned
    }

    pub(crate) fn content(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }

    pub(crate) fn pointer(&self) -> *mut u8 {
        self.memory[self.start..].as_ptr().cast_mut()
    }

    /// Whether nothing was written outside.
    pub(crate) fn intact(&self) -> bool {
        let (before, after) = (&self.memory[..self.start], &self.memory[self.start + self.bytes..]);
        before.iter().chain(after).all(|byte| *byte == CANARY)
    }

    pub(crate) fn write(&mut self, storage: Storage, numbers: &[f64]) {
        let size = storage.bytes() as usize;
        for (bytes, x) in self.content().chunks_exact_mut(size).zip(numbers) {
            match storage {
                Storage::F32 => bytes.copy_from_slice(&(*x as f32).to_le_bytes()),
                Storage::Bf16 => bytes.copy_from_slice(&bf16::from_f64(*x).to_le_bytes()),
                Storage::I32 => bytes.copy_from_slice(&(*x as i32).to_le_bytes()),
                Storage::Bool => bytes[0] = u8::from(*x != 0.0),
            }
        }
    }

    pub(crate) fn read(&mut self, storage: Storage) -> Vec<f64> {
        let number = |bytes: &[u8]| match storage {
            Storage::F32 => f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            Storage::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
            Storage::I32 => f64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            Storage::Bool => f64::from(bytes[0]),
        };
        self.content().chunks_exact(storage.bytes() as usize).map(number).collect()
    }
}

/// The targets that this machine can run: its own, and AVX2.
pub(crate) fn targets() -> Vec<CpuTarget> {
    vec![CpuTarget::host().expect("tests need AVX2"), CpuTarget::x86_64_v3()]
}

pub(crate) fn kernel(text: &str) -> Kernel {
    let kernel = Kernel::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    kernel.verify().unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    kernel
}

/// Numbers to fill an argument with: reals in [−2, 2), ints in 0..7, truth values.
pub(crate) fn content(kernel: &Kernel) -> Vec<Vec<f64>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 40
    };
    let arguments = kernel.buffers.iter().filter(|b| b.access != Access::Local);
    let mut number = |buffer: &Buffer| match buffer.storage {
        Storage::F32 => f64::from((next() as f64 / 4_194_304.0 - 2.0) as f32),
        Storage::Bf16 => bf16::from_f64(next() as f64 / 4_194_304.0 - 2.0).to_f64(),
        Storage::I32 => (next() % buffer.below.unwrap_or(7)) as f64,
        Storage::Bool => (next() % 2) as f64,
    };
    arguments.map(|b| (0..b.elements).map(|_| number(b)).collect()).collect()
}

/// Compiles a kernel and runs its grid, in one call or split in three.
pub(crate) fn run(
    kernel: &Kernel,
    target: &CpuTarget,
    arguments: &[Vec<f64>],
    scalars: &[i64],
    split: bool,
) -> Vec<Vec<f64>> {
    let image = compile_cpu(std::slice::from_ref(kernel), target).unwrap_or_else(|e| panic!("{e}"));
    let code = Code::load(image);
    let declared: Vec<_> = kernel.buffers.iter().filter(|b| b.access != Access::Local).collect();
    let mut memory: Vec<Aligned> = declared
        .iter()
        .map(|b| Aligned::zeroed((b.elements * b.storage.bytes()) as usize))
        .collect();
    for ((memory, declared), numbers) in memory.iter_mut().zip(&declared).zip(arguments) {
        memory.write(declared.storage, numbers);
    }
    let buffers: Vec<*mut u8> = memory.iter().map(Aligned::pointer).collect();
    let points = kernel.grid_points();
    let cuts = if split { vec![0, points / 3, points / 2, points] } else { vec![0, points] };
    for range in cuts.windows(2) {
        code.run(&code.image.entries[0], &buffers, scalars, (range[0], range[1]));
    }
    for (memory, buffer) in memory.iter().zip(&declared) {
        assert!(memory.intact(), "{}: written outside of `{}`", kernel.name, buffer.name);
    }
    memory.iter_mut().zip(&declared).map(|(m, b)| m.read(b.storage)).collect()
}

/// Runs a kernel on all CPU targets, whole and split, and compares every argument with the
/// interpreter's, to a tolerance relative to the larger of 1 and the number.
pub(crate) fn check_cpu_with(text: &str, arguments: &[Vec<f64>], scalars: &[i64], tolerance: f64) {
    let kernel = kernel(text);
    let expect = interpreted(&kernel, arguments, scalars);
    let mut first: Option<Vec<Vec<f64>>> = None;
    for target in targets() {
        for split in [false, true] {
            let results = run(&kernel, &target, arguments, scalars, split);
            for (buffer, (result, expect)) in results.iter().zip(&expect).enumerate() {
                compare(&format!("{target:?}, buffer {buffer}\n{text}"), result, expect, tolerance);
            }
            let first = first.get_or_insert_with(|| results.clone());
            let same = |a: &Vec<f64>, b: &Vec<f64>| {
                a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
            };
            let all = first.iter().zip(&results).all(|(a, b)| same(a, b));
            assert!(all, "{target:?}, split {split}: bits differ\n{text}");
        }
    }
}

/// [`check_cpu_with`], and the same on the emulated GPU under several schedules. Tensor cores add
/// in an order of their own.
pub(crate) fn check_with(text: &str, arguments: &[Vec<f64>], scalars: &[i64], tolerance: f64) {
    check_cpu_with(text, arguments, scalars, tolerance);
    check_gpu_with(text, arguments, scalars, tolerance);
}

/// Runs a kernel on the emulated GPU under several schedules, and compares every argument with the
/// interpreter's.
pub(crate) fn check_gpu_with(text: &str, arguments: &[Vec<f64>], scalars: &[i64], tolerance: f64) {
    let kernel = kernel(text);
    let expect = interpreted(&kernel, arguments, scalars);
    let declared = kernel.buffers.iter().filter(|b| b.access != Access::Local);
    let tolerances: Vec<f64> =
        declared.map(|b| gpu_tolerance(&kernel, b.storage, tolerance)).collect();
    for (schedule, results) in gpu::run(&kernel, arguments, scalars) {
        for (i, (result, expect)) in results.iter().zip(&expect).enumerate() {
            compare(&format!("{schedule:?}, buffer {i}\n{text}"), result, expect, tolerances[i]);
        }
    }
}

/// Tensor cores take bf16 and add in another order. Sums of so many products of numbers below 2 then
/// differ by some roundings of their size, and what is stored as bf16 by one of its steps.
fn gpu_tolerance(kernel: &Kernel, storage: Storage, tolerance: f64) -> f64 {
    let depth: u64 = contracted(&kernel.body).iter().map(|v| kernel.var(*v).extent).sum();
    let halved = kernel.buffers.iter().any(|b| b.storage == Storage::Bf16);
    match storage {
        _ if depth == 0 || !halved => tolerance,
        Storage::Bf16 => tolerance.max(1.0 / 128.0),
        _ => tolerance.max(depth as f64 * f64::from(f32::EPSILON)),
    }
}

fn contracted(body: &[Stmt]) -> Vec<VarId> {
    let of = |stmt: &Stmt| match stmt {
        Stmt::Let(_, Expr::Dot(.., var)) => vec![*var],
        Stmt::Loop { body, .. } => contracted(body),
        _ => Vec::new(),
    };
    body.iter().flat_map(of).collect()
}

fn interpreted(kernel: &Kernel, arguments: &[Vec<f64>], scalars: &[i64]) -> Vec<Vec<f64>> {
    let mut expect = arguments.to_vec();
    kernel.interpret(&mut expect, scalars, Arithmetic::F32).expect("arguments fit");
    expect
}

fn compare(what: &str, result: &[f64], expect: &[f64], tolerance: f64) {
    for (i, (x, y)) in result.iter().zip(expect).enumerate() {
        let equal = x == y || x.is_nan() && y.is_nan();
        let near = (x - y).abs() <= tolerance * y.abs().max(1.0);
        assert!(equal || near, "element {i} is {x}, expected {y}: {what}");
    }
}

/// [`check_with`] on made-up arguments.
pub(crate) fn check(text: &str, scalars: &[i64], tolerance: f64) {
    check_with(text, &content(&kernel(text)), scalars, tolerance);
}

/// [`check_cpu_with`] on made-up arguments.
pub(crate) fn check_cpu(text: &str, scalars: &[i64], tolerance: f64) {
    check_cpu_with(text, &content(&kernel(text)), scalars, tolerance);
}

/// Replaces `%name` by `%number`.
pub(crate) fn number(text: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut out = String::new();
    for (i, piece) in text.split('%').enumerate() {
        let end = piece.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(piece.len());
        let name = &piece[..end];
        // `m%8` is a modulus.
        if i == 0 || name.starts_with(|c: char| c.is_ascii_digit()) {
            out += if i == 0 { "" } else { "%" };
            out += piece;
            continue;
        }
        let at = names.iter().position(|n| n == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        out += &format!("%{at}{}", &piece[end..]);
    }
    out
}
