//! `gigac ablate`: what each optimisation is worth.
//!
//! The first row has every optional pass off; each row after it has one more on, in the order of
//! the passes.

use clap::Args;
use gigac_cost::target::{Device, cpu};
use gigac_passes::driver::Alone;
use gigac_passes::place::launches;
use serde_json::{Value, json};

use super::build::TargetName;
use super::{ModelArgs, bench, print};
use crate::compile::{self, Request};
use crate::failure::Failure;
use crate::machine;
use crate::report::{Report, mib};

/// Flags of `ablate`.
#[derive(Args, Debug)]
pub struct AblateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Builds and times every row as well.
    #[arg(long)]
    measure: bool,
    /// Number of timed steps of each row.
    #[arg(long, default_value_t = 10, requires = "measure")]
    steps: u32,
    /// Number of threads (default: all cores).
    #[arg(long)]
    threads: Option<u32>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// One row of the table.
struct Row {
    /// The pass that this row has and the one before has not.
    pass: Option<&'static str>,
    arena_bytes: u64,
    live_bytes: u64,
    kernels: usize,
    launches: u64,
    /// Seconds of a step on this CPU, simulated.
    simulated: f64,
    /// Median seconds of a step.
    measured: Option<f64>,
}

/// Runs `ablate`.
///
/// # Errors
/// Mistakes of the model, and failures of code generation and of the machine.
pub fn run(args: &AblateArgs) -> Result<(), Failure> {
    let request = args.model.read()?;
    let device = cpu(&machine::facts(args.threads));
    let (bare, passes) = request.options.bare();
    let mut rows = vec![row(args, &device, request.with(bare.clone()), None)?];
    let mut options = bare;
    for pass in passes {
        options.enable(pass);
        rows.push(row(args, &device, request.with(options.clone()), Some(pass.name))?);
    }
    if args.json {
        let rows: Vec<Value> = rows.iter().map(object).collect();
        return print(&format!("{}\n", json!({ "rows": rows })));
    }
    print(&table(&rows))
}

fn row(
    args: &AblateArgs,
    device: &Device,
    request: Request,
    pass: Option<&'static str>,
) -> Result<Row, Failure> {
    let phases = compile::phases(&request, &mut Alone)?;
    let phase = phases.first().expect("a model has a phase");
    let placed = &phase.programs.step;
    let measured = match args.measure {
        true => {
            bench::measure(&request, TargetName::Cpu, args.steps, args.threads, false)?["median_step_s"].as_f64()
        }
        false => None,
    };
    Ok(Row {
        pass,
        arena_bytes: placed.plan.arena_bytes,
        live_bytes: placed.plan.live_bytes,
        kernels: placed.kernels.len(),
        launches: launches(&placed.plan.items),
        simulated: Report::new(phase, device).step.seconds,
        measured,
    })
}

fn object(row: &Row) -> Value {
    json!({
        "pass": row.pass,
        "arena_bytes": row.arena_bytes,
        "live_bytes": row.live_bytes,
        "kernels": row.kernels,
        "launches": row.launches,
        "simulated_step_s": row.simulated,
        "measured_step_s": row.measured,
    })
}

fn table(rows: &[Row]) -> String {
    let measured = rows.iter().any(|r| r.measured.is_some());
    let head = if measured { "       measured" } else { "" };
    let mut text = format!(
        "{:<16} {:>14} {:>8} {:>9} {:>14}{head}\n",
        "", "arena", "kernels", "launches", "simulated"
    );
    for row in rows {
        let name = row.pass.map_or("none".to_owned(), |pass| format!("+ {pass}"));
        let arena = format!("{:.2} MiB", mib(row.arena_bytes));
        let time = |seconds: f64| format!(" {:>11.1} ms", seconds * 1e3);
        let times = time(row.simulated) + &row.measured.map_or(String::new(), time);
        text += &format!("{name:<16} {arena:>14} {:>8} {:>9}{times}\n", row.kernels, row.launches);
    }
    text
}
