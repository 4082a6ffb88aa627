//! `gigac emit`: prints any stage of the compiler.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gigac_codegen::x86;
use gigac_passes::pass::{Purpose, Stage as Compiled};
use gigac_passes::pipeline;
use gigac_passes::place::Placed;

use serde_json::json;

use super::{ModelArgs, print};
use crate::compile::{self, Request};
use crate::failure::Failure;
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
    /// What to generate code for.
    #[arg(long, default_value = "cpu")]
    target: super::build::TargetName,
    /// Prints one JSON object with the text in it.
    #[arg(long)]
    json: bool,
}

/// Runs `emit`.
///
/// # Errors
/// Mistakes of the model, files that cannot be written, failures of code generation.
pub fn run(args: &EmitArgs) -> Result<(), Failure> {
    let request = args.model.read_for(args.target)?;
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
            Compiled::Placed(placed) => stage_of(args, &placed)?,
        };
    }
    Ok(text)
}

/// The text of a stage that begins with a plan; empty when it went to files.
fn stage_of(args: &EmitArgs, placed: &Placed) -> Result<String, Failure> {
    let failed =
        |e: gigac_codegen::CodegenError| Failure::Machine(format!("code generation failed: {e}"));
    if args.stage == Stage::Plan {
        return Ok(format!("{}\n", placed.plan));
    }
    let target = &args.target.cpu()?;
    let text = |kernels: &[gigac_ir::kernel::Kernel]| match args.stage {
        Stage::Kernels => Ok(kernels.iter().map(|k| format!("{k}\n")).collect()),
        Stage::Llvm => x86::emit_llvm(kernels, target).map_err(failed),
        _ => x86::emit_asm(kernels, target).map_err(failed),
    };
    let Some(folder) = &args.output else { return text(&placed.kernels) };
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
    Ok(String::new())
}
