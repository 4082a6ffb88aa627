//! `gigac emit`: prints any stage of the compiler.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use gigac_codegen::nvptx::GpuTarget;
use gigac_codegen::x86;
use gigac_frontend::SourceMap;
use gigac_ir::kernel::Kernel;
use gigac_passes::pass::{Purpose, Stage as Compiled};
use gigac_passes::pipeline;
use gigac_passes::place::Placed;

use rayon::prelude::*;
use serde_json::json;

use super::build::TargetName;
use super::{ModelArgs, print};
use crate::compile::{self, Request};
use crate::failure::Failure;
use crate::ptx;
use crate::watch::Watch;

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The forward graph, as the model says it.
    Graph,
    /// The joint graph: losses and gradients.
    Joint,
    /// The passes in their order, with their times and what each did.
    Passes,
    /// Tile programs.
    Kernels,
    /// Launches and addresses.
    Plan,
    /// Optimised LLVM IR.
    Llvm,
    /// Assembly.
    Asm,
    /// PTX for `--target sm_80` or `sm_90`; with `-o` also `NAME.meta.json`, how `gigac emulate`
    /// launches it.
    Ptx,
    /// What `ptxas` makes of the PTX.
    Cubin,
    /// What `nvdisasm` reads in that.
    Sass,
}

/// Which of the programs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgramName {
    /// The training step.
    Step,
    /// The loss without gradients.
    Evaluate,
    /// The named outputs.
    Outputs,
}

impl ProgramName {
    fn purpose(self) -> Purpose {
        match self {
            Self::Step => Purpose::Step,
            Self::Evaluate => Purpose::Evaluate,
            Self::Outputs => Purpose::Outputs,
        }
    }
}

/// Flags of `emit`.
#[derive(Args, Debug)]
pub struct EmitArgs {
    /// What to print.
    stage: Stage,
    #[command(flatten)]
    model: ModelArgs,
    /// The program to print, for stages after `joint`.
    #[arg(long, value_enum, default_value = "step")]
    program: ProgramName,
    /// Prints the program on stderr after this pass, or after `all`, where it changed (repeatable).
    #[arg(long, value_name = "PASS|all")]
    print_after: Vec<String>,
    /// Writes one file for each kernel into this folder instead.
    #[arg(short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What to generate code for (default: this CPU; `sm_80` for `ptx`, `cubin` and `sass`).
    #[arg(long)]
    target: Option<TargetName>,
    /// Prints one JSON object with the text in it.
    #[arg(long)]
    json: bool,
}

impl EmitArgs {
    /// The target that was asked for, or the one that the stage is for.
    fn target(&self) -> TargetName {
        self.target.unwrap_or(match self.stage {
            Stage::Ptx | Stage::Cubin | Stage::Sass => TargetName::Sm80,
            _ => TargetName::Cpu,
        })
    }
}

/// Runs `emit`.
///
/// # Errors
/// Mistakes of the model, files that cannot be written, failures of code generation.
pub fn run(args: &EmitArgs) -> Result<(), Failure> {
    let request = args.model.read_for(args.target())?;
    let mut watch = Watch::new(&args.print_after)?;
    let text = match args.stage {
        Stage::Graph => format!("{}\n", request.model(&[], true)?.graph),
        _ => compiled(args, &request, &mut watch)?,
    };
    if !args.json {
        return print(&text);
    }
    let stage = args.stage.to_possible_value().map(|v| v.get_name().to_owned());
    print(&format!("{}\n", json!({ "stage": stage, "text": text })))
}

/// The text of a stage of all phases.
fn compiled(args: &EmitArgs, request: &Request, watch: &mut Watch) -> Result<String, Failure> {
    let mut text = String::new();
    for phase in compile::checked(request)? {
        let (purpose, end) = match args.stage {
            Stage::Joint => (Purpose::Step, pipeline::position("optimizer")),
            _ => (args.program.purpose(), pipeline::PIPELINE.len()),
        };
        let stage = pipeline::compile(phase.source(), purpose, &request.options, end, watch);
        text += &match stage {
            _ if args.stage == Stage::Passes => watch.table(),
            Compiled::Graph(graph) => format!("{graph}\n"),
            Compiled::Formed(_) => unreachable!("no stage ends here"),
            Compiled::Placed(placed) => stage_of(args, &placed, &phase.sources)?,
        };
    }
    Ok(text)
}

/// The text of a stage that begins with a plan; empty when it went to files.
fn stage_of(args: &EmitArgs, placed: &Placed, sources: &SourceMap) -> Result<String, Failure> {
    match (args.stage, args.target().gpu()) {
        (Stage::Plan, _) => Ok(format!("{}\n", placed.plan)),
        (Stage::Kernels, _) => files(args, placed, "kernel", &|kernels| {
            Ok(kernels.iter().map(|k| format!("{k}\n")).collect())
        }),
        (Stage::Llvm | Stage::Asm, _) => native(args, placed),
        (_, Some((target, _))) => device_code(args, placed, sources, target),
        (stage, None) => {
            let name = stage.to_possible_value().map(|v| v.get_name().to_owned());
            let name = name.unwrap_or_default();
            Err(Failure::Usage(format!(
                "`emit {name}` is for `--target sm_80` or `--target sm_90`"
            )))
        }
    }
}

/// LLVM IR or assembly for a CPU.
fn native(args: &EmitArgs, placed: &Placed) -> Result<String, Failure> {
    let failed =
        |e: gigac_codegen::CodegenError| Failure::Machine(format!("code generation failed: {e}"));
    let target = &args.target().cpu()?;
    match args.stage {
        Stage::Llvm => files(args, placed, "ll", &|k| x86::emit_llvm(k, target).map_err(failed)),
        _ => files(args, placed, "s", &|k| x86::emit_asm(k, target).map_err(failed)),
    }
}

/// Writes a file for each kernel where a folder is given; else the text of all.
fn files(
    args: &EmitArgs,
    placed: &Placed,
    suffix: &str,
    text: &dyn Fn(&[Kernel]) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let Some(folder) = &args.output else { return text(&placed.kernels) };
    create(folder)?;
    for kernel in &placed.kernels {
        let text = text(std::slice::from_ref(kernel))?;
        write(&folder.join(format!("{}.{suffix}", kernel.name)), &text)?;
    }
    Ok(String::new())
}

fn create(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, &e))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::io("write", path, &e))
}

/// PTX, and what the tools make of it. What can be compiled is written before what is refused is
/// said.
fn device_code(
    args: &EmitArgs,
    placed: &Placed,
    sources: &SourceMap,
    target: GpuTarget,
) -> Result<String, Failure> {
    let (mut emitted, refused) = ptx::emit(placed, sources, target);
    let text = match (args.stage, &args.output) {
        (Stage::Ptx, None) => emitted.iter().map(|k| format!("{}\n", k.text())).collect(),
        (Stage::Ptx, Some(folder)) => {
            create(folder)?;
            emitted.iter().try_for_each(|k| write_ptx(folder, k))?;
            String::new()
        }
        (_, Some(folder)) => assembled(args.stage, folder, &mut emitted, target)?,
        (_, None) => {
            return Err(Failure::Usage("`emit cubin` and `emit sass`: add `-o DIR`".into()));
        }
    };
    if refused.is_empty() {
        return Ok(text);
    }
    print(&text)?;
    let (count, all) = (refused.len(), emitted.len() + refused.len());
    let lines = refused.join("\n  ");
    Err(Failure::Machine(format!("{count} of {all} kernels cannot be compiled yet:\n  {lines}")))
}

fn write_ptx(folder: &Path, kernel: &ptx::Emitted) -> Result<(), Failure> {
    write(&folder.join(format!("{}.ptx", kernel.name)), &kernel.text())?;
    let meta = serde_json::to_string_pretty(&kernel.meta);
    let meta = meta.map_err(|e| Failure::Machine(format!("cannot write JSON: {e}")))?;
    write(&folder.join(format!("{}.meta.json", kernel.name)), &format!("{meta}\n"))
}

/// Writes machine code, for `sass` its instructions, PTX with the registers that it takes, and
/// launches.
fn assembled(
    stage: Stage,
    folder: &Path,
    emitted: &mut [ptx::Emitted],
    target: GpuTarget,
) -> Result<String, Failure> {
    let ptxas = ptx::PTXAS.find()?;
    let nvdisasm = (stage == Stage::Sass).then(|| ptx::NVDISASM.find()).transpose()?;
    create(folder)?;
    emitted.par_iter_mut().try_for_each(|kernel| {
        let path = |suffix: &str| folder.join(format!("{}.{suffix}", kernel.name));
        let (ptx, cubin, sass) = (path("ptx"), path("cubin"), path("sass"));
        write(&ptx, &kernel.ptx)?;
        let used = ptx::assemble(&ptxas, &ptx, &cubin, target)?;
        kernel.header += &format!("// ptxas: {used}\n");
        if let Some(nvdisasm) = &nvdisasm {
            write(&sass, &ptx::disassemble(nvdisasm, &cubin)?)?;
        }
        write_ptx(folder, kernel)
    })?;
    Ok(String::new())
}
