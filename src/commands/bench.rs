//! `gigac bench`: the median time of a training step on synthetic data.

use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::{Map, Value};

use super::build::{self, TargetName};
use super::{ModelArgs, print};
use crate::compile::Request;
use crate::failure::Failure;

/// Flags of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Number of timed steps.
    #[arg(long, default_value_t = 10)]
    steps: u32,
    /// Number of threads (default: all cores).
    #[arg(long)]
    threads: Option<u32>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `bench`: always compiles, so that `compile_s` is the whole compiler's time.
///
/// # Errors
/// Mistakes of the model and failures of the machine.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let figures = measure(&args.model.read_for(TargetName::Cpu)?, args.steps, args.threads)?;
    if args.json {
        return print(&format!("{}\n", Value::Object(figures)));
    }
    let lines = figures.iter().map(|(name, value)| format!("{name:<16} {value}\n"));
    print(&lines.collect::<String>())
}

/// Builds a model and times its steps in a process of their own.
///
/// # Errors
/// See [`run`].
pub fn measure(
    request: &Request,
    steps: u32,
    threads: Option<u32>,
) -> Result<Map<String, Value>, Failure> {
    let started = Instant::now();
    let target = TargetName::Cpu.cpu()?;
    let binary = std::env::temp_dir().join(format!("gigac-bench-{}", std::process::id()));
    build::build(request, &target, &binary)?;
    let compile_s = started.elapsed().as_secs_f64();
    let mut command = Command::new(&binary);
    command.arg("--bench").arg(steps.to_string()).stdout(Stdio::piped());
    if let Some(threads) = threads {
        command.arg("--threads").arg(threads.to_string());
    }
    let output = command.output();
    let removed = std::fs::remove_file(&binary);
    let output = output.map_err(|e| Failure::io("run", &binary, &e))?;
    removed.map_err(|e| Failure::io("remove", &binary, &e))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(Failure::Child(output.status.code().map_or(3, |c| c as u8)));
    }
    let mut figures: Map<String, Value> = serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::Machine(format!("the run printed no figures: {e}")))?;
    figures.insert("compile_s".to_owned(), compile_s.into());
    Ok(figures)
}
