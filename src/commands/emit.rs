//! `gigac emit`: prints any stage of the compiler.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gigac_codegen::x86::{self, CpuTarget};
use gigac_passes::pipeline;

use super::{ModelArgs, print};
use crate::compile::{self, CompiledPhase};
use crate::failure::Failure;

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The forward graph, as the model says it.
    Graph,
    /// The joint graph: losses and gradients.
    Joint,
    /// Tile programs.
    Kernels,
    /// Launches and addresses.
    Plan,
    /// Optimised LLVM IR.
    Llvm,
    /// Assembly.
    Asm,
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
    /// Writes one file for each kernel into this folder instead.
    #[arg(short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What to generate code for.
    #[arg(long, default_value = "cpu")]
    target: super::build::TargetName,
}

/// Runs `emit`.
///
/// # Errors
/// Mistakes of the model, files that cannot be written, failures of code generation.
pub fn run(args: &EmitArgs) -> Result<(), Failure> {
    let request = args.model.read()?;
    match args.stage {
        Stage::Graph => print(&format!("{}\n", request.model(&[], true)?.graph)),
        Stage::Joint => {
            for phase in compile::phases(&request)? {
                print(&format!("{}\n", pipeline::joint(&phase.graph, phase.micro)))?;
            }
            Ok(())
        }
        _ => {
            let target = args.target.cpu()?;
            for phase in compile::phases(&request)? {
                stage(args, &phase, &target)?;
            }
            Ok(())
        }
    }
}

fn stage(args: &EmitArgs, phase: &CompiledPhase, target: &CpuTarget) -> Result<(), Failure> {
    let placed = match args.program {
        ProgramName::Step => &phase.programs.step,
        ProgramName::Evaluate => &phase.programs.evaluate,
        ProgramName::Outputs => &phase.programs.outputs,
    };
    let failed =
        |e: gigac_codegen::CodegenError| Failure::Machine(format!("code generation failed: {e}"));
    if args.stage == Stage::Plan {
        return print(&format!("{}\n", placed.plan));
    }
    let text = |kernels: &[gigac_ir::kernel::Kernel]| match args.stage {
        Stage::Kernels => Ok(kernels.iter().map(|k| format!("{k}\n")).collect()),
        Stage::Llvm => x86::emit_llvm(kernels, target).map_err(failed),
        _ => x86::emit_asm(kernels, target).map_err(failed),
    };
    let Some(folder) = &args.output else { return print(&text(&placed.kernels)?) };
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, &e))?;
    let suffix = match args.stage {
        Stage::Kernels => "kernel",
        Stage::Llvm => "ll",
        _ => "s",
    };
    for kernel in &placed.kernels {
        let path = folder.join(format!("{}.{suffix}", kernel.name));
        let text = text(std::slice::from_ref(kernel))?;
        std::fs::write(&path, text).map_err(|e| Failure::io("write", &path, &e))?;
    }
    Ok(())
}
