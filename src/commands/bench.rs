//! `gigac bench`: the median time of a training step on synthetic data.

use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::Value;

use super::build::{self, TargetName};
use super::{ModelArgs, print};
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
    let request = args.model.read()?;
    let started = Instant::now();
    let target = TargetName::Cpu.cpu()?;
    let binary = std::env::temp_dir().join(format!("gigac-bench-{}", std::process::id()));
    build::build(&request, &target, &binary)?;
    let compile_s = started.elapsed().as_secs_f64();
    let mut command = Command::new(&binary);
    command.arg("--bench").arg(args.steps.to_string()).stdout(Stdio::piped());
    if let Some(threads) = args.threads {
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
    let mut figures: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::Machine(format!("the run printed no figures: {e}")))?;
    figures["compile_s"] = compile_s.into();
    if args.json {
        return print(&format!("{figures}\n"));
    }
    let Value::Object(figures) = figures else {
        return Err(Failure::Machine("the run printed no figures".into()));
    };
    let lines = figures.iter().map(|(name, value)| format!("{name:<16} {value}\n"));
    print(&lines.collect::<String>())
}
