//! The `gigac` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gigac::commands::{ablate, bench, bisect, build, check, emit, plan, train};
use gigac::emulate;
use gigac_runtime::console::say;
use gigac_runtime::train::signals;

/// Compiles transformers, described in a small language, to training executables.
#[derive(Parser)]
#[command(name = "gigac", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a model; prints its parameters and the operations for each token.
    Check(check::CheckArgs),
    /// Prints any stage of the compiler.
    Emit(emit::EmitArgs),
    /// Prints the memory of a training step.
    Plan(plan::PlanArgs),
    /// Prints what each optimisation is worth, one row for each pass switched on.
    Ablate(ablate::AblateArgs),
    /// Finds the first pass after which results differ.
    Bisect(bisect::BisectArgs),
    /// Builds one self-contained training executable.
    Build(build::BuildArgs),
    /// Builds and trains.
    Train(train::TrainArgs),
    /// Times training steps on synthetic data.
    Bench(bench::BenchArgs),
    /// Runs a PTX kernel on the CPU and reports what is wrong with it.
    Emulate(emulate::EmulateArgs),
}

fn main() -> ExitCode {
    signals::files_fail_when_too_large();
    let result = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Emit(args) => emit::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Bisect(args) => bisect::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Emulate(args) => return emulate::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, gigac::failure::Failure::Child(_)) {
                say(failure.to_string().trim_end());
            }
            failure.code()
        }
    }
}
