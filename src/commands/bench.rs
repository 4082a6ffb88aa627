//! `gigac bench`: the median time of a training step on synthetic data.

use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use gigac_runtime::console::say;
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
    /// What to generate code for: this CPU, or fewer instructions than it has.
    #[arg(long, value_enum, default_value = "cpu")]
    target: TargetName,
    /// Number of timed steps.
    #[arg(long, default_value_t = 10)]
    steps: u32,
    /// Number of threads (default: all cores).
    #[arg(long)]
    threads: Option<u32>,
    /// Also times every kernel, in as many steps more.
    #[arg(long)]
    profile: bool,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `bench`: always compiles, so that `compile_s` is the whole compiler's time.
///
/// # Errors
/// Mistakes of the model and failures of the machine.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    // Whatever the code is for, it runs in this machine's memory.
    let request = args.model.read_for(TargetName::Cpu)?;
    let figures = measure(&request, args.target, args.steps, args.threads, args.profile)?;
    if args.json {
        return print(&format!("{}\n", Value::Object(figures)));
    }
    print(&text(&figures))
}

/// Builds a model and times its steps in a process of their own.
///
/// # Errors
/// See [`run`].
pub fn measure(
    request: &Request,
    target: TargetName,
    steps: u32,
    threads: Option<u32>,
    profile: bool,
) -> Result<Map<String, Value>, Failure> {
    let started = Instant::now();
    let target = target.cpu()?;
    let binary = std::env::temp_dir().join(format!("gigac-bench-{}", std::process::id()));
    build::build(request, &target, &binary)?;
    let compile_s = started.elapsed().as_secs_f64();
    let mut command = Command::new(&binary);
    command.arg("--bench").arg(steps.to_string()).stdout(Stdio::piped());
    if let Some(threads) = threads {
        command.arg("--threads").arg(threads.to_string());
    }
    if profile {
        command.arg("--profile");
    }
    let output = command.output();
    let removed = std::fs::remove_file(&binary);
    let output = output.map_err(|e| Failure::io("run", &binary, &e))?;
    removed.map_err(|e| Failure::io("remove", &binary, &e))?;
    if !output.status.success() {
        say(String::from_utf8_lossy(&output.stderr).trim_end());
        return Err(Failure::Child(output.status.code().map_or(3, |c| c as u8)));
    }
    let mut figures: Map<String, Value> = serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::Machine(format!("the run printed no figures: {e}")))?;
    figures.insert("compile_s".to_owned(), compile_s.into());
    Ok(figures)
}

/// The figures, one a line, and the profile as a table.
fn text(figures: &Map<String, Value>) -> String {
    let single = figures.iter().filter(|(_, value)| !value.is_array());
    let mut text: String = single.map(|(name, value)| format!("{name:<16} {value}\n")).collect();
    if let Some(rows) = figures.get("profile").and_then(Value::as_array) {
        text += &format!(
            "\n{:>9} {:>6} {:>6} {:>8} {:>7}  kernel: what it computes\n",
            "ms", "share", "calls", "GFLOP/s", "GB/s"
        );
        rows.iter().for_each(|row| text += &table_row(row));
    }
    text
}

/// One kernel of a profile.
fn table_row(row: &Value) -> String {
    let number = |name: &str| row[name].as_f64().unwrap_or(0.0);
    let words = |name: &str| row[name].as_str().unwrap_or("").to_owned();
    format!(
        "{:>9.3} {:>5.1}% {:>6} {:>8.1} {:>7.1}  {}: {}\n",
        1e3 * number("seconds"),
        100.0 * number("share"),
        row["calls"],
        number("gflops"),
        number("gbytes_per_s"),
        words("kernel"),
        words("origin"),
    )
}
