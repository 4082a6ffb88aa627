//! Kernels for GPUs as files: PTX with a header for people, launches for `gigac emulate`, and what
//! NVIDIA's own tools make of them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gigac_codegen::CodegenError;
use gigac_codegen::nvptx::{GpuTarget, PtxKernel, compile_launch};
use gigac_cost::work::Work;
use gigac_emulator::meta::{GUARD, Meta, Param};
use gigac_frontend::SourceMap;
use gigac_ir::graph::Span;
use gigac_ir::kernel::{Access, Buffer, Expr, Kernel, Stmt, Storage, VarId};
use gigac_ir::plan::Launched;
use gigac_ir::pointwise::Pointwise;
use gigac_passes::place::Placed;
use rayon::prelude::*;

use crate::failure::Failure;
use crate::line::Line;

/// A kernel in all forms that are written.
pub struct Emitted {
    /// Its name.
    pub name: String,
    /// What it is, as comments.
    pub header: String,
    /// PTX.
    pub ptx: String,
    /// How `gigac emulate` launches it.
    pub meta: Meta,
}

impl Emitted {
    /// PTX with its header.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.header, self.ptx.trim_start())
    }
}

/// Compiles what a program launches on all cores: kernels, alone and together. What code generation refuses comes
/// second, a line for each.
pub fn emit(
    placed: &Placed,
    sources: &SourceMap,
    target: GpuTarget,
) -> (Vec<Emitted>, Vec<String>) {
    let compiled: Vec<Result<Emitted, CodegenError>> = placed
        .plan
        .launched()
        .par_iter()
        .map(|Launched { name, kernels }| {
            let of = |kernel: &u32| &placed.kernels[*kernel as usize];
            let parts: Vec<&Kernel> = kernels.iter().map(of).collect();
            let places = kernels.iter().flat_map(|kernel| &placed.places[*kernel as usize]);
            let code = compile_launch(name, &parts, target)?;
            let header = header(&parts, &code, target) + &lines(places, sources);
            let meta = meta(&parts, &code, target);
            Ok(Emitted { name: code.name, header, ptx: code.ptx, meta })
        })
        .collect();
    let (mut emitted, mut refused) = (Vec::new(), Vec::new());
    for result in compiled {
        match result {
            Ok(kernel) => emitted.push(kernel),
            Err(error) => refused.push(error.to_string()),
        }
    }
    (emitted, refused)
}

/// What kernels that are launched together are called, and the blocks of each of them.
fn head(text: &mut String, name: &str, parts: &[&Kernel]) {
    let ends = parts.iter().scan(0, |end, kernel| {
        *end += kernel.grid_points();
        Some(*end)
    });
    let _ = writeln!(text, "// {name}: {} kernels in one launch", parts.len());
    for (i, (kernel, end)) in parts.iter().zip(ends).enumerate() {
        let (first, last) = (end - kernel.grid_points(), end - 1);
        let _ = writeln!(text, "//   blocks {first} to {last}: p{i}, {}", kernel.name);
    }
}

/// What a launch computes and how it is launched, as comments.
fn header(parts: &[&Kernel], code: &PtxKernel, target: GpuTarget) -> String {
    let mut text = String::new();
    if parts.len() > 1 {
        head(&mut text, &code.name, parts);
    }
    for (i, kernel) in parts.iter().enumerate() {
        part(&mut text, kernel, &prefix(parts, i));
    }
    let mut line = |what: std::fmt::Arguments<'_>| writeln!(text, "// {what}").expect("a string");
    let PtxKernel { blocks, threads, shared_bytes, .. } = code;
    line(format_args!(
        "launch: {blocks} blocks of {threads} threads, {shared_bytes} bytes of shared memory, {}",
        target.name()
    ));
    let works: Vec<Work> = parts.iter().map(|kernel| Work::of(kernel)).collect();
    let sum = |of: fn(&Work) -> f64| works.iter().map(of).sum::<f64>() + 0.0; // an empty sum is −0
    line(format_args!(
        "work: {:.0} flops in products, {:.0} besides; {:.0} bytes read, {:.0} written",
        sum(Work::product_flops),
        sum(|work| work.vector),
        sum(|work| work.read),
        sum(|work| work.written)
    ));
    text
}

/// What stands in front of the names of a part's arguments.
fn prefix(parts: &[&Kernel], part: usize) -> String {
    if parts.len() > 1 { format!("p{part}_") } else { String::new() }
}

/// What a kernel computes, and over what, as comments.
fn part(text: &mut String, kernel: &Kernel, prefix: &str) {
    let mut line = |what: std::fmt::Arguments<'_>| writeln!(text, "// {what}").expect("a string");
    line(format_args!("{}: computes {}", kernel.name, one_line(&kernel.origin)));
    for buffer in arguments(kernel) {
        let (name, storage, count) = (&buffer.name, dtype(buffer.storage), buffer.elements);
        line(format_args!("  {:5} {prefix}{name}: {storage}[{count}]", role(buffer.access)));
    }
    for scalar in &kernel.scalars {
        line(format_args!("  turn  {prefix}{scalar}: i32"));
    }
    let part = |var: &VarId| {
        let var = kernel.var(*var);
        format!("{} {} by {}", var.name, var.extent, var.tile)
    };
    let all = |vars: &mut dyn Iterator<Item = VarId>| {
        vars.map(|v| part(&v)).collect::<Vec<_>>().join(", ")
    };
    line(format_args!("grid: {}", all(&mut kernel.grid.iter().copied())));
    let inside = |v: &VarId| !kernel.grid.contains(v);
    let ids = (0..kernel.vars.len()).map(|i| VarId(i as u32));
    line(format_args!("loops: {}", all(&mut ids.filter(inside))));
}

/// Most lines of the model in a header.
const LINES: usize = 8;

/// The lines of the model that a kernel comes from, as comments.
fn lines<'p>(places: impl Iterator<Item = &'p Span>, sources: &SourceMap) -> String {
    let mut found: Vec<String> = Vec::new();
    for place in places {
        let Some(line) = Line::of(*place, sources) else { continue };
        let line = format!("//   {line}\n");
        if found.last() != Some(&line) {
            found.push(line);
        }
    }
    let more = found.len().saturating_sub(LINES);
    found.truncate(LINES);
    let mut text = if found.is_empty() { String::new() } else { "// from\n".to_owned() };
    text.extend(found);
    if more > 0 {
        text += &format!("//   and {more} more lines\n");
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn arguments(kernel: &Kernel) -> impl Iterator<Item = &Buffer> {
    kernel.buffers.iter().filter(|b| b.access != Access::Local)
}

/// The launch of kernels, with the parameters in the order of the PTX and turn 0 of all loops.
fn meta(parts: &[&Kernel], code: &PtxKernel, target: GpuTarget) -> Meta {
    let params = parts.iter().enumerate().flat_map(|(i, kernel)| params(kernel, &prefix(parts, i)));
    Meta {
        entry: code.name.clone(),
        grid: vec![code.blocks as u32, 1, 1],
        block: vec![code.threads as u32, 1, 1],
        dynamic_shared_bytes: code.shared_bytes as u32,
        target: target.name().to_owned(),
        cluster: None,
        params: params.collect(),
    }
}

/// The parameters of a kernel.
fn params(kernel: &Kernel, prefix: &str) -> Vec<Param> {
    let (products, rounds) = (!Work::of(kernel).products.is_empty(), rounds(&kernel.body));
    let buffer = |buffer: &Buffer| Param {
        name: format!("{prefix}{}", buffer.name),
        kind: "buffer".to_owned(),
        dtype: dtype(buffer.storage).to_owned(),
        elements: buffer.elements + GUARD as u64,
        value: serde_json::Value::Null,
        role: role(buffer.access).to_owned(),
        tolerance: tolerance(buffer.storage, products, rounds),
    };
    let scalar = |name: &String| Param {
        name: format!("{prefix}{name}"),
        kind: "scalar".to_owned(),
        dtype: "i32".to_owned(),
        elements: 0,
        value: 0.into(),
        role: "in".to_owned(),
        tolerance: 0.0,
    };
    arguments(kernel).map(buffer).chain(kernel.scalars.iter().map(scalar)).collect()
}

fn dtype(storage: Storage) -> &'static str {
    match storage {
        Storage::F32 => "f32",
        Storage::Bf16 => "bf16",
        Storage::I32 => "i32",
        Storage::Bool => "bool",
    }
}

fn role(access: Access) -> &'static str {
    match access {
        Access::Read => "in",
        Access::Write => "out",
        Access::ReadWrite | Access::Local => "inout",
    }
}

/// Whether something is rounded to bf16 on the way to results.
fn rounds(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::Let(_, expr) => matches!(expr, Expr::Pointwise(Pointwise::Bf16, _)),
        Stmt::Loop { body, .. } => rounds(body),
        Stmt::Store { .. } | Stmt::When(_) => false,
    })
}

/// One step of bf16, which is also what a rounding on the way may be off by; for other f32 what another order of
/// additions makes of sums.
fn tolerance(storage: Storage, products: bool, rounds: bool) -> f64 {
    match storage {
        Storage::Bf16 => 1.0 / 128.0,
        Storage::F32 if rounds => 1.0 / 128.0,
        Storage::F32 if products => 1e-4,
        Storage::F32 => 1e-5,
        Storage::I32 | Storage::Bool => 0.0,
    }
}

/// A program of NVIDIA's: its name, and the variable that may say where it is.
#[derive(Clone, Copy)]
pub struct Tool {
    name: &'static str,
    variable: &'static str,
}

/// The assembler.
pub const PTXAS: Tool = Tool { name: "ptxas", variable: "GIGAC_PTXAS" };
/// The disassembler.
pub const NVDISASM: Tool = Tool { name: "nvdisasm", variable: "GIGAC_NVDISASM" };

impl Tool {
    /// Where the program is.
    ///
    /// # Errors
    /// When it is neither where its variable says nor on `PATH`.
    pub fn find(self) -> Result<PathBuf, Failure> {
        let Self { name, variable } = self;
        if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
            let wrong = || format!("`{variable}` is `{}`, which is no file", path.display());
            return path.is_file().then_some(path.clone()).ok_or_else(|| Failure::Machine(wrong()));
        }
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders).map(|f| f.join(name)).find(|p| p.is_file());
        found.ok_or_else(|| {
            Failure::Machine(format!(
                "`{name}` is not on PATH: install the CUDA toolkit, or set `{variable}` to it"
            ))
        })
    }
}

/// Assembles a PTX file. Returns what the assembler says of registers and memory.
///
/// # Errors
/// What the assembler says.
pub fn assemble(
    ptxas: &Path,
    from: &Path,
    to: &Path,
    target: GpuTarget,
) -> Result<String, Failure> {
    let arch = format!("-arch={}", target.name());
    let said = output(Command::new(ptxas).arg("-v").arg(arch).arg(from).arg("-o").arg(to))?.stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    let part = |line: &str| Some(line.trim().split_once("Used ")?.1.to_owned());
    let spills = |line: &&str| line.contains("spill stores");
    let used = said.lines().find_map(part).unwrap_or_default();
    let spilt = said.lines().find(spills).unwrap_or_default().trim();
    Ok(format!("used {used}; {spilt}"))
}

/// The instructions of an assembled file.
///
/// # Errors
/// What the disassembler says.
pub fn disassemble(nvdisasm: &Path, cubin: &Path) -> Result<String, Failure> {
    let text = output(Command::new(nvdisasm).arg("-c").arg(cubin))?.stdout;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn output(command: &mut Command) -> Result<Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let ended =
        command.output().map_err(|e| Failure::Machine(format!("cannot run `{program}`: {e}")))?;
    if ended.status.success() {
        return Ok(ended);
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(Failure::Machine(format!("`{program}` failed:\n{}", said.trim_end())))
}
